//! Tests of the SRTP contexts: RFC vectors, another implementation as oracle, and hostile input.
#![expect(
    clippy::cast_possible_truncation,
    reason = "payload bytes need not be whole numbers"
)]

use proptest::prelude::*;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;

use super::cipher::{CounterMode, Gcm, Library};
use super::replay::{SOURCES_MAX, WINDOW_BITS};
use super::*;
use crate::rtp::{HeaderFields, write_header};

const PROFILES: [SrtpProfile; 3] = [
    SrtpProfile::AeadAes256Gcm,
    SrtpProfile::AeadAes128Gcm,
    SrtpProfile::Aes128CmSha1_80,
];
const SSRC: u32 = 0x1122_3344;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn master(profile: SrtpProfile) -> (Vec<u8>, Vec<u8>) {
    let key = (0..profile.key_len()).map(|i| (i * 7 + 3) as u8).collect();
    let salt = (0..profile.salt_len())
        .map(|i| (i * 11 + 5) as u8)
        .collect();
    (key, salt)
}

/// Bytes that protection adds; SRTCP adds four more for the E bit and index.
fn tag_len(profile: SrtpProfile) -> usize {
    match profile {
        SrtpProfile::AeadAes256Gcm | SrtpProfile::AeadAes128Gcm => 16,
        SrtpProfile::Aes128CmSha1_80 => 10,
    }
}

fn contexts(profile: SrtpProfile) -> (SendContext, ReceiveContext) {
    let (key, salt) = master(profile);
    let send = SendContext::new(profile, &key, &salt).unwrap();
    (send, ReceiveContext::new(profile, &key, &salt).unwrap())
}

fn oracle(profile: SrtpProfile) -> Context {
    let (key, salt) = master(profile);
    let theirs = match profile {
        SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    let provider = rtc_srtp::crypto::default_provider().unwrap();
    Context::new(&key, &salt, theirs, None, None, provider.crypto()).unwrap()
}

fn header(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut out = [0; 64];
    let fields = HeaderFields {
        marker: false,
        payload_type: 96,
        sequence,
        timestamp: 5,
        ssrc,
        padding: false,
    };
    let length = write_header(&mut out, &fields, &[(3, &[1, 2, 3])]).unwrap();
    out[..length].to_vec()
}

fn protect(send: &mut SendContext, ssrc: u32, index: u64, payload: &[u8]) -> Vec<u8> {
    let header = header(ssrc, (index & 0xffff) as u16);
    protect_in_place(send, index, &header, payload, 4096).unwrap()
}

/// Protects a packet in a buffer of `room` bytes.
fn protect_in_place(
    send: &mut SendContext,
    index: u64,
    header: &[u8],
    payload: &[u8],
    room: usize,
) -> Option<Vec<u8>> {
    let mut packet = [header, payload].concat();
    let length = packet.len();
    packet.resize(room, 0xee);
    let protected = send.protect_rtp(index, header.len(), length, &mut packet)?;
    assert!(packet.iter().skip(protected).all(|byte| *byte == 0xee));
    packet.truncate(protected);
    Some(packet)
}

fn protect_rtcp(send: &mut SendContext, packet: &[u8]) -> Vec<u8> {
    let mut out = vec![0xee; 4096];
    let length = send.protect_rtcp(packet, &mut out).unwrap();
    out.truncate(length);
    out
}

fn report(ssrc: u32) -> Vec<u8> {
    let mut out = [0; 64];
    let length = crate::peer::rtcp::write_pli(&mut out, ssrc, 99).unwrap();
    out[..length].to_vec()
}

#[test]
fn derives_the_session_keys_of_rfc_3711_b3() {
    let key = hex("E1F97A0D3E018BE0D64FA32C06DE4139");
    let salt = hex("0EC675AD498AFEEBB6960B3AABE6");
    let expand = |label, length| {
        let mut out = vec![0; length];
        derive::expand(&key, &salt, label, &mut out).unwrap();
        out
    };
    assert_eq!(expand(0, 16), hex("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(expand(2, 14), hex("30CBBC08863D8C85D49DB34A9AE1"));
    assert_eq!(
        expand(1, 20),
        hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4")
    );
}

#[test]
fn makes_the_key_stream_of_rfc_3711_b2() {
    let salt = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
    let mode = CounterMode::new(&hex("2B7E151628AED2A6ABF7158809CF4F3C"), salt, &[0; 20]).unwrap();
    let mut stream = [0; 48];
    mode.key_stream_for_test(0, 0, &mut stream);
    let expected = "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB
                    41E95B3BB0A2E8DD477901E4FCA894C0";
    assert_eq!(stream.to_vec(), hex(expected));
}

/// The vectors' key in both libraries.
fn session_gcm(key_len: u8) -> [Cipher; 2] {
    let key: Vec<u8> = (0..key_len).collect();
    [Library::AwsLc, Library::Ring]
        .map(|library| Cipher::Gcm(Gcm::with_library(&key, *b"Quid pro quo", library).unwrap()))
}

#[test]
fn protects_rtp_as_rfc_7714_section_16() {
    let packet = hex(
        "8040f17b8041f8d35501a0b247616c6c696120657374206f6d6e69732064697669
                      736120696e207061727465732074726573",
    );
    let expected = [
        (
            16,
            "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a
              51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce",
        ),
        (
            32,
            "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a02
              76ffae0f1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13",
        ),
    ];
    let ciphers = expected.map(|(key_len, expected)| session_gcm(key_len).map(|c| (c, expected)));
    for (cipher, expected) in ciphers.into_iter().flatten() {
        let mut out = packet.clone();
        out.resize(100, 0);
        let length = cipher
            .seal_rtp((0x5501_a0b2, 0xf17b), 12, packet.len(), &mut out)
            .unwrap();
        assert_eq!(out[..length], hex(expected));
        let mut protected = hex(expected);
        let length = cipher
            .open_rtp(0x5501_a0b2, 0xf17b, 12, &mut protected)
            .unwrap();
        assert_eq!(protected[..length], packet[..]);
    }
}

#[test]
fn protects_rtcp_as_rfc_7714_section_17() {
    let packet = hex(
        "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61
                      deadbeefdeadbeefdeadbeefdeadbeefdeadbeef",
    );
    let expected = [
        (
            16,
            "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda
              4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
        ),
        (
            32,
            "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be
              8415f658c61de0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4",
        ),
    ];
    let ciphers = expected.map(|(key_len, expected)| session_gcm(key_len).map(|c| (c, expected)));
    for (cipher, expected) in ciphers.into_iter().flatten() {
        let mut out = [0; 100];
        let length = cipher.seal_rtcp(0x5d4, &packet, &mut out).unwrap();
        assert_eq!(out[..length], hex(expected));
        assert_eq!(cipher.rtcp_index(&out[..length]), Ok(0x5d4));
        let length = cipher
            .open_rtcp(0x4d61_7273, 0x5d4, &mut out[..length])
            .unwrap();
        assert_eq!(out[..length], packet[..]);
    }
}

#[test]
fn another_implementation_reads_our_rtp_over_three_wraps() {
    for profile in PROFILES {
        let (mut send, mut theirs) = (contexts(profile).0, oracle(profile));
        for step in 0..7_000u64 {
            let index = 100 + step * 31;
            let payload = vec![step as u8; (step % 300) as usize];
            let protected = protect(&mut send, SSRC, index, &payload);
            let plain = theirs.decrypt_rtp(&protected).unwrap();
            assert_eq!(
                plain[header(SSRC, 0).len()..],
                payload[..],
                "{profile:?} {index}"
            );
        }
    }
}

#[test]
fn we_read_another_implementations_rtp_over_three_wraps() {
    for profile in PROFILES {
        let (mut receive, mut theirs) = (contexts(profile).1, oracle(profile));
        for step in 0..7_000u64 {
            let index = 100 + step * 31;
            let mut packet = header(SSRC, (index & 0xffff) as u16);
            packet.extend(vec![step as u8; (step % 300) as usize]);
            let mut protected = theirs.encrypt_rtp(&packet).unwrap().to_vec();
            let (length, found) = receive.unprotect_rtp(&mut protected).unwrap();
            assert_eq!(
                (&protected[..length], found),
                (&packet[..], index),
                "{profile:?}"
            );
        }
    }
}

#[test]
fn rtcp_passes_between_both_implementations() {
    for profile in PROFILES {
        let ((mut send, mut receive), mut theirs) = (contexts(profile), oracle(profile));
        for _ in 0..300 {
            let packet = report(SSRC);
            let protected = protect_rtcp(&mut send, &packet);
            assert_eq!(protected.len(), packet.len() + tag_len(profile) + 4);
            assert_eq!(theirs.decrypt_rtcp(&protected).unwrap()[..], packet[..]);
            let mut protected = theirs.encrypt_rtcp(&packet).unwrap().to_vec();
            let length = receive.unprotect_rtcp(&mut protected).unwrap();
            assert_eq!(protected[..length], packet[..]);
        }
    }
}

#[test]
fn refuses_an_index_that_is_not_the_headers_and_a_small_buffer() {
    for profile in PROFILES {
        let (mut send, _) = contexts(profile);
        let (header, mut out) = (header(SSRC, 7), [0; 256]);
        let mut try_with = |index, room| protect_in_place(&mut send, index, &header, b"x", room);
        assert_eq!(try_with(8, 256), None);
        assert_eq!(try_with((1 << 48) + 7, 256), None);
        let needed = header.len() + 1 + tag_len(profile);
        for room in header.len() + 1..needed {
            assert_eq!(try_with((1 << 16) + 7, room), None);
        }
        let protected = try_with((1 << 16) + 7, needed).unwrap();
        assert_eq!(protected.len(), needed);
        for length in 0..header.len() {
            let mut packet = [&header[..], &[0; 64]].concat();
            let header_len = length.min(11);
            assert_eq!(send.protect_rtp(7, header_len, length, &mut packet), None);
        }
        let packet = report(SSRC);
        let needed = packet.len() + tag_len(profile) + 4;
        for length in 0..needed {
            assert_eq!(send.protect_rtcp(&packet, &mut out[..length]), None);
        }
        for length in 0..8 {
            assert_eq!(send.protect_rtcp(&packet[..length], &mut out), None);
        }
    }
}

#[test]
fn rtcp_indices_run_out_rather_than_repeat() {
    let (mut send, _) = contexts(SrtpProfile::AeadAes128Gcm);
    send.rtcp_index = RTCP_INDEX_MAX;
    let mut out = [0; 256];
    assert!(send.protect_rtcp(&report(1), &mut out).is_some());
    assert_eq!(send.protect_rtcp(&report(1), &mut out), None);
    assert_eq!(send.protect_rtcp(&report(2), &mut out), None);
}

#[test]
fn replayed_packets_are_refused_for_ever() {
    for profile in PROFILES {
        let (mut send, mut receive) = contexts(profile);
        let packets: Vec<_> = (0..1000)
            .map(|index| protect(&mut send, SSRC, index, b"media"))
            .collect();
        for packet in &packets {
            assert!(receive.unprotect_rtp(&mut packet.clone()).is_ok());
        }
        for packet in &packets {
            assert_eq!(
                receive.unprotect_rtp(&mut packet.clone()),
                Err(SrtpError::Replayed)
            );
        }
        let packet = protect_rtcp(&mut send, &report(SSRC));
        assert!(receive.unprotect_rtcp(&mut packet.clone()).is_ok());
        for _ in 0..1000 {
            assert_eq!(
                receive.unprotect_rtcp(&mut packet.clone()),
                Err(SrtpError::Replayed)
            );
        }
    }
}

#[test]
fn late_packets_pass_within_the_window_only() {
    let (mut send, mut receive) = contexts(SrtpProfile::AeadAes128Gcm);
    let start = 70_000;
    // Learn the rollover counter as a receiver does: from the first cycle on.
    for index in [0, 30_000, 60_000, start] {
        assert!(
            receive
                .unprotect_rtp(&mut protect(&mut send, SSRC, index, b"x"))
                .is_ok()
        );
    }
    let mut receive_at = |index| receive.unprotect_rtp(&mut protect(&mut send, SSRC, index, b"x"));
    assert_eq!(receive_at(start - WINDOW_BITS), Err(SrtpError::Replayed));
    assert!(receive_at(start - WINDOW_BITS + 1).is_ok());
    assert_eq!(
        receive_at(start - WINDOW_BITS + 1),
        Err(SrtpError::Replayed)
    );
    assert!(receive_at(start + 5).is_ok());
    assert!(receive_at(start + 3).is_ok());
    assert!(receive_at(start + 2 * WINDOW_BITS).is_ok());
    assert!(receive_at(start + 2 * WINDOW_BITS - 7).is_ok());
    assert_eq!(receive_at(start + 5), Err(SrtpError::Replayed));
}

#[test]
fn reordering_across_a_wrap_finds_the_right_cycle() {
    for profile in PROFILES {
        let (mut send, mut receive) = contexts(profile);
        for index in [
            65_530, 65_537, 65_535, 65_536, 65_534, 98_000, 130_000, 131_071, 131_075, 131_072,
        ] {
            let mut packet = protect(&mut send, SSRC, index, b"x");
            assert_eq!(
                receive.unprotect_rtp(&mut packet).map(|(_, found)| found),
                Ok(index)
            );
        }
    }
}

#[test]
fn bad_tags_create_and_change_no_state() {
    for profile in PROFILES {
        let (mut send, mut receive) = contexts(profile);
        for ssrc in 0..200 {
            let mut packet = protect(&mut send, ssrc, 5, b"media");
            *packet.last_mut().unwrap() ^= 1;
            assert_eq!(receive.unprotect_rtp(&mut packet), Err(SrtpError::BadTag));
            let mut packet = protect_rtcp(&mut send, &report(ssrc));
            packet[9] ^= 1;
            assert_eq!(receive.unprotect_rtcp(&mut packet), Err(SrtpError::BadTag));
        }
        assert_eq!(
            (receive.rtp_sources.len(), receive.rtcp_sources.len()),
            (0, 0)
        );
        // A forged packet far ahead must not move the window of a real source.
        assert!(
            receive
                .unprotect_rtp(&mut protect(&mut send, SSRC, 5, b"x"))
                .is_ok()
        );
        let mut forged = protect(&mut send, SSRC, 30_000, b"x");
        forged[20] ^= 1;
        assert_eq!(receive.unprotect_rtp(&mut forged), Err(SrtpError::BadTag));
        assert!(
            receive
                .unprotect_rtp(&mut protect(&mut send, SSRC, 4, b"x"))
                .is_ok()
        );
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    for profile in PROFILES {
        let (mut send, mut receive) = contexts(profile);
        let rtp = protect(&mut send, SSRC, 5, b"media");
        let rtcp = protect_rtcp(&mut send, &report(SSRC));
        for bit in 0..rtp.len() * 8 {
            let mut packet = rtp.clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            assert!(receive.unprotect_rtp(&mut packet).is_err());
        }
        for bit in 0..rtcp.len() * 8 {
            let mut packet = rtcp.clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            assert!(receive.unprotect_rtcp(&mut packet).is_err());
        }
        assert!(receive.unprotect_rtp(&mut rtp.clone()).is_ok());
        assert!(receive.unprotect_rtcp(&mut rtcp.clone()).is_ok());
    }
}

#[test]
fn sources_are_bounded_and_retired_ones_make_room() {
    let (mut send, mut receive) = contexts(SrtpProfile::AeadAes128Gcm);
    let ssrcs = SOURCES_MAX as u32;
    for ssrc in 0..ssrcs {
        assert!(
            receive
                .unprotect_rtp(&mut protect(&mut send, ssrc, 1, b"x"))
                .is_ok()
        );
        assert!(
            receive
                .unprotect_rtcp(&mut protect_rtcp(&mut send, &report(ssrc)))
                .is_ok()
        );
    }
    let mut late = protect(&mut send, ssrcs, 1, b"x");
    assert_eq!(
        receive.unprotect_rtp(&mut late.clone()),
        Err(SrtpError::TooManySources)
    );
    let mut packet = protect_rtcp(&mut send, &report(ssrcs));
    assert_eq!(
        receive.unprotect_rtcp(&mut packet),
        Err(SrtpError::TooManySources)
    );
    assert!(
        receive
            .unprotect_rtp(&mut protect(&mut send, 0, 2, b"x"))
            .is_ok()
    );
    // Retired sources make room, the one silent for longest first; the others cannot be replayed.
    receive.retire(0);
    receive.retire(7);
    receive.retire(9);
    assert!(receive.unprotect_rtp(&mut late).is_ok());
    assert_eq!(receive.rtp_sources.len(), SOURCES_MAX);
    let mut replay = |ssrc| receive.unprotect_rtp(&mut protect(&mut send, ssrc, 1, b"x"));
    assert_eq!(replay(0), Err(SrtpError::Replayed));
    assert_eq!(replay(9), Err(SrtpError::Replayed));
    assert!(replay(7).is_ok());
    assert_eq!(receive.rtp_sources.len(), SOURCES_MAX);
}

#[test]
fn plain_srtcp_is_refused() {
    for profile in PROFILES {
        let (mut send, mut receive) = contexts(profile);
        let mut packet = protect_rtcp(&mut send, &report(SSRC));
        let word_at = packet.len()
            - if profile == SrtpProfile::Aes128CmSha1_80 {
                14
            } else {
                4
            };
        packet[word_at] &= 0x7f;
        assert_eq!(receive.unprotect_rtcp(&mut packet), Err(SrtpError::BadTag));
    }
}

#[test]
fn keys_of_the_wrong_length_are_refused() {
    for profile in PROFILES {
        let (key, salt) = master(profile);
        assert!(SendContext::new(profile, &key[1..], &salt).is_err());
        assert!(ReceiveContext::new(profile, &key, &salt[1..]).is_err());
    }
}

#[test]
fn no_length_of_garbage_panics() {
    for profile in PROFILES {
        let (mut send, mut receive) = contexts(profile);
        let rtp = protect(&mut send, SSRC, 5, &[7; 109]);
        let rtcp = protect_rtcp(&mut send, &report(SSRC));
        for length in 0..2048 {
            for first in [0x80u8, 0x8f, 0x90, 0xb0, 0x9f] {
                let mut packet: Vec<u8> = (0..length).map(|i| (i * 31 + 9) as u8).collect();
                packet.iter_mut().take(1).for_each(|byte| *byte = first);
                assert!(receive.unprotect_rtp(&mut packet.clone()).is_err());
                assert!(receive.unprotect_rtcp(&mut packet).is_err());
            }
        }
        for length in 0..rtp.len() {
            assert!(receive.unprotect_rtp(&mut rtp[..length].to_vec()).is_err());
        }
        for length in 0..rtcp.len() {
            assert!(
                receive
                    .unprotect_rtcp(&mut rtcp[..length].to_vec())
                    .is_err()
            );
        }
        assert_eq!(receive.rtp_sources.len(), 0);
    }
}

proptest! {
    #[test]
    fn what_is_protected_is_unprotected(
        profile in prop::sample::select(&PROFILES[..]),
        ssrc in any::<u32>(),
        start in 0u64..65_536,
        steps in prop::collection::vec(-500i64..20_000, 1..60),
        payload in prop::collection::vec(any::<u8>(), 0..1300),
    ) {
        let (mut send, mut receive) = contexts(profile);
        let mut highest = start;
        let mut seen = std::collections::HashSet::new();
        for step in std::iter::once(0).chain(steps) {
            let Some(index) = highest.checked_add_signed(step) else { continue };
            let mut packet = protect(&mut send, ssrc, index, &payload);
            let result = receive.unprotect_rtp(&mut packet);
            if seen.insert(index) {
                let length = header(ssrc, 0).len() + payload.len();
                prop_assert_eq!(result, Ok((length, index)));
                prop_assert!(packet[..length].ends_with(&payload));
            } else {
                prop_assert_eq!(result, Err(SrtpError::Replayed));
            }
            highest = highest.max(index);
        }
    }
}
