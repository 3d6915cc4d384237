use super::*;
use proptest::prelude::*;

const FAR: u32 = 1 << 29;

fn segment(flags: &str, sequence: u32, len: u32, acknowledgment: u32) -> TcpSegment {
    let bits = flags.chars().map(|flag| match flag {
        'F' => Flags::FIN,
        'S' => Flags::SYN,
        'R' => Flags::RST,
        'A' => Flags::ACK,
        _ => panic!("{flag}"),
    });
    let flags = bits.fold(Flags(0), |all, one| all | one);
    let counted = u32::from(flags.contains(Flags::SYN)) + u32::from(flags.contains(Flags::FIN));
    let end = sequence.wrapping_add(len).wrapping_add(counted);
    TcpSegment { sequence, end, acknowledgment, window: 1000, flags, scale: None }
}

/// As the pipeline does it.
fn feed(own: &mut TcpSide, peer: &TcpSide, segment: &TcpSegment) -> Judgment {
    if let Some(side) = own.after_ordinary(segment) {
        *own = side;
        return Judgment::Valid;
    }
    let judgment = own.judge(peer, segment);
    if judgment == Judgment::Valid {
        *own = own.after(peer, segment);
    }
    judgment
}

/// Both sides after a handshake; the client has sent up to 101, the server up to 501.
fn established() -> (TcpSide, TcpSide) {
    let (mut client, mut server) = (TcpSide::default(), TcpSide::default());
    feed(&mut client, &server, &segment("S", 100, 0, 0));
    feed(&mut server, &client, &segment("SA", 500, 0, 101));
    feed(&mut client, &server, &segment("A", 101, 0, 501));
    feed(&mut server, &client, &segment("A", 501, 0, 101));
    assert_eq!(TcpState::of(client.seen, server.seen), TcpState::Established);
    (client, server)
}

#[test]
fn a_handshake_leaves_both_ends_and_windows() {
    let (client, server) = established();
    assert_eq!((client.end, client.acknowledged, client.edge), (101, 501, 1501));
    assert_eq!((server.end, server.acknowledged, server.edge), (501, 101, 1101));
}

#[test]
fn a_segment_is_read_from_its_header() {
    let mut header = [0; 24];
    header[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    header[8..12].copy_from_slice(&7_u32.to_be_bytes());
    header[12..16].copy_from_slice(&[6 << 4, Flags::SYN.0 | Flags::FIN.0, 1, 2]);
    header[20..].copy_from_slice(&[1, 3, 3, 9]);
    let read = TcpSegment::parse(&header, 24 + 100).unwrap();
    assert_eq!((read.sequence, read.end, read.acknowledgment, read.window), (u32::MAX, 101, 7, 0x102));
    assert_eq!(read.scale, Some(9));
    header[13] = Flags::ACK.0;
    let read = TcpSegment::parse(&header, 24).unwrap();
    assert_eq!((read.end, read.scale), (u32::MAX, None), "only a SYN's options count");
    assert_eq!(TcpSegment::parse(&header[..15], 24), None);
}

#[test]
fn a_window_is_scaled_when_both_syns_say_so_and_never_in_a_syn() {
    for (client_scale, server_scale, factor) in [(Some(7), Some(2), 128), (Some(7), None, 1), (None, None, 1)]
    {
        let (mut client, mut server) = (TcpSide::default(), TcpSide::default());
        feed(&mut client, &server, &TcpSegment { scale: client_scale, ..segment("S", 100, 0, 0) });
        feed(&mut server, &client, &TcpSegment { scale: server_scale, ..segment("SA", 500, 0, 101) });
        assert_eq!(server.edge, 101 + 1000);
        feed(&mut client, &server, &segment("A", 101, 0, 501));
        assert_eq!(client.edge, 501 + 1000 * factor, "{client_scale:?} {server_scale:?}");
    }
}

#[test]
fn a_connection_met_in_the_middle_has_the_largest_scale() {
    let mut client = TcpSide::default();
    assert_eq!(feed(&mut client, &TcpSide::default(), &segment("A", 10, 5, 20)), Judgment::Valid);
    assert_eq!((client.end, client.acknowledged, client.edge), (15, 20, 20 + (1000 << 14)));
}

#[test]
fn a_reset_needs_the_right_number() {
    let (client, server) = established();
    let of_server = |sequence| server.judge(&client, &segment("R", sequence, 0, 0));
    assert_eq!(of_server(501), Judgment::Valid, "what the client waits for");
    assert_eq!(of_server(500), Judgment::Invalid);
    assert_eq!(of_server(502), Judgment::Ignored, "the client answers with an ACK");
    assert_eq!(of_server(1501), Judgment::Ignored, "the window's edge");
    assert_eq!(of_server(1502), Judgment::Invalid);
    assert_eq!(of_server(0), Judgment::Invalid);
    let mut ahead = server;
    assert_eq!(feed(&mut ahead, &client, &segment("A", 501, 300, 101)), Judgment::Valid);
    assert_eq!(ahead.judge(&client, &segment("R", 801, 0, 0)), Judgment::Valid, "follows its data");
    assert_eq!(ahead.judge(&client, &segment("RA", 501, 0, 101)), Judgment::Valid);
}

#[test]
fn a_reset_that_answers_a_syn_acknowledges_it() {
    let mut client = TcpSide::default();
    feed(&mut client, &TcpSide::default(), &segment("S", 100, 20, 0));
    let judge = |flags, ack| TcpSide::default().judge(&client, &segment(flags, 0, 0, ack));
    assert_eq!(judge("RA", 121), Judgment::Valid);
    assert_eq!(judge("RA", 101), Judgment::Valid, "the data of the SYN was not taken");
    assert_eq!(judge("RA", 100), Judgment::Invalid);
    assert_eq!(judge("RA", 122), Judgment::Invalid);
    assert_eq!(judge("R", 121), Judgment::Invalid);
    // The client itself may give up.
    assert_eq!(client.judge(&TcpSide::default(), &segment("R", 121, 0, 0)), Judgment::Valid);
}

#[test]
fn a_fin_counts_only_within_the_window() {
    let (client, server) = established();
    let of_client = |sequence, len| client.judge(&server, &segment("FA", sequence, len, 501));
    assert_eq!(of_client(101, 0), Judgment::Valid);
    assert_eq!(of_client(51, 50), Judgment::Valid, "the data was acknowledged, the FIN was not");
    assert_eq!(of_client(1101, 0), Judgment::Valid);
    assert_eq!(of_client(1102, 0), Judgment::Ignored);
    assert_eq!(of_client(99, 0), Judgment::Ignored);
}

#[test]
fn what_cannot_be_true_is_forwarded_and_leaves_no_trace() {
    let (client, server) = established();
    for (flags, sequence, ack) in [
        ("A", FAR, 501),
        ("A", 101_u32.wrapping_sub(FAR), 501),
        ("A", 101, FAR),
        ("A", 101, 501_u32.wrapping_sub(FAR << 2)),
        ("FA", FAR, FAR),
        ("SA", 9, 501),
        ("F", 101, 0),
        ("", 101, 0),
    ] {
        let mut injected = client;
        let judgment = feed(&mut injected, &server, &segment(flags, sequence, 0, ack));
        let unmoved = injected.end == client.end && injected.acknowledged == client.acknowledged;
        assert!(
            judgment.goes_on() && unmoved && injected.seen == client.seen,
            "{flags} {sequence} {ack}: {injected:?}"
        );
    }
}

#[test]
fn an_acknowledgment_of_what_was_not_sent_does_not_lock_a_reset_out() {
    let (mut client, mut server) = established();
    assert_eq!(
        feed(&mut client, &server, &segment("A", 101, 0, 501 + 100_000)),
        Judgment::Valid,
        "near enough"
    );
    assert_eq!(feed(&mut server, &client, &segment("R", 501, 0, 0)), Judgment::Valid);
}

#[test]
fn a_syn_in_the_middle_of_a_connection_changes_nothing() {
    let (mut client, mut server) = established();
    feed(&mut client, &server, &segment("S", FAR, 0, 0));
    assert_eq!(TcpState::of(client.seen, server.seen), TcpState::Established);
    let answer = segment("RA", 0, 0, FAR + 1);
    assert_eq!(server.judge(&client, &answer), Judgment::Ignored, "the receiver knows if it asked");
    assert_eq!(server.judge(&client, &segment("RA", 0, 0, FAR)), Judgment::Invalid);
    assert_eq!(feed(&mut client, &server, &segment("A", 101, 50, 501)), Judgment::Valid);
    assert_eq!((client.end, client.acknowledged), (151, 501));
    assert_eq!(feed(&mut server, &client, &segment("A", 501, 50, 151)), Judgment::Valid);
    assert_eq!(feed(&mut client, &server, &segment("R", 151, 0, 0)), Judgment::Valid);
}

#[test]
fn syns_injected_on_both_sides_at_once_change_nothing() {
    let (mut client, mut server) = established();
    feed(&mut client, &server, &segment("S", FAR, 0, 0));
    feed(&mut server, &client, &segment("S", FAR, 0, 0));
    assert_eq!(feed(&mut client, &server, &segment("A", 101, 50, 501)), Judgment::Valid);
    assert_eq!(feed(&mut server, &client, &segment("A", 501, 50, 151)), Judgment::Valid);
    assert_eq!((client.end, client.acknowledged, server.end, server.acknowledged), (151, 501, 551, 151));
    assert_eq!(client.judge(&server, &segment("R", 150, 0, 0)), Judgment::Invalid);
}

#[test]
fn a_syn_that_the_peer_answers_begins_the_connection_anew() {
    let (mut client, mut server) = established();
    feed(&mut client, &server, &segment("FA", 101, 0, 501));
    feed(&mut client, &server, &segment("S", FAR, 0, 0));
    assert_eq!(server.judge(&client, &segment("SA", 3 * FAR, 0, 7)), Judgment::Ignored);
    assert_eq!(feed(&mut server, &client, &segment("SA", 3 * FAR, 0, FAR + 1)), Judgment::Valid);
    assert_eq!(feed(&mut client, &server, &segment("A", FAR + 1, 0, 3 * FAR + 1)), Judgment::Valid);
    assert_eq!(TcpState::of(client.seen, server.seen), TcpState::Established);
    assert_eq!((client.end, server.end), (FAR + 1, 3 * FAR + 1));
    assert_eq!(feed(&mut client, &server, &segment("R", FAR + 1, 0, 0)), Judgment::Valid);
}

#[test]
fn a_straggler_of_an_earlier_connection_is_not_taken_for_an_answer() {
    let (mut client, mut server) = (TcpSide::default(), TcpSide::default());
    feed(&mut client, &server, &segment("S", 100, 0, 0));
    assert_eq!(feed(&mut server, &client, &segment("A", 900, 0, 99)), Judgment::Ignored);
    assert_eq!(feed(&mut server, &client, &segment("SA", FAR, 0, 101)), Judgment::Valid);
    assert_eq!(server.end, FAR + 1);
}

#[test]
fn numbers_that_the_peer_contradicts_are_replaced() {
    // Met in the middle by an injected segment.
    let (mut client, mut server) = (TcpSide::default(), TcpSide::default());
    feed(&mut client, &server, &segment("A", 2 * FAR, 0, 3 * FAR));
    assert_eq!(feed(&mut server, &client, &segment("A", 501, 0, 101)), Judgment::Ignored);
    assert_eq!(feed(&mut client, &server, &segment("A", 101, 0, 501)), Judgment::Valid);
    assert_eq!(client.end, 101);
    assert_eq!(feed(&mut server, &client, &segment("A", 501, 0, 101)), Judgment::Valid);
    // The other way round: what was injected came second.
    let mut wild = TcpSide { end: FAR * 3, acknowledged: FAR * 3, edge: FAR * 3, ..client };
    assert_eq!(feed(&mut wild, &server, &segment("A", 101, 10, 501)), Judgment::Valid);
    assert_eq!((wild.end, wild.acknowledged), (111, 501));
}

#[test]
fn after_the_end_a_syn_opens_anew_and_a_reset_changes_nothing() {
    let (mut client, mut server) = established();
    feed(&mut client, &server, &segment("FA", 101, 0, 501));
    feed(&mut server, &client, &segment("FA", 501, 0, 102));
    assert_eq!(TcpState::of(client.seen, server.seen), TcpState::TimeWait);
    assert_eq!(server.judge(&client, &segment("R", 9, 0, 0)), Judgment::Ignored);
    assert_eq!(client.judge(&server, &segment("S", 9, 0, 0)), Judgment::OpensAnew);
    assert_eq!(client.judge(&server, &segment("SA", 9, 0, 0)), Judgment::Ignored);
}

/// One end of a connection whose numbers do not wrap: the slow, obvious reference.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Where its sequence numbers begin.
    initial: u32,
    sent: u64,
    received: u64,
    /// Its own window's highest edge, counted as the other's bytes.
    edge: u64,
    window: u16,
    scale: u8,
}

impl End {
    fn number(&self, byte: u64) -> u32 {
        self.initial.wrapping_add(byte as u32)
    }

    /// A segment with `len` bytes of data from `byte` on.
    fn emit(&mut self, flags: &str, byte: u64, len: u64, peer: &End) -> TcpSegment {
        let counted = flags.chars().filter(|flag| matches!(flag, 'S' | 'F')).count() as u64;
        self.sent = self.sent.max(byte + len + counted);
        let scaled = u64::from(self.window) << if flags.contains('S') { 0 } else { self.scale };
        if flags.contains('A') {
            self.edge = self.edge.max(self.received + scaled);
        }
        let offered = flags.contains('S').then_some(self.scale);
        let mut made = segment(flags, self.number(byte), len as u32, peer.number(self.received));
        (made.window, made.scale) = (self.window, offered);
        made
    }
}

fn end() -> impl Strategy<Value = End> {
    (any::<u32>(), 1000_u16.., 0..=7_u8).prop_map(|(initial, window, scale)| End {
        initial,
        sent: 0,
        received: 0,
        edge: 0,
        window,
        scale,
    })
}

/// A side, how much it sends, whether that arrives in two parts and the second before the first, and what is injected
/// after it as if by the same side: flags and how far off its numbers are.
type Turn = (bool, u64, bool, Option<(&'static str, u32, u32)>);

fn turn() -> impl Strategy<Value = Turn> {
    let injected = (
        prop_oneof![Just("A"), Just("FA"), Just("R"), Just("RA"), Just("S"), Just("SA"), Just("")],
        3 * NEAR..u32::MAX - 3 * NEAR,
        3 * NEAR..u32::MAX - 3 * NEAR,
    );
    (any::<bool>(), 0..60_000_u64, any::<bool>(), proptest::option::of(injected))
}

proptest! {
    /// Whatever is injected far from the truth, the state is that of the real segments, no real one is dropped, and the
    /// numbers are those of the reference, wherever they begin and wrap.
    #[test]
    fn a_connection_is_followed_through_injections(
        ends in [end(), end()],
        turns in proptest::collection::vec(turn(), 0..40),
        reset: bool,
        last: bool,
    ) {
        let mut ends = ends;
        let mut sides = [TcpSide::default(); 2];
        let send = |sides: &mut [TcpSide; 2], from: usize, segment: &TcpSegment| {
            let peer = sides[1 - from];
            feed(&mut sides[from], &peer, segment)
        };
        for (from, flags, len) in [(0, "S", 0), (1, "SA", 0), (0, "A", 0), (1, "A", 1)] {
            let (peer, byte) = (ends[1 - from], ends[from].sent);
            ends[from].received = peer.sent;
            let made = ends[from].emit(flags, byte, len, &peer);
            prop_assert_eq!(send(&mut sides, from, &made), Judgment::Valid);
        }
        for (second, len, reordered, injected) in turns {
            let from = usize::from(second);
            let peer = ends[1 - from];
            let byte = ends[from].sent;
            let len = len.min((peer.edge).saturating_sub(byte));
            ends[from].received = peer.sent;
            let parts = if reordered { vec![(byte + len / 2, len - len / 2), (byte, len / 2)] } else { vec![(byte, len)] };
            for (byte, len) in parts {
                let made = ends[from].emit("A", byte, len, &peer);
                prop_assert_eq!(send(&mut sides, from, &made), Judgment::Valid);
            }
            let own = ends[from];
            prop_assert_eq!(sides[from].end, own.number(own.sent));
            prop_assert_eq!(sides[from].acknowledged, peer.number(own.received));
            prop_assert_eq!(sides[from].edge, peer.number(own.edge));
            if let Some((flags, off, ack_off)) = injected {
                let sequence = own.number(own.sent).wrapping_add(off);
                let wild = segment(flags, sequence, 10, peer.number(own.received).wrapping_add(ack_off));
                send(&mut sides, from, &wild);
            }
            prop_assert_eq!(TcpState::of(sides[0].seen, sides[1].seen), TcpState::Established);
        }
        let order = if last { [0, 1] } else { [1, 0] };
        for from in order {
            // Both have something to say first, so that what was injected last is corrected.
            let (peer, byte) = (ends[1 - from], ends[from].sent);
            ends[from].received = peer.sent;
            let made = ends[from].emit("A", byte, 0, &peer);
            prop_assert!(send(&mut sides, from, &made).goes_on());
        }
        for from in order {
            let (peer, byte) = (ends[1 - from], ends[from].sent);
            ends[from].received = peer.sent;
            let made = ends[from].emit(if reset { "RA" } else { "FA" }, byte, 0, &peer);
            let wanted = if reset && from != order[0] { Judgment::Ignored } else { Judgment::Valid };
            prop_assert_eq!(send(&mut sides, from, &made), wanted);
        }
        let state = if reset { TcpState::Close } else { TcpState::TimeWait };
        prop_assert_eq!(TcpState::of(sides[0].seen, sides[1].seen), state);
    }

    /// Moving one side's numbers by any distance moves what is known by the same, and no judgment.
    #[test]
    fn nothing_depends_on_where_numbers_begin(
        shift: (u32, u32),
        steps in proptest::collection::vec((any::<bool>(), 0..7_usize, any::<(u32, u32)>(), any::<bool>()), 1..30),
    ) {
        let mut plain = [TcpSide::default(); 2];
        let mut moved = plain;
        let shifts = [shift.0, shift.1];
        for (second, flags, (sequence, ack), near) in steps {
            let from = usize::from(second);
            let flags = ["S", "SA", "A", "FA", "RA", "A", "R"][flags];
            let (sequence, ack) = if near { (sequence >> 18, ack >> 18) } else { (sequence, ack) };
            let one = segment(flags, sequence, 10, ack);
            let other = segment(flags, sequence.wrapping_add(shifts[from]), 10, ack.wrapping_add(shifts[1 - from]));
            let peers = (plain[1 - from], moved[1 - from]);
            let judgments = (feed(&mut plain[from], &peers.0, &one), feed(&mut moved[from], &peers.1, &other));
            prop_assert_eq!(judgments.0, judgments.1);
            for side in 0..2 {
                let (a, b) = (plain[side], moved[side]);
                prop_assert_eq!((a.seen, a.known), (b.seen, b.known));
                if a.knows(SENT) {
                    prop_assert_eq!(a.end.wrapping_add(shifts[side]), b.end);
                    let acknowledged = if a.knows(ACKED) { shifts[1 - side] } else { shifts[side] };
                    prop_assert_eq!(a.acknowledged.wrapping_add(acknowledged), b.acknowledged);
                    prop_assert_eq!(a.edge.wrapping_add(acknowledged), b.edge);
                }
            }
        }
    }

    #[test]
    fn comparisons_agree_with_whole_numbers(base: u32, a in 0..1_u64 << 31, b in 0..1_u64 << 31, c in 0..1_u64 << 31) {
        let number = |value: u64| base.wrapping_add(value as u32);
        prop_assert_eq!(is_after(number(a), number(b)), a > b);
        prop_assert_eq!(later(number(a), number(b)), number(a.max(b)));
        let (first, last) = (b.min(c), b.max(c));
        prop_assert_eq!(is_within(number(a), number(first), number(last)), (first..=last).contains(&a));
    }
}
