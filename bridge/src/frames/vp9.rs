//! VP9 in RTP (RFC 9628), with as many spatial layers of a picture as come.

use bytes::{BufMut, Bytes};

use super::bits::Bits;
use super::{FrameError, Picture, picture_size};
use crate::media::{VideoCodec, VideoConfig};

/// Puts one picture together.
///
/// More than one spatial layer makes a superframe (VP9 bitstream specification, annex B): one
/// sample with an index behind its frames.
pub(super) fn assemble(payloads: &[Bytes]) -> Result<Option<Picture>, FrameError> {
    let length = payloads.iter().map(Bytes::len).sum();
    let mut data = Vec::with_capacity(length);
    let mut layers: Vec<Layer> = Vec::new();
    let mut sizes = Vec::new();
    for payload in payloads {
        let packet = Descriptor::split(payload).ok_or(FrameError::CutShort)?;
        if packet.is_beginning {
            if layers.len() == LAYERS_MAX {
                return Err(FrameError::Fragments);
            }
            layers.push(Layer {
                spatial: packet.spatial,
                begin: data.len(),
            });
        } else if layers
            .last()
            .is_none_or(|layer| layer.spatial != packet.spatial)
        {
            return Err(FrameError::Beginning);
        }
        if let Some(announced) = packet.sizes {
            sizes = announced;
        }
        data.put_slice(packet.part);
    }
    let header = Header::read(&data).ok_or(FrameError::Header)?;
    let config = header.config(layers.last(), &sizes).transpose()?;
    if layers.len() > 1 {
        put_index(&mut data, &layers)?;
    }
    Ok(Some(Picture {
        is_key: config.is_some(),
        config,
        data: data.into(),
    }))
}

/// The frame of one spatial layer.
struct Layer {
    spatial: u8,
    begin: usize,
}

/// Appends the index of a superframe.
fn put_index(data: &mut Vec<u8>, layers: &[Layer]) -> Result<(), FrameError> {
    let count = u8::try_from(layers.len()).map_err(|_| FrameError::Fragments)?;
    let end = data.len();
    let ends = layers.iter().skip(1).map(|layer| layer.begin).chain([end]);
    let sizes: Vec<usize> = layers
        .iter()
        .zip(ends)
        .map(|(layer, end)| end - layer.begin)
        .collect();
    // Sizes take 4 bytes each.
    let marker = 0b1100_0000 | 3 << 3 | (count - 1);
    data.put_u8(marker);
    for size in sizes {
        data.put_u32_le(u32::try_from(size).map_err(|_| FrameError::TooLarge)?);
    }
    data.put_u8(marker);
    Ok(())
}

/// What a packet's descriptor says (RFC 9628 §4.2), and what follows it.
struct Descriptor<'a> {
    is_beginning: bool,
    spatial: u8,
    /// The sizes of all spatial layers, lowest first, where they are announced.
    sizes: Option<Vec<(u16, u16)>>,
    part: &'a [u8],
}

impl<'a> Descriptor<'a> {
    fn split(payload: &'a [u8]) -> Option<Self> {
        let (&flags, mut rest) = payload.split_first()?;
        let is_flexible = flags & 0x10 != 0;
        let mut spatial = 0;
        if flags & 0x80 != 0 {
            let (&picture_id, after) = rest.split_first()?;
            rest = if picture_id & 0x80 == 0 {
                after
            } else {
                after.get(1..)?
            };
        }
        if flags & 0x20 != 0 {
            let (&layer, after) = rest.split_first()?;
            spatial = layer >> 1 & 7;
            rest = if is_flexible { after } else { after.get(1..)? };
        }
        if is_flexible && flags & 0x40 != 0 {
            rest = skip_references(rest)?;
        }
        let mut sizes = None;
        if flags & 0x02 != 0 {
            (sizes, rest) = split_structure(rest)?;
        }
        Some(Self {
            is_beginning: flags & 0x08 != 0,
            spatial,
            sizes,
            part: rest,
        })
    }
}

/// At most three, of which all but the last say that another one follows.
fn skip_references(mut rest: &[u8]) -> Option<&[u8]> {
    for _ in 0..3 {
        let (&difference, after) = rest.split_first()?;
        rest = after;
        if difference & 1 == 0 {
            return Some(rest);
        }
    }
    None
}

/// The sizes in a scalability structure (RFC 9628 §4.2.1), and what follows it.
#[expect(clippy::type_complexity, reason = "sizes and the rest, used once")]
fn split_structure(bytes: &[u8]) -> Option<(Option<Vec<(u16, u16)>>, &[u8])> {
    let (&header, mut rest) = bytes.split_first()?;
    let mut sizes = None;
    if header & 0x10 != 0 {
        let sizes = sizes.get_or_insert_with(Vec::new);
        for _ in 0..=header >> 5 {
            let ([w0, w1, h0, h1], after) = rest.split_first_chunk()?;
            sizes.push((
                u16::from_be_bytes([*w0, *w1]),
                u16::from_be_bytes([*h0, *h1]),
            ));
            rest = after;
        }
    }
    if header & 0x08 != 0 {
        let (&picture_count, after) = rest.split_first()?;
        rest = after;
        for _ in 0..picture_count {
            let (&picture, after) = rest.split_first()?;
            rest = after.get(usize::from(picture >> 2 & 3)..)?;
        }
    }
    Some((sizes, rest))
}

/// The beginning of an uncompressed header (VP9 bitstream specification §6.2).
enum Header {
    Key(Key),
    Other,
}

struct Key {
    profile: u8,
    depth: u8,
    /// As in the `vpcC` box.
    subsampling: u8,
    is_full_range: bool,
    matrix: u8,
    width: u32,
    height: u32,
}

impl Header {
    /// `None`: broken, or cut short.
    fn read(frame: &[u8]) -> Option<Self> {
        let mut bits = Bits::new(frame);
        if bits.read(2)? != 2 {
            return None;
        }
        let profile = u8::from(bits.flag()?) | u8::from(bits.flag()?) << 1;
        if profile == 3 && bits.flag()? {
            return None;
        }
        let shows_existing = bits.flag()?;
        if shows_existing || bits.flag()? {
            return Some(Self::Other);
        }
        bits.read(2)?; // show_frame, error_resilient_mode
        if bits.read(24)? != 0x49_83_42 {
            return None;
        }
        let depth = match profile >= 2 {
            true if bits.flag()? => 12,
            true => 10,
            false => 8,
        };
        let space = bits.read_u8(3)?;
        let (is_full_range, subsampling) = sampling(&mut bits, profile, space)?;
        Some(Self::Key(Key {
            profile,
            depth,
            subsampling,
            is_full_range,
            matrix: matrix(space),
            width: bits.read(16)? + 1,
            height: bits.read(16)? + 1,
        }))
    }

    /// The configuration of a keyframe whose highest layer is this one.
    fn config(
        &self,
        highest: Option<&Layer>,
        sizes: &[(u16, u16)],
    ) -> Option<Result<VideoConfig, FrameError>> {
        let Self::Key(key) = self else {
            return None;
        };
        // The layers above the base are no keyframes of their own and do not tell their size.
        let announced = highest.filter(|layer| layer.spatial > 0);
        let announced = announced.and_then(|layer| sizes.get(usize::from(layer.spatial)));
        let (width, height) = match announced {
            Some((width, height)) => (u32::from(*width), u32::from(*height)),
            None => (key.width, key.height),
        };
        Some(picture_size(width, height).map(|(width, height)| key.config(width, height)))
    }
}

impl Key {
    fn config(&self, width: u16, height: u16) -> VideoConfig {
        let Self { profile, depth, .. } = *self;
        let level = level(width, height);
        let flags = depth << 4 | self.subsampling << 1 | u8::from(self.is_full_range);
        // Primaries and transfer are not in the stream; 2 stands for unknown.
        VideoConfig {
            codec: VideoCodec::Vp9,
            width,
            height,
            record: vp_record([profile, level, flags], [2, 2, self.matrix]),
            name: format!("vp09.{profile:02}.{level:02}.{depth:02}"),
        }
    }
}

/// Whether all values are used, and how colour is sampled as in the `vpcC` box.
fn sampling(bits: &mut Bits<'_>, profile: u8, space: u8) -> Option<(bool, u8)> {
    let has_fields = profile & 1 == 1;
    if space == SPACE_RGB {
        // Only where colour is not sampled down; a reserved bit follows.
        return (has_fields && !bits.flag()?).then_some((true, 3));
    }
    let is_full_range = bits.flag()?;
    if !has_fields {
        return Some((is_full_range, 1));
    }
    let (x, y, reserved) = (bits.flag()?, bits.flag()?, bits.flag()?);
    let subsampling = match (x, y) {
        (false, false) => 3,
        (true, false) => 2,
        _ => return None,
    };
    (!reserved).then_some((is_full_range, subsampling))
}

/// The matrix coefficients (ITU-T H.273 §8.3) of a colour space.
fn matrix(space: u8) -> u8 {
    match space {
        1 => 6,
        2 => 1,
        3 => 6,
        4 => 7,
        5 => 9,
        SPACE_RGB => 0,
        _ => 2,
    }
}

/// The lowest level for pictures of this size (VP9 levels, webmproject.org): ten times its number.
fn level(width: u16, height: u16) -> u8 {
    let samples = u32::from(width) * u32::from(height);
    let levels = [
        (36_864, 10),
        (73_728, 11),
        (122_880, 20),
        (245_760, 21),
        (552_960, 30),
        (983_040, 31),
        (2_228_224, 40),
        (8_912_896, 50),
    ];
    let mut fitting = levels
        .iter()
        .filter(|(samples_max, _)| samples <= *samples_max);
    fitting.next().map_or(60, |(_, level)| *level)
}

/// The body of a `vpcC` box (VP Codec ISO Media File Format Binding §2.2): version 1 and no flags,
/// then the record.
pub(super) fn vp_record(profile: [u8; 3], colour: [u8; 3]) -> Bytes {
    let mut record = vec![1, 0, 0, 0];
    record.put_slice(&profile);
    record.put_slice(&colour);
    record.put_u16(0); // initialisation data, which has no use in VP8 and VP9
    record.into()
}

/// A superframe has no more.
const LAYERS_MAX: usize = 8;
const SPACE_RGB: u8 = 7;
