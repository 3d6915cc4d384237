//! Headers on the wire: reading, rewriting and writing them, one protocol per file.
//!
//! Every file has the same shape: constants under their IANA names, `Header` to read, `HeaderMut` to rewrite in
//! place, and a plain struct with `emit` to write a new one. A view is made by `new_checked`, which looks at
//! the length once; afterwards nothing can be out of bounds, because a view borrows an array of the header's
//! size. [`parse`] is the one that workers call per packet: it classifies a frame in a single pass.
//!
//! Nothing here allocates, panics, or knows of ports and flows. Numbers are in host order unless a name says otherwise.

pub mod arp;
pub mod checksum;
pub mod crc32c;
pub mod ethernet;
pub mod icmp_error;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod ipv6_extension;
pub mod ndisc;
pub mod parse;
pub mod sctp;
pub mod tcp;
pub mod tcp_reset;
pub mod udp;
pub mod vlan;
pub mod vxlan;

mod error;
mod protocol;

pub use checksum::{Delta, Sum};
pub use error::HeaderError;
pub use ethernet::{EtherType, MacAddr};
pub use parse::{Class, Family, L4Kind, ParseError, Parsed, parse};
pub use protocol::IpProtocol;
pub use vlan::VlanId;
