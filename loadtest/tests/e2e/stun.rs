//! STUN Binding requests made by hand (RFC 8489), to be wrong in chosen ways.

use hmac::{Hmac, Mac};
use sha1::Sha1;

/// The attributes of an ICE check (RFC 8445 §7.1).
pub(crate) struct Check<'a> {
    pub(crate) username: &'a str,
    pub(crate) password: &'a str,
    pub(crate) nominate: bool,
    pub(crate) transaction: [u8; 12],
}

impl Check<'_> {
    /// The request with MESSAGE-INTEGRITY; without FINGERPRINT, which is optional to a receiver.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        attribute(&mut body, 0x0006, self.username.as_bytes());
        attribute(&mut body, 0x0024, &0x6eff_ffff_u32.to_be_bytes());
        attribute(&mut body, 0x802a, &0xffff_ffff_ffff_fff0_u64.to_be_bytes());
        if self.nominate {
            attribute(&mut body, 0x0025, &[]);
        }
        let covered = message(&body, body.len() + 24, self.transaction);
        let mut mac = Hmac::<Sha1>::new_from_slice(self.password.as_bytes()).expect("any length");
        mac.update(&covered);
        attribute(&mut body, 0x0008, &mac.finalize().into_bytes());
        let checked = message(&body, body.len() + 8, self.transaction);
        attribute(
            &mut body,
            0x8028,
            &(crc32(&checked) ^ 0x5354_554e).to_be_bytes(),
        );
        message(&body, body.len(), self.transaction)
    }
}

fn message(body: &[u8], length: usize, transaction: [u8; 12]) -> Vec<u8> {
    let length = u16::try_from(length).expect("a short message");
    let mut bytes = vec![0, 1];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    bytes.extend_from_slice(&transaction);
    bytes.extend_from_slice(body);
    bytes
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).expect("a short attribute");
    body.extend_from_slice(&kind.to_be_bytes());
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 {
                sum >> 1 ^ 0xedb8_8320
            } else {
                sum >> 1
            }
        })
    })
}

#[test]
fn the_checksum_is_the_known_one() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}
