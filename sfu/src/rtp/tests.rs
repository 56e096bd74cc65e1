//! Tests of the RTP view, header writer and unwrappers.

use proptest::prelude::*;

use super::*;

const FIELDS: HeaderFields = HeaderFields {
    marker: true,
    payload_type: 96,
    sequence: 0xfffe,
    timestamp: 0x1234_5678,
    ssrc: 0xdead_beef,
    padding: false,
};

fn written(fields: &HeaderFields, extensions: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
    let mut out = [0xaa; 2048];
    let length = write_header(&mut out, fields, extensions).unwrap();
    let mut packet = out[..length].to_vec();
    packet.extend_from_slice(payload);
    packet
}

#[test]
fn reads_a_plain_header() {
    let packet = written(&FIELDS, &[], b"media");
    let view = RtpView::parse(&packet).unwrap();
    assert_eq!(
        (view.marker, view.payload_type, view.sequence),
        (true, 96, 0xfffe)
    );
    assert_eq!(
        (view.timestamp, view.ssrc, view.header_len),
        (0x1234_5678, 0xdead_beef, 12)
    );
    assert_eq!(view.payload(), Some(&b"media"[..]));
    assert_eq!(view.extensions().count(), 0);
}

#[test]
fn skips_contributing_sources() {
    let mut packet = vec![
        0x82, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 1, 1, 1, 1, 2, 2, 2, 2,
    ];
    packet.extend_from_slice(b"x");
    let view = RtpView::parse(&packet).unwrap();
    assert_eq!((view.header_len, view.payload()), (20, Some(&b"x"[..])));
    assert!(RtpView::parse(&packet[..19]).is_none());
}

#[test]
fn writes_the_one_byte_form_when_it_fits() {
    let extensions: [(u8, &[u8]); 2] = [(3, &[1, 2, 3]), (14, &[9; 16])];
    let packet = written(&FIELDS, &extensions, b"p");
    assert_eq!(packet[12..14], [0xbe, 0xde]);
    let view = RtpView::parse(&packet).unwrap();
    assert_eq!(view.extensions().collect::<Vec<_>>(), extensions);
    assert_eq!(view.extension(14), Some(&[9; 16][..]));
    assert_eq!(view.extension(1), None);
}

#[test]
fn writes_the_two_byte_form_otherwise() {
    for extensions in [
        [(15u8, &[1u8, 2, 3][..]), (1, &[4])],
        [(1, &[7; 17][..]), (200, &[])],
        [(1, &[][..]), (2, &[5])],
    ] {
        let packet = written(&FIELDS, &extensions, b"p");
        assert_eq!(packet[12..14], [0x10, 0x00]);
        let view = RtpView::parse(&packet).unwrap();
        assert_eq!(view.extensions().collect::<Vec<_>>(), extensions);
        assert_eq!(view.payload(), Some(&b"p"[..]));
    }
}

#[test]
fn refuses_what_no_form_can_carry() {
    let mut out = [0; 2048];
    assert_eq!(write_header(&mut out, &FIELDS, &[(0, &[1])]), None);
    assert_eq!(write_header(&mut out, &FIELDS, &[(1, &[1; 256])]), None);
    let needed = write_header(&mut out, &FIELDS, &[(1, &[1; 5])]).unwrap();
    for length in 0..needed {
        assert_eq!(
            write_header(&mut out[..length], &FIELDS, &[(1, &[1; 5])]),
            None
        );
    }
}

#[test]
fn stops_at_the_reserved_id_and_at_overlong_elements() {
    let header = |profile: [u8; 2], block: [u8; 8]| {
        let mut packet = vec![0x90, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend_from_slice(&profile);
        packet.extend_from_slice(&[0, 2]);
        packet.extend_from_slice(&block);
        packet
    };
    let ids = |packet: &[u8]| {
        RtpView::parse(packet)
            .unwrap()
            .extensions()
            .map(|(id, _)| id)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ids(&header([0xbe, 0xde], [0x10, 1, 0xf0, 0x20, 2, 0, 0, 0])),
        [1]
    );
    assert_eq!(
        ids(&header([0xbe, 0xde], [0, 0x10, 1, 0, 0x2f, 2, 0, 0])),
        [1]
    );
    assert_eq!(
        ids(&header([0xbe, 0xde], [0x10, 1, 0x03, 1, 2, 3, 4, 0])),
        [1]
    );
    assert_eq!(ids(&header([0x10, 0x07], [1, 1, 9, 0, 2, 2, 8, 8])), [1, 2]);
    assert_eq!(ids(&header([0x10, 0x00], [1, 1, 9, 0, 0, 0, 0, 8])), [1]);
    assert_eq!(ids(&header([0x10, 0x00], [1, 1, 9, 2, 9, 0, 0, 8])), [1]);
    assert!(ids(&header([0x12, 0x34], [1, 1, 9, 0, 0, 0, 0, 8])).is_empty());
}

#[test]
fn padding_is_taken_off_and_never_longer_than_the_payload() {
    let fields = HeaderFields {
        padding: true,
        ..FIELDS
    };
    let payload = |bytes: &[u8]| {
        let packet = written(&fields, &[], bytes);
        let view = RtpView::parse(&packet).unwrap();
        view.payload().map(<[u8]>::to_vec)
    };
    assert_eq!(payload(&[1, 2, 0, 0, 3]), Some(vec![1, 2]));
    assert_eq!(payload(&[0, 0, 3]), Some(vec![]));
    assert_eq!(payload(&[0, 0, 4]), None);
    assert_eq!(payload(&[1, 0]), None);
    assert_eq!(payload(&[]), None);
}

#[test]
fn no_length_of_any_packet_panics() {
    let extensions: [(u8, &[u8]); 3] = [(1, &[1; 16]), (2, &[2; 3]), (9, &[0])];
    let whole = written(
        &HeaderFields {
            padding: true,
            ..FIELDS
        },
        &extensions,
        &[7; 60],
    );
    for length in 0..whole.len() {
        let Some(view) = RtpView::parse(&whole[..length]) else {
            continue;
        };
        assert!(view.header_len <= length);
        let _ = (view.payload(), view.extensions().count());
    }
}

#[test]
fn sequence_numbers_survive_wraps_reordering_and_loss() {
    let mut unwrapper = SequenceUnwrapper::default();
    assert_eq!(unwrapper.unwrap(3), (1 << 16) + 3);
    assert_eq!(unwrapper.unwrap(65_534), 65_534);
    assert_eq!(unwrapper.unwrap(2), (1 << 16) + 2);
    let mut expected = (1u64 << 16) + 3;
    for _ in 0..40_000 {
        expected += 7;
        assert_eq!(unwrapper.unwrap((expected & 0xffff) as u16), expected);
        assert_eq!(
            unwrapper.unwrap(((expected - 5) & 0xffff) as u16),
            expected - 5
        );
    }
}

#[test]
fn timestamps_survive_wraps() {
    let mut unwrapper = TimestampUnwrapper::default();
    assert_eq!(unwrapper.unwrap(0xffff_fff0), (1 << 32) + 0xffff_fff0);
    assert_eq!(unwrapper.unwrap(0x10), (2 << 32) + 0x10);
    assert_eq!(unwrapper.unwrap(0xffff_ffff), (1 << 32) + 0xffff_ffff);
}

proptest! {
    #[test]
    fn headers_round_trip(
        (marker, padding) in any::<(bool, bool)>(),
        payload_type in 0u8..128,
        (sequence, timestamp, ssrc) in any::<(u16, u32, u32)>(),
        extensions in prop::collection::vec((1u8.., prop::collection::vec(any::<u8>(), 0..40)), 0..8),
        payload in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let fields = HeaderFields { marker, payload_type, sequence, timestamp, ssrc, padding };
        let extensions: Vec<(u8, &[u8])> =
            extensions.iter().map(|(id, data)| (*id, data.as_slice())).collect();
        let packet = written(&fields, &extensions, &payload);
        let view = RtpView::parse(&packet).unwrap();
        prop_assert_eq!(view.extensions().collect::<Vec<_>>(), extensions);
        prop_assert_eq!((view.marker, view.payload_type, view.sequence), (marker, payload_type, sequence));
        prop_assert_eq!((view.timestamp, view.ssrc), (timestamp, ssrc));
        prop_assert_eq!(&packet[view.header_len..], &payload[..]);
        if !padding {
            prop_assert_eq!(view.payload(), Some(&payload[..]));
        }
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), cc in any::<u8>()) {
        if let Some(first) = bytes.first_mut() {
            *first = 0x80 | (cc & 0x3f);
        }
        if let Some(view) = RtpView::parse(&bytes) {
            let total: usize = view.extensions().map(|(_, data)| data.len()).sum();
            prop_assert!(total <= bytes.len());
            let _ = view.payload();
        }
    }

    #[test]
    fn unwrapping_keeps_order_for_any_walk(steps in prop::collection::vec(-3000i64..20_000, 1..200)) {
        let mut unwrapper = SequenceUnwrapper::default();
        let mut highest = (1u64 << 16) + 40_000;
        unwrapper.unwrap((highest & 0xffff) as u16);
        for step in steps {
            let place = highest.saturating_add_signed(step);
            prop_assert_eq!(unwrapper.unwrap((place & 0xffff) as u16), place);
            highest = highest.max(place);
        }
    }
}
