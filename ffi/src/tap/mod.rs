//! TAP ports with a virtio-net header: the host's own leg, and pods that want TCP segmentation offload. Uplinks that are received
//! from behind the kernel's receive offload have one, too ([`xdp`](crate::xdp)).
//!
//! Large frames and unfinished checksums stay as they are in both directions. A packet is read into an ordinary buffer
//! and, where it does not fit, on into a large one: a small packet takes one small buffer, a frame of 64 KiB a chain of two.
//! All headers are in the first.

mod device;
mod error;
mod file;
mod hidden;
mod lead;
mod link;
mod open;
mod pace;
mod place;
mod queue;

pub use error::{TapError, TapStep};
pub(crate) use file::{Carries, TapFile};
pub(crate) use hidden::HiddenTap;
pub use lead::LeadConfig;
use open::open_files;
pub use open::{TapConfig, TapPools, TapPort, open, open_port};
pub(crate) use queue::TapQueue;
