//! Whoever is alone goes out as it came: neither decoded nor encoded again, which costs most of what sound costs, and
//! is heard as it was sent.
//!
//! The mixer's ticks stay the grid. A tick is passed on if one packet of the only source falls on it; as soon as
//! anything else is to be heard, or anything is missing, everything is mixed, from a little before that tick on: the
//! decoders and the encoder that begin then have heard what was before.
#![warn(clippy::indexing_slicing)]

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::decoder::says_nothing;
use super::{SAMPLE_RATE, SourceId, TICK_SAMPLES, TICK_US};
use crate::media::AudioFrame;

/// So long before a tick everything is decoded and mixed for nobody, when mixing begins.
pub(crate) const PREROLL_TICKS: i64 = 4;
/// Whoever is alone was so for this long: two people who speak in turns are mixed.
const ALONE_US: i64 = 2_000_000;
/// The packet that passing begins with is at most so far from its tick.
const BEGINS_WITHIN_US: i64 = TICK_US / 2;
/// Those that follow drift this far with their sender's clock.
const WITHIN_US: i64 = TICK_US;
/// Packets further apart than this have one missing between them.
const APART_US_MAX: i64 = TICK_US * 3 / 2;
/// Two seconds of what came, and more than is ever kept.
const PACKETS_MAX: usize = 128;
/// Stereo, 20 ms, and nothing to hear (RFC 6716 §3.1).
const SILENCE: &[u8] = &[0xfc, 0xff, 0xfe];

/// Decides tick by tick whether a packet goes out as it came; keeps what mixing needs when it does not.
#[derive(Debug, Default)]
pub struct Solo {
    queues: BTreeMap<SourceId, VecDeque<AudioFrame>>,
    /// Who is alone, if somebody or nobody is, and since when.
    alone: Option<(Option<SourceId>, i64)>,
    /// Who is passed on, and when its last packet was heard.
    passing: Option<(Option<SourceId>, i64)>,
}

/// What becomes of a tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// This goes out for it.
    Pass(Bytes),
    /// It is mixed; with `begins` the one before was not.
    Mix {
        /// Mixing begins, with what [`Solo::kept`] has.
        begins: bool,
    },
}

impl Solo {
    /// Keeps a packet of a source.
    pub fn push(&mut self, id: SourceId, frame: AudioFrame) {
        let queue = self.queues.entry(id).or_default();
        let newest = queue.back().map_or(i64::MIN, |last| last.at_us);
        if frame.at_us < newest {
            // The sender's timeline began anew.
            queue.clear();
        }
        if queue.len() >= PACKETS_MAX {
            queue.pop_front();
        }
        queue.push_back(frame);
    }

    /// Forgets all that is kept; what is mixed is mixed on.
    pub fn clear(&mut self) {
        self.queues.clear();
        self.alone = None;
    }

    /// Everything is mixed at present.
    pub fn is_mixing(&self) -> bool {
        self.passing.is_none()
    }

    /// What becomes of the tick at `tick_us`, whose packet begins at `slot_us`.
    pub fn turn(&mut self, tick_us: i64, slot_us: i64) -> Turn {
        let keep_us = tick_us - PREROLL_TICKS * TICK_US - TICK_US;
        self.queues.retain(|_, queue| {
            while queue.pop_front_if(|frame| frame.at_us < keep_us).is_some() {}
            !queue.is_empty()
        });
        self.note_alone(tick_us);
        let passed = match (self.passing, self.alone) {
            (Some((who, last_us)), Some((alone, _))) if who == alone => {
                let follows = |at_us: i64| at_us > last_us && at_us - last_us <= APART_US_MAX;
                self.pass(who, slot_us, WITHIN_US, follows)
            }
            (None, Some((alone, since_us))) if tick_us - since_us >= ALONE_US => {
                self.pass(alone, slot_us, BEGINS_WITHIN_US, |_| true)
            }
            _ => None,
        };
        match passed {
            Some(data) => Turn::Pass(data),
            None => Turn::Mix {
                begins: self.stop(tick_us),
            },
        }
    }

    /// Everything is mixed from this tick on; whether it was not before.
    pub fn stop(&mut self, tick_us: i64) -> bool {
        let was_passing = self.passing.take().is_some();
        if let Some((_, since_us)) = self.alone.as_mut().filter(|_| was_passing) {
            *since_us = tick_us;
        }
        was_passing
    }

    /// Packets of all sources from a time on, each source's in order.
    pub fn kept(&self, from_us: i64) -> impl Iterator<Item = (SourceId, &AudioFrame)> {
        let all = self.queues.iter();
        let all = all.flat_map(|(id, queue)| queue.iter().map(|frame| (*id, frame)));
        all.filter(move |(_, frame)| frame.at_us >= from_us)
    }

    fn note_alone(&mut self, tick_us: i64) {
        let is_heard = |queue: &VecDeque<AudioFrame>| {
            let newest = queue.back();
            newest.is_some_and(|frame| frame.at_us >= tick_us - TICK_US)
        };
        let mut heard = self.queues.iter().filter(|(_, queue)| is_heard(queue));
        let (first, second) = (heard.next(), heard.next());
        let alone = match (first, second) {
            (_, Some(_)) => None,
            (first, None) => Some(first.map(|(id, _)| *id)),
        };
        self.alone = match (alone, self.alone) {
            (Some(who), Some((before, since_us))) if who == before => Some((who, since_us)),
            (alone, _) => alone.map(|who| (who, tick_us)),
        };
    }

    /// The packet that falls on a slot, if it may go out as it is.
    fn pass(
        &mut self,
        who: Option<SourceId>,
        slot_us: i64,
        within_us: i64,
        follows: impl Fn(i64) -> bool,
    ) -> Option<Bytes> {
        let Some(id) = who else {
            self.passing = Some((None, slot_us));
            return Some(Bytes::from_static(SILENCE));
        };
        let queue = self.queues.get(&id)?;
        let off_us = |frame: &AudioFrame| (frame.at_us - slot_us).abs();
        let following = queue.iter().filter(|frame| follows(frame.at_us));
        let frame = match self.passing {
            // One after the other, however far their clock has drifted.
            Some(_) => following.min_by_key(|frame| frame.at_us),
            None => following.min_by_key(|frame| off_us(frame)),
        };
        let frame = frame.filter(|frame| off_us(frame) <= within_us && is_plain(&frame.data))?;
        self.passing = Some((who, frame.at_us));
        Some(frame.data.clone())
    }
}

/// A whole packet of one tick that says something.
fn is_plain(packet: &[u8]) -> bool {
    let samples = opus::packet::get_nb_samples(packet, SAMPLE_RATE);
    samples.is_ok_and(|samples| samples == TICK_SAMPLES)
        && !says_nothing(packet)
        && opus::packet::parse(packet).is_ok()
}
