//! AV1 in RTP (AOMedia, "RTP Payload Format For AV1", v1.0).

use bytes::{BufMut, Bytes};

use super::av1_sequence::Sequence;
use super::bits::Bits;
use super::{FrameError, Picture};
use crate::media::VideoConfig;

/// Puts one temporal unit together, without its delimiter; `None`: it has no frame.
pub(super) fn assemble(payloads: &[Bytes]) -> Result<Option<Picture>, FrameError> {
    let mut unit = Unit::default();
    let mut open: Option<Vec<u8>> = None;
    for payload in payloads {
        let mut elements = Elements::of(payload)?;
        if elements.continues != open.is_some() {
            let is_first = open.is_none() && unit.data.is_empty();
            return Err(if is_first {
                FrameError::Beginning
            } else {
                FrameError::Fragments
            });
        }
        while let Some((element, is_last)) = elements.next()? {
            let whole = match open.take() {
                Some(mut begun) => {
                    begun.put_slice(element);
                    begun
                }
                None => element.to_vec(),
            };
            if is_last && elements.is_continued {
                open = Some(whole);
            } else {
                unit.obu(&whole)?;
            }
        }
    }
    if open.is_some() {
        return Err(FrameError::Fragments);
    }
    unit.close()
}

/// The OBU elements of one packet (§4.3, §4.4).
struct Elements<'a> {
    rest: &'a [u8],
    /// Elements that are left; `None`: each says its length and they go on to the end.
    left: Option<u8>,
    /// The first one continues the last one of the packet before.
    continues: bool,
    /// The last one is continued in the next packet.
    is_continued: bool,
}

impl<'a> Elements<'a> {
    fn of(payload: &'a [u8]) -> Result<Self, FrameError> {
        let (&header, rest) = payload.split_first().ok_or(FrameError::CutShort)?;
        let count = header >> 4 & 3;
        if rest.is_empty() {
            return Err(FrameError::CutShort);
        }
        Ok(Self {
            rest,
            left: (count > 0).then_some(count),
            continues: header & 0x80 != 0,
            is_continued: header & 0x40 != 0,
        })
    }

    /// The next element, and whether it is the last.
    fn next(&mut self) -> Result<Option<(&'a [u8], bool)>, FrameError> {
        if self.left == Some(0) || (self.left.is_none() && self.rest.is_empty()) {
            return Ok(None);
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        let element = if self.left == Some(0) {
            std::mem::take(&mut self.rest)
        } else {
            let (length, after) = split_leb128(self.rest).ok_or(FrameError::CutShort)?;
            let (element, after) = after.split_at_checked(length).ok_or(FrameError::CutShort)?;
            self.rest = after;
            element
        };
        if element.is_empty() {
            return Err(FrameError::CutShort);
        }
        let is_last = self.left == Some(0) || (self.left.is_none() && self.rest.is_empty());
        Ok(Some((element, is_last)))
    }
}

/// A temporal unit in low-overhead format (AV1 §5.2), as far as it has been read.
#[derive(Default)]
struct Unit {
    data: Vec<u8>,
    config: Option<VideoConfig>,
    is_reduced: bool,
    /// Whether its first frame is one a decoder can begin with; `None`: no frame yet.
    is_key: Option<bool>,
}

impl Unit {
    fn obu(&mut self, obu: &[u8]) -> Result<(), FrameError> {
        let (&header, mut rest) = obu.split_first().ok_or(FrameError::CutShort)?;
        if header & 0x80 != 0 {
            return Err(FrameError::Header);
        }
        let begin = self.data.len();
        self.data.put_u8(header | 0x02);
        if header & 0x04 != 0 {
            let (&extension, after) = rest.split_first().ok_or(FrameError::CutShort)?;
            self.data.put_u8(extension);
            rest = after;
        }
        // Senders should leave the size out; those that do not must be right.
        if header & 0x02 != 0 {
            let (length, after) = split_leb128(rest).ok_or(FrameError::CutShort)?;
            rest = after.get(..length).ok_or(FrameError::CutShort)?;
        }
        put_leb128(&mut self.data, rest.len());
        self.data.put_slice(rest);
        match header >> 3 & 0x0f {
            OBU_SEQUENCE => {
                let sequence = Sequence::read(rest).ok_or(FrameError::Header)?;
                let whole = self.data.get(begin..).unwrap_or_default();
                self.config = Some(sequence.config(whole)?);
                self.is_reduced = sequence.is_reduced;
            }
            OBU_FRAME | OBU_FRAME_HEADER if self.is_key.is_none() => {
                let is_key = self.config.is_some() && (self.is_reduced || begins_stream(rest)?);
                self.is_key = Some(is_key);
            }
            OBU_TEMPORAL_DELIMITER | OBU_TILE_LIST | OBU_PADDING => self.data.truncate(begin),
            _ => {}
        }
        Ok(())
    }

    fn close(self) -> Result<Option<Picture>, FrameError> {
        Ok(self.is_key.map(|is_key| Picture {
            is_key,
            config: self.config.filter(|_| is_key),
            data: self.data.into(),
        }))
    }
}

/// Whether a frame header is that of a shown keyframe (AV1 §5.9.2).
fn begins_stream(frame_header: &[u8]) -> Result<bool, FrameError> {
    let mut bits = Bits::new(frame_header);
    // show_existing_frame, frame_type, show_frame
    let beginning = bits.read(4).ok_or(FrameError::CutShort)?;
    Ok(beginning == 0b0001)
}

/// A number and what follows it (AV1 §4.10.5); no length we take has more than 4 bytes.
fn split_leb128(mut bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for place in 0..4 {
        let (&byte, rest) = bytes.split_first()?;
        bytes = rest;
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, bytes));
        }
    }
    None
}

fn put_leb128(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let [low, ..] = value.to_le_bytes();
        let group = low & 0x7f;
        value >>= 7;
        if value == 0 {
            out.put_u8(group);
            return;
        }
        out.put_u8(group | 0x80);
    }
}

const OBU_SEQUENCE: u8 = 1;
const OBU_TEMPORAL_DELIMITER: u8 = 2;
const OBU_FRAME_HEADER: u8 = 3;
const OBU_FRAME: u8 = 6;
const OBU_TILE_LIST: u8 = 8;
const OBU_PADDING: u8 = 15;
