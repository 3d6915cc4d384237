//! Real traffic between the plugin's pods of every pair of kinds, and a look at every frame meanwhile.
//!
//! ```text
//!   TAP ──┐         ┌─ AF_XDP
//!   veth ─┼─ daemon ┼─ AF_XDP     in each pod: iperf3, an echo server, a judge on eth0
//!         └─────────┴─ vhost-user
//! ```
//! TAPs, veths and guests see whole GSO frames and open checksums; the veth of AF_XDP and vhost-user without offloads see packets of
//! one MTU with every checksum made.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Attached, Card, Child, Conversation, Echo, Family, Guest, Judge, Kind, Network, Pod, Verdict, datagram,
    eventually, serve_files,
};
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::Duration;

const ECHO: u16 = 7007;
const BULK: &str = "5201";
/// A frame of the MTU.
const ONE_MTU: u64 = 1_514;

fn is_whole(kind: Kind) -> bool {
    matches!(kind, Kind::Tap | Kind::Veth)
}

/// Pods of these kinds.
fn pods(network: &Network, kinds: &[Kind]) -> Vec<Attached> {
    let named = kinds.iter().enumerate();
    named.map(|(at, kind)| Attached::add(network.daemon(), &format!("{}{at}", kind.name()), *kind)).collect()
}

fn for_each_pair<'a>(attached: &'a [Attached], mut check: impl FnMut(&'a Pod, &'a Pod, Family)) {
    for (at, one) in attached.iter().enumerate() {
        for other in &attached[at + 1..] {
            for family in Family::BOTH {
                check(&one.pod, &other.pod, family);
            }
        }
    }
}

/// Four connections, first one way, then the other; bytes that arrived in each.
fn bulk(from: &Pod, to: &Pod, family: Family) -> [u64; 2] {
    [false, true].map(|reverse| {
        let mut server = Command::new("ip");
        server
            .args(["netns", "exec", to.netns().name(), "iperf3", "-s", "-1", "-p", BULK])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let _server = Child::spawn(&mut server);
        let target = to.address(family).to_string();
        let mut client = vec!["iperf3", "-J", "-c", &target, "-p", BULK, "-P", "4", "-t", "1"];
        if reverse {
            client.push("-R");
        }
        let mut received = None;
        // The server takes its time to listen.
        eventually("iperf3 has its say", Duration::from_secs(20), || {
            let said = serde_json::from_str::<Value>(&from.netns().run(&client).stdout).unwrap_or_default();
            received = said["end"]["sum_received"]["bytes"].as_u64();
            received.is_some()
        });
        received.unwrap()
    })
}

fn nothing_is_wrong(judged: &mut [(&Pod, Judge)]) -> Vec<Verdict> {
    let verdicts = judged.iter_mut().map(|(pod, judge)| {
        let verdict = judge.verdict();
        assert_eq!(verdict.wrong, Vec::<String>::new(), "{}", pod.name);
        assert!(verdict.checked > 0, "{}: {verdict:?}", pod.name);
        if !is_whole(pod.kind) {
            assert_eq!((verdict.partial, verdict.gso), ([0; 2], [0; 2]), "{}: {verdict:?}", pod.name);
            assert!(verdict.largest.iter().all(|&bytes| bytes <= ONE_MTU), "{}: {verdict:?}", pod.name);
        }
        verdict
    });
    verdicts.collect()
}

fn judges(attached: &[Attached]) -> Vec<(&Pod, Judge)> {
    attached.iter().map(|one| (&one.pod, Judge::watch(&one.pod))).collect()
}

#[test]
fn bulk_in_both_directions_arrives_between_all_kinds_with_every_checksum_right() {
    let network = Network::for_plugin(|_| ());
    let attached = pods(&network, &[Kind::Tap, Kind::Veth, Kind::AfXdp, Kind::AfXdp, Kind::Vhost]);
    let mut judged = judges(&attached);
    for_each_pair(&attached, |from, to, family| {
        for bytes in bulk(from, to, family) {
            assert!(bytes > 1 << 20, "{} ↔ {} {family:?}: {bytes} bytes", from.name, to.name);
        }
    });
    nothing_is_wrong(&mut judged);
    drop(judged);
    attached.into_iter().for_each(Attached::delete);
    network.stop();
}

#[test]
fn large_frames_stay_whole_from_tap_to_tap() {
    let network = Network::for_plugin(|_| ());
    let attached = pods(&network, &[Kind::Tap, Kind::Tap]);
    let mut judged = judges(&attached);
    for family in Family::BOTH {
        bulk(&attached[0].pod, &attached[1].pod, family);
        for verdict in nothing_is_wrong(&mut judged) {
            for way in [0, 1] {
                assert!(verdict.gso[way] > 0 && verdict.partial[way] > 0, "{family:?} {verdict:?}");
                assert!(verdict.largest[way] > 40_000, "{family:?} {verdict:?}");
            }
        }
    }
    drop(judged);
    attached.into_iter().for_each(Attached::delete);
    network.stop();
}

#[test]
fn requests_and_datagrams_of_all_sizes_are_answered_between_all_kinds_with_every_checksum_right() {
    let network = Network::for_plugin(|_| ());
    let attached = pods(&network, &[Kind::Tap, Kind::Veth, Kind::AfXdp, Kind::AfXdp, Kind::Vhost]);
    let _servers: Vec<Echo> = attached.iter().map(|one| Echo::start(&one.pod, ECHO)).collect();
    let mut judged = judges(&attached);
    for_each_pair(&attached, |one, other, family| {
        for (from, to) in [(one, other), (other, one)] {
            let at = || format!("{} → {} {family:?}", from.name, to.name);
            let mut talk = Conversation::open(from, to.at(family, ECHO)).unwrap();
            for number in 0..50 {
                talk.say(&"x".repeat(1 + number * 25)).unwrap_or_else(|error| panic!("{}: {error}", at()));
            }
            for length in [0, 1, 18, 64, 512, 1_400, 1_452, 1_473, 9_000, 60_000] {
                datagram(from, to.at(family, ECHO), length)
                    .unwrap_or_else(|error| panic!("{}, {length} bytes: {error}", at()));
            }
        }
    });
    nothing_is_wrong(&mut judged);
    drop(judged);
    attached.into_iter().for_each(Attached::delete);
    network.stop();
}

#[test]
fn large_frames_stay_whole_between_a_guest_and_a_tap() {
    const BIG: u64 = 8 << 20;
    let network = Network::for_plugin(|_| ());
    let near = Attached::add(network.daemon(), "near", Kind::Tap);
    let vm = Attached::add_idle(network.daemon(), "vm", Kind::Vhost, |call| call);
    let [ipv4, ipv6] = vm.pod.addresses();
    let card = Card { packed: false, offloads: true };
    let mut guest = Guest::boot(&vm.socket(), vm.pod.mac(), ipv4, ipv6, card);
    guest.must("httpd -p 80 -h /www; dd if=/dev/zero of=/www/big bs=1M count=8 2>/dev/null");
    let content = tempfile::tempdir().unwrap();
    std::fs::write(content.path().join("big"), vec![7; BIG as usize]).unwrap();
    let _server = serve_files(near.pod.netns(), content.path(), 8000);
    let mut judged = [(&near.pod, Judge::watch(&near.pod))];
    for (family, host) in [(Family::V4, ipv4.to_string()), (Family::V6, format!("[{ipv6}]"))] {
        let fetch = format!("curl -sf -m60 http://{host}/big | wc -c");
        assert_eq!(near.pod.netns().must(&["sh", "-c", &fetch]).trim(), BIG.to_string());
        let verdict = &nothing_is_wrong(&mut judged)[0];
        assert!(verdict.gso[0] > 0 && verdict.largest[0] > 20_000, "from the guest, {family:?}: {verdict:?}");
        let count = "cat /sys/class/net/eth0/statistics/rx_packets";
        let before: u64 = guest.must(count).trim().parse().unwrap();
        let got = guest.must(&format!(
            "printf 'GET /big HTTP/1.0\\r\\n\\r\\n' | nc -w 60 {} 8000 | tail -c {BIG} | wc -c",
            near.pod.address(family)
        ));
        assert_eq!(got.trim(), BIG.to_string());
        let packets = guest.must(count).trim().parse::<u64>().unwrap() - before;
        let verdict = &nothing_is_wrong(&mut judged)[0];
        assert!(verdict.gso[1] > 0 && verdict.largest[1] > 20_000, "to the guest, {family:?}: {verdict:?}");
        assert!(packets < BIG / (2 * ONE_MTU), "the guest has received {packets} packets, {family:?}");
    }
    drop(judged);
    drop(guest);
    vm.delete();
    near.delete();
    network.stop();
}
