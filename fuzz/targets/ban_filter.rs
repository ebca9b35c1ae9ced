//! See `checks::ban_filter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::ban_filter::ban_filter(data));
