//! H.264 in RTP (RFC 6184 §5): single NAL units, STAP-A and FU-A.

use bytes::{BufMut, Bytes};

use super::bits::{Bits, unescape_beginning};
use super::parameter_sets::ParameterSets;
use super::{FrameError, Picture};

/// Puts one picture together; `None`: its packets hold parameter sets and the like only.
pub(super) fn assemble(
    sets: &mut ParameterSets,
    payloads: &[Bytes],
) -> Result<Option<Picture>, FrameError> {
    let bytes: usize = payloads.iter().map(|payload| 4 + payload.len()).sum();
    let mut picture = Collected {
        data: Vec::with_capacity(bytes),
        ..Collected::default()
    };
    for payload in payloads {
        let (&header, rest) = payload.split_first().ok_or(FrameError::CutShort)?;
        let kind = header & 0x1f;
        if picture.open.is_some() && kind != NAL_FU_A {
            return Err(FrameError::Fragments);
        }
        match kind {
            1..=23 => picture.unit(sets, payload)?,
            NAL_STAP_A => picture.aggregate(sets, rest)?,
            NAL_FU_A => picture.fragment(sets, header, rest)?,
            // Interleaved modes (STAP-B, MTAP, FU-B) are never negotiated; 0, 30, 31 are undefined.
            _ => return Err(FrameError::Unsupported(kind)),
        }
    }
    picture.close(sets)
}

/// The NAL units of one picture, as far as they have been read.
#[derive(Default)]
struct Collected {
    data: Vec<u8>,
    /// Where the length of the unit begins whose fragments are being read.
    open: Option<usize>,
    first: Option<Slice>,
}

impl Collected {
    fn unit(&mut self, sets: &mut ParameterSets, unit: &[u8]) -> Result<(), FrameError> {
        if is_of_picture(sets, &mut self.first, unit)? {
            let length = u32::try_from(unit.len()).map_err(|_| FrameError::TooLarge)?;
            self.data.put_u32(length);
            self.data.put_slice(unit);
        }
        Ok(())
    }

    fn aggregate(&mut self, sets: &mut ParameterSets, mut rest: &[u8]) -> Result<(), FrameError> {
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk().ok_or(FrameError::CutShort)?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (unit, after) = after.split_at_checked(length).ok_or(FrameError::CutShort)?;
            self.unit(sets, unit)?;
            rest = after;
        }
        Ok(())
    }

    fn fragment(
        &mut self,
        sets: &mut ParameterSets,
        indicator: u8,
        rest: &[u8],
    ) -> Result<(), FrameError> {
        let (&header, part) = rest.split_first().ok_or(FrameError::CutShort)?;
        let is_start = header & 0x80 != 0;
        if is_start {
            if self.open.is_some() {
                return Err(FrameError::Fragments);
            }
            self.open = Some(self.data.len());
            self.data.put_u32(0);
            self.data.put_u8(indicator & 0xe0 | header & 0x1f);
        }
        let begin = self.open.ok_or(FrameError::Beginning)?;
        self.data.put_slice(part);
        if header & 0x40 == 0 {
            return Ok(());
        }
        self.open = None;
        // Read like a whole one, which may find that it is none of those that are kept.
        let (length, unit) = self
            .data
            .get_mut(begin..)
            .and_then(|open| open.split_first_chunk_mut())
            .ok_or(FrameError::Beginning)?;
        if is_of_picture(sets, &mut self.first, unit)? {
            let bytes = u32::try_from(unit.len()).map_err(|_| FrameError::TooLarge)?;
            *length = bytes.to_be_bytes();
        } else {
            self.data.truncate(begin);
        }
        Ok(())
    }

    fn close(self, sets: &mut ParameterSets) -> Result<Option<Picture>, FrameError> {
        if self.open.is_some() {
            return Err(FrameError::Fragments);
        }
        let Some(slice) = self.first else {
            return Ok(None);
        };
        let config = if slice.is_idr || sets.is_changed() {
            Some(sets.config(slice.picture_set, slice.is_idr)?)
        } else {
            None
        };
        Ok(Some(Picture {
            is_key: slice.is_idr,
            config,
            data: self.data.into(),
        }))
    }
}

/// Reads a NAL unit: whether it is a part of the picture, of which `first` is the first slice.
fn is_of_picture(
    sets: &mut ParameterSets,
    first: &mut Option<Slice>,
    unit: &[u8],
) -> Result<bool, FrameError> {
    let (&header, payload) = unit.split_first().ok_or(FrameError::CutShort)?;
    match header & 0x1f {
        NAL_SLICE | NAL_IDR => {
            if first.is_none() {
                let slice = Slice::read(header, payload).ok_or(FrameError::Header)?;
                if slice.first_macroblock != 0 {
                    return Err(FrameError::Beginning);
                }
                *first = Some(slice);
            }
            return Ok(true);
        }
        NAL_SPS => sets.insert_sequence(unit)?,
        NAL_PPS => sets.insert_picture(unit)?,
        kind @ NAL_PARTITION_A..=NAL_PARTITION_C => return Err(FrameError::Unsupported(kind)),
        // Delimiters, supplemental information, filler: nothing a decoder needs.
        _ => {}
    }
    Ok(false)
}

/// The beginning of a slice header (H.264 §7.3.3).
struct Slice {
    is_idr: bool,
    first_macroblock: u32,
    kind: u32,
    picture_set: u32,
}

impl Slice {
    fn read(header: u8, payload: &[u8]) -> Option<Self> {
        let beginning = unescape_beginning(payload);
        let mut bits = Bits::new(&beginning);
        Some(Self {
            is_idr: header & 0x1f == NAL_IDR,
            first_macroblock: bits.exp_golomb()?,
            kind: bits.exp_golomb().filter(|kind| *kind <= 9)?,
            picture_set: bits.exp_golomb()?,
        })
    }

    /// Predicted from two pictures, of which one may be shown later (H.264 table 7-6).
    fn is_b(&self) -> bool {
        self.kind % 5 == 1
    }
}

/// Whether one of these NAL units, each with its header, is a slice of a B-frame.
pub fn has_b_frames<'a>(units: impl IntoIterator<Item = &'a [u8]>) -> bool {
    units.into_iter().any(|unit| {
        let header_and_payload = unit.split_first();
        header_and_payload
            .filter(|(header, _)| matches!(**header & 0x1f, NAL_SLICE | NAL_PARTITION_A))
            .and_then(|(header, payload)| Slice::read(*header, payload))
            .is_some_and(|slice| slice.is_b())
    })
}

pub(crate) const NAL_SLICE: u8 = 1;
const NAL_PARTITION_A: u8 = 2;
const NAL_PARTITION_C: u8 = 4;
pub(crate) const NAL_IDR: u8 = 5;
pub(crate) const NAL_SPS: u8 = 7;
pub(crate) const NAL_PPS: u8 = 8;
pub(crate) const NAL_STAP_A: u8 = 24;
pub(crate) const NAL_FU_A: u8 = 28;
