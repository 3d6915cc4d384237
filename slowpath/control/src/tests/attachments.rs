//! Attachments over plain memory: made, found again, removed.

use super::bench::{Node, Outside, port};
use crate::attachment::fixture::{id, request};
use crate::{AttachError, Departure, PortError, Step};
use millrace_api::{
    AddressSource, Attachment, AttachmentRequest, Bandwidth, ErrorCode, GarbageRequest, HostPort,
    PodIdentity, Protocol, QueuedDeletion,
};
use millrace_config::{Config, PortKind};
use millrace_fastpath::port::BufferFrame;
use millrace_model::{Object, ObjectName, Pod, PodPhase, PodPort};
use std::net::IpAddr;
use std::sync::Arc;
use tempfile::TempDir;

fn config() -> Config {
    let mut config = Config::default();
    config.cni.pod_cidrs = ["10.1.0.0/29", "fd00:1::/64"].map(|range| range.parse().unwrap()).to_vec();
    config
}

/// A node that takes requests.
pub(super) fn node() -> Node {
    after(Arc::new(TempDir::new().unwrap()), Arc::default())
}

/// The node after what was there before.
fn after(state: Arc<TempDir>, outside: Arc<Outside>) -> Node {
    let mut node = Node::at(1, config(), state, outside);
    node.control.adopt_attachments();
    node
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Files in the store, and what the pods have.
fn kept(node: &Node) -> (usize, usize) {
    let files = std::fs::read_dir(node.state.path().join("attachments")).unwrap().count();
    (files, node.outside.lasting.lock().unwrap().len())
}

fn restarted(node: Node) -> Node {
    let (state, outside) = (Arc::clone(&node.state), Arc::clone(&node.outside));
    node.end();
    after(state, outside)
}

#[test]
fn an_attachment_has_a_port_addresses_and_routes_and_is_removed_without_a_trace() {
    let mut node = node();
    let made = node.control.attach(request("a")).unwrap();
    assert_eq!((made.kind, made.addresses.clone()), (PortKind::Tap, ips(&["10.1.0.2", "fd00:1::2"])));
    assert_eq!(made.gateways, ips(&["169.254.1.1", "fe80::4d:52ff:fe00:1"]));
    assert_eq!(made.routes[0].destination, "0.0.0.0/0".parse().unwrap());
    let port = node.control.show_port(&made.port).unwrap();
    assert_eq!(port.addresses, ["10.1.0.2/32", "fd00:1::2/128"]);
    assert!(port.config.spoof_check);
    assert_eq!(node.control.attachment_status().ipv4_left, Some(4));
    assert_eq!(kept(&node), (1, 1));
    assert_eq!(node.control.check_attachment(&id("a")).unwrap(), made);
    assert_eq!(node.control.list_attachments().attachments, std::slice::from_ref(&made));

    let error = node.control.remove_port(&made.port).unwrap_err();
    assert!(matches!(error, PortError::Attached { .. }) && error.code() == ErrorCode::Conflict, "{error}");
    node.control.detach(&id("a")).unwrap();
    node.control.detach(&id("a")).unwrap();
    assert_eq!((kept(&node), node.outside.held()), ((0, 0), (0, 0, 0)));
    assert_eq!(node.control.attachment_status().ipv4_left, Some(5));
    assert_eq!(node.control.check_attachment(&id("a")).unwrap_err().code(), ErrorCode::NotFound);
    node.end();
}

#[test]
fn a_veth_has_an_end_here_is_found_again_after_a_restart_and_is_removed() {
    let mut node = node();
    let wanted = |kind: PortKind, name: &str| AttachmentRequest { kind: Some(kind), ..request(name) };
    let made = node.control.attach(wanted(PortKind::Veth, "a")).unwrap();
    let host_end = made.host_interface.clone().unwrap().name;
    assert!(made.kind == PortKind::Veth && host_end.as_str().starts_with("mr"), "{host_end}");
    let port = node.control.show_port(&made.port).unwrap();
    assert_eq!(port.config.place(), "interface eth0 in namespace /run/netns/a");
    assert_eq!(port.config.attachment.kind(), PortKind::Veth);
    assert!(node.control.attach(wanted(PortKind::AfXdp, "b")).unwrap().host_interface.is_some());
    assert!(node.control.attach(wanted(PortKind::Tap, "c")).unwrap().host_interface.is_none());

    let mut node = restarted(node);
    assert_eq!(node.control.check_attachment(&id("a")).unwrap(), made);
    assert_eq!(node.control.attach(wanted(PortKind::Veth, "a")).unwrap(), made);
    for name in ["a", "b", "c"] {
        node.control.detach(&id(name)).unwrap();
    }
    assert_eq!((kept(&node), node.outside.held()), ((0, 0), (0, 0, 0)));
    node.end();
}

#[test]
fn the_same_request_again_gets_what_is_there_and_another_one_is_a_conflict() {
    let mut node = node();
    let made = node.control.attach(request("a")).unwrap();
    assert_eq!(node.control.attach(request("a")).unwrap(), made);
    let other = AttachmentRequest { kind: Some(PortKind::AfXdp), ..request("a") };
    assert_eq!(node.control.attach(other).unwrap_err().code(), ErrorCode::Conflict);
    assert_eq!(kept(&node), (1, 1));
    node.end();
}

#[test]
fn a_failure_at_any_step_leaves_no_file_no_address_and_no_interface() {
    let mut node = node();
    for step in [Step::Prepare, Step::Open, Step::Finish] {
        node.fail(Some(step));
        let error = node.control.attach(request("a")).unwrap_err();
        assert!(error.to_string().contains(&step.to_string()), "{error}");
        assert_eq!((kept(&node), node.outside.held()), ((0, 0), (0, 0, 0)), "after {step}");
        assert_eq!(node.control.attachment_status().ipv4_left, Some(5), "after {step}");
    }
    node.fail(None);
    // The addresses of the failed ones rest.
    assert_eq!(node.control.attach(request("a")).unwrap().addresses[0], ips(&["10.1.0.5"])[0]);
    node.end();
}

#[test]
fn what_cannot_be_attached_is_refused_with_its_reason_and_its_kind() {
    let mut node = node();
    node.control.attach(request("first")).unwrap();
    node.outside.gone.lock().unwrap().insert("/run/netns/nowhere".into());
    let given = |addresses: &[&str]| AttachmentRequest {
        addresses: AddressSource::Given { addresses: ips(addresses) },
        ..request("a")
    };
    let asked = |address: &str| AttachmentRequest {
        addresses: AddressSource::Own { requested: ips(&[address]) },
        ..request("a")
    };
    let icmp = HostPort { host_ip: None, host_port: 1, container_port: 1, protocol: Protocol::Icmp };
    for (request, code, part) in [
        (
            AttachmentRequest { netns: "/run/netns/nowhere".into(), ..request("a") },
            ErrorCode::Invalid,
            "nowhere",
        ),
        (AttachmentRequest { kind: Some(PortKind::Dpdk), ..request("a") }, ErrorCode::Invalid, "dpdk"),
        (AttachmentRequest { host_ports: vec![icmp], ..request("a") }, ErrorCode::Invalid, "icmp"),
        (given(&[]), ErrorCode::Invalid, "none is there"),
        (given(&["10.1.0.2"]), ErrorCode::Conflict, "10.1.0.2"),
        (given(&["169.254.1.1"]), ErrorCode::Invalid, "169.254.1.1"),
        (asked("10.1.0.2"), ErrorCode::Conflict, "10.1.0.2"),
        (asked("10.2.0.2"), ErrorCode::Invalid, "10.1.0.0/29"),
    ] {
        let error = node.control.attach(request).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    let mut outcomes = (0..9).map(|number| node.control.attach(request(&format!("c{number}"))));
    let error = outcomes.find_map(Result::err).unwrap();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.to_string().contains("no IPv4 address is left in 10.1.0.0/29"), "{error}");
    node.end();
}

#[test]
fn nothing_is_attached_before_the_daemon_knows_what_is_there() {
    let mut node = Node::at(1, config(), Arc::new(TempDir::new().unwrap()), Arc::default());
    assert!(matches!(node.control.attach(request("a")), Err(AttachError::Starting)));
    assert!(!node.control.attachment_status().ready);
    node.control.detach(&id("a")).unwrap();
    node.end();
}

#[test]
fn after_a_restart_pods_keep_their_ports_and_addresses() {
    let mut node = node();
    let before: Vec<Attachment> = ["a", "b"].map(|name| node.control.attach(request(name)).unwrap()).to_vec();
    let mut node = restarted(node);
    assert_eq!(node.control.list_attachments().attachments, before);
    assert_eq!((kept(&node), node.outside.held().0), ((2, 2), 2));
    assert_eq!(node.control.check_attachment(&id("a")).unwrap(), before[0]);
    // Addresses go on from the last one given.
    assert_eq!(node.control.attach(request("c")).unwrap().addresses[0], ips(&["10.1.0.4"])[0]);
    node.control.detach(&id("a")).unwrap();
    assert_eq!(kept(&node), (2, 2));
    node.end();
}

#[test]
fn an_orphan_an_unfinished_one_and_one_with_a_queued_deletion_are_removed_at_start() {
    let mut node = node();
    for name in ["stays", "orphan", "deleted", "unfinished", "remade"] {
        node.control.attach(request(name)).unwrap();
    }
    let (state, outside) = (Arc::clone(&node.state), Arc::clone(&node.outside));
    let port =
        |name: &str| node.control.list_attachments().attachments.into_iter().find(|a| a.id == id(name));
    let (unfinished, remade) = (port("unfinished").unwrap().port, port("remade").unwrap().port);
    node.end();
    outside.gone.lock().unwrap().insert("/run/netns/orphan".into());
    let file = state.path().join(format!("attachments/{unfinished}.json"));
    let text = std::fs::read_to_string(&file).unwrap().replace("\"done\"", "\"adding\"");
    std::fs::write(&file, text).unwrap();
    outside.lasting.lock().unwrap().remove(remade.as_str());
    let deletion = QueuedDeletion { id: id("deleted"), network: "pods".into() };
    let path = QueuedDeletion::path(state.path(), &deletion.id);
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    std::fs::write(&path, serde_json::to_vec(&deletion).unwrap()).unwrap();

    let node = after(state, outside);
    let left: Vec<_> = node.control.list_attachments().attachments.into_iter().map(|a| a.id).collect();
    assert_eq!(left, [id("remade"), id("stays")]);
    assert_eq!(kept(&node), (2, 2));
    assert!(!path.exists());
    node.end();
}

#[test]
fn an_attachment_that_cannot_be_opened_again_is_reported_and_stays_until_it_is_deleted() {
    let mut node = node();
    node.control.attach(request("a")).unwrap();
    let (state, outside) = (Arc::clone(&node.state), Arc::clone(&node.outside));
    node.end();
    *outside.failing.lock().unwrap() = Some(Step::Open);
    let mut node = after(state, outside);
    let errors = node.control.object_errors().errors;
    assert!(errors[0].reason.contains("opening the device refused"), "{errors:?}");
    let error = node.control.check_attachment(&id("a")).unwrap_err();
    assert!(error.to_string().contains("opening the device refused"), "{error}");
    node.fail(None);
    node.control.detach(&id("a")).unwrap();
    assert!(node.control.object_errors().errors.is_empty());
    assert_eq!(kept(&node), (0, 0));
    node.end();
}

#[test]
fn a_deletion_that_waits_is_done_before_an_attachment_of_the_same_name_and_by_the_clock() {
    let mut node = node();
    let queue = |node: &Node, name: &str| {
        let deletion = QueuedDeletion { id: id(name), network: "pods".into() };
        let path = QueuedDeletion::path(node.state.path(), &deletion.id);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, serde_json::to_vec(&deletion).unwrap()).unwrap();
        path
    };
    let first = node.control.attach(request("a")).unwrap();
    let path = queue(&node, "a");
    let second = node.control.attach(request("a")).unwrap();
    assert!(!path.exists() && first.addresses != second.addresses);
    let (path, unknown) = (queue(&node, "a"), queue(&node, "unknown"));
    let garbage = path.with_file_name("x:eth0.json");
    std::fs::write(&garbage, "{").unwrap();
    node.control.tick();
    assert!(node.control.list_attachments().attachments.is_empty());
    assert!(!path.exists() && !unknown.exists() && !garbage.exists());
    assert!(garbage.with_extension("damaged").exists());
    node.end();
}

#[test]
fn garbage_is_of_one_network_and_not_of_another() {
    let mut node = node();
    for name in ["a", "b"] {
        node.control.attach(request(name)).unwrap();
    }
    node.control.attach(AttachmentRequest { network: "other".into(), ..request("c") }).unwrap();
    let garbage = GarbageRequest { network: "pods".into(), valid: vec![id("b"), id("gone")] };
    assert_eq!(node.control.garbage(&garbage), [id("a")]);
    node.end();
}

#[test]
fn while_the_kernel_removes_an_interface_others_are_served_and_its_address_and_name_are_not_given_again() {
    let mut node = node();
    let first = node.control.attach(request("a")).unwrap();
    let Departure::Begun(leaving) = node.control.begin_detach(&id("a")).unwrap() else {
        panic!("there is something to remove");
    };
    assert!(matches!(node.control.begin_detach(&id("a")).unwrap(), Departure::UnderWay));
    let again = node.control.attach(request("a")).unwrap_err();
    assert_eq!((again.code(), again.to_string()), (ErrorCode::Unavailable, "a/eth0 is being removed".into()));
    assert!(node.control.detach(&id("a")).is_err());
    assert!(node.control.check_attachment(&id("a")).is_err());
    let other = node.control.attach(request("b")).unwrap();
    assert_ne!(other.addresses, first.addresses);
    assert_eq!(kept(&node), (2, 2));
    // On any thread.
    let left = std::thread::spawn(move || leaving.clear()).join().unwrap();
    node.control.end_detach(left).unwrap();
    assert_eq!(kept(&node), (1, 1));
    assert!(matches!(node.control.begin_detach(&id("a")).unwrap(), Departure::Done));
    node.control.attach(request("a")).unwrap();
    node.end();
}

#[test]
fn an_attachment_that_cannot_be_removed_is_removed_by_the_next_try() {
    let mut node = node();
    node.control.attach(request("a")).unwrap();
    node.fail(Some(Step::Undo));
    assert!(node.control.detach(&id("a")).is_err());
    assert_eq!(kept(&node), (1, 1));
    node.fail(None);
    node.control.detach(&id("a")).unwrap();
    assert_eq!(kept(&node), (0, 0));
    node.end();
}

/// The pod `demo/web`, which says this of its port.
fn pod_with(port: PodPort) -> Pod {
    Pod {
        name: ObjectName::new("demo", "web"),
        labels: Default::default(),
        node: None,
        host_network: false,
        phase: PodPhase::Running,
        ips: vec![],
        ports: vec![],
        port: PodPort { uid: Some("u-1".into()), ..port },
    }
}

/// The same pod for a runtime, if this is its uid.
fn pod(uid: &str) -> PodIdentity {
    PodIdentity { namespace: "demo".into(), name: "web".into(), uid: Some(uid.into()) }
}

#[test]
fn annotated_limits_come_before_those_of_the_runtime_and_are_followed() {
    let mut node = node();
    let annotated = |ingress: Option<&str>, egress: Option<&str>| {
        let [ingress_bandwidth, egress_bandwidth] = [ingress, egress].map(|text| text.map(str::to_owned));
        Object::Pod(pod_with(PodPort { ingress_bandwidth, egress_bandwidth, ..PodPort::default() }))
    };
    let asked = Bandwidth { ingress_rate: Some(7_000), ingress_burst: Some(9_000), ..Bandwidth::default() };
    let request = AttachmentRequest { pod: Some(pod("u-1")), bandwidth: Some(asked), ..request("a") };
    let port = node.control.attach(request.clone()).unwrap().port;
    let limits = |node: &mut Node| {
        node.control.tick();
        node.control.ports[&port].bandwidth
    };
    // The pod may become known after its port.
    assert_eq!(limits(&mut node), Some(asked));
    node.control.model().apply(annotated(Some("10M"), Some("1k")));
    let both = Bandwidth { ingress_rate: Some(10_000_000), egress_rate: Some(1_000), ..Bandwidth::default() };
    assert_eq!(limits(&mut node), Some(both));
    node.control.model().apply(annotated(None, Some("1k")));
    assert_eq!(limits(&mut node), Some(Bandwidth { egress_rate: Some(1_000), ..asked }));
    // A wrong one changes nothing, and is reported once.
    node.control.model().apply(annotated(Some("fast"), None));
    assert_eq!(limits(&mut node), Some(Bandwidth { egress_rate: Some(1_000), ..asked }));
    let errors: Vec<String> = node.control.attachment_errors().map(|error| error.reason).collect();
    assert!(errors.len() == 1 && errors[0].contains("`fast`"), "{errors:?}");
    let id = AttachmentRequest { id: id("b"), ..request };
    let error = node.control.attach(id).unwrap_err();
    assert!(error.code() == ErrorCode::Invalid && error.to_string().contains("`fast`"), "{error}");
    node.control.model().apply(annotated(None, None));
    assert_eq!((limits(&mut node), node.control.attachment_errors().count()), (Some(asked), 0));
    node.end();
}

#[test]
fn a_pods_annotation_comes_before_its_network_and_that_before_the_default() {
    let mut node = node();
    let annotated = |kind: &str, uid: &str| {
        pod_with(PodPort { kind: Some(kind.into()), vhost_user_uid: Some(uid.into()), ..PodPort::default() })
    };
    node.control.model().apply(Object::Pod(annotated("veth", "107")));
    let mut kind_of = |name: &str, pod: Option<PodIdentity>, kind: Option<PortKind>| {
        let made =
            node.control.attach(AttachmentRequest { pod, kind, ..request(name) }).map(|made| made.kind);
        node.control.detach(&id(name)).unwrap();
        made.map_err(|error| error.to_string())
    };
    assert_eq!(kind_of("a", Some(pod("u-1")), Some(PortKind::VhostUser)), Ok(PortKind::Veth));
    // Another pod of that name is not the one that is known.
    assert_eq!(kind_of("b", Some(pod("u-2")), Some(PortKind::VhostUser)), Ok(PortKind::VhostUser));
    assert_eq!(kind_of("c", None, None), Ok(PortKind::Tap));

    let second = AttachmentRequest {
        id: millrace_api::AttachmentId { if_name: "net1".parse().unwrap(), ..id("d") },
        pod: Some(pod("u-1")),
        ..request("d")
    };
    let made = node.control.attach(second).unwrap();
    assert_eq!(made.kind, PortKind::Tap, "the annotation is about the first interface");
    assert!(node.control.show_port(&made.port).unwrap().config.pod.is_none());
    for (kind, uid, part) in [("carrier-pigeon", "0", "carrier-pigeon"), ("vhost-user", "-1", "`-1`")] {
        node.control.model().apply(Object::Pod(annotated(kind, uid)));
        let error =
            node.control.attach(AttachmentRequest { pod: Some(pod("u-1")), ..request("e") }).unwrap_err();
        assert!(error.to_string().contains(part) && error.code() == ErrorCode::Invalid, "{error}");
    }
    node.end();
}

#[test]
fn a_port_of_the_node_has_one_owner() {
    let mut node = node();
    let with = |name: &str, host_ip: Option<&str>| AttachmentRequest {
        host_ports: vec![HostPort {
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port: 8080,
            container_port: 80,
            protocol: Protocol::Tcp,
        }],
        ..request(name)
    };
    node.control.attach(with("a", Some("192.0.2.1"))).unwrap();
    node.control.attach(with("b", Some("192.0.2.2"))).unwrap();
    let error = node.control.attach(with("c", None)).unwrap_err();
    assert!(matches!(&error, AttachError::HostPort { owner, .. } if *owner == id("a")), "{error}");
    // All addresses of a family are those of that family only.
    node.control.attach(with("d", Some("::"))).unwrap();
    for (host_ip, owner) in [("0.0.0.0", "a"), ("2001:db8::1", "d")] {
        let error = node.control.attach(with("c", Some(host_ip))).unwrap_err();
        assert!(
            matches!(&error, AttachError::HostPort { owner: found, .. } if *found == id(owner)),
            "{error}"
        );
    }
    let mut twice = with("c", Some("192.0.2.3"));
    twice
        .host_ports
        .push(HostPort { host_ip: Some("0.0.0.0".parse().unwrap()), ..twice.host_ports[0].clone() });
    assert!(matches!(node.control.attach(twice), Err(AttachError::SameHostPort { .. })));
    for name in ["a", "b", "d"] {
        node.control.detach(&id(name)).unwrap();
    }
    node.control.attach(with("c", None)).unwrap();
    node.end();
}

#[test]
fn a_port_of_the_node_that_a_service_has_is_reported() {
    let mut node = node();
    for object in super::objects::cluster() {
        node.control.model().apply(object);
    }
    let port = HostPort { host_ip: None, host_port: 30080, container_port: 80, protocol: Protocol::Udp };
    node.control.attach(AttachmentRequest { host_ports: vec![port], ..request("a") }).unwrap();
    let errors = node.control.object_errors().errors;
    assert!(errors[0].reason.contains("hostPort 30080/UDP at 192.0.2.1"), "{errors:?}");
    assert_eq!(node.control.status().source.errors, 1);
    node.control.detach(&id("a")).unwrap();
    assert!(node.control.object_errors().errors.is_empty());
    node.end();
}

#[test]
fn an_address_of_another_port_is_never_given() {
    let mut node = node();
    let mut configured = port(1, 1);
    configured.addresses = vec!["10.1.0.2".parse().unwrap()];
    node.control.add_port(configured).unwrap();
    assert_eq!(node.control.attach(request("a")).unwrap().addresses[0], ips(&["10.1.0.3"])[0]);
    node.end();
}

#[test]
fn a_frame_reaches_an_attached_port() {
    let mut node = node();
    let made = node.control.attach(request("a")).unwrap();
    node.control.add_port(port(1, 1)).unwrap();
    let ports = node.control.list_ports().ports;
    let number = |name: &str| ports.iter().find(|port| port.config.name.as_str() == name).unwrap().number;
    let wire = |name: &str| node.wire(millrace_fastpath::port::PortId(number(name) as u16));
    let frame: BufferFrame = super::ports::packet_to(1, [10, 1, 0, 2]);
    wire("port-1").lock().unwrap().arrived.push_back(frame);
    let sent = wire(made.port.as_str());
    super::bench::eventually("it arrives", || sent.lock().unwrap().sent.len() == 1);
    node.end();
}
