//! What `gro::coalesce` puts together is what `gso::settle` would cut again, and nothing else is touched.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod pool;

use etherparse::PacketBuilder;
use millrace_fastpath::port::{Burst, Checksum, Frame, Gso, GsoKind};
use millrace_ffi::gro::coalesce;
use millrace_ffi::gso::{Caps, settle};
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::mempool::Mempool;
use pool::pool;
use std::collections::VecDeque;

const MSS: usize = 1000;
const LARGE: Caps = Caps { checksum: true, tso4: true, tso6: true, uso: true, max_frame: 65_553 };
const WIRE: Caps = Caps::none(1518);

/// One segment of a connection, as its sender would write it.
#[derive(Clone, Copy, Debug)]
struct Segment {
    v6: bool,
    port: u16,
    id: u16,
    sequence: u32,
    acknowledged: u32,
    window: u16,
    ttl: u8,
    flags: &'static str,
    bytes: usize,
    options: &'static [u8],
    dont_fragment: bool,
}

const FIRST: Segment = Segment {
    v6: false,
    port: 7000,
    id: 9,
    sequence: 0xffff_fe00,
    acknowledged: 5,
    window: 512,
    ttl: 64,
    flags: "",
    bytes: MSS,
    options: &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
    dont_fragment: false,
};

impl Segment {
    /// The next of the connection, `bytes` long.
    fn next(self, bytes: usize) -> Segment {
        let sequence = self.sequence.wrapping_add(self.bytes as u32);
        Segment { sequence, bytes, id: self.id.wrapping_add(1), ..self }
    }

    fn frame(self) -> Vec<u8> {
        let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = if self.v6 {
            link.ipv6([0xfd; 16], [0xfe; 16], self.ttl)
        } else {
            let mut header = etherparse::Ipv4Header::new(
                0,
                self.ttl,
                etherparse::IpNumber::TCP,
                [10, 1, 2, 3],
                [10, 4, 5, 6],
            )
            .unwrap();
            (header.identification, header.dont_fragment) = (self.id, self.dont_fragment);
            link.ip(etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default()))
        };
        let mut tcp = ip.tcp(self.port, 80, self.sequence, self.window).ack(self.acknowledged);
        for flag in self.flags.chars() {
            tcp = match flag {
                'P' => tcp.psh(),
                'F' => tcp.fin(),
                'S' => tcp.syn(),
                'U' => tcp.urg(1),
                'E' => tcp.ece(),
                other => panic!("{other}"),
            };
        }
        let mut frame = Vec::new();
        let payload: Vec<u8> =
            (0..self.bytes).map(|i| (i as u32).wrapping_add(self.sequence) as u8).collect();
        tcp.options_raw(self.options).unwrap().write(&mut frame, &payload).unwrap();
        frame
    }
}

fn burst(pool: &Mempool, frames: &[Vec<u8>]) -> Burst<Mbuf> {
    frames.iter().map(|frame| pool.alloc_with(frame).unwrap()).collect()
}

/// Coalesces; gives the number of frames after it, and checks that cutting them again gives what there was.
fn coalesced(pool: &Mempool, segments: &[Segment]) -> usize {
    let frames: Vec<Vec<u8>> = segments.iter().map(|segment| segment.frame()).collect();
    let mut burst = burst(pool, &frames);
    coalesce(&mut burst, &LARGE);
    let after = burst.len();
    let mut out = VecDeque::new();
    for frame in burst {
        settle(frame, &WIRE, pool, &mut out).unwrap();
    }
    let cut: Vec<Vec<u8>> = out.iter().map(Mbuf::to_vec).collect();
    for port in segments.iter().map(|segment| segment.port) {
        let of = |frames: &[Vec<u8>]| -> Vec<Vec<u8>> {
            let l4 = |frame: &Vec<u8>| if frame[12] == 8 { 34 } else { 54 };
            frames
                .iter()
                .filter(|frame| frame[l4(frame)..l4(frame) + 2] == port.to_be_bytes())
                .cloned()
                .collect()
        };
        assert!(of(&cut) == of(&frames), "what is cut again differs, or has another order");
    }
    after
}

#[test]
fn segments_of_a_connection_become_one_frame() {
    let (_serial, pool) = pool();
    for v6 in [false, true] {
        let mut segments = vec![Segment { v6, ..FIRST }];
        for bytes in [MSS, MSS, MSS, 1] {
            segments.push(segments[segments.len() - 1].next(bytes));
        }
        segments[4].flags = "P";
        let frames: Vec<Vec<u8>> = segments.iter().map(|segment| segment.frame()).collect();
        let mut burst = burst(pool, &frames);
        coalesce(&mut burst, &LARGE);
        assert_eq!(burst.len(), 1);
        let offload = burst[0].offload();
        let kind = if v6 { GsoKind::TcpV6 } else { GsoKind::TcpV4 };
        assert_eq!(offload.gso, Some(Gso { kind, size: MSS as u16 }));
        assert!(matches!(offload.checksum, Checksum::Partial { offset: 16, .. }));
        assert_eq!(burst[0].total_len(), frames[0].len() + 3 * MSS + 1);
        drop(burst);
        assert_eq!(coalesced(pool, &segments), 1);
    }
}

#[test]
fn connections_are_told_apart_and_keep_their_order() {
    let (_serial, pool) = pool();
    let mut segments = Vec::new();
    let mut last: Vec<Segment> = (0..6).map(|port| Segment { port, v6: port % 2 == 1, ..FIRST }).collect();
    for _ in 0..10 {
        for connection in &mut last {
            segments.push(*connection);
            *connection = connection.next(MSS);
        }
    }
    assert_eq!(coalesced(pool, &segments), 6);
    // More than are looked at together: less is gained, nothing is wrong.
    let mut last: Vec<Segment> = (0..20).map(|port| Segment { port, ..FIRST }).collect();
    let mut segments = Vec::new();
    for _ in 0..3 {
        for connection in &mut last {
            segments.push(*connection);
            *connection = connection.next(MSS);
        }
    }
    assert!(coalesced(pool, &segments) <= 60);
}

#[test]
fn what_differs_stays_alone() {
    let (_serial, pool) = pool();
    let second = FIRST.next(MSS);
    let others = [
        Segment { sequence: second.sequence.wrapping_add(1), ..second },
        Segment { acknowledged: 6, ..second },
        Segment { window: 511, ..second },
        Segment { ttl: 63, ..second },
        Segment { id: 11, ..second },
        Segment { bytes: MSS + 1, ..second },
        Segment { bytes: 0, ..second },
        Segment { options: &[1, 1, 8, 10, 0, 0, 0, 2, 0, 0, 0, 2], ..second },
        Segment { options: &[], ..second },
        Segment { dont_fragment: true, ..second },
        Segment { flags: "F", ..second },
        Segment { flags: "S", ..second },
        Segment { flags: "U", ..second },
        Segment { flags: "E", ..second },
    ];
    for other in others {
        assert_eq!(coalesced(pool, &[FIRST, other]), 2, "{other:?}");
    }
    // What pushes, or is shorter, is the last of its frame.
    let pushing = Segment { flags: "P", ..second };
    let third = second.next(MSS);
    assert_eq!(coalesced(pool, &[FIRST, pushing, third, third.next(MSS)]), 2);
    let short = FIRST.next(10);
    assert_eq!(coalesced(pool, &[FIRST, short, short.next(10), short.next(10).next(10)]), 2);
    // An acknowledgement in between is not overtaken.
    let acknowledgement = Segment { bytes: 0, ..second };
    assert_eq!(coalesced(pool, &[FIRST, acknowledgement, second]), 3);
    // A fixed identification is as good as a counting one where nobody may fragment.
    let fixed = Segment { dont_fragment: true, ..FIRST };
    let frames = [fixed.frame(), Segment { id: fixed.id, ..fixed.next(MSS) }.frame()];
    let mut both = burst(pool, &frames);
    coalesce(&mut both, &LARGE);
    assert_eq!(both.len(), 1);
}

#[test]
fn a_damaged_segment_is_left_to_its_receiver() {
    let (_serial, pool) = pool();
    let mut last = FIRST;
    let mut frames = vec![last.frame()];
    for _ in 0..3 {
        last = last.next(MSS);
        frames.push(last.frame());
    }
    frames[2][500] ^= 0x10;
    let mut burst = burst(pool, &frames);
    coalesce(&mut burst, &LARGE);
    assert_eq!(burst.iter().map(Frame::total_len).max(), Some(frames[0].len() + MSS));
    assert!(burst.iter().any(|frame| frame.to_vec() == frames[2]));
}

#[test]
fn large_frames_end_where_ip_ends_and_bursts_without_tso_are_left_alone() {
    let (_serial, pool) = pool();
    let mut segments = vec![Segment { bytes: 1400, ..FIRST }];
    for _ in 1..60 {
        segments.push(segments[segments.len() - 1].next(1400));
    }
    assert_eq!(coalesced(pool, &segments), 2);
    let frames: Vec<Vec<u8>> = segments.iter().map(|segment| segment.frame()).collect();
    let mut burst = burst(pool, &frames);
    coalesce(&mut burst, &WIRE);
    assert_eq!(burst.len(), 60);
}

#[test]
fn a_large_frame_has_no_more_buffers_than_a_write_takes() {
    let (_serial, pool) = pool();
    let mut last = FIRST;
    let mut frames = Burst::new();
    while !frames.is_full() {
        let whole = last.frame();
        let (first, rest) = whole.split_at(300);
        let mut frame = pool.alloc_with(first).unwrap();
        frame.chain(pool.alloc_with(rest).unwrap()).unwrap();
        frames.push(frame);
        last = last.next(MSS);
    }
    let bytes = frames.len() * MSS;
    coalesce(&mut frames, &LARGE);
    assert!(frames.iter().all(|frame: &Mbuf| frame.segment_count() <= 60));
    assert_eq!(frames.len(), 3);
    let headers = FIRST.frame().len() - MSS;
    assert_eq!(frames.iter().map(|frame| frame.total_len() - headers).sum::<usize>(), bytes);
}

#[test]
fn what_has_its_ports_elsewhere_is_not_overtaken() {
    let (_serial, pool) = pool();
    let second = FIRST.next(MSS);
    // An IPv4 option: no plain segment, of the same connection perhaps.
    let mut odd = second.frame();
    odd.splice(34..34, [1, 1, 1, 0]);
    odd[14] = 0x46;
    let mut frames = burst(pool, &[FIRST.frame(), odd, second.frame()]);
    coalesce(&mut frames, &LARGE);
    assert_eq!(frames.len(), 3);
}

#[test]
fn bytes_of_any_kind_are_survived() {
    let (_serial, pool) = pool();
    let whole = FIRST.frame();
    for len in 0..whole.len().min(90) {
        let frames = [whole[..len].to_vec(), whole[..len].to_vec(), FIRST.next(MSS).frame()];
        let mut some = burst(pool, &frames);
        coalesce(&mut some, &LARGE);
        assert_eq!(some.iter().map(Frame::total_len).sum::<usize>(), frames.iter().map(Vec::len).sum());
    }
}
