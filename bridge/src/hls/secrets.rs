//! The keys of one broadcast: signatures of its URIs, names of its sessions, and encryption of its segments.
//!
//! Encrypted segments (RFC 8216bis §4.4.4.4, AES-128): the whole segment is one ciphertext, and so is each of
//! its parts, all with the segment's key and its media sequence number as the vector. Parts are not pieces of
//! the segment's ciphertext: players that load parts decrypt each by itself, others load whole segments.

use aws_lc_rs::cipher::{AES_128, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use aws_lc_rs::iv::FixedLength;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

/// What everything secret of a broadcast is derived from.
#[derive(Debug)]
pub(super) struct Secrets {
    signatures: Key,
    sessions: Key,
    contents: Key,
    names: Key,
}

/// Signatures are HMAC-SHA256 cut to 128 bits.
const SIGNATURE_BYTES: usize = 16;
/// 96 bits: nobody guesses one.
const SESSION_BYTES: usize = 12;

impl Secrets {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        let root = Key::new(HMAC_SHA256, seed);
        let derive =
            |purpose: &str| Key::new(HMAC_SHA256, sign(&root, purpose.as_bytes()).as_ref());
        Self {
            signatures: derive("signatures"),
            sessions: derive("sessions"),
            contents: derive("contents"),
            names: derive("names"),
        }
    }

    /// The broadcast's identifier: another one each time, so that caches never mix broadcasts of a room.
    pub(super) fn broadcast_id(&self) -> String {
        short(sign(&self.names, b"broadcast").as_ref(), 9)
    }

    /// The name of the n-th session.
    pub(super) fn session_id(&self, number: u64) -> String {
        let tag = sign(&self.sessions, &number.to_be_bytes());
        short(tag.as_ref(), SESSION_BYTES)
    }

    /// Signs that a session may fetch a resource until a time, in Unix seconds.
    pub(super) fn signature(&self, name: &str, session: &str, expires_s: u64) -> String {
        let text = format!("{name}\n{session}\n{expires_s}");
        let tag = sign(&self.signatures, text.as_bytes());
        short(tag.as_ref(), SIGNATURE_BYTES)
    }

    /// Whether a signature is the one of these.
    pub(super) fn is_signed(&self, name: &str, session: &str, expires_s: u64, by: &str) -> bool {
        let right = self.signature(name, session, expires_s);
        verify_slices_are_equal(right.as_bytes(), by.as_bytes()).is_ok()
    }

    /// The key of the n-th run of segments.
    pub(super) fn content_key(&self, number: u64) -> [u8; 16] {
        let tag = sign(&self.contents, &number.to_be_bytes());
        let mut key = [0; 16];
        for (to, from) in key.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        key
    }

    /// Encrypts a whole resource of a segment. `None`: the library refuses, which it does for no input.
    pub(super) fn encrypt(&self, number: u64, msn: u64, pieces: &[Bytes]) -> Option<Bytes> {
        let key = UnboundCipherKey::new(&AES_128, &self.content_key(number)).ok()?;
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).ok()?;
        let vector = u128::from(msn).to_be_bytes();
        let context = EncryptionContext::Iv128(FixedLength::from(vector));
        let mut bytes = pieces.concat();
        key.less_safe_encrypt(&mut bytes, context).ok()?;
        Some(bytes.into())
    }
}

fn short(tag: &[u8], bytes: usize) -> String {
    URL_SAFE_NO_PAD.encode(tag.get(..bytes).unwrap_or(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_bound_to_all_it_signs() {
        let secrets = Secrets::new(&[7; 32]);
        let good = secrets.signature("v0.m3u8", "abc", 100);
        assert!(secrets.is_signed("v0.m3u8", "abc", 100, &good));
        assert!(!secrets.is_signed("v1.m3u8", "abc", 100, &good));
        assert!(!secrets.is_signed("v0.m3u8", "abd", 100, &good));
        assert!(!secrets.is_signed("v0.m3u8", "abc", 101, &good));
        assert!(!secrets.is_signed("v0.m3u8", "abc", 100, ""));
        assert!(!Secrets::new(&[8; 32]).is_signed("v0.m3u8", "abc", 100, &good));
        assert_eq!(good.len(), 22);
    }

    #[test]
    fn encryption_is_that_of_the_standard() {
        // One block of padding alone: checked against another implementation in the HTTP tests.
        let secrets = Secrets::new(&[7; 32]);
        let empty = secrets.encrypt(0, 0, &[]).unwrap();
        assert_eq!(empty.len(), 16);
        let one = secrets
            .encrypt(0, 1, &[Bytes::from_static(&[1; 16])])
            .unwrap();
        assert_eq!(one.len(), 32);
        assert_ne!(secrets.content_key(0), secrets.content_key(1));
    }
}
