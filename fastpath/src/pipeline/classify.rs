//! Stage 1: what a frame is, and whether its sender may send it at all.
//!
//! Comes in: a frame as received. Goes out: [`Step`]. Drops: everything the parser refuses, tagged frames, foreign
//! and spoofed MAC addresses.

use crate::port::{DropReason, Frame};
use crate::tables::PortInfo;
use crate::wire::ethernet;
use crate::wire::ipv6_extension::ExtensionError;
use crate::wire::parse::{Class, Common, L4Kind, Layer, ParseError, Parsed, parse};

/// The bits of a MAC address as a number.
const MAC_BITS: u64 = 0xffff_ffff_ffff;

/// What is to be done with a frame.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Look its flow up by the 5-tuple.
    Flow,
    /// A later fragment: its flow is known by the datagram's first.
    Fragment,
    /// An ICMP error: find the flow that it is about.
    IcmpError,
    /// An ARP message.
    Arp,
    /// A neighbour discovery message.
    Ndisc,
    /// Nothing but to drop it.
    Drop(DropReason),
}

/// The MAC addresses that frames of a port must have, made ready for comparing.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    destination: u64,
    source: u64,
    /// All zeroes when the source does not matter.
    source_bits: u64,
}

impl Expected {
    pub(super) fn of(port: &PortInfo) -> Self {
        Expected {
            destination: mac_word(&port.own_mac.0),
            source: mac_word(&port.mac.0),
            source_bits: if port.spoof_check { MAC_BITS } else { 0 },
        }
    }

    /// Whether a frame has them.
    #[inline(always)]
    fn are_in(&self, head: &[u8; ethernet::LEN]) -> bool {
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *head;
        let destination = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        let source = u64::from_le_bytes([g, h, i, j, k, l, 0, 0]);
        ((destination ^ self.destination) | ((source ^ self.source) & self.source_bits)) == 0
    }
}

/// Classifies a frame of the common kind whose flow is to be looked up; nothing else.
#[inline(always)]
pub(super) fn common<F: Frame>(frame: &F, expected: &Expected) -> Option<Common> {
    let head = frame.head();
    head.first_chunk().filter(|macs| expected.are_in(macs))?;
    Common::parse(head, frame.total_len())
}

/// Classifies one frame. `keep` is called with the headers of a packet whose flow is to be looked up.
#[inline(never)]
pub(super) fn classify<F: Frame>(frame: &F, port: &PortInfo, keep: impl FnOnce(&Parsed)) -> Step {
    let head = frame.head();
    let Some((destination, rest)) = head.split_first_chunk::<6>() else {
        return Step::Drop(DropReason::Truncated);
    };
    let Some(source) = rest.first_chunk::<6>() else {
        return Step::Drop(DropReason::Truncated);
    };
    if port.spoof_check && mac_word(source) != mac_word(&port.mac.0) {
        return Step::Drop(DropReason::SpoofedMac);
    }
    let for_gateway = mac_word(destination) == mac_word(&port.own_mac.0);
    let first = destination[0];
    match parse(head, frame.total_len()) {
        Ok(Class::Ip(parsed)) if for_gateway => {
            let step = step_of(&parsed);
            if matches!(step, Step::Flow) {
                keep(&parsed);
            }
            step
        }
        Ok(Class::Ip(_)) => foreign(first),
        Ok(Class::Arp { vlan, .. }) => neighbour(Step::Arp, vlan.is_some(), for_gateway, first),
        Ok(Class::Ndisc(parsed)) => neighbour(Step::Ndisc, parsed.vlan.is_some(), for_gateway, first),
        Err(error) => Step::Drop(reason(error)),
    }
}

/// A MAC address as a number, for comparing.
#[inline(always)]
fn mac_word(mac: &[u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = *mac;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

/// A packet that is not addressed to the gateway. `first`: the first byte of the MAC address that it is addressed to.
fn foreign(first: u8) -> Step {
    Step::Drop(if first & 1 != 0 { DropReason::Multicast } else { DropReason::ForeignMac })
}

/// A message between neighbours: to the gateway or to all.
fn neighbour(step: Step, tagged: bool, for_gateway: bool, first: u8) -> Step {
    match (tagged, for_gateway || first & 1 != 0) {
        (true, _) => Step::Drop(DropReason::UnsupportedVlan),
        (false, true) => step,
        (false, false) => foreign(first),
    }
}

#[inline(always)]
fn step_of(parsed: &Parsed) -> Step {
    if parsed.vlan.is_some() {
        return Step::Drop(DropReason::UnsupportedVlan);
    }
    match parsed.kind {
        L4Kind::Fragment => Step::Fragment,
        L4Kind::IcmpError => Step::IcmpError,
        _ => Step::Flow,
    }
}

#[cold]
fn reason(error: ParseError) -> DropReason {
    match error {
        ParseError::Truncated(Layer::Vlan) | ParseError::StackedVlan => DropReason::UnsupportedVlan,
        ParseError::Truncated(_) | ParseError::TotalLength(_) => DropReason::Truncated,
        ParseError::UnknownEtherType(_) => DropReason::UnknownEtherType,
        ParseError::Ipv4Checksum(_) => DropReason::BadIpv4Checksum,
        ParseError::Extension(ExtensionError::TooMany) => DropReason::TooManyExtensionHeaders,
        ParseError::Extension(ExtensionError::Truncated(_)) => DropReason::Truncated,
        ParseError::Extension(_) => DropReason::BadHeader,
        ParseError::Version(_)
        | ParseError::HeaderLength(_)
        | ParseError::Fragment { .. }
        | ParseError::TcpHeaderLength(_)
        | ParseError::UdpLength(_) => DropReason::BadHeader,
    }
}
