//! Sound: Opus of many participants in, one mix out as Opus or AAC; an encoder's AAC into the room as Opus.
//!
//! | file | what happens |
//! |---|---|
//! | `audio/decoder.rs` | Opus packets become samples; holes are concealed, then silent |
//! | `audio/source.rs` | samples find their place on the timeline: resampled (`resampler.rs`) by what `pace.rs` says |
//! | `audio/mixer.rs` | every 20 ms all sources are summed, kept within bounds by `limiter.rs` |
//! | `audio/solo.rs` | or, while one source is alone and only Opus is wanted, its packets are passed on as they are |
//! | `audio/encoder.rs` | the mix becomes Opus or AAC, its times from a count of samples |
//! | `audio/ingest.rs` | the other way: AAC becomes Opus for the room |
//!
//! Samples are at 48 kHz in all of it, always left and right. AAC (`aac.rs`) needs the feature `aac-fdk`.

#[cfg_attr(not(feature = "aac-fdk"), path = "audio/no_aac.rs")]
mod aac;
mod decoder;
mod encoder;
mod ingest;
mod level;
mod limiter;
mod mixer;
mod pace;
mod resampler;
mod solo;
mod source;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use aac::{AacDecoder, AacEncoder};
pub use encoder::{AudioEncoder, EncoderError, OpusEncoder};
pub use ingest::{AacIngest, IngestCounts, OpusPacket};
pub use mixer::{MixCounts, Mixer, MixerSettings, PushError, SourceId, Tick};
pub(crate) use solo::PREROLL_TICKS;
pub use solo::{Solo, Turn};

/// Left and right; full scale is 1, and sums may be beyond it until they are limited.
pub type Sample = [f32; 2];

/// Samples a second, everywhere but in what comes out of an AAC decoder.
pub const SAMPLE_RATE: u32 = 48_000;
/// Samples in 20 ms: what the mixer gives and an Opus packet of ours holds.
pub const TICK_SAMPLES: usize = 960;
/// 20 ms.
pub const TICK_US: i64 = 20_000;

/// Why AAC is not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AacError {
    /// Built without the feature `aac-fdk`.
    #[error("this build has no AAC")]
    Unavailable,
    /// The AudioSpecificConfig is garbage, or asks for what the decoder lacks.
    #[error("AudioSpecificConfig refused: {0}")]
    Config(&'static str),
    /// Longer than any frame of AAC.
    #[error("frame of {0} bytes is too long")]
    TooLong(usize),
    /// The frame is garbage.
    #[error("frame refused: {0}")]
    Frame(&'static str),
}

/// So many samples last so long, in microseconds; rounded to the nearest.
fn samples_to_us(samples: i64) -> i64 {
    (samples * 125 + 3).div_euclid(6)
}

/// The samples that have begun before this time.
fn us_to_samples(us: i64) -> i64 {
    (us.saturating_mul(6)).div_euclid(125)
}
