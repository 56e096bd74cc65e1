//! RTCP as a bot writes and reads it (RFC 3550, RFC 4585, transport-wide feedback).

/// What a bot looks for in a compound packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rtcp {
    /// The middle of its NTP time comes back in receiver reports.
    SenderReport { ssrc: u32, middle: u32 },
    /// These packets of a source are missing.
    Nack { media: u32, lost: Vec<u16> },
    /// PLI or FIR.
    KeyframeRequest { media: u32 },
}

/// Reads a compound packet up to where it breaks.
pub(super) fn read(mut bytes: &[u8]) -> Vec<Rtcp> {
    let mut all = Vec::new();
    while let Some([head, kind, l0, l1]) = bytes.first_chunk::<4>() {
        let length = 4 + 4 * usize::from(u16::from_be_bytes([*l0, *l1]));
        let Some((packet, rest)) = bytes.split_at_checked(length) else {
            break;
        };
        all.extend(read_one(*kind, head & 31, packet));
        bytes = rest;
    }
    all
}

fn read_one(kind: u8, format: u8, packet: &[u8]) -> Option<Rtcp> {
    match (kind, format) {
        (200, _) => Some(Rtcp::SenderReport {
            ssrc: u32_at(packet, 4)?,
            middle: u32_at(packet, 10)?,
        }),
        (205, 1) => {
            let entries = packet.get(12..)?.chunks_exact(4);
            Some(Rtcp::Nack {
                media: u32_at(packet, 8)?,
                lost: entries.flat_map(lost_of).collect(),
            })
        }
        (206, 1) => Some(Rtcp::KeyframeRequest {
            media: u32_at(packet, 8)?,
        }),
        (206, 4) => Some(Rtcp::KeyframeRequest {
            media: u32_at(packet, 12)?,
        }),
        _ => None,
    }
}

fn lost_of(entry: &[u8]) -> impl Iterator<Item = u16> {
    let first = u16_at(entry, 0).unwrap_or_default();
    let bits = u16_at(entry, 2).unwrap_or_default();
    let following = (0..16).filter(move |bit| bits & (1 << bit) != 0);
    std::iter::once(first).chain(following.map(move |bit| first.wrapping_add(bit + 1)))
}

/// Asks for packets again; `lost` is in order.
pub(super) fn write_nack(media: u32, lost: &[u16]) -> Vec<u8> {
    let mut body: Vec<u8> = Vec::with_capacity(4 * lost.len());
    let mut rest = lost;
    while let Some((first, after)) = rest.split_first() {
        let near = |number: &u16| (1..=16).contains(&number.wrapping_sub(*first));
        let count = after.iter().take_while(|number| near(number)).count();
        let (near, far) = after.split_at(count);
        let bit = |number: &u16| 1_u16 << (number.wrapping_sub(*first) - 1);
        let bits = near.iter().map(bit).fold(0, |all, bit| all | bit);
        body.extend(first.to_be_bytes());
        body.extend(bits.to_be_bytes());
        rest = far;
    }
    feedback((205, 1), media, &body)
}

/// Asks for a keyframe.
pub(super) fn write_pli(media: u32) -> Vec<u8> {
    feedback((206, 1), media, &[])
}

/// Says when packets arrived (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
///
/// `arrivals` holds extended transport-wide numbers, in order and without repeats, each with its time
/// in microseconds of any clock. At most 8191 numbers are covered.
pub(super) fn write_transport_wide(media: u32, count: u8, arrivals: &[(u64, u64)]) -> Vec<u8> {
    let (Some((first, start)), Some((last, _))) = (arrivals.first(), arrivals.last()) else {
        return Vec::new();
    };
    let reference = start / REFERENCE_US;
    let mut clock = i64::try_from(reference * REFERENCE_US / DELTA_US).unwrap_or_default();
    let (mut symbols, mut deltas) = (Vec::new(), Vec::new());
    let mut pending = arrivals.iter().peekable();
    for number in (*first..=*last).take(RUN_MAX) {
        let Some((_, at)) = pending.next_if(|(arrived, _)| *arrived == number) else {
            symbols.push(0);
            continue;
        };
        let ticks = i64::try_from(at / DELTA_US).unwrap_or_default();
        let delta = ticks - clock;
        clock = ticks;
        if let Ok(small) = u8::try_from(delta) {
            symbols.push(1);
            deltas.push(small);
        } else {
            symbols.push(2);
            let large = i16::try_from(delta).unwrap_or(i16::MAX);
            deltas.extend(large.to_be_bytes());
        }
    }
    let [.., n0, n1] = first.to_be_bytes();
    let mut body = vec![n0, n1];
    body.extend(
        u16::try_from(symbols.len())
            .unwrap_or_default()
            .to_be_bytes(),
    );
    let [.., r0, r1, r2] = reference.to_be_bytes();
    body.extend([r0, r1, r2, count]);
    write_symbols(&symbols, &mut body);
    body.extend(deltas);
    // With fewer than four bytes of padding none of them needs to say how many.
    body.resize(body.len().next_multiple_of(4), 0);
    feedback((205, 15), media, &body)
}

/// One run when all are equal, else vectors of seven.
fn write_symbols(symbols: &[u16], body: &mut Vec<u8>) {
    let first = symbols.first().copied().unwrap_or_default();
    if symbols.iter().all(|symbol| *symbol == first) {
        let length = u16::try_from(symbols.len()).unwrap_or_default();
        body.extend((first << 13 | length).to_be_bytes());
        return;
    }
    for seven in symbols.chunks(7) {
        let mut word = 0xc000_u16;
        for (place, symbol) in seven.iter().enumerate() {
            word |= symbol << (12 - 2 * place);
        }
        body.extend(word.to_be_bytes());
    }
}

/// What a receiver report says of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) ssrc: u32,
    /// Lost since the last report, of 256.
    pub(super) fraction_lost: u8,
    pub(super) lost: u32,
    pub(super) highest: u32,
    /// Middle of the last sender report, and how long ago it came in 1/65536 s.
    pub(super) last_report: (u32, u32),
}

/// A receiver report; at most 31 blocks are taken.
pub(super) fn write_receiver_report(blocks: &[Block]) -> Vec<u8> {
    let blocks = blocks.get(..31).unwrap_or(blocks);
    let count = u8::try_from(blocks.len()).unwrap_or_default();
    let mut out = vec![0x80 | count, 201, 0, 1 + 6 * count];
    out.extend(OUR_SSRC.to_be_bytes());
    for block in blocks {
        out.extend(block.ssrc.to_be_bytes());
        out.extend(((u32::from(block.fraction_lost) << 24) | block.lost & 0xff_ffff).to_be_bytes());
        out.extend(block.highest.to_be_bytes());
        out.extend([0; 4]);
        out.extend(block.last_report.0.to_be_bytes());
        out.extend(block.last_report.1.to_be_bytes());
    }
    out
}

/// A sender report: wall clock in NTP form beside the RTP timestamp of that moment.
pub(super) fn write_sender_report(
    ssrc: u32,
    ntp: u64,
    timestamp: u32,
    sent: (u32, u32),
) -> Vec<u8> {
    let mut out = vec![0x80, 200, 0, 6];
    out.extend(ssrc.to_be_bytes());
    out.extend(ntp.to_be_bytes());
    out.extend(timestamp.to_be_bytes());
    out.extend(sent.0.to_be_bytes());
    out.extend(sent.1.to_be_bytes());
    out
}

fn feedback((kind, format): (u8, u8), media: u32, body: &[u8]) -> Vec<u8> {
    let words = u16::try_from(body.len() / 4 + 2).unwrap_or_default();
    let mut out = vec![0x80 | format, kind];
    out.extend(words.to_be_bytes());
    out.extend(OUR_SSRC.to_be_bytes());
    out.extend(media.to_be_bytes());
    out.extend(body);
    out
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*two))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*four))
}

/// The source of what a bot says as a receiver.
const OUR_SSRC: u32 = 1;
const REFERENCE_US: u64 = 64_000;
const DELTA_US: u64 = 250;
/// A run length has 13 bits.
const RUN_MAX: usize = 8191;

#[cfg(test)]
mod tests {
    use rtc::rtcp::header::Header;
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
    use rtc::shared::marshal::Unmarshal;

    use super::*;

    fn feedback_of(arrivals: &[(u64, u64)]) -> TransportLayerCc {
        let bytes = write_transport_wide(7, 3, arrivals);
        let mut header = &bytes[..];
        assert_eq!(
            usize::from(Header::unmarshal(&mut header).unwrap().length) * 4 + 4,
            bytes.len()
        );
        TransportLayerCc::unmarshal(&mut &bytes[..]).unwrap()
    }

    #[test]
    fn feedback_says_what_arrived_when() {
        let read = feedback_of(&[
            (70_000, 1_000_100),
            (70_001, 1_000_400),
            (70_002, 1_010_000),
        ]);
        assert_eq!((read.media_ssrc, read.fb_pkt_count), (7, 3));
        assert_eq!(u64::from(read.base_sequence_number), 70_000 - (1 << 16));
        assert_eq!(read.packet_status_count, 3);
        assert_eq!(read.reference_time, 15);
        let deltas: Vec<i64> = read.recv_deltas.iter().map(|delta| delta.delta).collect();
        assert_eq!(deltas, [40_000, 250, 9_750]);
    }

    #[test]
    fn feedback_tells_what_is_missing_and_what_came_late() {
        let read = feedback_of(&[(5, 64_000), (7, 200_000), (8, 199_000)]);
        assert_eq!(read.packet_status_count, 4);
        let deltas: Vec<i64> = read.recv_deltas.iter().map(|delta| delta.delta).collect();
        assert_eq!(deltas, [0, 136_000, -1_000]);
    }

    #[test]
    fn nacks_are_packed_and_read_back() {
        let lost = [65_534, 65_535, 3, 14, 15, 40];
        let bytes = write_nack(9, &lost);
        assert_eq!(bytes.len(), 12 + 3 * 4);
        let nack = Rtcp::Nack {
            media: 9,
            lost: lost.to_vec(),
        };
        assert_eq!(read(&bytes), [nack]);
    }

    #[test]
    fn reports_and_requests_are_read() {
        let mut compound = write_sender_report(5, 0x0001_0002_0003_0004, 6, (7, 8));
        compound.extend(write_receiver_report(&[Block::default()]));
        compound.extend(write_pli(4));
        let expected = [
            Rtcp::SenderReport {
                ssrc: 5,
                middle: 0x0002_0003,
            },
            Rtcp::KeyframeRequest { media: 4 },
        ];
        assert_eq!(read(&compound), expected);
        for length in 0..compound.len() {
            assert!(read(&compound[..length]).len() < 2);
        }
    }
}
