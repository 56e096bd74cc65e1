//! What forwarding costs, beside the floor: encrypting and sending the same datagrams and nothing else.
//!
//! A shard and its clients connect through the real handshake, in memory. Then encrypted packets are
//! handed to the shard frame by frame, twice: once the arena it fills is thrown away (user space alone,
//! allocations counted), once it goes through real sockets to clients on loopback. The floor seals and
//! sends what went out then, from a list. `cargo bench -p plenum-sfu`, or with words of scenario names
//! after `--`.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::too_many_arguments,
    clippy::too_many_lines,
    clippy::print_stdout,
    dead_code,
    reason = "a measurement, not a library; it uses half of the simulation's browser"
)]

use std::alloc::System;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use crate::floor::Floor;
use crate::scenario::Scenario;
use crate::stage::{Figures, Stage};

#[path = "../tests/sim/browser.rs"]
mod browser;
#[path = "../tests/sim/channels.rs"]
mod channels;
#[path = "forward/floor.rs"]
mod floor;
#[path = "../tests/sim/media.rs"]
mod media;
#[path = "../tests/sim/offer.rs"]
mod offer;
#[path = "../tests/sim/receiver.rs"]
mod receiver;
#[path = "../tests/sim/rtp.rs"]
mod rtp;
#[path = "forward/scenario.rs"]
mod scenario;
#[path = "../tests/sim/sender.rs"]
mod sender;
#[path = "forward/stage.rs"]
mod stage;
#[path = "../tests/sim/stun.rs"]
mod stun;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    if std::env::args().any(|arg| arg == "--instructions") {
        return count_instructions(&asked);
    }
    println!(
        "AES-256-GCM by {}; ns of CPU time per packet forwarded, medians",
        floor::library()
    );
    println!(
        "{:<22} {:>10} {:>6} {:>11} {:>6} | {:>9} {:>9} {:>6} {:>12} | {:>8} {:>6} {:>8} | {:>6} {:>6} {:>6}",
        "scenario",
        "user space",
        "cipher",
        "+ receiving",
        "timers",
        "with send",
        "floor",
        "ratio",
        "floor no GSO",
        "segments",
        "allocs",
        "KiB each",
        "paced",
        "floor",
        "ratio"
    );
    for scenario in Scenario::all() {
        let is_asked = |word: &String| scenario.name.contains(word.as_str());
        if asked.is_empty() || asked.iter().any(is_asked) {
            measure(&scenario);
        }
    }
}

/// Runs one round of each scenario for callgrind, which counts within `Stage::counted` only.
fn count_instructions(asked: &[String]) {
    for scenario in Scenario::all() {
        if asked
            .iter()
            .any(|word| scenario.name.contains(word.as_str()))
        {
            let figures = Stage::connect(&scenario).count();
            println!("{}: {} packets forwarded", scenario.name, figures.forwarded);
        }
    }
}

fn measure(scenario: &Scenario) {
    let mut stage = Stage::connect(scenario);
    let thrown_away = stage.measure(false);
    let sent = stage.measure(true);
    let paced_ns = scenario.is_paced().then(|| stage.paced_ns());
    let list = stage.record();
    let mut floor = Floor::new(&list);
    let cipher_ns = floor.cipher_ns();
    let floor_ns = floor.measure(&mut stage);
    let paced_floor_ns = paced_ns.map(|_| floor.paced_ns(&mut stage));
    floor.disable_segmentation();
    let single_ns = floor.measure(&mut stage);

    let per_packet = |figures: &Figures, ns: f64| ns / figures.forwarded.max(1) as f64;
    let alone = stage.alone();
    let receiving = alone.receiving_ns * thrown_away.received as f64;
    let shard_bytes = stage.shard_bytes() - alone.shard_bytes;
    let others = scenario.participants() - 1;
    let whole = per_packet(&sent, sent.work_ns);
    println!(
        "{:<22} {:>10.0} {cipher_ns:>6.0} {:>11.0} {:>6.0} | {whole:>9.0} {floor_ns:>9.0} {:>6.2} {single_ns:>12.0} | {:>8.1} {:>6} {:>8.1}{}",
        scenario.name,
        per_packet(&thrown_away, thrown_away.work_ns - receiving),
        per_packet(&thrown_away, thrown_away.work_ns),
        per_packet(&thrown_away, thrown_away.timers_ns),
        whole / floor_ns,
        thrown_away.forwarded as f64 / thrown_away.runs.max(1) as f64,
        thrown_away.allocations,
        shard_bytes as f64 / others as f64 / 1024.0,
        match paced_ns.zip(paced_floor_ns) {
            Some((ours, floor)) => format!(" | {ours:>6.0} {floor:>6.0} {:>6.2}", ours / floor),
            None => String::new(),
        },
    );
    assert_eq!(
        thrown_away.forwarded, thrown_away.expected,
        "every packet goes to everyone"
    );
    assert_eq!(
        thrown_away.allocations, 0,
        "heap allocations while forwarding"
    );
    assert_eq!(thrown_away.leaked_bytes, 0, "memory grows while forwarding");
}

/// CPU time of this thread; on loopback what the kernel does for the receiving side is part of it.
fn cpu_ns() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    Duration::from(time).as_nanos() as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
