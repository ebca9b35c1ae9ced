//! See `checks::http`. Prepared answers are never freed, so run it with `-detect_leaks=0`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::http(data));
