//! Mbufs as frames, and what `gso::settle` makes of them, read back by an independent parser.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod packets;
mod pool;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use millrace_fastpath::port::{Checksum, DropReason, Frame, Offload};
use millrace_fastpath::wire::sctp;
use millrace_ffi::gso::{Caps, settle};
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::open_checksum::close;
use packets::{ALL, Packet, chained, outer, payload};
use pool::pool;
use std::collections::VecDeque;

/// Checks one finished frame by the parser's own arithmetic; gives its payload.
fn verified(bytes: &[u8]) -> Vec<u8> {
    let sliced = SlicedPacket::from_ethernet(bytes).unwrap();
    let (net, transport) = (sliced.net.unwrap(), sliced.transport.unwrap());
    if let NetSlice::Ipv4(ip) = &net {
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
    }
    match (&net, &transport) {
        (NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => {
            assert_eq!(
                tcp.checksum(),
                tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).unwrap()
            );
            tcp.payload().to_vec()
        }
        (NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => {
            assert_eq!(
                tcp.checksum(),
                tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()).unwrap()
            );
            tcp.payload().to_vec()
        }
        (NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            let sum =
                header.calc_checksum_ipv4_raw(ip.header().source(), ip.header().destination(), udp.payload());
            assert_eq!(udp.checksum(), sum.unwrap());
            udp.payload().to_vec()
        }
        (NetSlice::Ipv6(ip), TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            let sum =
                header.calc_checksum_ipv6_raw(ip.header().source(), ip.header().destination(), udp.payload());
            assert_eq!(udp.checksum(), sum.unwrap());
            udp.payload().to_vec()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_offload_state_survives_the_mbuf() {
    let (_serial, pool) = pool();
    for packet in ALL {
        let mut frame = pool.alloc_with(&packet.bytes(&payload(100))).unwrap();
        for gso in [None, Some(packet.gso(1448))] {
            let offload = Offload { checksum: packet.partial(), gso, outer: 0 };
            frame.set_offload(offload);
            assert_eq!(frame.offload(), offload);
        }
        frame.set_offload(Offload { checksum: Checksum::Verified, gso: None, outer: 0 });
        assert_eq!(frame.offload().checksum, Checksum::Verified);
        frame.set_offload(Offload::NONE);
        assert_eq!(frame.offload(), Offload::NONE);
    }
}

#[test]
fn partial_checksums_are_completed_however_the_frame_is_cut() {
    let (_serial, pool) = pool();
    for packet in ALL {
        for length in [0, 1, 2, 999, 1400] {
            for cut in [1usize, 7, 64, 2000] {
                if length / cut > 1200 {
                    continue;
                }
                let data = payload(length);
                let mut frame = chained(pool, &packet.bytes(&data), 74, cut);
                frame.set_offload(Offload { checksum: packet.partial(), gso: None, outer: 0 });
                let mut out = VecDeque::new();
                settle(frame, &Caps::none(1518), pool, &mut out).unwrap();
                assert_eq!(out[0].offload(), Offload::NONE);
                assert_eq!(verified(&out[0].to_vec()), data, "{packet:?} {length} {cut}");
            }
        }
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn large_frames_are_cut_into_right_ones() {
    let (_serial, pool) = pool();
    for packet in ALL {
        for (length, size, cut) in [(65_000, 1440, 2000), (4000, 1000, 333), (3001, 100, 61), (500, 1000, 9)]
        {
            let data = payload(length);
            let mut frame = chained(pool, &packet.bytes(&data), 200, cut);
            frame.set_offload(Offload { checksum: packet.partial(), gso: Some(packet.gso(size)), outer: 0 });
            let mut out = VecDeque::new();
            settle(frame, &Caps::none(1518), pool, &mut out).unwrap();
            assert_eq!(out.len(), length.div_ceil(usize::from(size)));
            let pieces: Vec<Vec<u8>> = out.iter().map(Mbuf::to_vec).collect();
            assert_eq!(pieces.iter().flat_map(|piece| verified(piece)).collect::<Vec<u8>>(), data);
            if packet.is_tcp() {
                check_tcp(&pieces, usize::from(size));
            }
        }
    }
    assert_eq!(pool.in_use(), 0);
}

/// Checks the outer headers; gives the inner frame.
fn opened(frame: &[u8], checksum: bool) -> Vec<u8> {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(TransportSlice::Udp(udp)) = sliced.transport else { panic!("not UDP") };
    let header = udp.to_header();
    let made = match sliced.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            let ip = ip.header().to_header();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            header.calc_checksum_ipv4(&ip, udp.payload()).unwrap()
        }
        NetSlice::Ipv6(ip) => header.calc_checksum_ipv6(&ip.header().to_header(), udp.payload()).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(header.checksum, if checksum { made } else { 0 });
    assert_eq!(usize::from(header.length), udp.payload().len() + 8);
    udp.payload()[8..].to_vec()
}

#[test]
fn cutting_an_encapsulated_frame_gives_what_encapsulating_each_piece_would() {
    let (_serial, pool) = pool();
    let all = ALL.into_iter().flat_map(|packet| {
        [(false, false), (false, true), (true, false), (true, true)]
            .map(|(v6, checksum)| (packet, v6, checksum))
    });
    for (packet, v6, checksum) in all {
        for (length, gso, cut) in
            [(60_000, Some(packet.gso(1400)), 2000), (3001, Some(packet.gso(999)), 61), (1000, None, 333)]
        {
            let data = payload(length);
            let plain = packet.bytes(&data);
            let mut inner = chained(pool, &plain, 200, cut);
            inner.set_offload(Offload { checksum: packet.partial(), gso, outer: 0 });
            let mut wanted = VecDeque::new();
            settle(inner, &Caps::none(1518), pool, &mut wanted).unwrap();
            let headers = outer(v6, checksum, plain.len());
            let before = headers.len() as u16;
            let mut frame = chained(pool, &[headers, plain].concat(), 300, cut);
            let Checksum::Partial { start, offset } = packet.partial() else { panic!("{packet:?}") };
            let offload =
                Offload { checksum: Checksum::Partial { start: start + before, offset }, gso, outer: before };
            frame.set_offload(offload);
            assert_eq!(frame.offload(), offload, "it survives the mbuf");
            // A way out that cuts plain frames must not be given this one.
            let caps = Caps { checksum: true, tso4: true, tso6: true, uso: true, max_frame: 1600 };
            assert!(!caps.takes(&offload));
            let mut out = VecDeque::new();
            settle(frame, &caps, pool, &mut out).unwrap();
            let opened: Vec<Vec<u8>> = out.iter().map(|piece| opened(&piece.to_vec(), checksum)).collect();
            assert_eq!(opened, wanted.iter().map(Mbuf::to_vec).collect::<Vec<_>>(), "{packet:?} {length}");
            assert!(out.iter().all(|piece| piece.offload() == Offload::NONE));
            let ids: Vec<u16> = out
                .iter()
                .map(|piece| {
                    let b = piece.to_vec();
                    u16::from_be_bytes([b[18], b[19]])
                })
                .collect();
            if !v6 {
                assert!(ids.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{ids:?}");
            }
        }
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn an_encapsulated_frame_that_only_wants_its_outer_checksum_gets_it() {
    let (_serial, pool) = pool();
    for v6 in [false, true] {
        let mut inner = chained(pool, &Packet::Tcp4.bytes(&payload(999)), 100, 100);
        inner.set_offload(Offload { checksum: Packet::Tcp4.partial(), gso: None, outer: 0 });
        assert!(inner.complete_checksum());
        let inner = inner.to_vec();
        let headers = outer(v6, true, inner.len());
        let outer = headers.len() as u16;
        let mut frame = chained(pool, &[headers, inner.clone()].concat(), 200, 100);
        frame.set_offload(Offload { outer, ..Offload::NONE });
        assert_eq!(frame.offload(), Offload { outer, ..Offload::NONE });
        let start = usize::from(outer) - 16;
        let mut out = VecDeque::new();
        settle(frame, &Caps::none(1600), pool, &mut out).unwrap();
        assert_eq!(opened(&out[0].to_vec(), true), inner);
        let len = out[0].total_len() - start;
        assert!(out[0].sum(start, len).is_some() && out[0].sum(start, len + 1).is_none());
    }
}

fn check_tcp(pieces: &[Vec<u8>], size: usize) {
    for (index, piece) in pieces.iter().enumerate() {
        let sliced = SlicedPacket::from_ethernet(piece).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("not TCP") };
        let last = index + 1 == pieces.len();
        assert_eq!(tcp.sequence_number(), 0xffff_ff00u32.wrapping_add((index * size) as u32));
        assert_eq!((tcp.psh(), tcp.fin(), tcp.cwr()), (last, last, index == 0));
    }
}

#[test]
fn a_way_out_that_cuts_itself_gets_the_frame_whole() {
    let (_serial, pool) = pool();
    let caps = Caps { checksum: true, tso4: true, tso6: true, uso: true, max_frame: 1518 };
    for packet in ALL {
        let bytes = packet.bytes(&payload(9000));
        let mut frame = pool.alloc_with(&bytes).unwrap();
        frame.set_offload(Offload { checksum: packet.partial(), gso: Some(packet.gso(1400)), outer: 0 });
        let mut out = VecDeque::new();
        settle(frame, &caps, pool, &mut out).unwrap();
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].to_vec(), bytes);
    }
}

#[test]
fn what_cannot_be_settled_is_dropped_with_its_reason_and_leaks_nothing() {
    let (_serial, pool) = pool();
    let mut out = VecDeque::new();
    let packet = Packet::Tcp4;
    let mut try_size = |size, max| {
        let mut frame = pool.alloc_with(&packet.bytes(&payload(9000))).unwrap();
        frame.set_offload(Offload { checksum: packet.partial(), gso: Some(packet.gso(size)), outer: 0 });
        settle(frame, &Caps::none(max), pool, &mut out)
    };
    assert_eq!(try_size(1, 1518), Err(DropReason::RxMalformed), "more pieces than a pool should give");
    assert_eq!(try_size(1400, 1000), Err(DropReason::TooBig));
    let hoard: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).take(2040).collect();
    assert_eq!(try_size(1000, 1518), Err(DropReason::NoBuffer));
    drop(hoard);
    let long = pool.alloc_with(&packet.bytes(&payload(2000))).unwrap();
    assert_eq!(settle(long, &Caps::none(1518), pool, &mut out), Err(DropReason::TooBig));
    assert!(out.is_empty());
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn frames_grow_and_shrink_like_plain_buffers() {
    let (_serial, pool) = pool();
    let bytes = payload(500);
    for cut in [100, 333, 500] {
        let mut frame = chained(pool, &bytes, cut, cut);
        assert_eq!((frame.to_vec(), frame.total_len()), (bytes.clone(), 500));
        assert!(frame.prepend(128));
        assert!(!frame.prepend(1), "the headroom is 128 bytes");
        assert!(frame.trim_front(128));
        assert!(!frame.trim_front(cut + 1));
        assert!(frame.append(3));
        frame.truncate(501);
        assert_eq!(frame.to_vec()[499..], [bytes[499], 0]);
        frame.truncate(70);
        assert_eq!((frame.segment_count(), frame.to_vec()), (1, bytes[..70].to_vec()));
        frame.truncate(0);
        assert_eq!(frame.total_len(), 0);
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn pieces_of_a_frame_are_whole_however_it_is_cut_and_end_with_it() {
    let (_serial, pool) = pool();
    let bytes = payload(5000);
    for cut in [5, 333, 2000] {
        let frame = chained(pool, &bytes, 100, cut);
        for (from, len) in [(0, 5000), (34, 1240), (99, 2), (100, 4000), (4999, 1), (5000, 0)] {
            let piece = frame.piece(b"headers", from, len).unwrap();
            assert_eq!(
                piece.to_vec(),
                [b"headers", &bytes[from..from + len]].concat(),
                "{cut}: {from}+{len}"
            );
            assert_eq!(piece.offload(), Offload::NONE);
        }
        assert!(frame.piece(b"", 4999, 2).is_none());
        assert!(frame.piece(b"", usize::MAX, 2).is_none());
    }
    for packet in ALL {
        let mut frame = chained(pool, &packet.bytes(&payload(999)), 74, 64);
        frame.set_offload(Offload { checksum: packet.partial(), gso: None, outer: 0 });
        assert!(frame.complete_checksum());
        assert_eq!((frame.offload(), verified(&frame.to_vec())), (Offload::NONE, payload(999)));
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn packets_that_lack_their_checksum_are_told_from_finished_ones() {
    let (_serial, pool) = pool();
    for packet in ALL {
        for length in [0, 1, 7, 1400] {
            let open = packet.bytes(&payload(length));
            let mut frame = chained(pool, &open, 100, 300);
            close(&mut frame);
            assert_eq!(
                frame.offload(),
                Offload { checksum: packet.partial(), ..Offload::NONE },
                "{packet:?} {length}"
            );
            assert_eq!(frame.to_vec(), open);
            assert!(frame.complete_checksum());
            assert_eq!(verified(&frame.to_vec()), payload(length));
            let finished = frame.to_vec();
            close(&mut frame);
            assert_eq!((frame.offload(), frame.to_vec()), (Offload::NONE, finished));
            // What ends elsewhere than its IP packet, or is a fragment, is nobody's to complete.
            let mut padded = pool.alloc_with(&[&open[..], &[0; 6]].concat()).unwrap();
            close(&mut padded);
            assert_eq!(padded.offload(), Offload::NONE);
            if packet.start() == 34 {
                let mut fragment = pool.alloc_with(&open).unwrap();
                fragment.head_mut()[20] |= 0x20;
                close(&mut fragment);
                assert_eq!(fragment.offload(), Offload::NONE);
            }
        }
    }
}

#[test]
fn packets_in_a_tunnel_that_lack_their_checksum_get_it() {
    let (_serial, pool) = pool();
    for packet in ALL {
        for v6 in [false, true] {
            let inner = packet.bytes(&payload(900));
            let mut headers = outer(v6, false, inner.len());
            // A checksum that counts the inner one as made, as Linux's local checksum offload has it.
            let udp = headers.len() - 10;
            headers[udp..udp + 2].copy_from_slice(&[0x12, 0x34]);
            let mut frame = chained(pool, &[headers.clone(), inner].concat(), 150, 300);
            close(&mut frame);
            assert_eq!(frame.offload(), Offload::NONE);
            let bytes = frame.to_vec();
            assert_eq!(bytes[..headers.len()], headers);
            assert_eq!(verified(&bytes[headers.len()..]), payload(900));
        }
    }
    // The outer one that is to be made is said to be so.
    let inner = Packet::Udp4.bytes(&payload(10));
    let headers = outer(false, true, inner.len());
    let mut frame = pool.alloc_with(&[headers, inner].concat()).unwrap();
    close(&mut frame);
    assert_eq!(frame.offload().checksum, Checksum::Partial { start: 34, offset: 6 });
}

#[test]
fn sctp_without_its_checksum_gets_it() {
    let (_serial, pool) = pool();
    let mut open = vec![2; 6];
    open.extend([4; 6]);
    open.extend([
        0x08,
        0x00,
        0x45,
        0,
        0,
        20 + 12 + 20,
        0,
        1,
        0x40,
        0,
        64,
        132,
        0,
        0,
        10,
        1,
        2,
        3,
        10,
        4,
        5,
        6,
    ]);
    open.extend([0, 7, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0]);
    open.extend(payload(20));
    let mut frame = chained(pool, &open, 50, 7);
    close(&mut frame);
    let mut wanted = open.clone();
    sctp::fill_checksum(&mut wanted[34..]).unwrap();
    assert_eq!(frame.to_vec(), wanted);
    close(&mut frame);
    assert_eq!(frame.to_vec(), wanted);
}

#[test]
fn bytes_of_any_kind_without_a_checksum_are_survived() {
    let (_serial, pool) = pool();
    for packet in ALL {
        let inner = packet.bytes(&payload(30));
        let bytes = [outer(false, false, inner.len()), inner].concat();
        for len in 0..bytes.len() {
            for flip in [None, Some(14), Some(23), Some(len / 2)] {
                let mut bytes = bytes[..len].to_vec();
                if let Some(byte) = flip.and_then(|at| bytes.get_mut(at)) {
                    *byte ^= 0x5a;
                }
                let mut frame = pool.alloc_with(&bytes).unwrap();
                close(&mut frame);
                assert_eq!(frame.total_len(), len);
            }
        }
    }
}
