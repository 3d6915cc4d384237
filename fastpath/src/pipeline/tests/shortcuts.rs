//! What the kernel may carry past the data path, and what becomes of flows of which it carried a part.
//!
//! ```text
//!   pod A (port 1) ─► service ─► pod B (port 2)     offered: A to B, and B to A, each by itself
//!        └──────────► uplink (port 3), plain or by a tunnel
//! ```

use super::fixture::*;
use super::tcp_tracking::{Talk, sctp, talks};
use super::tunnels;
use crate::conntrack::{EntryFlags, FlowKey, Ticks};
use crate::pipeline::WorkerCounter::*;
use crate::pipeline::encapsulate::source_port;
use crate::pipeline::{Established, Report};
use crate::port::{BufferFrame, Frame, PortId};
use crate::tables::{AdjacencyId, Route, Shortcuts};
use crate::wire::sctp::chunk;
use std::net::IpAddr;

/// A multiple of what lies between two packets that are looked at.
const MANY: usize = 24;

fn key((source, destination): (IpAddr, IpAddr), protocol: u8, ports: (u16, u16)) -> FlowKey {
    let (source, destination, fragment) = (source.into(), destination.into(), false);
    let (source_port, destination_port) = ports;
    FlowKey { source, destination, source_port, destination_port, protocol, fragment }
}

/// What A sends to the service, and what B gets.
fn to_service(net: &Net, protocol: u8) -> [FlowKey; 2] {
    [key((net.a, net.vip), protocol, (1000, 80)), key((net.a, net.b), protocol, (1000, 8080))]
}

impl Node {
    fn have_shortcuts(&mut self, ports: &[PortId]) {
        let ports = ports.iter().copied().collect();
        self.tables.shortcuts = Shortcuts { ports, translated_v6: true };
    }

    fn offers(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.sink.reports)
    }

    fn way_to(&self, address: IpAddr) -> AdjacencyId {
        match self.tables.routes.lookup(address.into()) {
            Some(Route::Via(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    /// The offer of what arrives by a port.
    fn offer(&self, arrival: PortId, [key, rewritten]: [FlowKey; 2]) -> Report {
        let hash = key.words().hash(self.pipeline.tracker().table().secret());
        Report::Established(Established {
            arrival,
            key,
            rewritten,
            adjacency: self.way_to(rewritten.destination.to_ip()),
            mark: source_port(hash),
            epoch: self.tables.epoch,
        })
    }

    /// Whether packets of this direction may pass unseen, and when the last was seen.
    fn entry(&self, key: &FlowKey) -> (bool, Ticks) {
        let (table, words) = (self.pipeline.tracker().table(), key.words());
        let entry = table.entry(table.find(&words, words.hash(table.secret())).unwrap());
        (entry.flags().has(EntryFlags::SHORTENED), entry.last_seen())
    }

    fn is_shortened(&self, key: &FlowKey) -> bool {
        self.entry(key).0
    }

    /// Forwards the same frame again and again.
    fn forward(&mut self, packet: &Packet, times: usize) {
        for _ in 0..times {
            assert!(self.run(packet.from, packet.frame()).is_some(), "{packet:?}");
        }
    }
}

impl Talk {
    fn both_say(&mut self, times: usize) {
        for _ in 0..times {
            self.client_says("A", 10);
            self.server_says("A", 10);
        }
    }

    /// Has both directions offered.
    fn is_offered(&mut self) {
        self.node.have_shortcuts(&[A, B]);
        (0..8).for_each(|_| self.client_says("A", 10));
        (0..8).for_each(|_| self.server_says("A", 10));
        assert_eq!(self.node.offers().len(), 2);
    }

    /// Both go on as if others carried their segments.
    fn pass_unseen(&mut self, by_client: u32, by_server: u32) {
        self.client = self.client.wrapping_add(by_client);
        self.server = self.server.wrapping_add(by_server);
    }

    fn there(&self) -> FlowKey {
        to_service(&self.net, TCP)[0]
    }

    fn back(&self) -> FlowKey {
        to_service(&self.net, TCP)[1].reversed()
    }
}

#[test]
fn nothing_is_offered_unless_both_ports_have_shortcuts() {
    for ports in [&[][..], &[A], &[B], &[UPLINK], &[A, UPLINK]] {
        for mut talk in talks(true) {
            talk.node.have_shortcuts(ports);
            talk.both_say(MANY);
            assert_eq!(talk.node.offers(), []);
            assert!(!talk.node.is_shortened(&talk.there()) && !talk.node.is_shortened(&talk.back()));
            talk.node.expect(Resolved, 1);
            talk.node.expect(Established, 3 + 2 * MANY as u64);
            talk.node.check(&[]);
        }
    }
}

#[test]
fn each_direction_of_an_established_connection_is_offered_by_itself_once_in_eight_packets() {
    for mut talk in talks(false) {
        talk.node.tables.epoch = 7;
        talk.open();
        talk.node.have_shortcuts(&[A, B]);
        let [arriving, leaving] = to_service(&talk.net, TCP);
        let there = talk.node.offer(A, [arriving, leaving]);
        let back = talk.node.offer(B, [leaving.reversed(), arriving.reversed()]);
        (0..7).for_each(|_| talk.client_says("A", 10));
        assert_eq!(talk.node.offers(), []);
        assert!(!talk.node.is_shortened(&arriving));
        talk.client_says("A", 10);
        assert_eq!(talk.node.offers(), [there]);
        assert!(talk.node.is_shortened(&arriving) && !talk.node.is_shortened(&leaving.reversed()));
        (0..8).for_each(|_| talk.server_says("A", 10));
        assert_eq!(talk.node.offers(), [back]);
        assert!(talk.node.is_shortened(&leaving.reversed()));
        (0..16).for_each(|_| talk.client_says("A", 10));
        assert_eq!(talk.node.offers(), [there; 2], "again as long as packets come");
        talk.expect("established");
        talk.node.expect(Resolved, 1);
        talk.node.expect(Established, 3 + 32);
        talk.node.check(&[]);
    }
}

#[test]
fn an_offer_tells_the_epoch_of_the_verdict() {
    for mut talk in talks(true) {
        talk.is_offered();
        talk.node.tables.epoch += 1;
        // Of these the first is resolved.
        (0..9).for_each(|_| talk.client_says("A", 10));
        let offer = talk.node.offer(A, to_service(&talk.net, TCP));
        assert_eq!(talk.node.offers(), [offer]);
        assert!(talk.node.is_shortened(&talk.there()) && talk.node.is_shortened(&talk.back()));
    }
}

#[test]
fn a_connection_is_not_offered_before_it_is_established() {
    for mut talk in talks(false) {
        talk.node.have_shortcuts(&[A, B]);
        talk.client_says("S", 0);
        let (syn, answer) = (
            talk.client_segment("S", talk.client.wrapping_sub(1), 0),
            talk.server_segment("SA", talk.server, talk.client),
        );
        for _ in 0..MANY {
            talk.reaches_server(syn);
            talk.reaches_client(answer);
        }
        talk.expect("syn-received");
        assert_eq!(talk.node.offers(), []);
    }
}

#[test]
fn a_repeated_answer_to_a_syn_is_not_offered_and_the_connection_stays_established() {
    for mut talk in talks(false) {
        talk.client_says("S", 0);
        let answer = talk.server_segment("SA", talk.server, talk.client);
        talk.server_says("SA", 0);
        talk.client_says("A", 0);
        talk.node.have_shortcuts(&[A, B]);
        (0..MANY).for_each(|_| talk.reaches_client(answer));
        talk.expect("established");
        assert_eq!(talk.node.offers(), []);
        assert!(!talk.node.is_shortened(&talk.back()));
    }
}

#[test]
fn a_connection_that_ends_is_not_offered() {
    for (by_client, flags, state) in
        [(true, "FA", "fin-wait"), (false, "FA", "fin-wait"), (true, "RA", "close"), (false, "RA", "close")]
    {
        for mut talk in talks(true) {
            match by_client {
                true => talk.client_says(flags, 0),
                false => talk.server_says(flags, 0),
            }
            talk.node.have_shortcuts(&[A, B]);
            talk.both_say(MANY);
            talk.expect(state);
            assert_eq!(talk.node.offers(), []);
        }
    }
}

#[test]
fn udp_is_offered_unless_it_came_by_an_uplink() {
    for net in families() {
        let mut node = Node::new();
        node.add_uplink();
        node.have_shortcuts(&[A, B, UPLINK]);
        let there = Packet::new(A, net.a, net.vip, UDP, (1000, 80));
        let back = Packet::new(B, net.b, net.a, UDP, (8080, 1000));
        let [arriving, leaving] = to_service(&net, UDP);
        node.forward(&there, 9);
        assert_eq!(node.offers(), [node.offer(A, [arriving, leaving])]);
        node.forward(&back, 8);
        assert_eq!(node.offers(), [node.offer(B, [leaving.reversed(), arriving.reversed()])]);

        let out = Packet::new(A, net.a, net.client, UDP, (1000, 53));
        let answer = Packet::new(UPLINK, net.client, net.a, UDP, (53, 1000));
        let outgoing = key((net.a, net.client), UDP, (1000, 53));
        node.forward(&out, 9);
        assert_eq!(node.offers(), [node.offer(A, [outgoing; 2])]);
        node.forward(&answer, MANY);
        assert_eq!(node.offers(), []);
        assert!(!node.is_shortened(&outgoing.reversed()));
        node.expect(Resolved, 2);
        node.expect(Established, 8 + 8 + 8 + MANY as u64);
        node.check(&[]);
    }
}

#[test]
fn datagrams_are_offered_however_they_alternate_with_answers_by_an_uplink() {
    for (net, first) in families().into_iter().flat_map(|net| [(net, 0), (net, 1)]) {
        let mut node = Node::new();
        node.add_uplink();
        let out = Packet::new(A, net.a, net.client, UDP, (1000, 53));
        let answer = Packet::new(UPLINK, net.client, net.a, UDP, (53, 1000));
        node.forward(&out, 1);
        node.have_shortcuts(&[A, UPLINK]);
        node.forward(&answer, first);
        for _ in 0..MANY {
            node.forward(&out, 1);
            node.forward(&answer, 1);
        }
        assert_eq!(node.offers().len(), MANY / 8);
    }
}

#[test]
fn a_connection_is_offered_also_where_it_comes_by_an_uplink() {
    for net in families() {
        let mut node = Node::new();
        node.add_uplink();
        let out = Packet::new(A, net.a, net.client, TCP, (1000, 443));
        let answer = Packet {
            flags: "SA",
            seq: 5,
            ack: 1011,
            ..Packet::new(UPLINK, net.client, net.a, TCP, (443, 1000))
        };
        node.forward(&out, 1);
        node.forward(&answer, 1);
        node.forward(&Packet { flags: "A", seq: 1011, ack: 16, ..out }, 1);
        node.have_shortcuts(&[A, UPLINK]);
        node.forward(&Packet { flags: "A", seq: 16, ..answer }, 8);
        let arriving = key((net.client, net.a), TCP, (443, 1000));
        assert_eq!(node.offers(), [node.offer(UPLINK, [arriving; 2])]);
    }
}

#[test]
fn other_protocols_are_not_offered() {
    for mut talk in talks(false) {
        talk.node.have_shortcuts(&[A, B]);
        for (by_client, kind, tag) in [
            (true, chunk::INIT, 0),
            (false, chunk::INIT_ACK, 11),
            (true, chunk::COOKIE_ECHO, 22),
            (false, chunk::COOKIE_ACK, 11),
        ] {
            talk.node.forward(&sctp(&talk.net, by_client, kind, tag), 1);
        }
        talk.node.forward(&sctp(&talk.net, true, chunk::DATA, 22), MANY);
        talk.node.forward(&sctp(&talk.net, false, chunk::DATA, 11), MANY);
        talk.expect("established");
        assert_eq!(talk.node.offers(), []);
        talk.node.expect(Resolved, 1);
        talk.node.expect(Established, 3 + 2 * MANY as u64);
        talk.node.check(&[]);
    }
    for (net, echo) in families().into_iter().zip([1, 58]) {
        let mut node = Node::new();
        node.have_shortcuts(&[A, B]);
        node.forward(&Packet::new(A, net.a, net.b, echo, (77, 77)), MANY);
        assert_eq!(node.offers(), []);
        node.expect(Resolved, 1);
        node.expect(Established, MANY as u64 - 1);
        node.check(&[]);
    }
}

#[test]
fn a_way_through_a_tunnel_is_offered_over_ipv4_without_a_checksum() {
    for (net, outer_v6, checksum) in families().into_iter().flat_map(|net| {
        [(false, false), (false, true), (true, false), (true, true)].map(|(v6, sum)| (net, v6, sum))
    }) {
        let mut node = tunnels::node(outer_v6, checksum);
        node.have_shortcuts(&[A, UPLINK]);
        let there = Packet::new(A, net.a, tunnels::remote(&net), UDP, (4000, 53));
        node.forward(&there, MANY);
        let (_, mut frame) = node.run(A, there.frame()).unwrap();
        assert!(frame.complete_checksum());
        let (outer_port, _) = tunnels::open(&frame, outer_v6, checksum);
        let leaving = key((net.a, tunnels::remote(&net)), UDP, (4000, 53));
        let offers = node.offers();
        if outer_v6 || checksum {
            assert_eq!(offers, []);
            assert!(!node.is_shortened(&leaving));
            continue;
        }
        assert_eq!(offers, vec![node.offer(A, [leaving; 2]); MANY / 8]);
        assert!(matches!(offers[0], Report::Established(Established { mark, .. }) if mark == outer_port));
    }
}

#[test]
fn both_directions_of_a_connection_through_a_tunnel_are_offered_over_ipv4() {
    for (net, outer_v6) in families().into_iter().flat_map(|net| [(net, false), (net, true)]) {
        let mut node = tunnels::node(outer_v6, false);
        let from_peer = |node: &mut Node, packet: &Packet| {
            let frame: BufferFrame = tunnels::from_peer(outer_v6, false, packet, 1);
            assert_eq!(node.run(UPLINK, frame).unwrap().0, A);
        };
        let remote = tunnels::remote(&net);
        let there = Packet { payload: 0, ..Packet::new(A, net.a, remote, TCP, (4000, 80)) };
        let back = Packet {
            flags: "SA",
            seq: 5,
            ack: 1001,
            payload: 0,
            ..Packet::new(UPLINK, remote, net.a, TCP, (80, 4000))
        };
        let (more, answer) =
            (Packet { flags: "A", seq: 1001, ack: 6, ..there }, Packet { flags: "A", seq: 6, ..back });
        node.forward(&there, 1);
        from_peer(&mut node, &back);
        node.forward(&more, 1);
        node.have_shortcuts(&[A, UPLINK]);
        node.forward(&more, 8);
        (0..8).for_each(|_| from_peer(&mut node, &answer));
        let key = key((net.a, remote), TCP, (4000, 80));
        if outer_v6 {
            assert_eq!(node.offers(), []);
            assert!(!node.is_shortened(&key) && !node.is_shortened(&key.reversed()));
            continue;
        }
        let offers = [node.offer(A, [key; 2]), node.offer(UPLINK, [key.reversed(); 2])];
        assert_eq!(node.offers(), offers);
    }
}

#[test]
fn after_an_offer_a_connection_goes_on_and_ends_gigabytes_ahead() {
    for mut talk in talks(true) {
        talk.is_offered();
        for (by_client, by_server) in [(3 << 30, 1 << 20), (0, 3 << 30), (1 << 31, 1 << 31)] {
            talk.pass_unseen(by_client, by_server);
            talk.client_says("A", 100);
            talk.server_says("A", 100);
            talk.expect("established");
        }
        talk.pass_unseen(3 << 30, 5 << 29);
        talk.client_says("FA", 0);
        talk.expect("fin-wait");
        talk.pass_unseen(0, 3 << 30);
        talk.server_says("FA", 0);
        talk.expect("time-wait");
        talk.client_says("A", 0);
        talk.expect("time-wait");
        talk.node.expect(Resolved, 1);
        talk.node.expect(Established, 3 + 16 + 6 + 3);
        talk.node.check(&[]);
    }
}

#[test]
fn after_an_offer_a_reset_gigabytes_ahead_closes() {
    for by_client in [true, false] {
        for mut talk in talks(true) {
            talk.is_offered();
            talk.pass_unseen(3 << 30, 5 << 29);
            match by_client {
                true => talk.client_says("RA", 0),
                false => talk.server_says("R", 0),
            }
            talk.expect("close");
        }
    }
}

#[test]
fn who_goes_on_after_a_reset_has_not_sent_it() {
    for mut talk in talks(true) {
        talk.is_offered();
        talk.pass_unseen(3 << 30, 5 << 29);
        let forged = talk.client_segment("R", talk.client.wrapping_add(7 << 20), 0);
        talk.reaches_server(forged);
        talk.expect("close");
        talk.server_says("A", 100);
        talk.expect("close");
        talk.client_says("A", 100);
        talk.expect("established");
    }
}

#[test]
fn translated_ipv6_is_offered_only_where_the_kernel_can_carry_it() {
    for mut talk in talks(true) {
        talk.node.have_shortcuts(&[A, B]);
        talk.node.tables.shortcuts.translated_v6 = false;
        talk.both_say(MANY);
        let is_marked = talk.node.is_shortened(&talk.there()) || talk.node.is_shortened(&talk.back());
        let is_v4 = talk.net.a.is_ipv4();
        assert_eq!((talk.node.offers().is_empty(), is_marked), (!is_v4, is_v4));
    }
}

#[test]
fn without_an_offer_a_reset_gigabytes_ahead_is_dropped() {
    for mut talk in talks(true) {
        talk.both_say(8);
        let (client, server) = (talk.client.wrapping_add(3 << 30), talk.server.wrapping_add(5 << 29));
        talk.is_dropped(talk.client_segment("RA", client, server));
        talk.is_dropped(talk.server_segment("R", server, client));
        talk.expect("established");
    }
}

#[test]
fn where_one_direction_is_offered_the_other_is_known_as_before() {
    for mut talk in talks(true) {
        talk.node.have_shortcuts(&[A, B]);
        (0..8).for_each(|_| talk.client_says("A", 10));
        assert_eq!(talk.node.offers().len(), 1);
        talk.node.have_shortcuts(&[]);
        // The server acknowledges all that the client sends past the data path.
        for _ in 0..1000 {
            talk.pass_unseen(4 << 20, 0);
            talk.server_says("A", 100);
        }
        talk.is_dropped(talk.client_segment("R", talk.client.wrapping_add(1 << 30), 0));
        talk.expect("established");
        talk.client_says("FA", 0);
        talk.expect("fin-wait");
        talk.server_says("FA", 0);
        talk.expect("time-wait");
    }
}

#[test]
fn where_one_direction_is_offered_its_reset_behind_what_is_not_acknowledged_closes() {
    for mut talk in talks(true) {
        talk.node.have_shortcuts(&[A, B]);
        (0..8).for_each(|_| talk.client_says("A", 10));
        talk.node.have_shortcuts(&[]);
        talk.server_says("A", 0);
        talk.pass_unseen(1000, 0);
        talk.client_says("R", 0);
        talk.expect("close");
    }
}

#[test]
fn a_syn_after_the_end_begins_a_connection_that_is_not_offered_yet() {
    for ends in ["FA", "RA"] {
        for mut talk in talks(true) {
            talk.is_offered();
            talk.pass_unseen(3 << 30, 3 << 30);
            talk.client_says(ends, 0);
            talk.server_says(ends, 0);
            talk.node.have_shortcuts(&[]);
            (talk.client, talk.server) = (77, 0);
            talk.open();
            assert!(!talk.node.is_shortened(&talk.there()) && !talk.node.is_shortened(&talk.back()));
            talk.is_dropped(talk.client_segment("R", talk.client.wrapping_add(1 << 30), 0));
            talk.is_offered();
        }
    }
}

#[test]
fn packets_that_still_come_after_an_offer_keep_the_flow() {
    for net in families() {
        let mut node = Node::new();
        node.have_shortcuts(&[A, B]);
        let packet = Packet::new(A, net.a, net.vip, UDP, (1000, 80));
        node.forward(&packet, 9);
        assert_eq!(node.offers().len(), 1);
        for _ in 0..20 {
            node.now.0 += 25_000_000_000;
            node.forward(&packet, 1);
            assert_eq!(node.entry(&to_service(&net, UDP)[0]), (true, node.now.ticks()));
        }
        assert_eq!(node.flows(), 2);
        node.expect(Resolved, 1);
        node.expect(Established, 28);
        node.check(&[]);
    }
    for mut talk in talks(true) {
        talk.is_offered();
        talk.node.now.0 += 300_000_000_000_000;
        talk.pass_unseen(3 << 30, 3 << 30);
        talk.client_says("A", 10);
        assert_eq!(talk.node.entry(&talk.there()), (true, talk.node.now.ticks()));
        talk.node.now.0 += 300_000_000_000_000;
        talk.pass_unseen(3 << 30, 3 << 30);
        talk.server_says("A", 10);
        assert_eq!(talk.node.entry(&talk.back()), (true, talk.node.now.ticks()));
        talk.expect("established");
        assert_eq!(talk.node.flows(), 2);
    }
}
