//! The NAL units of a card: constrained baseline, CAVLC, no residual, no deblocking.

use super::bit_writer::BitWriter;
use super::drawing::{CHROMA, Drawing, Macroblock};

/// A sequence parameter set with its NAL header (H.264 §7.3.2.1.1).
pub(super) fn sequence_set(width: u16, height: u16) -> Vec<u8> {
    let columns = u32::from(width.div_ceil(16));
    let rows = u32::from(height.div_ceil(16));
    let mut bits = BitWriter::default();
    bits.put(66, 8); // baseline
    bits.put(0b1100_0000, 8); // and constrained
    bits.put(level(columns * rows), 8);
    bits.exp_golomb(0); // seq_parameter_set_id
    bits.exp_golomb(FRAME_NUM_BITS - 4);
    bits.exp_golomb(2); // pic_order_cnt_type: shown as decoded
    bits.exp_golomb(1); // max_num_ref_frames
    bits.put(0, 1); // gaps_in_frame_num_value_allowed_flag
    bits.exp_golomb(columns - 1);
    bits.exp_golomb(rows - 1);
    bits.put(1, 1); // frame_mbs_only_flag
    bits.put(1, 1); // direct_8x8_inference_flag
    let right = (columns * 16 - u32::from(width)) / 2;
    let bottom = (rows * 16 - u32::from(height)) / 2;
    bits.put(u32::from(right + bottom > 0), 1);
    if right + bottom > 0 {
        bits.exp_golomb(0);
        bits.exp_golomb(right);
        bits.exp_golomb(0);
        bits.exp_golomb(bottom);
    }
    bits.put(0, 1); // vui_parameters_present_flag
    bits.finish(0x67)
}

/// The picture parameter set with its NAL header (§7.3.2.2).
pub(super) fn picture_set() -> Vec<u8> {
    let mut bits = BitWriter::default();
    bits.exp_golomb(0); // pic_parameter_set_id
    bits.exp_golomb(0); // seq_parameter_set_id
    bits.put(0, 1); // entropy_coding_mode_flag: CAVLC
    bits.put(0, 1); // bottom_field_pic_order_in_frame_present_flag
    bits.exp_golomb(0); // num_slice_groups_minus1
    bits.exp_golomb(0); // num_ref_idx_l0_default_active_minus1
    bits.exp_golomb(0); // num_ref_idx_l1_default_active_minus1
    bits.put(0, 3); // weighted_pred_flag, weighted_bipred_idc
    bits.exp_golomb(0); // pic_init_qp_minus26
    bits.exp_golomb(0); // pic_init_qs_minus26
    bits.exp_golomb(0); // chroma_qp_index_offset
    bits.put(1, 1); // deblocking_filter_control_present_flag
    bits.put(0, 2); // constrained_intra_pred_flag, redundant_pic_cnt_present_flag
    bits.finish(0x68)
}

/// A keyframe with its NAL header.
pub(super) fn keyframe(drawing: &Drawing, id: u32) -> Vec<u8> {
    let mut bits = BitWriter::default();
    bits.exp_golomb(0); // first_mb_in_slice
    bits.exp_golomb(SLICES_I);
    bits.exp_golomb(0); // pic_parameter_set_id
    bits.put(0, FRAME_NUM_BITS);
    bits.exp_golomb(id); // idr_pic_id
    bits.put(0, 2); // no_output_of_prior_pics_flag, long_term_reference_flag
    bits.exp_golomb(0); // slice_qp_delta
    bits.exp_golomb(1); // disable_deblocking_filter_idc
    let mut coded: Vec<Macroblock> = Vec::new();
    for place in drawing.places() {
        let macroblock = drawing.macroblock(place);
        match macroblock {
            Macroblock::Raw => put_raw(&mut bits, drawing.samples(place)),
            Macroblock::LikeAbove | Macroblock::LikeLeft => {
                let left = drawing.index_left(place).and_then(|index| coded.get(index));
                let above = drawing
                    .index_above(place)
                    .and_then(|index| coded.get(index));
                put_predicted(&mut bits, macroblock, [left, above]);
            }
        }
        coded.push(macroblock);
    }
    bits.finish(0x65)
}

/// A picture that is the one before, with its NAL header.
pub(super) fn repetition(macroblocks: u32, since_keyframe: u64) -> Vec<u8> {
    let frame_num = since_keyframe % (1 << FRAME_NUM_BITS);
    let mut bits = BitWriter::default();
    bits.exp_golomb(0); // first_mb_in_slice
    bits.exp_golomb(SLICES_P);
    bits.exp_golomb(0); // pic_parameter_set_id
    bits.put(u32::try_from(frame_num).unwrap_or_default(), FRAME_NUM_BITS);
    bits.put(0, 1); // num_ref_idx_active_override_flag
    bits.put(0, 1); // ref_pic_list_modification_flag_l0
    bits.put(0, 1); // adaptive_ref_pic_marking_mode_flag
    bits.exp_golomb(0); // slice_qp_delta
    bits.exp_golomb(1); // disable_deblocking_filter_idc
    bits.exp_golomb(macroblocks); // mb_skip_run
    bits.finish(0x61)
}

/// A macroblock of raw samples (§7.3.5).
fn put_raw(bits: &mut BitWriter, samples: [u8; 256]) {
    bits.exp_golomb(25); // I_PCM
    bits.align();
    bits.put_bytes(samples);
    for chroma in CHROMA {
        bits.put_bytes([chroma; 64]);
    }
}

/// A macroblock that goes on with a neighbour's last row or column: `I_16x16` without residual.
fn put_predicted(bits: &mut BitWriter, like: Macroblock, neighbours: [Option<&Macroblock>; 2]) {
    let (luma, chroma) = match like {
        Macroblock::LikeLeft => (1, 1),
        _ => (0, 2),
    };
    bits.exp_golomb(1 + luma); // mb_type: this prediction, no coefficients but DC
    bits.exp_golomb(chroma); // intra_chroma_pred_mode
    bits.exp_golomb(0); // mb_qp_delta
    // coeff_token of no coefficients at all, whose length depends on how many the neighbours have
    // (§9.2.1): 16 if raw, otherwise none; on average if there are both.
    let counts = neighbours.into_iter().flatten();
    let counts = counts.map(|neighbour| if *neighbour == Macroblock::Raw { 16 } else { 0 });
    let (sum, known) = counts.fold((0, 0), |(sum, known), count| (sum + count, known + 1));
    match if known == 2 { (sum + 1) / 2 } else { sum } {
        0..2 => bits.put(0b1, 1),
        2..4 => bits.put(0b11, 2),
        4..8 => bits.put(0b1111, 4),
        _ => bits.put(0b00_0011, 6),
    }
}

/// The lowest level from 3 on that has such pictures (table A-1): ten times its number.
fn level(macroblocks: u32) -> u32 {
    match macroblocks {
        0..=1620 => 30,
        1621..=3600 => 31,
        3601..=5120 => 32,
        _ => 40,
    }
}

const FRAME_NUM_BITS: u32 = 4;
/// All slices of the picture are of this kind (table 7-6).
const SLICES_P: u32 = 5;
const SLICES_I: u32 = 7;
