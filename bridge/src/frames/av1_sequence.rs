//! AV1's sequence header (AV1 §5.5): what a decoder must know before the first frame.

use bytes::{BufMut, Bytes};

use super::bits::Bits;
use super::{FrameError, picture_size};
use crate::media::{VideoCodec, VideoConfig};

/// What of a sequence header is in the configuration.
#[derive(Debug)]
pub(super) struct Sequence {
    /// Only still pictures follow, whose headers are shorter.
    pub(super) is_reduced: bool,
    profile: u8,
    level: u8,
    tier: bool,
    width: u32,
    height: u32,
    colour: Colour,
}

#[derive(Debug)]
struct Colour {
    is_high_depth: bool,
    is_twelve_bit: bool,
    is_monochrome: bool,
    subsampling: (bool, bool),
    sample_position: u8,
}

impl Sequence {
    /// `None`: broken, or cut short.
    pub(super) fn read(header: &[u8]) -> Option<Self> {
        let mut bits = Bits::new(header);
        let profile = bits.read_u8(3).filter(|profile| *profile <= 2)?;
        bits.flag()?; // still_picture
        let is_reduced = bits.flag()?;
        let (level, tier) = if is_reduced {
            (bits.read_u8(5)?, false)
        } else {
            read_operating_points(&mut bits)?
        };
        let width_bits = bits.read(4)? + 1;
        let height_bits = bits.read(4)? + 1;
        let width = bits.read(width_bits)? + 1;
        let height = bits.read(height_bits)? + 1;
        if !is_reduced && bits.flag()? {
            bits.read(7)?; // lengths of frame ids
        }
        bits.read(3)?; // 128x128 superblocks, filter intra, intra edge filter
        if !is_reduced {
            skip_inter_tools(&mut bits)?;
        }
        bits.read(3)?; // superres, cdef, restoration
        Some(Self {
            is_reduced,
            profile,
            level,
            tier,
            width,
            height,
            colour: Colour::read(&mut bits, profile)?,
        })
    }

    /// The configuration with this header, which is given as a whole OBU with its size.
    pub(super) fn config(&self, obu: &[u8]) -> Result<VideoConfig, FrameError> {
        let (width, height) = picture_size(self.width, self.height)?;
        let Self { profile, level, .. } = *self;
        let colour = &self.colour;
        let depth = match (colour.is_high_depth, colour.is_twelve_bit) {
            (false, _) => 8,
            (true, false) => 10,
            (true, true) => 12,
        };
        // AV1 Codec ISO Media File Format Binding §2.3.
        let mut record = vec![0x81, profile << 5 | level];
        record.put_u8(
            u8::from(self.tier) << 7
                | u8::from(colour.is_high_depth) << 6
                | u8::from(colour.is_twelve_bit) << 5
                | u8::from(colour.is_monochrome) << 4
                | u8::from(colour.subsampling.0) << 3
                | u8::from(colour.subsampling.1) << 2
                | colour.sample_position,
        );
        record.put_u8(0); // no initial presentation delay
        record.put_slice(obu);
        let tier = if self.tier { 'H' } else { 'M' };
        Ok(VideoConfig {
            codec: VideoCodec::Av1,
            width,
            height,
            record: Bytes::from(record),
            name: format!("av01.{profile}.{level:02}{tier}.{depth:02}"),
        })
    }
}

/// The level and tier of the first operating point: all layers.
fn read_operating_points(bits: &mut Bits<'_>) -> Option<(u8, bool)> {
    let mut delay_bits = None;
    if bits.flag()? {
        bits.read(32)?; // num_units_in_display_tick
        bits.read(32)?; // time_scale
        if bits.flag()? {
            bits.exp_golomb()?; // num_ticks_per_picture_minus_1
        }
        if bits.flag()? {
            delay_bits = Some(bits.read(5)? + 1);
            bits.read(32)?; // num_units_in_decoding_tick
            bits.read(10)?; // lengths of two more delays
        }
    }
    let has_display_delay = bits.flag()?;
    let mut first = None;
    for _ in 0..=bits.read(5)? {
        bits.read(12)?; // operating_point_idc
        let level = bits.read_u8(5)?;
        let tier = level > 7 && bits.flag()?;
        first.get_or_insert((level, tier));
        if let Some(delay_bits) = delay_bits
            && bits.flag()?
        {
            bits.read(delay_bits)?;
            bits.read(delay_bits)?;
            bits.flag()?; // low_delay_mode_flag
        }
        if has_display_delay && bits.flag()? {
            bits.read(4)?;
        }
    }
    first
}

fn skip_inter_tools(bits: &mut Bits<'_>) -> Option<()> {
    bits.read(4)?; // interintra and masked compound, warped motion, dual filter
    let has_order_hint = bits.flag()?;
    if has_order_hint {
        bits.read(2)?; // joint compound, reference motion vectors
    }
    let chooses_screen_tools = bits.flag()?;
    let has_screen_tools = chooses_screen_tools || bits.flag()?;
    if has_screen_tools && !bits.flag()? {
        bits.flag()?; // seq_force_integer_mv
    }
    if has_order_hint {
        bits.read(3)?; // order_hint_bits_minus_1
    }
    Some(())
}

impl Colour {
    fn read(bits: &mut Bits<'_>, profile: u8) -> Option<Self> {
        let is_high_depth = bits.flag()?;
        let is_twelve_bit = profile == 2 && is_high_depth && bits.flag()?;
        let is_monochrome = profile != 1 && bits.flag()?;
        let mut description = [2, 2, 2];
        if bits.flag()? {
            for field in &mut description {
                *field = bits.read_u8(8)?;
            }
        }
        let mut colour = Self {
            is_high_depth,
            is_twelve_bit,
            is_monochrome,
            subsampling: (true, true),
            sample_position: 0,
        };
        if is_monochrome {
            bits.flag()?; // color_range
            return Some(colour);
        }
        if description == RGB {
            colour.subsampling = (false, false);
            return Some(colour);
        }
        bits.flag()?; // color_range
        colour.subsampling = match profile {
            0 => (true, true),
            1 => (false, false),
            _ if is_twelve_bit => {
                let x = bits.flag()?;
                (x, x && bits.flag()?)
            }
            _ => (true, false),
        };
        if colour.subsampling == (true, true) {
            colour.sample_position = bits.read_u8(2)?;
        }
        Some(colour)
    }
}

/// BT.709 primaries, sRGB transfer, identity matrix: colour is not sampled down.
const RGB: [u8; 3] = [1, 13, 0];
