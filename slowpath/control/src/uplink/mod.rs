//! Uplinks: the node's way to other nodes and to the world.

mod steering;

pub use steering::{ClaimInput, Steering};
