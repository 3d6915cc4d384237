//! Frames, and what gives and takes bursts of them.

mod claim;
mod counters;
mod drops;
mod frame;
mod limit;
mod memory;
mod offload;
mod queue;
mod shortcut;

pub use claim::{Claim, ClaimChanges};
pub use counters::{PortCounters, PortTotals};
pub use drops::{DROP_REASONS, DropReason};
pub use frame::Frame;
pub use limit::{Bandwidth, Limiter, PortLimits, bytes_on_link};
pub use memory::{BufferFrame, MemoryQueue};
pub use offload::{Checksum, Gso, GsoKind, Offload};
pub use queue::{BURST, Burst, PortId, PortQueue, WorkerId};
pub use shortcut::{Ends, Shortcut, TunnelEnds, Wrapping};
