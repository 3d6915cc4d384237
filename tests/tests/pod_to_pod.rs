//! Pods reach each other over every pair of port kinds, without NAT.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Echo, Family, Kind, Network, Pod, ask_sctp, datagram, eventually, exchange, ping_sizes, serve_sctp,
};
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

const PORT: u16 = 7007;

/// Calls `check` for each ordered pair of pods and each family.
fn for_each_pair(network: &Network, mut check: impl FnMut(&Pod, &Pod, Family)) {
    for from in network.pods() {
        for to in network.pods().iter().filter(|to| to.name != from.name) {
            for family in Family::BOTH {
                check(from, to, family);
            }
        }
    }
}

/// Two pods of each kind, so that a kind meets itself as well. Of vhost-user two carriers are all that two cores bear.
fn all_kinds() -> Network {
    Network::start(&[
        Kind::AfXdp,
        Kind::AfXdp,
        Kind::Tap,
        Kind::Tap,
        Kind::Veth,
        Kind::Veth,
        Kind::Vhost,
        Kind::Vhost,
    ])
}

#[test]
fn pings_of_every_size_return_over_every_pair_of_port_kinds() {
    let network = all_kinds();
    for_each_pair(&network, |from, to, family| ping_sizes(from, to.address(family)));
    network.stop();
}

#[test]
fn tcp_streams_arrive_byte_by_byte_over_every_pair_of_port_kinds() {
    let network = all_kinds();
    let _servers: Vec<Echo> = network.pods().iter().map(|pod| Echo::start(pod, PORT)).collect();
    for_each_pair(&network, |from, to, family| {
        for length in [0, 1, 1448, 65_536, 2 << 20] {
            let name = exchange(from, to.at(family, PORT), length).unwrap_or_else(|error| {
                panic!("{} → {} {family:?}, {length} bytes: {error}", from.name, to.name)
            });
            assert_eq!(name, to.name);
        }
    });
    network.stop();
}

#[test]
fn datagrams_of_every_size_up_to_the_mtu_arrive_over_every_pair_of_port_kinds() {
    let network = all_kinds();
    let _servers: Vec<Echo> = network.pods().iter().map(|pod| Echo::start(pod, PORT)).collect();
    for_each_pair(&network, |from, to, family| {
        for length in [0, 1, 17, 18, 19, 63, 64, 65, 512, 1024, 1451, 1452] {
            datagram(from, to.at(family, PORT), length).unwrap_or_else(|error| {
                panic!("{} → {} {family:?}, {length} bytes: {error}", from.name, to.name)
            });
        }
    });
    network.stop();
}

#[test]
fn datagrams_larger_than_the_mtu_arrive_in_fragments() {
    let network = Network::start(&[Kind::AfXdp, Kind::Tap, Kind::Vhost]);
    let _servers: Vec<Echo> = network.pods().iter().map(|pod| Echo::start(pod, PORT)).collect();
    for_each_pair(&network, |from, to, family| {
        for length in [1473, 2960, 9000, 32_000] {
            datagram(from, to.at(family, PORT), length).unwrap_or_else(|error| {
                panic!("{} → {} {family:?}, {length} bytes: {error}", from.name, to.name)
            });
        }
    });
    network.stop();
}

#[test]
fn sctp_packets_arrive_with_their_crc_over_every_pair_of_port_kinds() {
    let network = Network::start(&[Kind::AfXdp, Kind::Tap, Kind::Vhost]);
    let _servers: Vec<_> = network.pods().iter().map(|pod| serve_sctp(pod, PORT)).collect();
    for_each_pair(&network, |from, to, family| {
        eventually(
            &format!("SCTP {} → {} {family:?}", from.name, to.name),
            Duration::from_secs(10),
            || ask_sctp(from, to.address(family), PORT).as_deref() == Some(&to.name),
        );
    });
    network.stop();
}

#[test]
fn large_frames_of_a_tap_reach_every_kind_whole_or_cut() {
    // TAPs send super-frames of up to 64 KiB; 16 MiB make sure that there are some.
    let network = Network::start(&[Kind::Tap, Kind::Tap, Kind::AfXdp, Kind::Vhost]);
    let _servers: Vec<Echo> = network.pods().iter().map(|pod| Echo::start(pod, PORT)).collect();
    let from = network.pod(0);
    for to in &network.pods()[1..] {
        for family in Family::BOTH {
            exchange(from, to.at(family, PORT), 16 << 20)
                .unwrap_or_else(|error| panic!("{} → {} {family:?}: {error}", from.name, to.name));
        }
    }
    network.stop();
}

#[test]
fn the_receiver_sees_the_senders_own_address() {
    let network = Network::start(&[Kind::AfXdp, Kind::Tap]);
    for family in Family::BOTH {
        let to = network.pod(1).at(family, PORT);
        let listener = network.pod(1).netns().within(move || std::net::TcpListener::bind(to).unwrap());
        let client = network.pod(0).netns().within(move || std::net::TcpStream::connect(to).unwrap());
        let (_stream, seen) = listener.accept().unwrap();
        assert_eq!(seen, client.local_addr().unwrap());
        assert_eq!(seen.ip(), network.pod(0).address(family));
    }
    network.stop();
}

#[test]
fn ports_of_all_kinds_count_each_frame_once() {
    let network = Network::start(&Kind::ALL);
    let _servers: Vec<_> = network.pods().iter().map(|pod| Echo::start(pod, PORT)).collect();
    for from in network.pods() {
        let to = network.pods().iter().find(|to| to.name != from.name).unwrap().at(Family::V4, PORT);
        // From now on neighbours know each other.
        datagram(from, to, 100).unwrap();
        let counts = || network.daemon().port(&from.name).counts;
        let before = counts();
        (0..100).for_each(|_| drop(datagram(from, to, 100).unwrap()));
        let now = counts();
        for (frames, bytes) in [
            (now.rx_frames - before.rx_frames, now.rx_bytes - before.rx_bytes),
            (now.tx_frames - before.tx_frames, now.tx_bytes - before.tx_bytes),
        ] {
            assert!((100..120).contains(&frames), "{:?}: {frames} frames", from.kind);
            assert!((14_200..17_000).contains(&bytes), "{:?}: {bytes} bytes", from.kind);
        }
    }
    network.stop();
}

#[test]
fn bursts_of_many_flows_arrive_at_every_kind_and_are_counted() {
    const FLOWS: usize = 64;
    const ROUNDS: u64 = 20;
    let network = Network::start(&Kind::ALL);
    for to in network.pods() {
        let from =
            network.pods().iter().find(|from| from.name != to.name && from.kind != Kind::Vhost).unwrap();
        for family in Family::BOTH {
            let at = to.at(family, PORT);
            let receiver = to.netns().within(move || UdpSocket::bind(at).unwrap());
            receiver.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let own = from.at(family, 0);
            let senders: Vec<_> =
                (0..FLOWS).map(|_| from.netns().within(move || UdpSocket::bind(own).unwrap())).collect();
            // From now on neighbours know each other.
            senders[0].send_to(b"first", at).unwrap();
            let mut word = [0; 100];
            assert_eq!(receiver.recv(&mut word).unwrap(), 5);
            let counts = || network.daemon().port(&to.name).counts.tx_frames;
            let before = counts();
            for round in 0..ROUNDS {
                let said = |flow: usize| (round * FLOWS as u64 + flow as u64).to_be_bytes();
                for (flow, sender) in senders.iter().enumerate() {
                    sender.send_to(&said(flow), at).unwrap();
                }
                let heard: BTreeSet<[u8; 8]> = (0..FLOWS)
                    .map(|_| {
                        assert_eq!(receiver.recv(&mut word).unwrap(), 8, "{:?} {family:?}", to.kind);
                        word[..8].try_into().unwrap()
                    })
                    .collect();
                assert_eq!(heard, (0..FLOWS).map(said).collect(), "{:?} {family:?}", to.kind);
            }
            let sent = counts() - before;
            let wanted = ROUNDS * FLOWS as u64;
            assert!((wanted..wanted + 20).contains(&sent), "{:?} {family:?}: {sent} of {wanted}", to.kind);
        }
        if matches!(to.kind, Kind::AfXdp) {
            let details = network.daemon().port(&to.name).details;
            assert_eq!(details.get("batches").map(String::as_str), Some("yes"), "{details:?}");
        }
    }
    network.stop();
}
