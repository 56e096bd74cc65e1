//! The sound of a whole room, 20 ms at a time.

use std::collections::BTreeMap;

use thiserror::Error;

use super::decoder::Decoder;
use super::limiter::Limiter;
use super::source::Source;
use super::{Sample, TICK_SAMPLES, TICK_US};
use crate::media::{AudioCodec, AudioFrame};

/// Names one source of a mixer; the caller chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u64);

/// How a mixer works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MixerSettings {
    /// How long packets may take to still be heard, in microseconds, at first: where they nearly take longer, or do
    /// and sound breaks off, it becomes more by steps of 20 ms.
    pub delay_us: i64,
    /// What it becomes at most.
    pub delay_us_max: i64,
    /// How many sources are heard at once.
    pub sources_max: usize,
}

impl Default for MixerSettings {
    fn default() -> Self {
        Self {
            delay_us: 100_000,
            delay_us_max: 200_000,
            sources_max: 32,
        }
    }
}

/// Sums what all sources say.
///
/// Every 20 ms of the timeline become exactly one [`Tick`], [`MixerSettings::delay_us`] late (or
/// more, see there) so that late packets are in it. A source exists from its first packet until it is removed; one that is silent
/// costs next to nothing.
#[derive(Debug)]
pub struct Mixer {
    settings: MixerSettings,
    start_us: i64,
    ticks: i64,
    sources: BTreeMap<SourceId, Input>,
    limiter: Limiter,
    sum: Box<[Sample; TICK_SAMPLES]>,
    counts: MixCounts,
}

#[derive(Debug)]
struct Input {
    decoder: Decoder,
    source: Source,
    /// Nothing more comes; it goes once it has faded.
    is_leaving: bool,
}

/// 20 ms of the mix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tick<'a> {
    /// When its first sample is heard.
    pub at_us: i64,
    /// 960 samples within ±1.
    pub samples: &'a [Sample; TICK_SAMPLES],
    /// Nobody says anything: all samples are 0.
    pub is_silent: bool,
}

/// What a mixer has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MixCounts {
    /// Packets that are no Opus.
    pub bad_packets: u64,
    /// Packets that came after their time was filled, or twice.
    pub late_packets: u64,
    /// Samples that came after their tick was mixed.
    pub late_samples: u64,
    /// Times that a source broke off because its next packet took longer than the delay.
    pub overdue: u64,
    /// Times that the delay became longer.
    pub delays: u64,
    /// Samples made up for lost ones.
    pub concealed_samples: u64,
    /// Sources moved because their clock was off by more than 80 ms.
    pub reanchored: u64,
    /// Packets refused: of too many sources, too far in the future, or not Opus.
    pub refused: u64,
    /// Ticks that were too loud.
    pub limited_ticks: u64,
}

/// Why a frame is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PushError {
    /// [`MixerSettings::sources_max`] are heard already.
    #[error("too many sources")]
    TooManySources,
    /// Only Opus is mixed.
    #[error("not Opus")]
    NotOpus,
    /// The packet is garbage.
    #[error("garbage")]
    Garbage,
    /// It came too late, or twice.
    #[error("too late")]
    Late,
    /// Its time is more than two seconds away.
    #[error("too early")]
    Early,
    /// libopus has no memory for another decoder.
    #[error("no decoder")]
    NoDecoder,
}

impl Mixer {
    /// Whose first tick is heard at `start_us`.
    pub fn new(start_us: i64, settings: MixerSettings) -> Self {
        Self {
            settings,
            start_us,
            ticks: 0,
            sources: BTreeMap::new(),
            limiter: Limiter::default(),
            sum: Box::new([[0.0; 2]; TICK_SAMPLES]),
            counts: MixCounts::default(),
        }
    }

    /// Takes one Opus packet of a source; its time is that of the timeline.
    ///
    /// # Errors
    /// Why it will not be heard; counted as well.
    pub fn push(&mut self, id: SourceId, frame: &AudioFrame) -> Result<(), PushError> {
        let pushed = self.place(id, frame);
        match pushed {
            Ok(()) => {}
            Err(PushError::Garbage) => self.counts.bad_packets += 1,
            Err(PushError::Late) => self.counts.late_packets += 1,
            Err(_) => self.counts.refused += 1,
        }
        pushed
    }

    /// A packet came when its first sample would have been heard this long ago without any delay. Where the next one
    /// as late would be late to be mixed, it is waited for longer, before sound breaks off. What is later than that came
    /// after a stall, of which all packets come at once.
    pub fn note_late(&mut self, late_us: i64) {
        let delay_us = self.settings.delay_us;
        // A tick is mixed when the packet after it is there.
        let spared_us = delay_us - TICK_US - SPARE_US;
        if late_us > spared_us && late_us <= delay_us {
            self.wait_longer();
        }
    }

    /// Lets a source fade away and forgets it.
    pub fn remove(&mut self, id: SourceId) {
        if let Some(input) = self.sources.get_mut(&id) {
            input.is_leaving = true;
            input.source.set_muted(true);
        }
    }

    /// Silences a source that exists, or lets it be heard again.
    pub fn set_muted(&mut self, id: SourceId, is_muted: bool) {
        if let Some(input) = self.sources.get_mut(&id).filter(|input| !input.is_leaving) {
            input.source.set_muted(is_muted);
        }
    }

    /// The next tick, if its time has come. To be called until there is none.
    pub fn poll_tick(&mut self, now_us: i64) -> Option<Tick<'_>> {
        if now_us < self.poll_timeout() {
            return None;
        }
        let at_us = self.next_us();
        self.sum.fill([0.0; 2]);
        let mut is_silent = true;
        for input in self.sources.values_mut() {
            is_silent &= !input.source.mix(&mut self.sum);
        }
        self.sources
            .retain(|_, input| !(input.is_leaving && input.source.is_drained()));
        if self.limiter.apply(&mut self.sum) {
            self.counts.limited_ticks += 1;
        }
        self.ticks += 1;
        Some(Tick {
            at_us,
            samples: &self.sum,
            is_silent,
        })
    }

    /// Leaves the next tick out.
    pub fn skip_tick(&mut self) {
        self.ticks += 1;
    }

    /// Goes back by some ticks and forgets all sources: they begin anew with what is pushed now.
    pub fn begin_anew(&mut self, ticks_back: i64) {
        self.ticks -= ticks_back;
        self.sources.clear();
    }

    /// When the next tick is to be taken.
    pub fn poll_timeout(&self) -> i64 {
        self.next_us().saturating_add(self.settings.delay_us)
    }

    /// What it has seen so far.
    pub fn counts(&self) -> MixCounts {
        self.counts
    }

    /// What it has seen since the last time.
    pub fn take_counts(&mut self) -> MixCounts {
        std::mem::take(&mut self.counts)
    }

    /// When the next tick's first sample is heard.
    pub fn next_us(&self) -> i64 {
        self.start_us
            .saturating_add(self.ticks.saturating_mul(TICK_US))
    }

    fn place(&mut self, id: SourceId, frame: &AudioFrame) -> Result<(), PushError> {
        if frame.config.codec != AudioCodec::Opus {
            return Err(PushError::NotOpus);
        }
        let at_us = frame.at_us.saturating_sub(self.start_us);
        let input = match self.sources.get_mut(&id) {
            Some(input) => input,
            None => self.add(id)?,
        };
        if input.is_leaving {
            // Gone and back within a moment.
            input.is_leaving = false;
            input.source.set_muted(false);
        }
        let decoded = input.decoder.push(at_us, &frame.data, &mut input.source);
        self.counts.concealed_samples += decoded.concealed;
        self.counts.late_samples += decoded.placed.late;
        if decoded.placed.is_overdue {
            self.counts.overdue += 1;
            self.wait_longer();
        }
        self.counts.reanchored += u64::from(decoded.placed.is_reanchored);
        if decoded.is_bad {
            return Err(PushError::Garbage);
        }
        if decoded.placed.is_refused {
            return Err(PushError::Early);
        }
        if decoded.is_late {
            return Err(PushError::Late);
        }
        Ok(())
    }

    fn wait_longer(&mut self) {
        let more_us = self.settings.delay_us.saturating_add(TICK_US);
        let most_us = self.settings.delay_us.max(self.settings.delay_us_max);
        let delay_us = more_us.min(most_us);
        self.counts.delays += u64::from(delay_us > self.settings.delay_us);
        self.settings.delay_us = delay_us;
    }

    fn add(&mut self, id: SourceId) -> Result<&mut Input, PushError> {
        if self.sources.len() >= self.settings.sources_max {
            return Err(PushError::TooManySources);
        }
        let tick = i64::try_from(TICK_SAMPLES).unwrap_or(0);
        let input = Input {
            decoder: Decoder::new().map_err(|_| PushError::NoDecoder)?,
            source: Source::new(self.ticks.saturating_mul(tick)),
            is_leaving: false,
        };
        Ok(self.sources.entry(id).or_insert(input))
    }
}

/// A packet that had less than this left was nearly late.
const SPARE_US: i64 = 10_000;
