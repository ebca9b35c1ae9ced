//! See `checks::proxy_v1`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::proxy_v1(data));
