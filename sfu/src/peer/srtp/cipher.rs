//! One session key at work: AES-GCM (RFC 7714) or AES-CM with HMAC-SHA1 (RFC 3711 §4).
#![warn(clippy::indexing_slicing)]

use aes::Aes128;
use aes::cipher::KeyInit;
use ctr::cipher::{InnerIvInit, StreamCipher};
use ctr::{Ctr128BE, CtrCore};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use net::cursor::u32_at;

use super::{INDEX_WORD_BYTES, KeyError, SrtpError};

/// A session key with its salt, for RTP or for RTCP.
#[expect(
    clippy::large_enum_variant,
    reason = "every packet needs the key: it costs no pointer to follow"
)]
pub(super) enum Cipher {
    Gcm(Gcm),
    CounterMode(Box<CounterMode>),
}

impl Cipher {
    /// Encrypts in place: `packet` holds header and payload in its first `length` bytes, then room for
    /// the tag. Returns the length of all.
    pub(super) fn seal_rtp(
        &self,
        (ssrc, index): (u32, u64),
        header_len: usize,
        length: usize,
        packet: &mut [u8],
    ) -> Option<usize> {
        let (plain, rest) = packet.split_at_mut_checked(length)?;
        let (header, body) = plain.split_at_mut_checked(header_len)?;
        match self {
            Self::Gcm(gcm) => {
                let tag = rest.first_chunk_mut::<GCM_TAG_BYTES>()?;
                gcm.seal(gcm.rtp_nonce(ssrc, index), header, body, tag)?;
                Some(length + GCM_TAG_BYTES)
            }
            Self::CounterMode(mode) => {
                let tag = rest.first_chunk_mut::<SHA1_TAG_BYTES>()?;
                mode.key_stream(ssrc, index).apply_keystream(body);
                let mac = mode.mac(&[header, body, &rollover(index)]);
                *tag = *mac.finalize().into_bytes().first_chunk()?;
                Some(length + SHA1_TAG_BYTES)
            }
        }
    }

    /// Verifies and decrypts in place; the length of header and payload.
    pub(super) fn open_rtp(
        &self,
        ssrc: u32,
        index: u64,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<usize, SrtpError> {
        let (header, body) = packet
            .split_at_mut_checked(header_len)
            .ok_or(SrtpError::TooShort)?;
        match self {
            Self::Gcm(gcm) => {
                let length = gcm.open(gcm.rtp_nonce(ssrc, index), header, body)?;
                Ok(header_len + length)
            }
            Self::CounterMode(mode) => {
                let (body, tag) = split_end(body, SHA1_TAG_BYTES)?;
                mode.mac(&[header, body, &rollover(index)])
                    .verify_truncated_left(tag)
                    .map_err(|_| SrtpError::BadTag)?;
                mode.key_stream(ssrc, index).apply_keystream(body);
                Ok(header_len + body.len())
            }
        }
    }

    /// The SRTCP index that a packet carries, not yet authenticated.
    ///
    /// Packets that say they are not encrypted are refused.
    pub(super) fn rtcp_index(&self, packet: &[u8]) -> Result<u32, SrtpError> {
        let from_end = match self {
            Self::Gcm(_) => INDEX_WORD_BYTES,
            Self::CounterMode(_) => INDEX_WORD_BYTES + SHA1_TAG_BYTES,
        };
        let at = packet
            .len()
            .checked_sub(from_end)
            .ok_or(SrtpError::TooShort)?;
        let word = u32_at(packet, at).ok_or(SrtpError::TooShort)?;
        if word & ENCRYPTED == 0 {
            return Err(SrtpError::BadTag);
        }
        Ok(word & !ENCRYPTED)
    }

    /// Encrypts all of `packet` but its first eight bytes into `out`; the length written.
    ///
    /// ```text
    /// GCM:    | header, sender SSRC | encrypted | tag (16) | E, index |
    /// AES-CM: | header, sender SSRC | encrypted | E, index | tag (10) |
    /// ```
    pub(super) fn seal_rtcp(&self, index: u32, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        let (header, payload) = packet.split_first_chunk::<RTCP_HEADER_BYTES>()?;
        let ssrc = u32_at(header, 4)?;
        let word = (ENCRYPTED | index).to_be_bytes();
        let (out_header, body) = out.split_first_chunk_mut::<RTCP_HEADER_BYTES>()?;
        *out_header = *header;
        match self {
            Self::Gcm(gcm) => {
                let (body, rest) = body.split_at_mut_checked(payload.len())?;
                let (tag, rest) = rest.split_first_chunk_mut::<GCM_TAG_BYTES>()?;
                *rest.first_chunk_mut()? = word;
                body.copy_from_slice(payload);
                let aad = rtcp_aad(*header, word);
                gcm.seal(gcm.rtcp_nonce(ssrc, index), &aad, body, tag)?;
                Some(packet.len() + GCM_TAG_BYTES + INDEX_WORD_BYTES)
            }
            Self::CounterMode(mode) => {
                let (encrypted, rest) = body.split_at_mut_checked(payload.len())?;
                let (out_word, rest) = rest.split_first_chunk_mut()?;
                mode.key_stream(ssrc, index.into())
                    .apply_keystream_b2b(payload, encrypted)
                    .ok()?;
                *out_word = word;
                let tag = mode
                    .mac(&[header, encrypted, &word])
                    .finalize()
                    .into_bytes();
                *rest.first_chunk_mut::<SHA1_TAG_BYTES>()? = *tag.first_chunk()?;
                Some(packet.len() + INDEX_WORD_BYTES + SHA1_TAG_BYTES)
            }
        }
    }

    /// Verifies and decrypts in place; the length of the plain packet. `index` is what it carries.
    pub(super) fn open_rtcp(
        &self,
        ssrc: u32,
        index: u32,
        packet: &mut [u8],
    ) -> Result<usize, SrtpError> {
        let word = (ENCRYPTED | index).to_be_bytes();
        let (header, body) = packet
            .split_first_chunk_mut::<RTCP_HEADER_BYTES>()
            .ok_or(SrtpError::TooShort)?;
        match self {
            Self::Gcm(gcm) => {
                let (body, _) = split_end(body, INDEX_WORD_BYTES)?;
                let aad = rtcp_aad(*header, word);
                let length = gcm.open(gcm.rtcp_nonce(ssrc, index), &aad, body)?;
                Ok(RTCP_HEADER_BYTES + length)
            }
            Self::CounterMode(mode) => {
                let (body, tag) = split_end(body, SHA1_TAG_BYTES)?;
                let (body, _) = split_end(body, INDEX_WORD_BYTES)?;
                mode.mac(&[header, body, &word])
                    .verify_truncated_left(tag)
                    .map_err(|_| SrtpError::BadTag)?;
                mode.key_stream(ssrc, index.into()).apply_keystream(body);
                Ok(RTCP_HEADER_BYTES + body.len())
            }
        }
    }
}

/// AES in Galois/counter mode; the AEAD does all.
pub(super) struct Gcm {
    key: GcmKey,
    salt: [u8; 12],
}

impl Gcm {
    pub(super) fn new(key: &[u8], salt: [u8; 12]) -> Result<Self, KeyError> {
        let key = GcmKey::new(key, Library::fastest())?;
        Ok(Self { key, salt })
    }

    #[cfg(test)]
    pub(super) fn with_library(
        key: &[u8],
        salt: [u8; 12],
        library: Library,
    ) -> Result<Self, KeyError> {
        let key = GcmKey::new(key, library)?;
        Ok(Self { key, salt })
    }

    /// `| 0 (2) | SSRC (4) | rollover counter and sequence number (6) |` XOR salt (RFC 7714 §8.1).
    fn rtp_nonce(&self, ssrc: u32, index: u64) -> [u8; 12] {
        let block = u128::from(ssrc) << 48 | u128::from(index & ((1 << 48) - 1));
        self.nonce(block)
    }

    /// `| 0 (2) | SSRC (4) | 0 (2) | index (4) |` XOR salt (RFC 7714 §9.1).
    fn rtcp_nonce(&self, ssrc: u32, index: u32) -> [u8; 12] {
        self.nonce(u128::from(ssrc) << 48 | u128::from(index))
    }

    fn nonce(&self, block: u128) -> [u8; 12] {
        let [_, _, _, _, block @ ..] = block.to_be_bytes();
        let mut nonce = self.salt;
        nonce
            .iter_mut()
            .zip(block)
            .for_each(|(byte, other)| *byte ^= other);
        nonce
    }

    /// Encrypts `body` in place and writes the tag.
    fn seal(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        body: &mut [u8],
        out_tag: &mut [u8; GCM_TAG_BYTES],
    ) -> Option<()> {
        match &self.key {
            GcmKey::AwsLc(key) => {
                let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce);
                let aad = aws_lc_rs::aead::Aad::from(aad);
                let tag = key.seal_in_place_separate_tag(nonce, aad, body).ok()?;
                out_tag.copy_from_slice(tag.as_ref());
            }
            GcmKey::Ring(key) => {
                let nonce = ring::aead::Nonce::assume_unique_for_key(nonce);
                let aad = ring::aead::Aad::from(aad);
                let tag = key.seal_in_place_separate_tag(nonce, aad, body).ok()?;
                out_tag.copy_from_slice(tag.as_ref());
            }
        }
        Some(())
    }

    /// Verifies and decrypts `body`, which ends in the tag; the length of what is plain then.
    fn open(&self, nonce: [u8; 12], aad: &[u8], body: &mut [u8]) -> Result<usize, SrtpError> {
        if body.len() < GCM_TAG_BYTES {
            return Err(SrtpError::TooShort);
        }
        let plain = match &self.key {
            GcmKey::AwsLc(key) => {
                let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, aws_lc_rs::aead::Aad::from(aad), body)
                    .map_err(|_| SrtpError::BadTag)?
            }
            GcmKey::Ring(key) => {
                let nonce = ring::aead::Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, ring::aead::Aad::from(aad), body)
                    .map_err(|_| SrtpError::BadTag)?
            }
        };
        Ok(plain.len())
    }
}

/// An expanded AES-GCM key, in the form of the library that works with it.
#[expect(
    clippy::large_enum_variant,
    reason = "as above: AWS-LC allocates, ring does not"
)]
enum GcmKey {
    AwsLc(aws_lc_rs::aead::LessSafeKey),
    Ring(ring::aead::LessSafeKey),
}

impl GcmKey {
    fn new(key: &[u8], library: Library) -> Result<Self, KeyError> {
        let is_256 = key.len() == 32;
        match library {
            Library::AwsLc => {
                use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, LessSafeKey, UnboundKey};
                let algorithm = if is_256 { &AES_256_GCM } else { &AES_128_GCM };
                let key = UnboundKey::new(algorithm, key).map_err(|_| KeyError::Length)?;
                Ok(Self::AwsLc(LessSafeKey::new(key)))
            }
            Library::Ring => {
                use ring::aead::{AES_128_GCM, AES_256_GCM, LessSafeKey, UnboundKey};
                let algorithm = if is_256 { &AES_256_GCM } else { &AES_128_GCM };
                let key = UnboundKey::new(algorithm, key).map_err(|_| KeyError::Length)?;
                Ok(Self::Ring(LessSafeKey::new(key)))
            }
        }
    }
}

/// Which library does AES-GCM: each is the faster one on some processors, and the cipher is most of
/// what forwarding a packet costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Library {
    /// Has code for AVX-512; a fifth faster than ring there.
    AwsLc,
    /// Has code for VAES with AVX2; a third faster than AWS-LC where there is no AVX-512.
    Ring,
}

impl Library {
    /// The faster one on this processor.
    fn fastest() -> Self {
        #[cfg(target_arch = "x86_64")]
        if !std::arch::is_x86_feature_detected!("avx512f") {
            return Self::Ring;
        }
        Self::AwsLc
    }
}

/// AES in counter mode with HMAC-SHA1; both keys are expanded once.
pub(super) struct CounterMode {
    aes: Aes128,
    salt: [u8; 14],
    hmac: Hmac<Sha1>,
}

impl CounterMode {
    pub(super) fn new(key: &[u8], salt: [u8; 14], authentication: &[u8]) -> Result<Self, KeyError> {
        let aes = Aes128::new_from_slice(key).map_err(|_| KeyError::Length)?;
        let hmac =
            <Hmac<Sha1> as Mac>::new_from_slice(authentication).map_err(|_| KeyError::Length)?;
        Ok(Self { aes, salt, hmac })
    }

    /// IV = (salt << 16) XOR (SSRC << 64) XOR (index << 16) (RFC 3711 §4.1.1).
    fn key_stream(&self, ssrc: u32, index: u64) -> Ctr128BE<&Aes128> {
        let [s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13] = self.salt;
        let salt = [
            s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, 0, 0,
        ];
        let iv = u128::from_be_bytes(salt) ^ u128::from(ssrc) << 64 ^ u128::from(index) << 16;
        Ctr128BE::from_core(CtrCore::inner_iv_init(&self.aes, &iv.to_be_bytes().into()))
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha1> {
        let mut mac = self.hmac.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac
    }

    #[cfg(test)]
    pub(super) fn key_stream_for_test(&self, ssrc: u32, index: u64, out: &mut [u8]) {
        self.key_stream(ssrc, index).apply_keystream(out);
    }
}

/// The rollover counter as it stands in what the tag covers (RFC 3711 §4.2).
fn rollover(index: u64) -> [u8; 4] {
    let [_, _, counter @ .., _, _] = index.to_be_bytes();
    counter
}

/// What an SRTCP tag covers beside the ciphertext: the header and the index word (RFC 7714 §9.2).
fn rtcp_aad(header: [u8; RTCP_HEADER_BYTES], word: [u8; 4]) -> [u8; 12] {
    let [a, b, c, d, e, f, g, h] = header;
    let [w, x, y, z] = word;
    [a, b, c, d, e, f, g, h, w, x, y, z]
}

fn split_end(bytes: &mut [u8], length: usize) -> Result<(&mut [u8], &mut [u8]), SrtpError> {
    let middle = bytes.len().checked_sub(length).ok_or(SrtpError::TooShort)?;
    bytes
        .split_at_mut_checked(middle)
        .ok_or(SrtpError::TooShort)
}

const GCM_TAG_BYTES: usize = 16;
const SHA1_TAG_BYTES: usize = 10;
const RTCP_HEADER_BYTES: usize = 8;
const ENCRYPTED: u32 = 1 << 31;
