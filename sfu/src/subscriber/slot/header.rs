//! The RTP header of a slot's packets: built once, patched for each packet.
#![warn(clippy::indexing_slicing)]

use crate::ids::Mid;
use crate::peer::negotiation::Extension;
use crate::rtp::{HEADER_BYTES, HeaderFields};

/// The ids under which a slot's extensions go out; a closed list (rule 8 of the data plane).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SlotExtensions {
    pub(crate) mid: Option<u8>,
    pub(crate) transport_wide: Option<u8>,
    pub(crate) abs_send_time: Option<u8>,
    pub(crate) audio_level: Option<u8>,
    pub(crate) dependency_descriptor: Option<u8>,
}

impl SlotExtensions {
    /// Takes the ids from a negotiated section.
    pub(crate) fn new(negotiated: &[(u8, Extension)]) -> Self {
        let id_of = |wanted| {
            negotiated
                .iter()
                .find(|(_, e)| *e == wanted)
                .map(|(id, _)| *id)
        };
        Self {
            mid: id_of(Extension::Mid),
            transport_wide: id_of(Extension::TransportWide),
            abs_send_time: id_of(Extension::AbsSendTime),
            audio_level: id_of(Extension::AudioLevel),
            dependency_descriptor: id_of(Extension::DependencyDescriptor),
        }
    }
}

/// What differs from packet to packet; what the receiver did not negotiate is left out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PacketExtensions<'a> {
    pub(super) transport_wide: u16,
    /// Seconds in 6.18 fixed point.
    pub(super) send_time: [u8; 3],
    pub(super) audio_level: Option<u8>,
    /// Empty for none.
    pub(super) dependency_descriptor: &'a [u8],
}

/// Writes a slot's headers.
#[derive(Clone, Debug)]
pub(super) struct SlotHeader {
    one_byte: Template,
    two_byte: Template,
    /// Some id does not fit the one-byte form (RFC 8285 §4.2).
    needs_two_bytes: bool,
    audio_level: Option<u8>,
    dependency_descriptor: Option<u8>,
}

impl SlotHeader {
    /// Prepares the headers of a slot with this mid.
    pub(super) fn new(extensions: SlotExtensions, mid: Mid) -> Self {
        let SlotExtensions {
            audio_level,
            dependency_descriptor,
            transport_wide,
            abs_send_time,
            ..
        } = extensions;
        let ids = [
            extensions.mid,
            transport_wide,
            abs_send_time,
            audio_level,
            dependency_descriptor,
        ];
        Self {
            one_byte: Template::new(Form::OneByte, extensions, mid).unwrap_or_default(),
            two_byte: Template::new(Form::TwoByte, extensions, mid).unwrap_or_default(),
            needs_two_bytes: ids.iter().flatten().any(|id| *id > 14),
            audio_level,
            dependency_descriptor,
        }
    }

    /// Writes the header of one packet into `out` and returns its length.
    ///
    /// `None`: `out` is too small. Allocation-free; called once per packet and subscription.
    pub(super) fn write(
        &self,
        fields: &HeaderFields,
        values: &PacketExtensions<'_>,
        out: &mut [u8],
    ) -> Option<usize> {
        let descriptor = values.dependency_descriptor;
        let descriptor_id = self
            .dependency_descriptor
            .filter(|_| !descriptor.is_empty());
        let is_long = descriptor_id.is_some() && descriptor.len() > 16;
        let (template, form) = match self.needs_two_bytes || is_long {
            true => (&self.two_byte, Form::TwoByte),
            false => (&self.one_byte, Form::OneByte),
        };
        let (fixed, block) = out.split_first_chunk_mut::<HEADER_BYTES>()?;
        *block.first_chunk_mut::<TEMPLATE_BYTES>()? = template.bytes;
        if let Some(at) = template.transport_wide_at {
            let number = values.transport_wide.to_be_bytes();
            *block.get_mut(usize::from(at)..)?.first_chunk_mut()? = number;
        }
        if let Some(at) = template.send_time_at {
            *block.get_mut(usize::from(at)..)?.first_chunk_mut()? = values.send_time;
        }
        let mut used = usize::from(template.length);
        if let (Some(id), Some(level)) = (self.audio_level, values.audio_level) {
            used = form.append(block, used, (id, &[level]))?;
        }
        if let Some(id) = descriptor_id {
            used = form.append(block, used, (id, descriptor))?;
        }
        let has_extensions = used > BLOCK_HEADER_BYTES;
        *fixed = fields.to_bytes(has_extensions);
        match has_extensions {
            true => Some(HEADER_BYTES + finish(block, used)?),
            false => Some(HEADER_BYTES),
        }
    }
}

/// The two forms of extensions (RFC 8285 §4.2, §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    OneByte,
    TwoByte,
}

impl Form {
    /// Adds one element at `at`; where the next one goes.
    fn append(self, block: &mut [u8], at: usize, (id, data): (u8, &[u8])) -> Option<usize> {
        let length = u8::try_from(data.len()).ok()?;
        let start = match self {
            Self::OneByte => {
                *block.get_mut(at)? = id << 4 | length.checked_sub(1)?;
                at + 1
            }
            Self::TwoByte => {
                *block.get_mut(at..)?.first_chunk_mut()? = [id, length];
                at + 2
            }
        };
        let end = start + data.len();
        block.get_mut(start..end)?.copy_from_slice(data);
        Some(end)
    }
}

/// Pads a block to whole words and writes how many follow its first one; the length of all.
fn finish(block: &mut [u8], used: usize) -> Option<usize> {
    let length = used.next_multiple_of(4);
    // All that can be missing to a word; what of it lies behind the block is written over.
    *block.get_mut(used..)?.first_chunk_mut::<3>()? = [0; 3];
    let words = u16::try_from(length / 4 - 1).ok()?;
    *block.get_mut(2..)?.first_chunk_mut()? = words.to_be_bytes();
    Some(length)
}

/// The extensions that every packet of a slot carries, in one of the two forms.
#[derive(Clone, Debug)]
struct Template {
    bytes: [u8; TEMPLATE_BYTES],
    /// Without padding.
    length: u8,
    transport_wide_at: Option<u8>,
    send_time_at: Option<u8>,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            bytes: [0; TEMPLATE_BYTES],
            length: 4,
            transport_wide_at: None,
            send_time_at: None,
        }
    }
}

impl Template {
    fn new(form: Form, extensions: SlotExtensions, mid: Mid) -> Option<Self> {
        let profile: u16 = match form {
            Form::OneByte => 0xbede,
            Form::TwoByte => 0x1000,
        };
        let mut template = Self::default();
        *template.bytes.first_chunk_mut()? = profile.to_be_bytes();
        let mut used = BLOCK_HEADER_BYTES;
        let mut append = |id: Option<u8>, data: &[u8]| -> Option<Option<u8>> {
            let Some(id) = id else { return Some(None) };
            used = form.append(&mut template.bytes, used, (id, data))?;
            Some(Some(u8::try_from(used - data.len()).ok()?))
        };
        let transport_wide_at = append(extensions.transport_wide, &[0; 2])?;
        let send_time_at = append(extensions.abs_send_time, &[0; 3])?;
        append(extensions.mid, mid.as_str().as_bytes())?;
        Some(Self {
            length: u8::try_from(used).ok()?,
            transport_wide_at,
            send_time_at,
            ..template
        })
    }
}

/// Profile and length in front of a block of extensions.
const BLOCK_HEADER_BYTES: usize = 4;
/// The block's header, then in the two-byte form 4 + 5 + 18 bytes of extensions.
const TEMPLATE_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rtp::write_header;

    proptest! {
        /// `write_header` builds every header from nothing and is the measure of the templates.
        #[test]
        fn a_patched_header_is_the_one_written_anew(
            ids in prop::array::uniform5(prop::option::of(1u8..=16)),
            mid in "[a-z0-9]{1,16}",
            (transport_wide, send_time) in any::<(u16, [u8; 3])>(),
            audio_level in prop::option::of(any::<u8>()),
            descriptor in prop::collection::vec(any::<u8>(), 0..70),
        ) {
            let extensions = SlotExtensions {
                mid: ids[0],
                transport_wide: ids[1],
                abs_send_time: ids[2],
                audio_level: ids[3],
                dependency_descriptor: ids[4],
            };
            let fields = HeaderFields {
                marker: true,
                payload_type: 96,
                sequence: 0x1234,
                timestamp: 0x5678_9abc,
                ssrc: 0xdef0_1234,
                padding: false,
            };
            let mid = Mid::parse(&mid).unwrap();
            let values = PacketExtensions {
                transport_wide,
                send_time,
                audio_level,
                dependency_descriptor: &descriptor,
            };
            let number = transport_wide.to_be_bytes();
            let level = audio_level.map(|level| [level]);
            let candidates: [(Option<u8>, Option<&[u8]>); 5] = [
                (ids[1], Some(&number)),
                (ids[2], Some(&send_time)),
                (ids[0], Some(mid.as_str().as_bytes())),
                (ids[3], level.as_ref().map(|level| &level[..])),
                (ids[4], (!descriptor.is_empty()).then_some(&descriptor[..])),
            ];
            let list: Vec<(u8, &[u8])> = candidates
                .into_iter()
                .filter_map(|(id, data)| id.zip(data))
                .collect();
            // An id that is negotiated but absent from this packet decides the form as well.
            prop_assume!(list.iter().any(|(id, _)| *id > 14) || ids.iter().flatten().all(|id| *id <= 14));
            let mut expected = [0xaa; 200];
            let expected_len = write_header(&mut expected, &fields, &list).unwrap();
            let mut out = [0xaa; 200];
            let length = SlotHeader::new(extensions, mid).write(&fields, &values, &mut out).unwrap();
            prop_assert_eq!(&out[..length], &expected[..expected_len]);
        }
    }
}
