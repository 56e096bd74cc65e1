//! The dependency descriptor header extension (AOMedia, "RTP Payload Format For AV1", appendix A).
//!
//! Tells spatial and temporal layers of any codec without looking into its payload. A keyframe
//! carries the template structure that the descriptors after it refer to.

use super::Descriptor;
use super::bits::Bits;

/// Templates a structure can have: their ids have 6 bits.
const TEMPLATES_MAX: usize = 64;
/// Bytes of a descriptor that is kept; browsers send up to about 60 with a structure.
pub(crate) const DESCRIPTOR_BYTES_MAX: usize = 64;
/// What the active decode targets can add: 5 bits of flags, 32 bits of mask.
pub(crate) const ACTIVE_TARGETS_BYTES_MAX: usize = 5;
/// The mandatory fields: start, end, template id, frame number.
const MANDATORY_BYTES: usize = 3;
/// The decode target indication "switch": from this frame on the decode target can be decoded.
const INDICATION_SWITCH: u64 = 2;
const INDICATION_NOT_PRESENT: u64 = 0;

/// One frame's place in the layers, and the indication for each decode target in two bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Template {
    spatial: u8,
    temporal: u8,
    indications: u64,
}

impl Template {
    fn indication(&self, target: u32) -> u64 {
        self.indications >> (2 * target) & 3
    }
}

/// The template structure of a coded video sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Structure {
    id_offset: u8,
    template_count: u8,
    target_count: u8,
    templates: [Template; TEMPLATES_MAX],
    /// Width and height of the highest spatial layer, where given.
    pub(crate) size: Option<(u16, u16)>,
}

impl Structure {
    /// Of the decode targets in `active`, those within these layers.
    pub(crate) fn targets_within(&self, active: u32, spatial: u8, temporal: u8) -> Targets {
        let within = (0..u32::from(self.target_count))
            .filter(|&target| {
                let (target_spatial, target_temporal) = self.target_layers(target);
                target_spatial <= spatial && target_temporal <= temporal
            })
            .fold(0, |mask, target| mask | 1 << target);
        Targets {
            count: self.target_count,
            active: active & within,
            is_limited: active & within != active,
        }
    }

    /// The highest layers a decode target takes in (appendix A, `decode_target_layers`).
    fn target_layers(&self, target: u32) -> (u8, u8) {
        let count = usize::from(self.template_count);
        self.templates
            .iter()
            .take(count)
            .filter(|template| template.indication(target) != INDICATION_NOT_PRESENT)
            .fold((0, 0), |(spatial, temporal), template| {
                (
                    spatial.max(template.spatial),
                    temporal.max(template.temporal),
                )
            })
    }

    /// Whether a frame is a switch to every decode target of its spatial layer whose temporal layer
    /// is `wanted`, and there are such targets.
    fn is_switch(&self, frame: &Template, wanted: impl Fn(u8) -> bool) -> bool {
        let mut targets = (0..u32::from(self.target_count))
            .filter(|&target| {
                let (spatial, temporal) = self.target_layers(target);
                spatial == frame.spatial && wanted(temporal)
            })
            .peekable();
        targets.peek().is_some()
            && targets.all(|target| frame.indication(target) == INDICATION_SWITCH)
    }

    fn template(&self, id: u8) -> Option<&Template> {
        let index = id.wrapping_sub(self.id_offset) & 0x3f;
        self.templates
            .get(..usize::from(self.template_count))?
            .get(usize::from(index))
    }
}

/// Which decode targets of a stream a receiver still gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Targets {
    /// How many the stream has, 1 to 32.
    count: u8,
    /// A bit for each that is left.
    active: u32,
    /// Fewer than the publisher says are active.
    pub(crate) is_limited: bool,
}

/// The mandatory fields, which need no structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mandatory {
    /// First packet of a frame (of one spatial layer).
    pub(crate) frame_start: bool,
    /// Last packet of a frame (of one spatial layer).
    pub(crate) frame_end: bool,
    /// Which template the frame follows.
    pub(crate) template_id: u8,
    /// Counts frames over all layers of the stream.
    pub(crate) frame_number: u16,
}

/// A parsed dependency descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DependencyDescriptor {
    /// What stands in every descriptor.
    pub(crate) mandatory: Mandatory,
    /// The structure that comes with it: store it, later descriptors need it.
    pub(crate) structure: Option<Structure>,
    /// The frame's spatial layer.
    pub(crate) spatial: u8,
    /// The frame's temporal layer.
    pub(crate) temporal: u8,
    /// A receiver of lower layers can take up this frame's layers here.
    pub(crate) switch: bool,
    /// A receiver of this frame can take up every higher temporal layer from here.
    pub(crate) opens_higher: bool,
    /// The decode targets the publisher says are active, when it says so.
    pub(crate) active_targets: Option<u32>,
}

impl DependencyDescriptor {
    /// Carries what the extension says over into what the payload says.
    pub(crate) fn apply(&self, descriptor: &mut Descriptor) {
        descriptor.spatial = self.spatial;
        descriptor.temporal = self.temporal;
        descriptor.sync |= self.switch;
        descriptor.opens_higher |= self.opens_higher;
        descriptor.frame_start = self.mandatory.frame_start;
        descriptor.frame_end = self.mandatory.frame_end;
        descriptor.keyframe &= self.spatial == 0;
        if let Some(structure) = &self.structure {
            descriptor.size = structure.size.or(descriptor.size);
        }
    }
}

/// Reads the mandatory fields; `None` when there are fewer than three bytes.
pub(crate) fn parse_mandatory(extension: &[u8]) -> Option<Mandatory> {
    let [flags, high, low] = *extension.first_chunk::<MANDATORY_BYTES>()?;
    Some(Mandatory {
        frame_start: flags & 0x80 != 0,
        frame_end: flags & 0x40 != 0,
        template_id: flags & 0x3f,
        frame_number: u16::from_be_bytes([high, low]),
    })
}

/// Reads a whole descriptor.
///
/// `stored` is the last structure of this stream. `None` when it is malformed, or refers to a
/// template that neither `stored` nor its own structure has.
pub(crate) fn parse(extension: &[u8], stored: Option<&Structure>) -> Option<DependencyDescriptor> {
    let mandatory = parse_mandatory(extension)?;
    let mut bits = Bits::new(extension);
    bits.read(24)?;
    let flags = ExtendedFlags::parse(&mut bits, extension.len())?;
    let structure = if flags.structure {
        Some(parse_structure(&mut bits)?)
    } else {
        None
    };
    let known = structure.as_ref().or(stored)?;
    let mut active_targets = structure.as_ref().map(|known| mask_of(known.target_count));
    if flags.active_targets {
        active_targets = Some(bits.read(u32::from(known.target_count))?);
    }
    let mut template = *known.template(mandatory.template_id)?;
    if flags.custom_indications {
        template.indications = parse_indications(&mut bits, known.target_count)?;
    }
    Some(DependencyDescriptor {
        mandatory,
        structure,
        spatial: template.spatial,
        temporal: template.temporal,
        switch: known.is_switch(&template, |temporal| temporal == template.temporal),
        opens_higher: known.is_switch(&template, |temporal| temporal > template.temporal),
        active_targets,
    })
}

/// Gives a descriptor another frame number; false when it is too short to have one.
pub(crate) fn rewrite_frame_number(extension: &mut [u8], frame_number: u16) -> bool {
    let Some(place) = extension.get_mut(1..MANDATORY_BYTES) else {
        return false;
    };
    place.copy_from_slice(&frame_number.to_be_bytes());
    true
}

/// Writes a descriptor anew with other active decode targets; its new length.
///
/// The result is up to [`ACTIVE_TARGETS_BYTES_MAX`] bytes longer; over 16 bytes it needs the two-byte
/// form of header extensions. `None` for a malformed descriptor, one that brings a structure with
/// another number of decode targets, or too small an `out`.
pub(crate) fn rewrite_active_targets(
    extension: &[u8],
    targets: Targets,
    out: &mut [u8],
) -> Option<usize> {
    let mut bits = Bits::new(extension);
    let mut writer = BitWriter::new(out);
    writer.put(24, bits.read(24)?)?;
    let is_extended = extension.len() > MANDATORY_BYTES;
    let flags = if is_extended { bits.read(5)? } else { 0 };
    writer.put(5, flags | 0x08)?;
    let target_count = targets.count;
    if flags & 0x10 != 0 {
        let mut ahead = bits.clone();
        let structure = parse_structure(&mut ahead)?;
        if structure.target_count != target_count {
            return None;
        }
        while bits.position() < ahead.position() {
            writer.put(1, bits.read(1)?)?;
        }
    }
    if flags & 0x08 != 0 {
        bits.read(u32::from(target_count))?;
    }
    writer.put(u32::from(target_count), targets.active)?;
    // Custom indications, differences and chains, and the padding behind them.
    while let Some(bit) = bits.read(1) {
        writer.put(1, bit)?;
    }
    Some(writer.position.div_ceil(8))
}

/// Writes fields of bits over whatever stood in a slice.
struct BitWriter<'a> {
    out: &'a mut [u8],
    position: usize,
}

impl<'a> BitWriter<'a> {
    fn new(out: &'a mut [u8]) -> Self {
        Self { out, position: 0 }
    }

    fn put(&mut self, width: u32, value: u32) -> Option<()> {
        for bit in (0..width).rev() {
            let byte = self.out.get_mut(self.position / 8)?;
            if self.position.is_multiple_of(8) {
                *byte = 0;
            }
            if value >> bit & 1 == 1 {
                *byte |= 0x80 >> (self.position % 8);
            }
            self.position += 1;
        }
        Some(())
    }
}

/// Which optional parts a descriptor has (`extended_descriptor_fields`).
#[derive(Clone, Copy, Debug, Default)]
struct ExtendedFlags {
    structure: bool,
    active_targets: bool,
    custom_indications: bool,
}

impl ExtendedFlags {
    fn parse(bits: &mut Bits<'_>, length: usize) -> Option<Self> {
        if length <= MANDATORY_BYTES {
            return Some(Self::default());
        }
        let flags = bits.read(5)?;
        Some(Self {
            structure: flags & 0x10 != 0,
            active_targets: flags & 0x08 != 0,
            custom_indications: flags & 0x04 != 0,
        })
    }
}

fn mask_of(target_count: u8) -> u32 {
    u32::MAX
        .checked_shr(u32::BITS.saturating_sub(u32::from(target_count)))
        .unwrap_or(0)
}

fn parse_structure(bits: &mut Bits<'_>) -> Option<Structure> {
    let id_offset = bits.read_u8(6)?;
    let target_count = bits.read_u8(5)? + 1;
    let mut structure = Structure {
        id_offset,
        template_count: 0,
        target_count,
        templates: [Template::default(); TEMPLATES_MAX],
        size: None,
    };
    let highest_spatial = parse_template_layers(bits, &mut structure)?;
    let count = usize::from(structure.template_count);
    for template in structure.templates.iter_mut().take(count) {
        template.indications = parse_indications(bits, target_count)?;
    }
    for _ in 0..count {
        // Frame differences: a flag before each, four bits of value.
        while bits.flag()? {
            bits.read(4)?;
        }
    }
    skip_chains(bits, count, target_count)?;
    if bits.flag()? {
        for _ in 0..=highest_spatial {
            let width = bits.read(16)?.checked_add(1)?;
            let height = bits.read(16)?.checked_add(1)?;
            structure.size = u16::try_from(width).ok().zip(u16::try_from(height).ok());
        }
    }
    Some(structure)
}

/// Reads the layers of all templates; returns the highest spatial layer.
fn parse_template_layers(bits: &mut Bits<'_>, structure: &mut Structure) -> Option<u8> {
    let (mut spatial, mut temporal) = (0u8, 0u8);
    for template in &mut structure.templates {
        *template = Template {
            spatial,
            temporal,
            indications: 0,
        };
        structure.template_count += 1;
        match bits.read(2)? {
            0 => {}
            1 => temporal += 1,
            2 => {
                temporal = 0;
                spatial += 1;
            }
            _ => return Some(spatial),
        }
        // Appendix A: spatial ids have 2 bits of meaning, temporal ids 3.
        if spatial > 3 || temporal > 7 {
            return None;
        }
    }
    None
}

fn parse_indications(bits: &mut Bits<'_>, target_count: u8) -> Option<u64> {
    let mut indications = 0;
    for target in 0..u32::from(target_count) {
        indications |= u64::from(bits.read(2)?) << (2 * target);
    }
    Some(indications)
}

fn skip_chains(bits: &mut Bits<'_>, template_count: usize, target_count: u8) -> Option<()> {
    let chain_count = bits.non_symmetric(u32::from(target_count) + 1)?;
    if chain_count == 0 {
        return Some(());
    }
    for _ in 0..target_count {
        bits.non_symmetric(chain_count)?;
    }
    for _ in 0..template_count {
        for _ in 0..chain_count {
            bits.read(4)?;
        }
    }
    Some(())
}

#[cfg(test)]
pub(crate) mod tests;
