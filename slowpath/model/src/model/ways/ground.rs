//! What this node, its links, the routes and the neighbours claim.

use super::{Outcome, Source, Target, Way, is_routed};
use crate::model::Model;
use crate::underlay::{Led, Place, Refuses, Uplink};
use ipnet::IpNet;
use millrace_fastpath::port::PortId;
use millrace_fastpath::tables::RefusedRoute;
use std::net::IpAddr;

impl Model {
    /// The cluster's ranges, those of this node, and the links.
    pub(super) fn ground(&self) -> Outcome {
        let mut outcome = Outcome::default();
        if self.underlay.uplinks.is_empty() {
            return outcome;
        }
        let cluster = self.config.routing.service_ranges.iter().chain(&self.config.pod_ranges);
        outcome.claims.extend(cluster.map(|range| ((range.trunc(), Source::Cluster), Target::NOBODY)));
        let own = self.node_pod_ranges().iter();
        outcome.claims.extend(own.map(|range| ((range.trunc(), Source::OwnRange), Target::NOBODY)));
        for (at, uplink) in self.underlay.uplinks.iter().enumerate().filter(|(_, uplink)| uplink.is_up) {
            let nets = uplink.addresses.iter().filter(|net| net.prefix_len() < net.max_prefix_len());
            let nets = nets.filter(|net| is_routed(**net));
            let claims = nets.map(|net| ((net.trunc(), Source::Link(at)), Target::OnLink(uplink.port)));
            outcome.claims.extend(claims);
        }
        outcome
    }

    /// The routes to a prefix: the preferred one that leads anywhere.
    pub(super) fn route(&self, to: IpNet) -> Outcome {
        let mut outcome = Outcome::default();
        if !is_routed(to) {
            return outcome;
        }
        let hops = match self.underlay.first_live(self.ways.routes.of(to).iter()) {
            Some(Led::By(hops)) => hops,
            Some(Led::Nowhere(how)) => {
                outcome.claims.insert((to, Source::Route), refused(how));
                return outcome;
            }
            None => return outcome,
        };
        let routers = hops.iter().filter_map(|(uplink, gateway)| Some((*uplink, (*gateway)?)));
        let routers: Vec<(&Uplink, IpAddr)> = routers.collect();
        let target = match (&routers[..], &hops[..]) {
            ([], [(uplink, _), ..]) => Target::OnLink(uplink.port),
            _ => self.target(&routers, |way| way),
        };
        outcome.hops.extend(places(&routers));
        outcome.claims.insert((to, Source::Route), target);
        outcome
    }

    /// A neighbour that is known, on the link where it belongs.
    pub(super) fn neighbour(&self, port: PortId, address: IpAddr) -> Outcome {
        let mut outcome = Outcome::default();
        let uplink = self.underlay.on_link(address).filter(|uplink| uplink.port == port);
        let is_known = self.underlay.neighbour(port, address).is_some() && is_routed(address.into());
        if let Some(uplink) = uplink.filter(|_| is_known) {
            let target = self.target(&[(uplink, address)], |way| way);
            outcome.claims.insert((address.into(), Source::Neighbour(port)), target);
        }
        outcome
    }

    /// The uplinks and next hops by which an address is reached: it itself, if it is on a link.
    pub(super) fn hops(&self, address: IpAddr) -> Vec<(&Uplink, IpAddr)> {
        if let Some(uplink) = self.underlay.on_link(address) {
            return vec![(uplink, address)];
        }
        let Some(Led::By(hops)) = self.underlay.first_live(self.ways.routes.toward(address)) else {
            return Vec::new();
        };
        hops.into_iter().map(|(uplink, gateway)| (uplink, gateway.unwrap_or(address))).collect()
    }

    /// What leads by these next hops: those that are known, each as `through` makes it.
    pub(super) fn target(&self, hops: &[(&Uplink, IpAddr)], through: impl Fn(Way) -> Way) -> Target {
        let way = |(uplink, address): &(&Uplink, IpAddr)| {
            Some(Way {
                port: uplink.port,
                mtu: uplink.mtu,
                destination_mac: self.underlay.neighbour(uplink.port, *address)?,
                source_mac: uplink.mac,
                tunnel: None,
            })
        };
        let ways: Vec<Way> = hops.iter().filter_map(way).map(through).collect();
        match ways.is_empty() && !hops.is_empty() {
            true => Target::Waits(places(hops).collect()),
            false => Target::Ways(ways),
        }
    }
}

/// What a route that refuses leads to. `throw` ends the search in the table, and there is no other to go on in.
fn refused(how: Refuses) -> Target {
    match how {
        Refuses::Blackhole => Target::Refused(RefusedRoute::Blackhole),
        Refuses::Unreachable => Target::Refused(RefusedRoute::Unreachable),
        Refuses::Prohibit => Target::Refused(RefusedRoute::Prohibit),
        Refuses::Throw => Target::NOBODY,
    }
}

/// Where next hops are.
pub(super) fn places(hops: &[(&Uplink, IpAddr)]) -> impl Iterator<Item = Place> {
    hops.iter().map(|(uplink, address)| (uplink.port, *address))
}
