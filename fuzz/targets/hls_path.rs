//! Any bytes as paths and queries of players.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bridge::hls::fuzz::hls_path(bytes));
