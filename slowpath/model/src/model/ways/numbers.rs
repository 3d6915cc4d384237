//! Ways in the tables: adjacencies, tunnels and groups by number.

use super::{Pipe, Target, Way};
use crate::model::Model;
use ipnet::IpNet;
use millrace_fastpath::tables::{Adjacency, AdjacencyId, GroupId, Route, Tunnel, TunnelId};
use std::collections::{BTreeMap, BTreeSet};

/// What has a number, and how many prefixes use it.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    ways: BTreeMap<Way, Numbered<(AdjacencyId, Option<TunnelId>)>>,
    groups: BTreeMap<Vec<Way>, Numbered<GroupId>>,
}

#[derive(Debug)]
struct Numbered<T> {
    /// None if there was no number left for it.
    number: Option<T>,
    users: usize,
}

/// What may have lost its last user. It goes once no route names it any more.
#[derive(Debug, Default)]
pub(in crate::model) struct Released {
    ways: BTreeSet<Way>,
    groups: BTreeSet<Vec<Way>>,
}

impl Model {
    /// What a prefix leads to behind the uplinks, by the numbers in the tables.
    pub(in crate::model) fn uplink_route(&self, prefix: IpNet) -> Option<Route> {
        let numbers = &self.ways.numbers;
        match self.ways.targets.get(&prefix)? {
            Target::OnLink(port) => Some(Route::OnLink(*port)),
            Target::Waits(places) => places.first().map(|(port, _)| Route::OnLink(*port)),
            Target::Refused(how) => Some(Route::Refused(*how)),
            Target::Ways(ways) => match ways[..] {
                [way] => numbers.ways.get(&way)?.number.map(|(id, _)| Route::Via(id)),
                _ => numbers.groups.get(ways)?.number.map(Route::Spread),
            },
        }
    }

    /// Makes what new ways need, and says which prefixes lead elsewhere now.
    pub(in crate::model) fn prepare_ways(&mut self, touched: &mut BTreeSet<IpNet>) -> Released {
        self.work_out();
        self.compile_tunnel_end();
        let mut released = Released::default();
        for prefix in self.ways.claims.take_changed() {
            let target = self.ways.claims.first(prefix).cloned();
            if target.as_ref() == self.ways.targets.get(&prefix) {
                continue;
            }
            touched.insert(prefix);
            if let Some(Target::Ways(ways)) = &target {
                self.acquire(ways);
            }
            let former = match target {
                Some(target) => self.ways.targets.insert(prefix, target),
                None => self.ways.targets.remove(&prefix),
            };
            if let Some(Target::Ways(ways)) = former {
                self.release(ways, &mut released);
            }
        }
        released
    }

    /// Takes away what no route leads to any more. Whoever has its number must ask again: true if there was anything.
    pub(in crate::model) fn clean_ways(&mut self, released: Released) -> bool {
        let numbers = &mut self.ways.numbers;
        let mut is_stale = false;
        for ways in released.groups {
            if numbers.groups.get(&ways).is_some_and(|group| group.users == 0)
                && let Some(id) = numbers.groups.remove(&ways).and_then(|group| group.number)
            {
                self.tables.routes.remove_group(id);
                is_stale = true;
            }
        }
        for way in released.ways {
            if numbers.ways.get(&way).is_some_and(|way| way.users == 0)
                && let Some((id, tunnel)) = numbers.ways.remove(&way).and_then(|way| way.number)
            {
                self.tables.routes.remove_adjacency(id);
                if let Some(tunnel) = tunnel {
                    self.tables.tunnels.remove(tunnel);
                }
                is_stale = true;
            }
        }
        is_stale
    }

    fn acquire(&mut self, ways: &[Way]) {
        for way in ways {
            if !self.ways.numbers.ways.contains_key(way) {
                let number = self.add_way(way);
                self.ways.numbers.ways.insert(*way, Numbered { number, users: 0 });
            }
        }
        let numbers = &mut self.ways.numbers;
        for way in ways {
            if let Some(way) = numbers.ways.get_mut(way) {
                way.users += 1;
            }
        }
        if ways.len() != 1 {
            let known = &numbers.ways;
            let member = |way: &Way| known.get(way)?.number.map(|(id, _)| id);
            let group = numbers.groups.entry(ways.to_vec()).or_insert_with(|| {
                let members = ways.iter().filter_map(member).collect();
                Numbered { number: Some(self.tables.routes.add_group(members)), users: 0 }
            });
            group.users += 1;
        }
    }

    fn release(&mut self, ways: Vec<Way>, released: &mut Released) {
        let numbers = &mut self.ways.numbers;
        for way in &ways {
            if let Some(numbered) = numbers.ways.get_mut(way) {
                numbered.users -= 1;
                released.ways.insert(*way);
            }
        }
        if ways.len() != 1
            && let Some(group) = numbers.groups.get_mut(&ways)
        {
            group.users -= 1;
            released.groups.insert(ways);
        }
    }

    fn add_way(&mut self, way: &Way) -> Option<(AdjacencyId, Option<TunnelId>)> {
        let tunnel = match &way.tunnel {
            None => None,
            // More nodes than tunnels can be numbered: those that come last are not reached.
            Some(pipe) => Some(self.tables.tunnels.insert(self.tunnel(way, pipe))?),
        };
        let id = self.tables.routes.add_adjacency(Adjacency {
            port: way.port,
            mtu: way.mtu,
            destination_mac: way.destination_mac,
            source_mac: way.source_mac,
            tunnel,
        });
        Some((id, tunnel))
    }

    fn tunnel(&self, way: &Way, pipe: &Pipe) -> Tunnel {
        Tunnel {
            port: way.port,
            destination_mac: pipe.destination_mac,
            source_mac: pipe.source_mac,
            local: pipe.local.into(),
            remote: pipe.remote.into(),
            vni: self.config.routing.vni,
            udp_port: self.config.routing.udp_port,
            checksum: pipe.checksum,
        }
    }
}
