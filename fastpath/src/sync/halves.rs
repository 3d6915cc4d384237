//! Comparing eight words at once.

use super::atomics::AtomicU64;

/// Which of eight words have this upper half, a bit each. Every word is read once, as by a load of its own: eight loads,
/// shifts and compares in a dozen instructions.
#[inline(always)]
pub fn upper_halves_equal(words: &[AtomicU64; 8], upper: u32) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    {
        let mask: u32;
        // SAFETY: it reads the 64 bytes that the reference stands for, and writes registers only. Others may write the
        // words meanwhile: the processor reads each aligned word at once, as it does for an atomic load (Intel SDM
        // volume 3, section 8.1.1), and the compiler does not look into the block, so to it this is no data race.
        unsafe {
            core::arch::asm!(
                "movd {wanted}, {upper:e}",
                "pshufd {wanted}, {wanted}, 0",
                "movdqu {a}, [{words}]",
                "movdqu {b}, [{words} + 16]",
                "shufps {a}, {b}, 0xdd",
                "movdqu {b}, [{words} + 32]",
                "movdqu {c}, [{words} + 48]",
                "shufps {b}, {c}, 0xdd",
                "pcmpeqd {a}, {wanted}",
                "pcmpeqd {b}, {wanted}",
                "packssdw {a}, {b}",
                "packsswb {a}, {a}",
                "pmovmskb {mask:e}, {a}",
                words = in(reg) words.as_ptr(),
                upper = in(reg) upper,
                mask = lateout(reg) mask,
                wanted = out(xmm_reg) _,
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                options(readonly, nostack, preserves_flags),
            );
        }
        mask & 0xff
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    {
        use super::atomics::Ordering;
        let hit = |word: &AtomicU64| u32::from(word.load(Ordering::SeqCst) >> 32 == u64::from(upper));
        words.iter().zip(0..).fold(0, |mask, (word, place)| mask | hit(word) << place)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_words_with_the_upper_half_are_found(
            words in prop::array::uniform8((0_u32..4, any::<u32>())),
            upper in 0_u32..4,
        ) {
            let expected = (0..8).fold(0, |mask, place| mask | u32::from(words[place].0 == upper) << place);
            let words = words.map(|(upper, lower)| AtomicU64::new(u64::from(upper) << 32 | u64::from(lower)));
            prop_assert_eq!(upper_halves_equal(&words, upper), expected);
        }
    }
}
