//! AF_XDP ports: sockets on the queues of a veth's host end (a pod) or of a NIC (an uplink).
//!
//! ```text
//!            interface ── XDP program (Steering) ──┬── to the queue's socket: rx ring ── rx_burst
//!                                                  └── to the kernel
//!  Arena: [chunk|chunk|chunk|…]  = mbuf pool = UMEM of all sockets: a frame moves from port to port in place
//! ```
//!
//! Packets have complete checksums: AF_XDP carries no offload state, so the pod's end of a veth must have transmit
//! offloads off. What is sent with unfinished checksums or as one large frame is settled in software.

mod arena;
mod below;
mod claims;
mod config;
mod custody;
mod device;
mod error;
mod features;
mod handle;
mod memory;
mod open;
mod parts;
mod program;
mod queue;
mod ring;
mod socket;

pub use arena::{Arena, ArenaConfig, ArenaError};
pub use config::{CopyMode, Take, XdpConfig, XdpMode};
pub use error::{ClaimError, Step, XdpError};
pub use memory::Pages;
pub use open::{open, open_steered};
pub use program::Steering;
