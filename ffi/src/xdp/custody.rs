//! Which chunks of the arena a socket has handed to the kernel.

/// Names a chunk of the arena, counted from its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Chunk(pub(super) u32);

/// The set of chunks that one socket's rings hold, so that each comes back exactly once: by a descriptor while the
/// socket lives, or by [`drain`](Custody::drain) after it was closed.
#[derive(Debug)]
pub(super) struct Custody {
    words: Box<[u64]>,
    held: usize,
}

impl Custody {
    /// An empty set over `chunks` chunks.
    pub(super) fn new(chunks: u32) -> Custody {
        Custody { words: vec![0; (chunks as usize).div_ceil(64)].into_boxed_slice(), held: 0 }
    }

    /// Notes that `chunk` was handed to the kernel. False, and no change, when it is there already or does not exist.
    pub(super) fn hand_over(&mut self, chunk: Chunk) -> bool {
        let Some(word) = self.words.get_mut(chunk.0 as usize / 64) else { return false };
        let bit = 1 << (chunk.0 % 64);
        let fresh = *word & bit == 0;
        *word |= bit;
        self.held += usize::from(fresh);
        fresh
    }

    /// Notes that `chunk` came back. False, and no change, when the kernel did not have it from here.
    pub(super) fn take_back(&mut self, chunk: Chunk) -> bool {
        let Some(word) = self.words.get_mut(chunk.0 as usize / 64) else { return false };
        let bit = 1 << (chunk.0 % 64);
        let ours = *word & bit != 0;
        *word &= !bit;
        self.held -= usize::from(ours);
        ours
    }

    /// Chunks that the kernel has.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes all chunks back.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Chunk> {
        self.held = 0;
        self.words.iter_mut().enumerate().flat_map(|(index, word)| {
            let bits = std::mem::take(word);
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| Chunk(index as u32 * 64 + bit))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_back_exactly_once() {
        let mut custody = Custody::new(100);
        assert!(custody.hand_over(Chunk(70)));
        assert!(!custody.hand_over(Chunk(70)));
        assert_eq!(custody.held(), 1);
        assert!(custody.take_back(Chunk(70)));
        assert!(!custody.take_back(Chunk(70)));
        assert_eq!(custody.held(), 0);
    }

    #[test]
    fn a_chunk_beyond_the_arena_is_nobodys() {
        let mut custody = Custody::new(64);
        assert!(!custody.hand_over(Chunk(64)));
        assert!(!custody.take_back(Chunk(u32::MAX)));
    }

    #[test]
    fn draining_gives_every_chunk_that_is_left() {
        let mut custody = Custody::new(16_384);
        for chunk in [0, 63, 64, 16_383] {
            assert!(custody.hand_over(Chunk(chunk)));
        }
        assert!(custody.take_back(Chunk(63)));
        assert_eq!(custody.drain().collect::<Vec<_>>(), [Chunk(0), Chunk(64), Chunk(16_383)]);
        assert_eq!(custody.held(), 0);
        assert_eq!(custody.drain().count(), 0);
    }
}
