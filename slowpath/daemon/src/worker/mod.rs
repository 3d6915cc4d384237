//! Worker threads: where they run, how they spend idle time, how they are woken.

mod cores;
mod idle;
mod sleep;
mod spin;
mod thread;

pub(crate) use cores::{Place, places};
pub(crate) use sleep::Doorbell;
pub(crate) use thread::{Staff, Supplies};
