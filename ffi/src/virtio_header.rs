//! `struct virtio_net_hdr` as Linux's TAP and packet sockets use it (include/uapi/linux/virtio_net.h), and [`Offload`].
//!
//! Ten bytes, little-endian: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset.

use millrace_fastpath::port::{Checksum, Gso, GsoKind, Offload};
use thiserror::Error;

/// Bytes of the header before each packet: without `num_buffers`, which neither has a use for.
pub const HEADER_LEN: usize = 10;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;

/// Bytes from the layer 4 header to its checksum.
const TCP_CHECKSUM: u16 = 16;
const UDP_CHECKSUM: u16 = 6;

/// Layer 4 can begin no earlier than after an Ethernet and an IPv4 header.
const FIRST_L4: u16 = 14 + 20;

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
        fn encoding_never_panics_on_a_short_head(offload in offloads(), head in 0usize..64) {
            encode(offload, &vec![0xff; head]);
        }
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
