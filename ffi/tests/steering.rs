//! The XDP program of an uplink beside a slow reference. Needs root. Nothing is sent: the kernel runs the program on
//! copies.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "steering/packet.rs"]
mod packet;
mod pods;
#[path = "steering/rules.rs"]
mod rules;

use ipnet::IpNet;
use millrace_fastpath::port::{Claim, ClaimChanges, PortCounters};
use millrace_ffi::device::Opened;
use millrace_ffi::tap::TapPools;
use millrace_ffi::xdp::{self, Arena, ArenaConfig, ClaimError, Steering, Take, XdpConfig, XdpError, XdpMode};
use packet::{Body, Fragment, Packet, TCP, UDP, address, port, protocol};
use pods::{Namespace, alone, eal, unique, veth};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rules::Rules;
use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// An open uplink, and all that has to live as long.
struct Uplink {
    steering: Arc<Steering>,
    opened: Opened,
    _namespaces: [Namespace; 2],
}

fn uplink(take: Take) -> Uplink {
    uplink_in(take, XdpMode::Native)
}

fn uplink_in(take: Take, mode: XdpMode) -> Uplink {
    let (node, peer) = (Namespace::new("node"), Namespace::new("peer"));
    veth(&node, "nic", &peer, "10.78.0.1/24");
    let config = ArenaConfig { name: unique("arena"), chunks: 256, huge_pages: false };
    let arena = Arena::try_new(eal(), &config).unwrap();
    let large = TapPools::try_new(eal(), &unique("large"), arena.pool().clone(), 16).unwrap();
    let config = XdpConfig { take, mode, large: Some(large), ..XdpConfig::pod("nic") };
    let counters = Arc::new(PortCounters::default());
    let (opened, steering) = node.within(|| xdp::open_steered(&config, &arena, &counters).unwrap());
    Uplink { steering, opened, _namespaces: [node, peer] }
}

fn claim() -> impl Strategy<Value = Claim> {
    any::<bool>().prop_flat_map(|is_v6| {
        let lengths = if is_v6 { vec![0, 16, 64, 127, 128] } else { vec![0, 8, 24, 31, 32] };
        let net = (address(is_v6), prop::sample::select(lengths))
            .prop_map(|(address, length)| IpNet::new(address, length).unwrap().trunc());
        prop_oneof![
            2 => net.clone().prop_filter("not all", |net| net.prefix_len() > 16).prop_map(Claim::Destination),
            1 => net.clone().prop_map(Claim::Returned),
            1 => net.prop_map(Claim::Source),
            1 => address(is_v6).prop_map(Claim::Host),
            3 => (address(is_v6), protocol(), port())
                .prop_map(|(address, protocol, port)| Claim::Frontend { address, protocol, port }),
            2 => (address(is_v6), prop::sample::select(vec![(49_152, 65_535), (30_000, 30_000), (443, 49_151)]))
                .prop_map(|(address, (first, last))| Claim::SourcePorts { address, first, last }),
            1 => (address(is_v6), port()).prop_map(|(address, port)| Claim::Tunnel { address, port }),
        ]
    })
}

/// Makes claims, without those that contradict an earlier one.
fn make(steering: &Steering, claims: Vec<Claim>) -> Vec<Claim> {
    claims
        .into_iter()
        .filter(|claim| match steering.claim(claim) {
            Ok(()) => true,
            Err(XdpError::Claim { reason: ClaimError::Contradicts(_), .. }) => false,
            Err(error) => panic!("{error}"),
        })
        .collect()
}

#[test]
fn the_program_takes_what_the_reference_takes() {
    takes_what_the_reference_takes(XdpMode::Native);
}

#[test]
fn the_program_of_traffic_control_takes_what_the_reference_takes() {
    takes_what_the_reference_takes(XdpMode::Tc);
}

fn takes_what_the_reference_takes(mode: XdpMode) {
    let _alone = alone();
    let uplink = uplink_in(Take::ByMaps, mode);
    let rules = RefCell::new(Rules::default());
    let taken = RefCell::new([0_u32; 2]);
    let cases = (prop::collection::vec(claim(), 0..8), prop::collection::vec(packet::packet(), 1..60));
    TestRunner::new(Config { cases: 2_000, failure_persistence: None, ..Config::default() })
        .run(&cases, |(claims, packets)| {
            let mut rules = rules.borrow_mut();
            let claims = make(&uplink.steering, claims);
            rules.claims.clone_from(&claims);
            let verdicts: Vec<_> = packets
                .iter()
                .map(|packet| (uplink.steering.takes(&packet.frame()).unwrap(), rules.takes(packet), packet))
                .collect();
            claims.iter().for_each(|claim| uplink.steering.release(claim).unwrap());
            for (program, reference, packet) in verdicts {
                taken.borrow_mut()[usize::from(reference)] += 1;
                prop_assert_eq!(program, reference, "{:?}", packet);
            }
            Ok(())
        })
        .unwrap();
    let [left, taken] = *taken.borrow();
    println!("{taken} packets taken, {left} left");
    assert!(taken > 2_000 && left > 2_000);
}

#[test]
fn a_map_that_is_full_leaves_out_what_it_has_no_room_for_until_there_is_room() {
    let _alone = alone();
    let Uplink { steering, opened, .. } = &uplink(Take::ByMaps);
    let host = |number: u16| Claim::Host(Ipv4Addr::new(10, 9, (number >> 8) as u8, number as u8).into());
    let steer = |released: Vec<Claim>, claimed: Vec<Claim>| {
        opened.device.steer(&ClaimChanges { released, claimed }).unwrap();
    };
    steer(Vec::new(), (0..4_096).map(host).collect());
    assert_eq!(opened.device.unclaimed(), None);
    let range = Claim::Destination("10.1.0.0/24".parse().unwrap());
    steer(Vec::new(), vec![host(5_000), range, host(5_001)]);
    assert!(steering.takes(&tcp_to("10.1.0.7", 80).frame()).unwrap(), "another map has room");
    let told = opened.device.unclaimed().unwrap();
    assert!(told.contains("4096 entries") && told.contains("2 in all"), "{told}");
    steer(vec![host(1), host(2), host(3)], Vec::new());
    assert_eq!(opened.device.unclaimed(), None);
    steer(Vec::new(), vec![host(6_000)]);
    assert_eq!(opened.device.unclaimed(), None);
    steer(Vec::new(), vec![host(6_001)]);
    assert!(opened.device.unclaimed().is_some());
}

#[test]
fn a_frame_that_ends_early_is_no_trouble() {
    ends_early(XdpMode::Native, 14);
    // The kernel tries that program on no less than an IP header.
    ends_early(XdpMode::Tc, 14 + 40);
}

fn ends_early(mode: XdpMode, shortest: usize) {
    let _alone = alone();
    let uplink = uplink_in(Take::ByMaps, mode);
    make(
        &uplink.steering,
        vec![Claim::SourcePorts { address: "10.0.0.1".parse().unwrap(), first: 1, last: 9 }],
    );
    TestRunner::new(Config { cases: 50, failure_persistence: None, ..Config::default() })
        .run(&packet::packet(), |packet| {
            let frame = packet.frame();
            for end in shortest..frame.len() {
                prop_assert!(uplink.steering.takes(&frame[..end]).is_ok());
            }
            Ok(())
        })
        .unwrap();
}

fn tcp_to(destination: &str, port: u16) -> Packet {
    let source = if destination.contains(':') { "fd00::9" } else { "192.0.2.9" };
    Packet {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        extensions: 0,
        fragment: None,
        body: Body::Ports { protocol: TCP, source: 9, destination: port },
    }
}

#[test]
fn claims_are_idempotent_and_share_what_they_name() {
    let _alone = alone();
    let Uplink { steering, .. } = &uplink(Take::ByMaps);
    let address = "192.0.2.1".parse().unwrap();
    let frontend = Claim::Frontend { address, protocol: UDP, port: 4789 };
    let tunnel = Claim::Tunnel { address, port: 4789 };
    let packet = Packet {
        body: Body::Ports { protocol: UDP, source: 9, destination: 4789 },
        ..tcp_to("192.0.2.1", 0)
    };
    for claim in [frontend, frontend, tunnel, tunnel] {
        steering.claim(&claim).unwrap();
    }
    assert!(steering.takes(&packet.frame()).unwrap());
    steering.release(&frontend).unwrap();
    steering.release(&frontend).unwrap();
    assert!(steering.takes(&packet.frame()).unwrap());
    steering.release(&tunnel).unwrap();
    assert!(!steering.takes(&packet.frame()).unwrap());
}

#[test]
fn what_cannot_be_claimed_is_named() {
    let _alone = alone();
    let Uplink { steering, .. } = &uplink(Take::ByMaps);
    let address = "192.0.2.1".parse().unwrap();
    steering.claim(&Claim::Destination("10.1.0.0/16".parse().unwrap())).unwrap();
    let error = steering.claim(&Claim::Returned("10.1.2.3/16".parse().unwrap())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "af-xdp nic: claim on returned 10.1.2.3/16: it contradicts the claim on destination 10.1.0.0/16"
    );
    steering.claim(&Claim::SourcePorts { address, first: 100, last: 200 }).unwrap();
    let error = steering.claim(&Claim::SourcePorts { address, first: 300, last: 400 }).unwrap_err();
    assert!(error.to_string().ends_with("it contradicts the claim on source ports 100-200 of 192.0.2.1"));
    let address = "192.0.2.2".parse().unwrap();
    let error = steering.claim(&Claim::SourcePorts { address, first: 2, last: 1 }).unwrap_err();
    assert!(error.to_string().ends_with("its first port is above its last"));
}

#[test]
fn a_map_that_is_full_says_how_much_it_holds() {
    let _alone = alone();
    let Uplink { steering, .. } = &uplink(Take::ByMaps);
    let host = |number: u32| Claim::Host(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into());
    (0..4_096).for_each(|number| steering.claim(&host(number)).unwrap());
    let error = steering.claim(&host(4_096)).unwrap_err();
    assert_eq!(error.to_string(), "af-xdp nic: claim on host 10.0.16.0: its map is full: 4096 entries");
    steering.release(&host(0)).unwrap();
    steering.claim(&host(4_096)).unwrap();
}

#[test]
fn a_port_that_takes_everything_has_nothing_to_claim() {
    let _alone = alone();
    let Uplink { steering, .. } = &uplink(Take::Everything);
    let error = steering.claim(&Claim::Host("192.0.2.1".parse().unwrap())).unwrap_err();
    assert_eq!(error.to_string(), "af-xdp nic: claim on host 192.0.2.1: the port takes everything");
}

#[test]
fn all_of_ipv6_is_none_of_ipv4() {
    let _alone = alone();
    let Uplink { steering, .. } = &uplink(Take::ByMaps);
    steering.claim(&Claim::Destination("::/0".parse().unwrap())).unwrap();
    assert!(steering.takes(&tcp_to("fd00::1", 80).frame()).unwrap());
    assert!(!steering.takes(&tcp_to("192.0.2.1", 80).frame()).unwrap());
}

#[test]
fn fragments_follow_their_first_until_its_number_is_used_again() {
    let _alone = alone();
    let Uplink { steering, .. } = &uplink(Take::ByMaps);
    for to in ["192.0.2.1", "fd00::1"] {
        let address = to.parse().unwrap();
        steering.claim(&Claim::Frontend { address, protocol: TCP, port: 80 }).unwrap();
        let part = |port, offset| Packet {
            fragment: Some(Fragment { id: 7, offset, more: true, has_options: true }),
            ..tcp_to(to, port)
        };
        let takes = |packet: Packet| steering.takes(&packet.frame()).unwrap();
        assert!(!takes(part(80, 1)));
        assert!(takes(part(80, 0)));
        assert!(takes(part(80, 1)));
        assert!(!takes(part(22, 0)));
        assert!(!takes(part(80, 1)));
    }
}

#[test]
fn a_frame_with_a_vlan_tag_stays_with_the_kernel() {
    let _alone = alone();
    for mode in [XdpMode::Native, XdpMode::Tc] {
        let Uplink { steering, .. } = &uplink_in(Take::ByMaps, mode);
        steering.claim(&Claim::Destination("192.0.2.0/24".parse().unwrap())).unwrap();
        let mut frame = tcp_to("192.0.2.1", 80).frame();
        assert!(steering.takes(&frame).unwrap());
        frame.splice(12..12, [0x81, 0, 0, 100]);
        assert!(!steering.takes(&frame).unwrap());
    }
}

/// A kernel gives up after a million. Older ones follow more ways than newer ones do.
#[test]
fn the_verifier_has_little_to_look_at() {
    let _alone = alone();
    let _uplinks = [XdpMode::Native, XdpMode::Tc].map(|mode| uplink_in(Take::ByMaps, mode));
    let looked_at = |text: String| {
        text.lines().find_map(|line| line.strip_prefix("verified_insns:")?.trim().parse::<u32>().ok())
    };
    let descriptors = std::fs::read_dir("/proc/self/fdinfo").unwrap();
    let most = descriptors
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
        .filter_map(looked_at)
        .max();
    println!("{most:?} instructions");
    assert!(most.unwrap() < 20_000);
}

/// With the claims of a busy node: what a packet of each kind costs.
#[test]
fn steering_costs_less_than_a_packet_does_in_the_kernel() {
    let _alone = alone();
    for mode in [XdpMode::Native, XdpMode::Tc] {
        println!("{mode:?}:");
        costs_little(&uplink_in(Take::ByMaps, mode).steering);
    }
    let everything = uplink(Take::Everything);
    println!(
        "everything: {:?}",
        everything.steering.time(&tcp_to("10.1.0.7", 80).frame(), 1_000_000).unwrap()
    );
}

fn costs_little(steering: &Steering) {
    let node = "192.0.2.1".parse().unwrap();
    steering.claim(&Claim::Destination("10.1.0.0/24".parse().unwrap())).unwrap();
    steering.claim(&Claim::Destination("10.96.0.0/12".parse().unwrap())).unwrap();
    steering.claim(&Claim::Host(node)).unwrap();
    steering.claim(&Claim::Returned(IpNet::from(node))).unwrap();
    steering.claim(&Claim::SourcePorts { address: node, first: 49_152, last: 65_535 }).unwrap();
    steering.claim(&Claim::Tunnel { address: node, port: 4789 }).unwrap();
    for number in 0..1_000_u16 {
        let frontend = Claim::Frontend { address: node, protocol: TCP, port: 30_000 + number };
        steering.claim(&frontend).unwrap();
        let range = IpNet::new(Ipv4Addr::new(10, 2 + (number >> 8) as u8, number as u8, 0).into(), 24);
        steering.claim(&Claim::Source(range.unwrap())).unwrap();
    }
    let tunnelled = Packet {
        body: Body::Ports { protocol: UDP, source: 50_000, destination: 4789 },
        ..tcp_to("192.0.2.1", 0)
    };
    let kinds = [
        ("to a pod", tcp_to("10.1.0.7", 80), true),
        ("through a tunnel", tunnelled, true),
        ("to a frontend", tcp_to("192.0.2.1", 30_500), true),
        ("back to a masqueraded connection", tcp_to("192.0.2.1", 50_000), true),
        ("to the node itself", tcp_to("192.0.2.1", 22), false),
    ];
    for (kind, packet, is_ours) in kinds {
        assert_eq!(steering.takes(&packet.frame()).unwrap(), is_ours);
        let time = steering.time(&packet.frame(), 1_000_000).unwrap();
        println!("{kind}: {time:?}");
        assert!(time < Duration::from_micros(5));
    }
}
