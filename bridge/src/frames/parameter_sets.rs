//! What H.264 says once for many pictures: sequence and picture parameter sets.

use bytes::{BufMut, Bytes};
use h264_reader::nal::sps::{ChromaFormat, ProfileIdc, SeqParameterSet};
use h264_reader::nal::{Nal, RefNal};
use thiserror::Error;

use super::bits::{Bits, unescape_beginning};
use super::{FrameError, PICTURE_SIDE_MAX, picture_size};
use crate::media::{VideoCodec, VideoConfig};

/// Why a parameter set is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParameterSetError {
    /// Longer than any real one.
    #[error("a parameter set of {0} bytes is too long")]
    TooLong(usize),
    /// More at a time than an encoder has use for.
    #[error("there are too many parameter sets")]
    TooMany,
    /// It cannot be read.
    #[error("a parameter set is broken")]
    Broken,
    /// The picture is empty or larger than we carry.
    #[error("a picture of {0} x {1} is not carried; at most {PICTURE_SIDE_MAX} a side")]
    PictureSize(u32, u32),
    /// A configuration needs at least one of each kind.
    #[error("a parameter set is missing")]
    Missing,
}

/// The parameter sets that came with the pictures.
#[derive(Debug, Default)]
pub(super) struct ParameterSets {
    sequence: Vec<SequenceSet>,
    picture: Vec<PictureSet>,
    is_changed: bool,
}

#[derive(Debug)]
struct SequenceSet {
    id: u32,
    unit: Bytes,
}

#[derive(Debug)]
struct PictureSet {
    id: u32,
    sequence_id: u32,
    unit: Bytes,
}

impl ParameterSets {
    /// Takes in a sequence parameter set with its NAL header.
    pub(super) fn insert_sequence(&mut self, unit: &[u8]) -> Result<(), ParameterSetError> {
        if self.sequence.iter().any(|known| known.unit == unit) {
            return Ok(());
        }
        let id = u32::from(Sequence::read(unit)?.set.id().id());
        self.is_changed = true;
        let unit = Bytes::copy_from_slice(unit);
        if let Some(known) = self.sequence.iter_mut().find(|known| known.id == id) {
            known.unit = unit;
        } else if self.sequence.len() < SEQUENCE_SETS_MAX {
            self.sequence.push(SequenceSet { id, unit });
        } else {
            return Err(ParameterSetError::TooMany);
        }
        Ok(())
    }

    /// Takes in a picture parameter set with its NAL header.
    pub(super) fn insert_picture(&mut self, unit: &[u8]) -> Result<(), ParameterSetError> {
        if self.picture.iter().any(|known| known.unit == unit) {
            return Ok(());
        }
        let (id, sequence_id) = picture_set_ids(unit)?;
        self.is_changed = true;
        let set = PictureSet {
            id,
            sequence_id,
            unit: Bytes::copy_from_slice(unit),
        };
        if let Some(known) = self.picture.iter_mut().find(|known| known.id == id) {
            *known = set;
        } else if self.picture.len() < PICTURE_SETS_MAX {
            self.picture.push(set);
        } else {
            return Err(ParameterSetError::TooMany);
        }
        Ok(())
    }

    /// Whether any came that is new since the last configuration was made for a keyframe.
    pub(super) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// The configuration of a picture that refers to this picture parameter set.
    pub(super) fn config(
        &mut self,
        picture_set: u32,
        is_key: bool,
    ) -> Result<VideoConfig, FrameError> {
        let mut pictures = self.picture.iter();
        let picture = pictures
            .find(|picture| picture.id == picture_set)
            .ok_or(FrameError::NoParameterSets)?;
        let mut sequences = self.sequence.iter();
        let sequence = sequences
            .find(|sequence| sequence.id == picture.sequence_id)
            .ok_or(FrameError::NoParameterSets)?;
        let of_sequence = |picture: &&PictureSet| picture.sequence_id == sequence.id;
        let pictures = self.picture.iter().filter(of_sequence);
        let pictures: Vec<&[u8]> = pictures.map(|picture| &picture.unit[..]).collect();
        let config = video_config(&sequence.unit, &pictures)?;
        if is_key {
            self.is_changed = false;
        }
        Ok(config)
    }
}

/// The configuration of H264 with this sequence parameter set and these picture parameter sets,
/// each with its NAL header.
pub(crate) fn video_config(
    sequence: &[u8],
    pictures: &[&[u8]],
) -> Result<VideoConfig, ParameterSetError> {
    if pictures.is_empty() {
        return Err(ParameterSetError::Missing);
    }
    let read = Sequence::read(sequence)?;
    let [_, profile, flags, level] = *sequence
        .first_chunk::<4>()
        .ok_or(ParameterSetError::Broken)?;
    // ISO/IEC 14496-15 §5.3.3.1.2. Lengths of 4 bytes; one sequence parameter set.
    let mut record = vec![1, profile, flags, level, 0xff, 0xe1];
    put_set(&mut record, sequence)?;
    record.put_u8(u8::try_from(pictures.len()).map_err(|_| ParameterSetError::TooMany)?);
    for picture in pictures {
        put_set(&mut record, picture)?;
    }
    if has_chroma_fields(profile) {
        let chroma = &read.set.chroma_info;
        let format = match chroma.chroma_format {
            ChromaFormat::Monochrome => 0,
            ChromaFormat::YUV420 => 1,
            ChromaFormat::YUV422 => 2,
            ChromaFormat::YUV444 => 3,
            ChromaFormat::Invalid(_) => return Err(ParameterSetError::Broken),
        };
        record.put_u8(0xfc | format);
        record.put_u8(0xf8 | chroma.bit_depth_luma_minus8);
        record.put_u8(0xf8 | chroma.bit_depth_chroma_minus8);
        record.put_u8(0); // sequence parameter set extensions
    }
    Ok(VideoConfig {
        codec: VideoCodec::H264,
        width: read.width,
        height: read.height,
        record: record.into(),
        name: format!("avc1.{profile:02x}{flags:02x}{level:02x}"),
    })
}

fn put_set(record: &mut Vec<u8>, set: &[u8]) -> Result<(), ParameterSetError> {
    let too_long = ParameterSetError::TooLong(set.len());
    if set.len() > PARAMETER_SET_BYTES_MAX {
        return Err(too_long);
    }
    record.put_u16(u16::try_from(set.len()).map_err(|_| too_long)?);
    record.put_slice(set);
    Ok(())
}

/// Whether pictures with this sequence parameter set may be shown in another order than they are
/// decoded in. `true` is no proof that some are: [`super::has_b_frames`] sees those.
///
/// # Errors
/// The set cannot be read.
pub fn may_reorder(sequence: &[u8]) -> Result<bool, ParameterSetError> {
    use h264_reader::nal::sps::PicOrderCntType;

    let set = Sequence::read(sequence)?.set;
    let restrictions = set
        .vui_parameters
        .as_ref()
        .and_then(|usability| usability.bitstream_restrictions.as_ref());
    let is_baseline = set.profile_idc == ProfileIdc::from(66);
    let is_in_order = matches!(set.pic_order_cnt, PicOrderCntType::TypeTwo);
    Ok(match restrictions {
        _ if is_baseline || is_in_order => false,
        Some(restrictions) => restrictions.max_num_reorder_frames > 0,
        None => true,
    })
}

/// A sequence parameter set that was read.
struct Sequence {
    set: SeqParameterSet,
    width: u16,
    height: u16,
}

impl Sequence {
    fn read(unit: &[u8]) -> Result<Self, ParameterSetError> {
        if unit.len() > PARAMETER_SET_BYTES_MAX {
            return Err(ParameterSetError::TooLong(unit.len()));
        }
        if unit.first().is_none_or(|header| header & 0x1f != NAL_SPS) {
            return Err(ParameterSetError::Broken);
        }
        // The level is what the encoder was asked for, and many then code larger pictures all the
        // same, which decoders do not mind but the reader does: let it see the highest level.
        let mut lenient = unit.to_vec();
        *lenient.get_mut(3).ok_or(ParameterSetError::Broken)? = LEVEL_MAX;
        // Zeros that belong to the start code that followed are no part of it either.
        let length = lenient.iter().rposition(|byte| *byte != 0);
        lenient.truncate(length.map_or(0, |last| last + 1));
        let set = SeqParameterSet::from_bits(RefNal::new(&lenient, &[], true).rbsp_bits())
            .map_err(|_| ParameterSetError::Broken)?;
        let (width, height) = set
            .pixel_dimensions()
            .map_err(|_| ParameterSetError::Broken)?;
        let (width, height) = picture_size(width, height)
            .map_err(|_| ParameterSetError::PictureSize(width, height))?;
        Ok(Self { set, width, height })
    }
}

/// The ids of a picture parameter set and of the sequence parameter set it refers to (§7.3.2.2).
fn picture_set_ids(unit: &[u8]) -> Result<(u32, u32), ParameterSetError> {
    if unit.len() > PARAMETER_SET_BYTES_MAX {
        return Err(ParameterSetError::TooLong(unit.len()));
    }
    let (_, payload) = unit.split_first().ok_or(ParameterSetError::Broken)?;
    let beginning = unescape_beginning(payload);
    let mut bits = Bits::new(&beginning);
    let ids = bits.exp_golomb().zip(bits.exp_golomb());
    ids.filter(|(id, sequence_id)| *id <= 255 && *sequence_id <= 31)
        .ok_or(ParameterSetError::Broken)
}

/// Whether the record says how colour is sampled (ISO/IEC 14496-15 §5.3.3.1.2).
fn has_chroma_fields(profile: u8) -> bool {
    matches!(profile, 100 | 110 | 122 | 144 | 244)
}

const NAL_SPS: u8 = 7;
/// Level 6.2.
const LEVEL_MAX: u8 = 62;
/// Real ones have 10 to 100 bytes.
pub(crate) const PARAMETER_SET_BYTES_MAX: usize = 4096;
/// Encoders have one; a few have one for each size they switch between.
const SEQUENCE_SETS_MAX: usize = 4;
/// Encoders have one or two for each sequence parameter set.
const PICTURE_SETS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// x264: constrained baseline, level 3.1, 1280x720.
    const SPS: [u8; 25] = [
        0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00,
        0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x24, 0x80,
    ];
    const PPS: [u8; 5] = [0x68, 0xcb, 0x83, 0xcb, 0x20];

    #[test]
    fn a_configuration_is_made_of_both_kinds() {
        let config = video_config(&SPS, &[&PPS]).unwrap();
        assert_eq!((config.width, config.height), (1280, 720));
        assert_eq!(config.name, "avc1.42c01f");
        let mut expected = vec![1, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0, 25];
        expected.extend_from_slice(&SPS);
        expected.extend_from_slice(&[1, 0, 5]);
        expected.extend_from_slice(&PPS);
        assert_eq!(config.record, expected);
        assert_eq!(video_config(&SPS, &[]), Err(ParameterSetError::Missing));
    }

    #[test]
    fn what_is_too_long_or_too_much_is_refused_by_name() {
        let mut sets = ParameterSets::default();
        let long = [&SPS[..], &[1; PARAMETER_SET_BYTES_MAX]].concat();
        let error = sets.insert_sequence(&long).unwrap_err();
        assert_eq!(error, ParameterSetError::TooLong(long.len()));
        assert_eq!(sets.insert_picture(&long), Err(error));
        assert_eq!(
            sets.insert_sequence(&SPS[..4]),
            Err(ParameterSetError::Broken)
        );
        sets.insert_sequence(&SPS).unwrap();
        // Picture parameter sets 0, 1, 2 and so on of sequence parameter set 0.
        let refused = (0..40u32).filter(|id| {
            let width = 2 * (id + 1).ilog2() + 1;
            let ids = (id + 1) << (32 - width) | 1 << (31 - width);
            let set = [&[0x68][..], &ids.to_be_bytes()].concat();
            sets.insert_picture(&set).is_err()
        });
        assert_eq!(refused.count(), 40 - PICTURE_SETS_MAX);
    }

    #[test]
    fn a_level_too_low_and_zeros_that_follow_do_no_harm() {
        let mut low = SPS;
        low[3] = 10;
        assert_eq!(video_config(&low, &[&PPS]).unwrap().name, "avc1.42c00a");
        let followed = [&SPS[..], &[0, 0]].concat();
        assert_eq!(video_config(&followed, &[&PPS]).unwrap().width, 1280);
    }
}
