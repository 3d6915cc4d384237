//! The packet path of Millrace, in pure Rust.
//!
//! Three nouns explain it. A [`Frame`](port::Frame) is one packet and its offload state. A
//! [`PortQueue`](port::PortQueue) gives and takes bursts of frames. A table is an immutable snapshot of what
//! the cluster wants ([`TableSet`](tables::TableSet)), and there is one mutable table, the
//! [`FlowTable`](conntrack::FlowTable). Everything a worker does is: *burst of frames from a port →
//! pipeline(tables, flow table, now) → bursts to ports.*
//!
//! This crate knows no DPDK, no clock, no syscall and no serialisation. Time and random seeds are arguments.
//!
//! May use: `wire, sync` → nothing; `port` → `wire`; `tables, conntrack` → `wire, sync`; `pipeline` → all.

// `sync` alone holds unsafe code: cells, prefetch and foreign memory. Everything else is checked by the compiler.
#![deny(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what went wrong by panicking")
)]

pub mod conntrack;
pub mod pipeline;
pub mod port;
pub mod sync;
pub mod tables;
pub mod wire;
