//! The reset that answers a TCP segment for which there is no connection (RFC 9293, section 3.10.7.1).

use super::parse::{Addresses, L4Kind, Parsed};
use super::tcp::{self, Flags};
use super::{HeaderError, IpProtocol, Sum, ipv4, ipv6};

#[cfg(test)]
mod tests;

/// Bytes of a reset over IPv4, from the IP header on.
pub const LEN_V4: usize = ipv4::LEN + tcp::LEN;
/// Bytes of a reset over IPv6, from the IP header on.
pub const LEN_V6: usize = ipv6::LEN + tcp::LEN;

/// A reset to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reset {
    /// From the segment's destination to its source.
    pub addresses: Addresses,
    /// The TCP header.
    pub header: tcp::Fields,
}

impl Reset {
    /// The answer to the segment in the frame whose head is `head`. None when it is not a whole TCP header, or is a
    /// reset itself, which is never answered.
    pub fn answering(head: &[u8], parsed: &Parsed) -> Option<Reset> {
        if parsed.kind != L4Kind::Tcp {
            return None;
        }
        let segment = tcp::Header::new_checked(head.get(usize::from(parsed.l4)..)?).ok()?;
        let flags = segment.flags();
        if flags.contains(Flags::RST) {
            return None;
        }
        let (sequence, acknowledgment, reset) = if flags.contains(Flags::ACK) {
            (segment.acknowledgment(), 0, Flags::RST)
        } else {
            // SYN and FIN count as one byte each.
            let data = parsed.l4_len().saturating_sub(segment.header_len() as u32);
            let len = data + u32::from(flags.contains(Flags::SYN)) + u32::from(flags.contains(Flags::FIN));
            (0, segment.sequence().wrapping_add(len), Flags::RST | Flags::ACK)
        };
        let header = tcp::Fields {
            source_port: segment.destination_port(),
            destination_port: segment.source_port(),
            sequence,
            acknowledgment,
            flags: reset,
            window: 0,
        };
        Some(Reset { addresses: parsed.addresses.reversed(), header })
    }

    /// Bytes of the packet, from the IP header on.
    pub const fn packet_len(&self) -> usize {
        match self.addresses {
            Addresses::V4 { .. } => LEN_V4,
            Addresses::V6 { .. } => LEN_V6,
        }
    }

    /// Writes the packet, from the IP header on, over the first [`packet_len`](Reset::packet_len) bytes of `into`.
    pub fn emit(&self, into: &mut [u8]) -> Result<(), HeaderError> {
        let too_short = HeaderError::Truncated { needed: self.packet_len(), had: into.len() };
        let payload_len = tcp::LEN as u16;
        match self.addresses {
            Addresses::V4 { source, destination } => {
                let (ip, rest) = into.split_first_chunk_mut().ok_or(too_short)?;
                let tcp = rest.first_chunk_mut().ok_or(too_short)?;
                let header = ipv4::Fields {
                    source,
                    destination,
                    protocol: IpProtocol::TCP,
                    ttl: ipv4::DEFAULT_TTL,
                    traffic_class: 0,
                    // An atomic datagram's identification means nothing (RFC 6864).
                    identification: 0,
                    do_not_fragment: true,
                    payload_len,
                };
                header.emit(ip);
                self.emit_tcp(tcp, Sum::pseudo_v4(source, destination, IpProtocol::TCP, payload_len));
            }
            Addresses::V6 { source, destination } => {
                let (ip, rest) = into.split_first_chunk_mut().ok_or(too_short)?;
                let tcp = rest.first_chunk_mut().ok_or(too_short)?;
                let header = ipv6::Fields {
                    source,
                    destination,
                    next_header: IpProtocol::TCP,
                    hop_limit: ipv6::DEFAULT_HOP_LIMIT,
                    traffic_class: 0,
                    payload_len,
                };
                header.emit(ip);
                self.emit_tcp(tcp, Sum::pseudo_v6(source, destination, IpProtocol::TCP, payload_len.into()));
            }
        }
        Ok(())
    }

    fn emit_tcp(&self, into: &mut [u8; tcp::LEN], pseudo: Sum) {
        self.header.emit(into);
        [into[16], into[17]] = pseudo.add_bytes(into).checksum();
    }
}
