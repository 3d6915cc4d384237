//! Which endpoints of a service port take new connections on this node, and why the others do not.
//!
//! The rules are those of kube-proxy (`pkg/proxy/topology.go`; KEP-1669 for terminating endpoints, KEP-2433 and
//! KEP-3015 for hints).

use crate::object::{Endpoint, TrafficPolicy};
use millrace_fastpath::tables::WhenEmpty;

/// Whether an endpoint takes connections, with the rules for absent fields applied.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Conditions {
    /// It takes new connections.
    pub ready: bool,
    /// It answers, ready or not.
    pub serving: bool,
    /// It is about to end.
    pub terminating: bool,
}

impl Conditions {
    /// From the optional fields: an absent `ready` means ready, an absent `serving` what `ready` says, an absent
    /// `terminating` no.
    pub fn new(ready: Option<bool>, serving: Option<bool>, terminating: Option<bool>) -> Self {
        let ready = ready.unwrap_or(true);
        Conditions { ready, serving: serving.unwrap_or(ready), terminating: terminating.unwrap_or(false) }
    }

    /// Whether it takes connections, if need be as the last resort.
    pub(crate) fn may_take_connections(self) -> bool {
        self.ready || self.is_last_resort()
    }

    /// The next best thing to ready: what takes connections when nobody is ready.
    fn is_last_resort(self) -> bool {
        self.serving && self.terminating
    }

    /// Whether established flows may stay.
    pub fn keeps_flows(self) -> bool {
        self.ready || self.serving
    }

    /// Of two mentions of one endpoint the higher counts. A pod that runs comes before one that ends: it has the address of
    /// that one already (`pkg/proxy/endpointslicecache.go`). Then the better one counts.
    pub(crate) fn rank(self) -> (bool, bool, bool) {
        (!self.terminating, self.ready, self.serving)
    }
}

/// Which node asks, and by which policy.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// The name of this node.
    pub node: &'a str,
    /// The zone of this node.
    pub zone: Option<&'a str>,
    /// The service's policy for this kind of traffic: `Cluster` asks for the cluster set, `Local` for the local set.
    pub traffic: TrafficPolicy,
}

/// Why an endpoint is not in a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It is not ready, and not about to end either.
    NotReady,
    /// It is terminating, and others are ready.
    Terminating,
    /// It is terminating and has stopped to serve.
    NotServing,
    /// It is on another node, and the set is that of this node.
    OtherNode,
    /// Hints give it to other nodes, and others to this one.
    HintedToOtherNode,
    /// Hints give it to other zones, and others to this node's.
    HintedToOtherZone,
}

/// The endpoints that take new connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// For each of the given endpoints: whether it is in the set, and if not, why.
    pub standings: Vec<Result<(), Reason>>,
    /// What happens when the set is empty.
    pub when_empty: WhenEmpty,
}

impl Choice {
    /// Positions of the endpoints in the set, ascending.
    pub fn usable(&self) -> impl Iterator<Item = usize> + '_ {
        self.standings.iter().enumerate().filter(|(_, standing)| standing.is_ok()).map(|(index, _)| index)
    }
}

/// Chooses among the endpoints of one service port and one family, in which every endpoint occurs once.
pub fn choose(endpoints: &[&Endpoint], policy: Policy<'_>) -> Choice {
    match policy.traffic {
        TrafficPolicy::Cluster => {
            Choice { standings: cluster_set(endpoints, policy), when_empty: WhenEmpty::Reject }
        }
        TrafficPolicy::Local => {
            let anywhere = endpoints.iter().any(|endpoint| endpoint.conditions.may_take_connections());
            let when_empty = if anywhere { WhenEmpty::Drop } else { WhenEmpty::Reject };
            Choice { standings: local_set(endpoints, policy), when_empty }
        }
    }
}

fn cluster_set(endpoints: &[&Endpoint], policy: Policy<'_>) -> Vec<Result<(), Reason>> {
    let any_ready = endpoints.iter().any(|endpoint| endpoint.conditions.ready);
    let nearness = Nearness::of(endpoints, policy);
    let standing = |endpoint: &&Endpoint| match endpoint.conditions.ready {
        true => nearness.admits(endpoint, policy),
        false => last_resort(endpoint.conditions, any_ready),
    };
    endpoints.iter().map(standing).collect()
}

fn local_set(endpoints: &[&Endpoint], policy: Policy<'_>) -> Vec<Result<(), Reason>> {
    let is_local = |endpoint: &Endpoint| endpoint.node.as_deref() == Some(policy.node);
    let any_ready = endpoints.iter().any(|endpoint| is_local(endpoint) && endpoint.conditions.ready);
    let standing = |endpoint: &&Endpoint| match (is_local(endpoint), endpoint.conditions.ready) {
        (false, _) => Err(Reason::OtherNode),
        (true, true) => Ok(()),
        (true, false) => last_resort(endpoint.conditions, any_ready),
    };
    endpoints.iter().map(standing).collect()
}

/// Whether an endpoint that is not ready is taken all the same.
fn last_resort(conditions: Conditions, others_are_ready: bool) -> Result<(), Reason> {
    match (conditions.is_last_resort(), others_are_ready) {
        (true, false) => Ok(()),
        (true, true) => Err(Reason::Terminating),
        (false, _) if conditions.terminating => Err(Reason::NotServing),
        (false, _) => Err(Reason::NotReady),
    }
}

/// Which hints hold. They do only if every ready endpoint has them and one of them names us: else a node or zone
/// could be left with nobody.
#[derive(Clone, Copy)]
enum Nearness {
    Anywhere,
    SameNode,
    SameZone,
}

impl Nearness {
    fn of(endpoints: &[&Endpoint], policy: Policy<'_>) -> Nearness {
        let ready = || endpoints.iter().filter(|endpoint| endpoint.conditions.ready);
        let hold = |hints: fn(&Endpoint) -> &[String], us: &str| {
            ready().all(|endpoint| !hints(endpoint).is_empty())
                && ready().any(|endpoint| names(hints(endpoint), us))
        };
        if hold(|endpoint| &endpoint.for_nodes, policy.node) {
            Nearness::SameNode
        } else if policy.zone.is_some_and(|zone| hold(|endpoint| &endpoint.for_zones, zone)) {
            Nearness::SameZone
        } else {
            Nearness::Anywhere
        }
    }

    fn admits(self, endpoint: &Endpoint, policy: Policy<'_>) -> Result<(), Reason> {
        let in_zone = |zone| names(&endpoint.for_zones, zone);
        match self {
            Nearness::SameNode if !names(&endpoint.for_nodes, policy.node) => Err(Reason::HintedToOtherNode),
            Nearness::SameZone if !policy.zone.is_some_and(in_zone) => Err(Reason::HintedToOtherZone),
            Nearness::Anywhere | Nearness::SameNode | Nearness::SameZone => Ok(()),
        }
    }
}

fn names(hints: &[String], us: &str) -> bool {
    hints.iter().any(|hint| hint == us)
}
