//! Why bytes are not the header that they were taken for.

use core::fmt;

/// Why bytes are not the header that they were taken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderError {
    /// Fewer bytes than the header has.
    Truncated {
        /// Bytes that the header needs.
        needed: usize,
        /// Bytes that there are.
        had: usize,
    },
    /// The version, hardware type or message type is another protocol's.
    Kind(u16),
    /// The header states a length, in bytes, that cannot be.
    Length(usize),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::Truncated { needed, had } => {
                write!(f, "header needs {needed} bytes, there are {had}")
            }
            HeaderError::Kind(kind) => write!(f, "version or type {kind} is not this header's"),
            HeaderError::Length(bytes) => write!(f, "stated length of {bytes} bytes cannot be"),
        }
    }
}

impl core::error::Error for HeaderError {}

/// The first `N` bytes, or the error that says how many are missing.
pub(super) fn fixed<const N: usize>(bytes: &[u8]) -> Result<&[u8; N], HeaderError> {
    bytes.first_chunk().ok_or(HeaderError::Truncated { needed: N, had: bytes.len() })
}

/// The first `N` bytes to be rewritten, or the error that says how many are missing.
pub(super) fn fixed_mut<const N: usize>(bytes: &mut [u8]) -> Result<&mut [u8; N], HeaderError> {
    let had = bytes.len();
    bytes.first_chunk_mut().ok_or(HeaderError::Truncated { needed: N, had })
}
