//! The offload state in DPDK's flags and lengths.

use super::{ETHERNET, Mbuf, TCP_CHECKSUM, TX_TUNNEL, UDP_CHECKSUM};
use crate::checksum;
use dpdk_sys as sys;
use millrace_fastpath::port::{Checksum, Frame, Gso, GsoKind, Offload};

/// Bytes of an outer UDP header and VXLAN's: DPDK counts them as part of the inner layer 2.
const UDP_AND_VXLAN: u16 = 16;

impl Mbuf {
    /// Bytes before the layer 3 and layer 4 headers and of the latter, as far as the offload state tells.
    pub(crate) fn lengths(&self) -> HeaderLengths {
        // SAFETY: all of the union's views are plain numbers, always initialised.
        let packed = unsafe { self.raw().__bindgen_anon_3.tx_offload };
        HeaderLengths {
            l2: (packed & 0x7f) as u16,
            l3: (packed >> 7 & 0x1ff) as u16,
            l4: (packed >> 16 & 0xff) as u16,
            segment: (packed >> 24 & 0xffff) as u16,
            outer: (packed >> 40 & 0x1ff) as u16 + (packed >> 49 & 0x7f) as u16,
        }
    }

    /// Whether C code may act on the offload state: all the headers it names are in the head, and layer 3 has no
    /// options or extensions that the C code would not expect.
    pub(crate) fn headers_bear_out(&self) -> bool {
        let (lengths, head) = (self.lengths(), self.head());
        let l3 = usize::from(lengths.l2);
        let Some(&first) = head.get(l3) else { return false };
        let fits = head.len() >= l3 + usize::from(lengths.l3) + usize::from(lengths.l4.max(8));
        let is_v4 = self.flags() & sys::MILLRACE_TX_IPV4 != 0;
        let plain = match first >> 4 {
            4 => is_v4 && u16::from(first & 0xf) * 4 == lengths.l3 && lengths.l3 >= 20,
            6 => !is_v4 && lengths.l3 == 40,
            _ => false,
        };
        let tcp = self.flags() & sys::MILLRACE_TX_L4_MASK == sys::MILLRACE_TX_TCP_CKSUM
            || self.flags() & sys::MILLRACE_TX_TCP_SEG != 0;
        fits && plain && (!tcp || head.len() >= l3 + usize::from(lengths.l3) + 20)
    }

    /// Notes that the frame is encapsulated, and what is left to be done to it and to the frame inside.
    #[cold]
    pub(super) fn encode_tunnelled(&mut self, offload: &Offload) {
        let outer = offload.outer;
        if let Checksum::Partial { start, offset } = offload.checksum
            && !self.encode_partial_behind(outer, start, offset, offload.gso)
        {
            checksum::complete(self, start, offset);
        }
        let outer_l3 = u64::from(outer.saturating_sub(ETHERNET + UDP_AND_VXLAN));
        let raw = self.raw_mut();
        if !matches!(offload.checksum, Checksum::Partial { .. }) {
            raw.__bindgen_anon_3.tx_offload = 0;
        }
        raw.ol_flags |= TX_TUNNEL;
        // SAFETY: all of the union's views are plain numbers, always initialised.
        let lengths = unsafe { raw.__bindgen_anon_3.tx_offload };
        let inner = lengths & ((1 << 40) - 1);
        raw.__bindgen_anon_3.tx_offload = inner | outer_l3 << 40 | u64::from(ETHERNET) << 49;
    }

    pub(super) fn encode_partial(&mut self, start: u16, offset: u16, gso: Option<Gso>) -> bool {
        self.encode_partial_behind(0, start, offset, gso)
    }

    /// `outer`: bytes before the frame that this is about.
    fn encode_partial_behind(&mut self, outer: u16, start: u16, offset: u16, gso: Option<Gso>) -> bool {
        let before = outer + ETHERNET;
        let l2 = if outer == 0 { ETHERNET } else { UDP_AND_VXLAN + ETHERNET };
        let l3 = start.saturating_sub(before);
        let (ip, l4) = (self.head().get(usize::from(before)), self.head().get(usize::from(start) + 12));
        let family = match (gso.map(|gso| gso.kind), ip.map(|byte| byte >> 4)) {
            (Some(GsoKind::TcpV4), _) | (_, Some(4)) => sys::MILLRACE_TX_IPV4,
            (Some(GsoKind::TcpV6), _) | (_, Some(6)) => sys::MILLRACE_TX_IPV6,
            _ => return false,
        };
        let (l4_len, l4_flag) = match offset {
            TCP_CHECKSUM => {
                (u16::from(l4.map_or(0x50, |byte| byte & 0xf0) >> 2).max(20), sys::MILLRACE_TX_TCP_CKSUM)
            }
            UDP_CHECKSUM => (8, sys::MILLRACE_TX_UDP_CKSUM),
            _ => return false,
        };
        if !(20..512).contains(&l3) {
            return false;
        }
        let gso_flag = match gso.map(|gso| gso.kind) {
            None => 0,
            Some(GsoKind::Udp) => sys::MILLRACE_TX_UDP_SEG,
            Some(GsoKind::TcpV4 | GsoKind::TcpV6) => sys::MILLRACE_TX_TCP_SEG,
        };
        // SAFETY: takes four numbers and gives one.
        let lengths = unsafe { sys::millrace_mbuf_lengths(l2, l3, l4_len, gso.map_or(0, |gso| gso.size)) };
        let raw = self.raw_mut();
        raw.ol_flags |= family | l4_flag | gso_flag;
        raw.__bindgen_anon_3.tx_offload = lengths;
        true
    }

    #[cold]
    pub(super) fn decode(&self, flags: u64) -> Offload {
        let lengths = self.lengths();
        let is_tunnelled = flags & TX_TUNNEL != 0;
        let start = lengths.l2 + lengths.l3 + if is_tunnelled { lengths.outer } else { 0 };
        let outer = if is_tunnelled { lengths.outer + UDP_AND_VXLAN } else { 0 };
        let kind = if flags & sys::MILLRACE_TX_TCP_SEG != 0 {
            Some(if flags & sys::MILLRACE_TX_IPV4 != 0 { GsoKind::TcpV4 } else { GsoKind::TcpV6 })
        } else if flags & sys::MILLRACE_TX_UDP_SEG != 0 {
            Some(GsoKind::Udp)
        } else {
            None
        };
        let gso = kind.filter(|_| lengths.segment != 0).map(|kind| Gso { kind, size: lengths.segment });
        let offset = match (gso.map(|gso| gso.kind), flags & sys::MILLRACE_TX_L4_MASK) {
            (Some(GsoKind::Udp), _) | (None, sys::MILLRACE_TX_UDP_CKSUM) => Some(UDP_CHECKSUM),
            (Some(_), _) | (None, sys::MILLRACE_TX_TCP_CKSUM) => Some(TCP_CHECKSUM),
            _ => None,
        };
        let checksum = match offset {
            Some(offset) => Checksum::Partial { start, offset },
            None if flags & sys::MILLRACE_RX_L4_CKSUM_MASK == sys::MILLRACE_RX_L4_CKSUM_GOOD => {
                Checksum::Verified
            }
            None => Checksum::Complete,
        };
        Offload { checksum, gso, outer }
    }
}

/// Bytes of headers, as an mbuf's offload state has them; `segment` is the payload of each piece of a large frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HeaderLengths {
    pub(crate) l2: u16,
    pub(crate) l3: u16,
    pub(crate) l4: u16,
    pub(crate) segment: u16,
    /// Outer layer 2 and 3.
    pub(crate) outer: u16,
}
