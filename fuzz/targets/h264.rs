//! Any bytes as RTP packets of H.264.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bridge::frames::fuzz::h264(Instant::now(), bytes));
