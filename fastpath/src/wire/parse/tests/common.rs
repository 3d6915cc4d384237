//! The short way finds what the long way finds, or nothing.

use super::super::*;
use super::oracle::any_choice;
use proptest::prelude::*;

/// What the long way says of a frame that is of the common kind.
fn by_the_long_way(frame: &[u8], len: usize) -> Option<Common> {
    let Ok(Class::Ip(parsed)) = parse(frame, len) else { return None };
    let plain =
        parsed.vlan.is_none() && !parsed.is_fragment() && matches!(parsed.kind, L4Kind::Udp | L4Kind::Tcp);
    let v6 = parsed.family() == Family::V6;
    let common = plain && usize::from(parsed.l4) == if v6 { 54 } else { 34 };
    common.then_some(Common {
        v6,
        ip_total: parsed.ip_total,
        ttl: parsed.ttl,
        l4: CommonL4 {
            kind: parsed.kind,
            protocol: parsed.protocol,
            ports: u32::from(parsed.source_port) << 16 | u32::from(parsed.destination_port),
        },
    })
}

proptest! {
    #[test]
    fn a_well_formed_frame_of_the_common_kind_is_found(choice in any_choice()) {
        let frame = choice.frame();
        prop_assert_eq!(Common::parse(&frame, frame.len()), by_the_long_way(&frame, frame.len()));
    }

    #[test]
    fn a_damaged_frame_is_found_to_be_what_the_long_way_finds_or_left_to_it(
        choice in any_choice(),
        damage in prop::collection::vec((0_usize..70, any::<u8>()), 0..4),
        cut in 0_usize..90,
        mend in any::<bool>(),
    ) {
        let mut frame = choice.frame();
        for (at, byte) in damage {
            if let Some(target) = frame.get_mut(at) {
                *target = byte;
            }
        }
        if mend && frame.len() >= 34 && frame[14] == 0x45 {
            // A right header checksum lets the other damage through.
            frame[24..26].fill(0);
            let sum = crate::wire::checksum::Sum::of(&frame[14..34]).checksum();
            frame[24..26].copy_from_slice(&sum);
        }
        let head = &frame[..cut.min(frame.len())];
        for (head, len) in [(frame.as_slice(), frame.len()), (head, frame.len()), (head, head.len())] {
            prop_assert_eq!(Common::parse(head, len), by_the_long_way(head, len));
        }
    }
}
