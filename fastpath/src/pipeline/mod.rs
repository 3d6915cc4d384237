//! What becomes of a burst of frames.
//!
//! [`Pipeline::run`] takes a burst that one port received and sends every frame on, answers it or drops it for a
//! reason. Its stages, one file each:
//!
//! ```text
//!  burst ─► sort (of uplinks: tunnels, what is the kernel's) ─┐
//!        ┌──────────────────────────────────────────────────┘
//!        └► classify ─► look up ─┬─ established ─► forward ────────────────► egress
//!           (parse,     (batched,│                    ▲
//!            MACs)     prefetched)├─ new flow ─► resolve (spoof, service,    │
//!              │                 │              route) ─► track ─┘         │
//!              │                 │              └─ neighbour unknown ─► park  │
//!              ├─ neighbour      ├─ fragment, icmp_error: find their flow ─┘
//!              │  (ARP, ND)      └─ answer: ICMP error, RST, echo reply ─► back to the sender
//!              └─ drop, with its reason          egress ─► encapsulate, through a tunnel
//! ```
//!
//! [`Worker`] polls the port queues that it owns, runs the pipeline on what arrives, and sends bursts out.

mod answer;
mod brief;
mod clamp;
mod classify;
mod counters;
mod decapsulate;
mod egress;
mod encapsulate;
mod forward;
mod fragment;
mod fragmentation;
mod handover;
mod icmp_error;
mod neighbour;
mod past;
mod rate;
mod report;
mod resolve;
mod rewrite;
mod run;
mod service;
mod shorten;
mod sort;
#[cfg(all(test, not(loom)))]
mod tests;
mod time;
mod trace;
mod track;
mod warm;
mod worker;

pub use counters::{WorkerCounter, WorkerCounters};
pub use egress::Egress;
pub use handover::{Handover, Waker, handover_mesh};
pub use report::{Established, Report, Wait};
pub use run::Pipeline;
pub use time::Nanos;
pub use trace::{Probe, Trace, TraceEnd, TraceStep, trace};
pub use worker::{Command, ControlEnd, Mailbox, Reply, Worker, WorkerParts, mailbox};
