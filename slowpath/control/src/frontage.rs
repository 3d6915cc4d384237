//! Frontends that the host's own packets would not come to by themselves.
//!
//! A kernel keeps what its host sends to the host's own addresses, as those of NodePorts and host ports, and sends what is for
//! load balancers' and external addresses past us by its NIC. The host's leg is told of all of them ([`Device::steer`]).

use crate::control::Control;
#[cfg(doc)]
use crate::driver::Device;
use crate::driver::Take;
use millrace_fastpath::port::{Claim, ClaimChanges, Frame, PortId};
use millrace_fastpath::tables::{Frontend, FrontendKey, FrontendKind, ServiceTable};
use std::collections::{BTreeMap, BTreeSet};

/// What the host's leg is to take, and what it has been told of that.
#[derive(Default)]
pub(crate) struct Frontage {
    /// The tables that `wanted` is from.
    former: ServiceTable,
    wanted: BTreeSet<Claim>,
    /// What is to be told: claimed, or released.
    untold: BTreeMap<Claim, bool>,
    /// The leg that was told the rest.
    leg: Option<PortId>,
    /// Why it could not be told.
    pub(crate) problem: Option<String>,
}

impl Frontage {
    /// Takes in a new version of the tables.
    fn update(&mut self, now: &ServiceTable) {
        for change in now.frontend_changes(&self.former) {
            let claim = claim(change.key);
            let has_changed = match change.now.is_some_and(is_taken) {
                true => self.wanted.insert(claim),
                false => self.wanted.remove(&claim),
            };
            if has_changed {
                self.untold.insert(claim, self.wanted.contains(&claim));
            }
        }
        self.former = now.clone();
    }

    /// What a leg is to be told; all of it, if it is a new one.
    fn changes(&mut self, leg: PortId) -> ClaimChanges {
        if self.leg != Some(leg) {
            self.leg = Some(leg);
            self.untold = self.wanted.iter().map(|claim| (*claim, true)).collect();
        }
        let of = |is_claimed| {
            self.untold.iter().filter(move |(_, now)| **now == is_claimed).map(|(claim, _)| *claim)
        };
        ClaimChanges { released: of(false).collect(), claimed: of(true).collect() }
    }
}

impl<F: Frame> Control<F> {
    /// Tells the host's leg what is at the host's own addresses by the tables that were just published.
    pub(crate) fn tell_leg(&mut self) {
        self.frontage.update(&self.current.services);
        let leg = self.host_leg.name().and_then(|name| self.ports.get(&name));
        let Some((leg, device)) = leg
            .filter(|port| port.take == Take::Claimed)
            .and_then(|port| port.device.as_ref().map(|device| (port.id, device)))
        else {
            (self.frontage.leg, self.frontage.problem) = (None, None);
            return;
        };
        let changes = self.frontage.changes(leg);
        // Told also when there is nothing new: it follows the interfaces that it takes packets from. What could not be told is told
        // again.
        self.frontage.problem = match device.steer(&changes) {
            Ok(()) => {
                self.frontage.untold.clear();
                None
            }
            Err(error) => Some(error.to_string()),
        };
    }
}

/// Whether the host's packets to a frontend have to be taken. ClusterIPs are nobody's addresses: routes lead there.
fn is_taken(frontend: &Frontend) -> bool {
    frontend.kind != FrontendKind::ClusterIp
}

fn claim(key: &FrontendKey) -> Claim {
    Claim::Frontend { address: key.address.to_ip(), protocol: key.protocol, port: key.port }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_fastpath::tables::{Pool, ServiceId};

    fn key(port: u16) -> FrontendKey {
        FrontendKey { address: std::net::IpAddr::from([192, 0, 2, 1]).into(), port, protocol: 6 }
    }

    fn table(frontends: &[(u16, FrontendKind)]) -> ServiceTable {
        let mut table = ServiceTable::default();
        for &(port, kind) in frontends {
            table.insert(key(port), Frontend { kind, ..Frontend::cluster_ip(ServiceId(1), Pool::default()) });
        }
        table
    }

    #[test]
    fn a_leg_is_told_what_changes_and_a_new_one_everything() {
        let mut frontage = Frontage::default();
        let (first, second) = (PortId(1), PortId(2));
        frontage.update(&table(&[(80, FrontendKind::ClusterIp), (81, FrontendKind::NodePort)]));
        assert_eq!(frontage.changes(first).claimed, [claim(&key(81))]);
        // Until it is told.
        assert_eq!(frontage.changes(first).claimed, [claim(&key(81))]);
        frontage.untold.clear();
        assert!(frontage.changes(first).is_empty());

        frontage.update(&table(&[(80, FrontendKind::HostPort), (81, FrontendKind::ClusterIp)]));
        let changes = frontage.changes(first);
        assert_eq!((changes.claimed, changes.released), (vec![claim(&key(80))], vec![claim(&key(81))]));
        frontage.untold.clear();
        assert_eq!(frontage.changes(second).claimed, [claim(&key(80))]);
    }
}
