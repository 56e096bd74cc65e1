//! Any bytes as tags of FLV.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bridge::flv::fuzz::flv_tag(bytes));
