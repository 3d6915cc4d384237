//! Any bytes as a frame on an uplink with a tunnel end.

#![no_main]

use millrace_fuzz::{seeds, tunnel_end};

libfuzzer_sys::fuzz_target!(init: seeds(tunnel_end::write_seeds), |data: &[u8]| tunnel_end::check(data));
