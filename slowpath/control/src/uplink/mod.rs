//! Uplinks: the node's way to other nodes and to the world.

pub mod kernel;
mod steering;

pub use steering::{ClaimInput, Steering};
