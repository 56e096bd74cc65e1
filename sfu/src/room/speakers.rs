//! Who speaks: from the audio levels publishers put into their packets (RFC 6464).

use std::time::{Duration, Instant};

/// How often levels are looked at; also the most often they are told.
pub(crate) const SPEAKERS_INTERVAL: Duration = Duration::from_millis(200);
/// Below this a participant is silent: -40 dBov.
const SILENT_BELOW: f32 = 0.01;
/// A level change smaller than this is not worth telling.
const CHANGE_MIN: f32 = 0.05;
/// How much of the old level stays at each look; speech has pauses between words.
const SMOOTHING: f32 = 0.6;
/// Another one becomes dominant when this much louder than the present dominant speaker.
const DOMINANCE: f32 = 1.5;

/// Collects the levels of one audio track between two looks. O(1) per packet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LevelMeter {
    sum: f32,
    packets: u16,
}

impl LevelMeter {
    /// Takes in one packet's level, 0 (loudest) to 127 (silence), in -dBov.
    pub(crate) fn record(&mut self, level: u8) {
        self.sum += linear(level & 0x7f);
        self.packets = self.packets.saturating_add(1);
    }

    /// The mean since the last call, 0 to 1; silence when no packet came.
    pub(crate) fn take(&mut self) -> f32 {
        let mean = if self.packets == 0 {
            0.0
        } else {
            self.sum / f32::from(self.packets)
        };
        *self = Self::default();
        mean
    }
}

fn linear(level: u8) -> f32 {
    10_f32.powf(-f32::from(level) / 20.0)
}

/// One participant as a speaker.
#[derive(Clone, Copy, Debug)]
struct Speaker {
    peer: usize,
    level: f32,
    told: f32,
}

/// The speakers of a room; peers are keys of the shard's slab.
#[derive(Debug, Default)]
pub(crate) struct Speakers {
    speakers: Vec<Speaker>,
    dominant: Option<usize>,
    next_look: Option<Instant>,
}

impl Speakers {
    /// True when it is time for `update`; keeps its own interval.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next_look.is_none_or(|at| now >= at);
        if due {
            self.next_look = Some(now + SPEAKERS_INTERVAL);
        }
        due
    }

    /// Takes in each peer's mean level since the last call.
    ///
    /// Returns the levels worth telling, loudest first: empty when nothing changed enough.
    pub(crate) fn update(&mut self, levels: &[(usize, f32)]) -> Vec<(usize, f32)> {
        self.speakers
            .retain(|speaker| levels.iter().any(|(peer, _)| *peer == speaker.peer));
        for &(peer, level) in levels {
            match self
                .speakers
                .iter_mut()
                .find(|speaker| speaker.peer == peer)
            {
                Some(speaker) => {
                    speaker.level = speaker.level * SMOOTHING + level * (1.0 - SMOOTHING);
                }
                None => self.speakers.push(Speaker {
                    peer,
                    level,
                    told: 0.0,
                }),
            }
        }
        self.choose_dominant();
        self.tell()
    }

    /// Takes over what the room's home shard decided; `loudest` first to last.
    pub(crate) fn follow(&mut self, dominant: Option<usize>, loudest: &[usize]) {
        self.dominant = dominant;
        self.speakers.clear();
        let levels = (0u16..).map(|place| 1.0 / f32::from(place.saturating_add(1)));
        let speakers = loudest.iter().zip(levels);
        self.speakers.extend(speakers.map(|(&peer, level)| Speaker {
            peer,
            level,
            told: level,
        }));
    }

    /// The peer that has the word, if anyone ever spoke.
    pub(crate) fn dominant(&self) -> Option<usize> {
        self.dominant
    }

    /// The peers that make sound, loudest first, at most `count`.
    pub(crate) fn loudest(&self, count: usize) -> Vec<usize> {
        let mut loud: Vec<_> = self.speakers.iter().collect();
        loud.sort_by(|a, b| b.level.total_cmp(&a.level));
        loud.into_iter()
            .take(count)
            .map(|speaker| speaker.peer)
            .collect()
    }

    fn choose_dominant(&mut self) {
        let level_of = |peer| {
            let speaker = self.speakers.iter().find(|speaker| speaker.peer == peer);
            speaker.map_or(0.0, |speaker| speaker.level)
        };
        if self
            .dominant
            .is_some_and(|peer| !self.speakers.iter().any(|s| s.peer == peer))
        {
            self.dominant = None;
        }
        let loudest = self
            .speakers
            .iter()
            .max_by(|a, b| a.level.total_cmp(&b.level));
        let Some(loudest) = loudest.filter(|speaker| speaker.level >= SILENT_BELOW) else {
            return;
        };
        let present = self.dominant.map_or(0.0, level_of);
        if loudest.level > present * DOMINANCE {
            self.dominant = Some(loudest.peer);
        }
    }

    fn tell(&mut self) -> Vec<(usize, f32)> {
        let mut told = Vec::new();
        for speaker in &mut self.speakers {
            let level = if speaker.level < SILENT_BELOW {
                0.0
            } else {
                speaker.level.min(1.0)
            };
            let fell_silent = level == 0.0 && speaker.told > 0.0;
            let began = level > 0.0 && speaker.told == 0.0;
            if fell_silent || began || (level - speaker.told).abs() >= CHANGE_MIN {
                speaker.told = level;
                told.push((speaker.peer, level));
            }
        }
        told.sort_by(|a, b| b.1.total_cmp(&a.1));
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meter_averages_and_starts_over() {
        let mut meter = LevelMeter::default();
        meter.record(0);
        meter.record(127);
        assert!((meter.take() - 0.5).abs() < 0.01);
        assert!(meter.take().abs() < f32::EPSILON);
    }

    #[test]
    fn speech_is_told_when_it_begins_and_when_it_ends() {
        let mut speakers = Speakers::default();
        assert_eq!(speakers.update(&[(1, 0.0), (2, 0.0)]), []);
        let told = speakers.update(&[(1, 0.5), (2, 0.0)]);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].0, 1);
        assert_eq!(speakers.dominant(), Some(1));
        let mut last = Vec::new();
        for _ in 0..20 {
            let told = speakers.update(&[(1, 0.0), (2, 0.0)]);
            if !told.is_empty() {
                last = told;
            }
        }
        assert_eq!(last, [(1, 0.0)]);
        assert_eq!(
            speakers.dominant(),
            Some(1),
            "silence takes the word from nobody"
        );
    }

    #[test]
    fn who_follows_has_the_same_speakers_in_the_same_order() {
        let mut speakers = Speakers::default();
        speakers.update(&[(7, 0.9)]);
        speakers.follow(Some(2), &[3, 2, 1]);
        assert_eq!(speakers.dominant(), Some(2));
        assert_eq!(speakers.loudest(2), [3, 2]);
        assert_eq!(speakers.loudest(9), [3, 2, 1]);
    }

    #[test]
    fn the_word_passes_to_who_is_clearly_louder_and_from_who_left() {
        let mut speakers = Speakers::default();
        for _ in 0..10 {
            speakers.update(&[(1, 0.4), (2, 0.45)]);
        }
        let first = speakers.dominant();
        for _ in 0..10 {
            speakers.update(&[(1, 0.45), (2, 0.4)]);
        }
        assert_eq!(
            speakers.dominant(),
            first,
            "similar levels do not pass the word"
        );
        for _ in 0..10 {
            speakers.update(&[(1, 0.0), (2, 0.0), (3, 0.3)]);
        }
        assert_eq!(speakers.dominant(), Some(3));
        speakers.update(&[(1, 0.0)]);
        assert_eq!(speakers.dominant(), None);
    }
}
