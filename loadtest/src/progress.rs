//! One line a second about a run.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::io::Snapshot;
use crate::process::{Process, Sample};
use crate::run::RunOptions;
use crate::totals::Totals;

/// Prints how a run goes, to the error stream.
pub(crate) struct Progress {
    is_talkative: bool,
    bots: u32,
    server: Option<Process>,
    began: Instant,
    last: Option<(Instant, Totals, Option<Sample>)>,
}

impl Progress {
    pub(crate) fn new(options: &RunOptions) -> Self {
        Self {
            is_talkative: options.is_talkative,
            bots: options.scenario.bots(),
            server: options.server,
            began: Instant::now(),
            last: None,
        }
    }

    /// Prints one line about what came since the last.
    pub(crate) fn show(&mut self, snapshot: &Snapshot) {
        if !self.is_talkative {
            return;
        }
        let now = Instant::now();
        let is_early = |(at, ..): &(Instant, _, _)| now.duration_since(*at) < LEAST;
        if self.last.as_ref().is_some_and(is_early) {
            return;
        }
        let sample = self.server.and_then(Process::sample);
        if let Some((at, before, server)) = &self.last {
            let seconds = now.duration_since(*at).as_secs_f64().max(0.001);
            let mut line = self.line(snapshot, before, seconds);
            if let (Some(earlier), Some(sample)) = (server, &sample) {
                let cores = sample.cpu.saturating_sub(earlier.cpu).as_secs_f64() / seconds;
                let memory = sample.rss_bytes >> 20;
                line.push_str(&format!(" | server {cores:.2} cores {memory} MiB"));
            }
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        self.last = Some((now, snapshot.totals.clone(), sample));
    }

    fn line(&self, snapshot: &Snapshot, before: &Totals, seconds: f64) -> String {
        let (totals, stages) = (&snapshot.totals, snapshot.stages);
        // Counting began anew in between.
        let none = Totals::default();
        let before = if before.packets > totals.packets {
            &none
        } else {
            before
        };
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let delay = totals.delay().since(&before.delay());
        let ms = |per_mille| delay.quantile(per_mille).as_secs_f64() * 1e3;
        format!(
            "{:4} s  {}/{} joined, {} failed | {:.0} packets/s {:.1} Mbit/s | \
             delay p50 {:.1} p99 {:.1} ms | {} lost, {} freezes",
            self.began.elapsed().as_secs(),
            stages.started,
            self.bots,
            stages.failed,
            rate(totals.packets, before.packets),
            rate(totals.bytes, before.bytes) * 8e-6,
            ms(500),
            ms(990),
            totals.lost,
            totals.freezes,
        )
    }
}

/// Rates over less time say little.
const LEAST: Duration = Duration::from_millis(700);
