use super::*;
use proptest::prelude::*;

impl Join for Vec<u32> {
    fn join(mut self, tail: Vec<u32>) -> Option<Vec<u32>> {
        self.extend(tail);
        (self.len() <= MOST_JOINED).then_some(self)
    }
}

const MOST_JOINED: usize = 5;

/// A descriptor: its number unless it is malformed, whether it is its frame's last, and whether the ring ends behind it.
type Descriptor = (bool, bool, bool);

/// The frames that come of it, and how many are lost. What is lost in the middle is lost up to its end.
fn reference(descriptors: &[Descriptor]) -> (Vec<Vec<u32>>, usize) {
    let (mut frames, mut lost) = (Vec::new(), 0);
    let mut from = 0;
    while from < descriptors.len() {
        let rest = &descriptors[from..];
        let len = rest.iter().position(|(_, is_last, _)| *is_last).map_or(rest.len(), |at| at + 1);
        let frame = &rest[..len];
        let is_whole = frame[len - 1].1 && frame[..len - 1].iter().all(|(_, _, ends)| !ends);
        let is_sound = len <= MOST_JOINED && frame.iter().all(|(is_sound, _, _)| *is_sound);
        match is_whole && is_sound {
            true => frames.push((from as u32..(from + len) as u32).collect()),
            // At the very end only what the ring's end or a malformed part has given up.
            false if frame[len - 1].1 => lost += 1,
            false => {
                lost += usize::from(
                    frame.iter().any(|(is_sound, _, ends)| !is_sound || *ends) || len > MOST_JOINED,
                )
            }
        }
        from += len;
    }
    (frames, lost)
}

proptest! {
    #[test]
    fn what_is_whole_is_put_together_and_all_else_is_lost_once(
        descriptors in prop::collection::vec(
            (prop::bool::weighted(0.9), prop::bool::weighted(0.4), prop::bool::weighted(0.2)), 0..60),
    ) {
        let (mut assembly, mut frames, mut lost) = (Assembly::default(), Vec::new(), 0);
        for (number, (is_sound, is_last, ends)) in descriptors.iter().enumerate() {
            match assembly.add(is_sound.then(|| vec![number as u32]), *is_last) {
                Arrival::Frame(frame) => frames.push(frame),
                Arrival::Part => {}
                Arrival::Malformed => lost += 1,
            }
            lost += usize::from(*ends && assembly.end());
        }
        prop_assert_eq!((frames, lost), reference(&descriptors));
    }
}

#[test]
fn a_frame_is_as_long_as_the_rings_and_the_kernel_allow() {
    let pod = |fill, tx| Reach::most(&XdpConfig { fill, tx, ..XdpConfig::pod("eth0") });
    assert_eq!(pod(64, 128), Reach(MOST_PARTS));
    assert_eq!(pod(8, 128), Reach(8));
    assert_eq!(pod(64, 16), Reach(16));
    assert_eq!(pod(64, 64).at_most(8), Reach(8));
    assert_eq!(pod(64, 64).at_most(0), Reach::ONE);
    assert_eq!(Reach::ONE.mtu(), 1_774);
    assert_eq!(pod(64, 64).mtu(), 30_446);
    // Eight descriptors are what ice and i40e take in zero-copy mode.
    assert!(Reach(8).mtu() > 9_216);
}

#[test]
fn what_is_received_fits_a_chunk_at_least_and_the_reach_at_most() {
    assert_eq!(Reach::ONE.longest_of(1_500), LONGEST_RECEIVED);
    assert_eq!(Reach::ONE.longest_of(9_000), LONGEST_RECEIVED);
    assert_eq!(Reach(17).longest_of(1_500), LONGEST_RECEIVED);
    assert_eq!(Reach(17).longest_of(9_000), 9_018);
    assert_eq!(Reach(6).longest_of(65_535), 6 * LONGEST_RECEIVED);
}
