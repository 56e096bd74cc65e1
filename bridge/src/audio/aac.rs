//! AAC by Fraunhofer's library.
#![warn(clippy::indexing_slicing)]

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use fdk_aac::dec;
use fdk_aac::enc::{self, AudioObjectType, BitRate, ChannelMode, EncoderParams};

use super::encoder::Clock;
use super::{AacError, EncoderError, SAMPLE_RATE, Sample, TICK_SAMPLES};
use crate::media::{AudioCodec, AudioConfig, AudioFrame};

/// Decodes raw AAC frames of any rate; more than two channels are mixed down, one becomes two.
pub struct AacDecoder {
    fdk: dec::Decoder,
    pcm: Vec<i16>,
    samples: Vec<Sample>,
    sample_rate: u32,
    delay: u32,
}

impl fmt::Debug for AacDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AacDecoder")
            .field("sample_rate", &self.sample_rate)
            .finish_non_exhaustive()
    }
}

impl AacDecoder {
    /// For what an AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1) describes.
    ///
    /// # Errors
    /// It is garbage, or of a kind of AAC the library lacks.
    pub fn new(config: &[u8]) -> Result<Self, AacError> {
        if !(2..=CONFIG_BYTES_MAX).contains(&config.len()) {
            return Err(AacError::Config("length"));
        }
        let refused = |error: dec::DecoderError| AacError::Config(error.message());
        let mut fdk = dec::Decoder::new(dec::Transport::Raw);
        fdk.set_min_output_channels(2).map_err(refused)?;
        fdk.set_max_output_channels(2).map_err(refused)?;
        fdk.config_raw(config).map_err(refused)?;
        Ok(Self {
            fdk,
            pcm: vec![0; PCM_MAX],
            samples: Vec::new(),
            sample_rate: SAMPLE_RATE,
            delay: 0,
        })
    }

    /// Samples a second of what was decoded last.
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// Samples by which what was decoded last is late, by the library's own doing.
    pub fn delay(&self) -> u32 {
        self.delay
    }

    /// Decodes one frame: 1024 samples, or 960, or with spectral band replication twice that.
    ///
    /// # Errors
    /// It is garbage; the next one may be decoded all the same.
    pub fn decode(&mut self, packet: &[u8]) -> Result<&[Sample], AacError> {
        if packet.is_empty() || packet.len() > FRAME_BYTES_MAX {
            return Err(AacError::TooLong(packet.len()));
        }
        let refused = |error: dec::DecoderError| AacError::Frame(error.message());
        self.fdk.fill(packet).map_err(refused)?;
        self.fdk.decode_frame(&mut self.pcm).map_err(refused)?;
        let stream = self.fdk.stream_info();
        let (rate, channels) = (stream.sampleRate, stream.numChannels);
        let frames = usize::try_from(stream.frameSize).unwrap_or(0);
        let rate = u32::try_from(rate).unwrap_or(0);
        if channels != 2 || !(RATE_MIN..=RATE_MAX).contains(&rate) {
            return Err(AacError::Frame("neither mono nor stereo, or an odd rate"));
        }
        self.sample_rate = rate;
        self.delay = stream.outputDelay;
        let pcm = self.pcm.as_chunks::<2>().0;
        self.samples.clear();
        self.samples
            .extend(pcm.iter().take(frames).map(|pair| pair.map(from_i16)));
        Ok(&self.samples)
    }
}

/// AAC-LC at 48 kHz, stereo, 1024 samples a frame.
#[derive(Debug)]
pub struct AacEncoder {
    fdk: enc::Encoder,
    config: Arc<AudioConfig>,
    clock: Clock,
    pending: Vec<i16>,
}

impl AacEncoder {
    /// Whose first sample is heard at `start_us`.
    ///
    /// # Errors
    /// The library refuses the bitrate.
    pub fn new(start_us: i64, bitrate_bps: u32) -> Result<Self, EncoderError> {
        let fdk = enc::Encoder::new(EncoderParams {
            bit_rate: BitRate::Cbr(bitrate_bps),
            sample_rate: SAMPLE_RATE,
            transport: enc::Transport::Raw,
            channels: ChannelMode::Stereo,
            audio_object_type: AudioObjectType::Mpeg4LowComplexity,
        })?;
        let about = fdk.info()?;
        let length = usize::try_from(about.confSize).unwrap_or(0);
        let record = about.confBuf.get(..length).unwrap_or_default();
        Ok(Self {
            config: Arc::new(AudioConfig {
                codec: AudioCodec::Aac,
                sample_rate: SAMPLE_RATE,
                channels: 2,
                record: Bytes::copy_from_slice(record),
                priming: about.nDelay,
            }),
            clock: Clock::new(start_us, about.nDelay),
            fdk,
            pending: Vec::new(),
        })
    }

    /// What a decoder must know: the AudioSpecificConfig.
    pub fn config(&self) -> &Arc<AudioConfig> {
        &self.config
    }

    /// Encodes 20 ms; a frame is done 15 of 16 times.
    ///
    /// # Errors
    /// The library refuses, which it has no reason to.
    pub fn encode(
        &mut self,
        tick: &[Sample; TICK_SAMPLES],
    ) -> Result<Option<AudioFrame>, EncoderError> {
        self.pending
            .extend(tick.as_flattened().iter().map(|value| to_i16(*value)));
        let Some(input) = self.pending.get(..FRAME_VALUES) else {
            return Ok(None);
        };
        let mut packet = [0; FRAME_BYTES_MAX];
        let encoded = self.fdk.encode(input, &mut packet)?;
        self.pending.drain(..FRAME_VALUES);
        if encoded.output_size == 0 {
            return Ok(None);
        }
        Ok(Some(AudioFrame {
            config: Arc::clone(&self.config),
            at_us: self.clock.advance(FRAME),
            samples: FRAME,
            data: Bytes::copy_from_slice(packet.get(..encoded.output_size).unwrap_or_default()),
        }))
    }
}

impl From<enc::EncoderError> for EncoderError {
    fn from(error: enc::EncoderError) -> Self {
        Self::Refused(error.to_string())
    }
}

fn from_i16(value: i16) -> f32 {
    f32::from(value) / 32_768.0
}

/// The nearest whole number: halves are rounded up. `f32::round` is a call where SSE 4.1 is not certain.
#[expect(
    clippy::cast_possible_truncation,
    reason = "clamped before; float to integer saturates"
)]
fn to_i16(value: f32) -> i16 {
    let above = (value * 32_768.0 + 32_768.5).clamp(0.0, 65_535.0);
    (above as i32 - 32_768) as i16
}

/// The longest that makes sense, with a channel layout of its own.
const CONFIG_BYTES_MAX: usize = 64;
/// 6144 bits a channel (ISO/IEC 14496-3 §4.5.3), eight of them.
const FRAME_BYTES_MAX: usize = 6_144;
/// 2048 samples, doubled by spectral band replication, in 8 channels.
const PCM_MAX: usize = 4_096 * 8;
const RATE_MIN: u32 = 7_350;
const RATE_MAX: u32 = 96_000;
const FRAME: u32 = 1_024;
const FRAME_VALUES: usize = 2_048;
