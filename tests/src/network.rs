//! A daemon with its pods.

use crate::daemon::{Daemon, NODE};
use crate::manifest::{Manifests, ServiceSpec};
use crate::pod::{Family, Kind, Pod};
use crate::traffic::ping;
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Two daemons and their pods on two cores would measure each other: one network at a time.
static ALONE: Mutex<()> = Mutex::new(());
/// The same between test programs.
const LOCK: &str = "/run/lock/millrace-tests";

/// A node with pods. Fields end in this order: guests, daemon, then the permission to be alone.
#[derive(Debug)]
pub struct Network {
    pods: Vec<Pod>,
    daemon: Option<Daemon>,
    _alone: (MutexGuard<'static, ()>, Flock<File>),
}

impl Network {
    /// A daemon with a pod of each kind named, called `a`, `b`, `c` and so on.
    pub fn start(kinds: &[Kind]) -> Self {
        Self::start_with(kinds, |_| ())
    }

    /// The same with a changed configuration.
    pub fn start_with(kinds: &[Kind], change: impl FnOnce(&mut Value)) -> Self {
        let alone = (ALONE.lock().unwrap_or_else(PoisonError::into_inner), machine());
        let mut network =
            Network { pods: Vec::new(), daemon: Some(Daemon::start(&[], change)), _alone: alone };
        for kind in kinds {
            network.add_pod(*kind);
        }
        network.settle();
        network
    }

    /// Adds a pod, by its manifest and the admin API.
    pub fn add_pod(&mut self, kind: Kind) -> usize {
        let at = u8::try_from(self.pods.len()).expect("few pods");
        let name = char::from(b'a' + at).to_string();
        let mut pod = Pod::new(&name, kind, 10 + at);
        let daemon = self.daemon();
        daemon.manifests().pod(&name, NODE, &pod.addresses());
        daemon.add_port(&pod.port(daemon.room()));
        pod.connect(daemon.room());
        self.pods.push(pod);
        self.pods.len() - 1
    }

    /// Waits until every pod's link is up and its addresses lead to it.
    pub fn settle(&self) {
        eventually("links of all pods up", Duration::from_secs(30), || {
            let ports = self.daemon().ports();
            self.pods.iter().all(|pod| {
                let port = ports.iter().find(|port| port.config.name.as_str() == pod.name);
                port.is_some_and(|port| {
                    port.link == millrace_api::LinkState::Up
                        && pod.addresses().iter().all(|address| port.pod_ips.contains(address))
                })
            })
        });
        // A TAP's or veth's far end may take some time to have its carrier.
        for pod in &self.pods {
            for gateway in [crate::pod::GATEWAY_IPV4.to_owned(), format!("{}%eth0", crate::pod::GATEWAY_IPV6)]
            {
                eventually("the gateway answers", Duration::from_secs(10), || ping(pod, &gateway, 56));
            }
        }
    }

    /// The daemon.
    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs until the end")
    }

    /// A pod by its place in the list of kinds.
    pub fn pod(&self, at: usize) -> &Pod {
        &self.pods[at]
    }

    /// All pods.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// The manifests.
    pub fn manifests(&self) -> &Manifests {
        self.daemon().manifests()
    }

    /// Writes a service with these pods as its endpoints and waits until the daemon serves it.
    pub fn serve(&self, spec: &ServiceSpec, pods: &[usize]) {
        self.manifests().service(spec);
        self.set_endpoints(spec, pods);
    }

    /// Replaces the endpoints of a service and waits until the daemon uses them.
    pub fn set_endpoints(&self, spec: &ServiceSpec, pods: &[usize]) {
        let backends: Vec<IpAddr> = pods.iter().flat_map(|at| self.pods[*at].addresses()).collect();
        self.manifests().endpoints(spec, NODE, &backends);
        let path = millrace_api::path::service(crate::manifest::NAMESPACE, &spec.name);
        eventually("the service's endpoints", Duration::from_secs(10), || {
            let Ok(service) = self.daemon().client().get::<millrace_api::Service>(&path) else {
                return false;
            };
            let frontends = service.ports.iter().map(|port| port.frontends.len()).sum::<usize>();
            frontends == spec.ports.len() * spec.cluster_ips.len()
                && service.ports.iter().all(|port| {
                    let usable = port.endpoints.iter().filter(|endpoint| endpoint.usable);
                    let usable: BTreeSet<IpAddr> = usable.map(|endpoint| endpoint.address).collect();
                    usable == backends.iter().copied().collect()
                })
        });
    }

    /// Ends everything and checks that the daemon leaves nothing, in the pods neither.
    pub fn stop(mut self) {
        let mut daemon = self.daemon.take().expect("it runs until the end");
        // With peers still connected: nobody says goodbye before a node is switched off.
        daemon.stop();
        for pod in &self.pods {
            if pod.kind != Kind::Vhost {
                assert_eq!(pod.netns().interfaces(), ["lo"], "pod {} keeps an interface", pod.name);
            }
        }
    }

    /// Address of the service in a family.
    pub fn cluster_ip(spec: &ServiceSpec, family: Family) -> IpAddr {
        let wanted = |address: &&IpAddr| address.is_ipv4() == (family == Family::V4);
        *spec.cluster_ips.iter().find(wanted).expect("a dual-stack service")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(daemon) = &self.daemon
        {
            eprintln!("log of millraced:\n{}", daemon.log());
        }
    }
}

/// The machine, when nobody else tests on it.
fn machine() -> Flock<File> {
    let file = File::create(LOCK).expect("a lock can be made; the tests need root");
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("a lock can be waited for")
}

/// Waits until `condition` holds; panics with `what` after `limit`.
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
