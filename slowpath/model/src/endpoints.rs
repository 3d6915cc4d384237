//! Which endpoints of a service port take new connections on this node.
//!
//! The rules are those of kube-proxy (KEP-1669 for terminating endpoints, KEP-2433 and KEP-3015 for hints).

use crate::object::{Endpoint, TrafficPolicy};
use millrace_fastpath::tables::WhenEmpty;

/// Whether an endpoint takes connections, with the rules for absent fields applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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

    /// Ready, or the next best thing: what takes connections when nobody is ready.
    fn is_last_resort(self) -> bool {
        self.serving && self.terminating
    }

    /// Whether established flows may stay.
    pub(crate) fn keeps_flows(self) -> bool {
        self.ready || self.serving
    }

    /// Of two mentions of one endpoint the better counts.
    pub(crate) fn rank(self) -> u8 {
        u8::from(self.ready) << 2 | u8::from(self.serving) << 1 | u8::from(!self.terminating)
    }
}

/// Which node asks, and by which policy.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// The name of this node.
    pub node: &'a str,
    /// The zone of this node.
    pub zone: Option<&'a str>,
    /// The service's policy for this kind of traffic.
    pub traffic: TrafficPolicy,
}

/// The endpoints that take new connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// Indices into the given endpoints, ascending.
    pub usable: Vec<usize>,
    /// What happens when there are none.
    pub when_empty: WhenEmpty,
}

/// Chooses among the endpoints of one service port and one family, in which every endpoint occurs once.
pub fn choose(endpoints: &[&Endpoint], policy: Policy<'_>) -> Choice {
    let is_local = |endpoint: &Endpoint| endpoint.node.as_deref() == Some(policy.node);
    let all: Vec<usize> = (0..endpoints.len()).collect();
    match policy.traffic {
        TrafficPolicy::Cluster => {
            let ready = with(endpoints, &all, |endpoint| endpoint.conditions.ready);
            let ready = by_topology(endpoints, ready, policy);
            Choice { usable: or_last_resort(endpoints, ready, &all), when_empty: WhenEmpty::Reject }
        }
        TrafficPolicy::Local => {
            let local = with(endpoints, &all, is_local);
            let ready = with(endpoints, &local, |endpoint| endpoint.conditions.ready);
            let anywhere = endpoints
                .iter()
                .any(|endpoint| endpoint.conditions.ready || endpoint.conditions.is_last_resort());
            Choice {
                usable: or_last_resort(endpoints, ready, &local),
                when_empty: if anywhere { WhenEmpty::Drop } else { WhenEmpty::Reject },
            }
        }
    }
}

fn with(endpoints: &[&Endpoint], among: &[usize], keep: impl Fn(&Endpoint) -> bool) -> Vec<usize> {
    among.iter().copied().filter(|&index| keep(endpoints[index])).collect()
}

fn or_last_resort(endpoints: &[&Endpoint], ready: Vec<usize>, among: &[usize]) -> Vec<usize> {
    if ready.is_empty() {
        return with(endpoints, among, |endpoint| endpoint.conditions.is_last_resort());
    }
    ready
}

/// Hints hold only if every ready endpoint has them and one of them names us: else a zone or node could be left
/// with nobody.
fn by_topology(endpoints: &[&Endpoint], ready: Vec<usize>, policy: Policy<'_>) -> Vec<usize> {
    let hinted = |hints: fn(&Endpoint) -> &[String], us: &str| {
        let everywhere = ready.iter().all(|&index| !hints(endpoints[index]).is_empty());
        let ours = with(endpoints, &ready, |endpoint| hints(endpoint).iter().any(|hint| hint == us));
        (everywhere && !ours.is_empty()).then_some(ours)
    };
    hinted(|endpoint| &endpoint.for_nodes, policy.node)
        .or_else(|| hinted(|endpoint| &endpoint.for_zones, policy.zone?))
        .unwrap_or(ready)
}
