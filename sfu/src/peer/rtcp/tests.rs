//! Tests of the RTCP codecs: another implementation as oracle, round trips, and hostile input.
#![expect(
    clippy::cast_possible_truncation,
    reason = "the float holds a whole number of bits"
)]

use std::any::Any;

use ::rtcp::packet::{self, Packet as Theirs};
use ::rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use ::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use ::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use ::rtcp::receiver_report::ReceiverReport;
use ::rtcp::reception_report::ReceptionReport;
use ::rtcp::sender_report::SenderReport;
use ::rtcp::source_description::{SdesType, SourceDescription};
use ::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use ::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use proptest::prelude::*;

use super::write::{begin_feedback, finish};
use super::*;

const SENDER: u32 = 0x0102_0304;
const MEDIA: u32 = 0xa0b0_c0d0;

/// What `write` writes; checks that every shorter buffer is refused.
fn written(write: impl Fn(&mut [u8]) -> Option<usize>) -> Vec<u8> {
    let mut out = vec![0xee; 20_000];
    let length = write(&mut out).unwrap();
    for short in (0..length).rev().take(200) {
        assert_eq!(write(&mut vec![0; short]), None);
    }
    out.truncate(length);
    out
}

/// The one packet that the other implementation reads.
fn theirs<T: Theirs + Clone + Any>(bytes: &[u8]) -> T {
    let packets = packet::unmarshal(&mut &bytes[..]).unwrap();
    assert_eq!(packets.len(), 1);
    packets[0].as_any().downcast_ref::<T>().unwrap().clone()
}

fn marshalled(packet: impl Theirs + 'static) -> Vec<u8> {
    packet::marshal(&[Box::new(packet)]).unwrap().to_vec()
}

fn ours(bytes: &[u8]) -> Rtcp<'_> {
    let mut packets = packets(bytes);
    let first = packets.next().unwrap();
    assert!(packets.next().is_none());
    first
}

fn block(ssrc: u32) -> ReportBlock {
    ReportBlock {
        ssrc,
        fraction_lost: 17,
        total_lost: 0x1234,
        highest_sequence: 0x0002_fffe,
        jitter: 90,
        last_sr: 0xdead_beef,
        delay_since_last_sr: 65_536,
    }
}

fn their_block(ssrc: u32) -> ReceptionReport {
    ReceptionReport {
        ssrc,
        fraction_lost: 17,
        total_lost: 0x1234,
        last_sequence_number: 0x0002_fffe,
        jitter: 90,
        last_sender_report: 0xdead_beef,
        delay: 65_536,
    }
}

#[test]
fn sender_reports_agree_both_ways() {
    for count in [0, 1, 31] {
        let blocks: Vec<_> = (0..count).map(block).collect();
        let fields = SenderReportFields {
            ssrc: SENDER,
            ntp: 0x0123_4567_89ab_cdef,
            rtp_ts: 77,
            packets: 88,
            octets: 99,
        };
        let bytes = written(|out| write_sr(out, &fields, &blocks));
        let expected = SenderReport {
            ssrc: SENDER,
            ntp_time: 0x0123_4567_89ab_cdef,
            rtp_time: 77,
            packet_count: 88,
            octet_count: 99,
            reports: (0..count).map(their_block).collect(),
            ..SenderReport::default()
        };
        assert_eq!(theirs::<SenderReport>(&bytes), expected);
        let bytes = marshalled(expected);
        let Rtcp::SenderReport {
            ssrc,
            ntp,
            rtp_ts,
            reports,
        } = ours(&bytes)
        else {
            panic!("not a sender report");
        };
        assert_eq!(
            (ssrc, ntp, rtp_ts),
            (fields.ssrc, fields.ntp, fields.rtp_ts)
        );
        assert_eq!(reports.collect::<Vec<_>>(), blocks);
    }
}

#[test]
fn receiver_reports_agree_both_ways() {
    for count in [0, 1, 31] {
        let blocks: Vec<_> = (0..count).map(block).collect();
        let bytes = written(|out| write_rr(out, SENDER, &blocks));
        let reports = (0..count).map(their_block).collect();
        let expected = ReceiverReport {
            ssrc: SENDER,
            reports,
            ..ReceiverReport::default()
        };
        assert_eq!(theirs::<ReceiverReport>(&bytes), expected);
        let bytes = marshalled(expected);
        let Rtcp::ReceiverReport { reports } = ours(&bytes) else {
            panic!("not a receiver report");
        };
        assert_eq!(reports.collect::<Vec<_>>(), blocks);
    }
    let blocks: Vec<_> = (0..32).map(block).collect();
    assert_eq!(write_rr(&mut [0; 2000], SENDER, &blocks), None);
}

#[test]
fn negative_loss_keeps_its_sign_and_is_clamped() {
    for (told, read) in [
        (-1, -1),
        (-9_000_000, -(1 << 23)),
        (9_000_000, (1 << 23) - 1),
    ] {
        let block = ReportBlock {
            total_lost: told,
            ..block(1)
        };
        let bytes = written(|out| write_rr(out, SENDER, &[block]));
        let Rtcp::ReceiverReport { mut reports, .. } = ours(&bytes) else {
            panic!()
        };
        assert_eq!(
            reports
                .next()
                .map(|block| (block.total_lost, block.fraction_lost)),
            Some((read, 17))
        );
    }
}

#[test]
fn source_descriptions_are_read_by_the_other_implementation() {
    for length in [0, 1, 2, 3, 4, 255] {
        let cname = "c".repeat(length);
        let bytes = written(|out| write_sdes_cname(out, SENDER, &cname));
        assert!(matches!(ours(&bytes), Rtcp::Other));
        let description = theirs::<SourceDescription>(&bytes);
        let item = &description.chunks[0].items[0];
        assert_eq!(description.chunks[0].source, SENDER);
        assert_eq!(
            (item.sdes_type, &item.text[..]),
            (SdesType::SdesCname, cname.as_bytes())
        );
    }
    assert_eq!(
        write_sdes_cname(&mut [0; 2000], SENDER, &"c".repeat(256)),
        None
    );
}

#[test]
fn keyframe_requests_agree_both_ways() {
    let bytes = written(|out| write_pli(out, SENDER, MEDIA));
    let pli = PictureLossIndication {
        sender_ssrc: SENDER,
        media_ssrc: MEDIA,
    };
    assert_eq!(theirs::<PictureLossIndication>(&bytes), pli);
    assert!(matches!(ours(&marshalled(pli)), Rtcp::Pli { media: MEDIA }));

    let entries = [(MEDIA, 9), (7, 255)];
    let bytes = written(|out| write_fir(out, SENDER, &entries));
    let fir = entries
        .map(|(ssrc, sequence_number)| FirEntry {
            ssrc,
            sequence_number,
        })
        .to_vec();
    let fir = FullIntraRequest {
        sender_ssrc: SENDER,
        media_ssrc: 0,
        fir,
    };
    assert_eq!(theirs::<FullIntraRequest>(&bytes), fir);
    let bytes = marshalled(fir);
    let Rtcp::Fir { entries: found } = ours(&bytes) else {
        panic!("not a FIR")
    };
    assert_eq!(found.collect::<Vec<_>>(), entries);
}

#[test]
fn bitrate_limits_agree_both_ways() {
    for bitrate in [
        0u64,
        1,
        0x3_ffff,
        0x4_0000,
        1_000_000,
        2_500_000,
        123_456_789,
        1 << 40,
    ] {
        let bytes = written(|out| write_remb(out, SENDER, bitrate, &[MEDIA, 7]));
        let Rtcp::Remb { bitrate_bps } = ours(&bytes) else {
            panic!("not a REMB")
        };
        assert!(
            bitrate_bps <= bitrate && bitrate - bitrate_bps <= bitrate >> 17,
            "{bitrate}"
        );
        if bitrate == 0 {
            continue; // the other implementation reads 2^23
        }
        let read = theirs::<ReceiverEstimatedMaximumBitrate>(&bytes);
        assert_eq!(
            (read.bitrate as u64, &read.ssrcs[..]),
            (bitrate_bps, &[MEDIA, 7][..])
        );
        let bytes = marshalled(read);
        let Rtcp::Remb { bitrate_bps: again } = ours(&bytes) else {
            panic!("not a REMB")
        };
        assert_eq!(again, bitrate_bps);
    }
    let mut bytes = written(|out| write_remb(out, SENDER, u64::MAX, &[]));
    bytes[17..20].copy_from_slice(&[0xff; 3]);
    assert!(matches!(
        ours(&bytes),
        Rtcp::Remb {
            bitrate_bps: u64::MAX
        }
    ));
}

#[test]
fn negative_acknowledgements_agree_both_ways() {
    let lost = [65_533, 65_535, 0, 13, 14, 40, 57, 2000];
    let bytes = written(|out| write_nack(out, SENDER, MEDIA, &lost));
    assert_eq!(bytes.len(), 12 + 4 * 5);
    let read = theirs::<TransportLayerNack>(&bytes);
    let told: Vec<u16> = read
        .nacks
        .iter()
        .flat_map(|pair| pair.packet_list())
        .collect();
    assert_eq!(told, lost);
    let bytes = marshalled(read);
    let Rtcp::Nack {
        media: MEDIA,
        lost: found,
    } = ours(&bytes)
    else {
        panic!("not a NACK");
    };
    assert_eq!(found.collect::<Vec<_>>(), lost);
    assert_eq!(write_nack(&mut [0; 99], SENDER, MEDIA, &[]), None);
}

#[test]
fn a_nack_asks_for_at_most_a_thousand() {
    let lost: Vec<u16> = (0..6000).collect();
    let bytes = written(|out| write_nack(out, SENDER, MEDIA, &lost));
    let Rtcp::Nack { lost, .. } = ours(&bytes) else {
        panic!("not a NACK")
    };
    assert_eq!(lost.count(), 1000);
}

fn twcc_header(base_sequence: u16, reference_time: u32) -> TwccHeader {
    TwccHeader {
        sender: SENDER,
        media: MEDIA,
        base_sequence,
        reference_time,
        feedback_count: 200,
    }
}

fn statuses(bytes: &[u8]) -> Vec<(u16, Option<i64>)> {
    let Rtcp::Twcc(feedback) = ours(bytes) else {
        panic!("not a feedback")
    };
    feedback.arrivals().collect()
}

#[test]
fn a_steady_stream_is_one_run() {
    let arrivals: Vec<_> = (0..100u16)
        .map(|i| (i, Some(512 + u64::from(i) * 4)))
        .collect();
    let bytes = written(|out| write_twcc(out, &twcc_header(0, 2), &arrivals));
    assert_eq!(bytes.len(), (20usize + 2 + 100).next_multiple_of(4));
    let expected: Vec<_> = (0..100u16)
        .map(|i| (i, Some(512 + i64::from(i) * 4)))
        .collect();
    assert_eq!(statuses(&bytes), expected);
}

#[test]
fn numbers_left_out_count_as_lost() {
    let bytes = written(|out| {
        write_twcc(
            out,
            &twcc_header(65_534, 0),
            &[(65_535, Some(3)), (0, None), (2, Some(1))],
        )
    });
    let expected = [
        (65_534, None),
        (65_535, Some(3)),
        (0, None),
        (1, None),
        (2, Some(1)),
    ];
    assert_eq!(statuses(&bytes), expected);
}

#[test]
fn feedback_that_cannot_be_told_is_refused() {
    let refuses = |base, arrivals: &[(u16, Option<u64>)]| {
        write_twcc(&mut [0; 20_000], &twcc_header(base, 0), arrivals).is_none()
    };
    assert!(refuses(0, &[]));
    assert!(refuses(0, &[(1, Some(1)), (1, Some(1))]));
    assert!(refuses(0, &[(1, Some(1)), (0, Some(1))]));
    assert!(refuses(0, &[(0, Some(1)), (1, Some(40_000))]));
    assert!(refuses(0, &[(0, Some(u64::MAX))]));
    assert!(refuses(1, &[(0, Some(1))]), "65535 packets after the base");
    assert!(!refuses(0, &[(0, Some(32_767)), (1, Some(0))]));
}

#[test]
fn a_feedback_is_bounded_by_its_status_limit() {
    // Nine runs of 8191 lost packets: 20 bytes that speak of 65535 packets.
    let mut bytes = vec![
        0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0xff, 0xff, 0, 0, 0, 0,
    ];
    bytes.extend([0x1f, 0xff].repeat(9));
    bytes.extend([0, 0]);
    bytes[3] = u8::try_from(bytes.len() / 4 - 1).unwrap();
    let Rtcp::Twcc(feedback) = ours(&bytes) else {
        panic!("not a feedback")
    };
    assert_eq!(feedback.arrivals().count(), 8192);
}

#[test]
fn malformed_feedback_is_no_feedback() {
    let packet = |count: u8, body: &[u8]| {
        let mut bytes = vec![
            0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, count, 0, 0, 0, 0,
        ];
        bytes.extend(body);
        bytes[3] = u8::try_from(bytes.len() / 4 - 1).unwrap();
        packets(&bytes).next().is_some()
    };
    assert!(packet(1, &[0x20, 1, 9, 0]));
    assert!(packet(0, &[]));
    assert!(!packet(1, &[]), "no chunk");
    assert!(!packet(3, &[0x20, 3, 9, 0]), "two deltas of three");
    assert!(!packet(1, &[0x60, 1, 9, 0]), "the reserved symbol");
    assert!(!packet(1, &[0x00, 0, 0x00, 0]), "runs of nothing");
}

#[test]
fn compound_packets_come_in_order_and_a_malformed_tail_ends_them() {
    let mut datagram = written(|out| write_rr(out, SENDER, &[]));
    datagram.extend(written(|out| write_sdes_cname(out, SENDER, "name")));
    datagram.extend(written(|out| write_pli(out, SENDER, MEDIA)));
    datagram.extend([0x80, 204, 0, 1, 0, 0, 0, 1]); // APP
    datagram.extend([0x81, 206, 0, 9, 0, 0]);
    let found: Vec<_> = packets(&datagram).collect();
    assert!(matches!(
        found[..],
        [
            Rtcp::ReceiverReport { .. },
            Rtcp::Other,
            Rtcp::Pli { .. },
            Rtcp::Other
        ]
    ));
}

#[test]
fn a_report_with_fewer_blocks_than_it_says_is_refused() {
    let mut bytes = written(|out| write_rr(out, SENDER, &[block(1)]));
    bytes[0] = 0x82;
    assert!(packets(&bytes).next().is_none());
}

#[test]
fn padding_is_taken_off() {
    let mut bytes = vec![0xa0, 201, 0, 2, 0, 0, 0, 7, 0, 0, 0, 4];
    assert!(matches!(ours(&bytes), Rtcp::ReceiverReport { .. }));
    for padding in [0, 5, 9, 255] {
        bytes[11] = padding;
        assert!(packets(&bytes).next().is_none(), "{padding}");
    }
}

#[test]
fn no_truncation_of_any_packet_panics() {
    let arrivals: Vec<_> = (0..60u16)
        .map(|i| (i * 2, Some(u64::from(i) * 300)))
        .collect();
    let fields = SenderReportFields {
        ssrc: 1,
        ntp: 2,
        rtp_ts: 3,
        packets: 4,
        octets: 5,
    };
    let whole = [
        written(|out| write_sr(out, &fields, &[block(1), block(2)])),
        written(|out| write_rr(out, SENDER, &[block(1)])),
        written(|out| write_sdes_cname(out, SENDER, "name")),
        written(|out| write_nack(out, SENDER, MEDIA, &[1, 2, 99])),
        written(|out| write_fir(out, SENDER, &[(1, 2), (3, 4)])),
        written(|out| write_remb(out, SENDER, 5_000_000, &[1, 2, 3])),
        written(|out| write_twcc(out, &twcc_header(0, 0), &arrivals)),
    ];
    for packet in whole {
        for length in 0..packet.len() {
            assert!(packets(&packet[..length]).next().is_none());
            // The same with a length field that fits what is left.
            let mut cut = packet[..length / 4 * 4].to_vec();
            if cut.len() >= 4 {
                cut[3] = u8::try_from(cut.len() / 4 - 1).unwrap();
            }
            packets(&cut).for_each(walk);
        }
    }
}

/// Writes a receiver estimated maximum bitrate, rounded down to what 18 bits of mantissa can say.
fn write_remb(out: &mut [u8], sender: u32, bitrate_bps: u64, ssrcs: &[u32]) -> Option<usize> {
    let mut writer = begin_feedback(out, (PAYLOAD_FEEDBACK, APPLICATION), sender, 0)?;
    writer.put(REMB)?;
    let exponent = 46u32.saturating_sub(bitrate_bps.leading_zeros()); // 64 - 18 bits of mantissa
    let mantissa = u32::try_from(bitrate_bps >> exponent).ok()?;
    let count = u32::from(u8::try_from(ssrcs.len()).ok()?);
    writer.put_u32(count << 24 | exponent << 18 | mantissa)?;
    ssrcs.iter().try_for_each(|&ssrc| writer.put_u32(ssrc))?;
    finish(writer)
}

/// Reads all there is in a packet.
fn walk(packet: Rtcp<'_>) {
    let count = match packet {
        Rtcp::SenderReport { reports, .. } | Rtcp::ReceiverReport { reports, .. } => {
            reports.count()
        }
        Rtcp::Nack { lost, .. } => lost.count(),
        Rtcp::Fir { entries, .. } => entries.count(),
        Rtcp::Twcc(feedback) => feedback.arrivals().count(),
        _ => 0,
    };
    assert!(count <= 8192);
}

/// Gaps, lost packets and jumps of all sizes.
fn any_arrivals() -> impl Strategy<Value = (u16, u32, Vec<(u16, Option<u64>)>)> {
    let step = prop_oneof![Just(1u16), Just(1), Just(1), 1u16..4, 1u16..60];
    let delta = prop_oneof![0i64..200, 0i64..200, 0i64..300, -3000i64..30_000];
    let arrival = prop_oneof![4 => delta.prop_map(Some), 1 => Just(None)];
    let steps = prop::collection::vec((step, arrival), 1..120);
    (any::<u16>(), 100u32..0xff_0000, steps).prop_map(|(base, reference, steps)| {
        let mut sequence = base.wrapping_sub(1);
        let mut ticks = u64::from(reference) * 256;
        let mut arrivals = Vec::new();
        for (step, delta) in steps {
            sequence = sequence.wrapping_add(step);
            let arrival = delta.map(|delta| {
                ticks = ticks.saturating_add_signed(delta);
                ticks
            });
            arrivals.push((sequence, arrival));
        }
        (base, reference, arrivals)
    })
}

proptest! {
    #[test]
    fn feedback_round_trips((base, reference, arrivals) in any_arrivals()) {
        let mut out = [0; 20_000];
        let header = twcc_header(base, reference);
        let length = write_twcc(&mut out, &header, &arrivals).unwrap();
        let told = statuses(&out[..length]);
        let expected: std::collections::HashMap<_, _> = arrivals
            .iter()
            .map(|&(sequence, arrival)| (sequence, arrival.map(|ticks| i64::try_from(ticks).unwrap())))
            .collect();
        for (offset, &(sequence, arrival)) in told.iter().enumerate() {
            prop_assert_eq!(sequence, base.wrapping_add(u16::try_from(offset).unwrap()));
            prop_assert_eq!(arrival, expected.get(&sequence).copied().flatten());
        }
        prop_assert_eq!(told.last().map(|told| told.0), arrivals.last().map(|told| told.0));
    }

    #[test]
    fn feedback_is_read_by_the_other_implementation((base, reference, mut arrivals) in any_arrivals()) {
        // It refuses feedback that ends right behind its chunks, so let one packet have arrived.
        if let Some((_, arrival)) = arrivals.first_mut() {
            *arrival = Some(u64::from(reference) * 256);
        }
        let mut out = [0; 20_000];
        let header = twcc_header(base, reference);
        let Some(length) = write_twcc(&mut out, &header, &arrivals) else { return Ok(()) };
        let read = theirs::<TransportLayerCc>(&out[..length]);
        prop_assert_eq!((read.base_sequence_number, read.reference_time), (base, reference));
        let deltas: Vec<i64> = read.recv_deltas.iter().map(|delta| delta.delta / 250).collect();
        let mut ticks = i64::from(reference) * 256;
        let mut expected = Vec::new();
        for arrival in arrivals.iter().filter_map(|&(_, arrival)| arrival) {
            let arrival = i64::try_from(arrival).unwrap();
            expected.push(arrival - ticks);
            ticks = arrival;
        }
        prop_assert_eq!(deltas, expected);
    }

    #[test]
    fn nacks_round_trip(start in any::<u16>(), steps in prop::collection::vec(1u16..40, 1..200)) {
        let mut sequence = start;
        let lost: Vec<u16> = steps.iter().map(|step| { sequence = sequence.wrapping_add(*step); sequence }).collect();
        let mut out = [0; 2000];
        let length = write_nack(&mut out, SENDER, MEDIA, &lost).unwrap();
        let Rtcp::Nack { lost: found, .. } = ours(&out[..length]) else { panic!("not a NACK") };
        prop_assert_eq!(found.collect::<Vec<_>>(), lost);
    }

    #[test]
    fn random_bytes_never_panic(
        packets_of in prop::collection::vec(
            (0x80u8..=0xbf, 199u8..209, prop::collection::vec(any::<u8>(), 0..100)), 0..5),
    ) {
        let mut datagram = Vec::new();
        for (first, packet_type, body) in packets_of {
            let words = body.len() / 4;
            datagram.extend([first, packet_type, 0, u8::try_from(words).unwrap()]);
            datagram.extend(&body[..words * 4]);
        }
        packets(&datagram).for_each(walk);
        for length in 0..datagram.len() {
            packets(&datagram[..length]).for_each(walk);
        }
    }
}
