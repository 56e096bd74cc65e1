//! HLS and Low-Latency HLS (RFC 8216bis): a broadcast as playlists, segments and parts.
//!
//! Frames go into a [`Packager`], which is pure; what it gives out ([`Publication`]) a [`Broadcast`] keeps
//! in memory; [`routes`] serves it, by names it looks up in tables. `http.rs` and `http/` are I/O.

mod arrivals;
mod broadcast;
mod http;
mod lane;
mod name;
mod packager;
mod playlist;
mod publication;
mod registry;
mod secrets;
mod sessions;
mod window;

use std::time::Duration;

pub use broadcast::{Broadcast, Clock, Wake};
#[doc(hidden)]
pub use http::fuzz;
pub use http::{Live, routes};
pub use packager::{Counts, Packager};
pub use publication::{Opening, Part, Publication, RUNGS_MAX, RenditionId};
pub use registry::Registry;
pub use sessions::{Gate, Refusal, Viewer};

use crate::keyframes;

/// How a broadcast is cut, kept and protected; nothing of it changes while it lasts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cadence of segments; the keyframes of the source decide.
    pub segment: Duration,
    /// Parts are listed, so that players may be a second behind instead of several.
    pub is_low_latency: bool,
    /// The length of a part.
    pub part: Duration,
    /// `EXT-X-TARGETDURATION` in seconds: `segment` or more. Players stay three times as far behind unless
    /// they load parts. A segment without a keyframe after it is ended there.
    pub target_duration_s: u32,
    /// `PART-HOLD-BACK`: how far from the end players stay; at least three parts.
    pub part_hold_back: Duration,
    /// How much is listed; at least six segments are.
    pub dvr_window: Duration,
    /// What one rendition may keep in memory; the oldest segments go first.
    pub memory_bytes_max: usize,
    /// Who may watch.
    pub playback: Playback,
    /// How many players one user may have at a time, where playback is by token.
    pub sessions_per_user_max: usize,
    /// Public playlists carry a session of their viewer, so that viewers can be counted. Without it shared
    /// caches serve one copy of a playlist to all.
    pub counts_viewers: bool,
    /// Segments are encrypted (AES-128), with another key after this many.
    pub segments_per_key: Option<u32>,
    /// While nothing is shown the last keyframe is shown again, once a second: players stand still without
    /// pictures, even where there is sound. Otherwise such segments are gaps.
    pub holds_picture: bool,
    /// Fragments say when they were captured (`prft`).
    pub has_reference_times: bool,
}

/// Who may watch a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Playback {
    /// Anyone.
    Public,
    /// Who has a token; every URI in every playlist is signed for its viewer.
    Token,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment: Duration::from_secs(2),
            is_low_latency: true,
            part: Duration::from_millis(200),
            target_duration_s: 3,
            part_hold_back: Duration::from_millis(600),
            dvr_window: Duration::from_secs(12),
            memory_bytes_max: 64 << 20,
            playback: Playback::Public,
            sessions_per_user_max: 3,
            counts_viewers: true,
            segments_per_key: None,
            holds_picture: true,
            has_reference_times: false,
        }
    }
}

impl Settings {
    fn segment_us(&self) -> i64 {
        micros(self.segment).max(SEGMENT_US_MIN)
    }

    fn part_us(&self) -> i64 {
        micros(self.part).clamp(PART_US_MIN, self.segment_us())
    }

    fn part_hold_back_us(&self) -> i64 {
        micros(self.part_hold_back).max(self.part_us() * 3)
    }

    fn window_us(&self) -> i64 {
        micros(self.dvr_window)
    }

    /// How far in the future a part may be asked for (RFC 8216bis §6.2.5.2).
    fn future_parts(&self) -> u64 {
        let parts = (FUTURE_PARTS_US / self.part_us()).max(FUTURE_PARTS_MIN);
        u64::try_from(parts).unwrap_or(0)
    }

    /// How long a signature of a segment is good: while it is listed and as long again, and a minute.
    fn signature_s(&self) -> u64 {
        let window_s = u64::try_from(self.window_us() / 1_000_000).unwrap_or(0);
        window_s.max(LISTED_S_MIN) * 2 + 60
    }

    /// How long a request waits for media before it is told to come again.
    fn patience(&self) -> Duration {
        Duration::from_secs(u64::from(self.target_duration_s.max(TARGET_S_MIN)) * 3)
    }

    /// The shortest segment that a keyframe ends.
    fn early_us(&self) -> i64 {
        keyframes::early_us(self.segment_us())
    }

    /// The longest segment: it still rounds to the target duration.
    fn limit_us(&self) -> i64 {
        i64::from(self.target_duration_s.max(1)) * 1_000_000 + LIMIT_OVER_US
    }
}

/// A broadcast has something whole within some seconds, however short its segments are.
const TARGET_S_MIN: u32 = 2;
/// Shorter ones would not be worth their requests.
const SEGMENT_US_MIN: i64 = 1_000_000;
/// A frame at 20 frames a second.
const PART_US_MIN: i64 = 50_000;
/// A duration is rounded before it is compared with the target (RFC 8216bis §4.4.3.1).
const LIMIT_OVER_US: i64 = 300_000;

/// Six segments at the least are listed, and none is longer than four seconds by much.
const LISTED_S_MIN: u64 = 24;
const FUTURE_PARTS_US: i64 = 3_000_000;
const FUTURE_PARTS_MIN: i64 = 3;

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
