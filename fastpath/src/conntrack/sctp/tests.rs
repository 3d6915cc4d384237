use super::*;
use proptest::prelude::*;

fn packet(kind: u8, tag: u32) -> SctpPacket {
    SctpPacket { tag, kind, reflected: false, initiate: 0 }
}

fn feed(own: &mut SctpSide, peer: &SctpSide, packet: &SctpPacket) -> Judgment {
    if own.is_ordinary(packet) {
        assert_eq!((own.judge(peer, packet), own.after(packet)), (Judgment::Valid, *own), "nothing new");
        return Judgment::Valid;
    }
    let judgment = own.judge(peer, packet);
    if judgment == Judgment::Valid {
        *own = own.after(packet);
    }
    judgment
}

/// Both sides after the handshake: the client's packets have tag 22, the server's 11.
fn established() -> [SctpSide; 2] {
    let [mut client, mut server] = [SctpSide::default(); 2];
    let mut states = Vec::new();
    for (from_client, packet) in [
        (true, SctpPacket { initiate: 11, ..packet(chunk::INIT, 0) }),
        (false, SctpPacket { initiate: 22, ..packet(chunk::INIT_ACK, 11) }),
        (true, packet(chunk::COOKIE_ECHO, 22)),
        (false, packet(chunk::COOKIE_ACK, 11)),
    ] {
        let judgment = if from_client {
            feed(&mut client, &server, &packet)
        } else {
            feed(&mut server, &client, &packet)
        };
        assert_eq!(judgment, Judgment::Valid);
        states.push(SctpState::of(client.seen, server.seen));
    }
    assert_eq!(states[..3], [SctpState::Opening; 3]);
    assert_eq!(states[3], SctpState::Established);
    [client, server]
}

#[test]
fn a_packet_is_read_from_its_headers() {
    let mut bytes = [0; 20];
    bytes[4..8].copy_from_slice(&5_u32.to_be_bytes());
    bytes[12..14].copy_from_slice(&[chunk::INIT_ACK, 1]);
    bytes[16..].copy_from_slice(&9_u32.to_be_bytes());
    let read = SctpPacket::parse(&bytes).unwrap();
    assert_eq!(read, SctpPacket { tag: 5, kind: chunk::INIT_ACK, reflected: false, initiate: 9 });
    bytes[12] = chunk::ABORT;
    let read = SctpPacket::parse(&bytes).unwrap();
    assert!(read.reflected && read.initiate == 0 && !read.may_begin());
    assert_eq!(SctpPacket::parse(&bytes[..13]), None);
}

#[test]
fn an_association_closes_in_order() {
    let [mut client, mut server] = established();
    feed(&mut client, &server, &packet(chunk::DATA, 22));
    feed(&mut client, &server, &packet(chunk::SHUTDOWN, 22));
    assert_eq!(SctpState::of(client.seen, server.seen), SctpState::Shutdown);
    feed(&mut server, &client, &packet(chunk::SHUTDOWN_ACK, 11));
    assert_eq!(SctpState::of(client.seen, server.seen), SctpState::Shutdown);
    feed(&mut client, &server, &packet(chunk::SHUTDOWN_COMPLETE, 22));
    assert_eq!(SctpState::of(client.seen, server.seen), SctpState::Closed);
    assert_eq!(
        client.judge(&server, &SctpPacket { initiate: 3, ..packet(chunk::INIT, 0) }),
        Judgment::OpensAnew
    );
}

#[test]
fn an_abort_needs_the_right_tag() {
    let [client, server] = established();
    let reflected = |tag| SctpPacket { reflected: true, ..packet(chunk::ABORT, tag) };
    assert_eq!(client.judge(&server, &packet(chunk::ABORT, 22)), Judgment::Valid);
    assert_eq!(client.judge(&server, &packet(chunk::ABORT, 11)), Judgment::Ignored);
    assert_eq!(client.judge(&server, &reflected(11)), Judgment::Valid);
    assert_eq!(client.judge(&server, &reflected(22)), Judgment::Ignored);
    assert_eq!(client.judge(&server, &packet(chunk::SHUTDOWN, 7)), Judgment::Ignored);
}

#[test]
fn an_init_is_refused_by_an_abort_with_its_tag() {
    let mut client = SctpSide::default();
    feed(&mut client, &SctpSide::default(), &SctpPacket { initiate: 11, ..packet(chunk::INIT, 0) });
    assert_eq!(SctpSide::default().judge(&client, &packet(chunk::ABORT, 11)), Judgment::Valid);
    assert_eq!(SctpSide::default().judge(&client, &packet(chunk::ABORT, 12)), Judgment::Ignored);
}

#[test]
fn an_init_to_an_open_association_changes_nothing() {
    let [client, server] = established();
    let init = SctpPacket { initiate: 5, ..packet(chunk::INIT, 0) };
    assert_eq!(client.judge(&server, &init), Judgment::Ignored);
    assert_eq!(server.judge(&client, &packet(chunk::ABORT, 5)), Judgment::Ignored);
}

#[test]
fn an_init_that_is_sent_again_may_ask_for_another_tag() {
    let [mut client, mut server] = [SctpSide::default(); 2];
    for tag in [11, 12] {
        feed(&mut client, &server, &SctpPacket { initiate: tag, ..packet(chunk::INIT, 0) });
        let answer = SctpPacket { initiate: tag + 10, ..packet(chunk::INIT_ACK, tag) };
        assert_eq!(feed(&mut server, &client, &answer), Judgment::Valid);
    }
    assert_eq!(feed(&mut client, &server, &packet(chunk::COOKIE_ECHO, 22)), Judgment::Valid);
    assert_eq!(feed(&mut server, &client, &packet(chunk::COOKIE_ACK, 12)), Judgment::Valid);
    assert_eq!(SctpState::of(client.seen, server.seen), SctpState::Established);
}

#[test]
fn an_association_met_in_the_middle_is_open_once_both_have_spoken() {
    let [mut client, mut server] = [SctpSide::default(); 2];
    feed(&mut client, &server, &packet(chunk::DATA, 22));
    assert_eq!(SctpState::of(client.seen, server.seen), SctpState::Opening);
    feed(&mut server, &client, &packet(chunk::SACK, 11));
    assert_eq!(SctpState::of(client.seen, server.seen), SctpState::Established);
    assert_eq!(server.judge(&client, &packet(chunk::ABORT, 12)), Judgment::Ignored);
}

proptest! {
    /// Who does not know the tags cannot end an association.
    #[test]
    fn no_packet_with_wrong_tags_ends_an_open_association(
        packets in proptest::collection::vec((any::<bool>(), 0..16_u8, 23_u32.., any::<bool>(), any::<u32>()), 0..50),
    ) {
        let mut sides = established();
        for (second, kind, tag, reflected, initiate) in packets {
            let from = usize::from(second);
            let peer = sides[1 - from];
            let tag = if kind == chunk::INIT { 0 } else { tag };
            let initiate = if matches!(kind, chunk::INIT | chunk::INIT_ACK) { initiate } else { 0 };
            feed(&mut sides[from], &peer, &SctpPacket { tag, kind, reflected, initiate });
            prop_assert_eq!(sides, established());
        }
    }
}
