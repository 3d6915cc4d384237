//! What identifies one direction of a connection.

use crate::tables::Address;

/// The 5-tuple of one direction of a connection. For ICMP echo both ports are the identifier; for a datagram's
/// later fragments they are its identification.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey {
    /// Source address.
    pub source: Address,
    /// Destination address, of the same family.
    pub destination: Address,
    /// Source port, in host order.
    pub source_port: u16,
    /// Destination port, in host order.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Whether this is the key of a datagram's fragments.
    pub fragment: bool,
}

impl FlowKey {
    /// The key of the packets that answer, as they arrive when nothing is translated.
    pub fn reversed(&self) -> FlowKey {
        FlowKey {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..*self
        }
    }

    /// The form in which keys are hashed and compared.
    pub fn words(&self) -> KeyWords {
        let tuple = KeyWords::tuple(
            self.source_port,
            self.destination_port,
            self.protocol,
            u8::from(!self.source.is_v4()) << 1 | u8::from(self.fragment),
        );
        if self.source.is_v4() {
            KeyWords::V4 { addresses: pair(self.source.v4_bits(), self.destination.v4_bits()), tuple }
        } else {
            let (source, destination) = (self.source.bits(), self.destination.bits());
            KeyWords::V6 { addresses: [halves(source), halves(destination)], tuple }
        }
    }
}

/// A key packed into words, as an entry holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyWords {
    /// IPv4.
    V4 {
        /// Source address in the upper half, destination in the lower.
        addresses: u64,
        /// See [`KeyWords::tuple`].
        tuple: u64,
    },
    /// IPv6.
    V6 {
        /// Source and destination, each as upper and lower half.
        addresses: [[u64; 2]; 2],
        /// See [`KeyWords::tuple`].
        tuple: u64,
    },
}

/// Bit of [`KeyWords::tuple`]'s kind byte: IPv6.
pub(super) const KIND_V6: u8 = 2;
/// Bit of [`KeyWords::tuple`]'s kind byte: fragments of a datagram.
pub(super) const KIND_FRAGMENT: u8 = 1;

impl KeyWords {
    /// Packs all but the addresses: source port, destination port, protocol, kind (bit 1: IPv6, bit 0: fragment),
    /// from the top down. The low 16 bits are left for the port that the flow comes in by.
    #[inline(always)]
    pub fn tuple(source_port: u16, destination_port: u16, protocol: u8, kind: u8) -> u64 {
        let ports = u32::from(source_port) << 16 | u32::from(destination_port);
        KeyWords::tuple_of(ports, protocol, kind)
    }

    /// The same from both ports as one number, the source port in its upper half.
    #[inline(always)]
    pub fn tuple_of(ports: u32, protocol: u8, kind: u8) -> u64 {
        u64::from(ports) << 32 | u64::from(protocol) << 24 | u64::from(kind) << 16
    }

    /// The word with ports, protocol and kind.
    #[inline(always)]
    pub fn tuple_word(&self) -> u64 {
        match self {
            KeyWords::V4 { tuple, .. } | KeyWords::V6 { tuple, .. } => *tuple,
        }
    }

    /// A hash of all of the key under a secret: who does not know it cannot choose keys that collide.
    #[inline(always)]
    pub fn hash(&self, secret: &Secret) -> u64 {
        match self {
            KeyWords::V4 { addresses, tuple } => hash_v4(*addresses, *tuple, secret),
            KeyWords::V6 { addresses: [source, destination], tuple } => {
                let source = fold(source[0] ^ secret[0], source[1] ^ secret[3]);
                let destination = fold(destination[0] ^ secret[1], destination[1] ^ secret[2]);
                hash_v4(source.rotate_left(17) ^ destination, *tuple, secret)
            }
        }
    }
}

/// The seeds of [`KeyWords::hash`].
pub type Secret = [u64; 4];

#[inline(always)]
fn hash_v4(addresses: u64, tuple: u64, secret: &Secret) -> u64 {
    fold(fold(addresses ^ secret[0], tuple ^ secret[1]) ^ secret[2], tuple ^ secret[3])
}

/// Both halves of the 128-bit product, folded: one multiplication spreads every bit of both factors.
#[inline(always)]
pub(super) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Two 32-bit values in one word.
#[inline(always)]
pub(super) const fn pair(upper: u32, lower: u32) -> u64 {
    (upper as u64) << 32 | lower as u64
}

/// A 128-bit value as upper and lower half.
#[inline(always)]
pub(super) const fn halves(value: u128) -> [u64; 2] {
    [(value >> 64) as u64, value as u64]
}
