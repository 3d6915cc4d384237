//! The control thread over drivers in plain memory, with real workers.

mod attachments;
mod bench;
mod host_leg;
mod nic_queues;
mod objects;
mod packets;
mod ports;
mod publication;
mod services;
mod shortcuts;
mod sync;
mod traces;
mod uplinks;
