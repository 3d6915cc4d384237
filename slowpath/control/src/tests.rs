//! The control thread over drivers in plain memory, with real workers.

mod bench;
mod objects;
mod packets;
mod ports;
mod publication;
mod services;
mod sync;
mod traces;
