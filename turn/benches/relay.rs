//! What relaying costs, beside coturn where that is installed: processor time of the server per datagram.
//!
//! Clients with one channel each send to peers that send back, paced, over loopback; the server is a process
//! of its own. `cargo bench -p plenum-turn`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::too_many_lines,
    reason = "a measurement, not a library"
)]

#[path = "relay/crowd.rs"]
mod crowd;
#[path = "relay/servers.rs"]
mod servers;

use std::time::Duration;

use crowd::{Crowd, Load};
use servers::Server;

/// Loads of one kind each: a call of a few, and a busy relay.
const LOADS: [Load; 2] = [
    Load {
        clients: 10,
        bursts_per_second: 30,
        datagrams_per_burst: 4,
        bytes: 1100,
    },
    Load {
        clients: 100,
        bursts_per_second: 30,
        datagrams_per_burst: 4,
        bytes: 1100,
    },
];
const REPEATS: usize = 5;
const MEASURED: Duration = Duration::from_secs(4);

fn main() {
    if std::env::args().any(|arg| arg == servers::SERVE) {
        return servers::serve();
    }
    println!(
        "microseconds of the server's processor time per datagram relayed, median (least to most)"
    );
    println!(
        "{:<34} {:>24} {:>24} {:>7}",
        "load", "Plenum", "coturn", "ratio"
    );
    for load in LOADS {
        let ours = measure(Server::start_ours, load);
        let theirs = servers::has_coturn().then(|| measure(Server::start_coturn, load));
        let median = |figures: &[f64]| figures[figures.len() / 2];
        let text = |figures: &[f64]| {
            let (least, most) = (figures[0], figures[figures.len() - 1]);
            format!("{:.2} ({least:.2} to {most:.2})", median(figures))
        };
        let ratio = theirs.as_ref().map(|theirs| median(&ours) / median(theirs));
        println!(
            "{:<34} {:>24} {:>24} {:>7}",
            load.to_string(),
            text(&ours),
            theirs.as_deref().map_or("not installed".to_owned(), text),
            ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
        );
    }
}

/// Several runs against a fresh server each, in order of their outcome.
fn measure(start: fn() -> Server, load: Load) -> Vec<f64> {
    let mut figures: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let server = start();
            let mut crowd = Crowd::allocate(&server, load);
            crowd.run(Duration::from_secs(1));
            let before = (server.cpu(), crowd.received());
            crowd.run(MEASURED);
            let cpu = server.cpu().saturating_sub(before.0);
            let relayed = crowd.received() - before.1;
            assert!(
                crowd.lost_per_thousand() < 10,
                "too much was lost to tell anything"
            );
            cpu.as_secs_f64() * 1e6 / relayed as f64
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    figures
}
