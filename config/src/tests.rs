use super::*;
use proptest::prelude::*;
use std::path::Path;

const FILE: &str = "/etc/millrace/millrace.yaml";

fn config(text: &str) -> Config {
    parse(Path::new(FILE), text).unwrap()
}

fn error(text: &str) -> String {
    parse(Path::new(FILE), text).unwrap_err().to_string()
}

/// The refusal names the file and every given part.
fn refused(text: &str, parts: &[&str]) {
    let message = error(text);
    for part in parts.iter().chain(&[FILE]) {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

fn sample(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)).unwrap()
}

/// Takes the `#` from fields that are commented out, and from everything behind `#ports:`.
fn uncommented(text: &str) -> String {
    let mut ports = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        ports |= line == "#ports:";
        let is_field = line.trim_start().strip_prefix('#').is_some_and(|rest| !rest.starts_with(' '));
        // `count` and `cores` exclude each other, and a flow map cannot go on as a block.
        let line = if line == "  count: 1" { "" } else { line };
        let line = if line == "eal: {}" { "eal:" } else { line };
        lines.push(if ports || is_field { line.replacen('#', "", 1) } else { line.to_owned() });
    }
    lines.join("\n")
}

#[test]
fn an_empty_file_is_a_valid_configuration() {
    for text in ["", "\n\n", "# nothing\n", "---\n", "{}"] {
        assert_eq!(config(text), Config::default(), "{text:?}");
    }
}

#[test]
fn the_sample_shows_the_real_defaults() {
    assert_eq!(config(&sample("millrace.yaml")), Config::default());
}

#[test]
fn the_sample_shows_every_field() {
    let shown = sample("millrace.yaml");
    let text = uncommented(&shown);
    let config = config(&text);
    assert_eq!(config.node_name.as_ref().unwrap().as_str(), "worker-1");
    assert_eq!(config.eal_file_prefix(), "millrace-a");
    assert_eq!(config.workers.cores, Cores::Pinned(vec![CoreId(2), CoreId(3)]));
    let kinds: Vec<_> = config.ports.iter().map(|port| port.attachment.kind().name()).collect();
    assert_eq!(kinds, ["af-xdp", "tap", "veth", "vhost-user", "dpdk"]);
    // A field that the sample forgets would be one that no reader knows of: the parser lists all it accepts.
    for section in [
        "",
        "workers",
        "memory",
        "eal",
        "flowTable",
        "gateway",
        "cluster",
        "services",
        "api",
        "metrics",
        "routing",
        "masquerade",
    ] {
        let wrong =
            if section.is_empty() { "nonsense: 1".into() } else { format!("{section}: {{nonsense: 1}}") };
        let message = error(&wrong);
        let known = message.split_once(", expected ").unwrap().1.split(" (in ").next().unwrap();
        for field in known.trim_start_matches("one of ").split(", ").flat_map(|list| list.split(" or ")) {
            let field = field.trim_matches('`');
            assert!(shown.contains(&format!("{field}:")), "{field} is not in the sample ({message})");
        }
    }
}

#[test]
fn the_demo_configuration_parses_and_finds_its_manifests() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/demo/millrace.yaml");
    let config = load(&path).unwrap();
    let Source::Directory(directory) = &config.source else { panic!("{:?}", config.source) };
    assert!(directory.join("service.yaml").exists());
    assert_eq!(config.ports.len(), 7);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let message = load(Path::new("/nonexistent/millrace.yaml")).unwrap_err().to_string();
    assert!(message.contains("/nonexistent/millrace.yaml"), "{message}");
}

#[test]
fn an_unknown_field_is_refused_by_name() {
    refused("colour: red", &[":1:", "colour"]);
    refused("memory:\n  hugepags: auto", &[":2:", "memory", "hugepags"]);
    refused("ports:\n  - {name: a, kind: tap, netns: a, pod: x/a, mask: 3}", &["ports[0]", "mask"]);
}

#[test]
fn an_illegal_value_is_named_with_its_field() {
    refused("mtu: 100", &["mtu", "100 is not in 1280..=9216 bytes"]);
    refused("mtu: many", &["mtu", "many"]);
    refused("mtu: -5", &["mtu", "-5"]);
    refused("gateway: {mac: '01:00:5e:00:00:01'}", &["gateway", "01:00:5e:00:00:01"]);
    refused("gateway: {mac: 02-00-00-00-00-01}", &["gateway.mac", "02-00-00-00-00-01"]);
    refused("gateway: {ipv4: 224.0.0.1}", &["gateway", "224.0.0.1"]);
    refused("flowTable: {timeouts: {udpStream: 0}}", &["flowTable.timeouts.udpStream", "0 is not in"]);
    refused("cluster: {podCIDRs: [10.0.0.0/8, 10.1.2.3/16]}", &["podCIDRs[1]", "10.1.2.3/16", "10.1.0.0/16"]);
    refused("cluster: {podCIDRs: ['::ffff:10.0.0.0/104']}", &["podCIDRs[0]", "IPv4-mapped"]);
    refused("loadBalancing: fair", &["loadBalancing", "fair"]);
    refused("source: {etcd: {}}", &["source", "etcd"]);
    refused("source: {kubernetes: {token: abc}}", &["source", "kubernetes", "token"]);
    for wrong in [
        "192.0.2.1:6443",
        "https://",
        "https://a b",
        "https://[192.0.2.1]",
        "https://x:0",
        "https://me@x",
        "ftp://x",
    ] {
        refused(&format!("source: {{kubernetes: {{server: {wrong:?}}}}}"), &["kubernetes.server", wrong]);
    }
    refused("nodeName: Under_Score", &["nodeName", "Under_Score"]);
    refused("metrics: {address: nowhere}", &["metrics.address", "nowhere"]);
    refused("mtu: 1500\nmtu: 1400", &["mtu"]);
    refused("[1, 2]", &[":1:"]);
    refused("mtu: [", &["mtu"]);
}

#[test]
fn workers_are_counted_or_pinned() {
    assert_eq!(config("workers: {count: 3}").workers.cores, Cores::Count(3));
    assert_eq!(config("workers: {idle: busy}").workers.idle, Idle::Busy);
    refused("workers: {count: 0}", &["workers.count", "0 is not in"]);
    refused("workers: {count: 1, cores: [1]}", &["workers", "count"]);
    refused("workers: {cores: []}", &["workers", "cores"]);
    refused("workers: {cores: [1, 2, 1]}", &["workers", "1 occurs twice"]);
}

#[test]
fn memory_that_cannot_hold_its_frames_is_refused() {
    refused("memory: {mebibytes: 64, frames: 65536}", &["memory", "64 is not in 200..="]);
}

#[test]
fn ranges_of_different_kinds_must_not_overlap() {
    refused(
        "cluster: {podCIDRs: [10.0.0.0/8], serviceCIDRs: ['fd00::/108', 10.96.0.0/12]}",
        &["cluster.podCIDRs 10.0.0.0/8", "cluster.serviceCIDRs 10.96.0.0/12"],
    );
    refused("cluster: {serviceCIDRs: ['fd00::/64'], nodeCIDRs: ['fd00::/48']}", &["fd00::/64", "fd00::/48"]);
    config("cluster: {podCIDRs: [10.0.0.0/16, '::/1'], serviceCIDRs: [10.1.0.0/16]}");
}

#[test]
fn a_port_needs_what_its_kind_needs() {
    refused("ports: [{name: a, kind: vhost-user, pod: x/a}]", &["ports[0]", "vhostUser is missing"]);
    refused("ports: [{name: a, kind: dpdk, pod: x/a}]", &["ports[0]", "dpdk is missing"]);
    refused("ports: [{name: a, kind: tap, pod: x/a}]", &["ports[0]", "interface is missing"]);
    refused("ports: [{name: a, kind: tap, netns: a}]", &["ports[0]", "addresses is missing"]);
    refused("ports: [{name: a, kind: tap, netns: a, pod: a}]", &["ports[0].pod", "`a` is not a pod"]);
    refused("ports: [{name: a, kind: tap, netns: a, pod: x/a, dpdk: {devargs: x}}]", &["ports[0]", "dpdk:"]);
    refused("ports: [{name: a/b, kind: tap, netns: a, pod: x/a}]", &["ports[0].name", "a/b"]);
    refused("ports: [{name: a, kind: token-ring, netns: a}]", &["ports[0].kind", "token-ring"]);
    refused("ports: [{name: a, kind: tap, netns: ../a, pod: x/a}]", &["ports[0].netns", "../a"]);
    refused("ports: [{name: a, kind: tap, interface: sixteen-bytes-xx, pod: x/a}]", &["sixteen-bytes-xx"]);
    refused("ports: [{name: a, kind: vhost-user, pod: x/a, vhostUser: {socket: rel.sock}}]", &["rel.sock"]);
    refused(
        "ports: [{name: a, kind: tap, netns: a, addresses: [10.0.0.1, 10.0.0.1/32]}]",
        &["10.0.0.1/32 occurs"],
    );
}

#[test]
fn a_port_without_pod_that_owns_a_default_route_is_an_uplink_unless_told_otherwise() {
    let role = |fields: &str| {
        config(&format!("ports: [{{name: a, kind: tap, interface: a, {fields}}}]")).ports[0].role()
    };
    assert_eq!(role("addresses: [0.0.0.0/0]"), PortRole::Uplink);
    assert_eq!(role("addresses: [10.0.0.0/8, '::/0']"), PortRole::Uplink);
    assert_eq!(role("addresses: [0.0.0.0/0], role: host"), PortRole::Host);
    assert_eq!(role("addresses: [0.0.0.0/0], role: pod"), PortRole::Pod);
    assert_eq!(role("addresses: [0.0.0.0/0], pod: x/a"), PortRole::Pod);
    assert_eq!(role("addresses: [0.0.0.0/1]"), PortRole::Pod);
    assert_eq!(role("addresses: [10.0.0.1], role: uplink"), PortRole::Uplink);
    refused("ports: [{name: a, kind: tap, netns: a, pod: x/a, role: router}]", &["ports[0].role", "router"]);
}

#[test]
fn masquerade_ports_are_a_range_that_can_serve() {
    let ports =
        |text: &str| config(&format!("services: {{masqueradePorts: {text}}}")).services.masquerade_ports;
    assert_eq!((ports("1024-1279").first(), ports("1024-1279").last()), (1_024, 1_279));
    assert_eq!(ports("32768-65535").to_string(), "32768-65535");
    assert_eq!(ports("29744-29999").last(), 29_999);
    for (text, reason) in [
        ("1023-65535", "at least 1024"),
        ("60000-50000", "not greater than its last"),
        ("50000-50254", "at least 256 ports"),
        ("29000-30000", "30000-32767"),
        ("32767-40000", "30000-32767"),
        ("1024-65535", "30000-32767"),
        ("31000-32000", "30000-32767"),
        ("50000", "range of ports"),
        ("+50000-60000", "range of ports"),
        ("50000-65536", "range of ports"),
        ("50000 - 60000", "range of ports"),
        ("''", "range of ports"),
    ] {
        let value = text.trim_matches('\'');
        refused(
            &format!("services: {{masqueradePorts: {text}}}"),
            &["services.masqueradePorts", &format!("`{value}` is not"), reason],
        );
    }
}

#[test]
fn services_name_their_illegal_values() {
    let services =
        config("services: {nodePortAddresses: [192.0.2.0/24, '2001:db8::/64'], healthAddress: none}")
            .services;
    assert_eq!(services.node_port_addresses.len(), 2);
    assert_eq!(services.health_address.address(), None);
    assert_eq!(services.status_address.to_string(), "127.0.0.1:10249");
    let at = |text: &str| config(&format!("services: {{healthAddress: '{text}'}}")).services.health_address;
    assert_eq!(at("[::1]:80").address(), Some("[::1]:80".parse().unwrap()));
    assert_eq!(at("127.0.0.1:10256").to_string(), "127.0.0.1:10256");
    refused("services: {nodePortAddresses: [192.0.2.1/24]}", &["nodePortAddresses[0]", "192.0.2.0/24"]);
    refused("services: {nodePortAddresses: [primary]}", &["nodePortAddresses[0]", "primary"]);
    for address in ["10256", "127.0.0.1", "localhost:10256", "127.0.0.1:0", "None", "''"] {
        let value = address.trim_matches('\'');
        let text = format!("services: {{healthAddress: {address}}}");
        refused(&text, &["services.healthAddress", &format!("`{value}`")]);
    }
    refused("services: {affinityClients: 10}", &["services.affinityClients", "10 is not in 1024..="]);
    refused("services: {resetVanishedEndpoints: perhaps}", &["services.resetVanishedEndpoints", "perhaps"]);
    refused("services: {nodePortAddress: []}", &["services", "nodePortAddress"]);
}

#[test]
fn ports_must_not_contradict_each_other() {
    let two = |first: &str, second: &str| format!("ports:\n  - {{{first}}}\n  - {{{second}}}\n");
    let a = "name: a, kind: tap, netns: a, addresses: [10.0.0.1]";
    refused(&two(a, "name: a, kind: tap, netns: b, pod: x/b"), &["ports[1].name", "ports[0]"]);
    refused(
        &two(a, "name: b, kind: tap, netns: b, addresses: [10.0.0.1/32]"),
        &["ports[1]", "10.0.0.1/32", "port a"],
    );
    refused(
        &two(a, "name: b, kind: af-xdp, netns: a, pod: x/b"),
        &["ports[1]", "interface eth0 in namespace a"],
    );
    refused(
        &two(a, "name: b, kind: veth, netns: a, pod: x/b"),
        &["ports[1]", "interface eth0 in namespace a"],
    );
    refused(
        &two(a, "name: b, kind: tap, netns: b, addresses: [169.254.0.0/16]"),
        &["ports[1]", "169.254.1.1"],
    );
    config(&two(a, "name: up, kind: tap, interface: up0, addresses: [0.0.0.0/0]"));
}

#[test]
fn defaults_that_depend_on_others_are_stable() {
    let ports = config("ports: [{name: a, kind: tap, netns: a, pod: x/a}]").ports;
    assert_eq!(ports[0].peer_mac(), MacAddr::derived_from("a"));
    assert_ne!(ports[0].peer_mac(), MacAddr::derived_from("b"));
    assert!(ports[0].spoof_check);
    let here = config("api: {socket: /run/a.sock}").eal_file_prefix();
    assert_eq!(here, config("api: {socket: /run/a.sock}").eal_file_prefix());
    assert_ne!(here, Config::default().eal_file_prefix());
    assert!(Config::default().node_name().is_ok());
}

#[test]
fn containers_get_a_kind_that_can_be_made_for_them_and_addresses_that_nobody_else_has() {
    let cni = config("cni: {defaultPort: vhost-user, podCIDRs: [10.1.0.0/24]}").cni;
    assert_eq!(cni.default_port, DefaultPort::Kind(ContainerPortKind::VhostUser));
    assert_eq!(config("").cni.default_port, DefaultPort::Auto);
    let veth = config("cni: {defaultPort: veth}").cni.default_port;
    assert_eq!(veth, DefaultPort::Kind(ContainerPortKind::Veth));
    for kind in ["tap", "veth", "af-xdp", "vhost-user"] {
        assert_eq!(kind.parse::<ContainerPortKind>().unwrap().to_string(), kind);
    }
    refused("cni: {defaultPort: dpdk}", &["cni.defaultPort", "dpdk", "tap, veth, af-xdp or vhost-user"]);
    refused(
        "cni: {podCIDRs: [10.96.1.0/24]}\ncluster: {serviceCIDRs: [10.96.0.0/16]}",
        &["10.96.1.0/24", "serviceCIDRs"],
    );
    refused("cni: {vhostUserDirectory: pods}", &["cni.vhostUserDirectory", "pods"]);
    refused(&format!("cni: {{vhostUserDirectory: /{}}}", "x".repeat(76)), &["at most 76 bytes"]);
}

#[test]
fn the_host_has_a_leg_unless_told_otherwise() {
    assert_eq!(config("").host_leg, config("hostLeg: {interface: millrace0}").host_leg);
    assert_eq!(config("hostLeg: none").host_leg, HostLeg::None);
    refused("hostLeg: {interface: a/b}", &["hostLeg", "a/b"]);
    refused("hostLeg: off-hand", &["hostLeg", "off-hand"]);
}

#[test]
fn a_namespace_is_a_name_or_a_path() {
    let path = |netns: &str| netns.parse::<Netns>().unwrap().path();
    assert_eq!(path("pod-a"), Path::new("/run/netns/pod-a"));
    assert_eq!(path("/proc/1/ns/net"), Path::new("/proc/1/ns/net"));
}

#[test]
fn a_port_reads_back_as_it_was_written() {
    for port in config(&uncommented(&sample("millrace.yaml"))).ports {
        let json = serde_json::to_string(&port).unwrap();
        assert_eq!(serde_json::from_str::<PortConfig>(&json).unwrap(), port, "{json}");
    }
}

#[test]
fn a_veth_has_a_namespace_and_an_interface_in_it() {
    let with = |fields: &str| format!("ports: [{{name: lonely, kind: veth, pod: x/a{fields}}}]");
    let port = |fields: &str| config(&with(fields)).ports.remove(0);
    let veth = port(", netns: pod-a");
    let (netns, interface) = ("pod-a".parse().unwrap(), "eth0".parse().unwrap());
    assert_eq!(veth.attachment, Attachment::Veth { netns, interface });
    assert_eq!(veth.place(), "interface eth0 in namespace pod-a");
    assert_eq!(port(", netns: pod-a, interface: net1").place(), "interface net1 in namespace pod-a");
    let json = serde_json::json!({
        "name": "lonely", "kind": "veth", "netns": "pod-a", "interface": "eth0", "pod": "x/a", "addresses": [],
        "spoofCheck": true, "queues": 1,
    });
    assert_eq!(serde_json::to_value(&veth).unwrap(), json);
    assert_eq!(serde_json::from_value::<PortConfig>(json).unwrap(), veth);

    for without in ["", ", interface: eth0"] {
        refused(&with(without), &["ports[0]", "netns is missing", "port lonely"]);
    }
    refused(&with(", netns: a, afXdp: {mode: auto}"), &["ports[0]", "afXdp"]);
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_an_error_with_a_file(text in "[a-zA-Z0-9:{}\\[\\],\\-\n#&*!|> ]{0,120}") {
        if let Err(error) = parse(Path::new(FILE), &text) {
            prop_assert!(error.to_string().starts_with(FILE), "{}", error);
        }
    }

    #[test]
    fn a_mac_address_reads_back_as_it_was_written(octets: [u8; 6]) {
        if let Ok(mac) = MacAddr::try_new(octets) {
            prop_assert_eq!(mac.to_string().parse::<MacAddr>(), Ok(mac));
        }
    }

    #[test]
    fn prefixes_overlap_if_and_only_if_one_address_is_in_both(a: u32, b: u32, la in 0u8..=32, lb in 0u8..=32) {
        let prefix = |bits: u32, length: u8| {
            let net = ipnet::Ipv4Net::new(bits.into(), length).unwrap().trunc();
            net.to_string().parse::<Prefix>().unwrap()
        };
        let mask = |length: u8| u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        let shared = mask(la) & mask(lb);
        prop_assert_eq!(prefix(a, la).overlaps(prefix(b, lb)), a & shared == b & shared);
    }
}

#[test]
fn an_uplink_is_shared_with_the_host_unless_its_device_is_named() {
    let uplinks =
        config("uplinks: [{interface: eth0}, {interface: eth1, kind: dpdk, dpdk: {devargs: net_tap0}}]")
            .uplinks;
    assert_eq!(uplinks.iter().map(crate::Uplink::takes_nic).collect::<Vec<_>>(), [false, true]);
    assert!(uplinks.iter().all(|uplink| uplink.queues.is_none()), "as many as there are");
    let port = uplinks[0].port().unwrap();
    assert_eq!((port.name.as_str(), port.role(), port.spoof_check), ("eth0", PortRole::Uplink, false));
    for (wrong, named) in [
        ("{kind: dpdk, interface: eth0}", "dpdk"),
        ("{interface: eth0, dpdk: {devargs: net_tap0}}", "dpdk"),
        ("{interface: eth0, kind: tap}", "tap"),
        ("{interface: eth0, kind: veth}", "af-xdp or dpdk"),
        ("{interface: eth0, kind: dpdk, dpdk: {devargs: 'a b'}}", "a b"),
    ] {
        let message = error(&format!("uplinks: [{wrong}]"));
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn an_uplink_has_an_interface_and_a_port_of_its_own() {
    refused(
        "uplinks: [{interface: eth0}, {interface: eth1}, {interface: eth0}]",
        &["uplinks[2].interface", "eth0", "uplinks[0]"],
    );
    refused(
        "uplinks: [{interface: eth0}]\nports: [{name: eth0, kind: tap, netns: a, pod: x/a}]",
        &["ports[0]", "eth0 belongs to uplinks[0]"],
    );
    refused(
        "uplinks: [{interface: eth0}]\nports: [{name: a, kind: af-xdp, interface: eth0, pod: x/a}]",
        &["ports[0]", "eth0", "uplinks[0]"],
    );
    refused(
        "hostLeg: none\nuplinks: [{interface: eth1, kind: dpdk, dpdk: {devargs: net_tap0}}]",
        &["uplinks[0]", "eth1", "hostLeg"],
    );
    config("hostLeg: none\nuplinks: [{interface: eth0}]");
}

#[test]
fn the_port_of_tunnels_means_nothing_else() {
    refused("routing: {vxlan: {port: 0}}", &["routing.vxlan.port", "0 is not in 1..=65535"]);
    refused("routing: {vxlan: {vni: 16777216}}", &["routing.vxlan.vni", "16777216 is not in"]);
    refused("routing: {vxlan: {port: 50000}}", &["50000", "services.masqueradePorts 49152-65535"]);
    refused("routing: {vxlan: {port: 30001}}", &["30001", "NodePorts, 30000-32767"]);
    config("routing: {vxlan: {port: 50000}}\nservices: {masqueradePorts: 40000-49999}");
    refused("routing: {mode: ipip}", &["routing.mode", "ipip"]);
    refused("routing: {vxlan: {checksum: maybe}}", &["routing.vxlan.checksum", "maybe"]);
}

#[test]
fn a_configured_route_has_routers_of_its_family_each_once() {
    let route = |fields: &str| format!("routing: {{routes: [{{{fields}}}]}}");
    refused(&route("to: 10.8.0.0/16, via: []"), &["routes[0]", "10.8.0.0/16", "at least one router"]);
    refused(&route("to: 10.8.0.0/16"), &["routes[0]", "via"]);
    refused(&route("to: 10.8.0.0/16, via: ['fe80::1']"), &["routes[0]", "fe80::1", "family"]);
    refused(&route("to: 10.8.0.1/16, via: [192.0.2.1]"), &["routes[0].to", "10.8.0.0/16"]);
    refused(&route("to: 10.8.0.0/16, via: [192.0.2.1, 192.0.2.1]"), &["routes[0]", "192.0.2.1 occurs twice"]);
    refused(&route("to: 10.8.0.0/16, via: [224.0.0.5]"), &["routes[0]", "224.0.0.5"]);
    refused(
        &route("to: 10.8.0.0/16, via: [192.0.2.1]}, {to: 10.8.0.0/16, via: [192.0.2.2]"),
        &["routes[1].to", "10.8.0.0/16", "routes[0]"],
    );
    assert_eq!(config(&route("to: '::/0', via: ['fe80::1', 'fe80::2']")).routing.routes[0].via.len(), 2);
}
