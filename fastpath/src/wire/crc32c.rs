//! CRC32c (Castagnoli), the checksum of SCTP (RFC 9260, appendix A), in software: eight tables, 8 bytes per step.
//!
//! A CRC is linear: the CRC of a changed packet is that of the old one, exclusive-or that of the change. So a few
//! bytes that change cost no reading of the packet ([`of_change`], [`shift`]).

#[cfg(test)]
mod tests;

/// The polynomial, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `TABLES[k][b]`: what byte `b` adds when `k` more bytes follow it.
static TABLES: [[u32; 256]; 8] = tables();

/// `POWERS[k]`: x to the power of 8·2ᵏ, modulo the polynomial: 2ᵏ bytes of zeroes as a factor.
static POWERS: [u32; 32] = powers();

/// A CRC on its way, over one or more pieces of data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Crc32c(u32);

impl Default for Crc32c {
    fn default() -> Self {
        Crc32c::new()
    }
}

impl Crc32c {
    /// The CRC of nothing yet.
    pub const fn new() -> Self {
        Crc32c(u32::MAX)
    }

    /// Adds the next piece of data.
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        Crc32c(advance(self.0, bytes))
    }

    /// The CRC of all that was added. SCTP sends it in little-endian order.
    #[must_use]
    pub const fn finish(self) -> u32 {
        !self.0
    }
}

/// The CRC of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    Crc32c::new().add_bytes(bytes).finish()
}

/// What 4 bytes add to the CRC of a message that ends with them, when they change by `change` (old exclusive-or new).
pub fn of_change(change: [u8; 4]) -> u32 {
    advance(0, &change)
}

/// A contribution `crc` moved to where `bytes` more bytes follow. Costs a few dozen steps per bit that is set in `bytes`.
pub fn shift(crc: u32, bytes: u32) -> u32 {
    let mut moved = crc;
    for (bit, power) in POWERS.iter().enumerate() {
        if bytes >> bit & 1 != 0 {
            moved = multiply(moved, *power);
        }
    }
    moved
}

fn advance(mut crc: u32, bytes: &[u8]) -> u32 {
    let (blocks, rest) = bytes.as_chunks::<8>();
    for block in blocks {
        let word = u64::from_le_bytes(*block) ^ u64::from(crc);
        crc = 0;
        for (byte, table) in word.to_le_bytes().into_iter().zip(TABLES.iter().rev()) {
            crc ^= table[usize::from(byte)];
        }
    }
    for byte in rest {
        crc = crc >> 8 ^ TABLES[0][usize::from(crc as u8 ^ byte)];
    }
    crc
}

/// The product of two polynomials, modulo ours. The highest bit stands for x⁰.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 1 << 31;
    while bit != 0 {
        // All ones or none, instead of a branch that nobody can predict.
        product ^= b & ((a & bit != 0) as u32).wrapping_neg();
        b = times_x(b);
        bit >>= 1;
    }
    product
}

const fn times_x(a: u32) -> u32 {
    a >> 1 ^ POLYNOMIAL & (a & 1).wrapping_neg()
}

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = times_x(crc);
            bit += 1;
        }
        let mut behind = 0;
        while behind < 8 {
            tables[behind][byte] = crc;
            // One more byte of zeroes; the first table is complete for all bytes only at the end, so bit by bit.
            bit = 0;
            while bit < 8 {
                crc = times_x(crc);
                bit += 1;
            }
            behind += 1;
        }
        byte += 1;
    }
    tables
}

const fn powers() -> [u32; 32] {
    // x⁸: the bit for x⁰ moved by 8.
    let mut powers = [1 << 23; 32];
    let mut k = 1;
    while k < 32 {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
}
