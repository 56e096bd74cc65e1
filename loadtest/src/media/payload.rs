//! Payload formats: the descriptor in front of a stamp, written and read.

use super::{Codec, Stamp};

/// What a receiver can tell from one payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The stamp, when it and its filler are intact.
    pub stamp: Option<Stamp>,
    /// The packet starts a keyframe.
    pub keyframe: bool,
    /// VP8's 15-bit picture id (RFC 7741 §4.2).
    pub picture_id: Option<u16>,
    /// VP8's temporal layer.
    pub temporal_layer: Option<u8>,
}

/// Reads a payload of a synthetic track.
pub fn parse(codec: Codec, payload: &[u8]) -> Parsed {
    let parsed = match codec {
        Codec::Opus => parse_opus(payload),
        Codec::Vp8 => parse_vp8(payload),
        Codec::H264 => parse_h264(payload),
        Codec::Av1 => parse_av1(payload),
    };
    parsed.unwrap_or_default()
}

/// One 20 ms CELT frame, mono, code 0 (RFC 6716 §3.1).
pub(super) fn opus() -> Vec<u8> {
    vec![31 << 3]
}

fn parse_opus(payload: &[u8]) -> Option<Parsed> {
    let (_, rest) = payload.split_first()?;
    Some(Parsed {
        stamp: Stamp::read(rest),
        ..Parsed::default()
    })
}

/// What stands in a VP8 payload descriptor and frame header.
pub(super) struct Vp8 {
    pub(super) start: bool,
    pub(super) keyframe: bool,
    pub(super) picture_id: u16,
    pub(super) tl0_index: u8,
    pub(super) upper: bool,
    pub(super) size: (u16, u16),
}

/// Payload descriptor with picture id, TL0PICIDX and temporal id (RFC 7741 §4.2), then on the
/// first packet the frame tag (RFC 6386 §9.1).
pub(super) fn vp8(frame: &Vp8) -> Vec<u8> {
    let [high, low] = frame.picture_id.to_be_bytes();
    let non_reference = if frame.upper { 0x20 } else { 0 };
    let start = if frame.start { 0x10 } else { 0 };
    let temporal = u8::from(frame.upper) << 6;
    let mut bytes = vec![
        0x80 | non_reference | start,
        0xe0,
        0x80 | high,
        low,
        frame.tl0_index,
        temporal,
    ];
    if frame.start {
        bytes.extend_from_slice(&[0x10 | u8::from(!frame.keyframe), 0x02, 0x00]);
        if frame.keyframe {
            bytes.extend_from_slice(&[0x9d, 0x01, 0x2a]);
            bytes.extend_from_slice(&frame.size.0.to_le_bytes());
            bytes.extend_from_slice(&frame.size.1.to_le_bytes());
        }
    }
    bytes
}

fn parse_vp8(payload: &[u8]) -> Option<Parsed> {
    let first = *payload.first()?;
    let mut rest = payload.get(1..)?;
    let (mut picture_id, mut temporal_layer) = (None, None);
    if first & 0x80 != 0 {
        let extension = take(&mut rest)?;
        if extension & 0x80 != 0 {
            let high = take(&mut rest)?;
            picture_id = Some(if high & 0x80 == 0 {
                u16::from(high)
            } else {
                u16::from_be_bytes([high & 0x7f, take(&mut rest)?])
            });
        }
        if extension & 0x40 != 0 {
            take(&mut rest)?;
        }
        if extension & 0x30 != 0 {
            temporal_layer = Some(take(&mut rest)? >> 6);
        }
    }
    let mut keyframe = false;
    if first & 0x17 == 0x10 {
        keyframe = rest.first()? & 1 == 0;
        rest = rest.get(if keyframe { 10 } else { 3 }..)?;
    }
    Some(Parsed {
        stamp: Stamp::read(rest),
        keyframe,
        picture_id,
        temporal_layer,
    })
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    Some(*first)
}

/// A baseline sequence parameter set for 640x480.
const SPS: [u8; 14] = [
    0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e, 0xd0, 0x0f, 0x08, 0x84, 0x6a,
];
/// The picture parameter set that belongs to it.
const PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];
/// How a slice begins (H.264 §7.3.3) that is the whole picture: macroblock 0, its kind, parameter set 0. What reads
/// pictures, as a broadcast does, takes them for such.
const INTRA: [u8; 2] = [0x88, 0x80];
const PREDICTED: [u8; 2] = [0x9a, 0x80];
/// Where the length of the third NAL unit of the STAP-A stands.
const SEI_LENGTH_AT: usize = 1 + 2 + SPS.len() + 2 + PPS.len();

/// A keyframe is a STAP-A of parameter sets and an SEI with the stamp, then FU-A of an IDR slice;
/// other pictures are FU-A of a slice (RFC 6184 §5.7.1, §5.8).
pub(super) fn h264(keyframe: bool, index: u8, last: bool) -> Vec<u8> {
    if keyframe && index == 0 {
        let mut bytes = vec![0x78, 0, 14];
        bytes.extend_from_slice(&SPS);
        bytes.extend_from_slice(&[0, 4]);
        bytes.extend_from_slice(&PPS);
        bytes.extend_from_slice(&[0, 0, 0x06]);
        return bytes;
    }
    let starts = index == u8::from(keyframe);
    let (indicator, kind) = if keyframe { (0x7c, 5) } else { (0x5c, 1) };
    let mut bytes = vec![
        indicator,
        u8::from(starts) << 7 | u8::from(last) << 6 | kind,
    ];
    if starts {
        bytes.extend_from_slice(if keyframe { &INTRA } else { &PREDICTED });
    }
    bytes
}

/// Writes the length of the SEI once its stamp is in place.
pub(super) fn close_h264_parameters(codec: Codec, bytes: &mut [u8]) {
    if codec != Codec::H264 || bytes.first() != Some(&0x78) {
        return;
    }
    let length = bytes.len().saturating_sub(SEI_LENGTH_AT + 2);
    let length = u16::try_from(length).unwrap_or_default().to_be_bytes();
    if let Some(place) = bytes.get_mut(SEI_LENGTH_AT..SEI_LENGTH_AT + 2) {
        place.copy_from_slice(&length);
    }
}

fn parse_h264(payload: &[u8]) -> Option<Parsed> {
    match payload.first()? & 0x1f {
        24 => {
            let mut rest = payload.get(1..)?;
            let (mut stamp, mut keyframe) = (None, false);
            while !rest.is_empty() {
                let length = usize::from(u16::from_be_bytes([take(&mut rest)?, take(&mut rest)?]));
                let (unit, tail) = rest.split_at_checked(length)?;
                rest = tail;
                match unit.first()? & 0x1f {
                    6 => stamp = Stamp::read(unit.get(1..)?),
                    7 => keyframe = true,
                    _ => {}
                }
            }
            Some(Parsed {
                stamp,
                keyframe,
                ..Parsed::default()
            })
        }
        28 => {
            let is_start = payload.get(1)? & 0x80 != 0;
            let head = if is_start { 2 + INTRA.len() } else { 2 };
            Some(Parsed {
                stamp: Stamp::read(payload.get(head..)?),
                ..Parsed::default()
            })
        }
        _ => Some(Parsed {
            stamp: Stamp::read(payload.get(1..)?),
            ..Parsed::default()
        }),
    }
}

/// One OBU in as many packets as it takes (AV1 payload format §4.4): Z and Y say that it continues,
/// W that there is one, N that a coded video sequence begins. The OBU is a frame without a size.
pub(super) fn av1(keyframe: bool, index: u8, last: bool) -> Vec<u8> {
    let continues = if index > 0 { 0x80 } else { 0 };
    let continued = if last { 0 } else { 0x40 };
    let begins = if keyframe && index == 0 { 0x08 } else { 0 };
    let mut bytes = vec![continues | continued | 0x10 | begins];
    if index == 0 {
        bytes.push(OBU_FRAME);
    }
    bytes
}

fn parse_av1(payload: &[u8]) -> Option<Parsed> {
    let mut rest = payload;
    let aggregation = take(&mut rest)?;
    if aggregation & 0x80 == 0 {
        take(&mut rest)?;
    }
    Some(Parsed {
        stamp: Stamp::read(rest),
        keyframe: aggregation & 0x08 != 0,
        ..Parsed::default()
    })
}

/// An OBU header of type OBU_FRAME without extension and size (AV1 specification §5.3.2).
const OBU_FRAME: u8 = 6 << 3;
