//! Tests of the STUN codec: the vectors of RFC 5769, our own writers, and hostile input.

use proptest::prelude::*;

use super::*;

const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";
const ID: TransactionId = [
    0xb7, 0xe7, 0xa7, 1, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// RFC 5769 §2.1.
fn sample_request() -> Vec<u8> {
    hex(
        "00010058 2112a442 b7e7a701 bc34d686 fa87dfae 80220010 5354554e 20746573 7420636c 69656e74
         00240004 6e0001ff 80290008 932ff9b1 51263b36 00060009 6576746a 3a683676 59202020
         00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2 80280004 e57a3bcf",
    )
}

#[test]
fn reads_the_request_of_rfc_5769() {
    let bytes = sample_request();
    let message = Message::parse(&bytes).unwrap();
    assert!(message.is_binding_request() && message.has_fingerprint);
    assert_eq!(message.transaction_id, ID);
    assert_eq!(message.username, Some("evtj:h6vY"));
    assert_eq!(message.priority, Some(0x6e00_01ff));
    assert_eq!(message.ice_controlled, Some(0x932f_f9b1_5126_3b36));
    assert_eq!(
        (message.ice_controlling, message.use_candidate),
        (None, false)
    );
    assert_eq!(message.integrity_offset(), Some(76));
    assert!(message.unknown_required().is_empty());
    assert!(message.verify_integrity(PASSWORD));
    assert!(!message.verify_integrity(b"VOkJxbRl1RmTxUk/WvJxBu"));
    assert!(!message.verify_integrity(b""));
}

#[test]
fn reads_the_responses_of_rfc_5769() {
    let v4 = hex(
        "0101003c 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220
                  00200008 0001a147 e112a643 00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
                  80280004 c07d4c96",
    );
    let v6 = hex(
        "01010048 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220
                  00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9 00080014 a382954e 4be67bf1
                  1784c97c 8292c275 bfe3ed41 80280004 c8fb0b4c",
    );
    let mapped = [
        (v4, "192.0.2.1:32853"),
        (v6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
    ];
    for (bytes, mapped) in mapped {
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.class, message.method), (Class::Success, BINDING));
        assert_eq!(message.mapped, mapped.parse().ok());
        assert!(message.verify_integrity(PASSWORD));
    }
}

#[test]
fn our_success_responses_read_back() {
    for mapped in ["192.0.2.1:32853", "[2001:db8::7]:1"] {
        let mapped = mapped.parse().unwrap();
        let mut out = [0xee; RESPONSE_BYTES_MAX];
        let length = write_success(&mut out, &ID, mapped, PASSWORD);
        assert!(length <= 100, "no more than an unproven source may cause");
        let message = Message::parse(&out[..length]).unwrap();
        assert_eq!(
            (message.class, message.mapped),
            (Class::Success, Some(mapped))
        );
        assert!(message.has_fingerprint && message.verify_integrity(PASSWORD));
        for short in 0..length {
            assert_eq!(write_success(&mut out[..short], &ID, mapped, PASSWORD), 0);
        }
    }
}

#[test]
fn our_errors_read_back() {
    let mut out = [0; RESPONSE_BYTES_MAX];
    for (code, unknown, key) in [
        (400, &[][..], None),
        (420, &[0x7777, 0x0003, 0x0004], Some(PASSWORD)),
        (487, &[], Some(PASSWORD)),
    ] {
        let length = write_error(&mut out, &ID, code, unknown, key);
        let message = Message::parse(&out[..length]).unwrap();
        assert_eq!(
            (message.class, message.error_code),
            (Class::Error, Some(code))
        );
        assert_eq!(message.verify_integrity(PASSWORD), key.is_some());
    }
}

#[test]
fn our_requests_read_back() {
    let request = Request {
        transaction_id: ID,
        username: "evtj:h6vY",
        priority: 1,
        role: Role::Controlling(7),
        use_candidate: true,
    };
    let mut out = [0; 256];
    let length = write_request(&mut out, &request, PASSWORD);
    let message = Message::parse(&out[..length]).unwrap();
    assert_eq!(
        (message.priority, message.ice_controlling),
        (Some(1), Some(7))
    );
    assert!(message.use_candidate && message.verify_integrity(PASSWORD));
}

#[test]
fn unknown_required_attributes_are_told_and_bounded() {
    let mut out = [0; 256];
    let mut writer = begin(&mut out, Class::Request, &ID).unwrap();
    for kind in 0x7000..0x7014 {
        put_attribute(&mut writer, kind, &[1]).unwrap();
    }
    put_attribute(&mut writer, 0xc001, b"optional").unwrap();
    let length = finish(writer, Some(PASSWORD)).unwrap();
    let message = Message::parse(&out[..length]).unwrap();
    assert_eq!(
        message.unknown_required(),
        (0x7000..0x7008).collect::<Vec<_>>()
    );
}

#[test]
fn nothing_after_integrity_counts() {
    let mut out = [0; 256];
    let mut writer = begin(&mut out, Class::Request, &ID).unwrap();
    put_attribute(&mut writer, USERNAME, b"a:b").unwrap();
    let tag = integrity(writer.written(), PASSWORD)
        .unwrap()
        .finalize()
        .into_bytes();
    put_attribute(&mut writer, MESSAGE_INTEGRITY, &tag).unwrap();
    put_attribute(&mut writer, USE_CANDIDATE, &[]).unwrap();
    let length = finish(writer, None).unwrap();
    let message = Message::parse(&out[..length]).unwrap();
    assert!(message.verify_integrity(PASSWORD) && !message.use_candidate);
}

#[test]
fn every_truncation_and_extension_is_refused() {
    let bytes = sample_request();
    for length in 0..bytes.len() {
        assert!(Message::parse(&bytes[..length]).is_none());
    }
    for extra in 1..9 {
        let longer = [&bytes[..], &vec![0; extra]].concat();
        assert!(Message::parse(&longer).is_none());
    }
}

#[test]
fn every_flipped_bit_fails_the_fingerprint() {
    let bytes = sample_request();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let accepted = Message::parse(&changed).filter(|message| message.has_fingerprint);
        assert!(
            accepted.is_none_or(|message| !message.verify_integrity(PASSWORD)),
            "bit {bit}"
        );
    }
}

#[test]
fn truncated_attributes_with_a_right_length_never_panic() {
    let whole = sample_request();
    for length in (20..whole.len()).step_by(4) {
        let mut bytes = whole[..length].to_vec();
        let stated = u16::try_from(length - 20).unwrap().to_be_bytes();
        bytes[2..4].copy_from_slice(&stated);
        if let Some(message) = Message::parse(&bytes) {
            assert!(!message.verify_integrity(PASSWORD) || message.integrity_at.is_some());
        }
    }
}

proptest! {
    #[test]
    fn random_attributes_never_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let body = &body[..body.len() / 4 * 4];
        let mut bytes = vec![0, 1];
        bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(MAGIC_COOKIE.to_be_bytes());
        bytes.extend(ID);
        bytes.extend(body);
        if let Some(message) = Message::parse(&bytes) {
            prop_assert!(!message.verify_integrity(PASSWORD));
        }
    }

    #[test]
    fn well_formed_random_attributes_never_panic(
        attributes in prop::collection::vec(
            (prop::sample::select(vec![6u16, 8, 9, 0x20, 0x24, 0x25, 0x8029, 0x802a, 0x8028, 0x7000]),
             prop::collection::vec(any::<u8>(), 0..24)), 0..12),
    ) {
        let mut out = [0; 1024];
        let mut writer = begin(&mut out, Class::Request, &ID).unwrap();
        for (kind, value) in &attributes {
            put_attribute(&mut writer, *kind, value).unwrap();
        }
        let length = finish(writer, Some(PASSWORD)).unwrap();
        let _ = Message::parse(&out[..length]).map(|message| message.verify_integrity(PASSWORD));
    }
}
