//! The offload state in DPDK's flags and lengths.

use super::{ETHERNET, Mbuf, TCP_CHECKSUM, UDP_CHECKSUM};
use dpdk_sys as sys;
use millrace_fastpath::port::{Checksum, Frame, Gso, GsoKind, Offload};

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

    pub(super) fn encode_partial(&mut self, start: u16, offset: u16, gso: Option<Gso>) -> bool {
        let (l2, l3) = (ETHERNET, start.saturating_sub(ETHERNET));
        let (ip, l4) = (self.head().get(usize::from(l2)), self.head().get(usize::from(start) + 12));
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
        let start = lengths.l2 + lengths.l3;
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
        Offload { checksum, gso }
    }
}

/// Bytes of headers, as an mbuf's offload state has them; `segment` is the payload of each piece of a large frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HeaderLengths {
    pub(crate) l2: u16,
    pub(crate) l3: u16,
    pub(crate) l4: u16,
    pub(crate) segment: u16,
}
