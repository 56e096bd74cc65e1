//! One received stream: order, holes and their repair, frames, and what its stamps say.

use std::time::{Duration, Instant};

use super::Turn;
use super::rtcp::{self, Block};
use crate::media::{Codec, Stamp};

/// One RTP stream as a bot sees it in the clear headers.
pub(super) struct Stream {
    pub(super) ssrc: u32,
    pub(super) codec: Codec,
    /// It can be decoded: its first keyframe came, or it is sound.
    pub(super) has_keyframe: bool,
    /// Middle of the last sender report, and when it came.
    pub(super) last_report: Option<(u32, Instant)>,
    /// Extended; starts above 2^16, so that what comes before the first does not underflow.
    highest: u64,
    missing: Vec<Missing>,
    opened: Instant,
    last_at: Instant,
    frame: Option<(u32, Instant)>,
    next_pli: Instant,
    shown: Option<(u32, u8)>,
    reported: (u64, u64),
    received: u64,
    lost: u64,
}

/// A number that has not come.
struct Missing {
    sequence: u64,
    since: Instant,
    next: Instant,
}

/// Where a packet stands in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The next one.
    Newest,
    /// Newer than the next one; when to ask for what is missing.
    AfterGap(Instant),
    /// One that was missing.
    Late,
    /// It came before.
    Duplicate,
}

impl Stream {
    pub(super) fn new(now: Instant, ssrc: u32, codec: Codec) -> Self {
        Self {
            ssrc,
            codec,
            has_keyframe: !codec.is_video(),
            last_report: None,
            highest: 0,
            missing: Vec::new(),
            opened: now,
            last_at: now,
            frame: None,
            next_pli: now + PLI_INTERVAL,
            shown: None,
            reported: (0, 0),
            received: 0,
            lost: 0,
        }
    }

    /// Takes in one packet by its header.
    pub(super) fn receive(&mut self, turn: &mut Turn<'_>, sequence: u16, timestamp: u32) -> Place {
        let place = self.place(turn, sequence);
        if place == Place::Duplicate {
            turn.totals.duplicates += 1;
            return place;
        }
        self.received += 1;
        self.last_at = turn.now;
        let counter = if self.codec.is_video() {
            &mut turn.totals.video_packets
        } else {
            &mut turn.totals.audio_packets
        };
        *counter += 1;
        if self.codec.is_video() {
            self.note_frame(turn, timestamp);
        }
        place
    }

    fn place(&mut self, turn: &mut Turn<'_>, sequence: u16) -> Place {
        if self.highest == 0 {
            self.highest = (1 << 16) + u64::from(sequence);
            return Place::Newest;
        }
        let low = (self.highest & 0xffff) as u16;
        let ahead = i64::from(sequence.wrapping_sub(low).cast_signed());
        let sequence = self.highest.saturating_add_signed(ahead);
        if ahead == 1 {
            self.highest = sequence;
            return Place::Newest;
        }
        if ahead > 0 {
            turn.totals.gaps += 1;
            let next = turn.now + REORDER_WAIT;
            for sequence in self.highest + 1..sequence {
                if self.missing.len() < MISSING_MAX {
                    let since = turn.now;
                    self.missing.push(Missing {
                        sequence,
                        since,
                        next,
                    });
                } else {
                    self.lose(turn);
                }
            }
            self.highest = sequence;
            return Place::AfterGap(next);
        }
        if self.fill(sequence) {
            turn.totals.late += 1;
            return Place::Late;
        }
        Place::Duplicate
    }

    fn fill(&mut self, sequence: u64) -> bool {
        let found = self.missing.iter().position(|one| one.sequence == sequence);
        found.is_some_and(|index| {
            self.missing.remove(index);
            true
        })
    }

    fn lose(&mut self, turn: &mut Turn<'_>) {
        turn.totals.lost += 1;
        self.lost += 1;
    }

    /// Takes in a retransmission of this number.
    pub(super) fn recover(&mut self, turn: &mut Turn<'_>, original: u16) {
        let low = (self.highest & 0xffff) as u16;
        let ahead = i64::from(original.wrapping_sub(low).cast_signed());
        if self.fill(self.highest.saturating_add_signed(ahead)) {
            turn.totals.recovered += 1;
            self.received += 1;
        } else {
            // What was never missed, sent to find out what the path can take.
            turn.totals.probes += 1;
        }
    }

    /// A frame is seen when its first packet is; long waits between two are freezes.
    fn note_frame(&mut self, turn: &mut Turn<'_>, timestamp: u32) {
        let Some((before, at)) = self.frame else {
            self.frame = Some((timestamp, turn.now));
            return;
        };
        if timestamp.wrapping_sub(before).cast_signed() <= 0 {
            return;
        }
        self.frame = Some((timestamp, turn.now));
        turn.totals.frames += 1;
        self.note_freeze(turn, at);
    }

    fn note_freeze(&self, turn: &mut Turn<'_>, since: Instant) {
        let pause = turn.now.saturating_duration_since(since);
        if pause > FREEZE_MIN {
            turn.totals.freezes += 1;
            turn.totals.frozen += pause;
        }
    }

    /// Takes in what a decrypted packet says of itself.
    pub(super) fn sample(&mut self, turn: &mut Turn<'_>, stamp: Stamp) {
        let delay_us = turn.wall_us.saturating_sub(stamp.sent_us);
        let kind = if self.codec.is_video() {
            &mut turn.totals.video_delay
        } else {
            &mut turn.totals.audio_delay
        };
        kind.record(delay_us);
        if let Some((publisher, layer)) = self.shown
            && publisher == stamp.publisher
            && layer != stamp.layer
        {
            turn.totals.layer_switches += 1;
        }
        self.shown = Some((stamp.publisher, stamp.layer));
    }

    /// Asks for what is missing; returns when to ask next.
    pub(super) fn repair(
        &mut self,
        turn: &mut Turn<'_>,
        tell: &mut Vec<Vec<u8>>,
    ) -> Option<Instant> {
        let now = turn.now;
        let before = self.missing.len();
        self.missing
            .retain(|one| now.duration_since(one.since) < GIVE_UP_AFTER);
        (self.missing.len()..before).for_each(|_| self.lose(turn));
        let mut lost = Vec::new();
        let mut next = None;
        for one in &mut self.missing {
            if one.next <= now && lost.len() < NACK_MAX {
                one.next = now + NACK_INTERVAL;
                lost.push((one.sequence & 0xffff) as u16);
            }
            next = [next, Some(one.next)].into_iter().flatten().min();
        }
        // Lost sound is not asked for: its offer has no NACK.
        if !lost.is_empty() && self.codec.is_video() {
            turn.totals.nacks_sent += lost.len() as u64;
            tell.push(rtcp::write_nack(self.ssrc, &lost));
        }
        if self.has_keyframe {
            return next;
        }
        if self.next_pli <= now {
            self.next_pli = now + PLI_INTERVAL;
            turn.totals.keyframe_requests_sent += 1;
            tell.push(rtcp::write_pli(self.ssrc));
        }
        [next, Some(self.next_pli)].into_iter().flatten().min()
    }

    /// What a receiver report says of it.
    pub(super) fn report(&mut self, now: Instant) -> Block {
        let received = self.received - self.reported.0;
        let lost = self.lost - self.reported.1;
        self.reported = (self.received, self.lost);
        let fraction = (lost * 256) / (received + lost).max(1);
        let since = |(middle, at): (u32, Instant)| {
            let age = now.saturating_duration_since(at).as_micros() * 65_536 / 1_000_000;
            (middle, u32::try_from(age).unwrap_or(u32::MAX))
        };
        Block {
            ssrc: self.ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            lost: u32::try_from(self.lost).unwrap_or(u32::MAX),
            highest: (self.highest.saturating_sub(1 << 16) & 0xffff_ffff) as u32,
            last_report: self.last_report.map(since).unwrap_or_default(),
        }
    }

    /// Counts from now on: what was missing before does not count.
    pub(super) fn mark(&mut self, now: Instant) {
        self.missing.clear();
        if let Some((_, at)) = &mut self.frame {
            *at = (*at).max(now - FREEZE_MIN.min(now.duration_since(self.opened)));
        }
    }

    /// What is still missing is lost, and a freeze going on counts.
    pub(super) fn finish(&mut self, turn: &mut Turn<'_>) {
        let missing = std::mem::take(&mut self.missing);
        missing.iter().for_each(|_| self.lose(turn));
        if let Some((_, at)) = self.frame {
            self.note_freeze(turn, at);
        }
    }

    /// Packets come.
    pub(super) fn is_flowing(&self, now: Instant) -> bool {
        now.duration_since(self.last_at) < FLOWING_WITHIN
    }
}

/// Reordering is waited for this long before a packet is asked for.
const REORDER_WAIT: Duration = Duration::from_millis(10);
const NACK_INTERVAL: Duration = Duration::from_millis(100);
/// Packets asked for at a time, as many as one NACK should hold.
const NACK_MAX: usize = 64;
/// What has not come by then is lost: no player waits longer.
const GIVE_UP_AFTER: Duration = Duration::from_secs(1);
/// Numbers missing at a time; beyond that they are lost at once.
const MISSING_MAX: usize = 512;
const PLI_INTERVAL: Duration = Duration::from_millis(500);
/// Pictures that stand still longer than this are a freeze.
pub(super) const FREEZE_MIN: Duration = Duration::from_millis(200);
/// A stream without a packet for longer has stopped; sound comes every 20 ms.
const FLOWING_WITHIN: Duration = Duration::from_secs(1);
