use super::*;
use crate::port::PortId;
use crate::wire::ethernet::MacAddr;
use ipnet::IpNet;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

fn backend(number: u32, port: u16) -> Backend {
    Backend { address: Address::from_v4(0x0a00_0000 + number), port }
}

fn mixed(number: u64) -> u64 {
    maglev::mix(number)
}

#[test]
fn maglev_spreads_evenly_and_moves_few_connections_when_a_backend_goes() {
    let all: Vec<Backend> = (0..50).map(|number| backend(number, 80)).collect();
    let before = BackendSet::new(all.clone(), Balancing::Maglev);
    let after = BackendSet::new(all[1..].to_vec(), Balancing::Maglev);
    let (mut shares, mut moved) = (HashMap::new(), 0);
    for hash in (0..100_000).map(mixed) {
        let chosen = *before.choose(hash).unwrap();
        *shares.entry(chosen).or_insert(0_u32) += 1;
        moved += u32::from(chosen != all[0] && before.choose(hash) != after.choose(hash));
    }
    assert!(shares.values().all(|share| (1600..2400).contains(share)), "{shares:?}");
    assert!(moved < 6_000, "{moved} of 98000 connections of other backends moved");
}

#[test]
fn a_single_backend_gets_everything_and_none_gets_nothing() {
    let one = BackendSet::new(vec![backend(1, 80), backend(1, 80)], Balancing::Maglev);
    assert_eq!(one.backends().len(), 1);
    assert!((0..100).map(mixed).all(|hash| one.choose(hash) == Some(&backend(1, 80))));
    assert_eq!(BackendSet::default().choose(7), None);
}

#[test]
fn random_balancing_reaches_every_backend() {
    let set = BackendSet::new((0..10).map(|number| backend(number, 80)).collect(), Balancing::Random);
    let mut seen: Vec<Backend> = (0..1000).map(|hash| *set.choose(mixed(hash)).unwrap()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 10);
}

#[test]
fn a_table_of_more_backends_than_slots_is_refused_with_the_number() {
    assert_eq!(MaglevTable::try_new(&vec![0; 65_522]), Err(MaglevError::TooMany(65_522)));
    assert_eq!(MaglevTable::try_new(&[]), Err(MaglevError::Empty));
}

/// The paper's pseudo code, word by word, over explicit permutations.
fn maglev_by_the_paper(names: &[u64], size: usize) -> Vec<u16> {
    let permutations: Vec<Vec<usize>> = names
        .iter()
        .map(|&name| {
            let offset = (maglev::mix(name) % size as u64) as usize;
            let skip = (maglev::mix(name ^ 0x5bd1_e995_9d1b_54a5) % (size as u64 - 1) + 1) as usize;
            (0..size).map(|j| (offset + j * skip) % size).collect()
        })
        .collect();
    let mut next = vec![0; names.len()];
    let mut entry: Vec<Option<u16>> = vec![None; size];
    let mut filled = 0;
    loop {
        for i in 0..names.len() {
            let mut candidate = permutations[i][next[i]];
            while entry[candidate].is_some() {
                next[i] += 1;
                candidate = permutations[i][next[i]];
            }
            entry[candidate] = Some(i as u16);
            next[i] += 1;
            filled += 1;
            if filled == size {
                return entry.into_iter().flatten().collect();
            }
        }
    }
}

proptest! {
    #[test]
    fn the_maglev_table_is_that_of_the_paper(names in proptest::collection::hash_set(any::<u64>(), 2..20)) {
        let names: Vec<u64> = names.into_iter().collect();
        let table = MaglevTable::try_new(&names).unwrap();
        prop_assert_eq!(table.slots().to_vec(), maglev_by_the_paper(&names, table.slots().len()));
    }

    #[test]
    fn the_shared_map_does_what_a_hash_map_does_and_versions_stay_apart(
        changes in proptest::collection::vec((0..50_u64, any::<Option<u8>>()), 1..200)
    ) {
        let mut map = SharedMap::default();
        let mut reference = HashMap::new();
        let mut versions = Vec::new();
        for (key, value) in changes {
            let (got, wanted) = match value {
                Some(value) => (map.insert(key, value), reference.insert(key, value)),
                None => (map.remove(&key), reference.remove(&key)),
            };
            prop_assert_eq!(got, wanted);
            prop_assert_eq!(map.len(), reference.len());
            versions.push((map.clone(), reference.clone()));
        }
        for (map, reference) in versions {
            prop_assert_eq!(map.iter().map(|(k, v)| (*k, *v)).collect::<HashMap<_, _>>(), reference);
        }
    }

    #[test]
    fn the_longest_prefix_wins(
        prefixes in proptest::collection::vec((any::<u32>(), 0..=32_u8), 1..30),
        probes in proptest::collection::vec(any::<u32>(), 1..30),
    ) {
        let mut table = RouteTable::default();
        let nets: Vec<ipnet::Ipv4Net> = prefixes
            .iter()
            .map(|&(bits, len)| ipnet::Ipv4Net::new(Ipv4Addr::from(bits), len).unwrap().trunc())
            .collect();
        let mut routes = HashMap::new();
        for (number, net) in nets.iter().enumerate() {
            let route = Route::Via(AdjacencyId(number as u32));
            table.insert(IpNet::V4(*net), route);
            routes.insert(*net, route);
        }
        let near = nets.iter().map(|net| u32::from(net.broadcast()));
        for bits in probes.into_iter().chain(near) {
            let ip = Ipv4Addr::from(bits);
            let best = routes.iter().filter(|(net, _)| net.contains(&ip)).max_by_key(|(net, _)| net.prefix_len());
            prop_assert_eq!(table.lookup(ip.into()), best.map(|(_, route)| *route));
        }
    }

    #[test]
    fn an_address_survives_the_way_through_bits(ip: IpAddr) {
        let mapped = matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        prop_assume!(!mapped);
        prop_assert_eq!(Address::from(ip).to_ip(), ip);
        prop_assert_eq!(Address::from(ip).is_v4(), ip.is_ipv4());
    }
}

#[test]
fn a_service_address_is_known_as_long_as_one_of_its_ports_is() {
    let mut services = ServiceTable::default();
    let key = |port| FrontendKey { address: Address::from_v4(1 << 24), port, protocol: 6 };
    let frontend = Frontend::cluster_ip(ServiceId(1), Pool::default());
    services.insert(key(1), frontend.clone());
    services.insert(key(2), frontend.clone());
    services.insert(key(2), frontend);
    services.remove(&key(1));
    assert!(services.is_service_address(key(1).address));
    services.remove(&key(2));
    assert!(!services.is_service_address(key(1).address));
    assert!(services.is_empty());
}

#[test]
fn a_prefix_has_its_own_route_or_none_whatever_holds_it() {
    let mut routes = RouteTable::default();
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    for wide in ["10.0.0.0/8", "fd00::/16"] {
        routes.insert(net(wide), Route::Local);
    }
    for inner in ["10.0.0.0/9", "10.0.0.1/32", "fd00::/64", "fd00::1/128"] {
        assert_eq!(routes.get(net(inner)), None, "{inner}");
        let via = Route::Via(AdjacencyId(1));
        routes.insert(net(inner), via);
        assert_eq!(routes.get(net(inner)), Some(via), "{inner}");
        assert_eq!(routes.remove(net(inner)), Some(via));
        assert_eq!(routes.get(net(inner)), None, "{inner}");
    }
    assert_eq!(routes.get(net("10.1.2.3/8")), Some(Route::Local), "host bits do not count");
}

#[test]
fn a_removed_adjacency_leaves_its_number_for_the_next() {
    let mut routes = RouteTable::default();
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    let adjacency =
        Adjacency { port: PortId(1), mtu: 1500, destination_mac: mac, source_mac: mac, tunnel: None };
    let (first, second) = (routes.add_adjacency(adjacency), routes.add_adjacency(adjacency));
    assert_ne!(first, second);
    assert_eq!(routes.remove_adjacency(first), Some(adjacency));
    assert_eq!(routes.adjacency(first), None);
    assert_eq!(routes.add_adjacency(adjacency), first);
}

proptest! {
    #[test]
    fn a_set_of_addresses_holds_what_one_of_its_prefixes_holds(
        prefixes in prop::collection::vec((any::<u32>(), 0_u8..=32, any::<bool>()), 0..12),
        addresses in prop::collection::vec(any::<u32>(), 1..40),
    ) {
        let net = |&(bits, length, v6): &(u32, u8, bool)| match v6 {
            false => IpNet::new(Ipv4Addr::from_bits(bits).into(), length).unwrap(),
            true => IpNet::new(IpAddr::V6((u128::from(bits) << 96).into()), length).unwrap(),
        };
        let nets: Vec<IpNet> = prefixes.iter().map(net).collect();
        let set = AddressSet::new(nets.iter().copied());
        prop_assert_eq!(set.is_empty(), nets.is_empty());
        let near = prefixes.iter().flat_map(|&(bits, ..)| [bits, bits.wrapping_add(1), bits.wrapping_sub(1)]);
        for bits in near.chain(addresses) {
            for ip in [IpAddr::V4(bits.into()), IpAddr::V6((u128::from(bits) << 96 | 7).into())] {
                let expected = nets.iter().any(|net| net.contains(&ip));
                prop_assert_eq!(set.contains(ip.into()), expected, "{}", ip);
            }
        }
    }
}

#[test]
fn an_ipv6_range_of_everything_holds_no_ipv4_address() {
    let everything = AddressSet::new(["::/0".parse().unwrap()]);
    assert!(everything.contains("fd00::1".parse::<IpAddr>().unwrap().into()));
    assert!(!everything.contains(Ipv4Addr::new(10, 0, 0, 1).into()));
}

#[test]
fn a_backend_is_found_by_its_digest_while_it_is_in_the_set() {
    let backends: Vec<Backend> = (0..1000).map(|number| backend(number, 80)).collect();
    let set = BackendSet::new(backends.clone(), Balancing::Maglev);
    assert!(backends.iter().all(|backend| set.find(backend.digest()) == Some(backend)));
    let digest = backend(5000, 80).digest();
    assert_eq!(set.find(digest), None);
    assert_eq!(backend(1, 80).digest(), backend(1, 80).digest());
    assert_ne!(backend(1, 80).digest(), backend(1, 81).digest());
}

#[test]
fn only_cluster_ips_own_their_whole_address() {
    let mut services = ServiceTable::default();
    let key = FrontendKey { address: Address::from_v4(0x0a60_0001), port: 80, protocol: 6 };
    let cluster_ip = Frontend::cluster_ip(ServiceId(1), Pool::default());
    let external = Frontend { kind: FrontendKind::ExternalIp, ..cluster_ip.clone() };
    services.insert(key, external.clone());
    assert!(!services.is_service_address(key.address));
    services.insert(key, cluster_ip.clone());
    services.insert(FrontendKey { port: 81, ..key }, cluster_ip);
    services.insert(key, external);
    assert!(services.is_service_address(key.address), "port 81 still makes it a ClusterIP");
    services.remove(&FrontendKey { port: 81, ..key });
    assert!(!services.is_service_address(key.address));
}

#[test]
fn who_comes_from_where_decides_about_pool_and_masquerading() {
    let cluster_ip = Frontend::cluster_ip(ServiceId(1), Pool::default());
    let cluster = Frontend { kind: FrontendKind::NodePort, ..cluster_ip.clone() };
    let local = Frontend { keeps_client: true, ..cluster.clone() };
    let all = [Origin::Pod, Origin::RemotePod, Origin::Node, Origin::Outside];
    let masqueraded = |frontend: &Frontend| all.map(|origin| frontend.masquerades(origin));
    assert_eq!(masqueraded(&cluster_ip), [false, false, true, true]);
    assert_eq!(masqueraded(&cluster), [false, true, true, true]);
    assert_eq!(masqueraded(&local), [false, false, true, false]);
    let inside = |frontend: &Frontend| {
        all.map(|origin| std::ptr::eq(frontend.pool(origin), &raw const frontend.inside))
    };
    assert_eq!(inside(&cluster_ip), [true, true, true, false]);
    assert_eq!(inside(&local), [true, false, true, false]);
}

#[test]
fn a_set_of_ports_holds_those_it_was_made_of() {
    assert!([0, 63, 64, 65_534].iter().all(|&id| !PortSet::default().contains(PortId(id))));
    assert_eq!(PortSet::from_iter([]), PortSet::default());
    let all = [0, 63, 64, 65_534];
    for held in [&[0][..], &[63], &[64], &[65_534], &[63, 64], &all] {
        let set: PortSet = held.iter().copied().map(PortId).collect();
        for id in all.into_iter().chain([1, 62, 65, 127, 128, 65_533, PortId::NONE.0]) {
            assert_eq!(set.contains(PortId(id)), held.contains(&id), "{id} in {held:?}");
        }
    }
}
