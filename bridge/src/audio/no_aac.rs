//! Stands in for AAC in a build without it: nothing of this can be made.

use std::convert::Infallible;
use std::sync::Arc;

use super::{AacError, EncoderError, Sample, TICK_SAMPLES};
use crate::media::{AudioConfig, AudioFrame};

/// Decodes AAC. Not in this build.
#[derive(Debug)]
pub struct AacDecoder(Infallible);

/// Encodes AAC. Not in this build.
#[derive(Debug)]
pub struct AacEncoder(Infallible);

impl AacDecoder {
    /// # Errors
    /// Always: this build has no AAC.
    pub fn new(_config: &[u8]) -> Result<Self, AacError> {
        Err(AacError::Unavailable)
    }

    /// Samples a second.
    pub fn sample_rate(&self) -> u32 {
        match self.0 {}
    }

    /// Samples by which what comes out is late.
    pub fn delay(&self) -> u32 {
        match self.0 {}
    }

    /// # Errors
    /// Never comes to it.
    pub fn decode(&mut self, _packet: &[u8]) -> Result<&[Sample], AacError> {
        match self.0 {}
    }
}

impl AacEncoder {
    /// # Errors
    /// Always: this build has no AAC.
    pub fn new(_start_us: i64, _bitrate_bps: u32) -> Result<Self, EncoderError> {
        Err(EncoderError::AacUnavailable)
    }

    /// What a decoder must know.
    pub fn config(&self) -> &Arc<AudioConfig> {
        match self.0 {}
    }

    /// # Errors
    /// Never comes to it.
    pub fn encode(
        &mut self,
        _tick: &[Sample; TICK_SAMPLES],
    ) -> Result<Option<AudioFrame>, EncoderError> {
        match self.0 {}
    }
}
