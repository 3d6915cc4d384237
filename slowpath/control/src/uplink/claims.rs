//! What shared uplinks take from the kernel, version by version of the tables.

use super::steering::ClaimInput;
use crate::control::Control;
use crate::driver::Device;
use ipnet::IpNet;
use millrace_fastpath::port::Frame;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

impl<F: Frame> Control<F> {
    /// Has the port of an uplink that was just opened take what is this node's.
    pub(super) fn claim_all(&self, device: &dyn Device) -> Result<(), String> {
        let claimed = self.uplinks.steering.claim_all(device);
        claimed.map_err(|error| format!("claiming this node's packets: {error}"))
    }

    /// Has the uplinks take what is this node's by the tables that were just published.
    pub(crate) fn steer(&mut self) {
        if self.uplinks.is_empty() {
            return;
        }
        let changes = self.uplinks.steering.update(self.claim_input());
        let mut failed = Vec::new();
        for (at, uplink) in self.uplinks.configured.iter().enumerate().filter(|(_, uplink)| !uplink.takes_nic)
        {
            let Some(device) = self.ports.get(&uplink.port.name).and_then(|port| port.device.as_ref()) else {
                continue;
            };
            if let Err(error) = device.steer(&changes) {
                tracing::error!(%error, uplink = %uplink.interface, "steering");
                failed.push(at);
            }
        }
        // Opened anew, it claims all that it should, or is known to be wrong.
        for at in failed {
            self.close_uplink(at, "it cannot be steered", Instant::now());
        }
    }

    fn claim_input(&self) -> ClaimInput {
        let config = &self.config;
        let services = config.cluster.service_cidrs.iter().map(|prefix| prefix.net());
        let local: Vec<IpNet> = self.model.node_pod_ranges().to_vec();
        let attached = config.cni.pod_cidrs.iter().map(|prefix| prefix.net());
        let ranges: Vec<IpNet> = local.iter().copied().chain(attached).chain(services).collect();
        let of_uplinks = self.uplinks.view.iter().flat_map(|view| view.interfaces.values());
        let addresses: BTreeSet<IpAddr> = of_uplinks
            .flat_map(|interface| interface.addresses.iter().map(IpNet::addr))
            .chain(self.model.node_addresses().iter().copied())
            .collect();
        ClaimInput {
            tables: self.current.clone(),
            remote_ranges: self.model.pod_ranges().filter(|range| !ranges.contains(range)).collect(),
            ranges,
            addresses: addresses.into_iter().collect(),
        }
    }
}
