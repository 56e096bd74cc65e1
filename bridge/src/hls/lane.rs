//! One rendition being cut: frames become parts on the grid of their segment.
//!
//! A part is a stretch of its segment's grid, and is said to be just as long as the grid: no frame rate
//! makes one too long or too short (RFC 8216bis §4.4.4.9). Only the last one of a segment is shorter.

use std::collections::VecDeque;

use bytes::Bytes;

use super::arrivals::Arrivals;
use super::publication::{Opening, Part, Publication, RenditionId};
use crate::fmp4::{AudioClock, Fragment, Sample, TrackSpec, VIDEO_TIMESCALE, VideoClock};

/// How a broadcast is cut, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cadence {
    pub(super) segment_us: i64,
    pub(super) part_us: i64,
    /// A keyframe this long after a border is the next one.
    pub(super) early_us: i64,
    /// No segment of the leading rendition is longer.
    pub(super) limit_us: i64,
    /// Wall-clock time at zero in microseconds since 1970, if fragments say when they were captured.
    pub(super) reference_us: Option<i64>,
}

/// A whole frame of any kind.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) spec: TrackSpec,
    pub(super) at_us: i64,
    pub(super) is_key: bool,
    /// Of sound: how many samples it has.
    pub(super) sample_count: u32,
    pub(super) data: Bytes,
}

/// A rendition and its open segment.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: RenditionId,
    cadence: Cadence,
    pub(super) spec: Option<TrackSpec>,
    map: u32,
    clock: Clock,
    sequence: u32,
    pub(super) open: Option<Open>,
    /// Frames of the open segment that are in no part yet.
    held: Vec<Held>,
    /// Frames from a keyframe on that begins the next segment if the leading rendition has a border here.
    pub(super) pending: Vec<Frame>,
    /// When the first pending one came.
    pub(super) pending_since_us: i64,
    /// Borders whose segments are still to be begun, of sound: it is mixed later than pictures come.
    coming: VecDeque<Opening>,
    /// The last segment that was begun or left out.
    pub(super) last_msn: Option<u64>,
    /// It lost its place: where it begins again is a discontinuity.
    pub(super) was_interrupted: bool,
    pub(super) arrivals: Arrivals,
    /// Of pictures: the last keyframe.
    key: Option<Frame>,
    /// The last keyframe was shown again, so only another one can follow.
    is_holding: bool,
    /// Where the last segment ended: nothing begins before.
    end_us: i64,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) opening: Opening,
    /// The stretch of the grid that is being filled.
    slot: i64,
    part_count: u32,
}

#[derive(Debug)]
struct Held {
    at_us: i64,
    decode_time: u64,
    /// In ticks; 0: not known before the next frame.
    duration: u32,
    is_key: bool,
    data: Bytes,
}

#[derive(Debug)]
enum Clock {
    Video(VideoClock),
    Audio(Option<AudioClock>),
}

/// This long after a border the others must have begun their segments.
pub(super) const FOLLOW_US: i64 = 500_000;
/// No source sends as many frames in a part.
const HELD_MAX: usize = 1024;
/// How far apart held pictures are.
const REPEAT_US: i64 = 1_000_000;
/// A source without a frame for that many of its intervals shows a still picture from now on.
const STOPPED_INTERVALS: i64 = 3;
/// The longest a frame is said to last when the next one has not come, unless they usually last longer.
const GUESS_US_MAX: i64 = 1_000_000;

impl Lane {
    pub(super) fn new(id: RenditionId, cadence: Cadence) -> Self {
        Self {
            id,
            cadence,
            spec: None,
            map: 0,
            clock: match id {
                RenditionId::Video(_) => Clock::Video(VideoClock::default()),
                RenditionId::Audio => Clock::Audio(None),
            },
            sequence: 0,
            open: None,
            held: Vec::new(),
            pending: Vec::new(),
            pending_since_us: 0,
            coming: VecDeque::new(),
            last_msn: None,
            was_interrupted: false,
            arrivals: Arrivals::new(),
            key: None,
            is_holding: false,
            end_us: 0,
        }
    }

    /// Whether a decoder has what this frame builds on; remembers it if it is a keyframe.
    pub(super) fn may_follow(&mut self, frame: &Frame) -> bool {
        if frame.is_key && self.id != RenditionId::Audio {
            self.key = Some(frame.clone());
            self.is_holding = false;
        }
        !self.is_holding
    }

    /// How long ago there should have been a frame after the last one.
    pub(super) fn missing_us(&self, now_us: i64) -> i64 {
        let last_at_us = self.arrivals.last_at_us();
        last_at_us.map_or(i64::MAX, |at_us| self.arrivals.settled_us(now_us) - at_us)
    }

    /// The last keyframe as another frame, a second after the last one.
    pub(super) fn repeat(&mut self, now_us: i64) -> Option<Frame> {
        let settled_us = self.arrivals.settled_us(now_us);
        let at_us = self.arrivals.last_at_us()? + REPEAT_US;
        // After a jump of time only the present counts.
        self.repeat_at(at_us.clamp(settled_us - REPEAT_US, settled_us), now_us)
    }

    /// The last keyframe as another frame at this time.
    pub(super) fn repeat_at(&mut self, at_us: i64, now_us: i64) -> Option<Frame> {
        let mut frame = self.key.clone()?;
        frame.at_us = at_us;
        self.arrivals.note(now_us, at_us);
        self.is_holding = true;
        Some(frame)
    }

    /// When the frame that fills the part is likely to have come; `None`: nothing is awaited.
    pub(super) fn expected_us(&self, now_us: i64) -> Option<i64> {
        let is_awaited = self.open.is_some() || !self.pending.is_empty();
        if !is_awaited || !self.arrivals.is_alive(now_us) {
            return None;
        }
        let interval_us = self.arrivals.quick_interval_us();
        let at_us = interval_us.and_then(|interval_us| self.filling_us(interval_us));
        Some(at_us.map_or(now_us, |at_us| match self.id {
            RenditionId::Audio => self.arrivals.expected_us(at_us),
            RenditionId::Video(_) => self.arrivals.worth_a_look_us(at_us),
        }))
    }

    /// When the frame is shown that would fill the part, were all frames that far apart.
    fn filling_us(&self, usual_us: i64) -> Option<i64> {
        let (open, last_us) = (self.open.as_ref()?, self.arrivals.last_at_us()?);
        if usual_us <= 0 {
            return None;
        }
        let missing_us = full_from_us(open.end_of_slot(self.cadence.part_us), usual_us) - last_us;
        let frames = (missing_us + usual_us - 1).div_euclid(usual_us).max(1);
        Some(last_us + frames * usual_us)
    }

    /// From when on the picture that would fill the part is later than pictures are.
    pub(super) fn left_out_from_us(&self) -> Option<i64> {
        let is_picture = self.id != RenditionId::Audio;
        let usual_us = self.arrivals.usual_interval_us().filter(|_| is_picture);
        self.arrivals.left_out_from_us(self.filling_us(usual_us?)?)
    }

    /// This frame needs another initialisation segment than those before.
    pub(super) fn is_change(&self, frame: &Frame) -> bool {
        self.spec.as_ref().is_some_and(|spec| *spec != frame.spec)
    }

    /// How old the open segment is at a time.
    pub(super) fn age_us(&self, at_us: i64) -> i64 {
        let start = self.open.as_ref().map(|open| open.opening.start_us);
        start.map_or(0, |start_us| at_us.saturating_sub(start_us))
    }

    /// Until when it may go on with the segment before a border.
    pub(super) fn follow_until_us(&self, border: Opening) -> i64 {
        let start = self.open.as_ref().map(|open| open.opening.start_us);
        let start_us = start.unwrap_or(border.start_us);
        self.late_from_us(border)
            .min(start_us + self.cadence.limit_us)
    }

    /// From when on it is too late for the segment of a border, or of one before that is still to be begun.
    pub(super) fn late_from_us(&self, border: Opening) -> i64 {
        self.coming.front().unwrap_or(&border).start_us + FOLLOW_US
    }

    /// Ends the open segment and begins the next one with `frame`.
    ///
    /// `false`: the frame has no place, and nothing was changed.
    pub(super) fn begin(
        &mut self,
        opening: Opening,
        frame: Frame,
        init: Option<Bytes>,
        out: &mut VecDeque<Publication>,
    ) -> bool {
        if self.is_change(&frame) {
            // Another sample rate is another clock; the old one's frames are done with.
            if let Clock::Audio(clock) = &mut self.clock {
                *clock = None;
            }
        }
        let start_us = self.begins_us(opening, frame.at_us);
        // A keyframe is shown from the beginning on; sound sounds when it does.
        let first_us = match self.id {
            RenditionId::Audio => frame.at_us,
            RenditionId::Video(_) => frame.at_us.min(start_us),
        };
        let Some(held) = self.place(&frame, first_us) else {
            return false;
        };
        self.close(start_us, Some(held.decode_time), out);
        if let Some(bytes) = init {
            self.map += 1;
            self.spec = Some(frame.spec.clone());
            out.push_back(Publication::Map {
                rendition: self.id,
                number: self.map,
                spec: frame.spec.clone(),
                bytes,
            });
        }
        self.open(Opening {
            start_us,
            ..opening
        });
        self.held.push(held);
        self.repeat_until(&frame, start_us, out);
        true
    }

    /// Where a segment begins whose first frame is at a time.
    ///
    /// A discontinuity is at one time in all renditions: hls.js waits for ever if it begins with sound behind one and
    /// pictures before it.
    fn begins_us(&self, opening: Opening, at_us: i64) -> i64 {
        let reach_us = match self.id {
            RenditionId::Audio => self.cadence.part_us,
            RenditionId::Video(_) => FOLLOW_US,
        };
        let is_near = (at_us - opening.start_us).abs() <= reach_us;
        match opening.is_discontinuity && is_near {
            true => opening.start_us,
            false => at_us,
        }
    }

    /// A keyframe that begins its segment earlier than it was taken is shown in every part until then: no player finds
    /// a part missing.
    fn repeat_until(&mut self, key: &Frame, start_us: i64, out: &mut VecDeque<Publication>) {
        let part_us = self.cadence.part_us;
        for slot in 1..=(key.at_us - start_us).div_euclid(part_us) {
            if let Some(held) = self.place(key, start_us + slot * part_us) {
                self.hold_placed(held, out);
            }
        }
    }

    /// Where the open segment ends at the latest if it does not follow a border before `until_us`: behind a
    /// discontinuity nothing of it is shown.
    pub(super) fn ends_us(&self, border: Opening, until_us: i64) -> i64 {
        match border.is_discontinuity && self.id != RenditionId::Audio {
            true => until_us.min(border.start_us),
            false => until_us,
        }
    }

    /// Forgets the open segment if nothing of it is out.
    pub(super) fn take_back(&mut self) -> bool {
        let is_out = self.open.as_ref().is_none_or(|open| open.part_count > 0);
        if !is_out {
            self.open = None;
            self.held.clear();
        }
        !is_out
    }

    /// Ends the open segment before the first held frame at or after a border, which begins the next one.
    ///
    /// `false`: there is no such frame yet.
    fn split(&mut self, opening: Opening, out: &mut VecDeque<Publication>) -> bool {
        let later = |held: &Held| held.at_us >= opening.start_us;
        let Some(index) = self.held.iter().position(later) else {
            return false;
        };
        let tail = self.held.split_off(index);
        let Some(first) = tail.first() else {
            return false;
        };
        let start_us = self.begins_us(opening, first.at_us);
        self.close(start_us, Some(first.decode_time), out);
        self.open(Opening {
            start_us,
            ..opening
        });
        for held in tail {
            self.hold_placed(held, out);
        }
        true
    }

    /// A border of the others. Its segment begins with what has come, or with what is still to come.
    pub(super) fn meet(&mut self, border: Opening, out: &mut VecDeque<Publication>) {
        if self.open.is_some() && (!self.coming.is_empty() || !self.split(border, out)) {
            self.coming.push_back(border);
        }
    }

    /// The last of the segments that are still to be begun and begin before a time; those before it have no frame.
    pub(super) fn due(&mut self, at_us: i64, out: &mut VecDeque<Publication>) -> Option<Opening> {
        let begun = self
            .coming
            .iter()
            .take_while(|border| border.start_us <= at_us);
        for _ in 1..begun.count() {
            self.leave_out(out);
        }
        let border = self.coming.front().copied();
        border.filter(|border| border.start_us <= at_us)
    }

    /// The oldest of the segments that are still to be begun has no frame.
    fn leave_out(&mut self, out: &mut VecDeque<Publication>) {
        let Some(border) = self.coming.pop_front() else {
            return;
        };
        let end_us = self
            .coming
            .front()
            .map_or(border.start_us, |next| next.start_us);
        self.close(border.start_us, None, out);
        self.skip(border, end_us, out);
    }

    /// Ends the open segment, and leaves out those between it and the one of the newest border.
    pub(super) fn fall_behind(&mut self, end_us: i64, out: &mut VecDeque<Publication>) {
        self.close(end_us, None, out);
        self.leave_out_to_newest(out);
        self.coming.clear();
    }

    /// Of the segments that are still to be begun only the newest one may still get a frame.
    pub(super) fn leave_out_to_newest(&mut self, out: &mut VecDeque<Publication>) {
        while self.coming.len() > 1 {
            self.leave_out(out);
        }
    }

    /// Adds a frame to the open segment. `false`: it has no place there.
    pub(super) fn hold(&mut self, frame: &Frame, out: &mut VecDeque<Publication>) -> bool {
        let has_room = self.open.is_some() && self.held.len() < HELD_MAX;
        let held = has_room.then(|| self.place(frame, frame.at_us)).flatten();
        let Some(held) = held else {
            return false;
        };
        self.hold_placed(held, out);
        true
    }

    /// Ends the open segment at a time; with the decode time of what comes next, if that is known.
    pub(super) fn close(
        &mut self,
        end_us: i64,
        next: Option<u64>,
        out: &mut VecDeque<Publication>,
    ) {
        self.publish(next, Some(end_us), out);
        let Some(open) = self.open.take() else {
            return;
        };
        // A part that was foreseen to be full may be out although the segment ends before it does; not a whole one more.
        let listed_us = (i64::from(open.part_count) - 1) * self.cadence.part_us;
        let duration_us = self.cadence.clamp(end_us - open.opening.start_us);
        let duration_us = duration_us.max(listed_us);
        self.end_us = open.opening.start_us + duration_us;
        out.push_back(if open.part_count == 0 {
            Publication::Gap {
                rendition: self.id,
                opening: open.opening,
                duration_us,
            }
        } else {
            Publication::Closed {
                rendition: self.id,
                duration_us,
            }
        });
    }

    /// Leaves a segment out.
    pub(super) fn skip(&mut self, opening: Opening, end_us: i64, out: &mut VecDeque<Publication>) {
        self.last_msn = Some(opening.msn);
        // A rendition that ended a little before the border has no hole there.
        let start_us = match opening.start_us - self.end_us {
            ..=FOLLOW_US if self.end_us > 0 => self.end_us,
            _ => opening.start_us,
        };
        let duration_us = self.cadence.clamp(end_us - start_us);
        self.end_us = start_us + duration_us;
        out.push_back(Publication::Gap {
            rendition: self.id,
            opening: Opening {
                start_us,
                map: self.map,
                ..opening
            },
            duration_us,
        });
    }

    /// Cuts the part whose time is over, if nothing more can come into it, or is likely to: what comes all the same is in
    /// the next one.
    pub(super) fn cut_due_part(&mut self, now_us: i64, out: &mut VecDeque<Publication>) {
        let settled_us = self.arrivals.settled_us(now_us);
        let part_us = self.cadence.part_us;
        let Some(open) = &self.open else { return };
        let is_left_out = self.left_out_from_us().is_some_and(|us| now_us >= us);
        let is_over = settled_us >= open.end_of_slot(part_us) || is_left_out;
        if self.held.is_empty() || !is_over {
            return;
        }
        self.publish(None, None, out);
        if let Some(open) = &mut self.open {
            open.slot += 1;
        }
    }

    /// When what has come so far is over.
    pub(super) fn end_of_frames_us(&self) -> i64 {
        let Some(open) = &self.open else { return 0 };
        let listed_us = open.opening.start_us + open.slot * self.cadence.part_us;
        let Some(last) = self.held.last() else {
            return listed_us;
        };
        let rate = i64::from(self.spec.as_ref().map_or(1, TrackSpec::timescale));
        let duration_us = match last.duration {
            0 => self.arrivals.longest_interval_us().unwrap_or(MOMENT_US),
            ticks => i64::from(ticks) * 1_000_000 / rate,
        };
        (last.at_us + duration_us).min(listed_us + self.cadence.part_us)
    }

    /// Forgets everything but the numbers that must not come again.
    pub(super) fn forget(&mut self) {
        self.open = None;
        self.held.clear();
        self.pending.clear();
        self.coming.clear();
        self.last_msn = None;
        self.was_interrupted = false;
        self.arrivals.forget();
        self.key = None;
        self.is_holding = false;
    }

    fn open(&mut self, opening: Opening) {
        self.coming.retain(|border| border.msn > opening.msn);
        self.last_msn = Some(opening.msn);
        self.was_interrupted = false;
        self.open = Some(Open {
            opening: Opening {
                start_us: opening.start_us.max(self.end_us),
                map: self.map,
                ..opening
            },
            slot: 0,
            part_count: 0,
        });
    }

    fn place(&mut self, frame: &Frame, at_us: i64) -> Option<Held> {
        let (decode_time, duration) = match &mut self.clock {
            Clock::Video(clock) => (clock.place(at_us)?, 0),
            Clock::Audio(clock) => {
                let clock = clock.get_or_insert_with(|| AudioClock::new(frame.spec.timescale()));
                let decode_time = clock.place(at_us, frame.sample_count)?;
                (decode_time, frame.sample_count)
            }
        };
        Some(Held {
            at_us,
            decode_time,
            duration,
            is_key: frame.is_key,
            data: frame.data.clone(),
        })
    }

    fn hold_placed(&mut self, held: Held, out: &mut VecDeque<Publication>) {
        let part_us = self.cadence.part_us;
        let Some(open) = &self.open else { return };
        if held.at_us >= open.end_of_slot(part_us) {
            let slot = (held.at_us - open.opening.start_us) / part_us;
            self.publish(Some(held.decode_time), None, out);
            if let Some(open) = &mut self.open {
                open.slot = slot;
            }
        }
        self.held.push(held);
        self.cut_full_part(out);
    }

    /// Cuts the part whose next frame would be beyond it, as far as can be foreseen: waiting for that frame
    /// would make everybody see all that much later. One that comes earlier all the same is in the next part.
    fn cut_full_part(&mut self, out: &mut VecDeque<Publication>) {
        let (Some(open), Some(last)) = (&self.open, self.held.last()) else {
            return;
        };
        let Some(usual_us) = self.usual_us(last) else {
            return;
        };
        let end_us = open.end_of_slot(self.cadence.part_us);
        // The segment of sound ends where the picture's does, which may not have come yet.
        let is_last = end_us + usual_us > open.opening.start_us + self.cadence.segment_us;
        let may_end = is_last && self.id == RenditionId::Audio;
        if may_end || last.at_us < full_from_us(end_us, usual_us) {
            return;
        }
        self.publish(None, None, out);
        if let Some(open) = &mut self.open {
            open.slot += 1;
        }
    }

    /// How long after a frame the next one is to be expected.
    fn usual_us(&self, frame: &Held) -> Option<i64> {
        let rate = i64::from(self.spec.as_ref()?.timescale());
        match frame.duration {
            0 => self.arrivals.usual_interval_us(),
            ticks => Some(i64::from(ticks) * 1_000_000 / rate),
        }
    }

    /// Makes a part of what is held; the last one of its segment ends with it.
    fn publish(
        &mut self,
        next: Option<u64>,
        segment_end_us: Option<i64>,
        out: &mut VecDeque<Publication>,
    ) {
        let Some(open) = &self.open else {
            self.held.clear();
            return;
        };
        let Some(first) = self.held.first() else {
            return;
        };
        let part_us = self.cadence.part_us;
        let duration_us = segment_end_us.map_or(part_us, |end_us| {
            let begins_us = open.end_of_slot(part_us) - part_us;
            (end_us - begins_us).clamp(MOMENT_US, part_us)
        });
        let slot_end_us = open.end_of_slot(part_us);
        let (opening, is_first) = (open.opening, open.part_count == 0);
        let mut fragment = Fragment::new(1, self.sequence.wrapping_add(1), first.decode_time);
        if is_first {
            fragment.set_begins_segment();
        }
        if let Some(zero_us) = self.cadence.reference_us {
            fragment.set_reference_time(ntp(zero_us.saturating_add(first.at_us)));
        }
        let guess = self.guess(slot_end_us);
        let held = std::mem::take(&mut self.held);
        let is_independent = held.iter().any(|held| held.is_key);
        let frame_count = u32::try_from(held.len()).unwrap_or(u32::MAX);
        fill(&mut fragment, &held, next, guess);
        let Some(bytes) = fragment.finish() else {
            return;
        };
        self.sequence = self.sequence.wrapping_add(1);
        if let Some(open) = &mut self.open {
            open.part_count += 1;
        }
        if is_first {
            out.push_back(Publication::Opened {
                rendition: self.id,
                opening,
            });
        }
        out.push_back(Publication::Part {
            rendition: self.id,
            part: Part {
                duration_us,
                is_independent,
                frame_count,
                bytes,
            },
        });
    }

    /// How long the last held picture is said to last while the next one is missing, in ticks.
    ///
    /// Media Source Extensions end a group of frames, and with it all pictures up to the next keyframe, at a
    /// frame that comes more than twice the duration of the one before after it: too long does no harm, too
    /// short does.
    fn guess(&self, slot_end_us: i64) -> u32 {
        let usual_us = self.arrivals.longest_interval_us().unwrap_or(0);
        let last_us = self.held.last().map_or(slot_end_us, |held| held.at_us);
        let left_us = slot_end_us - last_us;
        let has_stopped = left_us > usual_us * STOPPED_INTERVALS;
        let generous_us = match has_stopped {
            true => GUESS_US_MAX.max(usual_us),
            false => (usual_us * 4).min(GUESS_US_MAX.max(usual_us)),
        };
        let duration_us = generous_us
            .max(left_us)
            .clamp(MOMENT_US, self.cadence.limit_us);
        u32::try_from(duration_us * i64::from(VIDEO_TIMESCALE) / 1_000_000).unwrap_or(u32::MAX)
    }
}

impl Cadence {
    /// What a segment may be said to last: whatever happens it must round to the target duration.
    fn clamp(&self, duration_us: i64) -> i64 {
        duration_us.clamp(MOMENT_US, self.limit_us + ROUNDS_US)
    }
}

impl Open {
    fn end_of_slot(&self, part_us: i64) -> i64 {
        self.opening.start_us + (self.slot + 1) * part_us
    }
}

/// A frame from then on is the last one of the part that ends at `end_us`.
fn full_from_us(end_us: i64, usual_us: i64) -> i64 {
    end_us - usual_us - usual_us / 8
}

/// Puts frames into a fragment; each lasts until the next one, the last one as long as it says or `guess`.
fn fill(fragment: &mut Fragment, held: &[Held], next: Option<u64>, guess: u32) {
    let mut times = held.iter().skip(1).map(|held| held.decode_time);
    for held in held {
        let next = times.next().or(next);
        let duration = match next.and_then(|next| next.checked_sub(held.decode_time)) {
            Some(duration) => u32::try_from(duration).unwrap_or(guess),
            None if held.duration == 0 => guess,
            None => held.duration,
        };
        fragment.push(Sample {
            duration,
            is_key: held.is_key,
            data: held.data.clone(),
        });
    }
}

/// What may be added to the limit: `hls.rs` makes it 0.3 s more than the target duration.
const ROUNDS_US: i64 = 190_000;
/// Nothing is shorter: a duration of zero is none.
const MOMENT_US: i64 = 1_000;

/// RFC 5905 §6: seconds since 1900 and their fractions.
fn ntp(unix_us: i64) -> u64 {
    const UNIX_S: u64 = 2_208_988_800;
    let unix_us = u64::try_from(unix_us).unwrap_or(0);
    let seconds = unix_us / 1_000_000 + UNIX_S;
    let fraction = ((unix_us % 1_000_000) << 32) / 1_000_000;
    (seconds << 32) | fraction
}
