//! The frames: one for each flow and size, made from a template by changing the source and its checksum.

use ipnet::IpNet;
use millrace_fastpath::wire::{Delta, EtherType, IpProtocol, MacAddr, Sum, ethernet, ipv4, ipv6, tcp, udp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use thiserror::Error;

/// Source ports of an address: from 1024 on.
const FIRST_PORT: u32 = 1024;
const PORTS: u32 = 1 << 15;
/// What marks our frames, before the time.
const MARK: [u8; 2] = *b"mr";
/// Mark, time, and the time's complement, which makes the checksum the same for all times.
const STAMP: usize = 18;

/// Layer 4 of the frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// UDP datagrams.
    Udp,
    /// TCP segments with ACK, without a handshake.
    Tcp,
}

impl FromStr for Protocol {
    type Err = StreamError;

    fn from_str(text: &str) -> Result<Self, StreamError> {
        match text {
            "udp" => Ok(Protocol::Udp),
            "tcp" => Ok(Protocol::Tcp),
            other => Err(StreamError::Protocol(other.to_owned())),
        }
    }
}

/// Bytes of the frames, without FCS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sizes(Vec<u16>);

impl FromStr for Sizes {
    type Err = StreamError;

    fn from_str(text: &str) -> Result<Self, StreamError> {
        if text == "imix" {
            // Spread, so that no burst is all large or all small.
            return Ok(Sizes(vec![60, 590, 60, 60, 590, 60, 1514, 60, 590, 60, 590, 60]));
        }
        let size = text.parse().ok().filter(|size| (60..=1514).contains(size));
        size.map(|size| Sizes(vec![size])).ok_or_else(|| StreamError::Size(text.to_owned()))
    }
}

/// Why there can be no such stream.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum StreamError {
    /// Not a protocol.
    #[error("protocol '{0}': udp or tcp")]
    Protocol(String),
    /// Not a size.
    #[error("size '{0}': 60 to 1514 bytes, or imix")]
    Size(String),
    /// One family to another.
    #[error("from {from} to {to}: different IP versions")]
    Families {
        /// Source.
        from: IpNet,
        /// Destination.
        to: IpAddr,
    },
    /// Too small for headers and the time stamp.
    #[error("frames of {size} bytes are too small: {least} at least")]
    TooSmall {
        /// Asked for.
        size: u16,
        /// Needed.
        least: usize,
    },
}

/// Frames of many flows to one destination.
#[derive(Clone, Debug)]
pub struct Stream {
    templates: Vec<Vec<u8>>,
    base: IpNet,
    hosts: u32,
    l4: usize,
    checksum: usize,
    udp: bool,
}

impl Stream {
    /// From every address of `source`, in turn, to one address and port.
    pub fn try_new(
        macs: (MacAddr, MacAddr),
        source: IpNet,
        destination: (IpAddr, u16),
        protocol: Protocol,
        sizes: &Sizes,
    ) -> Result<Stream, StreamError> {
        let to = destination.0;
        if source.addr().is_ipv4() != to.is_ipv4() {
            return Err(StreamError::Families { from: source, to });
        }
        let l4 = ethernet::LEN + if to.is_ipv4() { ipv4::LEN } else { ipv6::LEN };
        let (header, checksum) = match protocol {
            Protocol::Udp => (udp::LEN, 6),
            Protocol::Tcp => (tcp::LEN, 16),
        };
        // IPv6 and TCP have larger headers: the smallest frame that has room for the stamp is taken instead.
        let least = l4 + header + STAMP;
        let templates = sizes.0.iter().map(|&size| {
            let size = if size == 60 { least.max(60) } else { usize::from(size) };
            if size < least {
                return Err(StreamError::TooSmall { size: size as u16, least });
            }
            Ok(template(macs, source.network(), destination, protocol, size, l4))
        });
        let free_bits = u32::from(source.max_prefix_len() - source.prefix_len()).min(16);
        Ok(Stream {
            templates: templates.collect::<Result<_, _>>()?,
            base: source.trunc(),
            hosts: 1 << free_bits,
            l4,
            checksum: l4 + checksum,
            udp: protocol == Protocol::Udp,
        })
    }

    /// Writes the frame of flow `flow`, number `number` in all, sent at `nanos`; gives its length.
    pub fn write(&self, flow: u64, number: u64, nanos: u64, into: &mut [u8; 1514]) -> usize {
        let template = &self.templates[(number % self.templates.len() as u64) as usize];
        let frame = &mut into[..template.len()];
        frame.copy_from_slice(template);
        let host = ((flow / u64::from(PORTS)) % u64::from(self.hosts)) as u32;
        let port = (FIRST_PORT + (flow % u64::from(PORTS)) as u32) as u16;
        // The last 32 bits of the source address.
        let end = self.source_end();
        let old = u32::from_be_bytes([frame[end - 4], frame[end - 3], frame[end - 2], frame[end - 1]]);
        let new = old + host;
        frame[end - 4..end].copy_from_slice(&new.to_be_bytes());
        frame[self.l4..self.l4 + 2].copy_from_slice(&port.to_be_bytes());
        let address = Delta::of_u32(old, new);
        let delta = address.join(Delta::of_u16(FIRST_PORT as u16, port));
        let field = [frame[self.checksum], frame[self.checksum + 1]];
        let changed = if self.udp { delta.apply_udp(field) } else { delta.apply(field) };
        frame[self.checksum..self.checksum + 2].copy_from_slice(&changed);
        if self.base.addr().is_ipv4() {
            let changed = address.apply([frame[24], frame[25]]);
            frame[24..26].copy_from_slice(&changed);
        }
        let stamp = frame.len() - STAMP;
        frame[stamp + 2..stamp + 10].copy_from_slice(&nanos.to_be_bytes());
        frame[stamp + 10..].copy_from_slice(&(!nanos).to_be_bytes());
        template.len()
    }

    fn source_end(&self) -> usize {
        if self.base.addr().is_ipv4() { 30 } else { 38 }
    }

    /// When one of our frames was sent; `None` for others.
    pub fn sent_at(frame: &[u8]) -> Option<u64> {
        let (_, stamp) = frame.split_last_chunk::<STAMP>()?;
        let (mark, times) = stamp.split_first_chunk::<2>()?;
        let sent = u64::from_be_bytes(*times.first_chunk()?);
        let complement = u64::from_be_bytes(*times.last_chunk()?);
        (*mark == MARK && sent == !complement).then_some(sent)
    }
}

fn template(
    macs: (MacAddr, MacAddr),
    source: IpAddr,
    destination: (IpAddr, u16),
    protocol: Protocol,
    size: usize,
    l4: usize,
) -> Vec<u8> {
    let mut frame = vec![0; size];
    let ether_type = if source.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
    let (link, rest) = frame.split_at_mut(ethernet::LEN);
    if let Ok(link) = link.try_into() {
        ethernet::Fields { destination: macs.1, source: macs.0, ether_type }.emit(link);
    }
    let (ip, segment) = rest.split_at_mut(l4 - ethernet::LEN);
    let number = match protocol {
        Protocol::Udp => IpProtocol::UDP,
        Protocol::Tcp => IpProtocol::TCP,
    };
    let len = segment.len() as u16;
    let pseudo = match (source, destination.0) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => emit_v4(ip, source, destination, number, len),
        (IpAddr::V6(source), IpAddr::V6(destination)) => emit_v6(ip, source, destination, number, len),
        // `Stream::try_new` has refused this.
        _ => Sum::ZERO,
    };
    let stamp = segment.len() - STAMP;
    segment[stamp..stamp + 2].copy_from_slice(&MARK);
    segment[stamp + 10..].fill(0xff);
    segment[..2].copy_from_slice(&(FIRST_PORT as u16).to_be_bytes());
    segment[2..4].copy_from_slice(&destination.1.to_be_bytes());
    match protocol {
        Protocol::Udp => {
            segment[4..6].copy_from_slice(&len.to_be_bytes());
            let checksum = pseudo.add_bytes(segment).checksum_udp();
            segment[6..8].copy_from_slice(&checksum);
        }
        Protocol::Tcp => {
            // Five words of header, ACK, a full window.
            segment[12..16].copy_from_slice(&[0x50, 0x10, 0xff, 0xff]);
            let checksum = pseudo.add_bytes(segment).checksum();
            segment[16..18].copy_from_slice(&checksum);
        }
    }
    frame
}

fn emit_v4(ip: &mut [u8], source: Ipv4Addr, destination: Ipv4Addr, protocol: IpProtocol, len: u16) -> Sum {
    let fields = ipv4::Fields {
        source,
        destination,
        protocol,
        ttl: ipv4::DEFAULT_TTL,
        traffic_class: 0,
        identification: 0,
        do_not_fragment: true,
        payload_len: len,
    };
    if let Ok(ip) = ip.try_into() {
        fields.emit(ip);
    }
    Sum::pseudo_v4(source, destination, protocol, len)
}

fn emit_v6(ip: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr, protocol: IpProtocol, len: u16) -> Sum {
    let fields = ipv6::Fields {
        source,
        destination,
        next_header: protocol,
        hop_limit: ipv6::DEFAULT_HOP_LIMIT,
        traffic_class: 0,
        payload_len: len,
    };
    if let Ok(ip) = ip.try_into() {
        fields.emit(ip);
    }
    Sum::pseudo_v6(source, destination, protocol, u32::from(len))
}
