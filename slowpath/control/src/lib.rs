//! Ports, workers and publication: what the control thread does.

#![forbid(unsafe_code)]

pub mod link;
