//! Any bytes as RTMP chunks.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bridge::rtmp::fuzz::rtmp_chunk(bytes));
