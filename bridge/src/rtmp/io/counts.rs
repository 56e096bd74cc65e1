//! What the listener counts.

use std::sync::atomic::{AtomicU64, Ordering};

use sfu::{Metric, MetricKind};

use crate::rtmp::ingest::IngestCounts;

/// Counters of all connections of encoders.
#[derive(Debug, Default)]
pub struct Counts {
    pub(super) connections: AtomicU64,
    pub(super) refused_full: AtomicU64,
    pub(super) refused_failures: AtomicU64,
    pub(super) admitted: AtomicU64,
    pub(super) ended_unpublished: AtomicU64,
    pub(super) ended_gone: AtomicU64,
    pub(super) ended_refused: AtomicU64,
    pub(super) ended_failed: AtomicU64,
    pub(super) ended_tls: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) bytes: AtomicU64,
    pictures: AtomicU64,
    sounds: AtomicU64,
    dropped_broken: AtomicU64,
    dropped_early: AtomicU64,
    jumps: AtomicU64,
}

impl Counts {
    /// All of it.
    pub fn metrics(&self) -> Vec<Metric> {
        let ended = [
            ("unpublished", &self.ended_unpublished),
            ("gone", &self.ended_gone),
            ("refused", &self.ended_refused),
            ("failed", &self.ended_failed),
            ("tls", &self.ended_tls),
        ];
        let refused = [
            ("full", &self.refused_full),
            ("failures", &self.refused_failures),
        ];
        let dropped = [
            ("broken", &self.dropped_broken),
            ("early", &self.dropped_early),
        ];
        let frames = [("video", &self.pictures), ("audio", &self.sounds)];
        let mut metrics = vec![
            Metric {
                kind: MetricKind::Gauge,
                ..metric("plenum_rtmp_connections", CONNECTIONS, &self.connections)
            },
            metric("plenum_rtmp_admitted_total", ADMITTED, &self.admitted),
            metric("plenum_rtmp_received_bytes_total", BYTES, &self.bytes),
            metric("plenum_rtmp_time_jumps_total", JUMPS, &self.jumps),
            metric("plenum_rtmp_panics_total", PANICS, &self.panics),
        ];
        let mut add = |name, help, label, counts: &[(&'static str, &AtomicU64)]| {
            metrics.extend(counts.iter().map(|(value, count)| Metric {
                label: Some((label, *value)),
                ..metric(name, help, count)
            }));
        };
        add("plenum_rtmp_ended_total", ENDED, "reason", &ended);
        add("plenum_rtmp_refused_total", REFUSED, "reason", &refused);
        add(
            "plenum_rtmp_frames_dropped_total",
            DROPPED,
            "reason",
            &dropped,
        );
        add("plenum_rtmp_frames_total", FRAMES, "kind", &frames);
        metrics
    }

    /// What a connection has counted since it was `before`.
    pub(super) fn add(&self, now: &IngestCounts, before: &IngestCounts) {
        let add = |count: &AtomicU64, now: u64, before: u64| {
            count.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
        };
        add(&self.pictures, now.pictures, before.pictures);
        add(&self.sounds, now.sounds, before.sounds);
        add(
            &self.dropped_broken,
            now.dropped_broken,
            before.dropped_broken,
        );
        add(&self.dropped_early, now.dropped_early, before.dropped_early);
        add(&self.jumps, now.jumps, before.jumps);
    }
}

fn metric(name: &'static str, help: &'static str, count: &AtomicU64) -> Metric {
    Metric {
        name,
        help,
        kind: MetricKind::Counter,
        label: None,
        value: count.load(Ordering::Relaxed),
    }
}

const CONNECTIONS: &str = "Connections of encoders there are.";
const ADMITTED: &str = "Encoders that were let in.";
const BYTES: &str = "Bytes received from encoders.";
const JUMPS: &str = "Times of encoders more than five seconds from the one before.";
const PANICS: &str = "Panics caught; each ended one connection.";
const ENDED: &str = "Connections of encoders that have ended, by how.";
const REFUSED: &str = "Connections closed before a word was said, by why.";
const DROPPED: &str = "Pictures and sounds of encoders dropped, by why.";
const FRAMES: &str = "Pictures and sounds of encoders taken in.";
