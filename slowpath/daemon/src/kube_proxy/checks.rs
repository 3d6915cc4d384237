//! The servers behind `healthCheckNodePort`: whether a load balancer is to send a service's clients to this node.
//!
//! Every service of type LoadBalancer with the external traffic policy `Local` has one
//! (pkg/proxy/healthcheck/service_health.go). Servers come and go with the services.

use super::RETRY;
use super::answer::weighed;
use super::listen::{self, EVERYWHERE, Guarded};
use crate::control_end::ControlEnd;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use ipnet::IpNet;
use millrace_api::ObjectError;
use millrace_control::{HealthChecks, Progress};
use millrace_model::HealthCheck;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::{oneshot, watch};

/// Connections at a time to each address of a service: load balancers ask every few seconds.
const CONNECTIONS: usize = 32;

/// All servers of the node.
pub(super) struct Checks {
    /// Which of the node's addresses answer; if empty, all.
    selected: Vec<IpNet>,
    progress: Progress,
    control: ControlEnd,
    servers: BTreeMap<u16, Server>,
    /// What was told to be wrong last.
    told: Vec<ObjectError>,
}

/// The server of one service.
struct Server {
    told: Arc<Mutex<HealthCheck>>,
    /// Its listeners; each ends when its end of the channel is dropped.
    listeners: BTreeMap<SocketAddr, oneshot::Sender<()>>,
}

#[derive(Clone)]
struct Asked {
    check: Arc<Mutex<HealthCheck>>,
    progress: Progress,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    service: Name<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Serialize)]
struct Name<'a> {
    namespace: &'a str,
    name: &'a str,
}

impl Checks {
    pub(super) fn new(selected: Vec<IpNet>, progress: Progress, control: ControlEnd) -> Self {
        Checks { selected, progress, control, servers: BTreeMap::new(), told: Vec::new() }
    }

    /// Keeps the servers as they are wanted until the control thread ends. Interfaces come and go without a word, and so
    /// do other owners of a port: what is wrong, or may be by now, is looked at again from time to time.
    pub(super) async fn follow(mut self, mut wanted: watch::Receiver<HealthChecks>) {
        loop {
            let checks = wanted.borrow_and_update().clone();
            let errors = self.reconcile(&checks);
            self.tell(errors).await;
            let may_change = !self.told.is_empty() || !self.selected.is_empty() && !checks.is_empty();
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if may_change => {}
            }
        }
    }

    /// Opens and closes what has to be; gives what could not be opened.
    fn reconcile(&mut self, wanted: &BTreeMap<u16, HealthCheck>) -> Vec<ObjectError> {
        self.servers.retain(|port, _| wanted.contains_key(port));
        if wanted.is_empty() {
            return Vec::new();
        }
        let addresses = self.addresses();
        let mut errors = Vec::new();
        for (&port, check) in wanted {
            let server = self.servers.entry(port).or_insert_with(|| Server::new(check.clone()));
            server.tell(check);
            let opened = match &addresses {
                Ok(addresses) => server.open(port, addresses, &self.progress),
                Err(reason) => Err(reason.clone()),
            };
            errors.extend(opened.err().map(|reason| error(port, check, &reason)));
        }
        errors
    }

    fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        if self.selected.is_empty() {
            return Ok(vec![EVERYWHERE]);
        }
        let found = listen::addresses_in(&self.selected).map_err(|error| error.to_string())?;
        if found.is_empty() {
            let ranges: Vec<String> = self.selected.iter().map(ToString::to_string).collect();
            let ranges = ranges.join(", ");
            return Err(format!("no interface has an address in services.nodePortAddresses: {ranges}"));
        }
        Ok(found)
    }

    /// Makes known what is wrong, if that changed.
    async fn tell(&mut self, errors: Vec<ObjectError>) {
        if errors == self.told {
            return;
        }
        for new in errors.iter().filter(|error| !self.told.contains(error)) {
            let object = new.object.as_deref().unwrap_or_default();
            tracing::warn!(object, reason = new.reason, "health check not answered; it is tried again");
        }
        self.told.clone_from(&errors);
        // At the end of the daemon nobody listens any more.
        let _ = self.control.ask(move |control| control.set_health_errors(errors)).await;
    }
}

impl Server {
    fn new(check: HealthCheck) -> Self {
        Server { told: Arc::new(Mutex::new(check)), listeners: BTreeMap::new() }
    }

    fn tell(&self, check: &HealthCheck) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone_from(check);
    }

    /// Listens at these addresses and at no others. Opens what can be opened; the first failure is told.
    fn open(&mut self, port: u16, addresses: &[SocketAddr], progress: &Progress) -> Result<(), String> {
        self.listeners.retain(|address, _| addresses.contains(address));
        let mut outcome = Ok(());
        for &address in addresses {
            if self.listeners.contains_key(&address) {
                continue;
            }
            let mut at = address;
            at.set_port(port);
            match listen_at(at, Asked { check: Arc::clone(&self.told), progress: progress.clone() }) {
                Ok(stop) => drop(self.listeners.insert(address, stop)),
                Err(error) => outcome = outcome.and(Err(format!("{at}: {error}"))),
            }
        }
        outcome
    }
}

/// Serves until what it gives is dropped.
fn listen_at(address: SocketAddr, asked: Asked) -> io::Result<oneshot::Sender<()>> {
    let address = match address {
        // Where there is no IPv6, IPv4 must do.
        everywhere if everywhere.ip().is_unspecified() => SocketAddr::from(([0, 0, 0, 0], address.port())),
        one => one,
    };
    let listener = Guarded::new(listen::bind(address)?, CONNECTIONS);
    let (stop, stopped) = oneshot::channel::<()>();
    // Any path and any method, as upstream does it.
    let router = Router::new().fallback(answer).with_state(asked);
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        let _ = stopped.await;
    });
    tokio::spawn(async move { server.await });
    Ok(stop)
}

async fn answer(State(asked): State<Asked>) -> Response {
    let check = asked.check.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let healthy = asked.progress.health(Instant::now()).healthy;
    let body = Body {
        service: Name { namespace: &check.service.namespace, name: &check.service.name },
        local_endpoints: check.local_endpoints,
        service_proxy_healthy: healthy,
    };
    weighed(healthy && check.local_endpoints > 0, &body, check.local_endpoints)
}

fn error(port: u16, check: &HealthCheck, reason: &str) -> ObjectError {
    ObjectError {
        file: "this node".to_owned(),
        object: Some(format!("Service {}", check.service)),
        reason: format!("spec.healthCheckNodePort {port} is not answered: {reason}"),
        ..ObjectError::default()
    }
}
