//! `struct virtio_net_hdr` as Linux's TAP and packet sockets use it (include/uapi/linux/virtio_net.h), and [`Offload`].
//!
//! Ten bytes, little-endian: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset. A TAP of Linux 6.17 has a longer form
//! (`struct virtio_net_hdr_v1_hash_tunnel`, virtio 1.4, section 5.1.6), for large frames in a UDP tunnel: at its end are
//! outer_th_offset and inner_nh_offset, with ten bytes between that mean nothing here.

use crate::gso::outer;
use millrace_fastpath::port::{Checksum, Gso, GsoKind, Offload};
use thiserror::Error;

/// Bytes of the header before each packet: without `num_buffers`, which neither has a use for.
pub const HEADER_LEN: usize = 10;

/// Bytes of the longer form.
pub const TUNNEL_HEADER_LEN: usize = 24;

/// Where the longer form has the offsets of the outer UDP header and of the inner IP header, from the frame's start.
const OUTER_UDP: usize = 20;
const INNER_IP: usize = 22;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

/// The outer UDP checksum is to be made, too.
const TUNNEL_CSUM: u8 = 8;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// Added to the others: in a tunnel over IPv4, or IPv6.
const TUNNEL_V4: u8 = 0x20;
const TUNNEL_V6: u8 = 0x40;

/// Bytes from the layer 4 header to its checksum.
const TCP_CHECKSUM: u16 = 16;
const UDP_CHECKSUM: u16 = 6;

/// Bytes of headers.
const ETHERNET: u16 = 14;
const IPV4: u16 = 20;
const UDP: u16 = 8;

/// Layer 4 can begin no earlier than after an Ethernet and an IPv4 header.
const FIRST_L4: u16 = ETHERNET + IPV4;

/// Where the inner IP header of a tunnel can begin: behind the headers of Ethernet, IP, UDP and Ethernet, and as far as a frame can say
/// of itself ([`Offload::outer`] in an mbuf).
const FIRST_INNER: u16 = FIRST_L4 + UDP + ETHERNET;
const LAST_INNER: u16 = 541 + ETHERNET;

/// Why a header was refused. The frame it belongs to is dropped as malformed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HeaderError {
    /// The checksum is no TCP or UDP checksum of this frame's head.
    #[error("checksum at {start} + {offset} does not fit into a head of {head} bytes")]
    Checksum {
        /// `csum_start`.
        start: u16,
        /// `csum_offset`.
        offset: u16,
        /// Bytes of the frame's first segment.
        head: usize,
    },
    /// A type that was not agreed upon.
    #[error("unknown gso_type {0:#x}")]
    GsoType(u8),
    /// Segments of no bytes.
    #[error("gso_size is 0")]
    GsoSize,
    /// A frame that is to be cut, without the partial checksum that belongs to it.
    #[error("gso_type {0:#x} without the checksum of its protocol")]
    GsoChecksum(u8),
    /// A large frame in a tunnel whose headers cannot lie where it is said.
    #[error("a tunnel with IP at {inner_ip}, and a checksum from {start} on")]
    Tunnel {
        /// `inner_nh_offset`.
        inner_ip: u16,
        /// `csum_start`.
        start: u16,
    },
}

/// Reads the header of a frame whose first segment has `head` bytes.
///
/// # Errors
/// When the header contradicts itself or the frame.
pub fn decode(header: &[u8; HEADER_LEN], head: usize) -> Result<Offload, HeaderError> {
    let field = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let [flags, gso_type, ..] = *header;
    let checksum = if flags & NEEDS_CSUM != 0 {
        partial(field(6), field(8), head)?
    } else if flags & DATA_VALID != 0 {
        Checksum::Verified
    } else {
        Checksum::Complete
    };
    if gso_type == GSO_NONE {
        return Ok(Offload { checksum, gso: None, outer: 0 });
    }
    let kind = match gso_type {
        GSO_TCPV4 => GsoKind::TcpV4,
        GSO_TCPV6 => GsoKind::TcpV6,
        GSO_UDP_L4 => GsoKind::Udp,
        unknown => return Err(HeaderError::GsoType(unknown)),
    };
    let size = field(4);
    if size == 0 {
        return Err(HeaderError::GsoSize);
    }
    let wanted = if kind == GsoKind::Udp { UDP_CHECKSUM } else { TCP_CHECKSUM };
    if !matches!(checksum, Checksum::Partial { offset, .. } if offset == wanted) {
        return Err(HeaderError::GsoChecksum(gso_type));
    }
    Ok(Offload { checksum, gso: Some(Gso { kind, size }), outer: 0 })
}

/// Reads the longer header of a frame whose first segment has `head` bytes.
///
/// # Errors
/// As for [`decode`].
pub fn decode_tunnel(header: &[u8; TUNNEL_HEADER_LEN], head: usize) -> Result<Offload, HeaderError> {
    let field = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let mut plain = [0; HEADER_LEN];
    plain.copy_from_slice(&header[..HEADER_LEN]);
    let is_in_tunnel = plain[1] & (TUNNEL_V4 | TUNNEL_V6) != 0;
    plain[1] &= !(TUNNEL_V4 | TUNNEL_V6);
    let offload = decode(&plain, head)?;
    if !is_in_tunnel {
        return Ok(offload);
    }
    let inner_ip = field(INNER_IP);
    match offload.checksum {
        // Where the outer UDP header is says the kernel wrongly of what it has put together itself: its GRO leaves the mark for layer
        // 4 at the inner one. Before the inner IP header are those of Ethernet, of the tunnel, of UDP, IP and Ethernet.
        Checksum::Partial { start, .. }
            if (FIRST_INNER..=LAST_INNER).contains(&inner_ip) && inner_ip + IPV4 <= start =>
        {
            Ok(Offload { outer: inner_ip - ETHERNET, ..offload })
        }
        Checksum::Partial { start, .. } => Err(HeaderError::Tunnel { inner_ip, start }),
        _ => Err(HeaderError::GsoChecksum(header[1])),
    }
}

fn partial(start: u16, offset: u16, head: usize) -> Result<Checksum, HeaderError> {
    let header = match offset {
        TCP_CHECKSUM => 20,
        UDP_CHECKSUM => 8,
        _ => return Err(HeaderError::Checksum { start, offset, head }),
    };
    if start < FIRST_L4 || usize::from(start) + header > head {
        return Err(HeaderError::Checksum { start, offset, head });
    }
    Ok(Checksum::Partial { start, offset })
}

/// Writes the header for a frame with `offload` whose first bytes are `head`.
pub fn encode(offload: Offload, head: &[u8]) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    let mut put = |at: usize, value: u16| header[at..at + 2].copy_from_slice(&value.to_le_bytes());
    match offload.checksum {
        Checksum::Complete => {}
        Checksum::Verified => header[0] = DATA_VALID,
        Checksum::Partial { start, offset } => {
            put(6, start);
            put(8, offset);
            if let Some(gso) = offload.gso {
                put(2, headers_len(gso.kind, start, head));
                put(4, gso.size);
                header[1] = match gso.kind {
                    GsoKind::TcpV4 => GSO_TCPV4,
                    GsoKind::TcpV6 => GSO_TCPV6,
                    GsoKind::Udp => GSO_UDP_L4,
                };
            }
            header[0] = NEEDS_CSUM;
        }
    }
    header
}

/// Writes the longer header for a frame with `offload` whose first bytes are `head`. A frame in a tunnel that is not large can
/// have but one checksum left to be made: its outer one, if the inner one is complete.
pub fn encode_tunnel(offload: Offload, head: &[u8]) -> [u8; TUNNEL_HEADER_LEN] {
    let mut header = [0; TUNNEL_HEADER_LEN];
    let (udp, has_checksum) = (outer::udp_offset(offload.outer.into()), has_outer_checksum(offload, head));
    let plain = match offload.checksum {
        Checksum::Complete if has_checksum => {
            let checksum = Checksum::Partial { start: udp as u16, offset: UDP_CHECKSUM };
            Offload { checksum, ..offload }
        }
        _ => offload,
    };
    header[..HEADER_LEN].copy_from_slice(&encode(plain, head));
    if offload.outer == 0 || offload.gso.is_none() {
        return header;
    }
    let mut put = |at: usize, value: u16| header[at..at + 2].copy_from_slice(&value.to_le_bytes());
    put(OUTER_UDP, udp as u16);
    put(INNER_IP, offload.outer + ETHERNET);
    header[1] |= if outer::is_v6(udp) { TUNNEL_V6 } else { TUNNEL_V4 };
    header[0] |= if has_checksum { TUNNEL_CSUM } else { 0 };
    header
}

/// Whether an encapsulated frame is to have an outer UDP checksum.
fn has_outer_checksum(offload: Offload, head: &[u8]) -> bool {
    let at = outer::udp_offset(offload.outer.into()) + usize::from(UDP_CHECKSUM);
    offload.outer != 0 && head.get(at..at + 2).is_some_and(|field| *field != [0, 0])
}

/// Bytes of all headers up to layer 4: a hint to the kernel how much to keep contiguous.
fn headers_len(kind: GsoKind, start: u16, head: &[u8]) -> u16 {
    let l4 = match kind {
        GsoKind::Udp => 8,
        // The data offset: the upper four bits of TCP's byte 12, in words.
        GsoKind::TcpV4 | GsoKind::TcpV6 => {
            head.get(usize::from(start) + 12).map_or(20, |byte| u16::from(byte >> 4) * 4)
        }
    };
    start.saturating_add(l4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offloads() -> impl Strategy<Value = Offload> {
        let partial = |offset| (34u16..512).prop_map(move |start| Checksum::Partial { start, offset });
        let (tcp, udp) = (partial(TCP_CHECKSUM), partial(UDP_CHECKSUM));
        let whole = |checksum| Offload { checksum, gso: None, outer: 0 };
        let cut =
            |kinds: Vec<GsoKind>, checksum| {
                (proptest::sample::select(kinds), 1u16.., checksum).prop_map(|(kind, size, checksum)| {
                    Offload { checksum, gso: Some(Gso { kind, size }), outer: 0 }
                })
            };
        prop_oneof![
            Just(Offload::NONE),
            Just(whole(Checksum::Verified)),
            tcp.clone().prop_map(whole),
            udp.clone().prop_map(whole),
            cut(vec![GsoKind::TcpV4, GsoKind::TcpV6], tcp),
            cut(vec![GsoKind::Udp], udp),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(offload in offloads()) {
            prop_assert_eq!(decode(&encode(offload, &[0x50; 1024]), 1024), Ok(offload));
        }

        #[test]
        fn whatever_is_accepted_lies_inside_the_head(header: [u8; HEADER_LEN], head in 0usize..2048) {
            let Ok(offload) = decode(&header, head) else { return Ok(()) };
            if let Checksum::Partial { start, offset } = offload.checksum {
                prop_assert!(usize::from(start) + usize::from(offset) + 2 <= head);
            }
            if let Some(gso) = offload.gso {
                prop_assert!(gso.size != 0);
                let partial = matches!(offload.checksum, Checksum::Partial { .. });
                prop_assert!(partial);
            }
        }

        #[test]
        fn what_is_accepted_is_encoded_to_the_same_meaning(header: [u8; HEADER_LEN]) {
            let Ok(offload) = decode(&header, 2048) else { return Ok(()) };
            prop_assert_eq!(decode(&encode(offload, &[0; 2048]), 2048), Ok(offload));
        }

        #[test]
        fn what_is_encoded_of_a_tunnel_is_decoded(
            offload in offloads(),
            outer in prop::sample::select(vec![0_u16, 50, 70]),
            has_checksum: bool,
        ) {
            let mut head = [0x50; 1024];
            let field = usize::from(outer.max(16)) - 10;
            head[field..field + 2].fill(u8::from(has_checksum));
            let is_in_tunnel = outer != 0 && offload.gso.is_some();
            let offload = match (offload.checksum, is_in_tunnel) {
                (Checksum::Partial { start, offset }, true) => {
                    let checksum = Checksum::Partial { start: start + outer, offset };
                    Offload { checksum, outer, ..offload }
                }
                _ => offload,
            };
            let header = encode_tunnel(offload, &head);
            prop_assert_eq!(decode_tunnel(&header, 1024), Ok(offload));
            prop_assert_eq!(header[0] & TUNNEL_CSUM != 0, is_in_tunnel && has_checksum);
            let family = match outer {
                _ if !is_in_tunnel => 0,
                50 => TUNNEL_V4,
                _ => TUNNEL_V6,
            };
            prop_assert_eq!(header[1] & (TUNNEL_V4 | TUNNEL_V6), family);
        }

        #[test]
        fn whatever_is_accepted_of_a_tunnel_has_its_headers_before_the_inner_ones(
            header: [u8; TUNNEL_HEADER_LEN],
            head in 0usize..2048,
        ) {
            let Ok(offload) = decode_tunnel(&header, head) else { return Ok(()) };
            if offload.outer != 0 {
                let Checksum::Partial { start, .. } = offload.checksum else { panic!("{offload:?}") };
                prop_assert!(offload.gso.is_some() && offload.outer >= FIRST_L4 + UDP);
                prop_assert!(offload.outer + FIRST_L4 <= start && usize::from(start) < head);
            }
        }

        #[test]
        fn encoding_never_panics_on_a_short_head(offload in offloads(), head in 0usize..64) {
            encode(offload, &vec![0xff; head]);
            encode_tunnel(Offload { outer: 50, ..offload }, &vec![0xff; head]);
        }
    }

    #[test]
    fn of_two_checksums_in_a_tunnel_the_outer_one_is_left_to_be_made() {
        let mut head = [0; 128];
        let offload = Offload { outer: 50, ..Offload::NONE };
        assert_eq!(encode_tunnel(offload, &head), [0; TUNNEL_HEADER_LEN]);
        head[40] = 7;
        let header = encode_tunnel(offload, &head);
        let checksum = Checksum::Partial { start: 34, offset: UDP_CHECKSUM };
        assert_eq!(decode_tunnel(&header, 128), Ok(Offload { checksum, ..Offload::NONE }));
    }

    #[test]
    fn the_kernels_word_on_the_outer_udp_header_is_not_needed() {
        // What Linux 6.18 says of two segments of 1398 bytes that it has put together: UDP at 84, where TCP is.
        let header = [1, 0x21, 0, 1, 0x76, 5, 84, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 84, 0, 64, 0];
        let checksum = Checksum::Partial { start: 84, offset: TCP_CHECKSUM };
        let gso = Some(Gso { kind: GsoKind::TcpV4, size: 1398 });
        assert_eq!(decode_tunnel(&header, 2048), Ok(Offload { checksum, gso, outer: 50 }));
        let with = |inner_ip: u8| {
            let mut header = header;
            header[INNER_IP] = inner_ip;
            decode_tunnel(&header, 2048)
        };
        assert_eq!(with(65), Err(HeaderError::Tunnel { inner_ip: 65, start: 84 }));
        assert_eq!(with(55), Err(HeaderError::Tunnel { inner_ip: 55, start: 84 }));
        assert!(with(56).is_ok());
        let far = [1, 0x41, 0, 1, 0x76, 5, 0, 4, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x2c, 2];
        assert_eq!(decode_tunnel(&far, 2048), Err(HeaderError::Tunnel { inner_ip: 556, start: 1024 }));
    }

    #[test]
    fn each_contradiction_is_named() {
        let tcp = [NEEDS_CSUM, GSO_TCPV4, 54, 0, 180, 5, 34, 0, 16, 0];
        assert!(decode(&tcp, 54).is_ok());
        assert_eq!(decode(&tcp, 53), Err(HeaderError::Checksum { start: 34, offset: 16, head: 53 }));
        let edit = |at: usize, value: u8| {
            let mut header = tcp;
            header[at] = value;
            decode(&header, 2048)
        };
        assert_eq!(edit(1, 3), Err(HeaderError::GsoType(3)));
        assert_eq!(edit(1, GSO_TCPV4 | 0x80), Err(HeaderError::GsoType(0x81)));
        assert_eq!(edit(0, 0), Err(HeaderError::GsoChecksum(GSO_TCPV4)));
        assert_eq!(edit(8, 6), Err(HeaderError::GsoChecksum(GSO_TCPV4)));
        assert_eq!(edit(8, 0), Err(HeaderError::Checksum { start: 34, offset: 0, head: 2048 }));
        assert_eq!(edit(6, 14), Err(HeaderError::Checksum { start: 14, offset: 16, head: 2048 }));
        assert_eq!(
            decode(&[NEEDS_CSUM, GSO_TCPV4, 54, 0, 0, 0, 34, 0, 16, 0], 2048),
            Err(HeaderError::GsoSize)
        );
    }
}
