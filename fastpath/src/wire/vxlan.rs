//! VXLAN (RFC 7348): an Ethernet frame in a UDP datagram.

/// Bytes of the header.
pub const LEN: usize = 8;
/// "The VNI is valid": the one flag that is defined, in the first byte.
pub const FLAG_VNI: u8 = 0x08;

/// The header of a network.
#[inline]
pub const fn header(vni: u32) -> [u8; LEN] {
    let [_, a, b, c] = vni.to_be_bytes();
    [FLAG_VNI, 0, 0, 0, a, b, c, 0]
}

/// The network that a header names; none if it does not say that it names one. All else in it is reserved, and not looked
/// at (section 5).
#[inline]
pub const fn vni(header: &[u8; LEN]) -> Option<u32> {
    let [flags, _, _, _, a, b, c, _] = *header;
    if flags & FLAG_VNI == 0 { None } else { Some(u32::from_be_bytes([0, a, b, c])) }
}
