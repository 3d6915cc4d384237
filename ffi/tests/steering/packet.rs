//! Packets to be steered, as data and as bytes.

#![allow(unreachable_pub, reason = "a part of one test program")]

use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;

/// An IP packet.
#[derive(Clone, Debug)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// IPv4: words of options. IPv6: destination options headers before the rest.
    pub extensions: u8,
    pub fragment: Option<Fragment>,
    pub body: Body,
}

#[derive(Clone, Copy, Debug)]
pub struct Fragment {
    pub id: u16,
    /// In units of eight bytes.
    pub offset: u16,
    pub more: bool,
    /// IPv6: a destination options header comes behind the fragment header.
    pub has_options: bool,
}

#[derive(Clone, Debug)]
pub enum Body {
    Ports {
        protocol: u8,
        source: u16,
        destination: u16,
    },
    Echo {
        is_reply: bool,
        id: u16,
    },
    /// An ICMP error with this type.
    Error {
        kind: u8,
        quoted: Box<Packet>,
    },
    /// ICMPv6 133 to 137.
    Discovery {
        kind: u8,
    },
    /// Another protocol.
    Other,
}

impl Packet {
    pub fn is_v6(&self) -> bool {
        self.source.is_ipv6()
    }

    /// The Ethernet frame.
    pub fn frame(&self) -> Vec<u8> {
        let kind: u16 = if self.is_v6() { 0x86dd } else { 0x0800 };
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        frame.extend(kind.to_be_bytes());
        frame.extend(self.bytes());
        frame
    }

    fn bytes(&self) -> Vec<u8> {
        let (protocol, body) = self.body(self.is_v6());
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.ipv4(source, destination, protocol, &body),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.ipv6(source, destination, protocol, &body),
            _ => panic!("two families in one packet"),
        }
    }

    fn body(&self, is_v6: bool) -> (u8, Vec<u8>) {
        let icmp = if is_v6 { 58 } else { 1 };
        match &self.body {
            Body::Ports { protocol, source, destination } => {
                (*protocol, [source.to_be_bytes(), destination.to_be_bytes(), [0, 12], [0, 0]].concat())
            }
            Body::Echo { is_reply, id } => {
                let kind = match (is_v6, is_reply) {
                    (false, false) => 8,
                    (false, true) => 0,
                    (true, false) => 128,
                    (true, true) => 129,
                };
                (icmp, [[kind, 0], [0, 0], id.to_be_bytes(), [0, 1]].concat())
            }
            Body::Error { kind, quoted } => {
                let mut bytes = vec![*kind, 0, 0, 0, 0, 0, 0, 0];
                bytes.extend(quoted.bytes());
                (icmp, bytes)
            }
            Body::Discovery { kind } => (icmp, vec![*kind, 0, 0, 0, 0, 0, 0, 0]),
            Body::Other => (89, vec![0; 24]),
        }
    }

    fn ipv4(&self, source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, body: &[u8]) -> Vec<u8> {
        let words = 5 + self.extensions;
        let total = u16::from(words) * 4 + body.len() as u16;
        let (id, place) = self.fragment.map_or((0, 0), |fragment| {
            (fragment.id, fragment.offset | if fragment.more { 0x2000 } else { 0 })
        });
        let mut bytes = vec![0x40 | words, 0];
        bytes.extend(total.to_be_bytes());
        bytes.extend(id.to_be_bytes());
        bytes.extend(place.to_be_bytes());
        bytes.extend([64, protocol, 0, 0]);
        bytes.extend(source.octets());
        bytes.extend(destination.octets());
        bytes.extend(std::iter::repeat_n(1, usize::from(self.extensions) * 4));
        bytes.extend(body);
        bytes
    }

    fn ipv6(&self, source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, body: &[u8]) -> Vec<u8> {
        let mut kinds = vec![60; usize::from(self.extensions)];
        kinds.extend(self.fragment.map(|_| 44));
        kinds.extend(self.fragment.filter(|fragment| fragment.has_options).map(|_| 60));
        kinds.push(protocol);
        let mut payload = Vec::new();
        for next in &kinds[1..] {
            let is_fragment = payload.len() == usize::from(self.extensions) * 16;
            match self.fragment.filter(|_| is_fragment) {
                Some(Fragment { id, offset, more, .. }) => {
                    payload.extend([*next, 0]);
                    payload.extend((offset << 3 | u16::from(more)).to_be_bytes());
                    payload.extend([0, 0]);
                    payload.extend(id.to_be_bytes());
                }
                None => payload.extend([*next, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            }
        }
        payload.extend(body);
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend([kinds[0], 64]);
        bytes.extend(source.octets());
        bytes.extend(destination.octets());
        bytes.extend(payload);
        bytes
    }
}

/// One of few addresses, so that claims are met often.
pub fn address(is_v6: bool) -> BoxedStrategy<IpAddr> {
    (0..3_u8, 0..4_u8)
        .prop_map(move |(net, host)| match is_v6 {
            false => Ipv4Addr::new(10, net, net, host).into(),
            true => Ipv6Addr::new(0xfd00, 0, 0, u16::from(net), 0, 0, 0, u16::from(host)).into(),
        })
        .boxed()
}

/// One of few ports, at both sides of the edges of ranges.
pub fn port() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![80, 443, 4789, 30_000, 49_151, 49_152, 50_000, 65_535])
}

pub fn protocol() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![TCP, UDP, SCTP])
}

fn fragment() -> impl Strategy<Value = Option<Fragment>> {
    let some = (0..4_u16, prop::sample::select(vec![0, 1, 185]), any::<bool>(), any::<bool>());
    let some = some.prop_map(|(id, offset, more, has_options)| Fragment { id, offset, more, has_options });
    prop::option::weighted(0.4, some)
}

fn plain_body() -> BoxedStrategy<Body> {
    prop_oneof![
        6 => (protocol(), port(), port())
            .prop_map(|(protocol, source, destination)| Body::Ports { protocol, source, destination }),
        2 => (any::<bool>(), port()).prop_map(|(is_reply, id)| Body::Echo { is_reply, id }),
        1 => Just(Body::Other),
    ]
    .boxed()
}

fn packet_with(is_v6: bool, body: BoxedStrategy<Body>) -> BoxedStrategy<Packet> {
    (address(is_v6), address(is_v6), 0..5_u8, fragment(), body)
        .prop_map(|(source, destination, extensions, fragment, body)| Packet {
            source,
            destination,
            extensions,
            fragment,
            body,
        })
        .boxed()
}

/// Any packet that a reference can say something about.
pub fn packet() -> impl Strategy<Value = Packet> {
    any::<bool>().prop_flat_map(|is_v6| {
        let kinds = if is_v6 { vec![1, 2, 3, 4] } else { vec![3, 11, 12] };
        let quoted = packet_with(is_v6, plain_body()).prop_map(Box::new);
        let error =
            (prop::sample::select(kinds), quoted).prop_map(|(kind, quoted)| Body::Error { kind, quoted });
        let discovery = (133..138_u8).prop_map(|kind| Body::Discovery { kind });
        let body = match is_v6 {
            true => prop_oneof![6 => plain_body(), 4 => error, 1 => discovery].boxed(),
            false => prop_oneof![6 => plain_body(), 4 => error].boxed(),
        };
        packet_with(is_v6, body)
    })
}
