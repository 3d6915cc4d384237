//! Ports.

use super::drops;
use crate::control::Control;
use crate::driver::Link;
use crate::port::{Port, PortError};
use ipnet::IpNet;
use millrace_api::{LinkState, PortCounts, PortList};
use millrace_config::PortName;
use millrace_fastpath::port::{Frame, PortId};

impl<F: Frame> Control<F> {
    /// All ports, by name.
    pub fn list_ports(&self) -> PortList {
        PortList { ports: self.ports.values().map(|port| self.describe(port)).collect() }
    }

    /// One port.
    pub fn show_port(&self, name: &PortName) -> Result<millrace_api::Port, PortError> {
        let port = self.ports.get(name).ok_or_else(|| PortError::Unknown(name.clone()))?;
        Ok(self.describe(port))
    }

    pub(crate) fn port_name(&self, id: PortId) -> Option<String> {
        self.ports.values().find(|port| port.id == id).map(|port| port.config.name.to_string())
    }

    pub(super) fn ports_up(&self) -> usize {
        let up = |port: &&Port| port.device.as_ref().is_some_and(|device| device.link() == Link::Up);
        self.ports.values().filter(up).count()
    }

    /// Uplinks that are open and carry something.
    pub(super) fn uplinks_up(&self) -> usize {
        self.model.uplinks().iter().filter(|uplink| uplink.is_up).count()
    }

    fn describe(&self, port: &Port) -> millrace_api::Port {
        // A pod may have become known, or have got another family, after its port.
        let addresses = self.prefixes_of(port.id);
        let own = |net: &&IpNet| port.config.addresses.iter().any(|prefix| prefix.net() == **net);
        let pod_ips = addresses.iter().filter(|net| !own(net)).map(|net| net.addr()).collect();
        let uplink = self.model.uplink(port.id);
        let shown: Vec<IpNet> = uplink.map_or_else(|| addresses.to_vec(), |uplink| uplink.addresses.clone());
        let device = port.device.as_ref();
        // Before its totals are read, it may have to bring in what the kernel has counted.
        let link = device.map(|device| device.link());
        let totals = port.counters.totals();
        millrace_api::Port {
            config: port.config.clone(),
            number: port.id.0.into(),
            mac: uplink.map_or_else(|| port.config.peer_mac().to_string(), |uplink| uplink.mac.to_string()),
            mtu: port.mtu,
            link: match link {
                Some(Link::Up) => LinkState::Up,
                Some(Link::Down(reason)) => LinkState::Down { reason },
                None => LinkState::Down { reason: "closed".to_owned() },
            },
            addresses: shown.iter().map(ToString::to_string).collect(),
            pod_ips,
            workers: port.workers.iter().map(|worker| worker.0.into()).collect(),
            details: device
                .map(|device| device.details())
                .unwrap_or_default()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            counts: PortCounts {
                rx_frames: totals.rx_frames,
                rx_bytes: totals.rx_bytes,
                tx_frames: totals.tx_frames,
                tx_bytes: totals.tx_bytes,
            },
            drops: drops::of_port(&port.counters),
        }
    }
}
