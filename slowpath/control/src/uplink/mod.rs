//! Uplinks: the node's way to other nodes and to the world.

mod asked;
mod chosen;
mod claims;
mod configured;
pub mod kernel;
mod neighbours;
mod path_mtu;
mod steering;
pub mod takeover;
mod tend;
mod underlay;

pub(crate) use configured::Uplinks;
pub use steering::{ClaimInput, Steering};
