//! Cuts the frames of a broadcast into segments and parts whose borders all renditions share.
//!
//! The first rung that has frames leads: its keyframes near the cadence are the borders. The others begin
//! the segment with their own keyframe of that border, sound with its first frame after it. While no rung
//! leads (nobody shows anything, or no keyframe comes), time does.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::fmp4::{TrackSpec, init_segment, parameter_sets};
use crate::media::{AudioFrame, VideoCodec, VideoFrame};

use super::Settings;
use super::lane::{Cadence, Frame, Lane};
use super::publication::{Opening, Publication, RUNGS_MAX, RenditionId};

#[cfg(test)]
mod tests;
mod time;

/// The pure machine that cuts one broadcast.
///
/// Contract: call `advance` when `next_look_us` says, when all that has come was pushed; then drain `poll`.
#[derive(Debug)]
pub struct Packager {
    cadence: Cadence,
    lanes: BTreeMap<RenditionId, Lane>,
    border: Option<Opening>,
    next_msn: u64,
    discontinuities: u64,
    is_discontinuity_due: bool,
    holds_picture: bool,
    /// When the first frame of sound came while there was no picture.
    sound_since_us: Option<i64>,
    /// A rung that lost its place has time to show a keyframe until then.
    time_leads_from_us: i64,
    out: VecDeque<Publication>,
    counts: Counts,
    has_ended: bool,
}

/// Frames that were left out, by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// HLS does not carry the codec, or its configuration is malformed.
    pub unsupported: u64,
    /// A decoder could not begin there.
    pub before_keyframe: u64,
    /// It was before one that is out already.
    pub misplaced: u64,
    /// It needed another initialisation segment before the others had a border for that.
    pub reconfigured: u64,
}

/// Where a rendition stands to the newest border.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Waiting,
    /// In the segment of the border.
    Current,
    /// Still in a segment before it.
    Due,
}

/// A segment without a keyframe after it is cut this much before it would be too long.
const CONTINUE_US: i64 = 100_000;
/// A rung that begins this long after a border begins a segment of its own.
const LATE_US: i64 = 500_000;
/// Frames that may wait with it.
const PENDING_MAX: usize = 64;
/// This long after its limit a segment without a keyframe may find its end at one: a border less.
const GRACE_US: i64 = 150_000;
/// Sound begins alone when there was no picture for this long.
const SOUND_ALONE_US: i64 = 1_000_000;
/// How many segments are left out one by one when time jumps; what is more is one step.
const JUMP_SEGMENTS_MAX: u32 = 30;

/// The parameter sets, if there are any, and then the frame.
fn begin_with(sets: &Bytes, frame: Bytes) -> Bytes {
    match sets.is_empty() {
        true => frame,
        false => [&sets[..], &frame[..]].concat().into(),
    }
}

impl Packager {
    /// Makes a packager; `wall_clock_at_zero_us` is the Unix time of the broadcast's beginning.
    pub fn new(settings: &Settings, wall_clock_at_zero_us: i64) -> Self {
        Self {
            cadence: Cadence {
                segment_us: settings.segment_us(),
                part_us: settings.part_us(),
                early_us: settings.early_us(),
                limit_us: settings.limit_us(),
                reference_us: settings
                    .has_reference_times
                    .then_some(wall_clock_at_zero_us),
            },
            lanes: BTreeMap::new(),
            border: None,
            next_msn: 0,
            discontinuities: 0,
            is_discontinuity_due: false,
            holds_picture: settings.holds_picture,
            sound_since_us: None,
            time_leads_from_us: i64::MIN,
            out: VecDeque::new(),
            counts: Counts::default(),
            has_ended: false,
        }
    }

    /// Takes in a picture of a rung (0: the largest) that came at `now_us` of the broadcast.
    pub fn push_video(&mut self, now_us: i64, rung: u8, frame: VideoFrame) {
        if rung >= RUNGS_MAX || frame.config.codec == VideoCodec::Vp8 {
            self.counts.unsupported += 1;
            return;
        }
        let data = match frame.is_key {
            true => begin_with(&parameter_sets(&frame.config), frame.data),
            false => frame.data,
        };
        let frame = Frame {
            spec: TrackSpec::Video(frame.config),
            at_us: frame.at_us,
            is_key: frame.is_key,
            sample_count: 0,
            data,
        };
        self.take(now_us, RenditionId::Video(rung), frame);
    }

    /// Takes in a frame of sound that came at `now_us` of the broadcast.
    pub fn push_audio(&mut self, now_us: i64, frame: AudioFrame) {
        let frame = Frame {
            spec: TrackSpec::Audio(frame.config),
            at_us: frame.at_us,
            is_key: true,
            sample_count: frame.samples.max(1),
            data: frame.data,
        };
        self.take(now_us, RenditionId::Audio, frame);
    }

    /// The next keyframe of the leading rung does not continue what was before: another source is shown. A first one
    /// continues the smaller rungs that came before it.
    pub fn discontinue(&mut self) {
        let largest = self.lanes.get(&RenditionId::Video(0));
        let has_begun = largest.is_some_and(|lane| lane.last_msn.is_some());
        self.is_discontinuity_due |= has_begun && self.border.is_some();
    }

    /// Nobody watches: ends what is open. The next frames begin anew, after a discontinuity.
    pub fn pause(&mut self) {
        if self.border.is_none() {
            return;
        }
        self.close_all();
        self.border = None;
        for lane in self.lanes.values_mut() {
            lane.forget();
        }
        self.is_discontinuity_due = false;
        self.sound_since_us = None;
        self.out.push_back(Publication::Paused);
    }

    /// Ends the broadcast.
    pub fn finish(&mut self) {
        if !self.has_ended {
            self.hold_to_end();
            self.close_all();
            self.has_ended = true;
            self.out.push_back(Publication::Ended);
        }
    }

    /// What is to be given to the broadcast next.
    pub fn poll(&mut self) -> Option<Publication> {
        self.out.pop_front()
    }

    /// What was left out so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn take(&mut self, now_us: i64, id: RenditionId, frame: Frame) {
        if self.has_ended {
            return;
        }
        let cadence = self.cadence;
        let lane = self.lanes.entry(id);
        let lane = lane.or_insert_with(|| Lane::new(id, cadence));
        let is_new = frame.is_key && lane.spec.as_ref() != Some(&frame.spec);
        if is_new && init_segment(std::slice::from_ref(&frame.spec)).is_err() {
            self.counts.unsupported += 1;
            return;
        }
        lane.arrivals.observe(now_us, frame.at_us);
        if !lane.may_follow(&frame) {
            self.counts.before_keyframe += 1;
            return;
        }
        self.sort(now_us, id, frame);
    }

    /// Finds a frame's place among the segments.
    fn sort(&mut self, now_us: i64, id: RenditionId, frame: Frame) {
        if self.border.is_none() && self.start(now_us, id, &frame).is_none() {
            self.counts.before_keyframe += 1;
            return;
        }
        self.keep_up(now_us, id, &frame);
        let Some(border) = self.border else { return };
        let leads = id != RenditionId::Audio && self.leader(now_us).is_none_or(|led| led == id);
        match self.standing(id, border) {
            Standing::Waiting if !leads && self.postpone(now_us, id, &frame, border) => {}
            Standing::Waiting => self.take_waiting(id, frame, leads),
            Standing::Due => self.take_due(id, frame, border),
            Standing::Current if leads => self.take_leading(id, frame, border),
            Standing::Current => self.take_following(now_us, id, frame, border),
        }
    }

    /// The first border of all, if this frame may make it.
    fn start(&mut self, now_us: i64, id: RenditionId, frame: &Frame) -> Option<Opening> {
        if id == RenditionId::Audio {
            let since_us = *self.sound_since_us.get_or_insert(now_us);
            if now_us.saturating_sub(since_us) < SOUND_ALONE_US {
                return None;
            }
        }
        if !frame.is_key || frame.at_us < 0 {
            return None;
        }
        Some(self.next_border(frame.at_us, self.next_msn > 0))
    }

    /// Lets the frames of a rung that waits for its place wait for a border that must come soon.
    fn postpone(&mut self, now_us: i64, id: RenditionId, frame: &Frame, border: Opening) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return false;
        };
        let age_us = frame.at_us.saturating_sub(border.start_us);
        let is_armed = age_us >= self.cadence.early_us;
        if lane.pending.is_empty() {
            if id == RenditionId::Audio || !frame.is_key || !is_armed {
                return false;
            }
            lane.pending_since_us = now_us;
        }
        if lane.pending.len() < PENDING_MAX {
            lane.pending.push(frame.clone());
        }
        true
    }

    /// A rendition without an open segment.
    fn take_waiting(&mut self, id: RenditionId, frame: Frame, leads: bool) {
        let (Some(border), Some(lane)) = (self.border, self.lanes.get(&id)) else {
            return;
        };
        if !frame.is_key {
            self.counts.before_keyframe += 1;
            return;
        }
        let is_change = lane.is_change(&frame);
        let had_this = lane.last_msn.is_some_and(|msn| msn >= border.msn);
        let is_late = frame.at_us.saturating_sub(border.start_us) > LATE_US;
        let is_break = lane.was_interrupted || is_change || self.is_discontinuity_due;
        if leads && (had_this || is_late || (is_break && !border.is_discontinuity)) {
            self.cut(frame.at_us, is_break);
        } else if had_this || (is_change && !border.is_discontinuity) {
            self.is_discontinuity_due |= is_change;
            self.counts.reconfigured += 1;
            return;
        }
        self.begin(id, frame);
    }

    /// A rendition that has not begun the segment of the newest border.
    fn take_due(&mut self, id: RenditionId, frame: Frame, border: Opening) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        let is_change = lane.is_change(&frame);
        if is_change {
            lane.leave_out_to_newest(&mut self.out);
        }
        if id == RenditionId::Audio && !is_change {
            match lane.due(frame.at_us, &mut self.out) {
                Some(border) => self.begin_at(id, border, frame),
                None => self.counts.misplaced += u64::from(!lane.hold(&frame, &mut self.out)),
            }
        } else if (frame.is_key || border.is_continuation)
            && (!is_change || border.is_discontinuity)
            && frame.at_us >= border.start_us - LATE_US
        {
            self.begin(id, frame);
        } else if is_change || frame.at_us > lane.follow_until_us(border) {
            self.is_discontinuity_due |= is_change;
            self.counts.reconfigured += u64::from(is_change);
            self.counts.before_keyframe += u64::from(!is_change);
            lane.fall_behind(lane.ends_us(border, frame.at_us), &mut self.out);
        } else if frame.at_us >= lane.ends_us(border, i64::MAX) {
            self.counts.before_keyframe += 1;
        } else {
            self.counts.misplaced += u64::from(!lane.hold(&frame, &mut self.out));
        }
    }

    /// The rendition whose keyframes are the borders.
    fn take_leading(&mut self, id: RenditionId, frame: Frame, border: Opening) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        // It may have been led until now.
        for frame in std::mem::take(&mut lane.pending) {
            self.counts.misplaced += u64::from(!lane.hold(&frame, &mut self.out));
        }
        let is_break = lane.is_change(&frame) || self.is_discontinuity_due;
        let age_us = frame.at_us.saturating_sub(border.start_us);
        let is_due = age_us >= self.cadence.early_us
            // Who came since has nothing to begin with. But no segment is of a frame or two.
            || (border.is_continuation && age_us >= self.cadence.part_us / 2);
        if frame.is_key && (is_break || is_due) && age_us > 0 {
            self.cut(frame.at_us, is_break);
            self.begin(id, frame);
        } else if lane.is_change(&frame) {
            self.counts.before_keyframe += 1;
        } else if age_us >= self.cadence.limit_us - CONTINUE_US {
            // Whoever watches goes on; whoever comes waits for the next keyframe.
            self.cut(frame.at_us, false);
            if let Some(border) = &mut self.border {
                border.is_continuation = true;
            }
            self.begin(id, frame);
        } else {
            self.counts.misplaced += u64::from(!lane.hold(&frame, &mut self.out));
        }
    }

    /// A rendition in the segment of the newest border that another one leads.
    fn take_following(&mut self, now_us: i64, id: RenditionId, frame: Frame, border: Opening) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        let is_change = lane.is_change(&frame);
        if id == RenditionId::Audio && is_change {
            lane.close(frame.at_us, None, &mut self.out);
            self.is_discontinuity_due = true;
            self.counts.reconfigured += 1;
            return;
        }
        if is_change && frame.is_key && border.is_discontinuity && lane.take_back() {
            // The source before had a keyframe of the same picture.
            self.begin(id, frame);
            return;
        }
        let age_us = frame.at_us.saturating_sub(border.start_us);
        let is_armed = age_us >= self.cadence.early_us;
        let is_video = id != RenditionId::Audio;
        let may_begin = is_video && frame.is_key;
        if !lane.pending.is_empty() {
            self.counts.misplaced += u64::from(lane.pending.len() >= PENDING_MAX);
            if lane.pending.len() < PENDING_MAX {
                lane.pending.push(frame);
            }
        } else if may_begin && (is_armed || is_change || self.is_discontinuity_due) {
            lane.pending.push(frame);
            lane.pending_since_us = now_us;
        } else if is_change {
            self.counts.before_keyframe += 1;
        } else if is_video && lane.age_us(frame.at_us) > self.cadence.limit_us {
            self.counts.before_keyframe += 1;
            lane.close(frame.at_us, None, &mut self.out);
        } else {
            self.counts.misplaced += u64::from(!lane.hold(&frame, &mut self.out));
        }
    }

    /// Begins the segment of the newest border in a rendition.
    fn begin(&mut self, id: RenditionId, frame: Frame) {
        if let Some(border) = self.border {
            self.begin_at(id, border, frame);
        }
    }

    fn begin_at(&mut self, id: RenditionId, border: Opening, frame: Frame) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        let needs_map = lane.spec.as_ref() != Some(&frame.spec);
        let init = match needs_map.then(|| init_segment(std::slice::from_ref(&frame.spec))) {
            None => None,
            Some(Ok(bytes)) => Some(bytes),
            Some(Err(_)) => {
                self.counts.unsupported += 1;
                return;
            }
        };
        if !lane.begin(border, frame, init, &mut self.out) {
            self.counts.misplaced += 1;
        }
    }

    /// Makes a border; whoever can begins its segment there at once.
    fn cut(&mut self, at_us: i64, is_discontinuity: bool) {
        let Some(before) = self.border else { return };
        let border = self.next_border(at_us, is_discontinuity);
        let ids: Vec<RenditionId> = self.lanes.keys().copied().collect();
        for id in ids {
            let Some(lane) = self.lanes.get_mut(&id) else {
                continue;
            };
            let until_us = lane.late_from_us(before);
            let open = lane.open.as_ref();
            let is_due = open.is_some_and(|open| open.opening.msn < before.msn);
            if is_due && (id != RenditionId::Audio || at_us > until_us) {
                lane.fall_behind(lane.ends_us(before, until_us.min(at_us)), &mut self.out);
            }
            if lane.open.is_none() && lane.last_msn.is_some_and(|msn| msn < before.msn) {
                lane.skip(before, at_us, &mut self.out);
            }
            if id == RenditionId::Audio {
                lane.meet(border, &mut self.out);
                continue;
            }
            let mut pending = std::mem::take(&mut lane.pending).into_iter();
            let first = pending.next();
            let first = first.filter(|first| !lane.is_change(first) || border.is_discontinuity);
            if let Some(first) = first {
                self.begin(id, first);
                self.hold_all(id, pending);
            }
        }
    }

    fn next_border(&mut self, at_us: i64, is_discontinuity: bool) -> Opening {
        self.is_discontinuity_due = false;
        self.discontinuities += u64::from(is_discontinuity);
        let border = Opening {
            msn: self.next_msn,
            start_us: at_us,
            is_discontinuity,
            discontinuities: self.discontinuities,
            is_continuation: false,
            map: 0,
        };
        self.next_msn += 1;
        self.border = Some(border);
        border
    }

    /// The leading rendition lost its place: it begins again with a keyframe, after a discontinuity.
    fn interrupt(&mut self, id: RenditionId, at_us: i64) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.close(at_us, None, &mut self.out);
            lane.was_interrupted = true;
        }
        self.time_leads_from_us = at_us + GRACE_US;
    }

    /// Ends what is too long by the time of a frame, which may come before time itself ends it.
    fn keep_up(&mut self, now_us: i64, id: RenditionId, frame: &Frame) {
        let over_us = self.cadence.limit_us + GRACE_US;
        // Sound is no keyframe to wait for, but comes so evenly that it tells how long the segment is.
        let is_key = frame.is_key || id == RenditionId::Audio;
        let limit_us = if is_key {
            over_us
        } else {
            self.cadence.limit_us
        };
        for _ in 0..JUMP_SEGMENTS_MAX {
            let Some(border) = self.border else { return };
            let age_us = frame.at_us.saturating_sub(border.start_us);
            match self.leader(now_us) {
                Some(led) if age_us > limit_us && (led == id || id == RenditionId::Audio) => {
                    if self.standing(led, border) != Standing::Current {
                        return;
                    }
                    self.interrupt(led, border.start_us + self.cadence.limit_us);
                }
                None if age_us > over_us => self.cut_by_time(border),
                _ => return,
            }
        }
    }

    /// The pending frames are frames like others.
    fn drop_pending(&mut self, id: RenditionId, is_change: bool) {
        let (Some(border), Some(lane)) = (self.border, self.lanes.get_mut(&id)) else {
            return;
        };
        let mut pending = std::mem::take(&mut lane.pending).into_iter();
        let had_this = lane.last_msn.is_some_and(|msn| msn >= border.msn);
        if is_change || (lane.open.is_none() && had_this) {
            self.is_discontinuity_due |= is_change;
            self.counts.reconfigured += 1;
            let end_us = pending.next().map_or(border.start_us, |first| first.at_us);
            lane.close(end_us, None, &mut self.out);
            return;
        }
        if lane.open.is_none()
            && let Some(first) = pending.next()
        {
            self.begin(id, first);
        }
        self.hold_all(id, pending);
    }

    fn hold_all(&mut self, id: RenditionId, frames: impl Iterator<Item = Frame>) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        for frame in frames {
            self.counts.misplaced += u64::from(!lane.hold(&frame, &mut self.out));
        }
    }

    fn close_all(&mut self) {
        let ids: Vec<RenditionId> = self.lanes.keys().copied().collect();
        for id in &ids {
            self.drop_pending(*id, false);
        }
        let ends = self.lanes.values().map(Lane::end_of_frames_us);
        let end_us = ends.max().unwrap_or(0);
        let Some(border) = self.border else { return };
        if end_us - border.start_us > self.cadence.limit_us + GRACE_US {
            self.cut(border.start_us + self.cadence.limit_us, false);
        }
        let border = self.border.unwrap_or(border);
        for lane in self.lanes.values_mut() {
            let is_current = lane.open.as_ref().map(|open| open.opening.msn) == Some(border.msn);
            let until_us = match is_current {
                true => i64::MAX,
                false => lane.ends_us(border, lane.follow_until_us(border)),
            };
            let end_us = lane.end_of_frames_us().min(until_us);
            lane.fall_behind(end_us, &mut self.out);
            if lane.last_msn.is_some_and(|msn| msn < border.msn) {
                lane.skip(border, end_us, &mut self.out);
            }
        }
    }

    /// The largest rung with an open segment that frames come for.
    fn leader(&self, now_us: i64) -> Option<RenditionId> {
        let video = self
            .lanes
            .values()
            .filter(|lane| lane.id != RenditionId::Audio);
        let mut leading =
            video.filter(|lane| lane.open.is_some() && lane.arrivals.is_alive(now_us));
        leading.next().map(|lane| lane.id)
    }

    /// The leading rung has stopped, as far as can be seen.
    fn is_leader_silent(&self, now_us: i64, since_us: i64) -> bool {
        let leader = self.leader(now_us).and_then(|id| self.lanes.get(&id));
        leader.is_none_or(|lane| lane.arrivals.is_silent_since(since_us))
    }

    fn standing(&self, id: RenditionId, border: Opening) -> Standing {
        let open = self.lanes.get(&id).and_then(|lane| lane.open.as_ref());
        match open {
            None => Standing::Waiting,
            Some(open) if open.opening.msn < border.msn => Standing::Due,
            Some(_) => Standing::Current,
        }
    }

    /// The time up to which the frames of all that is alive must have come.
    fn settled_us(&self, now_us: i64) -> i64 {
        let alive = self
            .lanes
            .values()
            .filter(|lane| lane.arrivals.is_alive(now_us));
        let settled = alive.map(|lane| lane.arrivals.settled_us(now_us)).min();
        settled.unwrap_or(now_us)
    }
}
