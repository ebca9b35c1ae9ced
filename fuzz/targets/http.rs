//! See `checks::http`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::http(data));
