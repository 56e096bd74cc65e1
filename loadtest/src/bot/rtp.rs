//! RTP headers as a bot reads them in the clear, and as it writes them (RFC 3550 §5.1, RFC 8285).

use super::rtcp::{u16_at, u32_at};
use super::sdp;

/// The fields of an RTP header a bot looks at.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) payload_type: u8,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) ssrc: u32,
    pub(super) length: usize,
    pub(super) transport_number: Option<u16>,
}

/// The RTP header fields of a packet about to be written.
pub(super) struct Head<'a> {
    pub(super) marker: bool,
    pub(super) payload_type: u8,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) ssrc: u32,
    pub(super) mid: &'a str,
    /// Id of the extension and the rid.
    pub(super) rid: Option<(u8, &'static str)>,
    pub(super) has_level: bool,
    pub(super) transport_number: u16,
}

impl Header {
    /// Reads a header in the clear; `None` when it is none.
    pub(super) fn read(bytes: &[u8], transport_wide: Option<u8>) -> Option<Self> {
        let [first, second, ..] = *bytes else {
            return None;
        };
        let mut length = FIXED_BYTES + 4 * usize::from(first & 0x0f);
        let mut transport_number = None;
        if first & 0x10 != 0 {
            let profile = u16_at(bytes, length)?;
            let start = length + 4;
            length = start + 4 * usize::from(u16_at(bytes, length + 2)?);
            let body = bytes.get(start..length)?;
            if profile == ONE_BYTE_FORM
                && let Some(id) = transport_wide
            {
                transport_number = extension(body, id).and_then(|value| u16_at(value, 0));
            }
        }
        (bytes.len() >= length).then_some(())?;
        Some(Self {
            payload_type: second & 0x7f,
            sequence: u16_at(bytes, 2)?,
            timestamp: u32_at(bytes, 4)?,
            ssrc: u32_at(bytes, 8)?,
            length,
            transport_number,
        })
    }
}

/// The value of a header extension in the one-byte form (RFC 8285 §4.2).
fn extension(mut body: &[u8], wanted: u8) -> Option<&[u8]> {
    while let Some((&head, rest)) = body.split_first() {
        if head == 0 {
            body = rest;
            continue;
        }
        let (value, rest) = rest.split_at_checked(usize::from(head & 15) + 1)?;
        if head >> 4 == wanted {
            return Some(value);
        }
        body = rest;
    }
    None
}

/// The payload of a decrypted packet without RTP padding.
pub(super) fn without_padding(plain: &[u8], header: usize) -> &[u8] {
    let payload = plain.get(header..).unwrap_or_default();
    let padding = match (plain.first(), payload.last()) {
        (Some(first), Some(count)) if first & 0x20 != 0 => usize::from(*count),
        _ => 0,
    };
    payload
        .get(..payload.len().saturating_sub(padding))
        .unwrap_or_default()
}

impl Head<'_> {
    /// Writes the header with extensions in the one-byte form (RFC 8285 §4.2).
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend([0x90, u8::from(self.marker) << 7 | self.payload_type]);
        out.extend(self.sequence.to_be_bytes());
        out.extend(self.timestamp.to_be_bytes());
        out.extend(self.ssrc.to_be_bytes());
        out.extend([0xbe, 0xde, 0, 0]);
        let start = out.len();
        let mut extension = |id: u8, value: &[u8]| {
            let length = u8::try_from(value.len().saturating_sub(1)).unwrap_or_default();
            out.push(id << 4 | length & 15);
            out.extend_from_slice(value);
        };
        extension(sdp::MID, self.mid.as_bytes());
        extension(sdp::TRANSPORT_WIDE, &self.transport_number.to_be_bytes());
        if let Some((id, rid)) = self.rid {
            extension(id, rid.as_bytes());
        }
        if self.has_level {
            extension(sdp::AUDIO_LEVEL, &[0x80 | AUDIO_LEVEL_DBOV]);
        }
        let length = (out.len() - start).next_multiple_of(4);
        out.resize(start + length, 0);
        if let Some(words) = out.get_mut(start - 1) {
            *words = u8::try_from(length / 4).unwrap_or_default();
        }
    }
}

const FIXED_BYTES: usize = 12;
const ONE_BYTE_FORM: u16 = 0xbede;
/// Everybody speaks, at an ordinary level.
const AUDIO_LEVEL_DBOV: u8 = 30;

#[cfg(test)]
mod tests {
    use rtc::rtp;
    use rtc::shared::marshal::Unmarshal;

    use super::*;

    const PACKET: [u8; 24] = [
        0x90,
        0x80 | 96,
        0,
        5,
        0,
        0,
        0,
        6,
        0,
        0,
        0,
        7, // fixed
        0xbe,
        0xde,
        0,
        2,
        0x40,
        b'0',
        0,
        0x31,
        1,
        2,
        0,
        0, // mid 0, transport-wide 258
    ];

    #[test]
    fn a_header_is_read_in_the_clear() {
        let header = Header::read(&PACKET, Some(3)).unwrap();
        assert_eq!((header.payload_type, header.sequence), (96, 5));
        assert_eq!((header.timestamp, header.ssrc), (6, 7));
        assert_eq!((header.length, header.transport_number), (24, Some(258)));
        assert_eq!(
            Header::read(&PACKET, Some(9)).unwrap().transport_number,
            None
        );
        for length in 0..PACKET.len() {
            assert!(
                Header::read(&PACKET[..length], Some(3)).is_none(),
                "{length}"
            );
        }
    }

    #[test]
    fn padding_is_taken_off() {
        assert_eq!(without_padding(&[0x20, 1, 2, 3, 2], 1), [1, 2]);
        assert_eq!(without_padding(&[0x00, 1, 2, 3, 2], 1), [1, 2, 3, 2]);
        assert!(without_padding(&[0x20, 1, 200], 1).is_empty());
    }

    #[test]
    fn a_header_is_what_others_read() {
        let head = Head {
            marker: true,
            payload_type: 96,
            sequence: 5,
            timestamp: 6,
            ssrc: 7,
            mid: "12",
            rid: Some((sdp::RID, "q")),
            has_level: true,
            transport_number: 258,
        };
        let mut bytes = Vec::new();
        head.write(&mut bytes);
        let read = rtp::Header::unmarshal(&mut &bytes[..]).unwrap();
        assert!(read.marker);
        assert_eq!((read.payload_type, read.sequence_number), (96, 5));
        assert_eq!((read.timestamp, read.ssrc), (6, 7));
        let extension = |id| read.get_extension(id).map(|value| value.to_vec());
        assert_eq!(extension(sdp::MID), Some(b"12".to_vec()));
        assert_eq!(extension(sdp::TRANSPORT_WIDE), Some(vec![1, 2]));
        assert_eq!(extension(sdp::RID), Some(b"q".to_vec()));
        assert_eq!(extension(sdp::AUDIO_LEVEL), Some(vec![0x80 | 30]));
    }
}
