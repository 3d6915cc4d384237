//! The pipeline alone, on plain buffers: what one packet costs without any port.

mod packets;
mod workload;

pub use packets::{Family, packet};
pub use workload::{Shape, Workload};
