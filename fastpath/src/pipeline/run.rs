//! The order of the stages for a burst.

use super::brief::Brief;
use super::classify::{Expected, Step, classify, common};
use super::forward::established;
use super::rate::RateLimit;
use super::sort::is_sorted;
use super::warm::warm;
use super::{Egress, Nanos, WorkerCounter, WorkerCounters};
use crate::conntrack::{AffinityTable, EntryRef, FlowTable, FlowView, KeyWords, Tracker};
use crate::port::{BURST, Burst, DropReason, Frame, PortId};
use crate::sync::atomics::Arc;
use crate::tables::{Address, Adjacency, PortInfo, TableSet};
use crate::wire::parse::{Addresses, Class, Common, L4Kind, Parsed, parse};

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
    pub(super) affinity: Arc<AffinityTable>,
    pub(super) icmp_limit: RateLimit,
    pub(super) random: u64,
    /// This worker's place in the ranges of source ports.
    pub(super) next_port: u32,
    pub(super) counters: Arc<WorkerCounters>,
    /// Packets until one is looked at that may be of a connection for a shortcut.
    pub(super) until_offer: u32,
}

/// What is the same for all frames of a burst.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) tables: &'a TableSet,
    pub(super) arrival: PortId,
    pub(super) port: &'a PortInfo,
    pub(super) now: Nanos,
    pub(super) adjacencies: &'a [Option<Adjacency>],
}

/// A frame's way through the stages.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) hash: u64,
    /// The key, all of it with IPv4; with IPv6 the addresses are in the packet.
    pub(super) addresses: u64,
    pub(super) tuple: u64,
    pub(super) brief: Brief,
    pub(super) guess: Option<EntryRef>,
    step: Step,
}

impl Slot {
    const EMPTY: Slot = Slot {
        hash: 0,
        addresses: 0,
        tuple: 0,
        brief: Brief::NONE,
        guess: None,
        step: Step::Drop(DropReason::BadHeader),
    };

    /// Notes a packet whose flow is to be looked up; the index bucket is on its way.
    #[inline(always)]
    fn fill(&mut self, words: &KeyWords, brief: Brief, flows: &FlowView<'_>) {
        self.hash = words.hash(flows.secret());
        self.tuple = words.tuple_word();
        if let KeyWords::V4 { addresses, .. } = words {
            self.addresses = *addresses;
        }
        self.brief = brief;
        flows.prefetch(self.hash);
    }

    /// Whether this is a packet of a flow that is not in the table, as far as is known by now.
    pub(super) fn is_new(&self) -> bool {
        self.guess.is_none() && matches!(self.step, Step::Flow)
    }
}

/// The slots of a burst, on the stack.
type Slots = [Slot; BURST];

impl Pipeline {
    /// For one worker. `seed` is random and its own.
    pub fn new(
        flows: Arc<FlowTable>,
        affinity: Arc<AffinityTable>,
        counters: Arc<WorkerCounters>,
        seed: u64,
    ) -> Self {
        Pipeline {
            tracker: Tracker::new(flows),
            affinity,
            icmp_limit: RateLimit::new(ICMP_PER_SECOND, ICMP_BURST),
            random: seed | 1,
            next_port: (seed >> 32) as u32,
            counters,
            until_offer: 0,
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
        let context = Context { tables, arrival, port, now, adjacencies: tables.routes.adjacencies() };
        self.counters.add(WorkerCounter::Frames, burst.len() as u64);
        if is_sorted(&context) {
            self.sort(&context, burst, egress);
        }
        self.route(&context, burst, egress);
    }

    /// Goes on with frames that [waited](Egress::park), all of which arrived by one port. As [`run`](Pipeline::run).
    pub fn run_again<F: Frame>(
        &mut self,
        tables: &TableSet,
        arrival: PortId,
        burst: &mut Burst<F>,
        now: Nanos,
        egress: &mut impl Egress<F>,
    ) {
        match tables.ports.get(arrival) {
            Some(port) => {
                let adjacencies = tables.routes.adjacencies();
                self.route(&Context { tables, arrival, port, now, adjacencies }, burst, egress);
            }
            None => burst.drain(..).for_each(|frame| egress.drop_frame(DropReason::PortGone, frame)),
        }
    }

    /// Everything but [`sort`](Pipeline::sort).
    #[inline(always)]
    fn route<F: Frame>(&mut self, context: &Context<'_>, burst: &mut Burst<F>, egress: &mut impl Egress<F>) {
        let mut slots: Slots = [Slot::EMPTY; BURST];
        let table = Arc::clone(self.tracker.table());
        let flows = table.view();
        classify_burst(context, &flows, burst, &mut slots);
        let new = look_up_burst(&flows, &mut slots[..burst.len()]);
        if new > 1 {
            self.tracker.prepare(new as usize);
            warm(context, &flows, burst, &slots);
        }
        let mut established = 0;
        let shortcuts = context.tables.shortcuts.ports.contains(context.arrival);
        for (mut frame, slot) in burst.drain(..).zip(&slots) {
            match known(context, &flows, &mut frame, slot) {
                Some(way) => {
                    established += 1;
                    if shortcuts && matches!(slot.brief.kind, L4Kind::Tcp | L4Kind::Udp) {
                        self.offer_shortcut(context, &flows, slot, way, egress);
                    }
                    match way.tunnel {
                        None => egress.send(way.port, frame),
                        Some(_) => self.send_by_tunnel(context.tables, way, slot.hash, frame, egress),
                    }
                }
                None => self.exception(context, frame, slot, egress),
            }
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

    /// Everything but a packet of a known flow with a valid verdict. Parsed anew: this is rare, and keeping all
    /// that the parser finds for every packet is not free.
    #[inline(never)]
    fn exception<F: Frame>(
        &mut self,
        context: &Context<'_>,
        frame: F,
        slot: &Slot,
        egress: &mut impl Egress<F>,
    ) {
        let parsed = match (slot.step, parse(frame.head(), frame.total_len())) {
            (Step::Drop(reason), _) => return egress.drop_frame(reason, frame),
            (Step::Arp, _) => return self.arp(context, frame, egress),
            (_, Ok(Class::Ip(parsed) | Class::Ndisc(parsed))) => parsed,
            (_, Ok(Class::Arp { .. }) | Err(_)) => return egress.drop_frame(DropReason::BadHeader, frame),
        };
        match slot.step {
            Step::Ndisc => self.ndisc(context, frame, &parsed, egress),
            Step::Fragment => self.later_fragment(context, frame, &parsed, egress),
            Step::IcmpError => self.icmp_error(context, frame, &parsed, egress),
            _ => {
                self.counters.add(WorkerCounter::Resolved, 1);
                self.resolve(context, frame, &parsed, slot.hash, egress);
            }
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

/// What every frame is; the index bucket of those that belong to flows is on its way.
#[inline(always)]
fn classify_burst<F: Frame>(
    context: &Context<'_>,
    flows: &FlowView<'_>,
    burst: &Burst<F>,
    slots: &mut Slots,
) {
    let expected = Expected::of(context.port);
    burst.iter().take(PREFETCH_AHEAD).for_each(Frame::prefetch);
    for (index, (frame, slot)) in burst.iter().zip(slots).enumerate() {
        if let Some(ahead) = burst.get(index + PREFETCH_AHEAD) {
            ahead.prefetch();
        }
        if let Some(packet) = common(frame, &expected)
            && let Some(words) = common_words(frame.head(), &packet)
        {
            slot.fill(&words, Brief::of_common(&packet), flows);
            slot.step = Step::Flow;
            continue;
        }
        slot.step = classify(frame, context.port, |parsed| {
            slot.fill(&key_words(parsed), Brief::of(parsed), flows);
        });
    }
}

/// The entries that the packets most likely belong to; their lines are on their way. Gives how many have none.
#[inline(always)]
fn look_up_burst(flows: &FlowView<'_>, slots: &mut [Slot]) -> u32 {
    let mut new = 0;
    for slot in slots {
        if matches!(slot.step, Step::Flow) {
            slot.guess = flows.guess(slot.hash);
            match slot.guess {
                Some(guess) => flows.entry(guess).prefetch(slot.brief.v6),
                None => new += 1,
            }
        }
    }
    new
}

/// Forwards a packet of a known flow with a valid verdict; gives the neighbour to send it to.
#[inline(always)]
fn known<'a, F: Frame>(
    context: &Context<'a>,
    flows: &FlowView<'_>,
    frame: &mut F,
    slot: &Slot,
) -> Option<&'a Adjacency> {
    let guess = slot.guess?;
    let entry = flows.entry(guess);
    let words = if slot.brief.v6 {
        KeyWords::V6 { addresses: addresses_v6(frame.head())?, tuple: slot.tuple }
    } else {
        KeyWords::V4 { addresses: slot.addresses, tuple: slot.tuple }
    };
    if !entry.is(&words) {
        return None;
    }
    established(context, flows, frame, &slot.brief, &entry, guess)
}

/// Source and destination of an untagged IPv6 packet, each as upper and lower half.
#[inline(always)]
pub(super) fn addresses_v6(head: &[u8]) -> Option<[[u64; 2]; 2]> {
    let bytes: &[u8; 32] = head.get(22..)?.first_chunk()?;
    let half = |at: usize| {
        let mut half = [0; 8];
        half.copy_from_slice(&bytes[at..at + 8]);
        u64::from_be_bytes(half)
    };
    Some([[half(0), half(8)], [half(16), half(24)]])
}

/// The flow table's key of a packet of the common kind.
#[inline(always)]
fn common_words(head: &[u8], packet: &Common) -> Option<KeyWords> {
    let (l4, kind) = (&packet.l4, u8::from(packet.v6) << 1);
    let tuple = KeyWords::tuple_of(l4.ports, l4.protocol.0, kind);
    if packet.v6 {
        return Some(KeyWords::V6 { addresses: addresses_v6(head)?, tuple });
    }
    let addresses = u64::from_be_bytes(*head.get(26..)?.first_chunk()?);
    Some(KeyWords::V4 { addresses, tuple })
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
