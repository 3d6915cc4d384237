//! How a port comes.

use super::limits::limits;
use super::{Port, PortError, Step};
use crate::attachment::Lasting;
use crate::control::Control;
use crate::driver::{OpenRequest, Place, Take};
use crate::uplink::takeover::Nic;
use crate::worker::{WorkerError, assign};
use millrace_api::Bandwidth;
use millrace_config::{Attachment, PortConfig, Prefix};
use millrace_fastpath::pipeline::Command;
use millrace_fastpath::port::{Frame, PortCounters, PortId, PortQueue};
use std::net::IpAddr;
use std::sync::Arc;

/// What only some ports have.
#[derive(Default)]
struct Extra {
    lasting: Option<Lasting>,
    bandwidth: Option<Bandwidth>,
    take: Take,
    nic: Option<Nic>,
}

impl<F: Frame> Control<F> {
    /// Adds a port; it carries traffic when this returns. On failure nothing is left of it.
    pub fn add_port(&mut self, config: PortConfig) -> Result<PortId, PortError> {
        self.add(config, Extra::default())
    }

    /// Adds the host's leg; it takes what the host sends to frontends at the host's own addresses. On failure nothing is left of it.
    pub(crate) fn add_leg_port(&mut self, config: PortConfig) -> Result<PortId, PortError> {
        self.add(config, Extra { take: Take::Claimed, ..Extra::default() })
    }

    /// Adds the port of an uplink; it takes nothing yet from a NIC that it shares. On failure nothing is left of it.
    pub(crate) fn add_uplink_port(
        &mut self,
        config: PortConfig,
        nic: Option<Nic>,
    ) -> Result<PortId, PortError> {
        let take = match &config.attachment {
            Attachment::AfXdp { .. } => Take::Claimed,
            _ => Take::Everything,
        };
        self.add(config, Extra { take, nic, ..Extra::default() })
    }

    /// Adds the port of an attachment: it outlives the process. On failure nothing is left of it but what was adopted.
    pub(crate) fn add_lasting_port(
        &mut self,
        config: PortConfig,
        lasting: Lasting,
        bandwidth: Option<Bandwidth>,
    ) -> Result<PortId, PortError> {
        self.add(config, Extra { lasting: Some(lasting), bandwidth, ..Extra::default() })
    }

    fn add(&mut self, config: PortConfig, extra: Extra) -> Result<PortId, PortError> {
        let Extra { lasting, bandwidth, take, nic } = extra;
        self.check_new(&config)?;
        let id = self.numbers.take().ok_or_else(|| PortError::TooMany(config.name.clone()))?;
        let mut port = Port {
            id,
            mtu: config.mtu.unwrap_or(self.default_mtu()).get(),
            addresses: Vec::new(),
            config,
            counters: Arc::new(PortCounters::default()),
            device: None,
            workers: Vec::new(),
            published: false,
            prepared: false,
            lasting,
            routes: Vec::new(),
            bandwidth,
            take,
            nic,
        };
        match self.bring_up(&mut port) {
            Ok(()) => {
                if let Some(lasting) = &mut port.lasting {
                    // From now on it is as if it had been made here.
                    lasting.adopted = false;
                }
                tracing::info!(port = %port.config.name, number = id.0, kind = %port.config.attachment.kind(), "port added");
                self.ports.insert(port.config.name.clone(), port);
                Ok(id)
            }
            Err(error) => {
                tracing::warn!(%error, "port not added");
                // The first error is the one that explains; what happens while undoing is logged.
                if let Err(second) = self.tear_down(port) {
                    tracing::error!(error = %second, "port not undone");
                }
                Err(error)
            }
        }
    }

    fn bring_up(&mut self, port: &mut Port) -> Result<(), PortError> {
        self.announce(port)?;
        let name = port.config.name.clone();
        let failed = |step| {
            let name = &name;
            move |source| PortError::step(name, step, source)
        };
        let interface = self.plumbing.prepare(&port.site()).map_err(failed(Step::Prepare))?;
        port.prepared = true;
        let request = OpenRequest {
            id: port.id,
            config: &port.config,
            interface: interface.as_ref(),
            mtu: port.mtu,
            counters: Arc::clone(&port.counters),
            place: match &port.lasting {
                Some(lasting) if lasting.adopted => Place::Adopted,
                Some(_) => Place::Pod,
                None => Place::Here,
            },
            take: port.take,
        };
        let opened = self.driver.open(&request).map_err(failed(Step::Open))?;
        if let (Some(nic), Some(mac)) = (&mut port.nic, opened.device.mac()) {
            nic.mac = mac;
        }
        port.device = Some(opened.device);
        // From here on a failure drops the queues when this function returns, before the device.
        let queues = opened.queues;
        port.routes = self.plumbing.finish(&port.site()).map_err(failed(Step::Finish))?;
        self.note_shortcuts_of(port);
        self.publish_port(port);
        self.give_out(port, queues)?;
        match (&port.lasting, &port.device) {
            // Last: until here all of it goes if the process ends.
            (Some(_), Some(device)) => device.set_lasting(true).map_err(failed(Step::Finish)),
            _ => Ok(()),
        }
    }

    /// Gives the queues to workers, and tells all others where frames for the port go.
    fn give_out(&mut self, port: &mut Port, queues: Vec<Box<dyn PortQueue<F>>>) -> Result<(), PortError> {
        let name = port.config.name.clone();
        let limits = limits(port.bandwidth);
        let chosen = assign(&self.workers, queues.len()).map_err(|error| error.at(&name, Step::Attach))?;
        for (worker, queue) in chosen.into_iter().zip(queues) {
            let worker = &mut self.workers[worker];
            // Before the command: if it fails half-way, this worker is asked to let go, too.
            port.workers.push(worker.id());
            let command = Command::Attach { port: port.id, queue, limits: limits.clone() };
            worker.send(command).map_err(|error| error.at(&name, Step::Attach))?;
        }
        let without = self.workers.iter_mut().filter(|worker| worker.queues_of(port.id) == 0);
        for (worker, &owner) in without.zip(port.workers.iter().cycle()) {
            let command = Command::Owner { port: port.id, worker: owner };
            worker.send(command).map_err(|error| error.at(&name, Step::Attach))?;
        }
        self.settle().map_err(|error| error.at(&name, Step::Attach))
    }

    /// Waits until all workers have done what they were told.
    pub(super) fn settle(&mut self) -> Result<(), WorkerError> {
        for worker in &mut self.workers {
            worker.await_empty_mailbox()?;
        }
        self.domain.synchronize();
        Ok(())
    }

    fn check_new(&self, config: &PortConfig) -> Result<(), PortError> {
        if self.ports.contains_key(&config.name) {
            return Err(PortError::Exists(config.name.clone()));
        }
        let place = config.place();
        for other in self.ports.values() {
            let owner = || other.config.name.clone();
            if other.config.place() == place {
                return Err(PortError::PlaceTaken { port: config.name.clone(), place, owner: owner() });
            }
            if let Some(&address) = config.addresses.iter().find(|net| other.addresses.contains(&net.net())) {
                return Err(PortError::AddressTaken { port: config.name.clone(), address, owner: owner() });
            }
        }
        let gateways = [self.config.gateway.ipv4.into(), self.config.gateway.ipv6.into()];
        let claimed = |net: &&Prefix| {
            net.net().prefix_len() > 0 && gateways.iter().any(|ip: &IpAddr| net.net().contains(ip))
        };
        match config.addresses.iter().find(claimed) {
            Some(&address) => Err(PortError::GatewayAddress { port: config.name.clone(), address }),
            None => Ok(()),
        }
    }

    /// Tells the model, and learns what the port owns. An interface that is made for a pod needs its addresses now;
    /// other peers configure themselves, and their pod may become known later.
    fn announce(&mut self, port: &mut Port) -> Result<(), PortError> {
        self.enter(port);
        let config = &port.config;
        if let Some(lasting) = &port.lasting {
            // What its pod's object says may be about an earlier pod of that name.
            port.addresses = config.addresses.iter().map(|prefix| prefix.net()).collect();
            let addresses: Vec<IpAddr> = port.addresses.iter().map(|net| net.addr()).collect();
            self.model.set_host_ports(port.id, &addresses, lasting.host_ports.clone());
            return Ok(());
        }
        port.addresses = self.prefixes_of(port.id);
        let makes_interface = matches!(
            config.attachment,
            Attachment::AfXdp { netns: Some(_), .. } | Attachment::Veth { .. } | Attachment::Tap { .. }
        );
        match &config.pod {
            Some(pod) if port.addresses.is_empty() && makes_interface => {
                Err(PortError::UnknownPod { port: config.name.clone(), pod: pod.clone() })
            }
            _ => Ok(()),
        }
    }
}
