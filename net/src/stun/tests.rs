//! Tests of the STUN codec: the vectors of RFC 5769 and RFC 8489, our own writer, and hostile input.

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
    assert!(message.is_request(BINDING) && message.has_fingerprint);
    assert_eq!(message.transaction_id, ID);
    assert_eq!(message.attribute(USERNAME), Some(&b"evtj:h6vY"[..]));
    assert_eq!(message.attribute(0x0024), Some(&[0x6e, 0, 1, 0xff][..]));
    assert_eq!(message.attributes().count(), 4);
    assert!(message.verify(Integrity::Sha1(PASSWORD)));
    assert!(!message.verify(Integrity::Sha1(b"VOkJxbRl1RmTxUk/WvJxBu")));
    assert!(!message.verify(Integrity::Sha1(b"")));
    assert!(!message.verify(Integrity::Sha256(PASSWORD)));
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
        let value = message.attribute(XOR_MAPPED_ADDRESS).unwrap();
        assert_eq!(message.xor_address(value), mapped.parse().ok());
        assert!(message.verify(Integrity::Sha1(PASSWORD)));
    }
}

/// RFC 5769 §2.4: long-term credentials; the key is MD5("マトリックス:example.org:TheMatrIX").
#[test]
fn reads_the_long_term_request_of_rfc_5769() {
    let bytes = hex(
        "00010060 2112a442 78ad3433 c6ad72c0 29da412e 00060012 e3839ee3 8388e383 aae38383
         e382afe3 82b90000 0015001c 662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679
         36347341 0014000b 6578616d 706c652e 6f726700 00080014 f6702465 6dd64a3e 02b8e071
         2e85c9a2 8ca89666",
    );
    let key = hex("e8ca7ad5 9d5eb051 8e312911 d2dab2a9");
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.attribute(REALM), Some(&b"example.org"[..]));
    let nonce = b"f//499k954d6OL34oL9FSTvy64sA";
    assert_eq!(message.attribute(NONCE), Some(&nonce[..]));
    assert!(message.verify(Integrity::Sha1(&key)));
    assert!(!message.verify(Integrity::Sha1(&key[1..])));
}

#[test]
fn what_is_written_reads_back_with_either_integrity() {
    let address = "[2001:db8::7]:4711".parse().unwrap();
    for integrity in [Integrity::Sha1(PASSWORD), Integrity::Sha256(PASSWORD)] {
        let mut out = [0xee; 256];
        let length = sample(&mut out, address, integrity).unwrap();
        let message = Message::parse(&out[..length]).unwrap();
        assert_eq!(
            (message.class, message.method),
            (Class::Error, 0x0abc & 0xfff)
        );
        assert_eq!(message.attribute(ERROR_CODE), Some(&[0, 0, 4, 38][..]));
        let value = message.attribute(XOR_MAPPED_ADDRESS).unwrap();
        assert_eq!(message.xor_address(value), Some(address));
        assert!(message.has_fingerprint && message.verify(integrity));
        assert_ne!(message.has_sha1(), message.has_sha256());
        let other = match integrity {
            Integrity::Sha1(_) => Integrity::Sha256(PASSWORD),
            Integrity::Sha256(_) => Integrity::Sha1(PASSWORD),
        };
        assert!(!message.verify(other));
        for short in 0..length {
            assert_eq!(sample(&mut out[..short], address, integrity), None);
        }
    }
}

fn sample(out: &mut [u8], address: SocketAddr, integrity: Integrity<'_>) -> Option<usize> {
    let mut writer = MessageWriter::new(out, Class::Error, 0x0abc, &ID)?;
    writer.put_error(438)?;
    writer.put(REALM, b"plenum")?;
    writer.put_unknown(&[1, 2, 3])?;
    writer.put_xor_address(XOR_MAPPED_ADDRESS, address)?;
    writer.finish_with_fingerprint(Some(integrity))
}

#[test]
fn nothing_after_integrity_counts() {
    let mut out = [0; 256];
    let mut writer = MessageWriter::new(&mut out, Class::Request, BINDING, &ID).unwrap();
    writer.put(USERNAME, b"a:b").unwrap();
    let length = writer.finish(Some(Integrity::Sha1(PASSWORD))).unwrap();
    let mut bytes = out[..length].to_vec();
    bytes.extend([0x00, 0x25, 0, 0]);
    let stated = u16::try_from(bytes.len() - HEADER_BYTES).unwrap();
    bytes[2..4].copy_from_slice(&stated.to_be_bytes());
    let message = Message::parse(&bytes).unwrap();
    assert!(message.verify(Integrity::Sha1(PASSWORD)));
    assert_eq!(message.attribute(0x0025), None);
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
            accepted.is_none_or(|message| !message.verify(Integrity::Sha1(PASSWORD))),
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
            assert!(!message.verify(Integrity::Sha1(PASSWORD)) || message.has_sha1());
        }
    }
}

#[test]
fn classes_and_methods_survive_their_interleaving() {
    for class in [
        Class::Request,
        Class::Indication,
        Class::Success,
        Class::Error,
    ] {
        for method in 0..0x1000 {
            assert_eq!(split_type(join_type(class, method)), (class, method));
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
            prop_assert!(!message.verify(Integrity::Sha1(PASSWORD)));
            prop_assert!(!message.verify(Integrity::Sha256(PASSWORD)));
            prop_assert!(message.attributes().count() <= body.len() / 4);
        }
    }
}
