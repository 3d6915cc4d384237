//! What forwarding needs to know of a packet's headers.

use crate::conntrack::Shown;
use crate::wire::parse::{Common, Family, L4Kind, Parsed};

/// The part of [`Parsed`] that is kept for every packet of a burst. The IP header begins behind the Ethernet header:
/// tagged frames do not come this far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Brief {
    /// Bytes of the IP packet.
    pub(super) ip_total: u32,
    /// Bytes from the frame's start to layer 4.
    pub(super) l4: u16,
    /// What layer 4 is.
    pub(super) kind: L4Kind,
    pub(super) v6: bool,
    /// TTL or hop limit as it arrived.
    pub(super) ttl: u8,
    pub(super) first_fragment: bool,
}

const _: () = assert!(size_of::<Brief>() <= 12);

impl Brief {
    pub(super) const NONE: Brief =
        Brief { ip_total: 0, l4: 0, kind: L4Kind::Other, v6: false, ttl: 0, first_fragment: false };

    #[inline(always)]
    pub(super) fn of_common(packet: &Common) -> Brief {
        Brief {
            ip_total: packet.ip_total,
            l4: packet.l4_offset(),
            kind: packet.l4.kind,
            v6: packet.v6,
            ttl: packet.ttl,
            first_fragment: false,
        }
    }

    pub(super) fn of(parsed: &Parsed) -> Brief {
        Brief {
            ip_total: parsed.ip_total,
            l4: parsed.l4,
            kind: parsed.kind,
            v6: parsed.family() == Family::V6,
            ttl: parsed.ttl,
            first_fragment: parsed.first_fragment,
        }
    }

    /// What the packet shows of its connection; `head` is its frame's first segment.
    pub(super) fn shown(&self, head: &[u8]) -> Shown {
        Shown::parse(self.kind, head.get(usize::from(self.l4)..).unwrap_or_default(), self.l4_len())
    }

    /// Bytes from layer 4 on.
    pub(super) fn l4_len(&self) -> u32 {
        (self.ip_total + crate::wire::ethernet::LEN as u32).saturating_sub(u32::from(self.l4))
    }
}
