//! What belongs together, and what a change touches.

mod addresses;
mod services;

pub(crate) use addresses::AddressIndex;
pub(crate) use services::{Mention, ServiceIndex, counted, endpoints_of, mentions};
