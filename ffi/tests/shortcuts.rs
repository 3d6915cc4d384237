//! Established TCP connections and UDP flows that the kernel carries past the data path. Needs root.
//!
//! ```text
//!  pod: eth0 ══ pod-a :node ─┬─ port
//!  pod: eth0 ══ pod-b :node ─┼─ port
//!                            ├─ shortcuts
//!  peer: eth0 ══ nic :node ───── port ── what is claimed (10.99.0.0/16, 10.4.0.0/16, fefe::/16)
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod packets;
mod pods;
#[path = "shortcuts/segment.rs"]
mod segment;
#[path = "shortcuts/site.rs"]
mod site;

use etherparse::PacketBuilder;
use millrace_fastpath::port::{
    Checksum, Ends, Frame, Gso, GsoKind, Offload, PortTotals, Shortcut, TunnelEnds, Wrapping,
};
use millrace_fastpath::wire::ethernet::MacAddr;
use millrace_ffi::mbuf::Mbuf;
use packets::{Packet, SIZE, V6, assert_same, by_sequence, chained, on_the_wire, payload, state};
use pods::{alone, configure, open_files, packet_socket, send};
use segment::{OUTER, masked, packet, segment, wrap};
use site::{A, B, MTU, NIC, OWN, POD, Site, TUNNEL, UPLINK, WAYS, Way, hear, shortcuts};
use std::fs::File;
use std::thread;
use std::time::Duration;

const BOTH: [Packet; 2] = [Packet::Tcp4, Packet::Tcp6];

/// Of each family connections whose addresses and ports stay as they are, and others.
const KINDS: [(Packet, bool); 4] =
    [(Packet::Tcp4, false), (Packet::Tcp4, true), (Packet::Tcp6, false), (Packet::Tcp6, true)];

/// A frame in memory.
fn made(site: &Site, bytes: &[u8], offload: Offload) -> Mbuf {
    let mut frame = chained(&site.small, bytes, 300, 1999);
    frame.set_offload(offload);
    frame
}

/// A frame as it comes, of a connection that has this shortcut.
fn arriving(shortcut: &Shortcut, length: usize) -> Vec<u8> {
    let macs = [shortcut.own_mac, shortcut.sender_mac.unwrap_or(POD)];
    segment(packet(shortcut), &shortcut.arriving, macs, 9, length)
}

/// What is to become of it on the wire.
fn leaving(site: &Site, shortcut: &Shortcut, length: usize) -> Vec<Vec<u8>> {
    let inner = segment(packet(shortcut), &shortcut.leaving, shortcut.macs, 8, length);
    let (bytes, outer) = match &shortcut.into {
        Some(into) => (wrap(into, &inner), OUTER),
        None => (inner, 0),
    };
    let state = state(packet(shortcut), outer, length > SIZE.into());
    finished(site, shortcut, vec![made(site, &bytes, state)])
}

/// What has left, on the wire.
fn finished(site: &Site, shortcut: &Shortcut, frames: Vec<Mbuf>) -> Vec<Vec<u8>> {
    let frames = on_the_wire(&site.small, frames).into_iter();
    frames.map(|frame| if shortcut.into.is_some() { masked(frame) } else { frame }).collect()
}

/// What the kernel is to have carried by a shortcut.
struct Carried {
    frames: u64,
    bytes: u64,
}

/// Nothing else has moved.
fn assert_counted(site: &Site, way: Way, before: &[PortTotals], carried: &Carried) {
    let (from, to) = way.ports();
    let mut wanted = before.to_vec();
    wanted[from].rx_frames += carried.frames;
    wanted[from].rx_bytes += carried.bytes;
    wanted[to].tx_frames += carried.frames;
    wanted[to].tx_bytes += carried.bytes;
    assert_eq!(site.totals(), wanted, "{way:?}");
}

/// Sends frames of all kinds by a shortcut. `is_whole`: whether large ones leave as they are.
fn check(site: &mut Site, tunnel: &File, way: Way, shortcut: &Shortcut, is_whole: bool) {
    let (from, to) = way.ports();
    let (outer, packet) = (if shortcut.into.is_some() { OUTER } else { 0 }, packet(shortcut));
    let (before, mut carried) = (site.totals(), Carried { frames: 0, bytes: 0 });
    for (length, is_open) in
        [(0, false), (101, false), (1390, false), (0, true), (101, true), (20_001, true), (60_000, true)]
    {
        let what = format!("{way:?} {packet:?} {length} open {is_open} {shortcut:?}");
        let open = arriving(shortcut, length);
        let at_first = state(packet, 0, length > SIZE.into());
        let (bytes, offload) = if is_open {
            (open, at_first)
        } else {
            (on_the_wire(&site.small, [made(site, &open, at_first)]).remove(0), Offload::NONE)
        };
        send(if way == Way::TunnelToPod { tunnel } else { &site.ports[from].far }, offload, &bytes);
        let wanted = leaving(site, shortcut, length);
        // Without checksums of the interface's own the kernel may still leave datagrams whole.
        let count = if is_whole || !packet.is_tcp() { 1 } else { wanted.len() };
        let frames = site.hear(to, count, outer);
        if is_whole {
            let is_large = length > SIZE.into();
            let at_last =
                Offload { outer: if is_large { outer } else { 0 }, ..state(packet, outer, is_large) };
            let states: Vec<_> = frames.iter().map(Mbuf::offload).collect();
            assert_eq!(states, [if is_open { at_last } else { Offload::NONE }], "{what}");
        }
        assert_same(&finished(site, shortcut, frames), &wanted, &what);
        carried.frames += 1;
        carried.bytes += bytes.len() as u64;
    }
    for port in [A, B, NIC] {
        assert_eq!(site.receive(port, 0).len(), 0, "{way:?} {port}");
    }
    assert_counted(site, way, &before, &carried);
}

#[test]
fn a_shortcut_does_what_the_data_path_does() {
    let _alone = alone();
    let mut site = Site::new();
    let tunnel = packet_socket(&site.peer, "vx4", 0);
    for checksums in ["on", "off"] {
        for end in ["pod-b", "nic"] {
            site.node.run(&["ethtool", "-K", end, "tx", checksums]);
        }
        for way in WAYS {
            let is_whole = checksums == "on";
            let datagrams = [Packet::Udp4, Packet::Udp6].map(|packet| [(packet, false), (packet, true)]);
            // Of what is not TCP an uplink's data path has a copy in any case.
            let datagrams = datagrams.concat().into_iter().filter(|_| way.ports().0 != NIC);
            for (packet, translated) in KINDS.into_iter().chain(datagrams) {
                let shortcut = site.shortcut(way, packet, translated);
                assert!(site.shortcuts.add(&shortcut).unwrap());
                check(&mut site, &tunnel, way, &shortcut, is_whole);
            }
        }
    }
    site.close();
}

/// Nobody need look at it (RFC 7348, section 4.1): what is inside has its own.
#[test]
fn the_checksum_of_a_tunnel_stays_behind() {
    let _alone = alone();
    let mut site = Site::new();
    let ends = ["local", "10.78.0.1", "remote", "10.99.0.1", "dstport", "4789", "dev", "eth0", "udpcsum"];
    site.peer.run(&["ip", "link", "del", "vx4"]);
    site.peer.run(&[&["ip", "link", "add", "vx4", "up", "type", "vxlan", "id", "4"], &ends[..]].concat());
    let tunnel = packet_socket(&site.peer, "vx4", 0);
    for (packet, translated) in KINDS {
        let shortcut = site.shortcut(Way::TunnelToPod, packet, translated);
        assert!(site.shortcuts.add(&shortcut).unwrap());
        check(&mut site, &tunnel, Way::TunnelToPod, &shortcut, true);
    }
    site.close();
}

#[test]
fn what_was_cut_in_a_tunnel_leaves_as_the_kernel_has_put_it_together() {
    let _alone = alone();
    let mut site = Site::new();
    let tunnel = packet_socket(&site.peer, "vx4", 0);
    site.peer.run(&["ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off"]);
    site.node.run(&["ethtool", "-K", "nic", "gro", "on"]);
    for (way, packet) in
        [Way::TunnelToPod, Way::UplinkToPod].into_iter().flat_map(|way| BOTH.map(|of| (way, of)))
    {
        for (translated, length) in [(false, 20_001), (true, 60_000), (true, 2781), (false, 0)] {
            let shortcut = site.shortcut(way, packet, translated);
            assert!(site.shortcuts.add(&shortcut).unwrap());
            let what = format!("{way:?} {packet:?} {translated} {length}");
            let socket = if way == Way::TunnelToPod { &tunnel } else { &site.ports[NIC].far };
            send(socket, state(packet, 0, length > SIZE.into()), &arriving(&shortcut, length));
            let wanted = leaving(&site, &shortcut, length);
            let frames = site.hear(B, 1, 0);
            assert!(frames.len() <= 3, "{what}: {} frames", frames.len());
            let largest = frames.iter().max_by_key(|frame| frame.total_len()).unwrap();
            assert_eq!(largest.offload().gso.is_some(), length > SIZE.into(), "{what}");
            let arrived = by_sequence(finished(&site, &shortcut, frames), packet, &wanted[0]);
            assert_same(&arrived, &wanted, &what);
        }
    }
    site.close();
}

/// What a pod may send, with its state.
fn of_all_kinds(site: &Site) -> Vec<(&'static str, Vec<u8>, Offload)> {
    let mut kinds = Vec::new();
    let mut add = |what, bytes: &[u8], offload| kinds.push((what, bytes.to_vec(), offload));
    for packet in BOTH {
        let shortcut = site.shortcut(Way::PodToPod, packet, false);
        let (small, large) = (arriving(&shortcut, 100), arriving(&shortcut, 60_000));
        let (open, whole) = (state(packet, 0, false), state(packet, 0, true));
        add("an open segment", &small, open);
        add("a segment", &on_the_wire(&site.small, [made(site, &small, open)])[0], Offload::NONE);
        let mut syn = small.clone();
        syn[usize::from(packet.start()) + 13] = 2;
        add("SYN", &syn, open);
        add("large TCP", &large, whole);
    }
    for packet in [Packet::Udp4, Packet::Udp6] {
        add("an open datagram", &packet.bytes(&payload(100)), state(packet, 0, false));
        add("large UDP", &packet.bytes(&payload(40_000)), state(packet, 0, true));
    }
    let arp = [
        &[0xff; 6],
        &POD.0[..],
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &POD.0,
        &[10, 4, 0, 1],
        &[0; 6],
        &[10, 4, 0, 2],
    ];
    add("ARP", &arp.concat(), Offload::NONE);
    let solicitation = PacketBuilder::ethernet2(POD.0, [0x33, 0x33, 0xff, 0, 0, 1])
        .ipv6(V6.0, [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 1], 255)
        .icmpv6_raw(135, 0, [0; 4]);
    let mut bytes = Vec::new();
    solicitation.write(&mut bytes, &[V6.1, [1; 16]].concat()).unwrap();
    add("neighbour solicitation", &bytes, Offload::NONE);
    kinds
}

fn tagged(bytes: &[u8], mut offload: Offload) -> (Vec<u8>, Offload) {
    if let Checksum::Partial { start, .. } = &mut offload.checksum {
        *start += 4;
    }
    ([&bytes[..12], &[0x81, 0, 0, 5], &bytes[12..]].concat(), offload)
}

/// Whether one frame has come, as it was.
fn assert_one(frames: &[Mbuf], bytes: &[u8], offload: Offload, what: &str) {
    let arrived: Vec<_> = frames.iter().map(Mbuf::to_vec).collect();
    assert_same(&arrived, &[bytes.to_vec()], what);
    assert_eq!(frames[0].offload(), offload, "{what}");
}

#[test]
fn everything_else_comes_by_the_tap() {
    let _alone = alone();
    let mut site = Site::new();
    for (what, bytes, offload) in of_all_kinds(&site) {
        let before = site.totals()[A];
        send(&site.ports[A].far, offload, &bytes);
        assert_one(&site.receive(A, 1), &bytes, offload, what);
        site.transmit(A, made(&site, &bytes, offload));
        assert_one(&site.hear(A, 1, 0), &bytes, offload, what);
        let mut wanted = before;
        (wanted.rx_frames, wanted.tx_frames) = (before.rx_frames + 1, before.tx_frames + 1);
        let sum = bytes.len() as u64;
        (wanted.rx_bytes, wanted.tx_bytes) = (before.rx_bytes + sum, before.tx_bytes + sum);
        assert_eq!(site.totals()[A], wanted, "{what}");
        // Packet memory has no words for large datagrams with a tag.
        if offload.gso.is_some_and(|gso| gso.kind == GsoKind::Udp) {
            continue;
        }
        // With a tag, the kernel may finish what is open. To the socket it gives the tag beside the frame.
        let plain = on_the_wire(&site.small, [made(&site, &bytes, offload)]);
        let (bytes, offload) = tagged(&bytes, offload);
        let with_tag = on_the_wire(&site.small, [made(&site, &bytes, offload)]);
        send(&site.ports[A].far, offload, &bytes);
        let frames = site.receive(A, 1);
        assert_same(&on_the_wire(&site.small, frames), &with_tag, what);
        site.transmit(A, made(&site, &bytes, offload));
        assert_same(&on_the_wire(&site.small, site.hear(A, 1, 0)), &plain, what);
    }
    site.close();
}

/// Whether an ordinary segment takes its shortcut: it leaves there, or else comes by the port's queue.
fn takes(site: &mut Site, way: Way, shortcut: &Shortcut) -> bool {
    let (from, to) = way.ports();
    let (bytes, offload) = match shortcut.from {
        Some(ends) => (tunnelled(site, &ends, &arriving(shortcut, 100)), Offload::NONE),
        None => (arriving(shortcut, 100), state(packet(shortcut), 0, false)),
    };
    send(&site.ports[from].far, offload, &bytes);
    leaves(site, [from, to])
}

/// Whether a packet has left by port `to`, or has come by the queue of `from`.
fn leaves(site: &mut Site, [from, to]: [usize; 2]) -> bool {
    let carried = site.hear(to, 0, 0).len();
    assert_eq!(carried + if carried == 0 { site.receive(from, 1).len() } else { 0 }, 1);
    carried == 1
}

/// Out of the tunnel of a node that has these ends, a segment with its checksum.
fn tunnelled(site: &Site, ends: &TunnelEnds, open: &[u8]) -> Vec<u8> {
    let packet = if open[12] == 8 { Packet::Tcp4 } else { Packet::Tcp6 };
    let inner = on_the_wire(&site.small, [made(site, open, state(packet, 0, false))]).remove(0);
    let ends = TunnelEnds { local: ends.remote, remote: ends.local, ..*ends };
    wrap(&Wrapping { ends, macs: [UPLINK, MacAddr([2, 0, 0, 0, 7, 7])], source_port: 0xabcd }, &inner)
}

/// Sends what has no shortcut, to the port `from`: it comes by its queue, and nothing comes to port `to`.
fn goes_the_long_way(site: &mut Site, [from, to]: [usize; 2], bytes: &[u8], offload: Offload, what: &str) {
    send(&site.ports[from].far, offload, bytes);
    assert_one(&site.receive(from, 1), bytes, offload, what);
    assert_eq!(site.hear(to, 0, 0).len(), 0, "{what}");
}

/// The other direction of a connection between pods.
fn back(shortcut: &Shortcut) -> Shortcut {
    let turned = |ends: Ends| Ends { source: ends.destination, destination: ends.source };
    Shortcut {
        arrival: shortcut.out,
        out: shortcut.arrival,
        arriving: turned(shortcut.leaving),
        leaving: turned(shortcut.arriving),
        ..shortcut.clone()
    }
}

/// Sends it from the second pod.
fn takes_back(site: &mut Site, shortcut: &Shortcut) -> bool {
    send(&site.ports[B].far, state(packet(shortcut), 0, false), &arriving(shortcut, 100));
    leaves(site, [B, A])
}

#[test]
fn what_opens_or_ends_a_connection_ends_both_shortcuts() {
    let _alone = alone();
    let mut site = Site::new();
    let (syn, fin, rst, psh, ack) = (2, 1, 4, 8, 16);
    for (packet, translated) in KINDS {
        let forth = site.shortcut(Way::PodToPod, packet, translated);
        let back = back(&forth);
        for flags in [syn, syn | ack, fin | ack, fin | psh | ack, rst, rst | ack, psh] {
            assert!(site.shortcuts.add(&forth).unwrap() && site.shortcuts.add(&back).unwrap());
            assert!(takes(&mut site, Way::PodToPod, &forth) && takes_back(&mut site, &back));
            let mut bytes = arriving(&forth, 100);
            bytes[usize::from(packet.start()) + 13] = flags;
            let what = format!("{packet:?} {translated} flags {flags}");
            goes_the_long_way(&mut site, [A, B], &bytes, state(packet, 0, false), &what);
            assert!(!takes(&mut site, Way::PodToPod, &forth) && !takes_back(&mut site, &back), "{what}");
        }
    }
    site.close();
}

/// What a pod may send that is not ordinary, of a connection with this shortcut.
fn odd(site: &Site, shortcut: &Shortcut) -> Vec<(&'static str, Vec<u8>, Offload)> {
    let packet = packet(shortcut);
    let (open, start) = (state(packet, 0, false), usize::from(packet.start()));
    let ordinary = arriving(shortcut, 100);
    let edited = |at: usize, bytes: &[u8]| {
        let mut frame = ordinary.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    // Eight bytes between the headers of IP and TCP, and the first header as it is then.
    let inserted = |mut frame: Vec<u8>, more: [u8; 8]| {
        frame.splice(start..start, more);
        frame
    };
    let moved = Offload { checksum: Checksum::Partial { start: packet.start() + 8, offset: 16 }, ..open };
    let (with_tag, _) = tagged(&on_the_wire(&site.small, [made(site, &ordinary, open)])[0], open);
    let size = MTU - (start as u16 - 14) - 32 + 1;
    let large = Offload { gso: Some(Gso { size, ..packet.gso(SIZE) }), ..open };
    let mut kinds = vec![
        ("too large", arriving(shortcut, size.into()), open),
        ("large, of too large pieces", arriving(shortcut, 20_000), large),
        ("another's destination MAC address", edited(0, &[2, 0, 0, 0, 6, 6]), open),
        ("another's source MAC address", edited(6, &[2, 0, 0, 0, 6, 6]), open),
        ("a VLAN tag", with_tag, Offload::NONE),
        ("another port", edited(start, &[9, 9]), open),
    ];
    kinds.extend(match packet {
        Packet::Tcp4 => vec![
            ("TTL 1", edited(22, &[1]), open),
            ("options", inserted(edited(14, &[0x47]), [1; 8]), moved),
            ("a first fragment", edited(20, &[0x20, 0]), open),
            ("a later fragment", edited(20, &[0, 9]), Offload::NONE),
        ],
        _ => vec![
            ("hop limit 1", edited(21, &[1]), open),
            ("options for the destination", inserted(edited(20, &[60]), [6, 0, 1, 4, 0, 0, 0, 0]), moved),
            ("a fragment", inserted(edited(20, &[44]), [6, 0, 0, 1, 0, 0, 0, 1]), Offload::NONE),
        ],
    });
    kinds
}

#[test]
fn what_is_not_ordinary_goes_the_long_way() {
    let _alone = alone();
    let mut site = Site::new();
    for (packet, translated) in KINDS {
        let shortcut = site.shortcut(Way::PodToPod, packet, translated);
        assert!(site.shortcuts.add(&shortcut).unwrap());
        for (what, bytes, offload) in odd(&site, &shortcut) {
            let what = format!("{packet:?} {translated} {what}");
            goes_the_long_way(&mut site, [A, B], &bytes, offload, &what);
            assert!(takes(&mut site, Way::PodToPod, &shortcut), "{what}");
        }
        let ordinary = arriving(&shortcut, 100);
        goes_the_long_way(&mut site, [B, A], &ordinary, state(packet, 0, false), "by another interface");
        let from_all = Shortcut { sender_mac: None, ..shortcut.clone() };
        assert!(site.shortcuts.add(&from_all).unwrap());
        let foreign = Shortcut { sender_mac: Some(OWN), ..shortcut };
        assert!(takes(&mut site, Way::PodToPod, &foreign), "from any MAC address");
    }
    site.close();
}

#[test]
fn what_is_too_long_for_a_tunnels_headers_goes_the_long_way() {
    let _alone = alone();
    let mut site = Site::new();
    for (packet, translated) in KINDS {
        let shortcut = site.shortcut(Way::PodToTunnel, packet, translated);
        assert!(site.shortcuts.add(&shortcut).unwrap());
        let (state, headers) = (state(packet, 0, true), usize::from(packet.start()) - 14 + 32);
        let longest = 65_535 - usize::from(OUTER) - headers;
        goes_the_long_way(&mut site, [A, NIC], &arriving(&shortcut, longest + 1), state, "too long");
        send(&site.ports[A].far, state, &arriving(&shortcut, longest));
        let arrived = finished(&site, &shortcut, site.hear(NIC, 1, OUTER));
        assert_same(&arrived, &leaving(&site, &shortcut, longest), &format!("{packet:?} {translated}"));
    }
    site.close();
}

#[test]
fn what_comes_otherwise_than_its_tunnel_goes_the_long_way() {
    let _alone = alone();
    let mut site = Site::new();
    for (packet, translated) in KINDS {
        let shortcut = site.shortcut(Way::TunnelToPod, packet, translated);
        assert!(site.shortcuts.add(&shortcut).unwrap());
        let ordinary = arriving(&shortcut, 100);
        let by = |ends: TunnelEnds| tunnelled(&site, &ends, &ordinary);
        let edited = |at: usize, bytes: &[u8]| {
            let mut frame = by(TUNNEL);
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            frame
        };
        let mut for_another = ordinary.clone();
        for_another[..6].copy_from_slice(&[2, 0, 0, 0, 6, 6]);
        let mut plain = by(TUNNEL).split_off(OUTER.into());
        plain[..6].copy_from_slice(&UPLINK.0);
        let kinds = [
            ("another network", by(TunnelEnds { vni: 5, ..TUNNEL }), Offload::NONE),
            ("another node", by(TunnelEnds { remote: [10, 78, 0, 9].into(), ..TUNNEL }), Offload::NONE),
            ("another end", by(TunnelEnds { local: [10, 99, 0, 2].into(), ..TUNNEL }), Offload::NONE),
            ("another UDP port", by(TunnelEnds { port: 4790, ..TUNNEL }), Offload::NONE),
            ("for another node", edited(0, &[2, 0, 0, 0, 6, 6]), Offload::NONE),
            ("for another router", tunnelled(&site, &TUNNEL, &for_another), Offload::NONE),
            ("congestion was met", edited(15, &[3]), Offload::NONE),
            ("other flags of VXLAN", edited(42, &[0x0c]), Offload::NONE),
            ("a fragment", edited(20, &[0x20, 0]), Offload::NONE),
            ("no tunnel", plain, Offload::NONE),
        ];
        for (what, bytes, offload) in kinds {
            let what = format!("{packet:?} {translated} {what}");
            goes_the_long_way(&mut site, [NIC, B], &bytes, offload, &what);
            assert!(takes(&mut site, Way::TunnelToPod, &shortcut), "{what}");
        }
        let shortcut = site.shortcut(Way::UplinkToPod, packet, translated);
        assert!(site.shortcuts.add(&shortcut).unwrap());
        assert!(takes(&mut site, Way::UplinkToPod, &shortcut));
        let bytes = tunnelled(&site, &TUNNEL, &arriving(&shortcut, 100));
        goes_the_long_way(&mut site, [NIC, B], &bytes, Offload::NONE, "in a tunnel");
        assert!(takes(&mut site, Way::UplinkToPod, &shortcut));
    }
    site.close();
}

#[test]
fn shortcuts_end_together() {
    let _alone = alone();
    let mut site = Site::new();
    let shortcuts = WAYS.map(|way| (way, site.shortcut(way, Packet::Tcp4, true)));
    for (way, shortcut) in &shortcuts {
        for _ in 0..2 {
            assert!(site.shortcuts.add(shortcut).unwrap());
            assert!(takes(&mut site, *way, shortcut), "{way:?}");
            site.shortcuts.end_all().unwrap();
            assert!(!takes(&mut site, *way, shortcut), "{way:?}");
        }
    }
    site.close();
}

#[test]
fn a_shortcut_ends_by_itself_well_before_its_connection_is_forgotten() {
    let _alone = alone();
    let mut site = Site::new();
    site.close();
    site.shortcuts = shortcuts(1_000);
    site.open();
    let shortcut = site.shortcut(Way::PodToPod, Packet::Tcp4, true);
    assert!(site.shortcuts.add(&shortcut).unwrap());
    assert!(takes(&mut site, Way::PodToPod, &shortcut));
    thread::sleep(Duration::from_millis(600));
    assert!(!takes(&mut site, Way::PodToPod, &shortcut));
    site.close();
}

#[test]
fn nothing_is_left() {
    let _alone = alone();
    let mut site = Site::new();
    site.close();
    site.shortcuts = shortcuts(60_000);
    for (pod, name, last) in [(A, "pod-a", 4), (B, "pod-b", 5)] {
        configure(&site.pods[pod], "eth0", &format!("10.{last}.0.1/24"));
        configure(&site.node, name, &format!("10.{last}.0.2/24"));
    }
    let files = open_files();
    for _ in 0..3 {
        site.open();
        assert_eq!(site.node.run(&["ip", "-br", "link"]).matches("mr-in").count(), 3);
        let shortcut = site.shortcut(Way::PodToPod, Packet::Tcp4, true);
        assert!(site.shortcuts.add(&shortcut).unwrap());
        assert!(takes(&mut site, Way::PodToPod, &shortcut));
        site.close();
        // They know of each other still, but nothing leads there.
        let heard = packet_socket(&site.pods[B], "eth0", libc::ETH_P_ALL as u16);
        send(
            &packet_socket(&site.pods[A], "eth0", 0),
            state(Packet::Tcp4, 0, false),
            &arriving(&shortcut, 100),
        );
        assert_eq!(hear(&site.small, &heard, 0, 0).len(), 0);
        drop(heard);
        assert!(!site.node.run(&["ip", "-br", "link"]).contains("mr-in"));
        for (pod, last) in [(A, 4), (B, 5)] {
            site.pods[pod].run(&["ping", "-c", "1", "-W", "2", &format!("10.{last}.0.2")]);
        }
        site.shortcuts = shortcuts(60_000);
        assert_eq!(open_files(), files);
    }
}
