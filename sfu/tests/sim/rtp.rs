//! RTP and RTCP as a browser writes and reads them, by hand: no code is shared with what is tested.

/// A parsed RTP packet.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    /// One-byte header extensions.
    pub(crate) extensions: Vec<(u8, Vec<u8>)>,
    pub(crate) payload: Vec<u8>,
}

impl Packet {
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = vec![0x80, u8::from(self.marker) << 7 | self.payload_type];
        out.extend(self.sequence.to_be_bytes());
        out.extend(self.timestamp.to_be_bytes());
        out.extend(self.ssrc.to_be_bytes());
        if !self.extensions.is_empty() {
            out[0] |= 0x10;
            let mut body = Vec::new();
            for (id, value) in &self.extensions {
                body.push(id << 4 | (value.len() as u8 - 1));
                body.extend(value);
            }
            body.resize(body.len().next_multiple_of(4), 0);
            out.extend([0xbe, 0xde]);
            out.extend((body.len() as u16 / 4).to_be_bytes());
            out.extend(body);
        }
        out.extend(&self.payload);
        out
    }

    /// Reads a decrypted packet; anything odd is a failure of the test.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        assert_eq!(bytes[0] >> 6, 2, "RTP version");
        assert_eq!(bytes[0] & 0x0f, 0, "no CSRCs");
        let padding = match bytes[0] & 0x20 {
            0 => 0,
            _ => usize::from(bytes[bytes.len() - 1]),
        };
        assert!(padding <= 1, "packets of a frame differ by one byte");
        let mut at = 12;
        let mut extensions = Vec::new();
        if bytes[0] & 0x10 != 0 {
            assert_eq!(&bytes[12..14], &[0xbe, 0xde], "one-byte extensions");
            let end = 16 + 4 * usize::from(u16_at(bytes, 14));
            at = 16;
            while at < end {
                let head = bytes[at];
                at += 1;
                if head != 0 {
                    let length = usize::from(head & 15) + 1;
                    extensions.push((head >> 4, bytes[at..at + length].to_vec()));
                    at += length;
                }
            }
            at = end;
        }
        Self {
            marker: bytes[1] & 0x80 != 0,
            payload_type: bytes[1] & 0x7f,
            sequence: u16_at(bytes, 2),
            timestamp: u32_at(bytes, 4),
            ssrc: u32_at(bytes, 8),
            extensions,
            payload: bytes[at..bytes.len() - padding].to_vec(),
        }
    }

    pub(crate) fn extension(&self, id: u8) -> Option<&[u8]> {
        let found = self.extensions.iter().find(|(known, _)| *known == id);
        found.map(|(_, value)| value.as_slice())
    }
}

/// What came in one RTCP packet, as far as browsers care.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rtcp {
    SenderReport { ssrc: u32, ntp: u64, rtp: u32 },
    ReceiverReport { blocks: Vec<(u32, u8)> },
    Nack { media: u32, lost: Vec<u16> },
    KeyframeRequest { media: u32 },
    TransportWide { base: u16, count: u16 },
    Other(u8),
}

/// Reads a compound packet.
pub(crate) fn read_rtcp(mut bytes: &[u8]) -> Vec<Rtcp> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(bytes[0] >> 6, 2, "RTCP version");
        let length = 4 + 4 * usize::from(u16_at(bytes, 2));
        let (packet, rest) = bytes.split_at(length);
        all.push(read_one(packet));
        bytes = rest;
    }
    all
}

fn read_one(packet: &[u8]) -> Rtcp {
    let format = packet[0] & 31;
    match (packet[1], format) {
        (200, _) => Rtcp::SenderReport {
            ssrc: u32_at(packet, 4),
            ntp: u64::from(u32_at(packet, 8)) << 32 | u64::from(u32_at(packet, 12)),
            rtp: u32_at(packet, 16),
        },
        (201, count) => Rtcp::ReceiverReport {
            blocks: (0..usize::from(count))
                .map(|index| (u32_at(packet, 8 + 24 * index), packet[12 + 24 * index]))
                .collect(),
        },
        (205, 1) => Rtcp::Nack {
            media: u32_at(packet, 8),
            lost: packet[12..].chunks(4).flat_map(lost_of).collect(),
        },
        (205, 15) => Rtcp::TransportWide {
            base: u16_at(packet, 12),
            count: u16_at(packet, 14),
        },
        (206, 1) => Rtcp::KeyframeRequest {
            media: u32_at(packet, 8),
        },
        (206, 4) => Rtcp::KeyframeRequest {
            media: u32_at(packet, 12),
        },
        (kind, _) => Rtcp::Other(kind),
    }
}

fn lost_of(entry: &[u8]) -> Vec<u16> {
    let (first, bits) = (u16_at(entry, 0), u16_at(entry, 2));
    let following = (0..16).filter(|bit| bits & (1 << bit) != 0);
    let following = following.map(|bit| first.wrapping_add(bit + 1));
    std::iter::once(first).chain(following).collect()
}

pub(crate) fn write_nack(sender: u32, media: u32, lost: &[u16]) -> Vec<u8> {
    let body = lost.iter().flat_map(|lost| {
        let [high, low] = lost.to_be_bytes();
        [high, low, 0, 0]
    });
    feedback(205, 1, sender, media, &body.collect::<Vec<_>>())
}

pub(crate) fn write_pli(sender: u32, media: u32) -> Vec<u8> {
    feedback(206, 1, sender, media, &[])
}

/// REMB (draft-alvestrand-rmcat-remb-03).
pub(crate) fn write_remb(sender: u32, bitrate_bps: u64, media: u32) -> Vec<u8> {
    let exponent = (64 - bitrate_bps.leading_zeros()).saturating_sub(18);
    let mantissa = (bitrate_bps >> exponent) as u32;
    let mut body = b"REMB\x01".to_vec();
    let packed = exponent << 18 | mantissa;
    body.extend(&packed.to_be_bytes()[1..]);
    body.extend(media.to_be_bytes());
    feedback(206, 15, sender, 0, &body)
}

/// Packets with their arrival in ms of the receiver's clock, in order, none missing between.
pub(crate) fn write_transport_wide(
    sender: u32,
    count: u8,
    base: u16,
    arrivals: &[Option<u64>],
) -> Vec<u8> {
    let mut body = base.to_be_bytes().to_vec();
    body.extend((arrivals.len() as u16).to_be_bytes());
    let first = arrivals.iter().flatten().min().copied().unwrap_or(0);
    let reference = first / 64;
    body.extend(&(reference as u32).to_be_bytes()[1..]);
    body.push(count);
    for chunk in arrivals.chunks(7) {
        let mut word = 0xc000u16;
        for (place, arrival) in chunk.iter().enumerate() {
            word |= if arrival.is_some() { 2 } else { 0 } << (12 - 2 * place);
        }
        body.extend(word.to_be_bytes());
    }
    let mut clock = i64::try_from(reference * 64).unwrap();
    for arrival in arrivals.iter().flatten() {
        let arrival = i64::try_from(*arrival).unwrap();
        let delta = i16::try_from((arrival - clock) * 4).unwrap_or(i16::MAX);
        body.extend(delta.to_be_bytes());
        clock = arrival;
    }
    body.resize(body.len().next_multiple_of(4), 0);
    feedback(205, 15, sender, 0, &body)
}

pub(crate) fn write_sender_report(ssrc: u32, ntp: u64, rtp: u32) -> Vec<u8> {
    let mut out = vec![0x80, 200, 0, 6];
    out.extend(ssrc.to_be_bytes());
    out.extend(ntp.to_be_bytes());
    out.extend(rtp.to_be_bytes());
    out.extend([0; 8]);
    out
}

/// A receiver report with one block.
pub(crate) fn write_receiver_report(
    sender: u32,
    media: u32,
    lost: u8,
    last: (u32, u32),
) -> Vec<u8> {
    let mut out = vec![0x81, 201, 0, 7];
    out.extend(sender.to_be_bytes());
    out.extend(media.to_be_bytes());
    out.extend([lost, 0, 0, 0]);
    out.extend([0; 8]);
    out.extend(last.0.to_be_bytes());
    out.extend(last.1.to_be_bytes());
    out
}

fn feedback(kind: u8, format: u8, sender: u32, media: u32, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | format, kind];
    out.extend(((8 + body.len()) as u16 / 4).to_be_bytes());
    out.extend(sender.to_be_bytes());
    out.extend(media.to_be_bytes());
    out.extend(body);
    out
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Extends 16-bit numbers over their wrap.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unwrap(Option<u64>);

impl Unwrap {
    pub(crate) fn extend(&mut self, number: u16) -> u64 {
        let Some(highest) = self.0 else {
            // Room below the first one for what it overtook.
            let first = 0x1_0000 + u64::from(number);
            self.0 = Some(first);
            return first;
        };
        let ahead = number.wrapping_sub(highest as u16).cast_signed();
        let extended = highest.checked_add_signed(i64::from(ahead)).unwrap();
        self.0 = Some(highest.max(extended));
        extended
    }
}
