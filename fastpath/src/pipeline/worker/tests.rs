//! Workers whose ports have bandwidth limits.

use super::queues::Queues;
use crate::pipeline::{Egress, Nanos, Waker, WorkerCounters, handover_mesh};
use crate::port::{Bandwidth, BufferFrame, Burst, DropReason, Frame, Limiter, PortId, PortLimits, PortQueue};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SECOND: u64 = 1_000_000_000;
const PORT: PortId = PortId(1);
const SIZE: usize = 1250;
/// 1,000 frames a second.
const RATE: u64 = SIZE as u64 * 8 * 1000;

/// A peer that always has frames, and counts what it gives and gets.
#[derive(Default)]
struct Peer {
    given: AtomicU64,
    got: AtomicU64,
}

struct PeerQueue(Arc<Peer>);

impl PortQueue<BufferFrame> for PeerQueue {
    fn rx_burst(&mut self, into: &mut Burst<BufferFrame>) -> usize {
        let count = into.remaining_capacity();
        (0..count).for_each(|_| into.push(BufferFrame::new(&[0; SIZE])));
        self.0.given.fetch_add(count as u64, Ordering::Relaxed);
        count
    }

    fn tx_burst(&mut self, frames: &mut Burst<BufferFrame>) -> usize {
        let count = frames.len();
        frames.clear();
        self.0.got.fetch_add(count as u64, Ordering::Relaxed);
        count
    }

    fn arm(&mut self) -> bool {
        true
    }
}

fn limiter() -> Option<Limiter> {
    let bits_per_second = NonZeroU64::new(RATE)?;
    Some(Limiter::new(Bandwidth { bits_per_second, burst_bits: None }))
}

fn link(limits: PortLimits) -> (Queues<BufferFrame>, Arc<Peer>, Arc<WorkerCounters>) {
    let counters = Arc::new(WorkerCounters::default());
    let handover = handover_mesh(&[Arc::new(|| {}) as Waker], 64).pop().unwrap();
    let mut queues = Queues::new(handover, rtrb::RingBuffer::new(8).0, Arc::clone(&counters));
    let peer = Arc::new(Peer::default());
    let queue = Box::new(PeerQueue(Arc::clone(&peer)));
    queues.attach(PORT, queue, Some(Arc::new(limits)));
    (queues, peer, counters)
}

#[test]
fn a_peer_that_sends_too_much_is_not_polled_until_its_turn_and_loses_nothing() {
    let (mut queues, peer, counters) = link(PortLimits { egress: limiter(), ingress: None });
    let mut received = 0;
    for now in (40 * SECOND..42 * SECOND).step_by(10_000) {
        let mut burst = Burst::new();
        queues.receive(0, &mut burst, Nanos(now));
        received += burst.len() as u64;
    }
    assert!((2_000 - 20..=2_000 + 40).contains(&received), "{received} frames in two seconds");
    let given = peer.given.load(Ordering::Relaxed);
    assert!(given - received < 64, "{given} were taken, {received} let in");
    assert!(DropReason::ALL.iter().all(|&reason| counters.drops(reason) == 0));
    assert!(!queues.arm(), "what is held is waited for awake");
}

#[test]
fn what_a_peer_is_sent_too_much_waits_and_beyond_a_bound_is_dropped_and_counted() {
    let (mut queues, peer, counters) = link(PortLimits { egress: None, ingress: limiter() });
    let mut sent = 0;
    for now in (40 * SECOND..41 * SECOND).step_by(500_000) {
        // Twice what fits.
        queues.send(PORT, BufferFrame::new(&[0; SIZE]));
        queues.flush(false, Nanos(now));
        sent += 1;
    }
    let got = peer.got.load(Ordering::Relaxed);
    assert!((1_000 - 20..=1_000 + 60).contains(&got), "{got} frames in a second");
    let dropped = counters.drops(DropReason::Bandwidth);
    let waiting = sent - got - dropped;
    assert!(waiting * SIZE as u64 <= 256 * 1024, "{waiting} frames wait");
    assert!(!queues.arm());
    drop(queues.detach(PORT));
    assert_eq!(peer.got.load(Ordering::Relaxed) + dropped, sent, "what waited is sent at the end");
}

#[test]
fn a_port_within_its_limits_is_not_delayed() {
    let (mut queues, peer, _) = link(PortLimits { egress: limiter(), ingress: limiter() });
    for now in (40 * SECOND..41 * SECOND).step_by(2_000_000) {
        queues.send(PORT, BufferFrame::new(&[0; SIZE]));
        queues.flush(false, Nanos(now));
    }
    assert_eq!(peer.got.load(Ordering::Relaxed), 500);
    assert!(queues.arm());
    assert_eq!(BufferFrame::new(&[0; SIZE]).total_len(), SIZE);
}

#[test]
fn a_limit_that_changes_or_ends_loses_nothing_of_what_waits() {
    let (mut queues, peer, counters) = link(PortLimits { egress: limiter(), ingress: limiter() });
    let (mut sent, mut received) = (0, 0);
    let mut work = |queues: &mut Queues<BufferFrame>, from: u64| {
        let before = (peer.got.load(Ordering::Relaxed), received);
        for now in (from..from + SECOND).step_by(500_000) {
            let mut burst = Burst::new();
            queues.receive(0, &mut burst, Nanos(now));
            received += burst.len() as u64;
            queues.send(PORT, BufferFrame::new(&[0; SIZE]));
            queues.flush(false, Nanos(now));
            sent += 1;
        }
        (peer.got.load(Ordering::Relaxed) - before.0, received - before.1)
    };
    let about_a_thousand = 980..=1_060;
    let (got, let_in) = work(&mut queues, 40 * SECOND);
    assert!(about_a_thousand.contains(&got) && about_a_thousand.contains(&let_in), "{got} {let_in}");
    queues.limit(PORT, None);
    let (got, let_in) = work(&mut queues, 41 * SECOND);
    assert!(got >= 2_000 && let_in > 50_000, "{got} {let_in}");
    let limits = PortLimits { egress: limiter(), ingress: limiter() };
    queues.limit(PORT, Some(&Arc::new(limits)));
    let (got, let_in) = work(&mut queues, 42 * SECOND);
    assert!(about_a_thousand.contains(&got) && about_a_thousand.contains(&let_in), "{got} {let_in}");
    queues.limit(PORT, None);
    work(&mut queues, 43 * SECOND);
    let dropped = counters.drops(DropReason::Bandwidth);
    assert_eq!(peer.got.load(Ordering::Relaxed) + dropped, sent);
    assert_eq!(peer.given.load(Ordering::Relaxed), received);
    assert!(queues.arm());
}
