//! Packets that this node sends in answer: ICMP errors, TCP resets, echo replies. Each is made in the buffer of the
//! packet that it answers and goes back to where that came from.

use super::forward::set_macs;
use super::resolve::{Refusal, flow_key, neighbour};
use super::run::{Context, Pipeline, addresses};
use super::{Egress, Report, WorkerCounter};
use crate::port::{DropReason, Frame, Offload};
use crate::tables::PortRole;
use crate::wire::MacAddr;
use crate::wire::icmp_error::{IcmpError, Problem, may_be_sent, quote_len};
use crate::wire::parse::{Addresses, Family, Parsed};
use crate::wire::tcp_reset::Reset;
use crate::wire::{Delta, ethernet, icmpv4, icmpv6};

/// TTL and hop limit of what the node itself sends (RFC 1340's recommendation, Linux's default).
const TTL: u8 = 64;

/// What the sender is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// TCP reset.
    Reset,
    /// An ICMP error.
    Icmp(Problem),
}

impl Answer {
    pub(super) const TIME_EXCEEDED: Answer = Answer::Icmp(Problem::HopLimitExceeded);
    pub(super) const PORT_UNREACHABLE: Answer = Answer::Icmp(Problem::PortUnreachable);
    pub(super) const HOST_UNREACHABLE: Answer = Answer::Icmp(Problem::HostUnreachable);

    pub(super) const PROHIBITED: Answer = Answer::Icmp(Problem::Prohibited);

    pub(super) const fn too_big(mtu: u16) -> Answer {
        Answer::Icmp(Problem::TooBig { mtu })
    }
}

impl Pipeline {
    /// Counts a packet as dropped for `reason` and tells its sender, where that is allowed.
    pub(super) fn answer<F: Frame>(
        &mut self,
        context: &Context<'_>,
        mut frame: F,
        parsed: &Parsed,
        answer: Answer,
        reason: DropReason,
        egress: &mut impl Egress<F>,
    ) {
        let made = match answer {
            Answer::Reset => reset(&mut frame, parsed, context),
            Answer::Icmp(problem) => {
                if !may_be_sent(problem, parsed, context.port.own_mac) {
                    false
                } else if !self.icmp_limit.allow(context.now) {
                    self.counters.dropped(DropReason::IcmpRateLimited);
                    false
                } else {
                    let identification = self.next_random() as u16;
                    icmp_error(&mut frame, parsed, context, problem, identification)
                }
            }
        };
        if !made {
            egress.drop_frame(reason, frame);
            return;
        }
        self.counters.dropped(reason);
        self.counters.add(WorkerCounter::Answers, 1);
        frame.set_offload(Offload::NONE);
        self.send_back(context, frame, parsed, egress);
    }

    /// Sends an answer to the sender of a packet: by the port that it came from, or, from an uplink, behind which there may
    /// be many, by the route to its source.
    pub(super) fn send_back<F: Frame>(
        &mut self,
        context: &Context<'_>,
        mut frame: F,
        parsed: &Parsed,
        egress: &mut impl Egress<F>,
    ) {
        if context.port.role != PortRole::Uplink {
            return egress.send(context.arrival, frame);
        }
        let words = flow_key(parsed).reversed().words();
        let hash = words.hash(self.tracker.table().secret());
        let (source, _) = addresses(parsed);
        match neighbour(context.tables, source, hash) {
            Ok((_, way)) if set_macs(frame.head_mut(), &way) => {
                self.exit(context.tables, &way, hash).send(frame, egress);
            }
            Ok(_) => egress.drop_frame(DropReason::Truncated, frame),
            // It will ask again, and then its MAC address is known.
            Err(Refusal::Unresolved { port, address }) => {
                egress.report(Report::Unresolved { port, address });
                egress.drop_frame(DropReason::NeighbourUnresolved, frame);
            }
            Err(_) if context.port.mac == MacAddr::default() => egress.drop_frame(DropReason::NoRoute, frame),
            Err(_) => egress.send(context.arrival, frame),
        }
    }
}

/// Makes the RST that answers a segment. False, with the frame in any state, when there is none or no room.
fn reset<F: Frame>(frame: &mut F, parsed: &Parsed, context: &Context<'_>) -> bool {
    let Some(reset) = Reset::answering(frame.head(), parsed) else { return false };
    if !resize(frame, ethernet::LEN + reset.packet_len()) {
        return false;
    }
    let Some(packet) = frame.head_mut().get_mut(ethernet::LEN..) else { return false };
    reset.emit(packet).is_ok() && turn_round(frame, context)
}

/// Makes the ICMP error about a packet. As [`reset`].
fn icmp_error<F: Frame>(
    frame: &mut F,
    parsed: &Parsed,
    context: &Context<'_>,
    problem: Problem,
    identification: u16,
) -> bool {
    let addresses = error_addresses(context, parsed, problem);
    let error = IcmpError { problem, addresses };
    // What is quoted has to lie in the first segment: further ones are cut off.
    let in_head = frame.head().len().saturating_sub(ethernet::LEN);
    let quoted = quote_len(parsed.family(), in_head.min(parsed.ip_total as usize));
    frame.truncate(ethernet::LEN + quoted);
    if !frame.prepend(error.overhead()) {
        return false;
    }
    let Some(packet) = frame.head_mut().get_mut(ethernet::LEN..) else { return false };
    if error.emit(packet, identification).is_err() {
        return false;
    }
    set_ether_type(frame, parsed.family()) && turn_round(frame, context)
}

/// From the address that the sender meant, when it is the port that is closed; else from its router. To the sender.
///
/// The router's address is the gateway's on a pod's link; toward the world that would mean nothing, and it is the node's.
fn error_addresses(context: &Context<'_>, parsed: &Parsed, problem: Problem) -> Addresses {
    let from_target = problem == Problem::PortUnreachable;
    let (mut gateway, masquerade) = (context.tables.gateway, &context.tables.masquerade);
    if context.port.role == PortRole::Uplink {
        gateway.ipv4 = masquerade.ipv4.unwrap_or(gateway.ipv4);
        gateway.ipv6 = masquerade.ipv6.unwrap_or(gateway.ipv6);
    }
    match parsed.addresses {
        Addresses::V4 { source, destination } => Addresses::V4 {
            source: if from_target { destination } else { gateway.ipv4 },
            destination: source,
        },
        Addresses::V6 { source, destination } => Addresses::V6 {
            source: if from_target { destination } else { gateway.ipv6 },
            destination: source,
        },
    }
}

/// Turns an echo request into its reply. False when the headers are not where the parser saw them.
pub(super) fn echo_reply<F: Frame>(frame: &mut F, parsed: &Parsed, context: &Context<'_>) -> bool {
    let head = frame.head_mut();
    let l3 = usize::from(parsed.l3);
    let made = match parsed.family() {
        Family::V4 => {
            let Some(ip) = head.get_mut(l3..).and_then(|ip| ip.first_chunk_mut::<20>()) else { return false };
            let (addresses, old) = ([ip[16], ip[17], ip[18], ip[19], ip[12], ip[13], ip[14], ip[15]], ip[8]);
            ip[12..].copy_from_slice(&addresses);
            ip[8] = TTL;
            let ttl = Delta::of_u16(u16::from_be_bytes([old, 0]), u16::from_be_bytes([TTL, 0]));
            [ip[10], ip[11]] = ttl.apply([ip[10], ip[11]]);
            let icmp = head.get_mut(usize::from(parsed.l4)..).unwrap_or_default();
            icmpv4::HeaderMut::new_checked(icmp).is_ok_and(|mut icmp| icmp.make_echo_reply())
        }
        Family::V6 => {
            let Some(ip) = head.get_mut(l3..).and_then(|ip| ip.first_chunk_mut::<40>()) else { return false };
            let (source, destination) = ip[8..].split_at_mut(16);
            source.swap_with_slice(destination);
            ip[7] = TTL;
            let icmp = head.get_mut(usize::from(parsed.l4)..).unwrap_or_default();
            icmpv6::HeaderMut::new_checked(icmp).is_ok_and(|mut icmp| icmp.make_echo_reply())
        }
    };
    made && turn_round(frame, context)
}

/// Gives a frame exactly `len` bytes, all in its head, whatever they are. False when there is no room.
pub(super) fn resize<F: Frame>(frame: &mut F, len: usize) -> bool {
    let head = frame.head().len();
    frame.truncate(len.min(head));
    match len.checked_sub(head) {
        None | Some(0) => true,
        Some(missing) => frame.append(missing) || frame.prepend(missing),
    }
}

/// Addresses a frame from the gateway to the port's peer.
pub(super) fn turn_round<F: Frame>(frame: &mut F, context: &Context<'_>) -> bool {
    let Some(macs) = frame.head_mut().first_chunk_mut::<12>() else { return false };
    let (destination, source) = macs.split_at_mut(6);
    destination.copy_from_slice(&context.port.mac.0);
    source.copy_from_slice(&context.port.own_mac.0);
    true
}

fn set_ether_type<F: Frame>(frame: &mut F, family: Family) -> bool {
    let Some(field) = frame.head_mut().get_mut(12..14) else { return false };
    field.copy_from_slice(match family {
        Family::V4 => &[0x08, 0x00],
        Family::V6 => &[0x86, 0xdd],
    });
    true
}
