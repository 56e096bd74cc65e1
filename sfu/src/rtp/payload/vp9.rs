//! The VP9 payload descriptor (RFC 9628 §4.2), flexible and non-flexible mode, with spatial layers.

use super::{Descriptor, Picture, PictureNumbers, split_picture_id};

/// Reference differences of one frame in flexible mode (RFC 9628 §4.2: at most three).
const REFERENCES_MAX: usize = 3;

/// Reads the descriptor of one VP9 packet.
pub(super) fn describe(payload: &[u8], marker: bool) -> Option<Descriptor> {
    let (&flags, mut rest) = payload.split_first()?;
    let inter_picture = flags & 0x40 != 0;
    let flexible = flags & 0x10 != 0;
    let frame_start = flags & 0x08 != 0;
    let mut descriptor = Descriptor {
        frame_start,
        // Without layers the marker says it too; a sender that forgets E must not hold it back.
        frame_end: flags & 0x04 != 0 || marker,
        ..Descriptor::default()
    };
    let mut numbers = PictureNumbers::default();
    if flags & 0x80 != 0 {
        let (picture_id, after) = split_picture_id(rest)?;
        numbers.picture_id = Some(picture_id);
        rest = after;
    }
    if flags & 0x20 != 0 {
        let (&layer, after) = rest.split_first()?;
        rest = after;
        descriptor.temporal = layer >> 5;
        descriptor.opens_higher = layer & 0x10 != 0;
        descriptor.spatial = layer >> 1 & 0x07;
        if !flexible {
            let (&tl0, after) = rest.split_first()?;
            numbers.tl0 = Some(tl0);
            rest = after;
        }
    }
    if flexible && inter_picture {
        rest = skip_references(rest)?;
    }
    // A stream begins with the base of a picture that refers to no other; the spatial layers above
    // it have P = 0 too, but refer to that base.
    descriptor.keyframe = frame_start && !inter_picture && descriptor.spatial == 0;
    if flags & 0x02 != 0 {
        let (size, after) = scalability_structure(rest)?;
        descriptor.size = if descriptor.keyframe { size } else { None };
        rest = after;
    }
    descriptor.picture = Picture::Vp9(numbers);
    (!rest.is_empty()).then_some(descriptor)
}

fn skip_references(mut rest: &[u8]) -> Option<&[u8]> {
    for _ in 0..REFERENCES_MAX {
        let (&difference, after) = rest.split_first()?;
        rest = after;
        if difference & 1 == 0 {
            return Some(rest);
        }
    }
    None
}

/// Reads a scalability structure (RFC 9628 §4.2.1): the size of the highest spatial layer, if
/// given, and what follows.
#[expect(clippy::type_complexity, reason = "a size and the rest, used once")]
fn scalability_structure(bytes: &[u8]) -> Option<(Option<(u16, u16)>, &[u8])> {
    let (&header, mut rest) = bytes.split_first()?;
    let mut size = None;
    if header & 0x10 != 0 {
        for _ in 0..=header >> 5 {
            let [w0, w1, h0, h1] = *rest.first_chunk::<4>()?;
            size = Some((u16::from_be_bytes([w0, w1]), u16::from_be_bytes([h0, h1])));
            rest = rest.get(4..)?;
        }
    }
    if header & 0x08 != 0 {
        let (&picture_count, after) = rest.split_first()?;
        rest = after;
        for _ in 0..picture_count {
            let (&picture, after) = rest.split_first()?;
            rest = after.get(usize::from(picture >> 2 & 0x03)..)?;
        }
    }
    Some((size, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I L B E V, 15-bit id 5, TID 0 U SID 0, TL0 3, SS: 2 layers with sizes, G with one picture.
    const KEYFRAME: [u8; 18] = [
        0xae, 0x80, 0x05, 0x10, 0x03, 0x38, 0x01, 0x40, 0x00, 0xb4, 0x02, 0x80, 0x01, 0x68, 0x01,
        0x04, 0x01, 0xff,
    ];

    #[test]
    fn reads_a_keyframe_with_its_scalability_structure() {
        let descriptor = describe(&KEYFRAME, false).unwrap();
        assert_eq!(
            descriptor,
            Descriptor {
                keyframe: true,
                frame_start: true,
                frame_end: true,
                opens_higher: true,
                picture: Picture::Vp9(PictureNumbers {
                    picture_id: Some((5, true)),
                    tl0: Some(3)
                }),
                size: Some((640, 360)),
                ..Descriptor::default()
            }
        );
        for length in 0..KEYFRAME.len() {
            assert_eq!(describe(&KEYFRAME[..length], true), None, "{length}");
        }
    }

    #[test]
    fn reads_flexible_mode_with_references() {
        // I P L F E, 7-bit id, TID 1 SID 2 D, two references.
        let packet = [0xf4, 0x11, 0x25, 0x03, 0x04, 0xaa];
        let descriptor = describe(&packet, false).unwrap();
        assert_eq!((descriptor.temporal, descriptor.spatial), (1, 2));
        assert!(!descriptor.keyframe && !descriptor.frame_start && descriptor.frame_end);
        assert_eq!(
            descriptor.picture,
            Picture::Vp9(PictureNumbers {
                picture_id: Some((0x11, false)),
                tl0: None
            })
        );
        assert_eq!(
            describe(&[0xf4, 0x11, 0x25, 0x03, 0x05, 0x07, 0xaa], false),
            None
        );
    }

    #[test]
    fn a_spatial_layer_above_the_base_begins_no_stream() {
        // I L B, 7-bit id, TID 0 SID 1 D, TL0.
        let descriptor = describe(&[0xa8, 0x11, 0x03, 0x03, 0xaa], false).unwrap();
        assert!(descriptor.frame_start && !descriptor.keyframe);
        assert!(describe(&[0x88, 0x11, 0xaa], false).unwrap().keyframe);
    }
}
