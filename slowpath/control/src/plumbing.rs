//! What the host must have beside a device, as an interface for a pod.

use crate::attachment::{Lasting, vhost_user};
use crate::driver::Refusal;
use crate::link::{
    self, Interface, Leftover, Namespace, Record, RecordError, Routes, create_veth, dress_tap, dress_veth,
    host_end_name, move_tap, remove_tap, remove_veth,
};
use crate::uplink::takeover::{Nic, Takeover};
use ipnet::IpNet;
use millrace_api::Route;
use millrace_config::{Attachment, Config, InterfaceName, Netns, PortConfig, PortRole, Prefix, VhostMode};
use millrace_fastpath::port::PortId;
use millrace_fastpath::wire::ethernet::MacAddr;
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// The host's side of ports.
pub trait Plumbing: Send {
    /// Makes what must be there before the device is opened; gives the interface that the driver is to use.
    /// Nothing is left on failure.
    fn prepare(&mut self, site: &Site<'_>) -> Result<Option<InterfaceName>, Refusal>;

    /// Does what can be done only once the device is open; gives the routes that the pod got, those to the gateways left
    /// out. On failure [`undo`](Plumbing::undo) is called.
    fn finish(&mut self, site: &Site<'_>) -> Result<Vec<Route>, Refusal>;

    /// Removes all that was made. To be repeated without harm.
    fn undo(&mut self, site: &Site<'_>) -> Result<(), Refusal>;

    /// As [`undo`](Plumbing::undo), to be done by any thread; nothing where only this one can.
    fn undoing(&self, site: &Site<'_>) -> Option<Undoing> {
        let _ = site;
        None
    }

    /// Refuses if the pod's side is not as it was made, with these routes.
    fn check(&mut self, site: &Site<'_>, routes: &[Route]) -> Result<(), Refusal>;

    /// Whether the file stands for a network namespace that is still there.
    fn has_namespace(&self, file: &Path) -> bool;

    /// Moves to the host's leg what was given to a NIC after it was taken.
    fn follow_nic(&mut self, nic: &Nic) -> Result<(), Refusal>;

    /// Whether the file stands for the network namespace that this process is in.
    fn is_own_namespace(&self, file: &Path) -> bool {
        link::is_own_namespace(file)
    }
}

/// Removes the host's side of one port.
pub type Undoing = Box<dyn FnOnce() -> Result<(), Refusal> + Send>;

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
    /// For a port that outlives the process: what is different with it.
    pub lasting: Option<&'a Lasting>,
    /// For an uplink whose NIC is taken from the kernel: the NIC.
    pub nic: Option<&'a Nic>,
}

impl Site<'_> {
    /// Whether what the pod has is there already.
    pub fn is_adopted(&self) -> bool {
        self.lasting.is_some_and(|lasting| lasting.adopted)
    }
}

/// The kernel of this machine.
#[derive(Debug)]
pub struct KernelPlumbing {
    state_directory: PathBuf,
    record: Record,
    gateway: millrace_config::Gateway,
    /// What a TAP in the daemon's own namespace leads to.
    cluster: Vec<Prefix>,
    takeover: Takeover,
}

impl KernelPlumbing {
    /// With the record of the configured state directory. Call [`remove_leftovers`](Self::remove_leftovers) before
    /// anything is made.
    pub fn open(config: &Config) -> Result<Self, RecordError> {
        let cluster = &config.cluster;
        Ok(KernelPlumbing {
            state_directory: config.state_directory.clone(),
            record: Record::open(&config.state_directory)?,
            gateway: config.gateway.clone(),
            cluster: cluster.pod_cidrs.iter().chain(&cluster.service_cidrs).copied().collect(),
            takeover: Takeover::new(&config.state_directory),
        })
    }

    /// Removes what an earlier instance was killed over; gives what could not be removed, with the reason. What belongs to
    /// containers is not in that record.
    pub fn remove_leftovers(&mut self) -> Result<Vec<(Leftover, String)>, RecordError> {
        self.record.clear()
    }

    /// NICs that are taken from the kernel.
    pub fn takeover(&mut self) -> &mut Takeover {
        &mut self.takeover
    }

    fn host_end(&self, site: &Site<'_>) -> Result<InterfaceName, Refusal> {
        match site.lasting {
            Some(lasting) => Ok(lasting.host_end.clone()),
            None => Ok(host_end_name(&self.state_directory, site.id)?),
        }
    }

    fn interface(&self, site: &Site<'_>, name: &InterfaceName, in_pod: bool) -> Interface {
        Interface {
            name: name.clone(),
            mac: MacAddr(site.config.peer_mac().octets()),
            mtu: site.mtu,
            addresses: if is_host_leg(site.config) { Vec::new() } else { site.addresses.to_vec() },
            gateway_v4: self.gateway.ipv4,
            gateway_v6: self.gateway.ipv6,
            routes: match site.lasting.and_then(|lasting| lasting.routes.clone()) {
                Some(routes) => Routes::Of(routes),
                // A pod knows no other way. The host does, and takes only the cluster's ranges.
                None if in_pod => Routes::Default,
                None => Routes::to(&self.cluster),
            },
            queues: site.config.queues.get(),
        }
    }

    fn prepare_veth(
        &mut self,
        site: &Site<'_>,
        netns: &Netns,
        interface: &InterfaceName,
    ) -> Result<InterfaceName, Refusal> {
        let namespace = Namespace::open(netns)?;
        let (host_end, owner) = (self.host_end(site)?, site.config.name.as_str());
        if site.is_adopted() {
            return match link::is_made_here(None, &host_end, owner)? {
                true => Ok(host_end),
                false => Err(gone(&host_end).into()),
            };
        }
        if site.lasting.is_none() {
            self.record.add(Leftover::Veth(host_end.to_string()))?;
        }
        if let Err(error) = create_veth(&host_end, owner, &namespace, &self.interface(site, interface, true))
        {
            self.undo(site)?;
            return Err(error.into());
        }
        Ok(host_end)
    }

    fn finish_veth(
        &self,
        site: &Site<'_>,
        netns: &Netns,
        interface: &InterfaceName,
        offloads: bool,
    ) -> Result<Vec<Route>, Refusal> {
        let wanted = self.interface(site, interface, true);
        Ok(dress_veth(&self.host_end(site)?, &Namespace::open(netns)?, &wanted, offloads)?)
    }

    fn prepare_socket(&mut self, site: &Site<'_>, socket: &Path) -> Result<(), Refusal> {
        remove_stale_socket(socket)?;
        match site.lasting {
            Some(lasting) => Ok(vhost_user::make_directory(socket, lasting.uid)?),
            None => Ok(self.record.add(Leftover::Socket(socket.to_owned()))?),
        }
    }

    fn finish_tap(
        &mut self,
        site: &Site<'_>,
        netns: Option<&Netns>,
        interface: &InterfaceName,
    ) -> Result<Vec<Route>, Refusal> {
        let namespace = netns.map(Namespace::open).transpose()?;
        let wanted = self.interface(site, interface, namespace.is_some());
        match (site.lasting, &namespace) {
            (Some(_), Some(namespace)) => Ok(dress_tap(namespace, site.config.name.as_str(), &wanted)?),
            _ => Ok(move_tap(self.host_end(site)?.as_str(), namespace.as_ref(), &wanted)?),
        }
    }
}

impl Plumbing for KernelPlumbing {
    fn prepare(&mut self, site: &Site<'_>) -> Result<Option<InterfaceName>, Refusal> {
        match &site.config.attachment {
            Attachment::AfXdp { netns: None, interface, .. } => Ok(Some(interface.clone())),
            Attachment::AfXdp { netns: Some(netns), interface, .. }
            | Attachment::Veth { netns, interface } => self.prepare_veth(site, netns, interface).map(Some),
            Attachment::Tap { netns: Some(netns), interface } if site.lasting.is_some() => {
                let namespace = Namespace::open(netns)?;
                let owner = site.config.name.as_str();
                if site.is_adopted() && !link::is_made_here(Some(&namespace), interface, owner)? {
                    return Err(gone(interface).into());
                }
                Ok(Some(interface.clone()))
            }
            Attachment::Tap { .. } => self.host_end(site).map(Some),
            Attachment::VhostUser { socket, mode: VhostMode::Server } => {
                self.prepare_socket(site, socket)?;
                Ok(None)
            }
            Attachment::Dpdk { devargs } => {
                if let Some(nic) = site.nic
                    && let Err(error) = self.takeover.prepare(nic, devargs)
                {
                    self.takeover.give_back(nic)?;
                    return Err(error.into());
                }
                Ok(None)
            }
            Attachment::VhostUser { mode: VhostMode::Client, .. } => Ok(None),
        }
    }

    fn finish(&mut self, site: &Site<'_>) -> Result<Vec<Route>, Refusal> {
        match &site.config.attachment {
            Attachment::VhostUser { socket, mode: VhostMode::Server } => {
                if let Some(lasting) = site.lasting {
                    vhost_user::finish(socket, site, lasting, &self.gateway)?;
                }
                Ok(Vec::new())
            }
            // The pod may have changed what is its own.
            _ if site.is_adopted() => Ok(Vec::new()),
            // An AF_XDP socket sees bytes only.
            Attachment::AfXdp { netns: Some(netns), interface, .. } => {
                self.finish_veth(site, netns, interface, false)
            }
            Attachment::Veth { netns, interface } => self.finish_veth(site, netns, interface, true),
            Attachment::Tap { netns, interface } => self.finish_tap(site, netns.as_ref(), interface),
            Attachment::Dpdk { .. } => {
                if let Some(nic) = site.nic {
                    self.takeover.take(nic)?;
                }
                Ok(Vec::new())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn undo(&mut self, site: &Site<'_>) -> Result<(), Refusal> {
        match &site.config.attachment {
            Attachment::AfXdp { netns: Some(_), .. } | Attachment::Veth { .. } => {
                let host_end = self.host_end(site)?;
                remove_veth(&host_end)?;
                self.record.remove(&Leftover::Veth(host_end.to_string()))?;
            }
            Attachment::Tap { netns: Some(netns), interface } if site.lasting.is_some() => {
                remove_tap_of(netns, interface, site.config.name.as_str())?;
            }
            Attachment::VhostUser { socket, mode: VhostMode::Server } => {
                remove_stale_socket(socket)?;
                match site.lasting {
                    Some(_) => vhost_user::remove_directory(socket)?,
                    None => self.record.remove(&Leftover::Socket(socket.clone()))?,
                }
            }
            Attachment::Dpdk { .. } => {
                if let Some(nic) = site.nic {
                    self.takeover.give_back(nic)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn undoing(&self, site: &Site<'_>) -> Option<Undoing> {
        let lasting = site.lasting?;
        match &site.config.attachment {
            Attachment::AfXdp { netns: Some(_), .. } | Attachment::Veth { .. } => {
                let host_end = lasting.host_end.clone();
                Some(Box::new(move || Ok(remove_veth(&host_end)?)))
            }
            Attachment::Tap { netns: Some(netns), interface } => {
                let (netns, interface) = (netns.clone(), interface.clone());
                let owner = site.config.name.clone();
                Some(Box::new(move || remove_tap_of(&netns, &interface, owner.as_str())))
            }
            _ => None,
        }
    }

    fn check(&mut self, site: &Site<'_>, routes: &[Route]) -> Result<(), Refusal> {
        let (netns, interface) = match &site.config.attachment {
            Attachment::AfXdp { netns: Some(netns), interface, .. } => (netns, interface),
            Attachment::Tap { netns: Some(netns), interface } => (netns, interface),
            Attachment::Veth { netns, interface } => (netns, interface),
            Attachment::VhostUser { socket, .. } => return Ok(vhost_user::check(socket)?),
            _ => return Ok(()),
        };
        let wanted = self.interface(site, interface, true);
        match link::compare(&Namespace::open(netns)?, &wanted, routes)?.first() {
            Some(difference) => Err(format!("interface {interface}: {difference}").into()),
            None => Ok(()),
        }
    }

    fn has_namespace(&self, file: &Path) -> bool {
        link::is_namespace(file)
    }

    fn follow_nic(&mut self, nic: &Nic) -> Result<(), Refusal> {
        Ok(self.takeover.follow(nic)?)
    }
}

/// Removes a TAP of a pod. With its namespace it is gone already.
fn remove_tap_of(netns: &Netns, interface: &InterfaceName, owner: &str) -> Result<(), Refusal> {
    match link::is_namespace(&netns.path()) {
        true => Ok(remove_tap(&Namespace::open(netns)?, interface, owner)?),
        false => Ok(()),
    }
}

/// Whether a port leads to the host's own network stack, whose addresses stay on the interfaces that they are on.
fn is_host_leg(port: &PortConfig) -> bool {
    port.role() == PortRole::Host && matches!(port.attachment, Attachment::Tap { netns: None, .. })
}

fn gone(interface: &InterfaceName) -> String {
    format!("interface {interface} is gone")
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
