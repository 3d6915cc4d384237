//! Who owns which address: ports, pods and this node.

use crate::object::{ObjectName, Pod};
use crate::port::PortSpec;
use ipnet::IpNet;
use millrace_fastpath::port::PortId;
use std::collections::{BTreeMap, BTreeSet};

/// Ports and pods, and which ports changed.
#[derive(Debug, Default)]
pub(crate) struct AddressIndex {
    pub(crate) ports: BTreeMap<PortId, PortSpec>,
    pub(crate) pods: BTreeMap<ObjectName, Pod>,
    by_pod: BTreeMap<ObjectName, BTreeSet<PortId>>,
    pub(crate) dirty: BTreeSet<PortId>,
}

impl AddressIndex {
    pub(crate) fn apply_port(&mut self, port: PortSpec) {
        if self.ports.get(&port.id) == Some(&port) {
            return;
        }
        self.delete_port(port.id);
        if let Some(pod) = &port.pod {
            self.by_pod.entry(pod.clone()).or_default().insert(port.id);
        }
        self.dirty.insert(port.id);
        self.ports.insert(port.id, port);
    }

    pub(crate) fn delete_port(&mut self, id: PortId) {
        let Some(port) = self.ports.remove(&id) else { return };
        self.dirty.insert(id);
        if let Some(pod) = port.pod
            && let Some(ports) = self.by_pod.get_mut(&pod)
        {
            ports.remove(&id);
            if ports.is_empty() {
                self.by_pod.remove(&pod);
            }
        }
    }

    pub(crate) fn apply_pod(&mut self, pod: Pod) {
        let before = self.pods.get(&pod.name).map_or(&[][..], Pod::own_ips);
        if before != pod.own_ips() {
            self.dirty.extend(self.by_pod.get(&pod.name).into_iter().flatten());
        }
        self.pods.insert(pod.name.clone(), pod);
    }

    pub(crate) fn delete_pod(&mut self, name: &ObjectName) {
        if self.pods.remove(name).is_some() {
            self.dirty.extend(self.by_pod.get(name).into_iter().flatten());
        }
    }

    /// All prefixes that a port owns, its pod's addresses among them.
    pub(crate) fn prefixes_of(&self, port: &PortSpec) -> BTreeSet<IpNet> {
        let pod = port.pod.as_ref().and_then(|name| self.pods.get(name));
        let ips = pod.map_or(&[][..], Pod::own_ips).iter().map(|&ip| IpNet::from(ip));
        port.addresses.iter().map(IpNet::trunc).chain(ips).collect()
    }
}
