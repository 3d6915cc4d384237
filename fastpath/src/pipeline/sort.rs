//! Stage, of uplinks and of the host's leg alone: frames that are not to be routed go where they belong, and encapsulated
//! ones are taken out.
//!
//! ```text
//!  uplink ─┬─ for the tunnel end ─► decapsulate ─► inner frame ─┐
//!          ├─ claimed ────────────────────────────────────────┴─► the other stages
//!          └─ anything else (with a companion) ─► the host's leg, as it is
//!  host's leg ─┬─ to the gateway's MAC address ─► the other stages
//!              └─ anything else (with a companion) ─► the uplink, as it is
//! ```
//!
//! A companion is what a port has whose NIC the kernel has lost: the kernel speaks through the host's leg as it did through
//! the NIC. What is passed on keeps its offload state. Drops: own frames that come back, and what [`decapsulate`] refuses.

use super::decapsulate::{Taken, decapsulate};
use super::fragment::fragment_key;
use super::icmp_error::quoted;
use super::run::{Context, Pipeline};
use super::{Egress, WorkerCounter};
use crate::port::{Burst, DropReason, Frame, PortId};
use crate::tables::PortRole;
use crate::wire::ethernet::MacAddr;
use crate::wire::parse::{Class, L4Kind, parse};
use core::net::Ipv6Addr;

/// Where a frame belongs.
enum Place {
    /// Here.
    Here,
    /// To another port, as it is.
    There(PortId),
    /// Nowhere.
    Nowhere(DropReason),
}

/// Whether frames of a port are to be sorted at all.
#[inline]
pub(super) fn is_sorted(context: &Context<'_>) -> bool {
    let is_uplink = context.port.role == PortRole::Uplink;
    context.port.companion.is_some() || (is_uplink && context.tables.tunnels.vtep().is_some())
}

impl Pipeline {
    /// Leaves in the burst what is to be routed.
    #[inline(never)]
    pub(super) fn sort<F: Frame>(
        &mut self,
        context: &Context<'_>,
        burst: &mut Burst<F>,
        egress: &mut impl Egress<F>,
    ) {
        let mut here = Burst::new();
        for mut frame in burst.drain(..) {
            let place = match context.port.role {
                PortRole::Uplink => self.place_from_uplink(context, &mut frame),
                PortRole::Host | PortRole::Pod => place_from_host(context, &frame),
            };
            match place {
                Place::Here => here.push(frame),
                Place::There(port) => {
                    self.counters.add(WorkerCounter::PassedOn, 1);
                    egress.send(port, frame);
                }
                Place::Nowhere(reason) => egress.drop_frame(reason, frame),
            }
        }
        *burst = here;
    }

    fn place_from_uplink<F: Frame>(&self, context: &Context<'_>, frame: &mut F) -> Place {
        let own_mac = context.port.own_mac;
        let Some((destination, source)) = macs(frame.head()) else {
            return Place::Nowhere(DropReason::Truncated);
        };
        if context.port.companion.is_some() && source == own_mac {
            return Place::Nowhere(DropReason::OwnFrame);
        }
        if destination == own_mac {
            match decapsulate(frame, &context.tables.tunnels, own_mac) {
                Ok(Taken::Nothing) => {}
                Ok(Taken::Inner) => {
                    self.counters.add(WorkerCounter::Decapsulated, 1);
                    return Place::Here;
                }
                Err(reason) => return Place::Nowhere(reason),
            }
        }
        match context.port.companion {
            Some(host) if destination != own_mac || !self.is_claimed(context, frame) => {
                if speaks_of_loopback(frame.head()) {
                    return Place::Nowhere(DropReason::BadAddress);
                }
                Place::There(host)
            }
            _ => Place::Here,
        }
    }

    /// Whether a frame is the data path's. Later fragments are where the first was.
    fn is_claimed<F: Frame>(&self, context: &Context<'_>, frame: &F) -> bool {
        let Ok(Class::Ip(parsed)) = parse(frame.head(), frame.total_len()) else { return false };
        if parsed.vlan.is_some() {
            return false;
        }
        match parsed.kind {
            L4Kind::Fragment => {
                let (words, table) = (fragment_key(&parsed).words(), self.tracker.table());
                table.find(&words, words.hash(table.secret())).is_some()
                    || context.tables.claims(&parsed, None)
            }
            L4Kind::IcmpError => context.tables.claims(&parsed, quoted(frame, &parsed).ok().as_ref()),
            _ => context.tables.claims(&parsed, None),
        }
    }
}

fn place_from_host<F: Frame>(context: &Context<'_>, frame: &F) -> Place {
    match (macs(frame.head()), context.port.companion) {
        (None, _) => Place::Nowhere(DropReason::Truncated),
        (Some((destination, _)), Some(uplink)) if destination != context.tables.gateway.mac => {
            Place::There(uplink)
        }
        _ => Place::Here,
    }
}

/// Whether a packet is from or to a loopback address, tagged or not. The host's leg is trusted with those, so that they must
/// not come to it from a wire.
fn speaks_of_loopback(head: &[u8]) -> bool {
    let mut at = 12;
    for _ in 0..3 {
        match head.get(at..at + 2) {
            Some([0x81, 0x00] | [0x88, 0xa8]) => at += 4,
            Some([0x08, 0x00]) => {
                let is_loopback = |from: usize| head.get(at + from) == Some(&127);
                return is_loopback(2 + 12) || is_loopback(2 + 16);
            }
            Some([0x86, 0xdd]) => {
                let is_loopback = |from: usize| {
                    head.get(at + from..at + from + 16) == Some(&Ipv6Addr::LOCALHOST.octets()[..])
                };
                return is_loopback(2 + 8) || is_loopback(2 + 24);
            }
            _ => return false,
        }
    }
    false
}

/// Destination and source.
fn macs(head: &[u8]) -> Option<(MacAddr, MacAddr)> {
    let (destination, rest) = head.split_first_chunk()?;
    Some((MacAddr(*destination), MacAddr(*rest.first_chunk()?)))
}
