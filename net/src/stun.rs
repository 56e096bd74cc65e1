//! STUN messages (RFC 8489): parsed as views over a datagram, written into a caller's buffer.
//!
//! What attributes mean is for those who read them: ICE and TURN each know their own.
#![warn(clippy::indexing_slicing)]

mod fingerprint;
mod writer;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;

use crate::cursor::{array_at, u16_at, u32_at};

use fingerprint::crc32;
pub use writer::MessageWriter;

/// Pairs a response with its request.
pub type TransactionId = [u8; 12];

/// A message's class (RFC 8489 §5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Wants a response.
    Request,
    /// Wants none; a keepalive.
    Indication,
    /// The request was carried out.
    Success,
    /// The request was refused.
    Error,
}

/// What proves who made a message: the algorithm and the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Integrity<'k> {
    /// MESSAGE-INTEGRITY: HMAC-SHA1 (RFC 8489 §14.5).
    Sha1(&'k [u8]),
    /// MESSAGE-INTEGRITY-SHA256 (RFC 8489 §14.6), never truncated by us.
    Sha256(&'k [u8]),
}

/// A STUN message, borrowed; its attributes have been walked once.
///
/// ```text
/// | 00, type (14) | length (16) | magic cookie (32) | transaction id (96) |
/// then attributes: | type (16) | length (16) | value, padded to four bytes |
/// ```
/// Nothing in it is proven until `verify` says so.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Request, indication or response.
    pub class: Class,
    /// The method.
    pub method: u16,
    /// Pairs a response with its request.
    pub transaction_id: TransactionId,
    /// Whether a FINGERPRINT is there; a wrong one makes `parse` fail.
    pub has_fingerprint: bool,
    /// Where MESSAGE-INTEGRITY begins.
    sha1_at: Option<usize>,
    /// Where MESSAGE-INTEGRITY-SHA256 begins.
    sha256_at: Option<usize>,
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a whole datagram; `None` when it is not STUN, is malformed, or its FINGERPRINT is wrong.
    ///
    /// Attributes may be of any kind and number. Nothing may follow FINGERPRINT (RFC 8489 §14.7).
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() != message_length(bytes)? || u32_at(bytes, 4)? != MAGIC_COOKIE {
            return None;
        }
        let (class, method) = split_type(u16_at(bytes, 0)?);
        let mut message = Self {
            class,
            method,
            transaction_id: array_at(bytes, 8)?,
            has_fingerprint: false,
            sha1_at: None,
            sha256_at: None,
            bytes,
        };
        message.walk()?;
        Some(message)
    }

    /// Checks the form of all attributes and finds those that protect the message.
    fn walk(&mut self) -> Option<()> {
        let mut at = HEADER_BYTES;
        while at < self.bytes.len() {
            let (kind, value) = attribute_at(self.bytes, at)?;
            match kind {
                _ if self.has_fingerprint => return None,
                FINGERPRINT => {
                    let covered = self.bytes.get(..at)?;
                    if value.len() != 4 || u32_at(value, 0)? != crc32(covered) ^ FINGERPRINT_XOR {
                        return None;
                    }
                    self.has_fingerprint = true;
                }
                MESSAGE_INTEGRITY if self.is_unprotected() => {
                    (value.len() == SHA1_BYTES).then(|| self.sha1_at = Some(at))?;
                }
                MESSAGE_INTEGRITY_SHA256 if self.sha256_at.is_none() => {
                    let length = value.len();
                    let is_fit = (16..=SHA256_BYTES).contains(&length) && length.is_multiple_of(4);
                    is_fit.then(|| self.sha256_at = Some(at))?;
                }
                _ => {}
            }
            at += ATTRIBUTE_HEADER_BYTES + value.len().next_multiple_of(4);
        }
        (at == self.bytes.len()).then_some(())
    }

    fn is_unprotected(&self) -> bool {
        self.sha1_at.is_none() && self.sha256_at.is_none()
    }

    /// The attributes that count, with their kinds: those before the first that protects the message.
    pub fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let end = self.sha1_at.into_iter().chain(self.sha256_at).min();
        let bytes = self.bytes;
        let (mut at, end) = (HEADER_BYTES, end.unwrap_or(bytes.len()));
        std::iter::from_fn(move || {
            let (kind, value) = attribute_at(bytes, at).filter(|_| at < end)?;
            at += ATTRIBUTE_HEADER_BYTES + value.len().next_multiple_of(4);
            Some((kind, value))
        })
        .filter(|(kind, _)| *kind != FINGERPRINT)
    }

    /// The value of the first attribute of this kind.
    pub fn attribute(&self, kind: u16) -> Option<&'a [u8]> {
        let mut attributes = self.attributes();
        attributes.find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// Where in the datagram the value of the first attribute of this kind is.
    pub fn attribute_range(&self, kind: u16) -> Option<Range<usize>> {
        let mut at = HEADER_BYTES;
        let mut attributes = self.attributes();
        attributes.find_map(|(found, value)| {
            let start = at + ATTRIBUTE_HEADER_BYTES;
            at = start + value.len().next_multiple_of(4);
            (found == kind).then_some(start..start + value.len())
        })
    }

    /// Reads the value of an attribute that holds an XORed address (RFC 8489 §14.2).
    pub fn xor_address(&self, value: &[u8]) -> Option<SocketAddr> {
        read_address(value, Some(&self.transaction_id))
    }

    /// Whether this is a request with this method.
    pub fn is_request(&self, method: u16) -> bool {
        self.class == Class::Request && self.method == method
    }

    /// The whole message.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes in all.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Whether MESSAGE-INTEGRITY is there.
    pub fn has_sha1(&self) -> bool {
        self.sha1_at.is_some()
    }

    /// Whether MESSAGE-INTEGRITY-SHA256 is there.
    pub fn has_sha256(&self) -> bool {
        self.sha256_at.is_some()
    }

    /// Whether the attribute that belongs to this algorithm is there and was made with this key.
    ///
    /// Compares in constant time; allocation-free.
    pub fn verify(&self, integrity: Integrity<'_>) -> bool {
        let verify = || match integrity {
            Integrity::Sha1(key) => {
                let at = self.sha1_at?;
                let (_, tag) = attribute_at(self.bytes, at)?;
                let mac = mac::<Hmac<Sha1>>(self.bytes.get(..at)?, tag.len(), key)?;
                mac.verify_slice(tag).ok()
            }
            Integrity::Sha256(key) => {
                let at = self.sha256_at?;
                let (_, tag) = attribute_at(self.bytes, at)?;
                let mac = mac::<Hmac<Sha256>>(self.bytes.get(..at)?, tag.len(), key)?;
                mac.verify_truncated_left(tag).ok()
            }
        };
        verify().is_some()
    }
}

/// The length of the STUN message that `bytes` begin with, by its header; `None` when it is too short
/// to tell or no STUN message begins so.
pub fn message_length(bytes: &[u8]) -> Option<usize> {
    let kind = u16_at(bytes, 0)?;
    let length = usize::from(u16_at(bytes, 2)?);
    (kind >> 14 == 0 && length.is_multiple_of(4)).then_some(HEADER_BYTES + length)
}

fn attribute_at(bytes: &[u8], at: usize) -> Option<(u16, &[u8])> {
    let kind = u16_at(bytes, at)?;
    let length = usize::from(u16_at(bytes, at + 2)?);
    let start = at + ATTRIBUTE_HEADER_BYTES;
    Some((kind, bytes.get(start..start + length)?))
}

/// HMAC over a message up to the attribute that will hold it, its length field set to include that.
fn mac<M: Mac + hmac::digest::KeyInit>(covered: &[u8], tag_bytes: usize, key: &[u8]) -> Option<M> {
    let length = covered.len().checked_sub(HEADER_BYTES)? + ATTRIBUTE_HEADER_BYTES + tag_bytes;
    let mut mac = <M as Mac>::new_from_slice(key).ok()?;
    mac.update(covered.get(..2)?);
    mac.update(&u16::try_from(length).ok()?.to_be_bytes());
    mac.update(covered.get(4..)?);
    Some(mac)
}

/// `| 0 (8) | family (8) | port (16) | address |`, all but the first two XORed when there is an id.
fn read_address(value: &[u8], xor: Option<&TransactionId>) -> Option<SocketAddr> {
    let mask = xor.map_or(0, address_mask);
    let port = u16_at(value, 2)? ^ port_mask(mask);
    let ip = match (u16_at(value, 0)? & 0xff, value.len()) {
        (FAMILY_V4, 8) => IpAddr::from(Ipv4Addr::from_bits(u32_at(value, 4)? ^ high_word(mask))),
        (FAMILY_V6, 20) => {
            let bits = u128::from_be_bytes(array_at(value, 4)?);
            Ipv6Addr::from_bits(bits ^ mask).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The magic cookie followed by the transaction id, which IPv6 addresses are XORed with.
fn address_mask(transaction_id: &TransactionId) -> u128 {
    let low = transaction_id
        .iter()
        .fold(0, |mask, &byte| mask << 8 | u128::from(byte));
    u128::from(MAGIC_COOKIE) << 96 | low
}

fn high_word(mask: u128) -> u32 {
    (mask >> 96) as u32
}

fn port_mask(mask: u128) -> u16 {
    (mask >> 112) as u16
}

/// The class's two bits stand between those of the method (RFC 8489 §5).
fn split_type(kind: u16) -> (Class, u16) {
    let class = match kind & 0x0110 {
        0x0000 => Class::Request,
        0x0010 => Class::Indication,
        0x0100 => Class::Success,
        _ => Class::Error,
    };
    (
        class,
        (kind & 0x3e00) >> 2 | (kind & 0x00e0) >> 1 | (kind & 0x000f),
    )
}

/// The opposite of [`split_type`].
fn join_type(class: Class, method: u16) -> u16 {
    let class = match class {
        Class::Request => 0x0000,
        Class::Indication => 0x0010,
        Class::Success => 0x0100,
        Class::Error => 0x0110,
    };
    class | (method & 0x0f80) << 2 | (method & 0x0070) << 1 | (method & 0x000f)
}

/// The Binding method.
pub const BINDING: u16 = 1;
/// Bytes before the attributes.
pub const HEADER_BYTES: usize = 20;
/// What every message has behind its length.
pub const MAGIC_COOKIE: u32 = 0x2112_a442;
/// Attributes below this must be understood (RFC 8489 §14).
pub const FIRST_OPTIONAL: u16 = 0x8000;

/// USERNAME.
pub const USERNAME: u16 = 0x0006;
/// ERROR-CODE.
pub const ERROR_CODE: u16 = 0x0009;
/// UNKNOWN-ATTRIBUTES.
pub const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
/// REALM.
pub const REALM: u16 = 0x0014;
/// NONCE.
pub const NONCE: u16 = 0x0015;
/// XOR-MAPPED-ADDRESS.
pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;

const MESSAGE_INTEGRITY: u16 = 0x0008;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
const FINGERPRINT: u16 = 0x8028;
const FINGERPRINT_XOR: u32 = 0x5354_554e;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
const SHA1_BYTES: usize = 20;
const SHA256_BYTES: usize = 32;
const FAMILY_V4: u16 = 1;
const FAMILY_V6: u16 = 2;
