//! Writers of RTCP packets into a caller's buffer; each returns its length, or `None` if it does not
//! fit. Compound packets are made by writing one behind the other.
#![warn(clippy::indexing_slicing)]

use net::cursor::Writer;

use super::{
    FIR, NACK, PAYLOAD_FEEDBACK, PLI, RECEIVER_REPORT, ReportBlock, SENDER_REPORT,
    SOURCE_DESCRIPTION, TRANSPORT_FEEDBACK,
};

/// What a sender report says of its sender (RFC 3550 §6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SenderReportFields {
    /// The sender.
    pub(crate) ssrc: u32,
    /// Wall clock as NTP: seconds since 1900 and a 32-bit fraction.
    pub(crate) ntp: u64,
    /// The same instant in ticks of the codec's clock.
    pub(crate) rtp_ts: u32,
    /// RTP packets sent since the start.
    pub(crate) packets: u32,
    /// Payload bytes sent since the start.
    pub(crate) octets: u32,
}

/// Writes a sender report with up to 31 blocks.
pub(crate) fn write_sr(
    out: &mut [u8],
    fields: &SenderReportFields,
    reports: &[ReportBlock],
) -> Option<usize> {
    let mut writer = begin(out, SENDER_REPORT, reports.len())?;
    writer.put_u32(fields.ssrc)?;
    writer.put_u64(fields.ntp)?;
    writer.put_u32(fields.rtp_ts)?;
    writer.put_u32(fields.packets)?;
    writer.put_u32(fields.octets)?;
    put_reports(&mut writer, reports)?;
    finish(writer)
}

/// Writes a receiver report with up to 31 blocks.
pub(crate) fn write_rr(out: &mut [u8], ssrc: u32, reports: &[ReportBlock]) -> Option<usize> {
    let mut writer = begin(out, RECEIVER_REPORT, reports.len())?;
    writer.put_u32(ssrc)?;
    put_reports(&mut writer, reports)?;
    finish(writer)
}

/// Writes a source description with a canonical name of up to 255 bytes (RFC 3550 §6.5.1).
pub(crate) fn write_sdes_cname(out: &mut [u8], ssrc: u32, cname: &str) -> Option<usize> {
    let mut writer = begin(out, SOURCE_DESCRIPTION, 1)?;
    writer.put_u32(ssrc)?;
    writer.put(&[CNAME, u8::try_from(cname.len()).ok()?])?;
    writer.put(cname.as_bytes())?;
    writer.put_u8(0)?; // ends the list of items; the chunk is then padded
    writer.pad_to_word()?;
    finish(writer)
}

/// Writes a generic NACK (RFC 4585 §6.2.1).
///
/// Numbers in ascending order share elements; `None` also when `lost` is empty.
pub(crate) fn write_nack(out: &mut [u8], sender: u32, media: u32, lost: &[u16]) -> Option<usize> {
    let mut writer = begin_feedback(out, (TRANSPORT_FEEDBACK, NACK), sender, media)?;
    let (&first, rest) = lost.split_first()?;
    let (mut first, mut mask) = (first, 0);
    for &sequence in rest {
        match sequence.wrapping_sub(first) {
            0 => {}
            distance @ 1..=16 => mask |= 1u16 << (distance - 1),
            _ => {
                writer.put_u16(first)?;
                writer.put_u16(mask)?;
                (first, mask) = (sequence, 0);
            }
        }
    }
    writer.put_u16(first)?;
    writer.put_u16(mask)?;
    finish(writer)
}

/// Writes a picture loss indication (RFC 4585 §6.3.1).
pub(crate) fn write_pli(out: &mut [u8], sender: u32, media: u32) -> Option<usize> {
    finish(begin_feedback(out, (PAYLOAD_FEEDBACK, PLI), sender, media)?)
}

/// Writes full intra requests, each with its source and request number (RFC 5104 §4.3.1).
pub(crate) fn write_fir(out: &mut [u8], sender: u32, entries: &[(u32, u8)]) -> Option<usize> {
    let mut writer = begin_feedback(out, (PAYLOAD_FEEDBACK, FIR), sender, 0)?;
    for &(ssrc, number) in entries {
        writer.put_u32(ssrc)?;
        writer.put(&[number, 0, 0, 0])?;
    }
    finish(writer)
}

/// Starts a packet; its length is filled in by `finish`.
pub(super) fn begin(out: &mut [u8], packet_type: u8, count: usize) -> Option<Writer<'_>> {
    let count = u8::try_from(count)
        .ok()
        .filter(|count| *count <= COUNT_MAX)?;
    let mut writer = Writer::new(out);
    writer.put(&[0x80 | count, packet_type, 0, 0])?;
    Some(writer)
}

/// Starts a feedback packet of a type and format.
pub(super) fn begin_feedback(
    out: &mut [u8],
    (packet_type, format): (u8, u8),
    sender: u32,
    media: u32,
) -> Option<Writer<'_>> {
    let mut writer = begin(out, packet_type, format.into())?;
    writer.put_u32(sender)?;
    writer.put_u32(media)?;
    Some(writer)
}

/// Fills in the length, in words without the first.
pub(super) fn finish(mut writer: Writer<'_>) -> Option<usize> {
    let words = u16::try_from(writer.len() / 4 - 1).ok()?;
    writer.patch_u16(2, words)?;
    Some(writer.len())
}

fn put_reports(writer: &mut Writer<'_>, reports: &[ReportBlock]) -> Option<()> {
    for report in reports {
        let total_lost = report
            .total_lost
            .clamp(-(1 << 23), (1 << 23) - 1)
            .cast_unsigned();
        writer.put_u32(report.ssrc)?;
        writer.put_u32(u32::from(report.fraction_lost) << 24 | (total_lost & 0xff_ffff))?;
        writer.put_u32(report.highest_sequence)?;
        writer.put_u32(report.jitter)?;
        writer.put_u32(report.last_sr)?;
        writer.put_u32(report.delay_since_last_sr)?;
    }
    Some(())
}

const COUNT_MAX: u8 = 31;
const CNAME: u8 = 1;
