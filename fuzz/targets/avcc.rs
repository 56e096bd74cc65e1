//! Any bytes as decoder configurations and pictures of H.264 as FLV has them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bridge::flv::fuzz::avcc(bytes));
