//! The cluster's objects: from the source into the model.

use crate::readiness::Readiness;
use crate::{StartError, cni_conf};
use millrace_api::{KindStatus, ObjectError, ServerStatus};
use millrace_config::{self as config, Config, Kubernetes, LoadBalancing, NodeName, Prefix, Source};
use millrace_control::{Control, ControlHandle};
use millrace_fastpath::tables::{Balancing, Gateway, Vni};
use millrace_fastpath::wire::ethernet::MacAddr;
use millrace_ffi::mbuf::Mbuf;
use millrace_model::{
    Kind, Model, ModelConfig, Object, OuterChecksum, OutgoingConfig, RoutingConfig, RoutingMode,
};
use millrace_source::{
    Access, Announcer, Change, DirectorySource, Heard, HeardOfKind, KubernetesSource, Liveness, News, Problem,
};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::time::Instant;

/// Changes that are handed to the control thread at once, at most: a large directory is told in steps between which
/// requests are answered.
const BATCH: usize = 1_024;

/// A model without objects.
pub(crate) fn model(config: &Config, node: &NodeName) -> Model {
    let nets = |prefixes: &[Prefix]| prefixes.iter().map(|prefix| prefix.net()).collect();
    let services = &config.services;
    Model::new(ModelConfig {
        pod_ranges: nets(&config.cluster.pod_cidrs),
        node_port_addresses: nets(&services.node_port_addresses),
        masquerade_ports: (services.masquerade_ports.first(), services.masquerade_ports.last()),
        reset_vanished: services.reset_vanished_endpoints,
        balancing: match config.load_balancing {
            LoadBalancing::Maglev => Balancing::Maglev,
            LoadBalancing::Random => Balancing::Random,
        },
        routing: routing(config),
        ..ModelConfig::new(node.to_string(), gateway(config))
    })
}

fn routing(config: &Config) -> RoutingConfig {
    let nets = |prefixes: &[Prefix]| prefixes.iter().map(|prefix| prefix.net()).collect();
    let (routing, masquerade) = (&config.routing, &config.masquerade);
    let known = RoutingConfig::default();
    RoutingConfig {
        mode: match routing.mode {
            config::RoutingMode::Auto => RoutingMode::Auto,
            config::RoutingMode::Native => RoutingMode::Native,
            config::RoutingMode::Vxlan => RoutingMode::Vxlan,
        },
        // The configuration's numbers have no more bits than this takes.
        vni: Vni::try_new(routing.vxlan.vni.get()).unwrap_or(known.vni),
        udp_port: routing.vxlan.port.get(),
        checksum: match routing.vxlan.checksum {
            config::OuterChecksum::Auto => OuterChecksum::Auto,
            config::OuterChecksum::On => OuterChecksum::On,
            config::OuterChecksum::Off => OuterChecksum::Off,
        },
        clamp_mss: routing.clamp_mss,
        transit: routing.transit,
        service_ranges: nets(&config.cluster.service_cidrs),
        outgoing: masquerade.outgoing.then(|| OutgoingConfig {
            sources: nets(&masquerade.sources),
            exceptions: nets(&masquerade.exceptions),
        }),
    }
}

/// The pods' router.
pub(crate) fn gateway(config: &Config) -> Gateway {
    Gateway {
        mac: MacAddr(config.gateway.mac.octets()),
        ipv4: config.gateway.ipv4,
        ipv6: config.gateway.ipv6,
    }
}

/// A source that has begun to tell, to nobody yet.
pub(crate) struct Objects {
    source: ObjectSource,
    began: Instant,
    told: Receiver<News>,
    liveness: Liveness,
}

/// What tells; it ends when this is dropped.
pub(crate) enum ObjectSource {
    Directory { _watching: DirectorySource },
    Kubernetes(KubernetesSource),
}

impl ObjectSource {
    /// What is to learn that the node serves.
    fn announcer(&self) -> Option<Announcer> {
        match self {
            ObjectSource::Directory { .. } => None,
            ObjectSource::Kubernetes(source) => Some(source.announcer()),
        }
    }
}

impl Objects {
    /// Starts the configured source.
    pub(crate) fn open(config: &Config, node: &NodeName) -> Result<Self, StartError> {
        let ((tell, told), liveness, began) = (channel(), Liveness::default(), Instant::now());
        let source = match &config.source {
            Source::Directory(directory) => {
                ObjectSource::Directory { _watching: DirectorySource::try_new(directory, tell)? }
            }
            Source::Kubernetes(Kubernetes { kubeconfig, context, server }) => {
                let access = Access {
                    kubeconfig: kubeconfig.clone(),
                    context: context.clone(),
                    server: server.as_ref().map(ToString::to_string),
                    ..Access::default()
                };
                let node = node.to_string();
                ObjectSource::Kubernetes(KubernetesSource::try_new(&access, &node, &liveness, tell)?)
            }
        };
        Ok(Objects { source, began, told, liveness })
    }

    /// Has what the source tells applied to the model. Once all that was there at the start is in the tables, the configured
    /// ports are opened and the daemon is ready. It ends when the source, which this gives, is dropped.
    pub(crate) fn follow(
        self,
        config: &Config,
        control: &ControlHandle<Mbuf>,
        readiness: Readiness,
    ) -> Result<ObjectSource, StartError> {
        let Objects { source, began, told, liveness } = self;
        let control = control.clone();
        if liveness.heard().is_some() {
            let tell = move |control: &mut Control<Mbuf>| {
                control.set_server_status(move || server_status(&liveness.heard().unwrap_or_default()));
            };
            control
                .request(tell)
                .map_err(|error| StartError::system("reporting the source")(io::Error::other(error)))?;
        }
        let start =
            Start { began, config: Arc::new(config.clone()), readiness, announcer: source.announcer() };
        std::thread::Builder::new()
            .name("objects".to_owned())
            .spawn(move || forward(&told, &control, &start))
            .map_err(StartError::system("starting the thread for objects"))?;
        Ok(source)
    }
}

/// What the start is measured by, and who is to learn that the node serves.
#[derive(Clone)]
struct Start {
    began: Instant,
    config: Arc<Config>,
    readiness: Readiness,
    announcer: Option<Announcer>,
}

/// Runs until the source or the control thread ends. Until everything that was there at the start has been told, nothing of
/// it is published: tables are made once, from all of it. Only one batch is on its way at a time. While the control thread
/// is busy, what comes is gathered here instead of before the requests in its inbox.
fn forward(told: &Receiver<News>, control: &ControlHandle<Mbuf>, start: &Start) {
    let mut is_synced = false;
    while let Ok(first) = told.recv() {
        let batch: Vec<News> = std::iter::once(first).chain(told.try_iter()).take(BATCH).collect();
        let was_synced = is_synced;
        is_synced |= batch.iter().any(|news| news.change == Change::Synced);
        let (start, (say, applied)) = (start.clone(), sync_channel(1));
        let apply = move |control: &mut Control<Mbuf>| {
            for news in batch {
                if was_synced {
                    note(&news, control);
                }
                apply(news.change, control, &start);
            }
            // Who waits for it has not ended before.
            let _ = say.send(());
        };
        let sent = if is_synced { control.change(apply) } else { control.prepare(apply) };
        if sent.is_err() || applied.recv().is_err() {
            return;
        }
    }
}

/// Has it measured how long the change takes.
fn note(news: &News, control: &mut Control<Mbuf>) {
    match &news.change {
        Change::Apply(object) => control.note_heard(object.kind(), news.heard),
        Change::Delete(kind, _) => control.note_heard(*kind, news.heard),
        Change::Problems(_) | Change::Synced => {}
    }
}

fn apply(change: Change, control: &mut Control<Mbuf>, start: &Start) {
    match change {
        Change::Apply(object) => {
            if let Object::NetworkPolicy(policy) = &*object
                && !control.model().policies().contains_key(&policy.name)
            {
                tracing::warn!(policy = %policy.name, "this NetworkPolicy is not enforced: Millrace does not do that yet");
            }
            control.model().apply(*object);
        }
        Change::Delete(kind, name) => control.model().delete(kind, &name),
        Change::Problems(problems) => {
            control.set_object_errors(problems.into_iter().map(object_error).collect());
        }
        Change::Synced => {
            control.set_synced();
            control.publish();
            control.note_load(start.began.elapsed());
            // Containers first: theirs are flows that wait.
            control.adopt_attachments();
            control.open_configured_ports();
            control.set_ports_opened();
            if let Err(error) = cni_conf::put(&start.config) {
                let file = start.config.cni.conf_file.as_deref().unwrap_or(Path::new("")).display();
                tracing::error!(%file, %error, "the CNI network configuration is not written: the node gets no containers");
            }
            start.readiness.set();
            if let Some(announcer) = &start.announcer {
                announcer.announce();
            }
            tracing::info!("ready");
        }
    }
}

fn server_status(heard: &Heard) -> ServerStatus {
    let kind = |(kind, of): (&Kind, &HeardOfKind)| KindStatus {
        kind: kind.to_string(),
        objects: of.objects,
        lists: of.lists,
        complete: of.lists > 0,
        errors: of.errors.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
    };
    ServerStatus {
        address: heard.server.clone(),
        connected: heard.is_connected(),
        age_seconds: heard.age().map(|age| age.as_secs_f64()),
        last_error: heard.last_error().map(str::to_owned),
        kinds: heard.kinds.iter().map(kind).collect(),
    }
}

fn object_error(problem: Problem) -> ObjectError {
    ObjectError {
        file: problem.file.display().to_string(),
        document: problem.document.map(|document| document as u64),
        object: problem.object,
        reason: problem.reason,
    }
}
