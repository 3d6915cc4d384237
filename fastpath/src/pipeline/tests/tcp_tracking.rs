//! TCP connections and SCTP associations to the service, followed by their numbers and tags.
//!
//! ```text
//!   pod A, port 1000 ─► service, port 80 ─► pod B, port 8080
//!   client: sequence numbers from CLIENT     server: from SERVER, both wrap on their way
//! ```

use super::fixture::*;
use crate::pipeline::WorkerCounter::*;
use crate::port::{BufferFrame, Checksum, DropReason, Gso, GsoKind, Offload};
use crate::wire::sctp::chunk;

const CLIENT: u32 = u32::MAX - 5;
const SERVER: u32 = u32::MAX - 50;

/// A client and a server, and how much each has sent.
pub(super) struct Talk {
    pub(super) net: Net,
    pub(super) node: Node,
    pub(super) client: u32,
    pub(super) server: u32,
    scale: Option<u8>,
}

/// One talk in each family; `established` says whether the handshake is over.
pub(super) fn talks(established: bool) -> impl Iterator<Item = Talk> {
    families().into_iter().map(move |net| {
        let mut talk = Talk { net, node: Node::new(), client: CLIENT, server: SERVER, scale: None };
        if established {
            talk.open();
        }
        talk
    })
}

impl Talk {
    pub(super) fn client_segment(&self, flags: &'static str, seq: u32, ack: u32) -> Packet {
        let packet = Packet::new(A, self.net.a, self.net.vip, TCP, (1000, 80));
        self.numbered(packet, flags, seq, ack)
    }

    pub(super) fn server_segment(&self, flags: &'static str, seq: u32, ack: u32) -> Packet {
        let packet = Packet::new(B, self.net.b, self.net.a, TCP, (8080, 1000));
        self.numbered(packet, flags, seq, ack)
    }

    fn numbered(&self, packet: Packet, flags: &'static str, seq: u32, ack: u32) -> Packet {
        let scale = self.scale.filter(|_| flags.contains('S'));
        Packet { flags, seq, ack, payload: 0, scale, ..packet }
    }

    /// The next segment of the client with so much data.
    pub(super) fn client_says(&mut self, flags: &'static str, payload: usize) {
        let packet = Packet { payload, ..self.client_segment(flags, self.client, self.server) };
        self.client = self.client.wrapping_add(payload as u32 + u32::from(flags.contains(['S', 'F'])));
        self.reaches_server(packet);
    }

    /// The next segment of the server with so much data.
    pub(super) fn server_says(&mut self, flags: &'static str, payload: usize) {
        let packet = Packet { payload, ..self.server_segment(flags, self.server, self.client) };
        self.server = self.server.wrapping_add(payload as u32 + u32::from(flags.contains(['S', 'F'])));
        self.reaches_client(packet);
    }

    pub(super) fn open(&mut self) {
        self.client_says("S", 0);
        self.server_says("SA", 0);
        self.client_says("A", 0);
        self.server_says("A", 10);
        self.expect("established");
    }

    /// Sends what arrives at the server, translated.
    pub(super) fn reaches_server(&mut self, packet: Packet) {
        let (port, frame) = self.node.run(A, packet.frame()).expect("forwarded");
        let seen = see(&frame);
        assert_eq!((port, seen.destination, seen.ports), (B, self.net.b, (1000, 8080)));
    }

    /// Sends what arrives at the client, translated.
    pub(super) fn reaches_client(&mut self, packet: Packet) {
        let (port, frame) = self.node.run(B, packet.frame()).expect("forwarded");
        let seen = see(&frame);
        assert_eq!((port, seen.source, seen.ports), (A, self.net.vip, (80, 1000)));
    }

    pub(super) fn is_dropped(&mut self, packet: Packet) {
        let before = self.node.sink.dropped.len();
        assert!(self.node.run(packet.from, packet.frame()).is_none(), "{packet:?}");
        assert_eq!(self.node.sink.dropped[before..], [DropReason::FlowInvalid]);
    }

    #[track_caller]
    pub(super) fn expect(&self, state: &str) {
        let flows = self.node.pipeline.tracker().table().flows(self.node.now.ticks());
        let states: Vec<&str> = flows.map(|flow| flow.state.name()).collect();
        assert_eq!(states, [state; 2]);
    }
}

#[test]
fn a_connection_goes_from_syn_to_time_wait_past_the_end_of_its_numbers() {
    for mut talk in talks(false) {
        talk.client_says("S", 0);
        talk.expect("syn-sent");
        talk.server_says("SA", 0);
        talk.expect("syn-received");
        talk.client_says("A", 0);
        talk.expect("established");
        for _ in 0..10 {
            talk.client_says("A", 100);
            talk.server_says("A", 1000);
        }
        assert!(talk.client < CLIENT && talk.server < SERVER, "both have wrapped");
        talk.expect("established");
        talk.client_says("FA", 3);
        talk.expect("fin-wait");
        talk.server_says("A", 100);
        talk.server_says("FA", 0);
        talk.expect("time-wait");
        talk.client_says("A", 0);
        talk.expect("time-wait");
        talk.node.expect(Resolved, 1);
        talk.node.expect(Established, 26);
        talk.node.check(&[]);
    }
}

#[test]
fn a_reset_outside_the_window_is_dropped_and_the_connection_lives() {
    for mut talk in talks(true) {
        let (client, server) = (talk.client, talk.server);
        for seq in
            [client.wrapping_sub(1), client.wrapping_sub(100_000), client.wrapping_add(4001), 0x5000_0000]
        {
            talk.is_dropped(talk.client_segment("R", seq, 0));
            talk.is_dropped(talk.client_segment("RA", seq, server));
        }
        for seq in [server.wrapping_sub(100_000), server.wrapping_add(4001)] {
            talk.is_dropped(talk.server_segment("RA", seq, client));
        }
        talk.expect("established");
        talk.client_says("A", 100);
        talk.server_says("A", 100);
        talk.expect("established");
        talk.node.expect(Resolved, 1 + 10);
        talk.node.expect(Established, 3 + 2);
        talk.node.check(&[DropReason::FlowInvalid; 10]);
    }
}

#[test]
fn a_reset_with_the_number_that_is_awaited_closes_from_either_side() {
    for by_client in [true, false] {
        for mut talk in talks(true) {
            match by_client {
                true => talk.client_says("R", 0),
                false => talk.server_says("RA", 0),
            }
            talk.expect("close");
        }
    }
}

#[test]
fn a_reset_that_follows_data_in_flight_closes() {
    for mut talk in talks(true) {
        talk.client_says("A", 1000);
        talk.client_says("RA", 0);
        talk.expect("close");
    }
}

#[test]
fn a_reset_that_its_receiver_questions_is_forwarded_and_the_connection_lives_until_the_right_one() {
    for mut talk in talks(true) {
        talk.reaches_server(talk.client_segment("R", talk.client.wrapping_add(7), 0));
        talk.expect("established");
        // The server's challenge (RFC 5961, section 3.2), and the answer of a client that knows nothing any more.
        talk.server_says("A", 0);
        talk.client_says("R", 0);
        talk.expect("close");
    }
}

#[test]
fn a_closed_port_answers_a_syn_by_a_reset_and_only_with_its_number() {
    for mut talk in talks(false) {
        talk.client_says("S", 0);
        talk.is_dropped(talk.server_segment("RA", 0, talk.client.wrapping_add(1)));
        talk.is_dropped(talk.server_segment("R", 0, 0));
        talk.expect("syn-sent");
        talk.reaches_client(talk.server_segment("RA", 0, talk.client));
        talk.expect("close");
        talk.client_says("S", 0);
        talk.expect("syn-sent");
    }
}

#[test]
fn a_reset_of_nothing_begins_no_flow() {
    for mut talk in talks(false) {
        talk.is_dropped(talk.client_segment("RA", 1, 1));
        assert_eq!(talk.node.flows(), 0);
    }
}

/// What Kubernetes' conformance test "should resolve connection reset issue #74839" sends: data from below the window.
#[test]
fn a_segment_from_outside_the_window_reaches_the_client_translated_and_harms_nothing() {
    for mut talk in talks(true) {
        let (client, server) = (talk.client, talk.server);
        for seq in [server.wrapping_sub(100_000), server.wrapping_add(1 << 30), server.wrapping_add(1 << 31)]
        {
            let injected = Packet { payload: 20, ..talk.server_segment("A", seq, client) };
            talk.reaches_client(injected);
            talk.reaches_client(talk.server_segment("FA", seq, client));
        }
        talk.expect("established");
        talk.is_dropped(talk.client_segment("R", client.wrapping_sub(100_000), server));
        talk.client_says("A", 10);
        talk.server_says("A", 10);
        talk.expect("established");
        talk.server_says("RA", 0);
        talk.expect("close");
    }
}

#[test]
fn injected_segments_do_not_poison_the_window() {
    for mut talk in talks(true) {
        let (client, server) = (talk.client, talk.server);
        for far in [1 << 24, 1 << 28, 1 << 30, 1 << 31, 3 << 30, 0_u32.wrapping_sub(1 << 24)] {
            talk.reaches_server(talk.client_segment("A", client.wrapping_add(far), server));
            talk.reaches_server(talk.client_segment("A", client, server.wrapping_add(far)));
            talk.reaches_server(talk.client_segment(
                "FA",
                client.wrapping_add(far),
                server.wrapping_add(far),
            ));
            talk.reaches_server(talk.client_segment("S", client.wrapping_add(far), 0));
            talk.reaches_client(talk.server_segment("SA", far, client.wrapping_add(1)));
            talk.expect("established");
            talk.is_dropped(talk.server_segment("R", server.wrapping_add(far), 0));
        }
        talk.client_says("A", 10);
        talk.server_says("FA", 10);
        talk.expect("fin-wait");
        talk.client_says("RA", 0);
        talk.expect("close");
    }
}

#[test]
fn windows_are_scaled() {
    for scale in [None, Some(0), Some(3), Some(7)] {
        for mut talk in talks(false) {
            talk.scale = scale;
            talk.open();
            let edge = talk.client.wrapping_add(4000 << scale.unwrap_or(0));
            talk.is_dropped(talk.client_segment("R", edge.wrapping_add(1), 0));
            talk.reaches_server(talk.client_segment("R", edge, 0));
            talk.reaches_server(talk.client_segment("FA", edge.wrapping_add(1), talk.server));
            talk.expect("established");
            talk.reaches_server(talk.client_segment("FA", edge, talk.server));
            talk.expect("fin-wait");
        }
    }
}

#[test]
fn a_connection_met_in_the_middle_is_followed_from_there() {
    for mut talk in talks(false) {
        talk.client_says("A", 100);
        talk.expect("unacknowledged");
        talk.server_says("A", 100);
        talk.expect("established");
        // Its scale was not seen: the largest is assumed.
        talk.reaches_server(talk.client_segment("R", talk.client.wrapping_add(4000 << 14), 0));
        talk.expect("established");
        talk.is_dropped(talk.client_segment("R", talk.client.wrapping_add((4000 << 14) + 1), 0));
        talk.client_says("FA", 0);
        talk.server_says("FA", 0);
        talk.expect("time-wait");
    }
}

#[test]
fn a_syn_begins_another_connection_only_after_the_end() {
    for mut talk in talks(true) {
        talk.reaches_server(talk.client_segment("S", 77, 0));
        talk.expect("established");
        talk.client_says("FA", 0);
        talk.reaches_server(talk.client_segment("S", 77, 0));
        talk.expect("fin-wait");
        talk.server_says("FA", 0);
        talk.expect("time-wait");
        (talk.client, talk.server) = (77, 0);
        talk.open();
    }
}

#[test]
fn both_begin_anew_when_the_server_answers_a_syn_that_was_not_expected() {
    for mut talk in talks(true) {
        (talk.client, talk.server) = (0x4000_0000, 0x2000_0000);
        talk.client_says("S", 0);
        talk.expect("established");
        talk.server_says("SA", 0);
        talk.client_says("A", 0);
        talk.server_says("A", 100);
        talk.expect("established");
        talk.client_says("A", 1);
        talk.server_says("RA", 0);
        talk.expect("close");
    }
}

#[test]
fn a_gso_frame_counts_whole() {
    for mut talk in talks(true) {
        let packet = Packet { payload: 3900, ..talk.client_segment("A", talk.client, talk.server) };
        let (kind, start) = match talk.net.a.is_ipv4() {
            true => (GsoKind::TcpV4, 34),
            false => (GsoKind::TcpV6, 54),
        };
        let checksum = Checksum::Partial { start, offset: 16 };
        let offload = Offload { checksum, gso: Some(Gso { kind, size: 1400 }), outer: 0 };
        assert!(talk.node.run(A, BufferFrame::with_offload(&packet.bytes(), offload)).is_some());
        talk.client = talk.client.wrapping_add(3900);
        talk.client_says("RA", 0);
        talk.expect("close");
    }
}

/// SCTP packets of the client (tag 22) and the server (tag 11).
pub(super) fn sctp(net: &Net, by_client: bool, kind: u8, tag: u32) -> Packet {
    let packet = match by_client {
        true => Packet::new(A, net.a, net.vip, SCTP, (1000, 80)),
        false => Packet::new(B, net.b, net.a, SCTP, (8080, 1000)),
    };
    let initiate = match kind {
        chunk::INIT => Some(11),
        chunk::INIT_ACK => Some(22),
        _ => None,
    };
    Packet { chunk: (kind, 0), tag, initiate, payload: 16, ..packet }
}

#[test]
fn an_association_is_followed_from_init_to_shutdown_and_opened_anew() {
    for mut talk in talks(false) {
        for round in 0..2 {
            for (by_client, kind, tag, state) in [
                (true, chunk::INIT, 0, "opening"),
                (false, chunk::INIT_ACK, 11, "opening"),
                (true, chunk::COOKIE_ECHO, 22, "opening"),
                (false, chunk::COOKIE_ACK, 11, "established"),
                (true, chunk::DATA, 22, "established"),
                (true, chunk::INIT, 0, "established"),
                (false, chunk::ABORT, 12, "established"),
                (true, chunk::SHUTDOWN, 22, "shutdown"),
                (false, chunk::SHUTDOWN_ACK, 11, "shutdown"),
                (true, chunk::SHUTDOWN_COMPLETE, 22, "closed"),
            ] {
                let packet = sctp(&talk.net, by_client, kind, tag);
                match by_client {
                    true => talk.reaches_server(packet),
                    false => talk.reaches_client(packet),
                }
                talk.expect(state);
            }
            // Both INITs ask whether the endpoint serves.
            talk.node.expect(Resolved, 2);
            talk.node.expect(Established, 8);
            talk.node.check(&[]);
            assert_eq!(talk.node.flows(), 2, "round {round}");
        }
    }
}

#[test]
fn an_abort_with_the_right_tag_closes_an_association_and_begins_none() {
    for mut talk in talks(false) {
        talk.is_dropped(sctp(&talk.net, true, chunk::ABORT, 22));
        talk.reaches_server(sctp(&talk.net, true, chunk::INIT, 0));
        talk.reaches_client(sctp(&talk.net, false, chunk::ABORT, 11));
        talk.expect("closed");
    }
}
