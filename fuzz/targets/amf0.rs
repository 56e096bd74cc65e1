//! Any bytes as values of RTMP commands.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bridge::rtmp::fuzz::amf0(bytes));
