//! The kernel's side of a port: the interface that a pod sees.
//!
//! For an AF_XDP or veth pod it is a veth pair whose far end lives in the pod's network namespace; for a TAP pod it is the
//! TAP itself, made there or moved there. Either is given its name, MAC address, MTU, addresses and routes. Nothing else in the
//! pod's namespace is touched, and nothing is left of an interface once it is removed.

mod check;
mod error;
mod host;
mod interface;
mod namespace;
mod netlink;
mod offloads;
mod pod;
mod record;
mod route;
mod tap;
#[cfg(test)]
pub(crate) mod tests;
mod veth;

pub use check::{Difference, compare, is_made_here, is_namespace, is_own_namespace};
pub use error::{LinkError, Step};
pub use host::{HostRoutes, Obstacle, host_addresses, is_host_led, lead_host};
pub use interface::{Interface, Routes};
pub use namespace::Namespace;
pub use record::{Leftover, Record, RecordError};
pub use tap::{dress_tap, move_tap, remove_tap};
pub use veth::{create_veth, dress_veth, host_end_name, remove_veth};
