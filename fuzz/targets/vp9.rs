//! Any bytes as RTP packets of VP9.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bridge::frames::fuzz::vp9(Instant::now(), bytes));
