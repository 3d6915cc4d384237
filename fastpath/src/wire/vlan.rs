//! The VLAN tag (IEEE 802.1Q), which stands behind Ethernet's addresses.

use core::fmt;

use super::error::{fixed, fixed_mut};
use super::{EtherType, HeaderError};

#[cfg(test)]
mod tests;

/// Bytes that a tag adds to the frame. Read from behind the EtherType that announces it, they are the tag control
/// information and the EtherType of what follows.
pub const LEN: usize = 4;

/// Names a VLAN: 12 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct VlanId(u16);

impl VlanId {
    /// Priority only: the frame belongs to the untagged VLAN.
    pub const PRIORITY: VlanId = VlanId(0);

    /// A VLAN that can be configured: 1 to 4094.
    pub const fn try_new(id: u16) -> Option<VlanId> {
        if matches!(id, 1..=4094) { Some(VlanId(id)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The parts of a tag that are forwarded: its VLAN, and what follows it.
#[inline]
pub(super) fn split(tag: &[u8; LEN]) -> (VlanId, EtherType) {
    let header = Header { bytes: tag };
    (header.id(), header.ether_type())
}

/// Fields of a tag to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields {
    /// Priority code point, 0 to 7; higher bits are ignored.
    pub priority: u8,
    /// The VLAN.
    pub id: VlanId,
    /// What follows.
    pub ether_type: EtherType,
}

impl Fields {
    /// Writes the tag.
    #[inline]
    pub fn emit(&self, into: &mut [u8; LEN]) {
        let [a, b] = (u16::from(self.priority & 7) << 13 | self.id.0).to_be_bytes();
        let [c, d] = self.ether_type.0.to_be_bytes();
        *into = [a, b, c, d];
    }
}

/// A tag to be read.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    bytes: &'a [u8; LEN],
}

impl<'a> Header<'a> {
    /// The tag at the front of `bytes`, which begin behind the EtherType that announces it.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        fixed(bytes).map(|bytes| Header { bytes })
    }

    /// Priority code point, 0 to 7.
    #[inline]
    pub fn priority(&self) -> u8 {
        self.bytes[0] >> 5
    }

    /// The VLAN.
    #[inline]
    pub fn id(&self) -> VlanId {
        VlanId(u16::from_be_bytes([self.bytes[0], self.bytes[1]]) & 0xfff)
    }

    /// What follows.
    #[inline]
    pub fn ether_type(&self) -> EtherType {
        EtherType(u16::from_be_bytes([self.bytes[2], self.bytes[3]]))
    }
}

/// A tag to be rewritten in place.
#[derive(Debug)]
pub struct HeaderMut<'a> {
    bytes: &'a mut [u8; LEN],
}

impl<'a> HeaderMut<'a> {
    /// The tag at the front of `bytes`, which begin behind the EtherType that announces it.
    #[inline]
    pub fn new_checked(bytes: &'a mut [u8]) -> Result<Self, HeaderError> {
        fixed_mut(bytes).map(|bytes| HeaderMut { bytes })
    }

    /// The same tag, to be read.
    #[inline]
    pub fn as_header(&self) -> Header<'_> {
        Header { bytes: self.bytes }
    }

    /// Sets the VLAN and leaves the priority.
    #[inline]
    pub fn set_id(&mut self, id: VlanId) {
        let [high, low] = id.0.to_be_bytes();
        self.bytes[0] = self.bytes[0] & 0xf0 | high;
        self.bytes[1] = low;
    }
}
