//! Who answers at an address that several services want.

use crate::object::{ObjectName, Transport};
use millrace_fastpath::tables::{FrontendKey, FrontendKind};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A frontend's key in an order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ClaimKey {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) protocol: Transport,
}

impl ClaimKey {
    pub(crate) fn table_key(&self) -> FrontendKey {
        FrontendKey { address: self.address.into(), port: self.port, protocol: self.protocol.number() }
    }
}

/// What comes first among the kinds that want an address, lowest first. Cluster addresses are given out by the cluster and
/// belong to one service; nobody takes them away by an external IP (CVE-2020-8554). NodePorts come last, as in upstream's
/// chains. Within a service a load balancer's address that is an external IP, too, keeps its source ranges, as in
/// upstream's nftables proxy.
pub(super) fn precedence(kind: FrontendKind) -> u8 {
    match kind {
        FrontendKind::ClusterIp => 0,
        FrontendKind::LoadBalancer => 1,
        FrontendKind::ExternalIp => 2,
        FrontendKind::NodePort => 3,
        // Where kube-proxy and the portmap plugin meet, the former's chain is asked first.
        FrontendKind::HostPort => 4,
    }
}

/// Who wants which frontend. The first by precedence, then by name has it.
#[derive(Debug, Default)]
pub(crate) struct Claims(BTreeMap<ClaimKey, BTreeSet<(u8, ObjectName)>>);

impl Claims {
    /// Replaces a service's claim to a frontend. If that makes another service its owner, this says which one.
    pub(super) fn replace(
        &mut self,
        key: ClaimKey,
        name: &ObjectName,
        former: Option<FrontendKind>,
        wanted: Option<FrontendKind>,
    ) -> Option<ObjectName> {
        if former == wanted {
            return None;
        }
        let claims = self.0.entry(key).or_default();
        let before = claims.first().cloned();
        if let Some(kind) = former {
            claims.remove(&(rank(kind), name.clone()));
        }
        if let Some(kind) = wanted {
            claims.insert((rank(kind), name.clone()));
        }
        let after = claims.first().cloned();
        if claims.is_empty() {
            self.0.remove(&key);
        }
        let (_, owner) = after?;
        (before.is_none_or(|(_, before)| before != owner) && owner != *name).then_some(owner)
    }

    /// The service that has a frontend.
    pub(crate) fn owner(&self, key: &ClaimKey) -> Option<&ObjectName> {
        self.0.get(key)?.first().map(|(_, name)| name)
    }

    /// All services that want a frontend, its owner first.
    pub(crate) fn of(&self, key: &ClaimKey) -> impl Iterator<Item = &ObjectName> {
        self.0.get(key).into_iter().flatten().map(|(_, name)| name)
    }
}

/// Between services, external IPs and load balancers' addresses are the same thing.
fn rank(kind: FrontendKind) -> u8 {
    match kind {
        FrontendKind::ExternalIp => precedence(FrontendKind::LoadBalancer),
        kind => precedence(kind),
    }
}
