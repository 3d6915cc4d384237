//! The kernel's side of a port: the interface that a pod sees.
//!
//! For an AF_XDP pod it is a veth pair whose far end lives in the pod's network namespace; for a TAP pod it is the
//! TAP itself, moved there. Either is given its name, MAC address, MTU, addresses and routes. Nothing else in the
//! pod's namespace is touched, and nothing is left of an interface once it is removed.

mod error;
mod interface;
mod namespace;
mod netlink;
mod offloads;
mod pod;
mod record;
mod tap;
#[cfg(test)]
mod tests;
mod veth;

pub use error::{LinkError, Step};
pub use interface::Interface;
pub use namespace::Namespace;
pub use record::{Leftover, Record, RecordError};
pub use tap::move_tap;
pub use veth::{create_veth, host_end_name, remove_veth};
