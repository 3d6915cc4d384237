//! Queues whose port has a bandwidth limit.
//!
//! What the peer sends beyond its limit stays in its own queue: it is not polled until its turn, so the peer's stack
//! notices by itself, and nothing is lost. What it is sent beyond its limit waits here, up to a bound.

use crate::port::{BURST, Burst, Frame, PortLimits, PortQueue, bytes_on_link};
use crate::sync::atomics::Arc;
use std::collections::VecDeque;

/// Frames that wait to be sent to a peer, at most.
const MOST_WAITING: usize = 4_096;

/// What a limited queue has waiting.
pub(super) struct Shaping<F> {
    limits: Arc<PortLimits>,
    /// Received, not yet let in: less than a burst.
    held: VecDeque<F>,
    /// To be sent.
    waiting: VecDeque<F>,
    waiting_bytes: u64,
}

impl<F: Frame> Shaping<F> {
    /// All memory is taken here.
    pub(super) fn new(limits: Arc<PortLimits>) -> Self {
        let mut shaping = Shaping {
            held: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            limits: Arc::default(),
        };
        shaping.replace(limits);
        shaping
    }

    /// Goes on with other limits. What waits keeps its place.
    pub(super) fn replace(&mut self, limits: Arc<PortLimits>) {
        if limits.ingress.is_some() {
            self.waiting.reserve(MOST_WAITING - self.waiting.len());
        }
        if limits.egress.is_some() {
            self.held.reserve(BURST - self.held.len());
        }
        self.limits = limits;
    }

    /// Whether frames wait for their turn.
    pub(super) fn is_busy(&self) -> bool {
        !self.held.is_empty() || !self.waiting.is_empty()
    }

    /// Receives what may come in now.
    pub(super) fn receive(&mut self, queue: &mut dyn PortQueue<F>, into: &mut Burst<F>, now: u64) {
        let Some(limiter) = &self.limits.egress else {
            into.extend(self.held.drain(..));
            if into.is_empty() {
                queue.rx_burst(into);
            }
            return;
        };
        if !limiter.is_open(now) {
            return;
        }
        if self.held.is_empty() {
            let mut burst = Burst::new();
            queue.rx_burst(&mut burst);
            self.held.extend(burst);
        }
        while limiter.is_open(now) && !into.is_full() {
            let Some(frame) = self.held.pop_front() else { break };
            limiter.count(now, bytes_on_link(&frame));
            into.push(frame);
        }
    }

    /// Puts frames in the row of those that wait; gives the number of those for which there was no room, which are gone.
    pub(super) fn queue_up(&mut self, frames: &mut Burst<F>) -> u64 {
        let most = self.limits.ingress.as_ref().map_or(u64::MAX, |limiter| limiter.most_waiting());
        let mut lost = 0;
        for frame in frames.drain(..) {
            let bytes = bytes_on_link(&frame);
            if self.waiting_bytes + bytes > most || self.waiting.len() == MOST_WAITING {
                lost += 1;
                continue;
            }
            self.waiting_bytes += bytes;
            self.waiting.push_back(frame);
        }
        lost
    }

    /// Moves frames whose turn it is into `into`. With `all`, those whose turn it is not as well.
    pub(super) fn take_due(&mut self, into: &mut Burst<F>, now: u64, all: bool) {
        while !into.is_full()
            && (all || self.limits.ingress.as_ref().is_none_or(|limiter| limiter.is_open(now)))
        {
            let Some(frame) = self.waiting.pop_front() else { break };
            let bytes = bytes_on_link(&frame);
            if let Some(limiter) = &self.limits.ingress {
                limiter.count(now, bytes);
            }
            self.waiting_bytes -= bytes;
            into.push(frame);
        }
    }

    /// Whether what is sent to the peer has to stand in the row.
    pub(super) fn has_them_wait(&self) -> bool {
        self.limits.ingress.is_some() || !self.waiting.is_empty()
    }
}
