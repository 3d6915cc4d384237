//! Which packets on an uplink are this node's data path's, and which the host's.
//!
//! The same as what an uplink that is shared with the kernel is told to take
//! ([`Claim`](crate::port)), asked of one packet: for an uplink whose NIC the kernel has lost.

use super::{Address, FrontendKey, PortRole, TableSet};
use crate::wire::IpProtocol;
use crate::wire::parse::{IcmpEcho, L4Kind, Parsed};

impl TableSet {
    /// Whether a packet that came by an uplink is the data path's. `quoted`: of an ICMP error the packet that it is
    /// about. Encapsulated packets and later fragments are not looked at here.
    pub fn claims(&self, packet: &Parsed, quoted: Option<&Parsed>) -> bool {
        let (source, destination) = ends(packet);
        if self.claims_destination(destination) || self.is_pod_to_host(source, destination) {
            return true;
        }
        match packet.kind {
            L4Kind::Tcp | L4Kind::Udp | L4Kind::Sctp => {
                self.claims_port(destination, packet.protocol, packet.destination_port)
            }
            L4Kind::IcmpEcho(IcmpEcho::Reply) => self.is_masqueraded(destination, packet.destination_port),
            L4Kind::IcmpError => quoted.is_some_and(|quoted| self.claims_error_about(quoted)),
            L4Kind::IcmpEcho(IcmpEcho::Request) | L4Kind::IcmpOther | L4Kind::Fragment | L4Kind::Other => {
                false
            }
        }
    }

    /// Whether an address is one that this node's own network stack has.
    pub fn leads_to_host(&self, address: Address) -> bool {
        self.role_toward(address) == Some(PortRole::Host)
    }

    /// Who is behind the port that leads to an address.
    pub fn role_toward(&self, address: Address) -> Option<PortRole> {
        let port = self.routes.port_toward(address)?;
        self.ports.get(port).map(|port| port.role)
    }

    /// A pod's address, in use or not, or a ClusterIP.
    fn claims_destination(&self, address: Address) -> bool {
        match self.role_toward(address) {
            Some(PortRole::Pod) => true,
            Some(PortRole::Host) => false,
            Some(PortRole::Uplink) | None => {
                self.pod_ranges.contains(address) || self.services.is_service_address(address)
            }
        }
    }

    /// Whether another node's pod speaks to this node itself: it does so by a flow, which ends at the host's leg.
    fn is_pod_to_host(&self, source: Address, destination: Address) -> bool {
        self.pod_ranges.contains(source) && self.leads_to_host(destination)
    }

    fn claims_port(&self, address: Address, protocol: IpProtocol, port: u16) -> bool {
        let key = FrontendKey { address, port, protocol: protocol.0 };
        self.services.frontend(&key).is_some() || self.is_masqueraded(address, port)
    }

    /// Whether masqueraded connections leave from this address and port (of an echo, the identifier).
    fn is_masqueraded(&self, address: Address, port: u16) -> bool {
        let masquerade = &self.masquerade;
        let is_ours = masquerade.ipv4.map(Address::from) == Some(address)
            || masquerade.ipv6.map(Address::from) == Some(address);
        is_ours && (masquerade.ports.first..=masquerade.ports.last).contains(&port)
    }

    /// Whether an error about this packet is the data path's: if what answers the packet would be, or the packet is one of
    /// our own encapsulated ones.
    fn claims_error_about(&self, quoted: &Parsed) -> bool {
        let (source, destination) = ends(quoted);
        let has_ports = matches!(quoted.kind, L4Kind::Tcp | L4Kind::Udp | L4Kind::Sctp);
        self.claims_destination(source)
            || self.is_pod_to_host(destination, source)
            || (has_ports && self.claims_port(source, quoted.protocol, quoted.source_port))
            || (quoted.kind == L4Kind::IcmpEcho(IcmpEcho::Request)
                && self.is_masqueraded(source, quoted.source_port))
            || self.is_own_tunnelled(quoted)
    }

    /// Whether this is a packet that this node has put into a tunnel, from its outer header on.
    pub fn is_own_tunnelled(&self, outer: &Parsed) -> bool {
        let (source, _) = ends(outer);
        self.tunnels.vtep().is_some_and(|vtep| {
            outer.kind == L4Kind::Udp
                && outer.destination_port == vtep.udp_port
                && vtep.addresses.contains(&source)
        })
    }
}

/// Source and destination.
fn ends(packet: &Parsed) -> (Address, Address) {
    (packet.addresses.source().into(), packet.addresses.destination().into())
}
