//! RTCP (RFC 3550 §6, RFC 4585, RFC 5104): packets as views over a datagram; writers in `write`.
#![warn(clippy::indexing_slicing)]

mod twcc;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use twcc::{TwccFeedback, TwccHeader, write_twcc};
pub(crate) use write::{
    SenderReportFields, write_fir, write_nack, write_pli, write_rr, write_sdes_cname, write_sr,
};

use net::cursor::{array_at, u16_at, u32_at, u64_at};

/// The packets of one datagram, compound or reduced-size (RFC 5506), in wire order.
///
/// Allocation-free; stops at the first malformed packet, keeping those before it.
pub(crate) fn packets(datagram: &[u8]) -> Packets<'_> {
    Packets { rest: datagram }
}

/// The iterator behind `packets`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Rtcp<'a>;

    fn next(&mut self) -> Option<Rtcp<'a>> {
        let rest = std::mem::take(&mut self.rest);
        let (packet, rest) = split_packet(rest)?;
        let parsed = Rtcp::parse(packet)?;
        self.rest = rest;
        Some(parsed)
    }
}

/// One RTCP packet, borrowed.
///
/// ```text
/// |V=2|P| count or format (5) | packet type (8) | length in words - 1 (16) | body |
/// ```
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rtcp<'a> {
    /// SR: what a sender has sent, and how it maps its RTP clock to the wall clock.
    SenderReport {
        /// The sender.
        ssrc: u32,
        /// Wall clock as NTP: seconds since 1900 and a 32-bit fraction.
        ntp: u64,
        /// The same instant in ticks of the codec's clock.
        rtp_ts: u32,
        /// What the sender receives.
        reports: Reports<'a>,
    },
    /// RR: what a receiver receives.
    ReceiverReport {
        /// One block per source.
        reports: Reports<'a>,
    },
    /// Generic NACK: packets to send again (RFC 4585 §6.2.1).
    Nack {
        /// The stream it asks for.
        media: u32,
        /// The missing sequence numbers, at most 1000.
        lost: Lost<'a>,
    },
    /// PLI: a keyframe request (RFC 4585 §6.3.1).
    Pli {
        /// The stream it asks for.
        media: u32,
    },
    /// FIR: keyframe requests (RFC 5104 §4.3.1).
    Fir {
        /// The streams it asks for, at most 31, each with a number that repeats with the request.
        entries: FirEntries<'a>,
    },
    /// Transport-wide congestion control feedback.
    Twcc(TwccFeedback<'a>),
    /// REMB: the most a receiver can take (draft-alvestrand-rmcat-remb-03).
    Remb {
        /// Bits per second, all streams together.
        bitrate_bps: u64,
    },
    /// Well-formed, but nothing we act on: SDES, BYE, XR, and what we do not know.
    Other,
}

impl<'a> Rtcp<'a> {
    fn parse(packet: Packet<'a>) -> Option<Self> {
        let Packet {
            packet_type,
            count,
            body,
        } = packet;
        Some(match (packet_type, count) {
            (SENDER_REPORT, _) => Self::SenderReport {
                ssrc: u32_at(body, 0)?,
                ntp: u64_at(body, 4)?,
                rtp_ts: u32_at(body, 12)?,
                reports: Reports::parse(body.get(24..)?, count)?,
            },
            (RECEIVER_REPORT, _) => Self::ReceiverReport {
                reports: Reports::parse(body.get(4..)?, count)?,
            },
            (TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK, _) => Self::parse_feedback(packet)?,
            _ => Self::Other,
        })
    }

    /// `| sender SSRC | media SSRC | feedback control information |` (RFC 4585 §6.1)
    fn parse_feedback(packet: Packet<'a>) -> Option<Self> {
        let Packet {
            packet_type,
            count: format,
            body,
        } = packet;
        let media = u32_at(body, 4)?;
        let fci = body.get(8..)?;
        Some(match (packet_type, format) {
            (TRANSPORT_FEEDBACK, NACK) => Self::Nack {
                media,
                lost: Lost::parse(fci),
            },
            (TRANSPORT_FEEDBACK, TWCC) => Self::Twcc(TwccFeedback::parse(fci)?),
            (PAYLOAD_FEEDBACK, PLI) => Self::Pli { media },
            (PAYLOAD_FEEDBACK, FIR) => Self::Fir {
                entries: FirEntries { rest: fci },
            },
            (PAYLOAD_FEEDBACK, APPLICATION) if fci.first_chunk() == Some(REMB) => {
                Self::parse_remb(fci)?
            }
            _ => Self::Other,
        })
    }

    /// `| "REMB" | SSRC count (8) | exponent (6) | mantissa (18) | SSRCs |`
    fn parse_remb(fci: &'a [u8]) -> Option<Self> {
        let word = u32_at(fci, 4)?;
        let [count, ..] = word.to_be_bytes();
        let exponent = word >> 18 & 0x3f;
        let mantissa = u64::from(word & 0x3_ffff);
        let bitrate_bps = if mantissa.leading_zeros() >= exponent {
            mantissa << exponent
        } else {
            u64::MAX // 64 bits cannot hold it: no limit at all
        };
        fci.get(8..8 + usize::from(count) * 4)?;
        Some(Self::Remb { bitrate_bps })
    }
}

#[derive(Clone, Copy)]
struct Packet<'a> {
    packet_type: u8,
    count: u8,
    body: &'a [u8],
}

/// Cuts the first packet off and takes its padding away.
fn split_packet(bytes: &[u8]) -> Option<(Packet<'_>, &[u8])> {
    let [first, packet_type] = array_at(bytes, 0)?;
    let length = 4 * usize::from(u16_at(bytes, 2)?);
    if first >> 6 != 2 {
        return None;
    }
    let (body, rest) = bytes.get(HEADER_BYTES..)?.split_at_checked(length)?;
    let padding = if first & 0x20 == 0 {
        0
    } else {
        usize::from(*body.last()?)
    };
    if first & 0x20 != 0 && padding == 0 {
        return None;
    }
    let body = body.get(..body.len().checked_sub(padding)?)?;
    Some((
        Packet {
            packet_type,
            count: first & 0x1f,
            body,
        },
        rest,
    ))
}

/// What one receiver says of one source (RFC 3550 §6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ReportBlock {
    /// The source reported on.
    pub(crate) ssrc: u32,
    /// Of 256 expected packets since the last report, how many were lost.
    pub(crate) fraction_lost: u8,
    /// Packets lost since the start; negative with duplicates. 24 bits on the wire, clamped.
    pub(crate) total_lost: i32,
    /// The highest sequence number, extended by 16 bits of cycles.
    pub(crate) highest_sequence: u32,
    /// Interarrival jitter in ticks of the codec's clock.
    pub(crate) jitter: u32,
    /// The middle 32 bits of the last sender report's NTP time; 0: none yet.
    pub(crate) last_sr: u32,
    /// Time since that report in units of 1/65536 s.
    pub(crate) delay_since_last_sr: u32,
}

impl ReportBlock {
    fn parse(block: &[u8]) -> Option<Self> {
        let lost = u32_at(block, 4)?;
        let [fraction_lost, ..] = lost.to_be_bytes();
        Some(Self {
            ssrc: u32_at(block, 0)?,
            fraction_lost,
            total_lost: (lost << 8).cast_signed() >> 8,
            highest_sequence: u32_at(block, 8)?,
            jitter: u32_at(block, 12)?,
            last_sr: u32_at(block, 16)?,
            delay_since_last_sr: u32_at(block, 20)?,
        })
    }
}

/// The report blocks of a sender or receiver report, at most 31.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reports<'a> {
    rest: &'a [u8],
}

impl<'a> Reports<'a> {
    fn parse(body: &'a [u8], count: u8) -> Option<Self> {
        Some(Self {
            rest: body.get(..usize::from(count) * REPORT_BYTES)?,
        })
    }
}

impl Iterator for Reports<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.rest.split_at_checked(REPORT_BYTES)?;
        self.rest = rest;
        ReportBlock::parse(block)
    }
}

/// The streams of a FIR with their request numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirEntries<'a> {
    rest: &'a [u8],
}

impl Iterator for FirEntries<'_> {
    type Item = (u32, u8);

    fn next(&mut self) -> Option<(u32, u8)> {
        let (entry, rest) = self.rest.split_first_chunk::<8>()?;
        self.rest = rest;
        let &[a, b, c, d, number, ..] = entry;
        Some((u32::from_be_bytes([a, b, c, d]), number))
    }
}

/// The sequence numbers of a NACK, in wire order.
///
/// Each element is a first number and a mask of the 16 that follow it (RFC 4585 §6.2.1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost<'a> {
    rest: &'a [u8],
    /// The element at hand: its first number, and the mask of those not yet told; bit 0 is itself.
    first: u16,
    mask: u32,
    left: usize,
}

impl<'a> Lost<'a> {
    fn parse(fci: &'a [u8]) -> Self {
        Self {
            rest: fci,
            first: 0,
            mask: 0,
            left: NACK_MAX,
        }
    }
}

impl Iterator for Lost<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        self.left = self.left.checked_sub(1)?;
        if self.mask == 0 {
            let (element, rest) = self.rest.split_first_chunk::<4>()?;
            self.rest = rest;
            let &[a, b, c, d] = element;
            self.first = u16::from_be_bytes([a, b]);
            self.mask = u32::from(u16::from_be_bytes([c, d])) << 1 | 1;
        }
        let offset = u16::try_from(self.mask.trailing_zeros()).ok()?;
        self.mask &= self.mask - 1;
        Some(self.first.wrapping_add(offset))
    }
}

const HEADER_BYTES: usize = 4;
const REPORT_BYTES: usize = 24;
/// As libwebrtc's longest NACK list; more is not a request but an attack on the history.
const NACK_MAX: usize = 1000;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

const NACK: u8 = 1;
const TWCC: u8 = 15;
const PLI: u8 = 1;
const FIR: u8 = 4;
const APPLICATION: u8 = 15;
const REMB: &[u8; 4] = b"REMB";
