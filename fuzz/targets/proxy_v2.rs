//! See `checks::proxy_v2`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::proxy_v2(data));
