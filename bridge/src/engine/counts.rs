//! What the bridge's thread counts.

use std::sync::atomic::{AtomicU64, Ordering};

use sfu::{Metric, MetricKind};

use crate::audio::MixCounts;

/// What the thread counts.
#[derive(Debug, Default)]
pub(crate) struct EngineCounts {
    /// Broadcasts that run.
    pub(super) broadcasts: AtomicU64,
    /// Tracks that are recorded.
    pub(super) takes: AtomicU64,
    /// Packets heard.
    pub(super) packets: AtomicU64,
    /// Times it looked for what had come.
    pub(super) looks: AtomicU64,
    /// Microseconds worked.
    pub(super) busy_us: AtomicU64,
    /// Broadcasts and recordings ended by a panic.
    pub(super) panics: AtomicU64,
    audio_overdue: AtomicU64,
    audio_delays: AtomicU64,
    audio_concealed: AtomicU64,
    audio_late: AtomicU64,
    audio_refused: AtomicU64,
}

impl EngineCounts {
    /// Adds what a mix has seen since the last time.
    pub(super) fn note_mix(&self, seen: MixCounts) {
        if seen == MixCounts::default() {
            return;
        }
        let add = |count: &AtomicU64, more| count.fetch_add(more, Ordering::Relaxed);
        add(&self.audio_overdue, seen.overdue);
        add(&self.audio_delays, seen.delays);
        add(&self.audio_concealed, seen.concealed_samples);
        add(&self.audio_late, seen.late_packets);
        add(&self.audio_refused, seen.refused + seen.bad_packets);
    }

    /// All of it.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let gauge = |name, help, count| metric(MetricKind::Gauge, name, help, count);
        let counter = |name, help, count| metric(MetricKind::Counter, name, help, count);
        vec![
            gauge("plenum_broadcasts", BROADCASTS, &self.broadcasts),
            gauge("plenum_track_recordings", TAKES, &self.takes),
            counter("plenum_bridge_packets_total", PACKETS, &self.packets),
            counter("plenum_bridge_looks_total", LOOKS, &self.looks),
            counter("plenum_bridge_busy_microseconds_total", BUSY, &self.busy_us),
            counter("plenum_bridge_panics_total", PANICS, &self.panics),
            counter(
                "plenum_broadcast_audio_overdue_total",
                OVERDUE,
                &self.audio_overdue,
            ),
            counter(
                "plenum_broadcast_audio_delays_total",
                DELAYS,
                &self.audio_delays,
            ),
            counter(
                "plenum_broadcast_audio_concealed_samples_total",
                CONCEALED,
                &self.audio_concealed,
            ),
            counter(
                "plenum_broadcast_audio_late_packets_total",
                LATE,
                &self.audio_late,
            ),
            counter(
                "plenum_broadcast_audio_refused_packets_total",
                REFUSED,
                &self.audio_refused,
            ),
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
const LOOKS: &str = "Times the bridge's thread looked for what had come.";
const BUSY: &str = "Time the bridge's thread spent working.";
const PANICS: &str = "Broadcasts ended by a panic.";
const OVERDUE: &str =
    "Times someone's sound broke off in a mix: the next packet took longer than it waits.";
const DELAYS: &str = "Times a mix began to wait longer for packets.";
const CONCEALED: &str = "Samples made up in a mix for lost ones.";
const LATE: &str = "Packets of sound that came too late for a mix, or twice.";
const REFUSED: &str =
    "Packets of sound not mixed: garbage, of too many sources, or far from their time.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mixes_have_seen_adds_up() {
        let counts = EngineCounts::default();
        let seen = MixCounts {
            overdue: 1,
            delays: 2,
            concealed_samples: 960,
            late_packets: 3,
            bad_packets: 4,
            refused: 5,
            ..MixCounts::default()
        };
        counts.note_mix(seen);
        counts.note_mix(MixCounts::default());
        counts.note_mix(seen);
        let metrics = counts.metrics();
        let audio = metrics.iter().filter_map(|metric| {
            let name = metric.name.strip_prefix("plenum_broadcast_audio_")?;
            Some((name, metric.value))
        });
        let audio: Vec<_> = audio.collect();
        let expected = [
            ("overdue_total", 2),
            ("delays_total", 4),
            ("concealed_samples_total", 1_920),
            ("late_packets_total", 6),
            ("refused_packets_total", 18),
        ];
        assert_eq!(audio, expected);
    }
}
