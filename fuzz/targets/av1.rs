//! Any bytes as RTP packets of AV1.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bridge::frames::fuzz::av1(Instant::now(), bytes));
