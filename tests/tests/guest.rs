//! A virtual machine's kernel driver as the peer of a vhost-user port.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Card, Echo, Family, Guest, Kind, Network, ServiceSpec, eventually, expose, ping, ping_sizes, serve_files,
};
use serde_json::json;
use std::net::IpAddr;
use std::time::Duration;

const MAC: &str = "02:4d:00:00:00:64";

fn addresses() -> (IpAddr, IpAddr) {
    ("10.77.0.100".parse().unwrap(), "fd00:77::64".parse().unwrap())
}

fn with_guest(card: Card, check: impl FnOnce(&Network, &mut Guest)) {
    let network = Network::with_world(&[Kind::AfXdp, Kind::Tap], Kind::AfXdp);
    let socket = network.daemon().room().join("guest.vhost");
    let (ipv4, ipv6) = addresses();
    network.daemon().add_port(&json!({"name": "guest", "kind": "vhost-user", "mac": MAC,
        "addresses": [ipv4, ipv6], "vhostUser": {"socket": socket}}));
    let mut guest = Guest::boot(&socket, MAC, ipv4, ipv6, card);
    eventually("the guest answers", Duration::from_secs(10), || ping(network.pod(0), &ipv4.to_string(), 56));
    check(&network, &mut guest);
    drop(guest);
    network.daemon().remove_port("guest");
    network.stop();
}

/// Bytes of the file that is fetched.
const BIG: u32 = 8 << 20;

/// Both families, both directions, by HTTP; what arrives is compared by its SHA-256.
fn transfers_are_whole(network: &Network, guest: &mut Guest) {
    let (ipv4, ipv6) = addresses();
    for pod in network.pods() {
        ping_sizes(pod, ipv4);
        ping_sizes(pod, ipv6);
    }
    guest.must("httpd -p 80 -h /www; dd if=/dev/urandom of=/www/big bs=1M count=8 2>/dev/null");
    let wanted = guest.must("sha256sum < /www/big");
    for pod in network.pods() {
        for host in [ipv4.to_string(), format!("[{ipv6}]")] {
            let fetch = format!("curl -sf -m60 http://{host}/big | sha256sum");
            assert_eq!(
                pod.netns().must(&["sh", "-c", &fetch]).trim(),
                wanted.trim(),
                "{} from {host}",
                pod.name
            );
        }
    }
    let content = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..BIG).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    std::fs::write(content.path().join("big"), bytes).unwrap();
    let wanted =
        network.pod(0).netns().must(&["sh", "-c", &format!("sha256sum < {}/big", content.path().display())]);
    for pod in network.pods() {
        let _server = serve_files(pod.netns(), content.path(), 8000);
        for family in Family::BOTH {
            let host = pod.address(family);
            // A static busybox's wget fails in the C library's name service; nc takes addresses as they are.
            let got = guest.must(&format!(
                "printf 'GET /big HTTP/1.0\\r\\n\\r\\n' | nc -w 60 {host} 8000 | tail -c {BIG} | sha256sum"
            ));
            assert_eq!(got.trim(), wanted.trim(), "guest from {host}");
        }
    }
}

#[test]
fn a_guest_with_offloads_exchanges_whole_files_with_every_kind_of_pod() {
    with_guest(Card { packed: false, offloads: true }, transfers_are_whole);
}

#[test]
fn a_guest_without_offloads_exchanges_whole_files_with_every_kind_of_pod() {
    with_guest(Card { packed: false, offloads: false }, transfers_are_whole);
}

#[test]
fn a_guest_with_packed_rings_exchanges_whole_files_with_every_kind_of_pod() {
    with_guest(Card { packed: true, offloads: true }, transfers_are_whole);
}

#[test]
fn a_guest_is_client_and_backend_of_a_service() {
    with_guest(Card { packed: false, offloads: true }, |network, guest| {
        let spec = ServiceSpec::numbered("web", 10, 80, 8080);
        let (ipv4, ipv6) = addresses();
        network.apply(|manifests| {
            manifests.service_with(&spec, |service| expose(service, "NodePort", 30_080));
            manifests.endpoints(&spec, Network::node_name(), &[ipv4, ipv6]);
        });
        guest.must("httpd -p 8080 -h /www");
        let page = guest.must("cat /www/index.html");
        for host in ["10.96.0.10", "[fd00:96::a]"] {
            eventually("the guest's page through the service", Duration::from_secs(10), || {
                let output = network.pod(0).netns().run(&["curl", "-sf", "-m2", &format!("http://{host}/")]);
                output.success && output.stdout.trim() == page.trim()
            });
        }
        let node = Family::BOTH.map(Network::node_address);
        for [url, host, port] in [
            [format!("http://{}:30080/", node[0]), node[0].to_string(), "30080".to_owned()],
            [format!("http://[{}]:30080/", node[1]), node[1].to_string(), "30080".to_owned()],
            ["http://10.96.0.10/".to_owned(), "10.96.0.10".to_owned(), "80".to_owned()],
            ["http://[fd00:96::a]/".to_owned(), "fd00:96::a".to_owned(), "80".to_owned()],
        ] {
            let fetched = network.world().netns().must(&["curl", "-sfg", "-m5", &url]);
            assert_eq!(fetched.trim(), page.trim(), "the world from the guest by {url}");
            // Through the service to itself.
            let request = "printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n'";
            let fetched = guest.must(&format!("{request} | nc -w 5 {host} {port} | tail -n 1"));
            assert_eq!(Some(fetched.trim()), page.trim().lines().last(), "the guest from itself by {url}");
        }
        let _server = Echo::start(network.pod(1), 8080);
        network.set_endpoints(&spec, &[1]);
        for (host, port) in
            [("10.96.0.10", 80), ("fd00:96::a", 80), ("192.0.2.1", 30_080), ("2001:db8::1", 30_080)]
        {
            let said = guest.must(&format!("echo hello | nc -w 3 {host} {port} | head -n 1"));
            let own = if host.contains(':') { format!("b [{ipv6}]:") } else { format!("b {ipv4}:") };
            assert!(said.starts_with(&own), "{host}: {said}");
        }
    });
}

#[test]
fn a_guest_that_loses_power_can_be_booted_again() {
    let network = Network::start(&[Kind::Tap]);
    let socket = network.daemon().room().join("guest.vhost");
    let (ipv4, ipv6) = addresses();
    network.daemon().add_port(&json!({"name": "guest", "kind": "vhost-user", "mac": MAC,
        "addresses": [ipv4, ipv6], "vhostUser": {"socket": socket}}));
    for card in [Card { packed: false, offloads: true }, Card { packed: true, offloads: false }] {
        let guest = Guest::boot(&socket, MAC, ipv4, ipv6, card);
        eventually("the guest answers", Duration::from_secs(10), || {
            ping(network.pod(0), &ipv4.to_string(), 56)
        });
        guest.kill();
    }
    network.daemon().remove_port("guest");
    network.stop();
}
