//! A service as this node sees it, with its clients and connections.

use super::bench::{Node, eventually, port};
use super::objects::{self, SERVICE, service};
use super::packets::Udp;
use millrace_api::{Service, WhenEmpty};
use millrace_fastpath::port::BufferFrame;
use millrace_model::{Object, ServiceType};

fn node() -> Node {
    let mut node = Node::new(1);
    for object in objects::cluster() {
        node.control.model().apply(object);
    }
    node.control.publish();
    node
}

fn show(node: &Node, name: &str) -> Service {
    node.control.show_service("demo", name).unwrap()
}

#[test]
fn all_frontends_are_told_with_their_kinds_and_what_they_meet() {
    let node = node();
    let web = show(&node, SERVICE);
    assert_eq!(web.kind.as_deref(), Some("LoadBalancer"));
    assert_eq!(web.source_ranges, ["192.0.2.0/24"]);
    let mut told: Vec<_> = web.ports[0]
        .frontends
        .iter()
        .map(|frontend| {
            (frontend.kind.as_str(), frontend.address.to_string(), frontend.port, frontend.restricted)
        })
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("ClusterIP", "10.96.0.1".to_owned(), 80, false),
            ("LoadBalancer", "198.51.100.1".to_owned(), 80, true),
            ("NodePort", "192.0.2.1".to_owned(), 30080, false),
        ]
    );
    let listed = node.control.list_services().services;
    let listed = listed.iter().find(|service| service.name == SERVICE).unwrap();
    assert_eq!((&listed.ports, &listed.flows), (&web.ports, &None));

    let local = show(&node, "local");
    let outside = |kind: &str| {
        let frontend = local.ports[0].frontends.iter().find(|frontend| frontend.kind == kind).unwrap();
        (frontend.usable, frontend.outside.clone().unwrap(), frontend.keeps_client)
    };
    let (inside, pool, keeps) = outside("LoadBalancer");
    assert_eq!((inside, pool.usable, pool.when_empty, keeps), (1, 0, WhenEmpty::Drop, true));
    assert_eq!(pool.set, "Local");
    node.end();
}

#[test]
fn endpoints_that_are_in_no_set_say_why() {
    let node = node();
    let endpoints = &show(&node, SERVICE).ports[0].endpoints;
    let told: Vec<_> = endpoints
        .iter()
        .map(|endpoint| (endpoint.usable, endpoint.not_in_cluster_set.as_ref().map(|why| why.name.as_str())))
        .collect();
    assert_eq!(told, [(true, None), (true, None), (false, Some("NotReady"))]);
    assert_eq!(endpoints[0].pod.as_deref(), Some("demo/b"));
    let remote = &show(&node, "local").ports[0].endpoints[0];
    assert_eq!(remote.not_in_local_set.as_ref().unwrap().text, "it is on node other");
    let empty = &show(&node, "empty").ports[0];
    assert_eq!(empty.no_endpoints.as_ref().unwrap().name, "NoSlice");
    node.end();
}

#[test]
fn services_that_are_not_served_are_shown_with_the_reason() {
    let mut node = node();
    let mut headless = service("headless");
    headless.cluster_ips.clear();
    let mut alias = service("alias");
    (alias.kind, alias.cluster_ips) = (ServiceType::ExternalName, vec![]);
    let mut foreign = service("foreign");
    foreign.foreign_proxy = true;
    foreign.labels.insert("service.kubernetes.io/service-proxy-name".into(), "other".into());
    for service in [headless, alias, foreign] {
        node.control.model().apply(Object::Service(service));
    }
    node.control.publish();
    for (name, reason, part) in [
        ("headless", "Headless", "ClusterIP"),
        ("alias", "ExternalName", "DNS"),
        ("foreign", "OtherProxy", "`other`"),
    ] {
        let why = show(&node, name).not_served.unwrap();
        assert!(why.name == reason && why.text.contains(part), "{why:?}");
    }
    assert_eq!(node.control.show_service("demo", "nobody"), None);
    assert_eq!(node.control.show_service("other", SERVICE), None);
    node.end();
}

/// From 10.0.0.1 to the ClusterIP.
fn packet(source_port: u16) -> BufferFrame {
    let (source, destination) = (([10, 0, 0, 1].into(), source_port), ([10, 96, 0, 1].into(), 80));
    Udp { source, destination, size: 60, ttl: 64 }.frame(1)
}

#[test]
fn clients_and_flows_are_counted_all_and_shown_up_to_a_limit() {
    let mut node = node();
    let mut sticky = service(SERVICE);
    sticky.affinity_seconds = Some(600);
    node.control.model().apply(Object::Service(sticky));
    let ports = [1, 2, 3].map(|number| node.control.add_port(port(number, 1)).unwrap());
    node.control.publish();
    let before = show(&node, SERVICE);
    assert_eq!(before.ports[0].affinity.as_ref().unwrap().total, 0);
    assert_eq!(before.flows.unwrap().total, 0);
    node.wire(ports[0]).lock().unwrap().arrived.extend((1000..1025).map(packet));
    eventually("all packets leave", || {
        ports[1..].iter().map(|&port| node.wire(port).lock().unwrap().sent.len()).sum::<usize>() == 25
    });
    let web = show(&node, SERVICE);
    let flows = web.flows.unwrap();
    assert_eq!((flows.total, flows.flows.len(), flows.by_state["unreplied"]), (25, 20, 25));
    assert!(flows.flows.iter().all(|flow| flow.service.as_deref() == Some("demo/web")));
    let bound = web.ports[0].affinity.as_ref().unwrap();
    assert_eq!((bound.total, bound.clients.len()), (1, 1), "all flows are of one client");
    let client = &bound.clients[0];
    assert_eq!(client.client.to_string(), "10.0.0.1");
    assert_eq!((client.endpoint, client.endpoint_port), (flows.flows[0].backend, Some(8080)));
    assert_eq!(show(&node, "empty").flows.unwrap().total, 0);
    assert_eq!(show(&node, "empty").ports[0].affinity, None);
    node.end();
}
