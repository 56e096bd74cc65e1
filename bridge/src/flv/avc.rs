//! H264 as FLV carries it: `avcC` and NAL units after their lengths (ISO/IEC 14496-15 §5.3).
#![warn(clippy::indexing_slicing)]

use bytes::Bytes;
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::nal::{Nal, RefNal};
use thiserror::Error;

use crate::media::{VideoCodec, VideoConfig};
use crate::packing::split_avcc;

/// A picture as [`crate::media::VideoFrame::data`] has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    /// It is an IDR picture.
    pub(crate) is_key: bool,
    /// NAL units after their lengths as 4 bytes.
    pub(crate) data: Bytes,
}

/// Why H264 is not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AvcError {
    /// The decoder configuration cannot be read.
    #[error("the H264 configuration is broken: {0}")]
    Config(String),
    /// No browser shows such pictures.
    #[error("pictures of {0} x {1} are too large; at most {SIDE_MAX} x {SIDE_MAX} are carried")]
    TooLarge(u32, u32),
    /// Lengths that do not add up, or what is no H264.
    #[error("the H264 data is broken: NAL units and their lengths do not fit")]
    Nal,
}

/// Reads an `avcC`; gives the configuration of frames whose NAL lengths are 4 bytes, and how many bytes
/// the lengths of those to come really have.
///
/// # Errors
/// It is broken or the pictures are too large.
pub(crate) fn config(record: &[u8]) -> Result<(VideoConfig, usize), AvcError> {
    if record.len() > RECORD_MAX {
        return Err(AvcError::Config("it is too long".to_owned()));
    }
    // h264-reader 0.9 has a reader of these too, which panics where a set is empty.
    let parsed = split_avcc(record).map_err(|error| AvcError::Config(error.to_string()))?;
    let length_size = parsed.length_bytes;
    let missing = || AvcError::Config("there are no parameter sets".to_owned());
    let sps = parsed.sequence_sets.first().ok_or_else(missing)?;
    parsed.picture_sets.first().ok_or_else(missing)?;
    let (width, height) = dimensions(sps)?;
    let mut record = record.to_vec();
    if let Some(length_size) = record.get_mut(4) {
        *length_size |= 3;
    }
    let &[_, profile, compatibility, level] = record.first_chunk().ok_or_else(missing)?;
    let config = VideoConfig {
        codec: VideoCodec::H264,
        width,
        height,
        record: record.into(),
        name: format!("avc1.{profile:02x}{compatibility:02x}{level:02x}"),
    };
    Ok((config, length_size))
}

/// Checks the NAL units of a picture and leaves out all but slices and supplemental information.
///
/// `None`: there is no slice in it.
///
/// # Errors
/// It is no H264.
pub(crate) fn picture(data: &Bytes, length_size: usize) -> Result<Option<Picture>, AvcError> {
    let (mut is_key, mut has_slice, mut is_as_it_was) = (false, false, length_size == 4);
    let mut kept = Vec::new();
    let mut rest: &[u8] = data;
    while !rest.is_empty() {
        let (length, after) = rest.split_at_checked(length_size).ok_or(AvcError::Nal)?;
        let length = length
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte));
        let (nal, after) = after.split_at_checked(length).ok_or(AvcError::Nal)?;
        rest = after;
        // Some encoders pad with empty units.
        let kind = match nal.first() {
            Some(first) if first & 0x80 != 0 => return Err(AvcError::Nal),
            Some(first) => first & 0x1f,
            None => UNSPECIFIED,
        };
        is_key |= kind == IDR;
        has_slice |= (SLICE..=IDR).contains(&kind);
        if (SLICE..=SEI).contains(&kind) {
            kept.push(nal);
        } else {
            is_as_it_was = false;
        }
    }
    if !has_slice {
        return Ok(None);
    }
    let data = if is_as_it_was {
        data.clone()
    } else {
        joined(&kept)
    };
    Ok(Some(Picture { is_key, data }))
}

fn joined(units: &[&[u8]]) -> Bytes {
    let mut joined = Vec::with_capacity(units.iter().map(|unit| 4 + unit.len()).sum());
    for unit in units {
        let length = u32::try_from(unit.len()).unwrap_or(0);
        joined.extend_from_slice(&length.to_be_bytes());
        joined.extend_from_slice(unit);
    }
    joined.into()
}

fn dimensions(sps: &[u8]) -> Result<(u16, u16), AvcError> {
    let broken = |error| AvcError::Config(format!("{error:?}"));
    let sps = SeqParameterSet::from_bits(RefNal::new(sps, &[], true).rbsp_bits());
    let sps = sps.map_err(broken)?;
    let blocks = [
        sps.pic_width_in_mbs_minus1,
        sps.pic_height_in_map_units_minus1,
    ];
    let [width, height] = blocks.map(|side| side.saturating_add(1).saturating_mul(16));
    // Before the crate multiplies them, which it does not everywhere check.
    if width > SIDE_MAX || height > SIDE_MAX {
        return Err(AvcError::TooLarge(width, height));
    }
    let (width, height) = sps.pixel_dimensions().map_err(broken)?;
    match (u16::try_from(width), u16::try_from(height)) {
        (Ok(w @ 1..), Ok(h @ 1..)) if width <= SIDE_MAX && height <= SIDE_MAX => Ok((w, h)),
        _ => Err(AvcError::TooLarge(width, height)),
    }
}

const RECORD_MAX: usize = 4096;
const SIDE_MAX: u32 = 8192;

const SLICE: u8 = 1;
const IDR: u8 = 5;
const SEI: u8 = 6;
const UNSPECIFIED: u8 = 0;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Of x264: baseline, 320 x 240.
    pub(crate) const RECORD: [u8; 37] = [
        0x01, 0x42, 0xc0, 0x0d, 0xff, 0xe1, 0x00, 0x16, 0x67, 0x42, 0xc0, 0x0d, 0xda, 0x05, 0x07,
        0xec, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x0c, 0xa3, 0xc5, 0x0a, 0xa8,
        0x01, 0x00, 0x04, 0x68, 0xce, 0x0f, 0xc8,
    ];

    fn units(units: &[&[u8]]) -> Bytes {
        joined(units)
    }

    #[test]
    fn configuration_gives_size_and_name() {
        let (config, length_size) = config(&RECORD).unwrap();
        assert_eq!((config.width, config.height, length_size), (320, 240, 4));
        assert_eq!(config.name, "avc1.42c00d");
        assert_eq!(config.record, RECORD.as_slice());
    }

    #[test]
    fn shorter_lengths_become_four_bytes() {
        let mut record = RECORD;
        record[4] = 0xfd;
        let (config, length_size) = config(&record).unwrap();
        assert_eq!((length_size, config.record[4]), (2, 0xff));
        let data = Bytes::from_static(b"\0\x03\x65ab\0\x02\x06c");
        let read = picture(&data, length_size).unwrap().unwrap();
        assert_eq!(
            read,
            Picture {
                is_key: true,
                data: units(&[b"\x65ab", b"\x06c"])
            }
        );
    }

    #[test]
    fn parameter_sets_and_delimiters_are_left_out() {
        let data = units(&[
            b"\x09\x10",
            b"\x67sps",
            b"\x68pps",
            b"\x41abc",
            b"",
            b"\x7cfu",
        ]);
        let read = picture(&data, 4).unwrap().unwrap();
        assert_eq!(
            read,
            Picture {
                is_key: false,
                data: units(&[b"\x41abc"])
            }
        );
        assert_eq!(picture(&units(&[b"\x06sei"]), 4), Ok(None));
    }

    #[test]
    fn untouched_pictures_are_not_copied() {
        let data = units(&[b"\x65abc", b"\x65def"]);
        let read = picture(&data, 4).unwrap().unwrap();
        assert_eq!(read.data.as_ptr(), data.as_ptr());
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        for data in [
            b"\0\0\0\x05\x65abc".as_slice(),
            b"\xff\xff\xff\xff\x65",
            b"\0\0",
            b"\0\0\0\x01\xff",
        ] {
            assert_eq!(
                picture(&Bytes::copy_from_slice(data), 4),
                Err(AvcError::Nal)
            );
        }
    }

    #[test]
    fn broken_and_huge_configurations_are_refused() {
        assert!(matches!(config(&RECORD[..20]), Err(AvcError::Config(_))));
        assert!(matches!(config(&[1; 5000]), Err(AvcError::Config(_))));
        assert!(matches!(
            config(&[1, 66, 0, 30, 0xff, 0xe0, 0]),
            Err(AvcError::Config(_))
        ));
        // pic_width_in_mbs_minus1 of 65,534.
        let sps = [
            0x67, 0x42, 0xc0, 0x0d, 0xda, 0x00, 0x01, 0xff, 0xff, 0xff, 0x80, 0x40, 0x80,
        ];
        let head = [1, 0x42, 0xc0, 0x0d, 0xff, 0xe1, 0, 13];
        let record = [head.as_slice(), &sps, &[1, 0, 1, 0x68]].concat();
        assert!(config(&record).is_err());
    }
}
