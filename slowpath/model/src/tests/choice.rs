//! Which endpoints take new connections.

use super::*;
use proptest::prelude::*;

#[test]
fn several_slices_are_one_set_and_duplicates_count_once() {
    let mut model = model();
    model.apply(Object::Service(service(&["10.96.0.1"])));
    model.apply(Object::EndpointSlice(slice(
        "a",
        vec![endpoint("10.0.0.1", GONE), endpoint("10.0.0.2", ALL)],
    )));
    model
        .apply(Object::EndpointSlice(slice("b", vec![endpoint("10.0.0.1", ALL), endpoint("10.0.0.3", ALL)])));
    assert_eq!(backends(&model.compile(), "10.96.0.1"), ["10.0.0.1 8080", "10.0.0.2 8080", "10.0.0.3 8080"]);
    model.delete(Kind::EndpointSlice, &name("b"));
    assert_eq!(backends(&model.compile(), "10.96.0.1"), ["10.0.0.2 8080"]);
}

#[test]
fn a_pod_that_runs_counts_before_one_that_ends_at_the_same_address() {
    let mut model = model();
    let starting = Conditions { ready: false, serving: false, terminating: false };
    model.apply(Object::Service(service(&["10.96.0.1"])));
    for (name, conditions) in [("a", ENDING), ("b", starting)] {
        model.apply(Object::EndpointSlice(slice(name, vec![endpoint("10.0.0.1", conditions)])));
    }
    assert!(backends(&model.compile(), "10.96.0.1").is_empty(), "the address is that of the new pod");
    model.apply(Object::EndpointSlice(slice("b", vec![endpoint("10.0.0.1", ALL)])));
    assert_eq!(backends(&model.compile(), "10.96.0.1"), ["10.0.0.1 8080"]);
}

#[test]
fn ports_are_matched_by_name_and_protocol() {
    let mut model = model();
    let mut web = service(&["10.96.0.1"]);
    web.ports =
        vec![port("", Transport::Tcp, 80), port("dns", Transport::Udp, 53), port("dns", Transport::Tcp, 53)];
    model.apply(Object::Service(web));
    let mut slice = slice("a", vec![endpoint("10.0.0.1", ALL)]);
    slice.ports = vec![
        SlicePort { name: "".into(), protocol: Transport::Tcp, port: 1 },
        SlicePort { name: "dns".into(), protocol: Transport::Udp, port: 2 },
    ];
    model.apply(Object::EndpointSlice(slice));
    let tables = model.compile();
    let ports = |protocol, port| {
        let backends = frontend(&tables, "10.96.0.1", protocol, port).unwrap().inside.backends.backends();
        backends.iter().map(|backend| backend.port).collect::<Vec<_>>()
    };
    assert_eq!((ports(6, 80), ports(17, 53), ports(6, 53)), (vec![1], vec![2], vec![]));
}

#[test]
fn nobody_anywhere_rejects_and_nobody_here_drops() {
    let mut model = model();
    let mut web = service(&["10.96.0.1"]);
    model.apply(Object::Service(web.clone()));
    let when_empty = |tables: &TableSet| frontend(tables, "10.96.0.1", 6, 80).unwrap().inside.when_empty;
    assert_eq!(when_empty(&model.compile()), WhenEmpty::Reject);
    web.internal_policy = TrafficPolicy::Local;
    model.apply(Object::Service(web));
    assert_eq!(when_empty(&model.compile()), WhenEmpty::Reject);
    model.apply(Object::EndpointSlice(slice("a", vec![endpoint("10.0.0.1", ALL)])));
    let tables = model.compile();
    assert!(backends(&tables, "10.96.0.1").is_empty());
    assert_eq!(when_empty(&tables), WhenEmpty::Drop);
}

#[test]
fn a_zone_of_our_own_is_followed_when_this_node_learns_it() {
    let mut model = model();
    let hinted = |address, zone: &str| Endpoint { for_zones: vec![zone.into()], ..endpoint(address, ALL) };
    model.apply(Object::Service(service(&["10.96.0.1"])));
    model.apply(Object::EndpointSlice(slice("a", vec![hinted("10.0.0.1", "x"), hinted("10.0.0.2", "y")])));
    assert_eq!(backends(&model.compile(), "10.96.0.1").len(), 2);
    model.apply(node(Some("y"), &[]));
    assert_eq!(backends(&model.compile(), "10.96.0.1"), ["10.0.0.2 8080"]);
}

/// The written rules, word for word and slowly.
fn reference(endpoints: &[Endpoint], us: &str, zone: Option<&str>, local: bool) -> (Vec<IpAddr>, WhenEmpty) {
    let mut set: Vec<&Endpoint> = endpoints.iter().filter(|e| e.conditions.ready).collect();
    let last: Vec<&Endpoint> =
        endpoints.iter().filter(|e| e.conditions.serving && e.conditions.terminating).collect();
    let mut when_empty = WhenEmpty::Reject;
    if local {
        if !set.is_empty() || !last.is_empty() {
            when_empty = WhenEmpty::Drop;
        }
        set.retain(|e| e.node.as_deref() == Some(us));
        if set.is_empty() {
            set = last.into_iter().filter(|e| e.node.as_deref() == Some(us)).collect();
        }
    } else if set.is_empty() {
        set = last;
    } else if set.iter().all(|e| !e.for_nodes.is_empty())
        && set.iter().any(|e| e.for_nodes.contains(&us.to_owned()))
    {
        set.retain(|e| e.for_nodes.contains(&us.to_owned()));
    } else if let Some(zone) = zone.map(str::to_owned)
        && set.iter().all(|e| !e.for_zones.is_empty())
        && set.iter().any(|e| e.for_zones.contains(&zone))
    {
        set.retain(|e| e.for_zones.contains(&zone));
    }
    (set.iter().map(|e| e.address).collect(), when_empty)
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let names = || prop::collection::vec(prop::sample::select(vec!["p".to_owned(), "q".to_owned()]), 0..2);
    let flag = || prop::option::of(any::<bool>());
    let place = prop::option::of(prop::sample::select(vec!["p".to_owned(), "q".to_owned()]));
    (1u8..9, flag(), flag(), flag(), place, names(), names()).prop_map(
        |(last, r, s, t, node, for_nodes, for_zones)| {
            let address = IpAddr::from([10, 0, 0, last]);
            Endpoint {
                address,
                conditions: Conditions::new(r, s, t),
                node,
                zone: None,
                for_nodes,
                for_zones,
                pod: None,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn endpoints_are_chosen_as_the_rules_say(
        endpoints in prop::collection::vec(any_endpoint(), 0..6),
        zone in prop::option::of(Just("p")),
        local: bool,
    ) {
        let traffic = if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
        let candidates: Vec<&Endpoint> = endpoints.iter().collect();
        let choice = choose(&candidates, Policy { node: "p", zone, traffic });
        let chosen: Vec<IpAddr> = choice.usable().map(|index| endpoints[index].address).collect();
        let expected = reference(&endpoints, "p", zone, local);
        prop_assert_eq!((chosen, choice.when_empty), expected);
    }
}
