//! What a cluster expects of the node's service proxy besides carrying packets: its health, over HTTP.
//!
//! `health` is kube-proxy's own (`:10256/healthz` and `/livez`), `status` what it tells at `:10249`, `checks` are the servers
//! behind `healthCheckNodePort`, `listen` takes addresses and keeps strangers from using up the daemon's descriptors.

mod answer;
mod checks;
mod health;
mod listen;
mod status;

pub(crate) use health::{ProbeCounts, Probes};

use crate::control_end::ControlEnd;
use axum::Router;
use checks::Checks;
use ipnet::IpNet;
use millrace_config::Services;
use millrace_control::{HealthChecks, Progress};
use std::time::Duration;
use tokio::sync::watch;

/// How often an address is tried again that could not be taken, as kube-proxy does it.
const RETRY: Duration = Duration::from_secs(5);

/// What the servers tell, and where from.
pub(crate) struct Sources {
    /// How the control thread gets on.
    pub(crate) progress: Progress,
    /// The health checks to answer.
    pub(crate) checks: watch::Receiver<HealthChecks>,
    /// Who hears of what goes wrong.
    pub(crate) control: ControlEnd,
}

/// Starts all servers on the runtime of the calling thread; they end with it. Addresses that cannot be taken are tried
/// again: a node that still runs kube-proxy must not keep the daemon from starting.
pub(crate) fn spawn(services: &Services, sources: Sources) -> Probes {
    let Sources { progress, checks, control } = sources;
    let probes = Probes::default();
    if let Some(address) = services.health_address.address() {
        tokio::spawn(health::serve(address, progress.clone(), probes.clone()));
    }
    let selected: Vec<IpNet> = services.node_port_addresses.iter().map(|prefix| prefix.net()).collect();
    tokio::spawn(Checks::new(selected, progress, control).follow(checks));
    probes
}

/// Starts the server that tells the mode, and the metrics with it.
pub(crate) fn spawn_status(services: &Services, metrics: Router) {
    if let Some(address) = services.status_address.address() {
        tokio::spawn(status::serve(address, metrics));
    }
}
