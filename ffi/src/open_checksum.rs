//! Packets that have not left the machine, and whose checksums nobody has made.
//!
//! Linux leaves the checksum of what it sends to the interface. A veth says that it makes them, and hands the packet to its
//! other end without (`CHECKSUM_PARTIAL`), since a kernel there knows from its own books. Who takes the packet from there by
//! its bytes alone, as AF_XDP and packet sockets do, finds the pseudo-header's sum in TCP's and UDP's field (as
//! [`Checksum::Partial`] says), and 0 in SCTP's, in a packet that may be inside a VXLAN tunnel. That is told from a finished
//! packet by the value. Where a right checksum has that value by chance, making it again changes nothing.

use crate::checksum::{self, Sum};
use crate::gso::get;
use crate::mbuf::{ETHERNET, Mbuf, TCP_CHECKSUM, UDP_CHECKSUM};
use millrace_fastpath::port::{Checksum, Frame, Offload};
use millrace_fastpath::wire::crc32c::Crc32c;

const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
const VXLAN_HEADER: usize = 8;
/// Bytes of SCTP's header, and where its checksum is in it.
const SCTP_HEADER: usize = 12;
const SCTP_CHECKSUM: usize = 8;

/// The kernel's driver whose other end is on this machine; those whose interfaces may stand on one of that; and DPDK's that
/// take packets from any interface of the kernel.
const LOCAL_DRIVERS: [&str; 9] = [
    "veth",
    "802.1Q VLAN Support",
    "bonding",
    "team",
    "macvlan",
    "bridge",
    "net_af_packet",
    "net_af_xdp",
    "net_pcap",
];

/// Whether packets that this driver receives may lack their checksums.
pub(crate) fn may_come_by(driver: &str) -> bool {
    LOCAL_DRIVERS.contains(&driver)
}

/// Says of a packet without checksum that it has none, or makes it where only the outer headers count from here on.
pub fn close(frame: &mut Mbuf) {
    let Some(outer) = Transport::find(frame, 0) else { return };
    match outer.missing(frame.head()) {
        Some(Missing::Sum { start, offset }) => {
            let checksum = Checksum::Partial { start, offset };
            frame.set_offload(Offload { checksum, gso: None, outer: 0 });
        }
        Some(Missing::Crc { start, bytes }) => complete_crc(frame, start, bytes),
        None => {
            let Some(inner) = outer.inside_vxlan(frame.head()) else { return };
            match Transport::find(frame, inner).and_then(|inner| inner.missing(frame.head())) {
                // An outer checksum that is there counts the inner one as made.
                Some(Missing::Sum { start, offset }) => {
                    checksum::complete(frame, start, offset);
                }
                Some(Missing::Crc { start, bytes }) => complete_crc(frame, start, bytes),
                None => {}
            }
        }
    }
}

/// Layer 4 of a packet in one piece.
struct Transport {
    protocol: u8,
    /// Bytes from the frame's start to its header.
    start: usize,
    /// Bytes of it, header included.
    bytes: usize,
    /// That of the addresses.
    sum: Sum,
}

/// A checksum that is to be made.
enum Missing {
    Sum { start: u16, offset: u16 },
    Crc { start: usize, bytes: usize },
}

impl Transport {
    /// That of the Ethernet frame that begins at `at` and ends with `frame`.
    fn find(frame: &Mbuf, at: usize) -> Option<Transport> {
        let (head, l3) = (frame.head(), at + usize::from(ETHERNET));
        let (protocol, start, end, addresses) = match *head.get(l3 - 2..l3 + 1)? {
            [0x08, 0x00, first] if first >> 4 == 4 => {
                let header =
                    head.get(l3..l3 + usize::from(first & 0xf) * 4).filter(|header| header.len() >= 20)?;
                // A fragment has no checksum of its own.
                if get(header, 6) & 0x3fff != 0 {
                    return None;
                }
                (header[9], l3 + header.len(), l3 + usize::from(get(header, 2)), &header[12..20])
            }
            [0x86, 0xdd, first] if first >> 4 == 6 => {
                let header = head.get(l3..l3 + IPV6_HEADER)?;
                let start = l3 + IPV6_HEADER;
                (header[6], start, start + usize::from(get(header, 4)), &header[8..40])
            }
            _ => return None,
        };
        if end != frame.total_len() {
            return None;
        }
        let mut sum = Sum::default();
        sum.add(addresses);
        Some(Transport { protocol, start, bytes: end.checked_sub(start)?, sum })
    }

    fn missing(&self, head: &[u8]) -> Option<Missing> {
        let offset = match self.protocol {
            6 => TCP_CHECKSUM,
            17 => UDP_CHECKSUM,
            132 => {
                let field = head.get(self.start + SCTP_CHECKSUM..self.start + SCTP_HEADER)?;
                let (start, bytes) = (self.start, self.bytes);
                return (field == [0; 4] && bytes >= SCTP_HEADER).then_some(Missing::Crc { start, bytes });
            }
            _ => return None,
        };
        let at = self.start + usize::from(offset);
        let field = get(head.get(at..at + 2)?, 0);
        let mut pseudo = self.sum;
        pseudo.add_number(self.protocol.into());
        pseudo.add_number(self.bytes as u16);
        let start = u16::try_from(self.start).ok()?;
        // UDP says by 0 that there is none, and no pseudo-header's sum is 0.
        (field == pseudo.folded()).then_some(Missing::Sum { start, offset })
    }

    /// Where the frame inside begins.
    fn inside_vxlan(&self, head: &[u8]) -> Option<usize> {
        let header = head.get(self.start + UDP_HEADER..self.start + UDP_HEADER + VXLAN_HEADER)?;
        // RFC 7348, section 5: the flag that there is a VNI, and all reserved bits 0.
        let is_vxlan = self.protocol == 17 && header[..4] == [0x08, 0, 0, 0] && header[7] == 0;
        is_vxlan.then_some(self.start + UDP_HEADER + VXLAN_HEADER)
    }
}

/// Makes SCTP's checksum (RFC 9260, appendix A) over `bytes` from `start` on, over all segments.
#[cold]
fn complete_crc(frame: &mut Mbuf, start: usize, bytes: usize) {
    let (mut crc, mut skip, mut left) = (Crc32c::new(), start, bytes);
    for segment in frame.segments() {
        let part = segment.get(skip..).unwrap_or_default();
        let part = &part[..part.len().min(left)];
        crc = crc.add_bytes(part);
        left -= part.len();
        skip = skip.saturating_sub(segment.len());
    }
    let field = start + SCTP_CHECKSUM;
    if left == 0
        && let Some(field) = frame.head_mut().get_mut(field..field + 4)
    {
        field.copy_from_slice(&crc.finish().to_le_bytes());
    }
}
