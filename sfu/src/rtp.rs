//! RTP packets (RFC 3550 §5.1) as views over a datagram, their headers, and their wrapping numbers.
#![warn(clippy::indexing_slicing)]

pub(crate) mod payload;
mod unwrap;

#[cfg(test)]
mod tests;

pub(crate) use unwrap::{SequenceUnwrapper, TimestampUnwrapper};

#[cfg(test)]
use net::cursor::Writer;
use net::cursor::{array_at, u16_at, u32_at};

/// The fixed header's size in bytes.
pub(crate) const HEADER_BYTES: usize = 12;

/// An RTP packet, borrowed; its header has been checked once.
///
/// ```text
/// |V=2|P|X|  CC   |M|     PT      |       sequence number         |
/// |                           timestamp                           |
/// |                             SSRC                              |
/// |     CC x CSRC, then if X: profile, length in words, extensions |
/// ```
/// Works on an encrypted packet as well: only `payload` needs a decrypted one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RtpView<'a> {
    /// The marker bit.
    pub(crate) marker: bool,
    /// The payload type, 0 to 127.
    pub(crate) payload_type: u8,
    /// The sequence number as it stands on the wire.
    pub(crate) sequence: u16,
    /// The timestamp as it stands on the wire, in ticks of the codec's clock.
    pub(crate) timestamp: u32,
    /// The synchronization source.
    pub(crate) ssrc: u32,
    /// Bytes from the packet's start to its payload: fixed header, CSRCs and extensions.
    pub(crate) header_len: usize,
    padding: bool,
    extensions: Extensions<'a>,
    packet: &'a [u8],
}

impl<'a> RtpView<'a> {
    /// Reads the header; `None` when it is not RTP or is cut short.
    pub(crate) fn parse(packet: &'a [u8]) -> Option<Self> {
        let [first, second] = array_at(packet, 0)?;
        if first >> 6 != 2 {
            return None;
        }
        let fixed = HEADER_BYTES + 4 * usize::from(first & 0x0f);
        let (header_len, extensions) = if first & 0x10 == 0 {
            (fixed, Extensions::NONE)
        } else {
            let profile = u16_at(packet, fixed)?;
            let length = 4 * usize::from(u16_at(packet, fixed + 2)?);
            let start = fixed + 4;
            let block = packet.get(start..start + length)?;
            (start + length, Extensions::new(profile, block))
        };
        if packet.len() < header_len {
            return None;
        }
        Some(Self {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7f,
            sequence: u16_at(packet, 2)?,
            timestamp: u32_at(packet, 4)?,
            ssrc: u32_at(packet, 8)?,
            header_len,
            padding: first & 0x20 != 0,
            extensions,
            packet,
        })
    }

    /// The header extensions with their ids, in wire order (RFC 8285).
    #[cfg(test)]
    pub(crate) fn extensions(&self) -> Extensions<'a> {
        self.extensions
    }

    /// The first header extension with this id.
    pub(crate) fn extension(&self, id: u8) -> Option<&'a [u8]> {
        self.extensions
            .into_iter()
            .find(|&(found, _)| found == id)
            .map(|(_, data)| data)
    }

    /// The payload of a decrypted packet without its padding.
    ///
    /// `None`: the padding count is zero or longer than the payload. A packet of padding only has
    /// an empty payload.
    pub(crate) fn payload(&self) -> Option<&'a [u8]> {
        let body = self.packet.get(self.header_len..)?;
        if !self.padding {
            return Some(body);
        }
        let length = usize::from(*body.last()?);
        if length == 0 {
            return None;
        }
        body.get(..body.len().checked_sub(length)?)
    }
}

/// The header extensions of one packet, in wire order; stops at the first malformed element.
///
/// ```text
/// one-byte form 0xBEDE: | id (4) | length - 1 (4) | data |   id 15 ends, byte 0 is padding
/// two-byte form 0x100x: | id (8) | length (8)     | data |   id 0 is padding
/// ```
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extensions<'a> {
    form: Form,
    rest: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    OneByte,
    TwoByte,
}

impl<'a> Extensions<'a> {
    const NONE: Self = Self {
        form: Form::OneByte,
        rest: &[],
    };

    fn new(profile: u16, block: &'a [u8]) -> Self {
        match profile {
            ONE_BYTE_PROFILE => Self {
                form: Form::OneByte,
                rest: block,
            },
            profile if profile & 0xfff0 == TWO_BYTE_PROFILE => Self {
                form: Form::TwoByte,
                rest: block,
            },
            _ => Self::NONE, // some other use of the block (RFC 3550 §5.3.1)
        }
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&first, rest) = self.rest.split_first()?;
            self.rest = rest;
            if first == 0 {
                continue;
            }
            let (id, length) = match self.form {
                Form::OneByte => (first >> 4, usize::from(first & 0x0f) + 1),
                Form::TwoByte => {
                    let Some((&length, rest)) = self.rest.split_first() else {
                        self.rest = &[];
                        return None;
                    };
                    self.rest = rest;
                    (first, usize::from(length))
                }
            };
            // In the one-byte form id 15 ends the list, and id 0 with a length is not ours to skip.
            let is_end = self.form == Form::OneByte && (id == 15 || id == 0);
            let Some((data, rest)) = self.rest.split_at_checked(length).filter(|_| !is_end) else {
                self.rest = &[];
                return None;
            };
            self.rest = rest;
            return Some((id, data));
        }
    }
}

/// What goes into the fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeaderFields {
    /// The marker bit.
    pub(crate) marker: bool,
    /// The payload type, 0 to 127.
    pub(crate) payload_type: u8,
    /// The lower 16 bits of the sequence number.
    pub(crate) sequence: u16,
    /// The lower 32 bits of the timestamp, in ticks of the codec's clock.
    pub(crate) timestamp: u32,
    /// The synchronization source.
    pub(crate) ssrc: u32,
    /// Whether the payload ends in padding.
    pub(crate) padding: bool,
}

impl HeaderFields {
    /// The fixed header, without CSRCs.
    pub(crate) fn to_bytes(self, has_extensions: bool) -> [u8; HEADER_BYTES] {
        let first = 0x80 | u8::from(self.padding) << 5 | u8::from(has_extensions) << 4;
        let second = u8::from(self.marker) << 7 | (self.payload_type & 0x7f);
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.to_be_bytes();
        [first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3]
    }
}

/// Writes a header without CSRCs and returns its size in bytes.
///
/// Extensions take the one-byte form when all ids are 1 to 14 and all data is 1 to 16 bytes, else
/// the two-byte form. `None`: `out` is too small, an id is 0, or data is longer than 255 bytes.
/// The measure of what `subscriber/slot/header.rs` patches together. RFC 3550 §5.1, RFC 8285 §4.
#[cfg(test)]
pub(crate) fn write_header(
    out: &mut [u8],
    fields: &HeaderFields,
    extensions: &[(u8, &[u8])],
) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.put(&fields.to_bytes(!extensions.is_empty()))?;
    if !extensions.is_empty() {
        write_extensions(&mut writer, extensions)?;
    }
    Some(writer.len())
}

#[cfg(test)]
fn write_extensions(writer: &mut Writer<'_>, extensions: &[(u8, &[u8])]) -> Option<()> {
    let fits = |&(id, data): &(u8, &[u8])| (1..=14).contains(&id) && (1..=16).contains(&data.len());
    let is_one_byte = extensions.iter().all(fits);
    writer.put_u16(if is_one_byte {
        ONE_BYTE_PROFILE
    } else {
        TWO_BYTE_PROFILE
    })?;
    let length_at = writer.len();
    writer.put_u16(0)?;
    for &(id, data) in extensions {
        if id == 0 {
            return None;
        }
        let length = u8::try_from(data.len()).ok()?;
        if is_one_byte {
            writer.put_u8(id << 4 | length.checked_sub(1)?)?;
        } else {
            writer.put(&[id, length])?;
        }
        writer.put(data)?;
    }
    writer.pad_to_word()?;
    let words = (writer.len() - length_at - 2) / 4;
    writer.patch_u16(length_at, u16::try_from(words).ok()?)
}

const ONE_BYTE_PROFILE: u16 = 0xbede; // RFC 8285 §4.2
const TWO_BYTE_PROFILE: u16 = 0x1000; // RFC 8285 §4.3; the low four bits are the application's
