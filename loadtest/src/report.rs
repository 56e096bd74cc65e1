//! What a run found out: figures for people and programs, and whether they are good enough.

mod histogram;
mod table;
mod thresholds;

use std::time::Duration;

use serde::Serialize;

pub use self::histogram::Histogram;
pub use self::table::{growth_table, report_table, summary_table};
pub use self::thresholds::Thresholds;

use crate::confirmers::Confirmed;
use crate::io::Snapshot;
use crate::process::{Process, Sample};

/// Quantiles of times, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half are no longer.
    pub p50: f64,
    /// 95 of 100 are no longer.
    pub p95: f64,
    /// 99 of 100 are no longer.
    pub p99: f64,
    /// None is longer.
    pub max: f64,
    /// How many there are.
    pub count: u64,
}

impl Quantiles {
    /// Of a histogram.
    pub fn of(histogram: &Histogram) -> Self {
        Self {
            p50: ms(histogram.quantile(500)),
            p95: ms(histogram.quantile(950)),
            p99: ms(histogram.quantile(990)),
            max: ms(histogram.max()),
            count: histogram.count(),
        }
    }
}

/// What a run found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// What was played, in words.
    pub scenario: String,
    /// How long was counted.
    pub seconds: f64,
    /// Bots that were to come.
    pub bots: u64,
    /// Those that got what they wanted.
    pub joined: u64,
    /// Those that did not.
    pub failed: u64,
    /// Why the first of them failed in signaling.
    pub first_failure: Option<String>,
    /// Streams that should come and did not at the end.
    pub missing_streams: u64,
    /// From the first byte of signaling to the first keyframe (sound where no pictures are wanted, the
    /// keys where nothing is).
    pub join_ms: Quantiles,
    /// From the first byte of signaling to the keys.
    pub connect_ms: Quantiles,
    /// From the sending of a packet to its arrival, of a sample.
    pub delay_ms: Quantiles,
    /// Of pictures alone.
    pub video_delay_ms: Quantiles,
    /// Of sound alone.
    pub audio_delay_ms: Quantiles,
    /// How long the bots' own turns took, once for each packet: as much of the delays may be theirs.
    pub own_turns_ms: Quantiles,
    /// What came.
    pub received: Received,
    /// RTP packets to stopped and slow subscribers for each second, lost on their links or not; what they
    /// got is part of no other figure.
    pub hindered_packets_per_second: f64,
    /// What publishers sent.
    pub sent: Sent,
    /// Processor time of the bots' threads, in cores.
    pub bot_cores: f64,
    /// The server, when it is a process of this machine.
    pub server: Option<ServerReport>,
    /// What participants of the `webrtc` crate say.
    pub confirmers: Option<Confirmed>,
}

/// What came, all bots together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Received {
    /// RTP packets, retransmissions and probes included.
    pub packets: u64,
    /// The same for each second.
    pub packets_per_second: f64,
    /// Of their datagrams.
    pub megabits_per_second: f64,
    /// Of what should have come, how much never did.
    pub loss_percent: f64,
    /// Packets that never came.
    pub lost: u64,
    /// Times that numbers were left out at first.
    pub gaps: u64,
    /// Packets after a later one.
    pub late: u64,
    /// Packets that came as retransmissions.
    pub recovered: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets with nothing new.
    pub probes: u64,
    /// Pictures.
    pub frames: u64,
    /// Pictures that stood still for more than 200 ms.
    pub freezes: u64,
    /// For how long, all together.
    pub frozen_seconds: f64,
    /// Changes of layer.
    pub layer_switches: u64,
    /// Keyframes asked for by bots.
    pub keyframe_requests: u64,
    /// Packets that could not be decrypted, had no stamp, or were nothing known.
    pub bad: u64,
}

/// What publishers sent, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sent {
    /// RTP packets for each second.
    pub packets_per_second: f64,
    /// Of their datagrams.
    pub megabits_per_second: f64,
    /// Packets the server asked for again.
    pub again: u64,
    /// Keyframes the server asked for.
    pub keyframe_requests: u64,
    /// Datagrams the kernel did not take.
    pub unsent: u64,
}

/// The server as a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ServerReport {
    /// Its number.
    pub pid: u32,
    /// Processor time while it was counted, in cores.
    pub cores: f64,
    /// The same for each RTP packet that was received from it, in microseconds.
    pub us_per_packet: f64,
    /// Resident memory before anybody came, in MiB.
    pub rss_mib_before: f64,
    /// At the end of the count.
    pub rss_mib: f64,
    /// After all had left.
    pub rss_mib_after: f64,
    /// What came for each receiver from before to the end of the count, in KiB.
    pub rss_kib_per_receiver: f64,
    /// Descriptors before anybody came.
    pub descriptors_before: u64,
    /// At the end of the count.
    pub descriptors: u64,
    /// After all had left.
    pub descriptors_after: u64,
}

/// The server's samples of a run.
#[derive(Clone, Copy, Debug)]
pub struct ServerSamples {
    /// The process.
    pub pid: u32,
    /// Before anybody came.
    pub before: Sample,
    /// At the mark.
    pub begun: Sample,
    /// At the end of the count.
    pub ended: Sample,
    /// After all had left.
    pub after: Sample,
}

impl ServerSamples {
    /// Those taken before, at the mark, at the end and after, if the server could be seen each time.
    pub fn of(server: Option<Process>, samples: [Option<Sample>; 4]) -> Option<Self> {
        let [before, begun, ended, after] = samples;
        Some(Self {
            pid: server?.pid,
            before: before?,
            begun: begun?,
            ended: ended?,
            after: after?,
        })
    }

    /// Divides what it took by packets and receivers.
    pub fn report(&self, packets: u64, receivers: u64) -> ServerReport {
        let cpu = self.ended.cpu.saturating_sub(self.begun.cpu).as_secs_f64();
        let wall = self.ended.at.duration_since(self.begun.at).as_secs_f64();
        let grown = self.ended.rss_bytes.saturating_sub(self.before.rss_bytes);
        ServerReport {
            pid: self.pid,
            cores: cpu / wall.max(f64::EPSILON),
            us_per_packet: cpu * 1e6 / float(packets.max(1)),
            rss_mib_before: mib(self.before.rss_bytes),
            rss_mib: mib(self.ended.rss_bytes),
            rss_mib_after: mib(self.after.rss_bytes),
            rss_kib_per_receiver: float(grown) / 1024.0 / float(receivers.max(1)),
            descriptors_before: self.before.descriptors,
            descriptors: self.ended.descriptors,
            descriptors_after: self.after.descriptors,
        }
    }
}

impl Report {
    /// Fills in what the bots counted in a time.
    pub fn count(&mut self, snapshot: &Snapshot, took: Duration) {
        let Snapshot { totals, joins, .. } = snapshot;
        let seconds = took.as_secs_f64().max(f64::EPSILON);
        self.seconds = seconds;
        self.joined = snapshot.stages.started;
        self.failed = self.bots.saturating_sub(self.joined);
        self.missing_streams = snapshot.missing_streams;
        self.join_ms = Quantiles::of(&joins.started);
        self.connect_ms = Quantiles::of(&joins.connected);
        self.delay_ms = Quantiles::of(&totals.delay());
        self.video_delay_ms = Quantiles::of(&totals.video_delay);
        self.audio_delay_ms = Quantiles::of(&totals.audio_delay);
        self.own_turns_ms = Quantiles::of(&totals.own_turns);
        self.received = Received {
            packets: totals.packets,
            packets_per_second: float(totals.packets) / seconds,
            megabits_per_second: float(totals.bytes) * 8e-6 / seconds,
            loss_percent: 100.0 * float(totals.lost) / float(totals.expected().max(1)),
            lost: totals.lost,
            gaps: totals.gaps,
            late: totals.late,
            recovered: totals.recovered,
            duplicates: totals.duplicates,
            probes: totals.probes,
            frames: totals.frames,
            freezes: totals.freezes,
            frozen_seconds: totals.frozen.as_secs_f64(),
            layer_switches: totals.layer_switches,
            keyframe_requests: totals.keyframe_requests_sent,
            bad: totals.unreadable + totals.unstamped + totals.malformed,
        };
        self.hindered_packets_per_second = float(snapshot.hindered.packets) / seconds;
        self.sent = Sent {
            packets_per_second: float(totals.sent_packets) / seconds,
            megabits_per_second: float(totals.sent_bytes) * 8e-6 / seconds,
            again: totals.sent_again,
            keyframe_requests: totals.keyframe_requests_received,
            unsent: snapshot.unsent,
        };
    }
}

/// Counts stay far below the 2^53 that a double holds exactly.
fn float(count: u64) -> f64 {
    count as f64
}

fn mib(bytes: u64) -> f64 {
    float(bytes >> 10) / 1024.0
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
