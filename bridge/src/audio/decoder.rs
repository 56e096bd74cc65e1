//! Opus packets of one participant become samples; what is missing is concealed, then silent.

use std::collections::VecDeque;

use opus::Channels;

use super::source::{Placed, Source};
use super::{Sample, us_to_samples};

/// The decoder of one participant.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Of one channel, which is half the work, until a packet has two.
    opus: opus::Decoder,
    channels: Channels,
    /// What that one channel has.
    mono: Vec<f32>,
    pcm: Vec<Sample>,
    /// The last packets, oldest first: a decoder that begins here begins with them.
    last: VecDeque<Vec<u8>>,
    /// When the next packet's first sample is heard if nothing is lost.
    expected_us: Option<i64>,
    /// The sender has nothing to say: packets that say so are not decoded, holes are no loss.
    is_quiet: bool,
}

/// What became of one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Decoded {
    /// libopus refused it.
    pub(super) is_bad: bool,
    /// Its time had been filled before, or it came twice.
    pub(super) is_late: bool,
    /// Samples made up for those lost.
    pub(super) concealed: u64,
    /// What became of its samples.
    pub(super) placed: Placed,
}

impl Decoder {
    pub(super) fn new() -> Result<Self, opus::Error> {
        Ok(Self {
            opus: opus::Decoder::new(super::SAMPLE_RATE, Channels::Mono)?,
            channels: Channels::Mono,
            mono: vec![0.0; PACKET_MAX],
            pcm: vec![[0.0; 2]; PACKET_MAX],
            last: VecDeque::new(),
            expected_us: None,
            is_quiet: false,
        })
    }

    /// Decodes a packet whose first sample is heard `at_us` after the source's time 0.
    pub(super) fn push(&mut self, at_us: i64, packet: &[u8], source: &mut Source) -> Decoded {
        let mut decoded = Decoded::default();
        let Some(length) = length(packet) else {
            decoded.is_bad = true;
            return decoded;
        };
        let gap_us = at_us.saturating_sub(self.expected_us.unwrap_or(at_us));
        if gap_us < -STEP_US {
            // The timeline began anew, or nothing this sender says would ever be heard again.
            source.finish();
        } else if gap_us <= -super::samples_to_us(to_i64(length)) + TOLERANCE_US {
            decoded.is_late = true;
            return decoded;
        }
        if self.widen(packet).is_err() {
            decoded.is_bad = true;
            return decoded;
        }
        if gap_us >= HOLE_US {
            decoded.concealed = self.conceal(gap_us, (packet, length), source);
        }
        self.expected_us = Some(at_us.saturating_add(super::samples_to_us(to_i64(length))));
        let was_quiet = self.is_quiet;
        self.is_quiet = says_nothing(packet);
        if was_quiet && self.is_quiet {
            source.finish();
            return decoded;
        }
        match self.decode(packet, PACKET_MAX, false) {
            Some(samples) => decoded.placed = source.push(position(at_us), samples),
            None => decoded.is_bad = true,
        }
        self.remember(packet);
        decoded
    }

    fn remember(&mut self, packet: &[u8]) {
        if self.channels == Channels::Mono {
            let is_full = self.last.len() >= WARM_UP;
            let oldest = is_full.then(|| self.last.pop_front()).flatten();
            let mut last = oldest.unwrap_or_default();
            last.clear();
            last.extend_from_slice(packet);
            self.last.push_back(last);
        }
    }

    /// From the first packet with two channels on (RFC 6716 §3.1) both are decoded, by a decoder that has heard the last
    /// packets too, so that nothing clicks.
    fn widen(&mut self, packet: &[u8]) -> Result<(), opus::Error> {
        let is_wide = self.channels == Channels::Stereo;
        if is_wide || opus::packet::get_nb_channels(packet)? == Channels::Mono {
            return Ok(());
        }
        self.opus = opus::Decoder::new(super::SAMPLE_RATE, Channels::Stereo)?;
        self.channels = Channels::Stereo;
        for packet in std::mem::take(&mut self.last) {
            self.decode(&packet, PACKET_MAX, false);
        }
        Ok(())
    }

    /// Fills a hole before a packet: up to 60 ms, the rest stays silent. How many samples were made up.
    ///
    /// A packet may carry what was said just before it once more (RFC 6716 §2.1.7).
    fn conceal(&mut self, gap_us: i64, (next, length): (&[u8], usize), source: &mut Source) -> u64 {
        let Some(expected_us) = self.expected_us.filter(|_| !self.is_quiet) else {
            source.finish();
            return 0;
        };
        let missing = usize::try_from(us_to_samples(gap_us)).unwrap_or(usize::MAX);
        let missing = missing.saturating_add(CONCEAL_UNIT / 2) / CONCEAL_UNIT * CONCEAL_UNIT;
        let is_whole = missing <= CONCEAL_MAX;
        let repeated = if is_whole && missing >= length {
            length
        } else {
            0
        };
        let made_up = missing.min(CONCEAL_MAX) - repeated;
        if made_up > 0
            && let Some(samples) = self.decode(&[], made_up, false)
        {
            source.push(position(expected_us), samples);
        }
        if repeated > 0
            && let Some(samples) = self.decode(next, repeated, true)
        {
            let at_us = expected_us.saturating_add(super::samples_to_us(to_i64(made_up)));
            source.push(position(at_us), samples);
        }
        if !is_whole {
            source.finish();
        }
        u64::try_from(made_up + repeated).unwrap_or(0)
    }

    fn decode(&mut self, packet: &[u8], room: usize, is_repeat: bool) -> Option<&[Sample]> {
        let room = self.pcm.get_mut(..room)?;
        let count = match self.channels {
            Channels::Stereo => {
                let values = room.as_flattened_mut();
                self.opus.decode_float(packet, values, is_repeat).ok()?
            }
            Channels::Mono => {
                let values = self.mono.get_mut(..room.len())?;
                let count = self.opus.decode_float(packet, values, is_repeat).ok()?;
                for (sample, value) in room.iter_mut().zip(values).take(count) {
                    *sample = [*value; 2];
                }
                count
            }
        };
        let samples = self.pcm.get_mut(..count)?;
        for value in samples.as_flattened_mut() {
            // Garbage that decodes may be anything, and must not outshout the others for long.
            *value = if value.is_nan() {
                0.0
            } else {
                value.clamp(-2.0, 2.0)
            };
        }
        Some(samples)
    }
}

/// How many samples a packet holds; `None` if it is none.
fn length(packet: &[u8]) -> Option<usize> {
    let length = opus::packet::get_nb_samples(packet, super::SAMPLE_RATE).ok()?;
    (1..=PACKET_MAX).contains(&length).then_some(length)
}

/// Whether a packet is of a sender that transmits nothing for now (RFC 6716 §2.1.9), or plain silence.
pub(super) fn says_nothing(packet: &[u8]) -> bool {
    matches!(packet, [_] | [_, _] | [_, 0xff, 0xfe])
}

/// In samples.
fn position(at_us: i64) -> f64 {
    at_us as f64 * 0.048
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// How many packets tell a decoder how loud each band is: that is coded as differences, of which each frame keeps less
/// (RFC 6716 §4.3.2.1).
const WARM_UP: usize = 8;
/// 120 ms (RFC 6716 §2.1.4).
const PACKET_MAX: usize = 5_760;
/// libopus makes up multiples of 2.5 ms.
const CONCEAL_UNIT: usize = 120;
/// 60 ms; longer sounds of a machine.
const CONCEAL_MAX: usize = 2_880;
/// The timeline slews by up to 2 ms a packet; what is off by more was lost.
const HOLE_US: i64 = 7_500;
const TOLERANCE_US: i64 = 2_500;
/// Nothing is reordered by so much.
const STEP_US: i64 = 1_000_000;
