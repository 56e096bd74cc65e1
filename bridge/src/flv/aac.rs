//! The AudioSpecificConfig of AAC (ISO/IEC 14496-3 §1.6.2.1).
#![warn(clippy::indexing_slicing)]

use bytes::Bytes;
use thiserror::Error;

use crate::media::{AudioCodec, AudioConfig};

/// Why AAC is not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AacError {
    /// The decoder configuration cannot be read.
    #[error("the AAC configuration is broken")]
    Broken,
    /// Neither AAC-LC nor HE-AAC.
    #[error("AAC object type {0} is not carried; set the encoder to AAC-LC")]
    ObjectType(u32),
    /// Channels that only a program element in the stream lays out, or too many.
    #[error("AAC channel configuration {0} is not carried; set the encoder to mono or stereo")]
    Channels(u32),
}

/// Reads an AudioSpecificConfig. Of HE-AAC the rate is that of the core; whoever decodes learns the
/// other from the stream.
///
/// # Errors
/// It is broken or not carried.
pub(crate) fn config(record: &Bytes) -> Result<AudioConfig, AacError> {
    if record.len() > RECORD_MAX {
        return Err(AacError::Broken);
    }
    let mut bits = Bits {
        bytes: record,
        position: 0,
    };
    let object_type = match bits.take(5)? {
        31 => 32 + bits.take(6)?,
        object_type => object_type,
    };
    if ![AAC_LC, SBR, PS].contains(&object_type) {
        return Err(AacError::ObjectType(object_type));
    }
    let sample_rate = match bits.take(4)? {
        15 => bits.take(24)?,
        index => RATES
            .get(usize::try_from(index).unwrap_or(usize::MAX))
            .copied()
            .unwrap_or(0),
    };
    if !(7350..=96_000).contains(&sample_rate) {
        return Err(AacError::Broken);
    }
    let channels = match bits.take(4)? {
        channels @ 1..=6 => channels,
        7 => 8,
        layout => return Err(AacError::Channels(layout)),
    };
    Ok(AudioConfig {
        codec: AudioCodec::Aac,
        sample_rate,
        channels: u8::try_from(channels).unwrap_or(2),
        record: record.clone(),
        priming: 0,
    })
}

struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Result<u32, AacError> {
        let mut value = 0;
        for position in self.position..self.position + count {
            let byte = self.bytes.get(position / 8).ok_or(AacError::Broken)?;
            value = value << 1 | u32::from(byte >> (7 - position % 8) & 1);
        }
        self.position += count;
        Ok(value)
    }
}

const RECORD_MAX: usize = 256;
const AAC_LC: u32 = 2;
const SBR: u32 = 5;
const PS: u32 = 29;
const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(record: &[u8]) -> Result<(u32, u8), AacError> {
        config(&Bytes::copy_from_slice(record)).map(|c| (c.sample_rate, c.channels))
    }

    #[test]
    fn rate_and_channels_are_read() {
        assert_eq!(read(&[0x12, 0x10]), Ok((44_100, 2)));
        assert_eq!(read(&[0x12, 0x08, 0x56, 0xe5, 0x00]), Ok((44_100, 1)));
        assert_eq!(read(&[0x11, 0x90]), Ok((48_000, 2)));
        // The rate as a number: 48,000, mono.
        assert_eq!(read(&[0x17, 0x80, 0x5d, 0xc0, 0x08]), Ok((48_000, 1)));
    }

    #[test]
    fn what_is_not_carried_is_named() {
        assert_eq!(read(&[]), Err(AacError::Broken));
        assert_eq!(read(&[0x12]), Err(AacError::Broken));
        assert_eq!(read(&[0x0a, 0x10]), Err(AacError::ObjectType(1)));
        assert_eq!(read(&[0x12, 0x00]), Err(AacError::Channels(0)));
        assert_eq!(read(&[0x17, 0, 0, 0, 0x08]), Err(AacError::Broken));
        assert_eq!(read(&[0x16, 0x90]), Err(AacError::Broken));
    }
}
