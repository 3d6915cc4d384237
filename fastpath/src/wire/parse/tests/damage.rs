//! Frames that were cut, overwritten or never made sense: an error or a result that holds, never a panic.

use proptest::prelude::*;

use super::super::*;
use super::oracle::any_choice;

/// What must hold for any result, whatever the bytes.
fn assert_consistent(head: &[u8], total_len: usize, parsed: &Parsed) {
    let (l3, l4, end) = (usize::from(parsed.l3), usize::from(parsed.l4), parsed.ip_total as usize);
    assert!(l3 + end <= total_len, "packet ends within the frame");
    assert!(l3 < l4 && l4 <= head.len() && l4 - l3 <= end, "layer 4 begins within head and packet");
    let needed = match parsed.kind {
        L4Kind::Tcp => 20,
        L4Kind::Sctp => 16,
        L4Kind::Fragment | L4Kind::Other => 0,
        _ => 8,
    };
    assert!(head.len() - l4 >= needed && end - (l4 - l3) >= needed, "layer 4's header is there");
    assert!(!parsed.first_fragment || parsed.kind != L4Kind::Fragment, "a fragment is first or later");
}

fn check(head: &[u8], total_len: usize) {
    if let Ok(Class::Ip(parsed) | Class::Ndisc(parsed)) = parse(head, total_len) {
        assert_consistent(head, total_len, &parsed);
    }
    let packet = head.get(14..).unwrap_or_default();
    if let Ok(parsed) = parse_ip(packet, packet.len(), Extent::Quoted) {
        assert!(usize::from(parsed.l4) <= packet.len(), "layer 4 of a quote begins within it");
    }
}

/// Sets the checksum of the IPv4 header that `frame` seems to have, so that damage gets past it.
fn seal(frame: &mut [u8]) {
    let Some(ip) = frame.get_mut(14..) else { return };
    let len = usize::from(ip.first().copied().unwrap_or(0) & 0xf) * 4;
    if let Some(header) = ip.get_mut(..len.max(20)) {
        [header[10], header[11]] = [0, 0];
        [header[10], header[11]] = Sum::of(header).checksum();
    }
}

/// Mutations: where, and what is written there.
fn any_mutations() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..6)
}

proptest! {
    #[test]
    fn random_bytes_are_survived(
        mut frame in prop::collection::vec(any::<u8>(), 0..200),
        ether_type in prop::sample::select(vec![0x0800_u16, 0x86dd, 0x8100, 0x0806]),
        first in prop::sample::select(vec![0x45_u8, 0x46, 0x4f, 0x60]),
        more in 0..2000_usize,
    ) {
        if let Some(header) = frame.first_chunk_mut::<15>() {
            header[12..14].copy_from_slice(&ether_type.to_be_bytes());
            header[14] = first;
        }
        seal(&mut frame);
        check(&frame, frame.len() + more);
    }

    #[test]
    fn mutated_frames_are_survived(choice in any_choice(), mutations in any_mutations(), cut: prop::sample::Index) {
        let mut frame = choice.frame();
        for (at, value) in mutations {
            // The headers are where it matters.
            let at = at.index(frame.len().min(64));
            frame[at] = value;
        }
        seal(&mut frame);
        check(&frame, frame.len());
        let len = cut.index(frame.len() + 1);
        check(&frame[..len], frame.len());
        check(&frame[..len], len);
    }

    #[test]
    fn frames_cut_short_are_errors(choice in any_choice(), cut: prop::sample::Index) {
        let frame = choice.frame();
        let len = cut.index(frame.len());
        prop_assert!(parse(&frame[..len], len).is_err());
    }
}
