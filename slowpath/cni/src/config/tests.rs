use super::*;
use crate::extra::Extra;
use millrace_api::{Bandwidth, HostPort, Protocol, Route};
use millrace_config::PortKind;
use serde_json::json;

fn read(fields: Value) -> Result<NetworkConfig, CniError> {
    let mut all = json!({"cniVersion": "1.1.0", "name": "pods", "type": "millrace-cni"});
    let (Value::Object(all), Value::Object(fields)) = (&mut all, fields) else { panic!("not objects") };
    all.extend(fields);
    let environment = [("CNI_PATH", "/nonexistent")].into_iter().collect();
    NetworkConfig::read(serde_json::to_vec(&all).unwrap(), &environment)
}

fn wishes(fields: Value) -> Result<Wishes, CniError> {
    Wishes::read(&read(fields)?, &Extra::default())
}

/// Code and text of an error.
fn told<T: std::fmt::Debug>(outcome: Result<T, CniError>) -> (u32, String) {
    let error = outcome.unwrap_err();
    (error.code(), error.to_string())
}

#[test]
fn an_empty_configuration_has_defaults() {
    let config = read(json!({})).unwrap();
    assert_eq!(config.name, "pods");
    assert_eq!(config.socket, std::path::Path::new(DEFAULT_SOCKET));
    assert_eq!(config.state_directory, Config::default().state_directory);
    assert_eq!(config.wait, DEFAULT_WAIT);
    assert!(config.delegate.is_none());
    let wishes = Wishes::read(&config, &Extra::default()).unwrap();
    assert_eq!((wishes.kind, wishes.mtu, wishes.mac, wishes.routes), (None, None, None, None));
    assert!(wishes.ips.is_empty() && wishes.host_ports.is_empty() && wishes.bandwidth.is_none());
}

#[test]
fn what_is_written_is_taken() {
    let fields = json!({
        "socket": "/a/b.sock", "stateDirectory": "/s", "waitSeconds": 3, "port": "vhost-user", "mtu": 9000,
        "dns": {"nameservers": ["10.0.0.10"], "domain": "d", "search": ["s"], "options": ["o"]},
        "ipam": {"type": "millrace", "routes": [{"dst": "10.9.1.1/16", "priority": 5}]},
    });
    let config = read(fields.clone()).unwrap();
    assert_eq!((config.socket, config.state_directory), ("/a/b.sock".into(), "/s".into()));
    assert_eq!(config.wait, Duration::from_secs(3));
    let wishes = wishes(fields).unwrap();
    assert_eq!(wishes.kind, Some(PortKind::VhostUser));
    assert_eq!(wishes.mtu.unwrap().get(), 9000);
    let route = Route { priority: Some(5), ..Route::to("10.9.0.0/16".parse().unwrap()) };
    assert_eq!(wishes.routes, Some(vec![route]));
    assert_eq!(wishes.dns.nameservers, ["10.0.0.10"]);
    assert_eq!(self::wishes(json!({"port": "veth"})).unwrap().kind, Some(PortKind::Veth));
}

#[test]
fn our_own_address_management_has_several_names() {
    for ipam in [
        json!(null),
        json!({}),
        json!({"type": ""}),
        json!({"type": "millrace"}),
        json!({"type": "millrace-cni"}),
    ] {
        assert!(read(json!({ "ipam": ipam })).unwrap().delegate.is_none(), "{ipam}");
    }
    assert_eq!(read(json!({"ipam": {"type": "host-local"}})).unwrap().delegate.unwrap().name(), "host-local");
    for name in ["../host-local", "/bin/sh", ".."] {
        let (code, text) = told(read(json!({"ipam": {"type": name}})));
        assert!(code == 7 && text.contains(name), "{text}");
    }
}

#[test]
fn wrong_fields_are_named_with_their_values() {
    for (fields, named) in [
        (json!({"name": ""}), "name"),
        (json!({"name": null}), "name"),
        (json!({"name": "a/b"}), "`a/b`"),
        (json!({"name": 5}), "name: invalid type: integer `5`"),
        (json!({"socket": "x.sock"}), "socket: `x.sock`"),
        (json!({"stateDirectory": "x"}), "stateDirectory: `x`"),
        (json!({"waitSeconds": 301}), "waitSeconds: 301"),
        (json!({"waitSeconds": -1}), "waitSeconds"),
        (json!({"ipam": "host-local"}), "ipam"),
        (json!({"ipam": {"type": 7}}), "ipam.type"),
    ] {
        let (code, text) = told(read(fields));
        assert!(code == 7 && text.contains(named), "{code} {text}");
    }
}

#[test]
fn what_only_an_addition_needs_only_an_addition_looks_at() {
    for (fields, named) in [
        (
            json!({"port": "dpdk"}),
            "port: `dpdk` is not a kind of port that a container can have: tap, veth, af-xdp or",
        ),
        (json!({"port": "bridge"}), "port: unknown variant `bridge`"),
        (json!({"mtu": 1279}), "mtu: 1279"),
        (json!({"mtu": "big"}), "mtu"),
        (json!({"dns": {"nameservers": "10.0.0.1"}}), "dns.nameservers"),
        (json!({"ipam": {"routes": [{"dst": "everywhere"}]}}), "ipam.routes[0].dst: `everywhere`"),
        (json!({"args": {"cni": {"ips": ["10.0.0.1", "x"]}}}), "args.cni.ips[1]: `x`"),
        (json!({"runtimeConfig": {"mac": "zz"}}), "runtimeConfig.mac: `zz`"),
        (json!({"runtimeConfig": {"ips": ["10.0.0.1/33"]}}), "runtimeConfig.ips[0]: `10.0.0.1/33`"),
        (json!({"runtimeConfig": {"bandwidth": {"ingressRate": -5}}}), "-5"),
        (json!({"runtimeConfig": {"portMappings": [{"hostPort": 70000}]}}), "70000"),
        (json!({"runtimeConfig": {"portMappings": [{"hostPort": 1}]}}), "portMappings[0].containerPort"),
        (
            json!({"runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 1, "protocol": "icmp"}]}}),
            "protocol: `icmp`",
        ),
        (
            json!({"runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 1, "hostIP": "x"}]}}),
            "hostIP: `x`",
        ),
    ] {
        assert!(read(fields.clone()).is_ok(), "{fields}");
        let (code, text) = told(wishes(fields));
        assert!(code == 7 && text.contains(named), "{code} {text}");
    }
}

#[test]
fn capabilities_are_read_in_both_spellings() {
    let conventions = json!({"runtimeConfig": {
        "portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 53, "containerPort": 5353, "protocol": "UDP", "hostIP": "192.0.2.1"},
            {"hostPort": 0, "containerPort": 9},
        ],
        "bandwidth": {"ingressRate": 1000, "ingressBurst": 2000, "egressRate": 0, "egressBurst": 5},
        "ips": ["10.0.0.9", "fd00::9/64"], "mac": "02:00:00:00:00:AA",
        "dns": {"servers": ["10.0.0.10"], "searches": ["svc.cluster.local"], "options": ["ndots:5"]},
    }});
    let containerd = json!({"runtimeConfig": {
        "portMappings": [
            {"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""},
            {"HostPort": 53, "ContainerPort": 5353, "Protocol": "udp", "HostIP": "192.0.2.1"},
        ],
        "bandwidth": {"IngressRate": 1000, "IngressBurst": 2000, "EgressRate": 0, "EgressBurst": 0},
        "ips": ["10.0.0.9", "fd00::9"], "mac": "02:00:00:00:00:aa",
        "dns": {"Servers": ["10.0.0.10"], "Searches": ["svc.cluster.local"], "Options": ["ndots:5"]},
    }});
    let read = wishes(conventions).unwrap();
    assert_eq!(read, wishes(containerd).unwrap());
    let port = |host_ip: Option<&str>, host_port, container_port, protocol| HostPort {
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_port,
        container_port,
        protocol,
    };
    let udp = port(Some("192.0.2.1"), 53, 5353, Protocol::Udp);
    assert_eq!(read.host_ports, [port(None, 8080, 80, Protocol::Tcp), udp]);
    let bandwidth = Bandwidth { ingress_rate: Some(1000), ingress_burst: Some(2000), ..Bandwidth::default() };
    assert_eq!(read.bandwidth, Some(bandwidth));
    assert_eq!(read.ips, ["10.0.0.9".parse::<IpAddr>().unwrap(), "fd00::9".parse().unwrap()]);
    assert_eq!(read.mac, Some("02:00:00:00:00:aa".parse().unwrap()));
    assert_eq!(read.dns.search, ["svc.cluster.local"]);
}

#[test]
fn empty_capabilities_are_none() {
    let empty = json!({"runtimeConfig": {
        "portMappings": null, "bandwidth": {"ingressRate": 0}, "ips": [], "mac": "", "dns": {}, "aliases": ["a"],
    }});
    assert_eq!(wishes(empty).unwrap(), wishes(json!({})).unwrap());
}

#[test]
fn capabilities_that_are_not_ours_are_refused_with_key_and_value() {
    for (fields, key, value) in [
        (json!({"runtimeConfig": {"deviceID": "0000:04:00.5"}}), "deviceID", "0000:04:00.5"),
        (json!({"runtimeConfig": {"ipRanges": [[{"subnet": "10.1.0.0/16"}]]}}), "ipRanges", "10.1.0.0/16"),
        (json!({"ipMasq": true}), "ipMasq", "true"),
    ] {
        let error = wishes(fields).unwrap_err();
        let object = error.to_object(Version::NEWEST);
        assert_eq!(object.code, 2);
        assert!(object.msg.contains(key) && object.msg.contains(value), "{}", object.msg);
    }
    assert!(wishes(json!({"ipMasq": false})).is_ok());
    // Ranges are for whoever gives the addresses.
    let delegated =
        json!({"ipam": {"type": "host-local"}, "runtimeConfig": {"ipRanges": [[{"subnet": "10.1.0.0/16"}]]}});
    assert!(wishes(delegated).is_ok());
}

#[test]
fn the_runtime_goes_before_args_and_those_before_cni_args() {
    let extra: Extra = "IP=10.0.0.3;MAC=02:00:00:00:00:03".parse().unwrap();
    let ips = |fields| Wishes::read(&read(fields).unwrap(), &extra).unwrap().ips;
    let list = |ip: &str| vec![ip.parse::<IpAddr>().unwrap()];
    assert_eq!(ips(json!({})), list("10.0.0.3"));
    assert_eq!(ips(json!({"args": {"cni": {"ips": ["10.0.0.2/24"]}}})), list("10.0.0.2"));
    let both = json!({"args": {"cni": {"ips": ["10.0.0.2"]}}, "runtimeConfig": {"ips": ["10.0.0.1"]}});
    assert_eq!(ips(both), list("10.0.0.1"));
    let mac = |fields| Wishes::read(&read(fields).unwrap(), &extra).unwrap().mac.unwrap().to_string();
    assert_eq!(mac(json!({})), "02:00:00:00:00:03");
    assert_eq!(mac(json!({"runtimeConfig": {"mac": "02:00:00:00:00:01"}})), "02:00:00:00:00:01");
}

#[test]
fn valid_attachments_must_be_stated() {
    let valid = |fields| read(fields).unwrap().valid_attachments();
    let (code, text) = told(valid(json!({})));
    assert!(code == 7 && text.contains("cni.dev/valid-attachments"), "{text}");
    assert_eq!(valid(json!({"cni.dev/valid-attachments": null})).unwrap(), []);
    let some = json!([{"containerID": "c1", "ifname": "eth0"}, {"containerID": "../x", "ifname": "eth0"}]);
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let ids = valid(json!({ key: some })).unwrap();
        assert_eq!(ids.iter().map(ToString::to_string).collect::<Vec<_>>(), ["c1/eth0"]);
    }
    let (code, text) = told(valid(json!({"cni.dev/valid-attachments": [{"containerID": "c1"}]})));
    assert!(code == 7 && text.contains("ifname"), "{text}");
}

#[test]
fn a_version_is_looked_for_first() {
    assert_eq!(version_of(br#"{"cniVersion": "0.4.0", "name": 5}"#).unwrap(), Version::V0_4_0);
    for (input, code, named) in [
        (&b"{}"[..], 1, "`0.1.0`"),
        (br#"{"cniVersion": ""}"#, 1, "`0.1.0`"),
        (br#"{"cniVersion": "2.0.0"}"#, 1, "`2.0.0`"),
        (br#"{"cniVersion": "1.1"}"#, 1, "`1.1`"),
        (br#"{"cniVersion": 1}"#, 6, "1"),
        (b"", 6, "EOF"),
        (b"[]", 6, "JSON"),
        (b"{\"cniVersion\": \"1.1.0\"", 6, "EOF"),
    ] {
        let (got, text) = told(version_of(input));
        assert!(got == code && text.contains(named), "{got} {text}");
    }
}
