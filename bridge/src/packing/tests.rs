use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::frames::{Assembler, Coding, HOLE_WAIT};
use crate::media::VideoCodec;
use crate::packets::Packet;

const SPS: [u8; 25] = [
    0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10,
    0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x24, 0x80,
];
const PPS: [u8; 5] = [0x68, 0xcb, 0x83, 0xcb, 0x20];

fn record() -> Bytes {
    video_config(&SPS, &[&PPS]).unwrap().record
}

fn packer() -> H264Packer {
    H264Packer::new(parse_avcc(&record()).unwrap())
}

fn avcc(units: &[Vec<u8>]) -> Vec<u8> {
    let framed = units.iter().map(|unit| {
        let length = u32::try_from(unit.len()).unwrap().to_be_bytes();
        [&length[..], unit].concat()
    });
    framed.collect::<Vec<_>>().concat()
}

#[test]
fn a_record_is_read_back_as_it_was_written() {
    let read = parse_avcc(&record()).unwrap();
    assert_eq!((read.length_bytes, read.sequence_sets.len()), (4, 1));
    assert_eq!(
        (&read.sequence_sets[0][..], &read.picture_sets[0][..]),
        (&SPS[..], &PPS[..])
    );
    assert_eq!(read.config().unwrap().record, record());
    for length in 0..record().len() {
        assert!(parse_avcc(&record()[..length]).is_err(), "{length}");
    }
}

#[test]
fn records_of_other_kinds_are_refused() {
    let with = |place: usize, value: u8| {
        let mut record = record().to_vec();
        record[place] = value;
        parse_avcc(&record).unwrap_err()
    };
    assert_eq!(with(0, 2), PackError::Record);
    assert_eq!(with(4, 0xfe), PackError::Record);
    assert_eq!(with(5, 0xe0), ParameterSetError::Missing.into());
    assert_eq!(with(5, 0xff), ParameterSetError::TooMany.into());
    assert_eq!(with(8, 0x68), ParameterSetError::Broken.into());
    assert_eq!(with(33, 0), ParameterSetError::Missing.into());
}

#[test]
fn parameter_sets_come_before_each_keyframe_and_nothing_but_slices_after() {
    let (idr, inter) = (vec![0x65, 0x88, 1], vec![0x41, 0x9a, 1]);
    let unit = avcc(&[
        vec![9, 0xf0],
        vec![6, 1, 2],
        SPS.to_vec(),
        vec![],
        idr.clone(),
    ]);
    let payloads = packer().pack(&unit).unwrap();
    let [sets, slice] = &payloads[..] else {
        panic!("two packets");
    };
    let expected = [&[0x78, 0, 25][..], &SPS, &[0, 5], &PPS].concat();
    assert_eq!((&sets.bytes[..], sets.marker), (&expected[..], false));
    assert_eq!((&slice.bytes[..], slice.marker), (&idr[..], true));
    assert_eq!(packer().pack(&avcc(&[inter])).unwrap().len(), 1);
}

#[test]
fn what_is_no_access_unit_is_refused_by_name() {
    let pack = |unit: &[u8]| packer().pack(unit).unwrap_err();
    assert_eq!(pack(&[]), PackError::NoPicture);
    assert_eq!(pack(&[0, 0, 0, 2, 9]), PackError::CutShort);
    assert_eq!(pack(&[0xff, 0xff, 0xff, 0xff, 9]), PackError::CutShort);
    assert_eq!(pack(&[0, 0, 0, 2, 9, 1]), PackError::NoPicture);
    assert_eq!(pack(&[0, 0, 0, 2, 0xe5, 1]), PackError::Unit(0xe5));
    assert_eq!(pack(&[0, 0, 0, 2, 0x7c, 1]), PackError::Unit(0x7c));
    let many = vec![vec![0x41, 0x9a]; UNITS_MAX + 1];
    assert_eq!(pack(&avcc(&many)), PackError::TooManyUnits);
    assert_eq!(avcc_to_nals(&[1, 0x41, 2, 0x41, 0x9a], 1).unwrap().len(), 2);
    assert_eq!(avcc_to_nals(&[], 3), Err(PackError::Record));
}

#[test]
fn parameter_sets_that_do_not_fit_one_packet_are_fragmented() {
    let mut record = parse_avcc(&record()).unwrap();
    record.picture_sets = vec![[&PPS[..], &[1; 3000]].concat().into()];
    let payloads = H264Packer::new(record)
        .pack(&avcc(&[vec![0x65, 0x88]]))
        .unwrap();
    assert_eq!(payloads.len(), 1 + 3 + 1);
    assert!(
        payloads
            .iter()
            .all(|payload| payload.bytes.len() <= PAYLOAD_BYTES_MAX)
    );
}

#[expect(clippy::disallowed_methods, reason = "where the virtual clock starts")]
fn start() -> Instant {
    Instant::now()
}

proptest! {
    #[test]
    fn what_is_packed_is_unpacked_again(
        pictures in prop::collection::vec(
            (any::<bool>(), prop::collection::vec(prop::collection::vec(any::<u8>(), 2..5000), 1..5)),
            1..8,
        ),
    ) {
        let mut assembler = Assembler::new(Coding::Video(VideoCodec::H264), HOLE_WAIT);
        let (now, mut sequence) = (start(), 0);
        for (place, (is_key, slices)) in pictures.into_iter().enumerate() {
            let is_key = is_key || place == 0;
            let beginning = if is_key { [0x65, 0x88, 0x80] } else { [0x41, 0x9a, 0x80] };
            let units: Vec<_> = slices.iter().map(|data| [&beginning[..], data].concat()).collect();
            let payloads = packer().pack(&avcc(&units)).unwrap();
            prop_assert!(payloads.iter().all(|payload| payload.bytes.len() <= PAYLOAD_BYTES_MAX));
            for payload in payloads {
                sequence += 1;
                assembler.handle_packet(Packet {
                    sequence,
                    timestamp: place as u64,
                    marker: payload.marker,
                    arrival: now,
                    payload: payload.bytes,
                });
            }
            let frame = assembler.poll_frame();
            prop_assert!(frame.is_some(), "{:?}", assembler.last_refusal());
            let frame = frame.unwrap();
            prop_assert_eq!(&frame.data, &avcc(&units));
            prop_assert_eq!(frame.is_key, is_key);
        }
    }

    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..300), length in 0..6usize) {
        let _ = packer().pack(&noise);
        let _ = avcc_to_nals(&noise, length);
        let _ = parse_avcc(&noise);
        let mut mutated = record().to_vec();
        for (byte, noise) in mutated.iter_mut().zip(noise.iter().skip(length)) {
            *byte ^= if noise % 4 == 0 { *noise } else { 0 };
        }
        let _ = parse_avcc(&mutated);
    }
}
