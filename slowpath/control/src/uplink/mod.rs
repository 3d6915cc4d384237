//! Uplinks: the node's way to other nodes and to the world.

mod asked;
mod chosen;
pub mod kernel;
mod path_mtu;
mod steering;
pub mod takeover;
mod tend;
mod underlay;

pub use steering::{ClaimInput, Steering};
pub(crate) use tend::Uplinks;
