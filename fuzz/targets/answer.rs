//! See `checks::answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::answer(data));
