//! What belongs together, and what a change touches.

mod addresses;
mod nodes;
mod services;

pub(crate) use addresses::AddressIndex;
pub(crate) use nodes::{Moved, NodeIndex};
pub(crate) use services::{Mention, ServiceIndex, counted, mentions};
