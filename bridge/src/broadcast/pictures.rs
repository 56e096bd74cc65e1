//! The video of a room's tracks: packets of each encoding become frames on the timeline.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use sfu::annex::{HeardPacket, HeardTrack};
use sfu::{Codec, TrackId};

use super::Ask;
use crate::frames::{Assembled, Assembler, Coding, HOLE_WAIT};
use crate::media::{VideoCodec, VideoFrame};
use crate::rungs::{Lane, Rungs};
use crate::timeline::{SenderClock, SenderReport, TrackClock};

/// Ticks a second of every video clock (RFC 6184, RFC 7741, RFC 9628).
const CLOCK_RATE: u32 = 90_000;
/// A keyframe that is shown this long before one is due counts for it.
const EARLY_US: i64 = 100_000;
/// Waits between two requests for the same keyframe; the last one counts for all that follow.
const BACKOFF: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// The video of a room.
#[derive(Debug)]
pub(crate) struct Pictures {
    carried: Vec<VideoCodec>,
    feeds: BTreeMap<Lane, Feed>,
    ready: VecDeque<(Lane, Assembled)>,
}

/// One encoding of a track.
#[derive(Debug)]
struct Feed {
    codec: VideoCodec,
    assembler: Assembler,
    clock: TrackClock,
    /// When its last keyframe is shown.
    key_us: Option<i64>,
    asked: Option<Instant>,
    asks: usize,
}

/// What a codec is called here; `None` for sound.
fn video_codec(codec: Codec) -> Option<VideoCodec> {
    match codec {
        Codec::H264 => Some(VideoCodec::H264),
        Codec::Vp8 => Some(VideoCodec::Vp8),
        Codec::Vp9 => Some(VideoCodec::Vp9),
        Codec::Av1 => Some(VideoCodec::Av1),
        Codec::Opus => None,
    }
}

/// Pictures in this codec can be shown.
pub(crate) fn is_carried(codec: Codec, carried: &[VideoCodec]) -> bool {
    video_codec(codec).is_some_and(|codec| carried.contains(&codec))
}

/// The encodings of a track that can be shown at present, highest first.
pub(crate) fn lanes(track: &HeardTrack, carried: &[VideoCodec]) -> Vec<Lane> {
    let state = &track.state;
    if !state.codec.is_some_and(|codec| is_carried(codec, carried)) {
        return Vec::new();
    }
    let is_live = |encoding: &&u8| {
        let layer = state.layers.get(usize::from(**encoding));
        layer.is_some_and(|layer| layer.live)
    };
    let highest_first = state.ranks.iter().rev().filter(is_live);
    highest_first
        .map(|&encoding| Lane {
            track: track.id,
            encoding,
        })
        .collect()
}

impl Pictures {
    pub(crate) fn new(carried: Vec<VideoCodec>) -> Self {
        Self {
            carried,
            feeds: BTreeMap::new(),
            ready: VecDeque::new(),
        }
    }

    pub(crate) fn handle_packet(&mut self, packet: &HeardPacket) {
        let codec = video_codec(packet.codec).filter(|codec| self.carried.contains(codec));
        let Some(codec) = codec else {
            return;
        };
        let lane = Lane {
            track: packet.track,
            encoding: packet.encoding,
        };
        let feed = self.feeds.entry(lane).or_insert_with(|| Feed::new(codec));
        if feed.codec != codec {
            *feed = Feed::new(codec);
        }
        feed.assembler.handle_packet(packet.into());
        feed.take(lane, &mut self.ready);
    }

    /// Gives up packets that do not come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for (lane, feed) in &mut self.feeds {
            feed.assembler.handle_timeout(now);
            feed.take(*lane, &mut self.ready);
        }
    }

    pub(crate) fn handle_clock(
        &mut self,
        lane: Lane,
        sender: &mut SenderClock,
        report: SenderReport,
    ) {
        if let Some(feed) = self.feeds.get_mut(&lane) {
            feed.clock.handle_report(sender, report);
        }
    }

    pub(crate) fn poll_frame(&mut self) -> Option<(Lane, Assembled)> {
        self.ready.pop_front()
    }

    /// Puts a frame on the timeline.
    pub(crate) fn place(
        &mut self,
        lane: Lane,
        sender: &SenderClock,
        assembled: Assembled,
    ) -> Option<VideoFrame> {
        let feed = self.feeds.get_mut(&lane)?;
        let mapped = feed
            .clock
            .map(sender, assembled.arrival, assembled.timestamp);
        if assembled.is_key {
            feed.key_us = Some(mapped.at_us);
            (feed.asked, feed.asks) = (None, 0);
        }
        Some(VideoFrame {
            config: assembled.config?,
            at_us: mapped.at_us,
            is_key: assembled.is_key,
            data: assembled.data,
        })
    }

    /// Keeps these encodings of a track and forgets the others: what comes of them later is another story.
    pub(crate) fn keep(&mut self, track: TrackId, encodings: u8) {
        self.feeds.retain(|lane, _| {
            let is_kept = encodings.checked_shr(lane.encoding.into()).unwrap_or(0) & 1 == 1;
            lane.track != track || is_kept
        });
    }

    pub(crate) fn forget(&mut self, track: TrackId) {
        self.keep(track, 0);
        self.ready.retain(|(lane, _)| lane.track != track);
    }

    pub(crate) fn forget_feeds(&mut self) {
        self.feeds.clear();
        self.ready.clear();
    }

    /// The keyframes to ask for now: to begin, after a loss, and where there should be one since `due_us`.
    pub(crate) fn keyframes_due(&mut self, now: Instant, due_us: i64, rungs: &Rungs) -> Vec<Ask> {
        let awaited: Vec<Lane> = rungs.awaited().collect();
        let mut due: BTreeMap<TrackId, u8> = BTreeMap::new();
        for lane in rungs.lanes() {
            let Some(feed) = self.feeds.get_mut(&lane) else {
                continue;
            };
            let is_lost = feed.assembler.needs_keyframe() || awaited.contains(&lane);
            let is_due = feed
                .key_us
                .is_none_or(|key_us| key_us < due_us.saturating_sub(EARLY_US));
            if (is_lost || is_due) && feed.may_ask(now) {
                let bit = 1u8.checked_shl(lane.encoding.into()).unwrap_or(0);
                *due.entry(lane.track).or_default() |= bit;
            }
        }
        let due = due.into_iter();
        due.map(|(track, encodings)| Ask::Keyframe { track, encodings })
            .collect()
    }
}

impl Feed {
    fn new(codec: VideoCodec) -> Self {
        Self {
            codec,
            assembler: Assembler::new(Coding::Video(codec), HOLE_WAIT),
            clock: TrackClock::new(CLOCK_RATE),
            key_us: None,
            asked: None,
            asks: 0,
        }
    }

    fn take(&mut self, lane: Lane, ready: &mut VecDeque<(Lane, Assembled)>) {
        while let Some(assembled) = self.assembler.poll_frame() {
            ready.push_back((lane, assembled));
        }
    }

    /// Whether a keyframe may be asked for now; then it counts as asked for.
    fn may_ask(&mut self, now: Instant) -> bool {
        let step = self.asks.saturating_sub(1).min(BACKOFF.len() - 1);
        let backoff = BACKOFF.get(step).copied().unwrap_or_default();
        let waits = |at: Instant| now.saturating_duration_since(at) < backoff;
        if self.asked.is_some_and(waits) {
            return false;
        }
        self.asked = Some(now);
        self.asks += 1;
        true
    }
}
