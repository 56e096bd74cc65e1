//! VP8 in RTP (RFC 7741).

use bytes::{BufMut, Bytes};

use super::vp9::vp_record;
use super::{FrameError, Picture, picture_size};
use crate::media::{VideoCodec, VideoConfig};

/// Puts one picture together.
pub(super) fn assemble(payloads: &[Bytes]) -> Result<Option<Picture>, FrameError> {
    let length = payloads.iter().map(Bytes::len).sum();
    let mut data = Vec::with_capacity(length);
    for (place, payload) in payloads.iter().enumerate() {
        let (is_beginning, part) = split_descriptor(payload).ok_or(FrameError::CutShort)?;
        match (place, is_beginning) {
            (0, false) => return Err(FrameError::Beginning),
            (1.., true) => return Err(FrameError::Fragments),
            _ => data.put_slice(part),
        }
    }
    let Some(&tag) = data.first() else {
        return Err(FrameError::CutShort);
    };
    let is_key = tag & 1 == 0;
    Ok(Some(Picture {
        is_key,
        config: if is_key { Some(config(&data)?) } else { None },
        data: data.into(),
    }))
}

/// Whether a packet holds the beginning of a frame, and what follows its descriptor (§4.2).
fn split_descriptor(payload: &[u8]) -> Option<(bool, &[u8])> {
    let (&flags, mut rest) = payload.split_first()?;
    let is_beginning = flags & 0x10 != 0 && flags & 0x0f == 0;
    if flags & 0x80 != 0 {
        let (&extensions, after) = rest.split_first()?;
        rest = after;
        if extensions & 0x80 != 0 {
            let (&picture_id, after) = rest.split_first()?;
            rest = if picture_id & 0x80 == 0 {
                after
            } else {
                after.get(1..)?
            };
        }
        if extensions & 0x40 != 0 {
            rest = rest.get(1..)?; // TL0PICIDX
        }
        if extensions & 0x30 != 0 {
            rest = rest.get(1..)?; // TID, Y, KEYIDX
        }
    }
    Some((is_beginning, rest))
}

/// What a keyframe says about itself (RFC 6386 §9.1).
fn config(frame: &[u8]) -> Result<VideoConfig, FrameError> {
    let header: &[u8; 10] = frame.first_chunk().ok_or(FrameError::CutShort)?;
    let [tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = *header else {
        return Err(FrameError::Header);
    };
    // The upper two bits say how to scale the picture up, which nobody does.
    let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
    let (width, height) = picture_size(side([w0, w1]), side([h0, h1]))?;
    let profile = tag >> 1 & 7;
    // No levels are defined; 0 stands for none. 8 bits, 4:2:0.
    Ok(VideoConfig {
        codec: VideoCodec::Vp8,
        width,
        height,
        record: vp_record([profile, 0, 8 << 4 | 1 << 1], [2, 2, 2]),
        name: format!("vp08.{profile:02}.00.08"),
    })
}
