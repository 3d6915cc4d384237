//! A load generator over DPDK devices: it sends flows by one device, counts what comes back by another, and tells
//! rate, loss and latency. It searches the highest rate without loss as RFC 2544 (section 26.1) describes.

#![forbid(unsafe_code)]

mod arguments;
mod latency;
mod load;
mod search;
mod stream;
#[cfg(test)]
mod tests;

pub use arguments::Arguments;
pub use latency::Histogram;
pub use load::{LoadError, Report, Tester};
pub use search::search;
pub use stream::{Protocol, Sizes, Stream, StreamError};
