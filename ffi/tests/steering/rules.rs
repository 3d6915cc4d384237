//! What is claimed, said slowly: the reference that the XDP program is compared with.

#![allow(unreachable_pub, reason = "a part of one test program")]

use crate::packet::{Body, Fragment, Packet, UDP};
use millrace_fastpath::port::Claim;
use std::collections::HashSet;
use std::net::IpAddr;

/// Claims as a list, and the datagrams whose first fragment was claimed by its ports.
#[derive(Default)]
pub struct Rules {
    pub claims: Vec<Claim>,
    datagrams: HashSet<(IpAddr, IpAddr, u16, u8)>,
}

/// What a packet's content is looked up by.
#[derive(Clone, Copy)]
enum Name {
    Ports { protocol: u8, destination: u16 },
    EchoReply { id: u16 },
    Nothing,
}

impl Rules {
    /// Whether a packet is taken. Remembers fragments.
    pub fn takes(&mut self, packet: &Packet) -> bool {
        let is_later = packet.fragment.is_some_and(|fragment| fragment.offset > 0);
        if !is_later {
            match &packet.body {
                Body::Discovery { .. } => return false,
                Body::Error { quoted, .. } if self.takes_quote(quoted) => return true,
                _ => {}
            }
        }
        if self.by_address(packet.source, packet.destination) {
            return true;
        }
        let name = match packet.body {
            Body::Ports { protocol, destination, .. } => Name::Ports { protocol, destination },
            Body::Echo { is_reply: true, id } => Name::EchoReply { id },
            _ => Name::Nothing,
        };
        let by_name = self.by_name(packet.destination, name);
        match packet.fragment {
            Some(Fragment { id, offset, more, .. }) if offset > 0 || more => {
                let datagram = (packet.source, packet.destination, id, number(packet));
                match (is_later, by_name) {
                    (true, _) => self.datagrams.contains(&datagram),
                    (false, true) => self.datagrams.insert(datagram) || by_name,
                    (false, false) => self.datagrams.remove(&datagram) && by_name,
                }
            }
            _ => by_name,
        }
    }

    /// Whether an answer to the quoted packet would be taken.
    fn takes_quote(&self, quoted: &Packet) -> bool {
        if self.by_address(quoted.destination, quoted.source) {
            return true;
        }
        if quoted.fragment.is_some_and(|fragment| fragment.offset > 0) {
            return false;
        }
        match quoted.body {
            Body::Ports { protocol, source, destination } => {
                let is_tunnel = |claim: &Claim| {
                    matches!(claim, Claim::Tunnel { address, port }
                    if *address == quoted.source && protocol == UDP && *port == destination)
                };
                let is_frontend = |claim: &Claim| {
                    *claim == Claim::Frontend { address: quoted.source, protocol, port: source }
                };
                self.in_range(quoted.source, source)
                    || self.claims.iter().any(|claim| is_tunnel(claim) || is_frontend(claim))
            }
            Body::Echo { is_reply: false, id } => self.in_range(quoted.source, id),
            _ => false,
        }
    }

    fn by_address(&self, source: IpAddr, destination: IpAddr) -> bool {
        let longest = self
            .claims
            .iter()
            .filter_map(|claim| match claim {
                Claim::Destination(net) if net.contains(&destination) => Some((net.prefix_len(), true)),
                Claim::Returned(net) if net.contains(&destination) => Some((net.prefix_len(), false)),
                _ => None,
            })
            .max();
        if longest.is_some_and(|(_, is_ours)| is_ours) {
            return true;
        }
        let is_host = self.claims.contains(&Claim::Host(destination));
        is_host
            && self.claims.iter().any(|claim| matches!(claim, Claim::Source(net) if net.contains(&source)))
    }

    fn by_name(&self, to: IpAddr, name: Name) -> bool {
        match name {
            Name::Ports { protocol, destination } => {
                self.in_range(to, destination)
                    || self.claims.contains(&Claim::Frontend { address: to, protocol, port: destination })
                    || protocol == UDP
                        && self.claims.contains(&Claim::Tunnel { address: to, port: destination })
            }
            Name::EchoReply { id } => self.in_range(to, id),
            Name::Nothing => false,
        }
    }

    fn in_range(&self, to: IpAddr, number: u16) -> bool {
        self.claims.iter().any(|claim| {
            matches!(claim, Claim::SourcePorts { address, first, last }
            if *address == to && (*first..=*last).contains(&number))
        })
    }
}

/// The protocol's number, by which IPv4 tells datagrams apart, too.
fn number(packet: &Packet) -> u8 {
    match packet.body {
        _ if packet.is_v6() => 0,
        Body::Ports { protocol, .. } => protocol,
        Body::Other => 89,
        _ => 1,
    }
}
