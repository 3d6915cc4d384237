//! AF_XDP ports: sockets on the queues of a veth's host end (a pod) or of a NIC (an uplink).
//!
//! ```text
//!            interface ── XDP program (Steering) ──┬── to the queue's socket: rx ring ── rx_burst
//!                                                  └── to the kernel
//!  Arena: [chunk|chunk|chunk|…]  = mbuf pool = UMEM of all sockets: a frame moves from port to port in place
//! ```
//!
//! An uplink may be received otherwise ([`XdpMode::Tc`]): by a program of traffic control and a TAP, with whatever the kernel knows of
//! checksums and large frames. Its sockets only send then.
//!
//! AF_XDP carries no offload state. Checksums that the other end of a veth has left out are known by their values
//! ([`open_checksum`](crate::open_checksum)). What is sent with unfinished checksums is settled in software, and so are large
//! frames, but for those of an uplink in copy mode: they go past the ring (`large`). So do many small frames at once, where the kernel
//! copies them ([`batch`](crate::batch)).

mod arena;
mod below;
mod claims;
mod config;
mod custody;
mod device;
mod diversion;
mod error;
mod features;
mod handle;
mod incoming;
mod intake;
mod large;
mod merging;
mod open;
mod packet;
mod packet_ring;
mod parts;
mod program;
mod queue;
mod ring;
mod single;
mod socket;
mod waiting;

pub use crate::mapping::Pages;
pub use arena::{Arena, ArenaConfig, ArenaError};
pub use config::{CopyMode, Take, XdpConfig, XdpMode};
pub(crate) use error::chain;
pub use error::{ClaimError, Step, XdpError};
pub use open::{open, open_steered, receive_queues};
pub use program::Steering;
pub(crate) use program::lock;
pub(crate) use single::Single;
