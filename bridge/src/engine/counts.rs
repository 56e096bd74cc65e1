//! What the bridge's thread counts.

use std::sync::atomic::{AtomicU64, Ordering};

use sfu::{Metric, MetricKind};

/// What the thread counts.
#[derive(Debug, Default)]
pub(crate) struct EngineCounts {
    /// Broadcasts that run.
    pub(super) broadcasts: AtomicU64,
    /// Tracks that are recorded.
    pub(super) takes: AtomicU64,
    /// Packets heard.
    pub(super) packets: AtomicU64,
    /// Microseconds worked.
    pub(super) busy_us: AtomicU64,
    /// Broadcasts and recordings ended by a panic.
    pub(super) panics: AtomicU64,
}

impl EngineCounts {
    /// All of it.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let gauge = |name, help, count| metric(MetricKind::Gauge, name, help, count);
        let counter = |name, help, count| metric(MetricKind::Counter, name, help, count);
        vec![
            gauge("plenum_broadcasts", BROADCASTS, &self.broadcasts),
            gauge("plenum_track_recordings", TAKES, &self.takes),
            counter("plenum_bridge_packets_total", PACKETS, &self.packets),
            counter("plenum_bridge_busy_microseconds_total", BUSY, &self.busy_us),
            counter("plenum_bridge_panics_total", PANICS, &self.panics),
        ]
    }
}

fn metric(kind: MetricKind, name: &'static str, help: &'static str, count: &AtomicU64) -> Metric {
    Metric {
        name,
        help,
        kind,
        label: None,
        value: count.load(Ordering::Relaxed),
    }
}

const BROADCASTS: &str = "Broadcasts that run.";
const TAKES: &str = "Single tracks that are recorded.";
const PACKETS: &str = "RTP packets that the bridge took from rooms.";
const BUSY: &str = "Time the bridge's thread spent working.";
const PANICS: &str = "Broadcasts ended by a panic.";
