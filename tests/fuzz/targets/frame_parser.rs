//! Any bytes as a frame.

#![no_main]

use millrace_fuzz::{frames, seeds};

libfuzzer_sys::fuzz_target!(init: seeds(frames::write_seeds), |data: &[u8]| frames::check(data));
