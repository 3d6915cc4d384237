//! Ports of the node that lead to a pod.

use super::*;
use millrace_fastpath::tables::FrontendKind;

const POD: PortId = PortId(3);

fn port(host_ip: Option<&str>, host_port: u16) -> HostPort {
    HostPort { host_ip: host_ip.map(ip), host_port, container_port: 80, protocol: Transport::Tcp }
}

fn at(tables: &TableSet, address: &str, port: u16) -> Option<Frontend> {
    let key = FrontendKey { address: ip(address).into(), port, protocol: 6 };
    tables.services.frontend(&key).cloned()
}

fn backends(frontend: &Frontend) -> Vec<Backend> {
    frontend.inside.backends.backends().to_vec()
}

#[test]
fn a_host_port_answers_at_every_address_of_the_node_and_leads_to_its_pod_alone() {
    let mut model = model();
    model.apply(node(None, &["192.0.2.1", "192.0.2.2", "2001:db8::1"]));
    model.set_host_ports(POD, &[ip("10.1.0.7"), ip("fd00::7")], vec![port(None, 8080)]);
    let tables = model.compile();
    for (own, pod) in [("192.0.2.1", "10.1.0.7"), ("192.0.2.2", "10.1.0.7"), ("2001:db8::1", "fd00::7")] {
        let frontend = at(&tables, own, 8080).unwrap();
        assert_eq!(backends(&frontend), [Backend { address: ip(pod).into(), port: 80 }]);
        assert_eq!((frontend.kind, frontend.keeps_client), (FrontendKind::HostPort, true));
        assert!(tables.services.is_serving(frontend.service, backends(&frontend)[0]));
    }
    assert!(!tables.services.is_service_address(ip("192.0.2.1").into()), "its other ports are the node's");

    model.set_host_ports(POD, &[ip("10.1.0.7")], vec![port(Some("192.0.2.2"), 8080)]);
    let tables = model.compile();
    assert!(at(&tables, "192.0.2.1", 8080).is_none() && at(&tables, "192.0.2.2", 8080).is_some());
    assert_eq!(model.host_ports_elsewhere(), []);

    // All of one family.
    let both = [ip("10.1.0.7"), ip("fd00::7")];
    for (any, here, not_here) in [("0.0.0.0", "192.0.2.1", "2001:db8::1"), ("::", "2001:db8::1", "192.0.2.1")]
    {
        model.set_host_ports(POD, &both, vec![port(Some(any), 8080)]);
        let tables = model.compile();
        assert!(at(&tables, here, 8080).is_some() && at(&tables, not_here, 8080).is_none(), "{any}");
    }
    // The node's own processes find it at localhost, as they do where the portmap plugin serves.
    for (wanted, v4, v6) in [
        (None, true, false),
        (Some("0.0.0.0"), true, false),
        (Some("::"), false, false),
        (Some("127.0.0.1"), true, false),
        (Some("::1"), false, true),
        (Some("192.0.2.1"), false, false),
    ] {
        model.set_host_ports(POD, &both, vec![port(wanted, 8080)]);
        let tables = model.compile();
        let found = ["127.0.0.1", "::1"].map(|own| at(&tables, own, 8080).is_some());
        assert_eq!(found, [v4, v6], "{wanted:?}");
        assert_eq!(model.host_ports_elsewhere(), [], "{wanted:?}");
    }
    model.set_host_ports(POD, &both, vec![port(Some("198.51.100.1"), 8080)]);
    assert!(model.compile().services.is_empty());
    assert_eq!(model.host_ports_elsewhere(), [(POD, ip("198.51.100.1"), 8080, Transport::Tcp)]);
    model.delete_port(POD);
    assert!(model.compile().services.is_empty() && model.host_ports_elsewhere().is_empty());
}

#[test]
fn a_new_address_of_the_node_gets_the_host_ports_too() {
    let mut model = model();
    model.set_host_ports(POD, &[ip("10.1.0.7")], vec![port(None, 8080)]);
    assert!(model.compile().services.is_empty());
    model.apply(node(None, &["192.0.2.1"]));
    assert!(at(&model.compile(), "192.0.2.1", 8080).is_some());
    model.apply(node(None, &["192.0.2.9"]));
    let tables = model.compile();
    assert!(at(&tables, "192.0.2.1", 8080).is_none() && at(&tables, "192.0.2.9", 8080).is_some());
}

#[test]
fn two_pods_that_want_one_port_of_the_node_are_told_apart_and_reported() {
    let mut model = model();
    model.apply(node(None, &["192.0.2.1"]));
    model.set_host_ports(POD, &[ip("10.1.0.7")], vec![port(None, 8080)]);
    model.set_host_ports(PortId(4), &[ip("10.1.0.8")], vec![port(None, 8080)]);
    let tables = model.compile();
    assert_eq!(backends(&at(&tables, "192.0.2.1", 8080).unwrap())[0].address, ip("10.1.0.7").into());
    let conflicts = ["127.0.0.1", "192.0.2.1"].map(|at| (PortId(4), ip(at), 8080, Transport::Tcp));
    assert_eq!(model.host_port_conflicts(), conflicts);
    model.set_host_ports(POD, &[], vec![]);
    let tables = model.compile();
    assert_eq!(backends(&at(&tables, "192.0.2.1", 8080).unwrap())[0].address, ip("10.1.0.8").into());
    assert_eq!(model.host_port_conflicts(), []);
}
