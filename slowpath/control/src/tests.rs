//! The control thread over drivers in plain memory, with real workers.

mod bench;
mod ports;
mod publication;
