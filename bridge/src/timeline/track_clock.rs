//! A track's RTP timestamps on the timeline.

use std::time::Instant;

use super::relation::Relation;
use super::sender_clock::SenderClock;
use super::window::Window;
use super::{FAR_US, STEP_US};

/// Places the frames of one encoding of a track on the timeline.
///
/// Holds: each time it gives is later than the one before, by at least a tick of the track's clock.
#[derive(Debug)]
pub struct TrackClock {
    rate: u32,
    /// The first timestamp; the media clock is counted from it.
    origin: Option<u64>,
    newest: i64,
    /// A report that came before there was any frame.
    early: Option<Report>,
    relation: Option<Relation>,
    /// How far the sender's clock had been set when the last report was made.
    set_by_us: i64,
    /// Arrival less media clock: what there is to go by without reports.
    arrivals: Window,
    /// What is added to the media clock.
    shift_us: Option<i64>,
    last: Option<Placed>,
    re_anchored: u64,
}

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// On the timeline, in microseconds.
    pub at_us: i64,
    /// How much longer it took since the frame before than the track's own clock says, in
    /// microseconds; less than 0: shorter. Sound is to be resampled by it.
    pub correction_us: i64,
    /// The track's time was stepped: something broke, and no resampling mends it.
    pub is_re_anchored: bool,
}

#[derive(Clone, Copy, Debug)]
struct Placed {
    at_us: i64,
    media_us: i64,
}

/// What a sender report says of one encoding (RFC 3550 §6.4.1), as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// When it came in.
    pub arrival: Instant,
    /// The sender's wall clock as 32.32 bits of NTP time.
    pub ntp: u64,
    /// The RTP timestamp of the same moment.
    pub rtp_timestamp: u32,
}

/// One that is to be compared with others.
#[derive(Clone, Copy, Debug)]
struct Report {
    now: Instant,
    raw_us: i64,
    rtp: u32,
}

impl Mapped {
    /// The correction in samples at this rate, of which there is rarely a whole one.
    pub fn correction_samples(&self, rate: u32) -> f64 {
        self.correction_us as f64 * f64::from(rate) / 1e6
    }
}

impl TrackClock {
    /// A clock of `rate` ticks a second: 90 000 for video, 48 000 for Opus.
    pub fn new(rate: u32) -> Self {
        Self {
            rate: rate.max(1),
            origin: None,
            newest: 0,
            early: None,
            relation: None,
            set_by_us: 0,
            arrivals: Window::default(),
            shift_us: None,
            last: None,
            re_anchored: 0,
        }
    }

    /// Takes in a sender report of this encoding.
    pub fn handle_report(&mut self, sender: &mut SenderClock, report: SenderReport) {
        // A sender without a clock says 0 (RFC 3550 §6.4.1).
        if report.ntp == 0 {
            return;
        }
        let (now, rtp) = (report.arrival, report.rtp_timestamp);
        let report = Report {
            now,
            raw_us: sender.raw_us(report.ntp),
            rtp,
        };
        let Some(origin) = self.origin else {
            self.early = Some(report);
            sender.sample(now, report.raw_us.saturating_sub(sender.set_by_us()));
            return;
        };
        let newest = origin.wrapping_add_signed(self.newest);
        let media_us = self.media_us(self.newest.saturating_add(distance(rtp, newest)));
        self.learn(sender, report, media_us);
        sender.sample(now, report.raw_us.saturating_sub(self.set_by_us));
    }

    /// Places the frame with this extended timestamp, of which the last packet came at `arrival`.
    pub fn map(&mut self, sender: &SenderClock, arrival: Instant, timestamp: u64) -> Mapped {
        let origin = *self.origin.get_or_insert(timestamp);
        let ticks = timestamp.wrapping_sub(origin).cast_signed();
        self.newest = self.newest.max(ticks);
        if let Some(report) = self.early.take() {
            let media_us = self.media_us(ticks.saturating_add(distance(report.rtp, timestamp)));
            self.set_by_us = sender.set_by_us();
            let sender_us = report.raw_us.saturating_sub(self.set_by_us);
            self.relation = Some(Relation::new(media_us, sender_us));
        }
        let media_us = self.media_us(ticks);
        let arrival_us = sender.timeline().at_us(arrival);
        let ideal_us = self.ideal_us(sender, media_us, arrival_us);
        let since_us = self.last.map_or(0, |last| media_us - last.media_us);
        let is_re_anchored = self.slew(ideal_us - media_us, since_us);
        let shifted_us = media_us + self.shift_us.unwrap_or_default();
        let placed = Placed {
            at_us: self.last.map_or(shifted_us, |last| {
                shifted_us.max(last.at_us + self.tick_us())
            }),
            media_us,
        };
        let correction_us = self.last.map_or(0, |last| {
            (placed.at_us - last.at_us) - (placed.media_us - last.media_us)
        });
        self.last = Some(placed);
        Mapped {
            at_us: placed.at_us,
            correction_us,
            is_re_anchored,
        }
    }

    /// Whether a report is what frames are placed by.
    pub fn is_synchronized(&self) -> bool {
        self.relation.is_some() || self.early.is_some()
    }

    /// How often time was stepped.
    pub fn re_anchored(&self) -> u64 {
        self.re_anchored
    }

    /// Learns from a report that was made at this place of the media clock.
    fn learn(&mut self, sender: &mut SenderClock, report: Report, media_us: i64) {
        let Some(relation) = &mut self.relation else {
            self.set_by_us = sender.set_by_us();
            let sender_us = report.raw_us.saturating_sub(self.set_by_us);
            self.relation = Some(Relation::new(media_us, sender_us));
            return;
        };
        if !relation.is_before(media_us) {
            return;
        }
        let predicted = relation.sender_us(media_us);
        let off_by = |set_by_us: i64| {
            let sender_us = report.raw_us.saturating_sub(set_by_us);
            sender_us.saturating_sub(predicted)
        };
        if off_by(self.set_by_us).saturating_abs() >= JUMP_US
            && off_by(sender.set_by_us()).saturating_abs() < JUMP_US
        {
            // Another track of this sender has shown it already.
            self.set_by_us = sender.set_by_us();
        }
        let jump = off_by(self.set_by_us);
        let sender_us = report.raw_us.saturating_sub(self.set_by_us);
        if jump.saturating_abs() < JUMP_US {
            relation.update(media_us, sender_us);
            return;
        }
        // Either its clock was set, or its media clock stood still or jumped. If the former, then
        // the report seems to have travelled for a longer or shorter time by just as much.
        let now_us = sender.timeline().at_us(report.now);
        let offset = sender.offset_at(predicted).unwrap_or_default();
        let unlike = |sender_us: i64| {
            let sample = now_us.saturating_sub(sender_us);
            sample.saturating_sub(offset).saturating_abs()
        };
        if unlike(predicted) < unlike(sender_us) {
            self.set_by_us = self.set_by_us.saturating_add(jump);
            sender.set(self.set_by_us);
            relation.update(media_us, predicted);
        } else {
            *relation = Relation::new(media_us, sender_us);
        }
    }

    /// Where a frame belongs, by the reports if there are any and they make sense.
    fn ideal_us(&mut self, sender: &SenderClock, media_us: i64, arrival_us: i64) -> i64 {
        self.arrivals.push(arrival_us, arrival_us - media_us);
        let reported = self.relation.and_then(|relation| {
            let sender_us = relation.sender_us(media_us);
            Some(sender_us.saturating_add(sender.offset_at(sender_us)?))
        });
        let by_arrival = self.arrivals.least().map(|least| media_us + least);
        let ideal_us = reported.or(by_arrival).unwrap_or(arrival_us);
        let late_us = arrival_us.saturating_sub(ideal_us);
        if (-EARLY_MAX_US..=STEP_US).contains(&late_us) {
            return ideal_us;
        }
        self.relation = None;
        self.arrivals.clear();
        self.arrivals.push(arrival_us, arrival_us - media_us);
        arrival_us
    }

    /// Moves the shift towards what it should be, by as much as the media since the last frame allow;
    /// whether it was stepped. By time and not by frames, so that sound and pictures go at one pace.
    fn slew(&mut self, wanted_us: i64, since_us: i64) -> bool {
        let Some(shift_us) = &mut self.shift_us else {
            self.shift_us = Some(wanted_us);
            return false;
        };
        let way = wanted_us - *shift_us;
        if way.abs() > STEP_US {
            *shift_us = wanted_us;
            self.re_anchored += 1;
            return true;
        }
        let since_us = since_us.clamp(0, SLEW_US);
        let most_us = since_us / SLEW_MOST;
        *shift_us += match way * since_us / SLEW_US {
            0 => way.signum() * most_us.signum(),
            step => step.clamp(-most_us, most_us),
        };
        false
    }

    fn media_us(&self, ticks: i64) -> i64 {
        let micros = (i128::from(ticks) * 1_000_000).div_euclid(i128::from(self.rate));
        let micros = micros.clamp(i128::from(-FAR_US), i128::from(FAR_US));
        i64::try_from(micros).unwrap_or_default()
    }

    fn tick_us(&self) -> i64 {
        i64::from(1_000_000_u32.div_ceil(self.rate))
    }
}

/// How many ticks a wire timestamp is from an extended one: the shorter way round.
fn distance(rtp: u32, extended: u64) -> i64 {
    let wire = (extended & 0xffff_ffff) as u32;
    i64::from(rtp.wrapping_sub(wire).cast_signed())
}

/// What is slewed is at most one part in this of the media's time: 2 ms in a frame of sound.
const SLEW_MOST: i64 = 10;
/// Small corrections are spread over as much time, so that noise in reports is not heard.
const SLEW_US: i64 = 160_000;
/// Nothing arrives before it was captured; what seems to, by more than reports are wrong, is broken.
const EARLY_MAX_US: i64 = 1_000_000;
/// Reports that are off by less are noise or drift.
const JUMP_US: i64 = 100_000;
