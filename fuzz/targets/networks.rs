//! See `checks::networks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::networks::networks(data));
