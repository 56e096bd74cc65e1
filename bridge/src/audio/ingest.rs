//! The AAC of an encoder becomes Opus for a room.

use bytes::Bytes;
use opus::{Application, Bitrate, Channels};

use super::aac::AacDecoder;
use super::level::level;
use super::pace::Pace;
use super::resampler::Resampler;
use super::{AacError, SAMPLE_RATE, Sample, TICK_SAMPLES};

/// Decodes AAC of any rate, resamples it and encodes it as Opus, in step with the source's clock.
#[derive(Debug)]
pub struct AacIngest {
    decoder: AacDecoder,
    opus: opus::Encoder,
    /// By which the sound of a packet is late, in samples.
    lookahead: i64,
    run: Option<Run>,
    /// Samples not encoded yet.
    pending: Vec<Sample>,
    /// Where the first of them belongs, in samples on the source's timeline.
    next: i64,
    counts: IngestCounts,
}

/// What comes in without a break.
#[derive(Debug)]
struct Run {
    resampler: Resampler,
    rate: u32,
    pace: Pace,
}

/// One packet for the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpusPacket {
    /// When its first sample is heard, in samples at 48 kHz on the source's timeline: each is 960 after
    /// the one before unless the source paused. Its low 32 bits are an RTP timestamp.
    pub at_samples: i64,
    /// The packet, 20 ms long.
    pub data: Bytes,
    /// How loud it is in -dBov, 127 being silence (RFC 6464).
    pub level: u8,
}

/// What has been refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngestCounts {
    /// Frames that could not be decoded; silence took their place.
    pub bad_frames: u64,
    /// Frames whose time had passed; they were left out.
    pub late_frames: u64,
    /// The source paused or its times jumped.
    pub gaps: u64,
}

impl AacIngest {
    /// For what an AudioSpecificConfig describes. `None`: 96 kbit/s.
    ///
    /// # Errors
    /// It is garbage or not carried, or this build has no AAC.
    pub fn new(config: &[u8], bitrate_bps: Option<u32>) -> Result<Self, AacError> {
        let decoder = AacDecoder::new(config)?;
        let (opus, lookahead) = encoder(bitrate_bps.unwrap_or(BITRATE_BPS))
            .map_err(|_| AacError::Config("no Opus encoder at this bitrate"))?;
        Ok(Self {
            decoder,
            opus,
            lookahead: i64::from(lookahead),
            run: None,
            pending: Vec::new(),
            next: 0,
            counts: IngestCounts::default(),
        })
    }

    /// What has been refused so far.
    pub fn counts(&self) -> IngestCounts {
        self.counts
    }

    /// Takes one raw frame, heard at `at_us` on the source's timeline, and appends the packets it completes.
    ///
    /// # Errors
    /// The frame is garbage: counted, and nothing else suffers.
    pub fn push(
        &mut self,
        at_us: i64,
        packet: &[u8],
        out: &mut Vec<OpusPacket>,
    ) -> Result<(), AacError> {
        let decoded = self.decoder.decode(packet).map(<[Sample]>::to_vec);
        if decoded.is_err() {
            self.counts.bad_frames += 1;
        }
        let refused = decoded.as_ref().err().copied();
        // Silence in place of what is garbage keeps the rest in place.
        let samples = decoded.unwrap_or_else(|_| vec![[0.0; 2]; FRAME_SAMPLES]);
        let rate = self.decoder.sample_rate();
        let delay = f64::from(self.decoder.delay()) / f64::from(rate) * f64::from(SAMPLE_RATE);
        let at_us = at_us.clamp(-TIME_MAX_US, TIME_MAX_US);
        self.place(at_us as f64 * 0.048 - delay, rate, &samples, out);
        self.encode(out);
        refused.map_or(Ok(()), Err)
    }

    /// Resamples samples so that the first is heard at `at`.
    fn place(&mut self, at: f64, rate: u32, samples: &[Sample], out: &mut Vec<OpusPacket>) {
        let scale = f64::from(SAMPLE_RATE) / f64::from(rate);
        let mut error = 0.0;
        if let Some(run) = self.run.as_ref().filter(|run| run.rate == rate) {
            let end = self.next + to_i64(self.pending.len());
            error = at - run.resampler.pending() * scale - end as f64;
            if error < -ERROR_MAX {
                self.counts.late_frames += 1;
                return;
            }
        }
        let is_new = self.run.as_ref().is_none_or(|run| run.rate != rate);
        if is_new || error > ERROR_MAX {
            self.counts.gaps += u64::from(!is_new);
            self.begin(round(at), rate, out);
            error = 0.0;
        }
        if let Some(run) = &mut self.run {
            let count = samples.len() as f64 * scale;
            let correction = run.pace.correct(error, count);
            run.resampler.push(samples, correction, &mut self.pending);
        }
    }

    /// Finishes what is pending with silence and goes on at `at`, or where that ends if later.
    fn begin(&mut self, at: i64, rate: u32, out: &mut Vec<OpusPacket>) {
        if !self.pending.is_empty() {
            let fade = self.pending.len().min(FADE);
            for (index, sample) in self.pending.iter_mut().rev().take(fade).enumerate() {
                let gain = index as f32 / fade as f32;
                *sample = sample.map(|value| value * gain);
            }
            self.pending.resize(TICK_SAMPLES, [0.0; 2]);
            self.encode(out);
        }
        let is_first = self.run.is_none();
        self.next = if is_first { at } else { at.max(self.next) };
        self.run = Some(Run {
            resampler: Resampler::new(rate, SAMPLE_RATE),
            rate,
            pace: Pace::default(),
        });
    }

    fn encode(&mut self, out: &mut Vec<OpusPacket>) {
        while let Some(tick) = self.pending.first_chunk::<TICK_SAMPLES>() {
            let mut packet = [0; PACKET_BYTES_MAX];
            let encoded = self.opus.encode_float(tick.as_flattened(), &mut packet);
            if let Some(data) = encoded.ok().and_then(|length| packet.get(..length)) {
                out.push(OpusPacket {
                    at_samples: self.next - self.lookahead,
                    data: Bytes::copy_from_slice(data),
                    level: level(tick),
                });
            }
            self.pending.drain(..TICK_SAMPLES);
            self.next += TICK;
        }
    }
}

fn encoder(bitrate_bps: u32) -> Result<(opus::Encoder, i32), opus::Error> {
    let mut opus = opus::Encoder::new(SAMPLE_RATE, Channels::Stereo, Application::Audio)?;
    let bitrate = i32::try_from(bitrate_bps).unwrap_or(i32::MAX);
    opus.set_bitrate(Bitrate::Bits(bitrate))?;
    opus.set_complexity(COMPLEXITY)?;
    let lookahead = opus.get_lookahead()?;
    Ok((opus, lookahead))
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "float to integer saturates"
)]
fn round(at: f64) -> i64 {
    at.round() as i64
}

const BITRATE_BPS: u32 = 96_000;
const COMPLEXITY: i32 = 5;
const PACKET_BYTES_MAX: usize = 1_500;
const TICK: i64 = 960;
const FRAME_SAMPLES: usize = 1_024;
/// Thirty years: no broadcast comes near it, and sums stay within their type.
const TIME_MAX_US: i64 = 1_000_000_000_000_000;
/// 80 ms.
const ERROR_MAX: f64 = 3_840.0;
const FADE: usize = 240;
