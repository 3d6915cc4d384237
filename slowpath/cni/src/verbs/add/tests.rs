use super::*;
use crate::version::Version;
use serde_json::{Value, json};

fn attachment(more: Value) -> Attachment {
    let mut all = json!({
        "containerId": "c1", "ifName": "eth0", "network": "pods", "netns": "/run/netns/blue", "port": "c-1",
        "kind": "af-xdp", "mac": "02:00:00:00:00:0a", "mtu": 1450, "addresses": ["10.0.0.5", "fd00::5"],
        "gateways": ["169.254.1.1", "fe80::1"],
        "routes": [
            {"destination": "0.0.0.0/0", "gateway": "169.254.1.1"},
            {"destination": "::/0", "gateway": "fe80::1", "mtu": 1400},
        ],
    });
    let (Value::Object(all), Value::Object(more)) = (&mut all, more) else { panic!("not objects") };
    all.extend(more);
    serde_json::from_value(Value::Object(all.clone())).unwrap()
}

fn written(previous: Value, attachment: &Attachment, version: Version) -> Value {
    let previous = serde_json::from_value(previous).unwrap();
    let dns = Dns { nameservers: vec!["10.0.0.10".into()], ..Dns::default() };
    let result = result(previous, attachment, "/run/netns/blue", Some(dns));
    serde_json::to_value(result.in_version(version)).unwrap()
}

#[test]
fn a_result_has_both_ends_of_the_link() {
    let attachment = attachment(json!({"hostInterface": {"name": "mr-c-1", "mac": "02:00:00:00:00:0b"}}));
    assert_eq!(
        written(json!({}), &attachment, Version::V1_1_0),
        json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "mr-c-1", "mac": "02:00:00:00:00:0b", "mtu": 1450},
                {"name": "eth0", "mac": "02:00:00:00:00:0a", "mtu": 1450, "sandbox": "/run/netns/blue"},
            ],
            "ips": [
                {"interface": 1, "address": "10.0.0.5/32", "gateway": "169.254.1.1"},
                {"interface": 1, "address": "fd00::5/128", "gateway": "fe80::1"},
            ],
            "routes": [
                {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
                {"dst": "::/0", "gw": "fe80::1", "mtu": 1400},
            ],
            "dns": {"nameservers": ["10.0.0.10"]},
        })
    );
}

#[test]
fn an_older_result_has_the_form_of_its_time() {
    assert_eq!(
        written(json!({}), &attachment(json!({})), Version::V0_3_1),
        json!({
            "cniVersion": "0.3.1",
            "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:0a", "sandbox": "/run/netns/blue"}],
            "ips": [
                {"version": "4", "interface": 0, "address": "10.0.0.5/32", "gateway": "169.254.1.1"},
                {"version": "6", "interface": 0, "address": "fd00::5/128", "gateway": "fe80::1"},
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0", "gw": "fe80::1"}],
            "dns": {"nameservers": ["10.0.0.10"]},
        })
    );
}

#[test]
fn a_vhost_user_interface_has_its_socket() {
    let files =
        json!({"directory": "/run/p", "socket": "/run/p/vhost-user.sock", "file": "/run/p/network.json"});
    let attachment = attachment(json!({"kind": "vhost-user", "vhostUser": files}));
    let written = written(json!({}), &attachment, Version::V1_1_0);
    assert_eq!(written["interfaces"][0]["socketPath"], "/run/p/vhost-user.sock");
}

#[test]
fn what_was_there_before_stays_in_front() {
    let previous = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0", "sandbox": "/run/netns/blue"}, {"name": "br0"}],
        "ips": [{"interface": 0, "address": "192.0.2.5/24", "gateway": "192.0.2.1"}],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {"domain": "old"},
        "x": 1,
    });
    let second = attachment(json!({"ifName": "net1", "routes": [], "addresses": ["10.0.0.5"]}));
    let written = written(previous.clone(), &second, Version::V1_1_0);
    assert_eq!(written["interfaces"].as_array().unwrap().len(), 3);
    assert_eq!(written["interfaces"][0], previous["interfaces"][0]);
    assert_eq!(written["interfaces"][2]["name"], "net1");
    assert_eq!(written["ips"][0], previous["ips"][0]);
    assert_eq!(written["ips"][1]["interface"], 2);
    assert_eq!(written["routes"], previous["routes"]);
    assert_eq!((&written["dns"], &written["x"]), (&json!({"nameservers": ["10.0.0.10"]}), &json!(1)));
}

#[test]
fn without_a_word_of_dns_the_one_before_stays() {
    let previous: NetworkResult = serde_json::from_value(json!({"dns": {"domain": "old"}})).unwrap();
    assert_eq!(result(previous, &attachment(json!({})), "/x", None).dns.domain, "old");
}
