//! The VP8 payload descriptor (RFC 7741 §4.2) and its rewriting.

use super::{Descriptor, Picture, PictureNumbers, split_picture_id};

/// A parsed descriptor and where the rewritable parts stand in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Layout {
    length: usize,
    numbers: PictureNumbers,
    picture_id_at: usize,
    tl0_at: usize,
    temporal: u8,
    sync: bool,
    starts_frame: bool,
}

fn parse(payload: &[u8]) -> Option<Layout> {
    let (&required, mut rest) = payload.split_first()?;
    let extended = required & 0x80 != 0;
    // A frame begins with the first packet (S) of its first partition (PID 0).
    let mut layout = Layout {
        starts_frame: required & 0x17 == 0x10,
        ..Layout::default()
    };
    if extended {
        let (&flags, after) = rest.split_first()?;
        rest = after;
        if flags & 0x80 != 0 {
            layout.picture_id_at = payload.len() - rest.len();
            let (picture_id, after) = split_picture_id(rest)?;
            layout.numbers.picture_id = Some(picture_id);
            rest = after;
        }
        if flags & 0x40 != 0 {
            layout.tl0_at = payload.len() - rest.len();
            let (&tl0, after) = rest.split_first()?;
            layout.numbers.tl0 = Some(tl0);
            rest = after;
        }
        if flags & 0x30 != 0 {
            let (&layer, after) = rest.split_first()?;
            // The byte is there for the key index too; without T its layer bits mean nothing.
            if flags & 0x20 != 0 {
                layout.temporal = layer >> 6;
                layout.sync = layer & 0x20 != 0;
            }
            rest = after;
        }
    }
    layout.length = payload.len() - rest.len();
    // A descriptor alone carries nothing.
    (!rest.is_empty()).then_some(layout)
}

/// Reads the descriptor of one VP8 packet.
pub(super) fn describe(payload: &[u8], marker: bool) -> Option<Descriptor> {
    let layout = parse(payload)?;
    let frame = payload.get(layout.length..)?;
    // RFC 6386 §9.1: the inverse key frame flag is the lowest bit of the first byte.
    let keyframe = layout.starts_frame && frame.first().is_some_and(|byte| byte & 1 == 0);
    Some(Descriptor {
        keyframe,
        frame_start: layout.starts_frame,
        frame_end: marker,
        temporal: layout.temporal,
        sync: layout.sync,
        picture: Picture::Vp8(layout.numbers),
        size: if keyframe { keyframe_size(frame) } else { None },
        ..Descriptor::default()
    })
}

/// The picture size of a keyframe (RFC 6386 §9.1): after the 3-byte tag and the start code, 14 bits each.
fn keyframe_size(frame: &[u8]) -> Option<(u16, u16)> {
    let [0x9d, 0x01, 0x2a, w0, w1, h0, h1] = *frame.get(3..10)? else {
        return None;
    };
    let width = u16::from_le_bytes([w0, w1]) & 0x3fff;
    let height = u16::from_le_bytes([h0, h1]) & 0x3fff;
    (width > 0 && height > 0).then_some((width, height))
}

/// Puts other picture numbers into the descriptor of a payload.
///
/// A picture id keeps the width the source chose (7 bits drop the upper ones), and numbers the
/// source does not carry are not added. `None` for a malformed payload, which stays as it is.
pub(crate) fn rewrite_vp8(
    payload: &mut [u8],
    picture_id: Option<u16>,
    tl0: Option<u8>,
) -> Option<()> {
    let layout = parse(payload)?;
    if let (Some(id), Some((_, wide))) = (picture_id, layout.numbers.picture_id) {
        let [high, low] = id.to_be_bytes();
        if wide {
            payload
                .get_mut(layout.picture_id_at..layout.picture_id_at + 2)?
                .copy_from_slice(&[high | 0x80, low]);
        } else {
            *payload.get_mut(layout.picture_id_at)? = low & 0x7f;
        }
    }
    if let (Some(tl0), Some(_)) = (tl0, layout.numbers.tl0) {
        *payload.get_mut(layout.tl0_at)? = tl0;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// X, S | I L T K | 15-bit id 0x1234 | TL0 7 | TID 2, Y, key index 3 | keyframe 640x360
    const KEYFRAME: [u8; 16] = [
        0x90, 0xf0, 0x92, 0x34, 0x07, 0xa3, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68,
        0x01,
    ];

    fn numbers(picture_id: Option<(u16, bool)>, tl0: Option<u8>) -> Picture {
        Picture::Vp8(PictureNumbers { picture_id, tl0 })
    }

    #[test]
    fn reads_a_keyframe_with_everything_in_it() {
        let descriptor = describe(&KEYFRAME, false).unwrap();
        assert_eq!(
            descriptor,
            Descriptor {
                keyframe: true,
                frame_start: true,
                temporal: 2,
                sync: true,
                picture: numbers(Some((0x1234, true)), Some(7)),
                size: Some((640, 360)),
                ..Descriptor::default()
            }
        );
    }

    #[test]
    fn reads_short_forms() {
        let plain = describe(&[0x10, 0x01], true).unwrap();
        assert!(plain.frame_start && plain.frame_end && !plain.keyframe);
        assert_eq!(plain.picture, numbers(None, None));
        let narrow = describe(&[0x80, 0x80, 0x15, 0x00], false).unwrap();
        assert!(!narrow.frame_start && !narrow.keyframe);
        assert_eq!(narrow.picture, numbers(Some((0x15, false)), None));
        // The second partition begins no frame.
        assert!(!describe(&[0x11, 0x00], false).unwrap().frame_start);
        // A key index without a temporal layer.
        assert_eq!(
            describe(&[0x90, 0x10, 0xff, 0x01], false).unwrap().temporal,
            0
        );
    }

    #[test]
    fn a_descriptor_cut_short_or_alone_is_refused() {
        for length in 0..=6 {
            assert_eq!(describe(&KEYFRAME[..length], true), None, "{length}");
        }
        for length in 7..KEYFRAME.len() {
            assert_eq!(
                describe(&KEYFRAME[..length], true).unwrap().size,
                None,
                "{length}"
            );
        }
    }

    #[test]
    fn rewrites_picture_numbers_in_their_own_width() {
        let mut wide = KEYFRAME;
        assert_eq!(rewrite_vp8(&mut wide, Some(0x0102), Some(9)), Some(()));
        assert_eq!(wide[..6], [0x90, 0xf0, 0x81, 0x02, 0x09, 0xa3]);
        assert_eq!(wide[6..], KEYFRAME[6..]);
        let mut narrow = [0x80, 0x80, 0x15, 0x00];
        assert_eq!(rewrite_vp8(&mut narrow, Some(0x01ff), Some(9)), Some(()));
        assert_eq!(narrow, [0x80, 0x80, 0x7f, 0x00]);
        let mut cut = *KEYFRAME.first_chunk::<6>().unwrap();
        assert_eq!(rewrite_vp8(&mut cut, Some(1), None), None);
        assert_eq!(cut, KEYFRAME[..6]);
    }

    proptest! {
        #[test]
        fn a_rewritten_descriptor_says_the_new_numbers_and_all_else_as_before(
            payload in proptest::collection::vec(any::<u8>(), 0..20), id in 0u16..0x8000, tl0: u8,
        ) {
            let mut out = payload.clone();
            let rewritten = rewrite_vp8(&mut out, Some(id), Some(tl0));
            prop_assert_eq!(rewritten.is_some(), describe(&payload, false).is_some());
            if rewritten.is_some() {
                let before = describe(&payload, false).unwrap();
                let after = describe(&out, false).unwrap();
                let Picture::Vp8(old) = before.picture else { unreachable!() };
                let expected = PictureNumbers {
                    picture_id: old.picture_id.map(|(_, wide)| (if wide { id } else { id & 0x7f }, wide)),
                    tl0: old.tl0.map(|_| tl0),
                };
                prop_assert_eq!(after, Descriptor { picture: Picture::Vp8(expected), ..before });
            }
        }
    }
}
