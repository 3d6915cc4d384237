//! What the node looks like, in the admin API's types.

mod drops;
mod flows;
mod ports;
mod routes;
mod services;
mod status;
mod trace;
mod workers;

pub use trace::TraceError;
pub use workers::WorkerReading;
