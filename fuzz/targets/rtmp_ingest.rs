//! Any bytes as what an encoder says after its handshake.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bridge::rtmp::fuzz::ingest(Instant::now(), bytes));
