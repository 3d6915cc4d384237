use super::*;
use crate::path;
use serde_json::json;

fn id(container: &str, interface: &str) -> AttachmentId {
    AttachmentId { container_id: container.parse().unwrap(), if_name: interface.parse().unwrap() }
}

#[test]
fn a_request_is_one_flat_object_of_what_was_asked_for() {
    let request = AttachmentRequest {
        id: id("c1", "eth0"),
        netns: "/run/netns/a".into(),
        network: "pods".into(),
        pod: Some(PodIdentity { namespace: "default".into(), name: "web".into(), uid: None }),
        kind: Some(PortKind::AfXdp),
        mac: None,
        mtu: None,
        addresses: AddressSource::Own { requested: vec!["10.0.0.9".parse().unwrap()] },
        routes: Some(vec![Route::to("0.0.0.0/0".parse().unwrap())]),
        bandwidth: Some(Bandwidth { ingress_rate: Some(1_000_000), ..Bandwidth::default() }),
        host_ports: vec![HostPort {
            host_ip: None,
            host_port: 8080,
            container_port: 80,
            protocol: Protocol::Tcp,
        }],
    };
    let written = json!({
        "containerId": "c1", "ifName": "eth0", "netns": "/run/netns/a", "network": "pods",
        "pod": {"namespace": "default", "name": "web"}, "kind": "af-xdp",
        "addresses": {"source": "own", "requested": ["10.0.0.9"]},
        "routes": [{"destination": "0.0.0.0/0"}],
        "bandwidth": {"ingressRate": 1_000_000},
        "hostPorts": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
    });
    assert_eq!(serde_json::to_value(&request).unwrap(), written);
    assert_eq!(serde_json::from_value::<AttachmentRequest>(written).unwrap(), request);
}

#[test]
fn an_attachment_without_the_newer_fields_is_read() {
    let attachment: Attachment = serde_json::from_value(json!({
        "containerId": "c1", "ifName": "net1", "network": "pods", "netns": "/run/netns/a", "port": "c-00",
        "kind": "tap", "mac": "02:00:00:00:00:01", "mtu": 1500, "addresses": ["fd00::1"], "later": 1,
    }))
    .unwrap();
    assert_eq!(attachment.id, id("c1", "net1"));
    assert!(attachment.gateways.is_empty() && attachment.routes.is_empty());
}

#[test]
fn a_container_id_is_what_the_specification_calls_one() {
    for legal in ["a", "0", "A.b_c-d", &"x".repeat(200)] {
        assert_eq!(legal.parse::<ContainerId>().unwrap().as_str(), legal);
    }
    for wrong in ["", "-a", ".", "..", "_x", "a/b", "a b", "a\n", "ä", &"x".repeat(201)] {
        assert!(wrong.parse::<ContainerId>().is_err(), "{wrong:?}");
    }
    assert!("a/b".parse::<ContainerId>().unwrap_err().to_string().contains("`a/b`"));
}

#[test]
fn two_attachments_never_share_a_file() {
    let file = |container, interface| QueuedDeletion::path(Path::new("/state"), &id(container, interface));
    assert_eq!(file("a-b", "c"), Path::new("/state/deletions/a-b:c.json"));
    assert_ne!(file("a-b", "c"), file("a", "b-c"));
}

#[test]
fn any_legal_name_fits_into_a_path() {
    assert_eq!(path::attachment(&id("a_1", "net%1?")), "/v1/attachments/a_1/net%251%3F");
}
