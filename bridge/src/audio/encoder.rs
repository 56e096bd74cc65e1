//! The mix becomes Opus or AAC.

use std::sync::Arc;

use bytes::Bytes;
use opus::{Application, Bitrate, Channels};
use thiserror::Error;

use super::aac::AacEncoder;
use super::{SAMPLE_RATE, Sample, TICK_SAMPLES, samples_to_us};
use crate::media::{AudioCodec, AudioConfig, AudioFrame};

/// Encodes ticks that follow each other without a gap.
///
/// The time of a frame comes from the number of samples before it and from when the first of them is
/// heard, with [`AudioConfig::priming`] subtracted, and from nothing else.
#[derive(Debug)]
pub enum AudioEncoder {
    /// For HLS where players take it, and WebM.
    Opus(OpusEncoder),
    /// For RTMP and every HLS player.
    Aac(AacEncoder),
}

/// Why there is no encoder, or why it fails.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncoderError {
    /// Built without the feature `aac-fdk`.
    #[error("this build has no AAC")]
    AacUnavailable,
    /// The library refuses; it says why.
    #[error("the encoder refuses: {0}")]
    Refused(String),
}

impl AudioEncoder {
    /// Whose first sample is heard at `start_us`. `None`: 96 kbit/s for Opus, 128 kbit/s for AAC.
    ///
    /// # Errors
    /// There is no AAC in this build, or the bitrate is out of range.
    pub fn new(
        codec: AudioCodec,
        start_us: i64,
        bitrate_bps: Option<u32>,
    ) -> Result<Self, EncoderError> {
        Ok(match codec {
            AudioCodec::Opus => Self::Opus(OpusEncoder::new(
                start_us,
                bitrate_bps.unwrap_or(OPUS_BITRATE_BPS),
            )?),
            AudioCodec::Aac => Self::Aac(AacEncoder::new(
                start_us,
                bitrate_bps.unwrap_or(AAC_BITRATE_BPS),
            )?),
        })
    }

    /// What a decoder must know.
    pub fn config(&self) -> &Arc<AudioConfig> {
        match self {
            Self::Opus(encoder) => encoder.config(),
            Self::Aac(encoder) => encoder.config(),
        }
    }

    /// Encodes 20 ms. At most one frame comes of it: always one of Opus, 15 of 16 times one of AAC.
    ///
    /// # Errors
    /// The library refuses, which it has no reason to.
    pub fn encode(
        &mut self,
        tick: &[Sample; TICK_SAMPLES],
    ) -> Result<Option<AudioFrame>, EncoderError> {
        match self {
            Self::Opus(encoder) => encoder.encode(tick).map(Some),
            Self::Aac(encoder) => encoder.encode(tick),
        }
    }
}

/// Opus at 48 kHz, stereo, 20 ms a packet.
#[derive(Debug)]
pub struct OpusEncoder {
    opus: opus::Encoder,
    config: Arc<AudioConfig>,
    clock: Clock,
}

impl OpusEncoder {
    /// Whose first sample is heard at `start_us`.
    ///
    /// # Errors
    /// The bitrate is out of range.
    pub fn new(start_us: i64, bitrate_bps: u32) -> Result<Self, EncoderError> {
        let mut opus = opus::Encoder::new(SAMPLE_RATE, Channels::Stereo, Application::Audio)?;
        let bitrate = i32::try_from(bitrate_bps).unwrap_or(i32::MAX);
        opus.set_bitrate(Bitrate::Bits(bitrate))?;
        opus.set_complexity(COMPLEXITY)?;
        let priming = u16::try_from(opus.get_lookahead()?).unwrap_or(0);
        Ok(Self {
            opus,
            config: Arc::new(AudioConfig {
                codec: AudioCodec::Opus,
                sample_rate: SAMPLE_RATE,
                channels: 2,
                record: dops(priming),
                priming: u32::from(priming),
            }),
            clock: Clock::new(start_us, u32::from(priming)),
        })
    }

    /// Forgets all it has heard; the next sample is heard at `start_us`.
    ///
    /// # Errors
    /// libopus refuses, which it has no reason to.
    pub fn begin_anew(&mut self, start_us: i64) -> Result<(), EncoderError> {
        self.opus.reset_state()?;
        self.clock = Clock::new(start_us, self.config.priming);
        Ok(())
    }

    /// What a decoder must know: `dOps` and the pre-skip.
    pub fn config(&self) -> &Arc<AudioConfig> {
        &self.config
    }

    /// How much earlier a frame is placed than what was put in, in microseconds: its priming.
    pub fn lead_us(&self) -> i64 {
        samples_to_us(self.config.priming.into())
    }

    /// Encodes 20 ms.
    ///
    /// # Errors
    /// libopus refuses, which it has no reason to.
    pub fn encode(&mut self, tick: &[Sample; TICK_SAMPLES]) -> Result<AudioFrame, EncoderError> {
        let mut packet = [0; PACKET_BYTES_MAX];
        let length = self.opus.encode_float(tick.as_flattened(), &mut packet)?;
        Ok(AudioFrame {
            config: Arc::clone(&self.config),
            at_us: self.clock.advance(TICK),
            samples: TICK,
            data: Bytes::copy_from_slice(packet.get(..length).unwrap_or_default()),
        })
    }
}

impl From<opus::Error> for EncoderError {
    fn from(error: opus::Error) -> Self {
        Self::Refused(error.to_string())
    }
}

/// When frames are heard, by counting samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start_us: i64,
    samples: i64,
}

impl Clock {
    pub(super) fn new(start_us: i64, priming: u32) -> Self {
        Self {
            start_us,
            samples: -i64::from(priming),
        }
    }

    /// When the next frame begins, which has so many samples.
    pub(super) fn advance(&mut self, samples: u32) -> i64 {
        let at_us = self.start_us.saturating_add(samples_to_us(self.samples));
        self.samples += i64::from(samples);
        at_us
    }
}

/// The body of a `dOps` box (Encapsulation of Opus in ISOBMFF §4.3.2): version 0, stereo, family 0.
fn dops(pre_skip: u16) -> Bytes {
    let mut record = vec![0, 2];
    record.extend(pre_skip.to_be_bytes());
    record.extend(SAMPLE_RATE.to_be_bytes());
    record.extend([0, 0, 0]);
    Bytes::from(record)
}

const OPUS_BITRATE_BPS: u32 = 96_000;
const AAC_BITRATE_BPS: u32 = 128_000;
/// Of 0 to 10: above this the difference is not heard at such bitrates.
const COMPLEXITY: i32 = 5;
const TICK: u32 = 960;
/// The longest a packet of one frame can be (RFC 6716 §3.2.1), with some room.
const PACKET_BYTES_MAX: usize = 1_500;
