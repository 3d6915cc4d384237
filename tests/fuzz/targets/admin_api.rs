//! Any text as the configuration, as a request, or as an answer of the admin API.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_fuzz::admin_api::check(data));
