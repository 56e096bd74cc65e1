//! What of a rendition is kept in memory: the listed segments, and those that were listed just before.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::Settings;
use super::publication::{Opening, Part, RenditionId};
use super::secrets::Secrets;
use crate::fmp4::TrackSpec;

/// The segments of one rendition.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) id: RenditionId,
    settings: Arc<Settings>,
    secrets: Arc<Secrets>,
    maps: VecDeque<Map>,
    segments: VecDeque<Segment>,
    /// How many at the front are served, but listed no more.
    unlisted: usize,
    pub(super) next_msn: u64,
    /// `signed_from_us` of the next segment, if that is known.
    pub(super) next_signed_from_us: Option<i64>,
    pub(super) is_ended: bool,
    bytes: usize,
    pub(super) rates: Rates,
    /// What was measured is of a configuration before; better than nothing until the first whole segment.
    is_measured_anew: bool,
    /// Segments and parts that went early because memory is bounded.
    pub(super) forced_out: u64,
}

#[derive(Debug)]
struct Map {
    number: u32,
    spec: TrackSpec,
    bytes: Bytes,
}

/// A segment and its parts.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) opening: Opening,
    /// `None`: more parts come.
    pub(super) duration_us: Option<i64>,
    pub(super) parts: Vec<KeptPart>,
    /// Signatures of its URIs last from here on. It is the beginning of the segment before: the first part
    /// is announced, signed, before anybody knows when the segment begins.
    pub(super) signed_from_us: i64,
    /// The encrypted whole of it.
    sealed: Option<Bytes>,
    /// Bits a second, if it is long enough to say.
    rate_bps: Option<u64>,
}

/// A part as it is served.
#[derive(Debug)]
pub(super) struct KeptPart {
    pub(super) duration_us: i64,
    pub(super) is_independent: bool,
    frame_count: u32,
    /// In the clear until the segment is whole.
    plain: Bytes,
    /// As it is served; `None`: there was no room for it.
    pub(super) bytes: Option<Bytes>,
}

/// Measured since the configuration changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rates {
    /// Of the densest segment.
    peak_bps: u64,
    /// The peak is of a segment that was long enough.
    is_rated: bool,
    bits: u64,
    duration_us: u64,
    /// Frames a second times 1000, of the last whole segment.
    pub(super) frames_milli: u64,
}

/// What a playlist request waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) msn: Option<u64>,
    pub(super) part: Option<u64>,
    pub(super) is_delta: bool,
}

/// Whether a request can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ready,
    Wait,
    /// It asks for what is too far in the future.
    TooFar,
}

/// What a request for a part finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Bytes(Bytes),
    /// It is the next one.
    Soon,
    Never,
}

/// Fewer are not listed: players begin three target durations before the end.
const LISTED_MIN: usize = 6;
/// Parts are listed for as many whole segments, and the open one: three segments with it. More would be ones
/// that are to be removed (RFC 8216bis §4.4.4.9), as strict parsers count it: by segments, the open one too.
pub(super) const SEGMENTS_WITH_PARTS: usize = 2;
/// A segment that is shorter says nothing about the rate.
const RATED_US_MIN: i64 = 1_000_000;

impl Window {
    pub(super) fn new(id: RenditionId, settings: Arc<Settings>, secrets: Arc<Secrets>) -> Self {
        Self {
            id,
            settings,
            secrets,
            maps: VecDeque::new(),
            segments: VecDeque::new(),
            unlisted: 0,
            next_msn: 0,
            next_signed_from_us: None,
            is_ended: false,
            bytes: 0,
            rates: Rates::default(),
            is_measured_anew: false,
            forced_out: 0,
        }
    }

    pub(super) fn add_map(&mut self, number: u32, spec: TrackSpec, bytes: Bytes) {
        self.is_measured_anew = true;
        self.maps.push_back(Map {
            number,
            spec,
            bytes,
        });
    }

    pub(super) fn open(&mut self, opening: Opening) {
        self.push(opening, None);
    }

    pub(super) fn add_part(&mut self, part: Part) {
        let key_number = self.key_number();
        let secrets = Arc::clone(&self.secrets);
        self.make_room(part.bytes.len() * if key_number.is_some() { 3 } else { 1 });
        let has_room = self.bytes < self.settings.memory_bytes_max;
        let Some(segment) = self.segments.back_mut() else {
            return;
        };
        let plain = part.bytes;
        let bytes = match key_number.filter(|_| has_room) {
            Some(number) => {
                let pieces = std::slice::from_ref(&plain);
                secrets.encrypt(number, segment.opening.msn, pieces)
            }
            None => has_room.then(|| plain.clone()),
        };
        self.forced_out += u64::from(bytes.is_none());
        let plain = if has_room { plain } else { Bytes::new() };
        self.bytes += plain.len();
        if key_number.is_some() {
            self.bytes += bytes.as_ref().map_or(0, Bytes::len);
        }
        segment.parts.push(KeptPart {
            duration_us: part.duration_us,
            is_independent: part.is_independent,
            frame_count: part.frame_count,
            plain,
            bytes,
        });
    }

    pub(super) fn close(&mut self, duration_us: i64) {
        let key_number = self.key_number();
        let secrets = Arc::clone(&self.secrets);
        let Some(segment) = self.segments.back_mut() else {
            return;
        };
        segment.duration_us = Some(duration_us);
        if std::mem::take(&mut self.is_measured_anew) {
            self.rates = Rates::default();
        }
        segment.rate_bps =
            (duration_us >= RATED_US_MIN).then(|| segment.bits_per_second(duration_us));
        self.rates.add(segment, duration_us);
        if let Some(number) = key_number {
            let plain: Vec<Bytes> = segment.plain().collect();
            let sealed = secrets.encrypt(number, segment.opening.msn, &plain);
            for part in &mut segment.parts {
                part.plain = Bytes::new();
            }
            segment.sealed = sealed;
        }
        self.recount();
        self.trim();
    }

    pub(super) fn gap(&mut self, opening: Opening, duration_us: i64) {
        self.push(opening, Some(duration_us));
        self.trim();
    }

    /// Lists nothing any more of what there is.
    pub(super) fn pause(&mut self) {
        self.unlisted = self.segments.len();
        self.next_signed_from_us = None;
    }

    /// The listed segments, oldest first; the last one may be open.
    pub(super) fn listed(&self) -> impl DoubleEndedIterator<Item = &Segment> + Clone {
        self.segments.iter().skip(self.unlisted)
    }

    /// There is a whole segment with media in it, or there was one and only gaps are left.
    pub(super) fn is_ready(&self) -> bool {
        self.listed().any(|segment| segment.duration_us.is_some())
    }

    /// What is listed has enough media to begin with. A source that becomes another one as it begins leaves a first
    /// segment of some frames, which no player can start from.
    pub(super) fn has_media(&self) -> bool {
        let media = self.listed().filter(|segment| !segment.is_gap());
        let whole_us: i64 = media.filter_map(|segment| segment.duration_us).sum();
        match self.is_ended {
            true => whole_us > 0,
            false => whole_us >= self.settings.segment_us() / 2,
        }
    }

    /// Some listed segment begins between two keyframes.
    pub(super) fn has_continuations(&self) -> bool {
        self.listed().any(|segment| segment.opening.is_continuation)
    }

    /// There is not enough to begin with yet, but there will be.
    pub(super) fn is_beginning(&self) -> bool {
        let last = self.listed().next_back();
        let goes_on = last.is_none_or(|segment| !segment.is_gap());
        goes_on && !self.is_ended && !self.has_media()
    }

    /// Bits a second of the densest segment, measured since the configuration changed, and of all that are listed.
    pub(super) fn peak_bps(&self) -> u64 {
        let listed = self.listed().filter_map(|segment| segment.rate_bps);
        listed.max().unwrap_or(0).max(self.rates.peak_bps)
    }

    /// What the newest segment carries.
    pub(super) fn spec(&self) -> Option<&TrackSpec> {
        self.maps.back().map(|map| &map.spec)
    }

    /// The number of the key of a segment, where segments are encrypted.
    pub(super) fn key_of(&self, msn: u64) -> Option<u64> {
        let run = self.settings.segments_per_key?;
        Some(msn / u64::from(run.max(1)))
    }

    pub(super) fn map(&self, number: u32) -> Option<Bytes> {
        let map = self.maps.iter().find(|map| map.number == number)?;
        Some(map.bytes.clone())
    }

    /// A whole segment, in pieces.
    pub(super) fn segment(&self, msn: u64) -> Option<Vec<Bytes>> {
        let segment = self.find(msn)?;
        segment.duration_us?;
        match &segment.sealed {
            Some(sealed) => Some(vec![sealed.clone()]),
            None if segment.is_gap() || self.settings.segments_per_key.is_some() => None,
            None => Some(segment.plain().collect()),
        }
    }

    pub(super) fn part(&self, msn: u64, index: usize) -> Found {
        let Some(segment) = self.find(msn) else {
            let is_next = msn == self.next_msn && index == 0 && self.whole_last();
            return if is_next && !self.is_ended {
                Found::Soon
            } else {
                Found::Never
            };
        };
        match segment.parts.get(index) {
            Some(part) => part.bytes.clone().map_or(Found::Never, Found::Bytes),
            None if segment.duration_us.is_none() && index == segment.parts.len() => Found::Soon,
            None => Found::Never,
        }
    }

    /// RFC 8216bis §6.2.5.2.
    pub(super) fn verdict(&self, ask: Ask) -> Verdict {
        if self.is_ended {
            return Verdict::Ready;
        }
        let Some(last) = self.listed().next_back().filter(|_| self.is_ready()) else {
            let is_far = ask
                .msn
                .is_some_and(|msn| msn > self.next_msn + FUTURE_SEGMENTS);
            return if is_far {
                Verdict::TooFar
            } else {
                Verdict::Wait
            };
        };
        let (mut msn, mut part) = match (ask.msn, ask.part) {
            (None, _) => return Verdict::Ready,
            (Some(msn), None) => (msn, None),
            (Some(msn), Some(part)) => (msn, Some(part)),
        };
        if msn > last.opening.msn + FUTURE_SEGMENTS {
            return Verdict::TooFar;
        }
        if let (Some(asked), Some(segment)) = (part, self.find(msn))
            && segment.duration_us.is_some()
            && usize::try_from(asked).map_or(true, |asked| asked >= segment.parts.len())
        {
            // Past the last part of a whole segment is the first part of the next one.
            (msn, part) = (msn + 1, Some(0));
        }
        if last.opening.msn != msn {
            let is_there = last.opening.msn > msn;
            return if is_there {
                Verdict::Ready
            } else {
                Verdict::Wait
            };
        }
        let part_count = u64::try_from(last.parts.len()).unwrap_or(u64::MAX);
        match part {
            _ if last.duration_us.is_some() => Verdict::Ready,
            None => Verdict::Wait,
            Some(part) if part < part_count => Verdict::Ready,
            Some(part) if part > part_count + self.settings.future_parts() => Verdict::TooFar,
            Some(_) => Verdict::Wait,
        }
    }

    fn push(&mut self, opening: Opening, duration_us: Option<i64>) {
        let start_us = opening.start_us;
        self.next_msn = opening.msn + 1;
        let before_us = self.next_signed_from_us.replace(start_us);
        self.segments.push_back(Segment {
            opening,
            duration_us,
            parts: Vec::new(),
            signed_from_us: before_us.unwrap_or(start_us),
            sealed: None,
            rate_bps: None,
        });
    }

    fn find(&self, msn: u64) -> Option<&Segment> {
        let found = self.segments.iter().rev();
        found
            .take_while(|segment| segment.opening.msn >= msn)
            .last()
            .filter(|segment| segment.opening.msn == msn)
    }

    /// The last segment is whole, so the next part begins another one.
    fn whole_last(&self) -> bool {
        let last = self.segments.back();
        last.is_none_or(|last| last.duration_us.is_some())
    }

    fn key_number(&self) -> Option<u64> {
        self.key_of(self.segments.back()?.opening.msn)
    }

    /// Ends the oldest segments until `bytes` more have room.
    fn make_room(&mut self, bytes: usize) {
        while self.bytes + bytes > self.settings.memory_bytes_max && self.segments.len() > 1 {
            self.forced_out += 1;
            self.drop_oldest();
        }
    }

    /// Lists no more than the window and keeps as much again.
    fn trim(&mut self) {
        let window_us = self.settings.window_us();
        loop {
            let whole = self.listed().filter_map(|segment| segment.duration_us);
            let (count, total_us) =
                whole.fold((0, 0), |(count, total_us), us| (count + 1, total_us + us));
            let first_us = self.listed().next().and_then(|segment| segment.duration_us);
            let Some(first_us) = first_us else { break };
            if count <= LISTED_MIN || total_us - first_us < window_us {
                break;
            }
            self.unlisted += 1;
        }
        let listed = self.segments.len().saturating_sub(self.unlisted);
        while self.unlisted > listed.max(LISTED_MIN) {
            self.drop_oldest();
        }
        let oldest = self.segments.front().map(|segment| segment.opening.map);
        let keeps = |map: &Map| oldest.is_none_or(|oldest| map.number >= oldest);
        while self.maps.len() > 1 && !self.maps.front().is_some_and(keeps) {
            self.maps.pop_front();
        }
        self.recount();
    }

    fn drop_oldest(&mut self) {
        if let Some(segment) = self.segments.pop_front() {
            self.bytes = self.bytes.saturating_sub(segment.bytes());
            self.unlisted = self.unlisted.saturating_sub(1);
        }
    }

    fn recount(&mut self) {
        self.bytes = self.segments.iter().map(Segment::bytes).sum();
    }
}

impl Segment {
    /// Before it is sealed.
    fn bits(&self) -> u64 {
        let bytes: usize = self.parts.iter().map(|part| part.plain.len()).sum();
        u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(8)
    }

    fn bits_per_second(&self, duration_us: i64) -> u64 {
        per_second(self.bits(), duration_us)
    }

    pub(super) fn is_gap(&self) -> bool {
        self.duration_us.is_some() && self.parts.is_empty()
    }

    /// How long it is so far.
    pub(super) fn listed_us(&self) -> i64 {
        let parts = self.parts.iter().map(|part| part.duration_us);
        self.duration_us.unwrap_or_else(|| parts.sum())
    }

    fn plain(&self) -> impl Iterator<Item = Bytes> {
        self.parts.iter().map(|part| part.plain.clone())
    }

    /// What it takes in memory.
    fn bytes(&self) -> usize {
        let parts = self.parts.iter().map(|part| {
            let served = part.bytes.as_ref();
            // In the clear both are the same memory.
            let served = served.filter(|bytes| bytes.as_ptr() != part.plain.as_ptr());
            part.plain.len() + served.map_or(0, Bytes::len)
        });
        parts.sum::<usize>() + self.sealed.as_ref().map_or(0, Bytes::len)
    }
}

impl Rates {
    pub(super) fn average_bps(&self) -> u64 {
        (self.bits * 1_000_000)
            .checked_div(self.duration_us)
            .unwrap_or(0)
    }

    fn add(&mut self, segment: &Segment, duration_us: i64) {
        let Ok(length_us) = u64::try_from(duration_us) else {
            return;
        };
        self.bits = self.bits.saturating_add(segment.bits());
        self.duration_us += length_us;
        let is_rated = segment.rate_bps.is_some();
        if !is_rated && self.peak_bps > 0 {
            return;
        }
        if is_rated && !std::mem::replace(&mut self.is_rated, true) {
            self.peak_bps = 0;
        }
        let parts = segment.parts.iter();
        let frames: u64 = parts.map(|part| u64::from(part.frame_count)).sum();
        self.peak_bps = self.peak_bps.max(segment.bits_per_second(duration_us));
        self.frames_milli = per_second(frames * 1000, duration_us);
    }
}

fn per_second(count: u64, duration_us: i64) -> u64 {
    let duration_us = u64::try_from(duration_us).unwrap_or(0).max(1);
    count.saturating_mul(1_000_000) / duration_us
}

/// What is further than this after the last segment cannot be waited for.
const FUTURE_SEGMENTS: u64 = 2;
