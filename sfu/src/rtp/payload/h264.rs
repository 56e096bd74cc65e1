//! H.264 packets (RFC 6184 §5): single NAL units, STAP-A and FU-A.

use super::Descriptor;
use super::bits::Bits;

const NAL_SLICE: u8 = 1;
const NAL_PARTITION_A: u8 = 2;
const NAL_IDR: u8 = 5;
const NAL_SPS: u8 = 7;
const NAL_DELIMITER: u8 = 9;
const NAL_STAP_A: u8 = 24;
const NAL_FU_A: u8 = 28;

/// NAL units of one aggregate that are looked at; encoders send three or four.
const AGGREGATE_MAX: usize = 16;

/// Reads the NAL headers of one H.264 packet.
///
/// H.264 has no frame marks of its own: a frame starts with a delimiter, a sequence parameter set
/// or a slice of macroblock 0, and ends with the RTP marker.
pub(super) fn describe(payload: &[u8], marker: bool) -> Option<Descriptor> {
    let (&header, rest) = payload.split_first()?;
    let mut descriptor = Descriptor {
        frame_end: marker,
        ..Descriptor::default()
    };
    match header & 0x1f {
        1..=23 => note_unit(&mut descriptor, header & 0x1f, rest),
        NAL_STAP_A => note_aggregate(&mut descriptor, rest)?,
        NAL_FU_A => {
            let (&fragment, data) = rest.split_first()?;
            if fragment & 0x80 != 0 {
                note_unit(&mut descriptor, fragment & 0x1f, data);
            }
            if data.is_empty() {
                return None;
            }
        }
        // Interleaved modes (STAP-B, MTAP, FU-B) are never negotiated; 0, 30, 31 are undefined.
        _ => return None,
    }
    Some(descriptor)
}

fn note_aggregate(descriptor: &mut Descriptor, mut rest: &[u8]) -> Option<()> {
    for _ in 0..AGGREGATE_MAX {
        let length = usize::from(u16::from_be_bytes(*rest.first_chunk::<2>()?));
        let (&header, data) = rest.get(2..2 + length)?.split_first()?;
        note_unit(descriptor, header & 0x1f, data);
        rest = rest.get(2 + length..)?;
        if rest.is_empty() {
            return Some(());
        }
    }
    Some(())
}

/// Notes what one NAL unit (its type, and its bytes after the header) says about the frame.
fn note_unit(descriptor: &mut Descriptor, kind: u8, data: &[u8]) {
    // first_mb_in_slice is the first field of a slice (§7.3.3); 0 is coded as a single 1 bit.
    let is_first_slice = data.first().is_some_and(|byte| byte & 0x80 != 0);
    match kind {
        NAL_SPS => {
            descriptor.keyframe = true;
            descriptor.frame_start = true;
            descriptor.size = picture_size(data);
        }
        NAL_IDR => {
            descriptor.keyframe |= is_first_slice;
            descriptor.frame_start |= is_first_slice;
        }
        NAL_SLICE | NAL_PARTITION_A => descriptor.frame_start |= is_first_slice,
        NAL_DELIMITER => descriptor.frame_start = true,
        _ => {}
    }
}

/// Bytes of a sequence parameter set up to the picture size: more than any real one takes.
const SPS_BYTES_MAX: usize = 96;

/// The cropped picture size in a sequence parameter set (H.264 §7.3.2.1.1), without its NAL header.
fn picture_size(sps: &[u8]) -> Option<(u16, u16)> {
    let mut buffer = [0; SPS_BYTES_MAX];
    let length = without_emulation_prevention(sps, &mut buffer);
    let mut bits = Bits::new(buffer.get(..length)?);
    let profile = bits.read_u8(8)?;
    bits.read(16)?; // constraint flags, level
    bits.exp_golomb()?; // seq_parameter_set_id
    let chroma_format = if has_chroma_fields(profile) {
        skip_chroma_fields(&mut bits)?
    } else {
        1
    };
    bits.exp_golomb()?; // log2_max_frame_num_minus4
    skip_picture_order(&mut bits)?;
    bits.exp_golomb()?; // max_num_ref_frames
    bits.flag()?; // gaps_in_frame_num_value_allowed_flag
    let width_blocks = bits.exp_golomb()?.checked_add(1)?;
    let height_units = bits.exp_golomb()?.checked_add(1)?;
    let frames_only = bits.flag()?;
    if !frames_only {
        bits.flag()?; // mb_adaptive_frame_field_flag
    }
    bits.flag()?; // direct_8x8_inference_flag
    let fields = if frames_only { 1 } else { 2 };
    let mut crop = [0u32; 4];
    if bits.flag()? {
        for side in &mut crop {
            *side = bits.exp_golomb()?;
        }
    }
    let [left, right, top, bottom] = crop;
    let unit_x = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
    let unit_y = if chroma_format == 1 {
        2 * fields
    } else {
        fields
    };
    let width = cropped(
        width_blocks.checked_mul(16)?,
        left.checked_add(right)?,
        unit_x,
    )?;
    let height = cropped(
        height_units.checked_mul(16 * fields)?,
        top.checked_add(bottom)?,
        unit_y,
    )?;
    Some((width, height))
}

fn cropped(whole: u32, crop: u32, unit: u32) -> Option<u16> {
    let size = whole.checked_sub(crop.checked_mul(unit)?)?;
    u16::try_from(size).ok().filter(|&size| size > 0)
}

/// Copies a NAL unit without its emulation prevention bytes (§7.4.1.1), as far as the buffer goes.
fn without_emulation_prevention(unit: &[u8], out: &mut [u8]) -> usize {
    let mut zeros = 0;
    let mut length = 0;
    for &byte in unit {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        let Some(place) = out.get_mut(length) else {
            break;
        };
        *place = byte;
        length += 1;
    }
    length
}

fn has_chroma_fields(profile: u8) -> bool {
    matches!(
        profile,
        100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
    )
}

/// Skips the fields of the high profiles; returns `chroma_format_idc`.
fn skip_chroma_fields(bits: &mut Bits<'_>) -> Option<u32> {
    let chroma_format = bits.exp_golomb().filter(|&format| format <= 3)?;
    if chroma_format == 3 {
        bits.flag()?; // separate_colour_plane_flag
    }
    bits.exp_golomb()?; // bit_depth_luma_minus8
    bits.exp_golomb()?; // bit_depth_chroma_minus8
    bits.flag()?; // qpprime_y_zero_transform_bypass_flag
    if bits.flag()? {
        let lists = if chroma_format == 3 { 12 } else { 8 };
        for list in 0..lists {
            if bits.flag()? {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(chroma_format)
}

fn skip_scaling_list(bits: &mut Bits<'_>, size: usize) -> Option<()> {
    let (mut last, mut next) = (8i64, 8i64);
    for _ in 0..size {
        if next != 0 {
            next = (last + bits.signed_exp_golomb()?).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

fn skip_picture_order(bits: &mut Bits<'_>) -> Option<()> {
    match bits.exp_golomb()? {
        0 => {
            bits.exp_golomb()?; // log2_max_pic_order_cnt_lsb_minus4
        }
        1 => {
            bits.flag()?; // delta_pic_order_always_zero_flag
            bits.signed_exp_golomb()?; // offset_for_non_ref_pic
            bits.signed_exp_golomb()?; // offset_for_top_to_bottom_field
            let count = bits.exp_golomb().filter(|&count| count <= 255)?;
            for _ in 0..count {
                bits.signed_exp_golomb()?; // offset_for_ref_frame
            }
        }
        2 => {}
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Constrained baseline, level 3.1, 1280x720, as an encoder writes it.
    const SPS: [u8; 11] = [
        0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xba, 0x10, 0x00,
    ];

    fn stap_a(units: &[&[u8]]) -> Vec<u8> {
        let mut packet = vec![0x78];
        for unit in units {
            packet.extend_from_slice(&u16::try_from(unit.len()).unwrap().to_be_bytes());
            packet.extend_from_slice(unit);
        }
        packet
    }

    #[test]
    fn a_parameter_set_begins_a_keyframe() {
        let single = describe(&SPS, false).unwrap();
        assert!(single.keyframe && single.frame_start && !single.frame_end);
        assert_eq!(single.size, Some((1280, 720)));
        let aggregate = describe(&stap_a(&[&[0x09, 0xf0], &SPS, &[0x68, 0xce]]), true).unwrap();
        assert!(aggregate.keyframe && aggregate.frame_end);
        assert_eq!(aggregate.size, Some((1280, 720)));
    }

    #[test]
    fn an_idr_slice_begins_one_too_but_its_continuation_does_not() {
        assert!(describe(&[0x65, 0x88, 1], false).unwrap().keyframe);
        assert!(!describe(&[0x65, 0x40, 1], false).unwrap().keyframe);
        assert!(describe(&[0x7c, 0x85, 0x88, 1], false).unwrap().keyframe);
        assert!(!describe(&[0x7c, 0x05, 0x88, 1], false).unwrap().keyframe);
        let inter = describe(&[0x61, 0x9a], true).unwrap();
        assert!(!inter.keyframe && inter.frame_start && inter.frame_end);
    }

    #[test]
    fn truncated_or_unknown_packets_are_refused() {
        let whole = stap_a(&[&SPS, &[0x68, 0xce]]);
        for length in 0..whole.len() {
            let full_units = length == 1 + 2 + SPS.len();
            assert_eq!(
                describe(&whole[..length], false).is_some(),
                full_units,
                "{length}"
            );
        }
        for kind in [0, 25, 26, 27, 29, 30, 31] {
            assert_eq!(describe(&[kind, 1, 2, 3, 4], false), None, "{kind}");
        }
        assert_eq!(describe(&[0x7c, 0x85], false), None);
        for length in 1..SPS.len() - 2 {
            assert_eq!(
                describe(&SPS[..length], false).unwrap().size,
                None,
                "{length}"
            );
        }
    }
}
