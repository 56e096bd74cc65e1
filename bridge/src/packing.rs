//! H.264 of encoders becomes RTP packets of a room (RFC 6184).
#![warn(clippy::indexing_slicing)]

#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::frames::h264::{NAL_FU_A, NAL_IDR, NAL_PPS, NAL_SLICE, NAL_SPS, NAL_STAP_A};
use crate::frames::{PARAMETER_SET_BYTES_MAX, ParameterSetError, video_config};
use crate::media::VideoConfig;

/// Packs access units into RTP payloads.
#[derive(Clone, Debug)]
pub struct H264Packer {
    record: AvcRecord,
}

/// What goes into one RTP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// At most [`PAYLOAD_BYTES_MAX`].
    pub bytes: Bytes,
    /// Whether it is the last one of its picture.
    pub marker: bool,
}

/// The parameter sets in a decoder configuration record (ISO/IEC 14496-15 §5.3.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvcRecord {
    /// Bytes of the length before each NAL unit of an access unit: 1, 2 or 4.
    pub length_bytes: usize,
    /// Sequence parameter sets with their NAL headers; at least one.
    pub sequence_sets: Vec<Bytes>,
    /// Picture parameter sets with their NAL headers; at least one.
    pub picture_sets: Vec<Bytes>,
}

/// Why an access unit or a record is not packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PackError {
    /// It ends within something it announces.
    #[error("the record or access unit is cut short")]
    CutShort,
    /// Not version 1, or lengths of 3 bytes.
    #[error("the record is of an unknown kind")]
    Record,
    /// A parameter set is missing or refused.
    #[error(transparent)]
    ParameterSet(#[from] ParameterSetError),
    /// A NAL unit of a kind that an access unit cannot have.
    #[error("a NAL unit of kind {0} cannot be")]
    Unit(u8),
    /// More NAL units than any encoder makes of a picture.
    #[error("the access unit has too many NAL units")]
    TooManyUnits,
    /// There is no picture in it.
    #[error("the access unit has no picture")]
    NoPicture,
}

impl H264Packer {
    /// Sends these parameter sets before each keyframe.
    pub fn new(record: AvcRecord) -> Self {
        Self { record }
    }

    /// Packs one access unit: NAL units, each after its length.
    ///
    /// Only slices are sent, and the record's parameter sets before the first one of a keyframe.
    pub fn pack(&self, access_unit: &[u8]) -> Result<Vec<Payload>, PackError> {
        let units = avcc_to_nals(access_unit, self.record.length_bytes)?;
        let kind = |unit: &&[u8]| unit.first().map_or(0, |header| header & 0x1f);
        let is_slice = |unit: &&[u8]| matches!(kind(unit), NAL_SLICE | NAL_IDR);
        let mut payloads = Vec::new();
        if units.iter().any(|unit| kind(unit) == NAL_IDR) {
            self.put_parameter_sets(&mut payloads);
        }
        for unit in units.iter().filter(|unit| is_slice(unit)) {
            put_unit(&mut payloads, unit);
        }
        if !units.iter().any(is_slice) {
            return Err(PackError::NoPicture);
        }
        if let Some(last) = payloads.last_mut() {
            last.marker = true;
        }
        Ok(payloads)
    }

    fn put_parameter_sets(&self, payloads: &mut Vec<Payload>) {
        let sets = || {
            self.record
                .sequence_sets
                .iter()
                .chain(&self.record.picture_sets)
        };
        let length = 1 + sets().map(|set| 2 + set.len()).sum::<usize>();
        if length > PAYLOAD_BYTES_MAX {
            sets().for_each(|set| put_unit(payloads, set));
            return;
        }
        let mut bytes = BytesMut::with_capacity(length);
        bytes.put_u8(REFERENCE_MAX | NAL_STAP_A);
        for set in sets() {
            bytes.put_uint(set.len() as u64, 2);
            bytes.put_slice(set);
        }
        payloads.push(Payload::of(bytes));
    }
}

impl Payload {
    fn of(bytes: BytesMut) -> Self {
        Self {
            bytes: bytes.freeze(),
            marker: false,
        }
    }
}

/// Packs one NAL unit: as it is if it fits, otherwise in fragments of even length (FU-A).
fn put_unit(payloads: &mut Vec<Payload>, unit: &[u8]) {
    if unit.len() <= PAYLOAD_BYTES_MAX {
        payloads.push(Payload::of(BytesMut::from(unit)));
        return;
    }
    let Some((&header, data)) = unit.split_first() else {
        return;
    };
    let count = data.len().div_ceil(PAYLOAD_BYTES_MAX - 2);
    let mut parts = data.chunks(data.len().div_ceil(count)).peekable();
    let mut start = 0x80;
    while let Some(part) = parts.next() {
        let end = if parts.peek().is_none() { 0x40 } else { 0 };
        let mut bytes = BytesMut::with_capacity(2 + part.len());
        bytes.put_u8(header & 0x60 | NAL_FU_A);
        bytes.put_u8(start | end | header & 0x1f);
        bytes.put_slice(part);
        payloads.push(Payload::of(bytes));
        start = 0;
    }
}

/// Splits an access unit into its NAL units, each with its header; empty ones are left out.
pub fn avcc_to_nals(access_unit: &[u8], length_bytes: usize) -> Result<Vec<&[u8]>, PackError> {
    if !matches!(length_bytes, 1 | 2 | 4) {
        return Err(PackError::Record);
    }
    let mut units = Vec::new();
    let mut rest = access_unit;
    while !rest.is_empty() {
        let (length, after) = rest
            .split_at_checked(length_bytes)
            .ok_or(PackError::CutShort)?;
        let length = length
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let (unit, after) = after.split_at_checked(length).ok_or(PackError::CutShort)?;
        rest = after;
        let Some(header) = unit.first() else {
            continue;
        };
        // The forbidden bit, what is undefined, and what there is in RTP only.
        if header & 0x80 != 0 || !(1..=23).contains(&(header & 0x1f)) {
            return Err(PackError::Unit(*header));
        }
        if units.len() == UNITS_MAX {
            return Err(PackError::TooManyUnits);
        }
        units.push(unit);
    }
    Ok(units)
}

/// Reads a decoder configuration record.
pub fn parse_avcc(record: &[u8]) -> Result<AvcRecord, PackError> {
    let record = split_avcc(record)?;
    record.config()?;
    Ok(record)
}

/// The same without a look into the parameter sets.
pub(crate) fn split_avcc(record: &[u8]) -> Result<AvcRecord, PackError> {
    let (header, rest) = record.split_first_chunk().ok_or(PackError::CutShort)?;
    let [1, _, _, _, length_bytes, sequence_count] = *header else {
        return Err(PackError::Record);
    };
    let length_bytes = usize::from(length_bytes & 3) + 1;
    if length_bytes == 3 {
        return Err(PackError::Record);
    }
    let (sequence_sets, rest) = split_sets(rest, sequence_count & 0x1f, NAL_SPS)?;
    let (&picture_count, rest) = rest.split_first().ok_or(PackError::CutShort)?;
    let (picture_sets, _) = split_sets(rest, picture_count, NAL_PPS)?;
    Ok(AvcRecord {
        length_bytes,
        sequence_sets,
        picture_sets,
    })
}

impl AvcRecord {
    /// What it means for a decoder whose access units have lengths of 4 bytes.
    pub fn config(&self) -> Result<VideoConfig, ParameterSetError> {
        let sequence = self
            .sequence_sets
            .first()
            .ok_or(ParameterSetError::Missing)?;
        let pictures: Vec<&[u8]> = self.picture_sets.iter().map(|set| &set[..]).collect();
        video_config(sequence, &pictures)
    }
}

/// So many parameter sets, each after its length, and what follows them.
fn split_sets(mut rest: &[u8], count: u8, kind: u8) -> Result<(Vec<Bytes>, &[u8]), PackError> {
    if usize::from(count) > PARAMETER_SETS_MAX {
        return Err(ParameterSetError::TooMany.into());
    }
    let mut sets = Vec::new();
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk().ok_or(PackError::CutShort)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (set, after) = after.split_at_checked(length).ok_or(PackError::CutShort)?;
        if length > PARAMETER_SET_BYTES_MAX {
            return Err(ParameterSetError::TooLong(length).into());
        }
        if set.first().is_none_or(|header| header & 0x9f != kind) {
            return Err(ParameterSetError::Broken.into());
        }
        sets.push(Bytes::copy_from_slice(set));
        rest = after;
    }
    Ok((sets, rest))
}

/// Fits every path that WebRTC uses, with all headers.
pub const PAYLOAD_BYTES_MAX: usize = 1200;
/// Pictures in as many slices as they have rows of macroblocks have 68.
const UNITS_MAX: usize = 512;
/// Encoders have one or two of each kind.
const PARAMETER_SETS_MAX: usize = 16;
/// `nal_ref_idc` of what everything refers to.
const REFERENCE_MAX: u8 = 0x60;
