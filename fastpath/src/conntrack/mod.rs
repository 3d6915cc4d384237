//! The flow table: connection tracking, NAT and the cached verdict of every connection.
//!
//! Shared by all workers, fixed in size, preallocated and lock-free. Each direction of a connection has an entry on
//! a cache line of its own ([`line`]), which only the worker that receives this direction writes in steady state.
//! An index of cache-line buckets ([`index`]) leads from a packet's 5-tuple to its entry; an entry holds the whole
//! verdict, so an established packet costs one lookup and one rewrite. Entries that were taken out of the index are
//! used again only after a grace period of all workers ([`crate::sync::Domain`]), so a worker may look at an entry for
//! the rest of its burst without further checks.
//!
//! The table's memory may be a file that outlives the process ([`resume`]).
//!
//! Beside it, and made the same way, stands the table of session affinity ([`AffinityTable`]).

mod affinity;
mod entry;
mod identity;
mod index;
mod key;
mod line;
#[cfg(all(test, loom))]
mod loom_tests;
mod resume;
mod sctp;
mod shown;
mod table;
mod tcp;
mod tcp_window;
#[cfg(all(test, not(loom)))]
mod tests;
mod timeouts;
mod tracker;

pub use affinity::{AffinityError, AffinityInfo, AffinityTable};
pub use entry::{Entry, EntryFlags, EntryRef, Verdict};
pub use index::Inserted;
pub use key::{FlowKey, KeyWords, Secret};
pub use line::Line;
pub use sctp::{SctpPacket, SctpSeen, SctpState};
pub use shown::{Judgment, Shown};
pub use table::{FlowInfo, FlowTable, FlowTableConfig, FlowTableError, FlowView};
pub use tcp::{TcpSeen, TcpState};
pub use tcp_window::TcpSegment;
pub use timeouts::{FlowState, Ticks, Timeouts};
pub use tracker::{LONGEST_UNSEEN, NewFlow, NotTracked, Tracker};
