//! Frames that nobody should send.

use super::fixture::*;
use crate::port::{BufferFrame, Frame};
use proptest::prelude::*;

fn base() -> impl Strategy<Value = Vec<u8>> {
    (0..2_usize, prop_oneof![Just(TCP), Just(UDP), Just(SCTP)], any::<bool>(), 0..200_usize).prop_map(
        |(family, protocol, service, payload)| {
            let net = families()[family];
            let to = if service { net.vip } else { net.b };
            Packet { payload, ..Packet::new(A, net.a, to, protocol, (1000, 80)) }.bytes()
        },
    )
}

proptest! {
    /// Whatever arrives is sent or dropped for one reason; nothing disappears, nothing panics.
    #[test]
    fn every_frame_is_sent_or_has_a_reason(
        mut bytes in base(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        cuts: bool,
    ) {
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        let mut node = Node::new();
        for _ in 0..2 {
            let before = node.sink.dropped.len();
            let left = node.run(A, BufferFrame::new(&bytes));
            prop_assert_eq!(usize::from(left.is_some()) + node.sink.dropped.len() - before, 1);
            if let Some((_, frame)) = left {
                prop_assert!(frame.total_len() >= 14);
            }
        }
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut node = Node::new();
        node.run(A, BufferFrame::new(&bytes));
        let mut addressed = GATEWAY_MAC.0.to_vec();
        addressed.extend(mac_of(A).0);
        addressed.extend(&bytes);
        node.run(A, BufferFrame::new(&addressed));
    }
}
