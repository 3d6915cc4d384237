//! The extension headers of IPv6 (RFC 8200, section 4), from the fixed header to layer 4.

use core::fmt;

use super::IpProtocol;

#[cfg(test)]
mod tests;

/// Headers that are followed at most. Real traffic has one or two; a longer chain is somebody trying something.
pub const MAX_HEADERS: usize = 8;

/// Where a chain of extension headers ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upper {
    /// What follows the last header that was followed. For a fragment that is not the first, the kind of header
    /// that the fragmented part begins with.
    pub protocol: IpProtocol,
    /// Bytes of the extension headers.
    pub len: usize,
    /// The fragment header, if there was one.
    pub fragment: Option<Fragment>,
}

/// The fragment header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// Where this fragment begins in the fragmented part, in units of 8 bytes.
    pub offset: u16,
    /// True when it is not the last.
    pub more: bool,
    /// Names the packet that the fragments belong to.
    pub identification: u32,
}

/// Why a chain of extension headers cannot be followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExtensionError {
    /// A header reaches beyond the bytes.
    Truncated(IpProtocol),
    /// More than [`MAX_HEADERS`].
    TooMany,
    /// Hop-by-hop options that are not the first header (RFC 8200, section 4.1), or a second fragment header.
    Misplaced(IpProtocol),
    /// A routing header of type 0 that is still to be followed; it lets a sender choose where the packet goes after its
    /// destination was judged, and is forbidden (RFC 5095).
    SourceRoute,
}

impl fmt::Display for ExtensionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExtensionError::Truncated(kind) => write!(f, "extension header {kind} reaches beyond the packet"),
            ExtensionError::TooMany => write!(f, "more than {MAX_HEADERS} extension headers"),
            ExtensionError::Misplaced(kind) => write!(f, "extension header {kind} where it must not be"),
            ExtensionError::SourceRoute => write!(f, "routing header of type 0"),
        }
    }
}

impl core::error::Error for ExtensionError {}

/// True for the headers that [`walk`] steps over.
#[inline]
pub const fn is_extension(protocol: IpProtocol) -> bool {
    matches!(
        protocol,
        IpProtocol::HOP_BY_HOP
            | IpProtocol::ROUTING
            | IpProtocol::FRAGMENT
            | IpProtocol::AUTHENTICATION
            | IpProtocol::DESTINATION_OPTIONS
    )
}

/// Follows the chain in `payload`, the bytes behind the fixed header, of which `first` is the kind.
///
/// Stops at layer 4, at ESP, at "no next header", and behind the fragment header of a fragment that is not the first.
pub fn walk(first: IpProtocol, payload: &[u8]) -> Result<Upper, ExtensionError> {
    let mut upper = Upper { protocol: first, len: 0, fragment: None };
    for _ in 0..MAX_HEADERS {
        if !is_extension(upper.protocol) {
            return Ok(upper);
        }
        step(&mut upper, payload)?;
        if upper.fragment.is_some_and(|fragment| fragment.offset != 0) {
            return Ok(upper);
        }
    }
    if is_extension(upper.protocol) { Err(ExtensionError::TooMany) } else { Ok(upper) }
}

/// Steps over one header.
fn step(upper: &mut Upper, payload: &[u8]) -> Result<(), ExtensionError> {
    let kind = upper.protocol;
    let truncated = ExtensionError::Truncated(kind);
    let rest = payload.get(upper.len..).ok_or(truncated)?;
    // Every extension header has at least 8 bytes.
    let header = rest.first_chunk::<8>().ok_or(truncated)?;
    let stated = usize::from(header[1]);
    let len = match kind {
        IpProtocol::FRAGMENT if upper.fragment.is_some() => return Err(ExtensionError::Misplaced(kind)),
        IpProtocol::FRAGMENT => {
            upper.fragment = Some(fragment(header));
            8
        }
        // In words of 4 bytes, less 2 (RFC 4302, section 2.2).
        IpProtocol::AUTHENTICATION => (stated + 2) * 4,
        IpProtocol::HOP_BY_HOP if upper.len != 0 => return Err(ExtensionError::Misplaced(kind)),
        IpProtocol::ROUTING if header[2] == 0 && header[3] != 0 => return Err(ExtensionError::SourceRoute),
        _ => (stated + 1) * 8,
    };
    if len > rest.len() {
        return Err(truncated);
    }
    upper.len += len;
    upper.protocol = IpProtocol(header[0]);
    Ok(())
}

fn fragment(header: &[u8; 8]) -> Fragment {
    let [_, _, high, low, a, b, c, d] = *header;
    let field = u16::from_be_bytes([high, low]);
    Fragment { offset: field >> 3, more: field & 1 != 0, identification: u32::from_be_bytes([a, b, c, d]) }
}
