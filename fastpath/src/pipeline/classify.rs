//! Stage 1: what a frame is, and whether its sender may send it at all.
//!
//! Comes in: a frame as received. Goes out: [`Step`]. Drops: everything the parser refuses, tagged frames, foreign
//! and spoofed MAC addresses.

use crate::port::{DropReason, Frame};
use crate::tables::{Gateway, PortInfo};
use crate::wire::ipv6_extension::ExtensionError;
use crate::wire::parse::{Class, L4Kind, Layer, ParseError, Parsed, parse};

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

/// Classifies one frame. `keep` is called with the headers of a packet whose flow is to be looked up.
#[inline(always)]
pub(super) fn classify<F: Frame>(
    frame: &F,
    port: &PortInfo,
    gateway: &Gateway,
    keep: impl FnOnce(&Parsed),
) -> Step {
    let head = frame.head();
    let Some(macs) = head.first_chunk::<12>() else {
        return Step::Drop(DropReason::Truncated);
    };
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = *macs;
    if port.spoof_check && [s0, s1, s2, s3, s4, s5] != port.mac.0 {
        return Step::Drop(DropReason::SpoofedMac);
    }
    let for_gateway = [d0, d1, d2, d3, d4, d5] == gateway.mac.0;
    let class = match parse(head, frame.total_len()) {
        Ok(class) => class,
        Err(error) => return Step::Drop(reason(error)),
    };
    if let Class::Ip(parsed) = &class
        && for_gateway
    {
        let step = step_of(parsed);
        if matches!(step, Step::Flow) {
            keep(parsed);
        }
        return step;
    }
    link_local(&class, for_gateway, d0 & 1 != 0)
}

/// What is not an IP packet for the gateway.
#[cold]
fn link_local(class: &Class, for_gateway: bool, to_many: bool) -> Step {
    match class {
        Class::Arp { vlan: None, .. } if for_gateway || to_many => Step::Arp,
        Class::Ndisc(parsed) if parsed.vlan.is_none() && (for_gateway || to_many) => Step::Ndisc,
        Class::Arp { vlan: Some(_), .. } => Step::Drop(DropReason::UnsupportedVlan),
        _ if to_many => Step::Drop(DropReason::Multicast),
        _ => Step::Drop(DropReason::ForeignMac),
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
