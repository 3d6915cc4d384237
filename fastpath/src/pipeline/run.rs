//! The order of the stages for a burst.

use super::classify::{Step, classify};
use super::rate::RateLimit;
use super::{Egress, Nanos, WorkerCounter, WorkerCounters};
use crate::conntrack::{EntryRef, FlowTable, KeyWords, Tracker};
use crate::port::{BURST, Burst, DropReason, Frame, PortId};
use crate::sync::atomics::Arc;
use crate::tables::{Address, PortInfo, TableSet};
use crate::wire::parse::{Addresses, Parsed};
use arrayvec::ArrayVec;

/// ICMP errors a second and worker, and how many at once: Linux's defaults are `icmp_msgs_per_sec` 1000 and
/// `icmp_msgs_burst` 50 for a whole host.
const ICMP_PER_SECOND: u64 = 1000;
const ICMP_BURST: u64 = 100;

/// How many frames ahead the first line of a packet is asked for.
const PREFETCH_AHEAD: usize = 4;

/// One worker's packet path: its hand in the flow table and what else it keeps between packets.
#[derive(Debug)]
pub struct Pipeline {
    pub(super) tracker: Tracker,
    pub(super) icmp_limit: RateLimit,
    pub(super) random: u64,
    pub(super) counters: Arc<WorkerCounters>,
}

/// What is the same for all frames of a burst.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) tables: &'a TableSet,
    pub(super) arrival: PortId,
    pub(super) port: &'a PortInfo,
    pub(super) now: Nanos,
}

/// A frame's way through the stages.
struct Slot {
    step: Step,
    parsed: Option<Parsed>,
    hash: u64,
    guess: Option<EntryRef>,
}

impl Pipeline {
    /// For one worker. `seed` is random and its own.
    pub fn new(flows: Arc<FlowTable>, counters: Arc<WorkerCounters>, seed: u64) -> Self {
        Pipeline {
            tracker: Tracker::new(flows),
            icmp_limit: RateLimit::new(ICMP_PER_SECOND, ICMP_BURST),
            random: seed | 1,
            counters,
        }
    }

    /// Takes every frame out of `burst`, which arrived by `arrival`, and sends, answers or drops it.
    pub fn run<F: Frame>(
        &mut self,
        tables: &TableSet,
        arrival: PortId,
        burst: &mut Burst<F>,
        now: Nanos,
        egress: &mut impl Egress<F>,
    ) {
        let Some(port) = tables.ports.get(arrival) else {
            burst.drain(..).for_each(|frame| egress.drop_frame(DropReason::PortGone, frame));
            return;
        };
        let context = Context { tables, arrival, port, now };
        self.counters.add(WorkerCounter::Frames, burst.len() as u64);
        let mut slots = self.classify_burst(&context, burst);
        self.look_up_burst(&mut slots);
        let mut established = 0;
        for (frame, slot) in burst.drain(..).zip(&slots) {
            established += u64::from(self.step(&context, frame, slot, egress));
        }
        self.counters.add(WorkerCounter::Established, established);
    }

    /// Work beside the packets: expiry of flows, recycling of their memory. At the end of every poll.
    pub fn maintain(&mut self, now: Nanos) {
        self.tracker.maintain(now.0);
    }

    /// The flows as this worker sees them.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    fn classify_burst<F: Frame>(&self, context: &Context<'_>, burst: &Burst<F>) -> ArrayVec<Slot, BURST> {
        let flows = self.tracker.table();
        let mut slots = ArrayVec::new();
        burst.iter().take(PREFETCH_AHEAD).for_each(Frame::prefetch);
        for (index, frame) in burst.iter().enumerate() {
            if let Some(ahead) = burst.get(index + PREFETCH_AHEAD) {
                ahead.prefetch();
            }
            let (step, parsed) = classify(frame, context.port, &context.tables.gateway);
            let mut hash = 0;
            if let (Step::Flow, Some(parsed)) = (step, &parsed) {
                hash = key_words(parsed).hash(flows.secret());
                flows.prefetch(hash);
            }
            slots.push(Slot { step, parsed, hash, guess: None });
        }
        slots
    }

    fn look_up_burst(&self, slots: &mut ArrayVec<Slot, BURST>) {
        let flows = self.tracker.table();
        for slot in slots {
            if let (Step::Flow, Some(parsed)) = (slot.step, &slot.parsed) {
                slot.guess = flows.guess(slot.hash);
                if let Some(guess) = slot.guess {
                    flows.entry(guess).prefetch(matches!(parsed.addresses, Addresses::V6 { .. }));
                }
            }
        }
    }

    /// One frame, in its turn. True when it was of a known flow and on its way at once.
    #[inline(always)]
    fn step<F: Frame>(
        &mut self,
        context: &Context<'_>,
        frame: F,
        slot: &Slot,
        egress: &mut impl Egress<F>,
    ) -> bool {
        match (slot.step, &slot.parsed) {
            (Step::Flow, Some(parsed)) => self.flow(context, frame, parsed, slot, egress),
            (step, parsed) => {
                self.exception(context, frame, step, parsed.as_ref(), egress);
                false
            }
        }
    }

    #[inline(always)]
    fn flow<F: Frame>(
        &mut self,
        context: &Context<'_>,
        mut frame: F,
        parsed: &Parsed,
        slot: &Slot,
        egress: &mut impl Egress<F>,
    ) -> bool {
        if let Some(guess) = slot.guess {
            let entry = self.tracker.entry(guess);
            if entry.is(&key_words(parsed)) && !parsed.first_fragment {
                if let Some(port) = self.established(context, &mut frame, parsed, guess) {
                    egress.send(port, frame);
                    return true;
                }
            }
        }
        self.counters.add(WorkerCounter::Resolved, 1);
        self.resolve(context, frame, parsed, slot.hash, egress);
        false
    }

    #[cold]
    fn exception<F: Frame>(
        &mut self,
        context: &Context<'_>,
        frame: F,
        step: Step,
        parsed: Option<&Parsed>,
        egress: &mut impl Egress<F>,
    ) {
        match (step, parsed) {
            (Step::Drop(reason), _) => egress.drop_frame(reason, frame),
            (Step::Arp, _) => self.arp(context, frame, egress),
            (Step::Ndisc, Some(parsed)) => self.ndisc(context, frame, parsed, egress),
            (Step::Fragment, Some(parsed)) => self.later_fragment(context, frame, parsed, egress),
            (Step::IcmpError, Some(parsed)) => self.icmp_error(context, frame, parsed, egress),
            (_, _) => egress.drop_frame(DropReason::BadHeader, frame),
        }
    }

    /// The next number of this worker's own sequence (xorshift64*, Vigna 2016): for ports, not for secrets.
    pub(super) fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// The flow table's key of a packet.
#[inline(always)]
pub(super) fn key_words(parsed: &Parsed) -> KeyWords {
    let protocol = parsed.protocol.0;
    match parsed.addresses {
        Addresses::V4 { source, destination } => KeyWords::V4 {
            addresses: u64::from(source.to_bits()) << 32 | u64::from(destination.to_bits()),
            tuple: KeyWords::tuple(parsed.source_port, parsed.destination_port, protocol, 0),
        },
        Addresses::V6 { source, destination } => {
            let halves = |bits: u128| [(bits >> 64) as u64, bits as u64];
            KeyWords::V6 {
                addresses: [halves(source.to_bits()), halves(destination.to_bits())],
                tuple: KeyWords::tuple(parsed.source_port, parsed.destination_port, protocol, 2),
            }
        }
    }
}

/// Source and destination in one shape.
pub(super) fn addresses(parsed: &Parsed) -> (Address, Address) {
    match parsed.addresses {
        Addresses::V4 { source, destination } => (source.into(), destination.into()),
        Addresses::V6 { source, destination } => (source.into(), destination.into()),
    }
}
