//! Service frontends and the backends behind them.

use super::{Address, AddressSet, Backend, BackendSet, Change, Origin, SharedMap};
use std::sync::Arc;

/// Names a service port (a service may have several). The model derives it from the port's name, so that it stays the
/// same over a restart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceId(pub u32);

impl ServiceId {
    /// No service: an untranslated flow.
    pub const NONE: ServiceId = ServiceId(0);
}

/// An address and port at which a service answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FrontendKey {
    /// Virtual address.
    pub address: Address,
    /// Port, in host order.
    pub port: u16,
    /// IP protocol number: TCP 6, UDP 17, SCTP 132.
    pub protocol: u8,
}

/// Why a service answers at an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FrontendKind {
    /// `spec.clusterIPs`. The whole address is the service's: its other ports are refused.
    ClusterIp,
    /// `spec.ports[].nodePort` at an address of this node.
    NodePort,
    /// `spec.externalIPs`.
    ExternalIp,
    /// `status.loadBalancer.ingress[].ip`.
    LoadBalancer,
    /// `spec.containers[].ports[].hostPort` of a pod of this node, at an address of this node.
    HostPort,
}

impl FrontendKind {
    /// The name in the admin API and in traces.
    pub const fn name(self) -> &'static str {
        match self {
            FrontendKind::ClusterIp => "ClusterIP",
            FrontendKind::NodePort => "NodePort",
            FrontendKind::ExternalIp => "ExternalIP",
            FrontendKind::LoadBalancer => "LoadBalancer",
            FrontendKind::HostPort => "HostPort",
        }
    }
}

/// What a new connection to a frontend meets.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Endpoints that may be chosen on this node.
    pub backends: Arc<BackendSet>,
    /// What happens when there are none.
    pub when_empty: WhenEmpty,
}

impl Default for Pool {
    fn default() -> Self {
        Pool { backends: Arc::default(), when_empty: WhenEmpty::Reject }
    }
}

/// What a packet to an address of a service meets.
#[derive(Clone, Debug)]
pub struct Frontend {
    /// The service port that this frontend belongs to.
    pub service: ServiceId,
    /// Why the service answers here.
    pub kind: FrontendKind,
    /// For connections from this node and its pods, and at a ClusterIP from all pods.
    pub inside: Pool,
    /// For connections from elsewhere; that of `inside` if the policies do not tell them apart.
    pub outside: Pool,
    /// `externalTrafficPolicy: Local`: who comes from outside keeps its address.
    pub keeps_client: bool,
    /// `spec.loadBalancerSourceRanges`: who may come. `None` admits everyone.
    pub sources: Option<Arc<AddressSet>>,
    /// `ClientIP` session affinity: seconds that a client stays with its endpoint after its last new connection.
    pub affinity: Option<u32>,
}

impl Frontend {
    /// A frontend that treats everybody alike, without affinity: that of a ClusterIP.
    pub fn cluster_ip(service: ServiceId, pool: Pool) -> Self {
        let (inside, outside) = (pool.clone(), pool);
        let kind = FrontendKind::ClusterIp;
        Frontend { service, kind, inside, outside, keeps_client: false, sources: None, affinity: None }
    }

    /// What a connection that begins there meets. A pod of another node that comes to this one for a NodePort is outside: its
    /// own node knew the cluster's endpoints, had it asked there (`test/e2e/network/service.go`, "should fallback to local
    /// terminating endpoints").
    #[inline]
    pub fn pool(&self, origin: Origin) -> &Pool {
        match (origin, self.kind) {
            (Origin::Pod | Origin::Node, _) | (Origin::RemotePod, FrontendKind::ClusterIp) => &self.inside,
            (Origin::RemotePod | Origin::Outside, _) => &self.outside,
        }
    }

    /// Whether a connection that begins there takes this node's address as its source, so that its replies come back
    /// here to be translated. Those of a pod of this node do so anyway (`pkg/proxy/iptables/proxier.go`, chains
    /// `KUBE-SVC` and `KUBE-EXT`).
    #[inline]
    pub fn masquerades(&self, origin: Origin) -> bool {
        match (origin, self.kind) {
            (Origin::Pod, _) | (Origin::RemotePod, FrontendKind::ClusterIp) => false,
            (Origin::Node, _) | (Origin::Outside, FrontendKind::ClusterIp) => true,
            (Origin::RemotePod | Origin::Outside, _) => !self.keeps_client,
        }
    }
}

/// What a new connection to a frontend without usable backends meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenEmpty {
    /// TCP RST or ICMP port unreachable: nobody serves this anywhere.
    Reject,
    /// Silence: a `Local` traffic policy leaves none on this node, others may have some.
    Drop,
}

/// All frontends of this node.
#[derive(Clone, Debug, Default)]
pub struct ServiceTable {
    frontends: SharedMap<FrontendKey, Frontend>,
    addresses: SharedMap<Address, u32>,
    serving: SharedMap<(ServiceId, Backend), ()>,
}

impl ServiceTable {
    /// The frontend at an address, port and protocol.
    #[inline]
    pub fn frontend(&self, key: &FrontendKey) -> Option<&Frontend> {
        self.frontends.get(key)
    }

    /// Whether this is a ClusterIP: what is sent to another of its ports is refused.
    #[inline]
    pub fn is_service_address(&self, address: Address) -> bool {
        self.addresses.get(&address).is_some()
    }

    /// Whether a backend of a service still serves. Flows to one that does not are resolved again (UDP) or left
    /// to die (TCP).
    #[inline]
    pub fn is_serving(&self, service: ServiceId, backend: Backend) -> bool {
        self.serving.get(&(service, backend)).is_some()
    }

    /// Adds or replaces a frontend.
    pub fn insert(&mut self, key: FrontendKey, frontend: Frontend) -> Option<Frontend> {
        let owns = frontend.kind == FrontendKind::ClusterIp;
        let former = self.frontends.insert(key, frontend);
        let owned = former.as_ref().is_some_and(|former| former.kind == FrontendKind::ClusterIp);
        self.count_use(key.address, owns, owned);
        former
    }

    /// Removes a frontend; gives what it was.
    pub fn remove(&mut self, key: &FrontendKey) -> Option<Frontend> {
        let former = self.frontends.remove(key)?;
        self.count_use(key.address, false, former.kind == FrontendKind::ClusterIp);
        Some(former)
    }

    /// Counts the ClusterIP frontends of an address, one of which comes or goes.
    fn count_use(&mut self, address: Address, now: bool, before: bool) {
        let uses = self.addresses.get(&address).copied().unwrap_or(0);
        match (before, now) {
            (false, true) => self.addresses.insert(address, uses + 1),
            (true, false) if uses > 1 => self.addresses.insert(address, uses - 1),
            (true, false) => self.addresses.remove(&address),
            (false, false) | (true, true) => None,
        };
    }

    /// Says that a backend serves, or no longer serves, a service. True when that was news.
    pub fn set_serving(&mut self, service: ServiceId, backend: Backend, serving: bool) -> bool {
        if serving {
            self.serving.get(&(service, backend)).is_none()
                && self.serving.insert((service, backend), ()).is_none()
        } else {
            self.serving.remove(&(service, backend)).is_some()
        }
    }

    /// Frontends that came, went or may have changed since an earlier version of this table.
    pub fn frontend_changes<'a>(
        &'a self,
        earlier: &'a Self,
    ) -> impl Iterator<Item = Change<'a, FrontendKey, Frontend>> {
        self.frontends.changes_since(&earlier.frontends)
    }

    /// Frontends, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&FrontendKey, &Frontend)> {
        self.frontends.iter()
    }

    /// Number of frontends.
    pub fn len(&self) -> usize {
        self.frontends.len()
    }

    /// Whether there is no frontend.
    pub fn is_empty(&self) -> bool {
        self.frontends.is_empty()
    }
}
