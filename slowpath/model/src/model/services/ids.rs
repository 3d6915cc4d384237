//! Numbers of service ports.

use crate::object::{ObjectName, Transport};
use crate::view::ServicePortName;
use millrace_fastpath::tables::ServiceId;
use std::collections::{BTreeMap, BTreeSet};

/// Service ports with their numbers. A number follows from the name, so that it is the same after a restart, on every
/// node, and when a service port comes back: flows and affinities that outlive the process still find their service.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    ids: BTreeMap<ServicePortName, ServiceId>,
    names: BTreeMap<ServiceId, ServicePortName>,
}

impl Ids {
    /// The service port that an id names.
    pub(crate) fn name(&self, id: ServiceId) -> Option<&ServicePortName> {
        self.names.get(&id)
    }

    /// The id of a service port that has one.
    pub(crate) fn get(&self, name: &ServicePortName) -> Option<ServiceId> {
        self.ids.get(name).copied()
    }

    /// The id of a service port, from now on.
    pub(in crate::model) fn claim(&mut self, name: ServicePortName) -> ServiceId {
        if let Some(id) = self.get(&name) {
            return id;
        }
        let id = free_from(digest(&name), |id| self.names.contains_key(&id));
        self.names.insert(id, name.clone());
        self.ids.insert(name, id);
        id
    }

    /// Forgets the ids of a service's ports that are no more.
    pub(super) fn keep_only(&mut self, service: &ObjectName, kept: &BTreeSet<ServiceId>) {
        let from =
            ServicePortName { service: service.clone(), port: String::new(), protocol: Transport::Tcp };
        let of_service = self.ids.range(from..).take_while(|(name, _)| name.service == *service);
        let gone: Vec<ServiceId> = of_service.map(|(_, id)| *id).filter(|id| !kept.contains(id)).collect();
        for id in gone {
            if let Some(name) = self.names.remove(&id) {
                self.ids.remove(&name);
            }
        }
    }
}

/// The first free id from a wanted one on. Two names that want the same one are so rare (one pair among 10,000 ports in
/// one of a hundred clusters) that the second may depend on which came first.
fn free_from(wanted: u32, is_taken: impl Fn(ServiceId) -> bool) -> ServiceId {
    let mut id = ServiceId(wanted);
    while id == ServiceId::NONE || is_taken(id) {
        id = ServiceId(id.0.wrapping_add(1));
    }
    id
}

/// FNV-1a in 64 bits (RFC 9923) of `namespace/name:port/protocol`, folded to 32.
fn digest(name: &ServicePortName) -> u32 {
    let ServicePortName { service, port, protocol } = name;
    let text = format!("{}/{}:{port}/{protocol}", service.namespace, service.name);
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    (hash >> 32) as u32 ^ hash as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(port: &str, protocol: Transport) -> ServicePortName {
        ServicePortName { service: ObjectName::new("ns", "web"), port: port.into(), protocol }
    }

    #[test]
    fn an_id_follows_from_the_name_alone() {
        let (mut a, mut b) = (Ids::default(), Ids::default());
        let (http, dns) = (name("http", Transport::Tcp), name("dns", Transport::Udp));
        let first = a.claim(http.clone());
        assert_ne!(a.claim(dns.clone()), first);
        b.claim(dns);
        assert_eq!(b.claim(http.clone()), first, "whatever came before");
        assert_ne!(a.claim(name("http", Transport::Sctp)), first, "a protocol is part of the name");
        a.keep_only(&http.service, &BTreeSet::new());
        assert_eq!((a.get(&http), a.name(first)), (None, None));
        assert_eq!(a.claim(http), first, "also when it comes back");
    }

    #[test]
    fn the_digest_is_the_published_one() {
        // From the 64-bit FNV-1a of "ns/web:http/TCP", worked out elsewhere.
        assert_eq!(digest(&name("http", Transport::Tcp)), 0xd506296e);
    }

    #[test]
    fn ids_that_are_taken_are_passed_over_and_none_is_zero() {
        assert_eq!(free_from(7, |id| id.0 < 10), ServiceId(10));
        assert_eq!(free_from(u32::MAX, |id| id.0 == u32::MAX), ServiceId(1));
        assert_eq!(free_from(0, |_| false), ServiceId(1));
    }
}
