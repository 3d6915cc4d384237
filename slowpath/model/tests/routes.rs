//! Random networks between nodes: where the tables send packets is compared with the written rules, after each of random
//! changes, so that what grew change by change is right, too.
//!
//! `MILLRACE_CASES` sets the number of networks, `MILLRACE_SEED` the first of their numbers.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

#[path = "routes/network.rs"]
mod network;
#[path = "world/random.rs"]
mod random;
#[path = "routes/rules.rs"]
mod rules;

use millrace_fastpath::tables::{Route, TableSet};
use network::Network;
use random::Random;
use rules::{Met, expected};
use std::collections::BTreeSet;
use std::net::IpAddr;

const CASES: u64 = 1_500;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What the tables do with a packet to an address.
fn met(tables: &TableSet, address: IpAddr) -> Met {
    let routes = &tables.routes;
    let ids = match routes.lookup(address.into()) {
        None => return Met::Nowhere,
        Some(Route::Local) => return Met::Local,
        Some(Route::Refused(how)) => return Met::Refused(how),
        Some(Route::OnLink(port)) => return Met::Waits(port),
        Some(Route::Via(id)) => vec![id],
        Some(Route::Spread(group)) => routes.group(group).unwrap().to_vec(),
    };
    let way = |id| {
        let way = routes.adjacency(id).unwrap();
        let tunnel = way.tunnel.map(|id| *tables.tunnels.get(id).unwrap());
        rules::Way {
            port: way.port,
            mtu: way.mtu,
            to: tunnel.map_or(way.destination_mac, |tunnel| tunnel.destination_mac),
            tunnel: tunnel.map(|tunnel| (tunnel.remote.to_ip(), way.destination_mac)),
        }
    };
    let ways: BTreeSet<_> = ids.into_iter().map(way).collect();
    if ways.is_empty() { Met::Nowhere } else { Met::Leaves(ways) }
}

/// Whether a flow that goes by numbers of the tables before would go wrong by those of now.
fn is_stale(before: &TableSet, now: &TableSet, addresses: &[IpAddr]) -> bool {
    let moved = addresses.iter().any(|address| {
        let route = before.routes.lookup((*address).into());
        route.is_some() && route != now.routes.lookup((*address).into())
    });
    let reused = before.routes.adjacencies().iter().enumerate().any(|(id, adjacency)| {
        adjacency.is_some() && now.routes.adjacencies().get(id).copied().flatten() != *adjacency
    });
    let regrouped = before
        .routes
        .groups()
        .iter()
        .enumerate()
        .any(|(id, group)| group.is_some() && now.routes.groups().get(id) != Some(group));
    moved || reused || regrouped
}

#[test]
fn packets_between_nodes_go_where_the_written_rules_say() {
    let first = number("MILLRACE_SEED", 1);
    let mut seen = [0_usize; 6];
    let mut unmoved = 0_usize;
    for seed in first..first + number("MILLRACE_CASES", CASES) {
        let mut random = Random::new(seed);
        let mut network = Network::any(&mut random);
        let mut model = network.model();
        let mut tables = model.compile();
        let addresses = network::addresses();
        for step in 0..random.between(2, 12) {
            for &address in &addresses {
                let (wanted, met) = (expected(&network, address), met(&tables, address));
                assert_eq!(met, wanted, "network {seed}, step {step}: {address}\n{network:#?}");
                seen[kind(&wanted)] += 1;
            }
            let wanted: BTreeSet<_> = rules::next_hops(&network);
            let asked: BTreeSet<_> = model.wanted_neighbours().collect();
            assert_eq!(asked, wanted, "network {seed}, step {step}: next hops\n{network:#?}");
            let mut fresh = network.model();
            fresh.compile();
            assert!(model.peers().eq(fresh.peers()), "network {seed}, step {step}: peers\n{network:#?}");
            assert_eq!(model.peer_problems(), fresh.peer_problems(), "network {seed}, step {step}");
            let before = tables;
            for _ in 0..random.between(1, 2) {
                network.change(&mut random, &mut model);
            }
            tables = model.compile();
            if before.epoch == tables.epoch {
                unmoved += 1;
                let stale = is_stale(&before, &tables, &addresses);
                assert!(!stale, "network {seed}, step {step}: flows go wrong\n{network:#?}");
            }
        }
    }
    println!(
        "nowhere {}, local {}, waits {}, one way {}, several {}, refused {}",
        seen[0], seen[1], seen[2], seen[3], seen[4], seen[5]
    );
    println!("{unmoved} changes raised no epoch");
    assert!(seen.iter().all(|&count| count > 500), "every outcome is frequent: {seen:?}");
    assert!(unmoved > 500);
}

fn kind(met: &Met) -> usize {
    match met {
        Met::Nowhere => 0,
        Met::Local => 1,
        Met::Waits(_) => 2,
        Met::Leaves(ways) if ways.len() == 1 => 3,
        Met::Leaves(_) => 4,
        Met::Refused(_) => 5,
    }
}
