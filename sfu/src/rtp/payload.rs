//! Payload descriptors: what a packet says about its frame, for each codec that is forwarded.
//!
//! Only the first bytes of a payload are read. Everything here takes bytes from outside: parsers
//! return `None` for what breaks their format, and such a packet is not forwarded.

pub(crate) mod av1;
mod bits;
pub(crate) mod dependency_descriptor;
pub(crate) mod h264;
pub(crate) mod opus;
pub(crate) mod vp8;
pub(crate) mod vp9;

use crate::sfu::Codec;

/// What one packet says about the frame it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// A stream can begin with this packet: it is the first of a frame that needs none before it.
    pub(crate) keyframe: bool,
    /// The first packet of a frame. For H264 it may also be one of several: every parameter set
    /// and the first slice say so.
    pub(crate) frame_start: bool,
    /// The last packet of a frame; of a frame of one spatial layer in VP9 and with the dependency
    /// descriptor, while the RTP marker ends the whole picture.
    pub(crate) frame_end: bool,
    /// Temporal layer, 0 is the base.
    pub(crate) temporal: u8,
    /// Spatial layer inside this stream, 0 is the base. Simulcast layers are streams of their own.
    pub(crate) spatial: u8,
    /// The frame needs nothing of its own temporal layer: who receives less may begin with it
    /// (VP8 Y bit, the dependency descriptor's switch indication).
    pub(crate) sync: bool,
    /// Frames after this one need nothing above this frame's temporal layer from before it: who
    /// receives this one may receive more from the next frame on (VP9 U bit).
    pub(crate) opens_higher: bool,
    /// The picture numbers in the codec's own descriptor.
    pub(crate) picture: Picture,
    /// Width and height in pixels where a keyframe says so cheaply.
    pub(crate) size: Option<(u16, u16)>,
}

/// The picture numbers in a codec's payload descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Picture {
    /// The codec has none.
    #[default]
    None,
    /// RFC 7741 §4.2.
    Vp8(PictureNumbers),
    /// RFC 9628 §4.2.
    Vp9(PictureNumbers),
}

/// A picture id and a base layer counter, as VP8 and VP9 number their pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PictureNumbers {
    /// The picture id and whether it has 15 bits (otherwise 7).
    pub(crate) picture_id: Option<(u16, bool)>,
    /// TL0PICIDX: counts base layer frames.
    pub(crate) tl0: Option<u8>,
}

/// Reads the descriptor of one packet's payload (without padding, decrypted).
///
/// `marker` is the RTP marker bit. `None` for an empty or malformed payload: padding, a probe or
/// an attack, never to be forwarded.
pub(crate) fn describe(codec: Codec, payload: &[u8], marker: bool) -> Option<Descriptor> {
    match codec {
        Codec::Opus => opus::describe(payload),
        Codec::Vp8 => vp8::describe(payload, marker),
        Codec::H264 => h264::describe(payload, marker),
        Codec::Vp9 => vp9::describe(payload, marker),
        Codec::Av1 => av1::describe(payload, marker),
    }
}

/// Reads a picture id of 7 or 15 bits (RFC 7741 §4.2, RFC 9628 §4.2): the id, whether it is wide,
/// and what follows.
fn split_picture_id(bytes: &[u8]) -> Option<((u16, bool), &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first & 0x80 == 0 {
        return Some(((u16::from(first), false), rest));
    }
    let (&second, rest) = rest.split_first()?;
    Some(((u16::from_be_bytes([first & 0x7f, second]), true), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODECS: [Codec; 5] = [Codec::Opus, Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1];

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(
            payload in proptest::collection::vec(any::<u8>(), 0..80),
            marker: bool,
        ) {
            for codec in CODECS {
                for length in 0..=payload.len() {
                    let _ = describe(codec, &payload[..length], marker);
                }
            }
        }
    }

    #[test]
    fn an_empty_payload_has_no_descriptor() {
        for codec in CODECS {
            assert_eq!(describe(codec, &[], true), None);
        }
    }
}
