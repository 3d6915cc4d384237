//! What the host must have beside a device, as an interface for a pod.

use crate::driver::Refusal;
use crate::link::{
    Interface, Leftover, Namespace, Record, RecordError, create_veth, host_end_name, move_tap, remove_veth,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use millrace_config::{Attachment, Config, InterfaceName, PortConfig, VhostMode};
use millrace_fastpath::port::PortId;
use millrace_fastpath::wire::ethernet::MacAddr;
use std::path::{Path, PathBuf};

/// The host's side of ports.
pub trait Plumbing: Send {
    /// Makes what must be there before the device is opened; gives the interface that the driver is to use.
    /// Nothing is left on failure.
    fn prepare(&mut self, site: &Site<'_>) -> Result<Option<InterfaceName>, Refusal>;

    /// Does what can be done only once the device is open. On failure [`undo`](Plumbing::undo) is called.
    fn finish(&mut self, site: &Site<'_>) -> Result<(), Refusal>;

    /// Removes all that was made, after the device was closed. To be repeated without harm.
    fn undo(&mut self, site: &Site<'_>) -> Result<(), Refusal>;
}

/// A port's place on the host.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The port's number.
    pub id: PortId,
    /// What was asked for.
    pub config: &'a PortConfig,
    /// What the port owns: its own addresses and its pod's.
    pub addresses: &'a [IpNet],
    /// Largest IP packet in bytes.
    pub mtu: u16,
}

/// The kernel of this machine.
#[derive(Debug)]
pub struct KernelPlumbing {
    state_directory: PathBuf,
    record: Record,
    gateway: millrace_config::Gateway,
    /// What a TAP in the daemon's own namespace leads to.
    cluster: Vec<IpNet>,
}

impl KernelPlumbing {
    /// With the record of the configured state directory. Call [`remove_leftovers`](Self::remove_leftovers) before
    /// anything is made.
    pub fn open(config: &Config) -> Result<Self, RecordError> {
        let cluster = &config.cluster;
        let ranges = cluster.pod_cidrs.iter().chain(&cluster.service_cidrs);
        Ok(KernelPlumbing {
            state_directory: config.state_directory.clone(),
            record: Record::open(&config.state_directory)?,
            gateway: config.gateway.clone(),
            cluster: ranges.map(|prefix| prefix.net()).collect(),
        })
    }

    /// Removes what an earlier instance was killed over; gives what could not be removed, with the reason.
    pub fn remove_leftovers(&mut self) -> Result<Vec<(Leftover, String)>, RecordError> {
        self.record.clear()
    }

    fn host_end(&self, id: PortId) -> Result<InterfaceName, Refusal> {
        Ok(host_end_name(&self.state_directory, id)?)
    }

    fn interface(&self, site: &Site<'_>, name: &InterfaceName, in_pod: bool) -> Interface {
        Interface {
            name: name.clone(),
            mac: MacAddr(site.config.peer_mac().octets()),
            mtu: site.mtu,
            addresses: site.addresses.to_vec(),
            gateway_v4: self.gateway.ipv4,
            gateway_v6: self.gateway.ipv6,
            // A pod knows no other way. The host does, and takes only the cluster's ranges.
            destinations: if in_pod {
                vec![Ipv4Net::default().into(), Ipv6Net::default().into()]
            } else {
                self.cluster.clone()
            },
            queues: site.config.queues.get(),
        }
    }
}

impl Plumbing for KernelPlumbing {
    fn prepare(&mut self, site: &Site<'_>) -> Result<Option<InterfaceName>, Refusal> {
        match &site.config.attachment {
            Attachment::AfXdp { netns: None, interface, .. } => Ok(Some(interface.clone())),
            Attachment::AfXdp { netns: Some(netns), interface, .. } => {
                let namespace = Namespace::open(netns)?;
                let host_end = self.host_end(site.id)?;
                self.record.add(Leftover::Veth(host_end.to_string()))?;
                let wanted = self.interface(site, interface, true);
                if let Err(error) =
                    create_veth(&host_end, site.config.name.as_str(), Some(&namespace), &wanted)
                {
                    self.undo(site)?;
                    return Err(error.into());
                }
                Ok(Some(host_end))
            }
            Attachment::Tap { .. } => Ok(Some(self.host_end(site.id)?)),
            Attachment::VhostUser { socket, mode: VhostMode::Server } => {
                remove_stale_socket(socket)?;
                self.record.add(Leftover::Socket(socket.clone()))?;
                Ok(None)
            }
            Attachment::VhostUser { mode: VhostMode::Client, .. } | Attachment::Dpdk { .. } => Ok(None),
        }
    }

    fn finish(&mut self, site: &Site<'_>) -> Result<(), Refusal> {
        let Attachment::Tap { netns, interface } = &site.config.attachment else { return Ok(()) };
        let namespace = netns.as_ref().map(Namespace::open).transpose()?;
        let wanted = self.interface(site, interface, namespace.is_some());
        move_tap(self.host_end(site.id)?.as_str(), namespace.as_ref(), &wanted)?;
        Ok(())
    }

    fn undo(&mut self, site: &Site<'_>) -> Result<(), Refusal> {
        match &site.config.attachment {
            Attachment::AfXdp { netns: Some(_), .. } => {
                let host_end = self.host_end(site.id)?;
                remove_veth(&host_end)?;
                self.record.remove(&Leftover::Veth(host_end.to_string()))?;
            }
            Attachment::VhostUser { socket, mode: VhostMode::Server } => {
                remove_stale_socket(socket)?;
                self.record.remove(&Leftover::Socket(socket.clone()))?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Removes a socket file that nobody listens on any more. One that is in use is left, and then refused by `bind`.
fn remove_stale_socket(path: &Path) -> Result<(), Refusal> {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::UnixStream;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        std::fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
