//! Making an attachment.

use super::store::{State, Stored};
use super::wish::{FIRST, Wish};
use super::{AttachError, Lasting, host_end, port_name, vhost_user};
use crate::control::Control;
use ipnet::IpNet;
use millrace_api::{
    AddressSource, Attachment, AttachmentId, AttachmentRequest, HostInterface, HostPort, Protocol, Route,
    VhostUserFiles,
};
use millrace_config::{
    Attachment as Kind, ContainerPortKind, InvalidValue, MacAddr, Netns, PodRef, PortConfig, PortRole,
    Prefix, VhostMode, XdpMode,
};
use millrace_fastpath::port::Frame;
use millrace_model::Transport;
use std::collections::BTreeSet;
use std::net::IpAddr;

impl<F: Frame> Control<F> {
    /// Gives a container an interface. The same request again gets what is there; on failure nothing is left.
    pub fn attach(&mut self, request: AttachmentRequest) -> Result<Attachment, AttachError> {
        if !self.attachments.adopted {
            return Err(AttachError::Starting);
        }
        self.do_queued_deletion(&request.id);
        if self.attachments.leaving.contains(&request.id) {
            return Err(AttachError::Leaving(request.id));
        }
        if let Some(present) = self.attachments.entries.get(&request.id) {
            return match present.request == request {
                true => Ok(present.attachment.clone()),
                false => Err(AttachError::Another(request.id)),
            };
        }
        let id = request.id.clone();
        self.check_request(&request)?;
        let wish = self.wish(&request)?;
        self.bandwidth(&request)?;
        let addresses = self.take_addresses(&request)?;
        let given_here = matches!(request.addresses, AddressSource::Own { .. });
        let outcome =
            self.describe_new(request, &wish, addresses.clone()).and_then(|stored| self.make(stored));
        if let Err(error) = &outcome {
            for address in addresses.into_iter().filter(|_| given_here) {
                self.attachments.ipam.give_back(address);
            }
            self.attachments.remember_addresses();
            tracing::warn!(%error, attachment = %id, "not attached");
        }
        outcome
    }

    fn check_request(&self, request: &AttachmentRequest) -> Result<(), AttachError> {
        let id = || request.id.clone();
        if !self.plumbing.has_namespace(&request.netns) {
            return Err(AttachError::Namespace { id: id(), netns: request.netns.display().to_string() });
        }
        if self.plumbing.is_own_namespace(&request.netns) {
            return Err(AttachError::OwnNamespace { id: id(), netns: request.netns.display().to_string() });
        }
        if matches!(&request.addresses, AddressSource::Given { addresses } if addresses.is_empty()) {
            return Err(AttachError::NoAddress(id()));
        }
        for (at, port) in request.host_ports.iter().enumerate() {
            if request.host_ports[..at].iter().any(|other| other.clashes_with(port)) {
                return Err(AttachError::SameHostPort { id: id(), port: port.clone() });
            }
            if host_port(port).is_none() {
                return Err(AttachError::Protocol { id: id(), port: port.clone() });
            }
            if let Some(owner) = self.owner_of(port) {
                return Err(AttachError::HostPort { id: id(), port: port.clone(), owner: owner.clone() });
            }
        }
        Ok(())
    }

    /// The attachment that has a port of the node.
    fn owner_of(&self, wanted: &HostPort) -> Option<&AttachmentId> {
        let clashes = |port: &HostPort| port.clashes_with(wanted);
        let mut entries = self.attachments.entries.iter();
        entries.find(|(_, stored)| stored.request.host_ports.iter().any(clashes)).map(|(id, _)| id)
    }

    /// Addresses for it. They are taken when this returns.
    fn take_addresses(&mut self, request: &AttachmentRequest) -> Result<Vec<IpAddr>, AttachError> {
        let requested = match &request.addresses {
            AddressSource::Given { addresses } => {
                // Whether another port has one is found when the port is made.
                return Ok(addresses.clone());
            }
            AddressSource::Own { requested } => requested,
        };
        let busy = self.busy_addresses();
        let ranges = self.address_ranges();
        let ipam = &mut self.attachments.ipam;
        ipam.set_ranges(&ranges);
        let given = ipam.give(requested, |address| busy.contains(&address));
        let id = request.id.clone();
        let given = given.map_err(|source| AttachError::Address { id, source })?;
        self.attachments.remember_addresses();
        Ok(given)
    }

    /// Where addresses are given from.
    pub(super) fn address_ranges(&self) -> Vec<IpNet> {
        let of_node = self.model.node_pod_ranges();
        match of_node.is_empty() {
            true => self.config.cni.pod_cidrs.iter().map(|prefix| prefix.net()).collect(),
            false => of_node.to_vec(),
        }
    }

    /// Single addresses that are somebody's: of other ports, of the gateway and of the node.
    fn busy_addresses(&self) -> BTreeSet<IpAddr> {
        let gateways = [self.config.gateway.ipv4.into(), self.config.gateway.ipv6.into()];
        let of_ports = self.ports.values().flat_map(|port| &port.addresses);
        let single = |net: &&IpNet| net.prefix_len() == net.max_prefix_len();
        of_ports
            .filter(single)
            .map(IpNet::addr)
            .chain(gateways)
            .chain(self.model.node_addresses().iter().copied())
            .collect()
    }

    /// The attachment as it is to be.
    fn describe_new(
        &self,
        request: AttachmentRequest,
        wish: &Wish,
        addresses: Vec<IpAddr>,
    ) -> Result<Stored, AttachError> {
        let wrong = |field| {
            let id = request.id.clone();
            move |source: InvalidValue| AttachError::Value { id, field, source }
        };
        let port = port_name(&request.id).map_err(wrong("containerId"))?;
        let host_end = host_end(&request.id).map_err(wrong("containerId"))?;
        let socket = vhost_user::socket(&self.config.cni.vhost_user_directory, &port);
        let files = || VhostUserFiles {
            directory: socket.parent().unwrap_or(&socket).to_owned(),
            file: vhost_user::file(&socket),
            socket: socket.clone(),
        };
        let gateways = [IpAddr::from(self.config.gateway.ipv4), self.config.gateway.ipv6.into()];
        let serves = |gateway: &IpAddr| addresses.iter().any(|own| own.is_ipv4() == gateway.is_ipv4());
        let attachment = Attachment {
            id: request.id.clone(),
            network: request.network.clone(),
            netns: request.netns.clone(),
            pod: request.pod.clone(),
            mac: request.mac.unwrap_or_else(|| MacAddr::derived_from(port.as_str())),
            port,
            kind: wish.kind.into(),
            mtu: request.mtu.unwrap_or(self.default_mtu()),
            gateways: gateways.into_iter().filter(serves).collect(),
            addresses,
            routes: Vec::new(),
            host_interface: matches!(wish.kind, ContainerPortKind::AfXdp | ContainerPortKind::Veth)
                .then(|| HostInterface { name: host_end.clone(), mac: None }),
            vhost_user: (wish.kind == ContainerPortKind::VhostUser).then(files),
        };
        Ok(Stored { state: State::Adding, request, attachment, host_end, uid: wish.uid })
    }

    /// Writes it down, makes it, and writes down that it is made.
    fn make(&mut self, mut stored: Stored) -> Result<Attachment, AttachError> {
        let id = stored.request.id.clone();
        let failed = |source| AttachError::Store { id: id.clone(), source };
        self.attachments.store.write(&stored).map_err(failed)?;
        let made = self.add_attached_port(&stored, false).and_then(|routes| {
            stored.attachment.routes = routes;
            stored.state = State::Done;
            self.attachments.store.write(&stored).map_err(failed)
        });
        if let Err(error) = made {
            self.unmake(&stored);
            return Err(error);
        }
        let attachment = stored.attachment.clone();
        tracing::info!(attachment = %id, port = %attachment.port, kind = %attachment.kind, "attached");
        for &address in &attachment.addresses {
            self.attachments.ipam.take(address);
        }
        self.attachments.entries.insert(id, stored);
        Ok(attachment)
    }

    /// Removes what was made of it. What cannot be removed stays in the store, and is tried again after a restart.
    fn unmake(&mut self, stored: &Stored) {
        let port = &stored.attachment.port;
        let removed = match self.ports.contains_key(port) {
            true => self.remove_attached_port(port).map_err(|error| error.to_string()),
            false => Ok(()),
        };
        let forgotten =
            removed.and_then(|()| self.attachments.store.remove(port).map_err(|error| error.to_string()));
        if let Err(error) = forgotten {
            tracing::error!(error, attachment = %stored.request.id, "not undone");
        }
    }

    /// Makes the port of an attachment, anew or from what is there; gives the routes that were set.
    pub(super) fn add_attached_port(
        &mut self,
        stored: &Stored,
        adopted: bool,
    ) -> Result<Vec<Route>, AttachError> {
        let id = || stored.request.id.clone();
        let config = self.port_config(stored)?;
        let name = config.name.clone();
        let lasting = lasting(stored, adopted);
        // What an annotation says wrongly by now is reported later.
        let bandwidth = self.bandwidth(&stored.request).unwrap_or(stored.request.bandwidth);
        self.add_lasting_port(config, lasting, bandwidth)
            .map_err(|source| AttachError::Port { id: id(), source: Box::new(source) })?;
        Ok(self.ports.get(&name).map(|port| port.routes.clone()).unwrap_or_default())
    }

    /// The port of an attachment.
    pub(super) fn port_config(&self, stored: &Stored) -> Result<PortConfig, AttachError> {
        let attachment = &stored.attachment;
        let wrong = |field| {
            let id = stored.request.id.clone();
            move |source: InvalidValue| AttachError::Value { id, field, source }
        };
        let interface = attachment.id.if_name.clone();
        let netns = || attachment.netns.display().to_string().parse::<Netns>();
        let kind = match ContainerPortKind::try_from(attachment.kind).map_err(wrong("kind"))? {
            ContainerPortKind::Tap => Kind::Tap { netns: Some(netns().map_err(wrong("netns"))?), interface },
            ContainerPortKind::Veth => Kind::Veth { netns: netns().map_err(wrong("netns"))?, interface },
            ContainerPortKind::AfXdp => {
                Kind::AfXdp { netns: Some(netns().map_err(wrong("netns"))?), interface, mode: XdpMode::Auto }
            }
            ContainerPortKind::VhostUser => {
                let files = attachment.vhost_user.as_ref();
                let socket = files.map(|files| files.socket.clone()).unwrap_or_default();
                Kind::VhostUser { socket, mode: VhostMode::Server }
            }
        };
        Ok(PortConfig {
            name: attachment.port.clone(),
            attachment: kind,
            mac: Some(attachment.mac),
            addresses: attachment.addresses.iter().map(|&address| Prefix::from(address)).collect(),
            pod: Self::pod_of(stored),
            role: Some(PortRole::Pod),
            mtu: Some(attachment.mtu),
            spoof_check: true,
            queues: self.config.cni.queues,
        })
    }

    /// The pod that a stored attachment's port belongs to.
    fn pod_of(stored: &Stored) -> Option<PodRef> {
        let pod = stored.request.pod.as_ref().filter(|_| stored.request.id.if_name.as_str() == FIRST)?;
        format!("{}/{}", pod.namespace, pod.name).parse().ok()
    }
}

/// What is different with an attachment's port.
pub(super) fn lasting(stored: &Stored, adopted: bool) -> Lasting {
    Lasting {
        id: stored.request.id.clone(),
        network: stored.request.network.clone(),
        pod: stored.request.pod.clone(),
        host_end: stored.host_end.clone(),
        routes: stored.request.routes.clone(),
        uid: stored.uid,
        host_ports: stored.request.host_ports.iter().filter_map(host_port).collect(),
        adopted,
    }
}

/// In the model's terms; nothing for a protocol that has no ports.
fn host_port(port: &HostPort) -> Option<millrace_model::HostPort> {
    let protocol = match port.protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
        Protocol::Sctp => Transport::Sctp,
        _ => return None,
    };
    let HostPort { host_ip, host_port, container_port, .. } = *port;
    Some(millrace_model::HostPort { host_ip, host_port, container_port, protocol })
}
