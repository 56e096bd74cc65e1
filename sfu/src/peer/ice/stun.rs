//! STUN Binding messages (RFC 8489): parsed as views over a datagram, written into a caller's buffer.
#![warn(clippy::indexing_slicing)]

mod fingerprint;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hmac::{Hmac, Mac};
use sha1::Sha1;

use crate::rtp::cursor::{Writer, array_at, u16_at, u32_at, u64_at};

use fingerprint::crc32;

/// Pairs a response with its request.
pub(crate) type TransactionId = [u8; 12];

/// A message's class (RFC 8489 §5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// Wants a response.
    Request,
    /// Wants none; a keepalive.
    Indication,
    /// The request was carried out.
    Success,
    /// The request was refused.
    Error,
}

/// A STUN message, borrowed; its attributes have been walked once.
///
/// ```text
/// | 00, type (14) | length (16) | magic cookie (32) | transaction id (96) |
/// then attributes: | type (16) | length (16) | value, padded to four bytes |
/// ```
/// Nothing in it is proven until `verify_integrity` says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// Request, indication or response.
    pub(crate) class: Class,
    /// The method; `BINDING` is the only one ICE uses.
    pub(crate) method: u16,
    /// Pairs a response with its request.
    pub(crate) transaction_id: TransactionId,
    /// USERNAME.
    pub(crate) username: Option<&'a str>,
    /// PRIORITY: what the sender's candidate would have as a peer-reflexive one.
    pub(crate) priority: Option<u32>,
    /// USE-CANDIDATE: the controlling side nominates this pair.
    pub(crate) use_candidate: bool,
    /// ICE-CONTROLLING with its tie-breaker.
    pub(crate) ice_controlling: Option<u64>,
    /// ICE-CONTROLLED with its tie-breaker.
    pub(crate) ice_controlled: Option<u64>,
    /// XOR-MAPPED-ADDRESS, of a response.
    pub(crate) mapped: Option<SocketAddr>,
    /// The code of ERROR-CODE, 300 to 699.
    pub(crate) error_code: Option<u16>,
    /// Whether a FINGERPRINT is there; a wrong one makes `parse` fail.
    pub(crate) has_fingerprint: bool,
    /// Where MESSAGE-INTEGRITY begins.
    integrity_at: Option<usize>,
    unknown: [u16; UNKNOWN_MAX],
    unknown_count: usize,
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a whole datagram; `None` when it is not STUN, is malformed, or its FINGERPRINT is wrong.
    ///
    /// What follows MESSAGE-INTEGRITY is ignored except FINGERPRINT, and nothing may follow that
    /// (RFC 8489 §14.5, §14.7). Of an attribute that comes twice the first counts (§14).
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let kind = u16_at(bytes, 0)?;
        let length = usize::from(u16_at(bytes, 2)?);
        if kind >> 14 != 0 || !length.is_multiple_of(4) || bytes.len() != HEADER_BYTES + length {
            return None;
        }
        if bytes.len() > MESSAGE_BYTES_MAX || u32_at(bytes, 4)? != MAGIC_COOKIE {
            return None;
        }
        let (class, method) = split_type(kind);
        let mut message = Self {
            class,
            method,
            transaction_id: array_at(bytes, 8)?,
            username: None,
            priority: None,
            use_candidate: false,
            ice_controlling: None,
            ice_controlled: None,
            mapped: None,
            error_code: None,
            has_fingerprint: false,
            integrity_at: None,
            unknown: [0; UNKNOWN_MAX],
            unknown_count: 0,
            bytes,
        };
        message.read_attributes()?;
        Some(message)
    }

    fn read_attributes(&mut self) -> Option<()> {
        let mut at = HEADER_BYTES;
        while at < self.bytes.len() {
            let kind = u16_at(self.bytes, at)?;
            let length = usize::from(u16_at(self.bytes, at + 2)?);
            let start = at + 4;
            let value = self.bytes.get(start..start + length)?;
            if self.has_fingerprint {
                return None;
            }
            if kind == FINGERPRINT {
                let covered = self.bytes.get(..at)?;
                if length != 4 || u32_at(value, 0)? != crc32(covered) ^ FINGERPRINT_XOR {
                    return None;
                }
                self.has_fingerprint = true;
            } else if self.integrity_at.is_none() {
                self.read_attribute(kind, value, at)?;
            }
            at = start + length.next_multiple_of(4);
        }
        (at == self.bytes.len()).then_some(())
    }

    fn read_attribute(&mut self, kind: u16, value: &'a [u8], at: usize) -> Option<()> {
        match kind {
            USERNAME if self.username.is_none() => {
                let text = Some(value).filter(|value| value.len() <= USERNAME_BYTES_MAX)?;
                self.username = Some(std::str::from_utf8(text).ok()?);
            }
            MESSAGE_INTEGRITY if value.len() == INTEGRITY_BYTES => self.integrity_at = Some(at),
            MESSAGE_INTEGRITY => return None,
            PRIORITY if value.len() == 4 => self.priority = self.priority.or(u32_at(value, 0)),
            USE_CANDIDATE if value.is_empty() => self.use_candidate = true,
            ICE_CONTROLLING if value.len() == 8 => {
                self.ice_controlling = self.ice_controlling.or(u64_at(value, 0));
            }
            ICE_CONTROLLED if value.len() == 8 => {
                self.ice_controlled = self.ice_controlled.or(u64_at(value, 0));
            }
            PRIORITY | USE_CANDIDATE | ICE_CONTROLLING | ICE_CONTROLLED => return None,
            XOR_MAPPED_ADDRESS if self.mapped.is_none() => {
                self.mapped = Some(read_address(value, &self.transaction_id)?);
            }
            ERROR_CODE => {
                let [_, _, class, number] = array_at(value, 0)?;
                self.error_code = Some(u16::from(class & 7) * 100 + u16::from(number));
            }
            USERNAME | XOR_MAPPED_ADDRESS | REALM | NONCE => {}
            unknown if unknown < FIRST_OPTIONAL => {
                if let Some(place) = self.unknown.get_mut(self.unknown_count) {
                    *place = unknown;
                    self.unknown_count += 1;
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Attributes that must be understood and are not; the first few of them (RFC 8489 §14).
    pub(crate) fn unknown_required(&self) -> &[u16] {
        self.unknown.get(..self.unknown_count).unwrap_or_default()
    }

    /// Whether this is a Binding request.
    pub(crate) fn is_binding_request(&self) -> bool {
        self.class == Class::Request && self.method == BINDING
    }

    /// Where MESSAGE-INTEGRITY begins; `None` when there is none.
    #[cfg(test)]
    pub(crate) fn integrity_offset(&self) -> Option<usize> {
        self.integrity_at
    }

    /// Whether MESSAGE-INTEGRITY is there and was made with `key` (a short-term password).
    ///
    /// Compares in constant time; allocation-free. RFC 8489 §14.5.
    pub(crate) fn verify_integrity(&self, key: &[u8]) -> bool {
        let verify = || {
            let at = self.integrity_at?;
            let tag = self.bytes.get(at + 4..at + 4 + INTEGRITY_BYTES)?;
            integrity(self.bytes.get(..at)?, key)?
                .verify_slice(tag)
                .ok()
        };
        verify().is_some()
    }
}

/// Writes a Binding success response to `mapped`; its length, or 0 when `out` is too small.
pub(crate) fn write_success(
    out: &mut [u8],
    transaction_id: &TransactionId,
    mapped: SocketAddr,
    key: &[u8],
) -> usize {
    let mut write = || {
        let mut writer = begin(out, Class::Success, transaction_id)?;
        put_address(&mut writer, mapped, transaction_id)?;
        finish(writer, Some(key))
    };
    write().unwrap_or(0)
}

/// Writes a Binding error response without a reason phrase; its length, or 0 when `out` is too small.
///
/// `unknown` is listed for 420. `key`: `None` where the request did not prove that its sender knows
/// our password (400).
pub(crate) fn write_error(
    out: &mut [u8],
    transaction_id: &TransactionId,
    code: u16,
    unknown: &[u16],
    key: Option<&[u8]>,
) -> usize {
    let mut write = || {
        let mut writer = begin(out, Class::Error, transaction_id)?;
        let hundreds = u8::try_from(code / 100).ok()?;
        put_attribute(
            &mut writer,
            ERROR_CODE,
            &[0, 0, hundreds, u8::try_from(code % 100).ok()?],
        )?;
        if !unknown.is_empty() {
            writer.put_u16(UNKNOWN_ATTRIBUTES)?;
            writer.put_u16(u16::try_from(unknown.len() * 2).ok()?)?;
            unknown.iter().try_for_each(|&kind| writer.put_u16(kind))?;
            writer.pad_to_word()?;
        }
        finish(writer, key)
    };
    write().unwrap_or(0)
}

/// What a Binding request of a full agent carries beside its password; we only answer them.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// Pairs the response with it.
    pub(crate) transaction_id: TransactionId,
    /// "receiver's ufrag:sender's ufrag".
    pub(crate) username: &'a str,
    /// PRIORITY.
    pub(crate) priority: u32,
    /// Whether the sender is the controlling agent, and its tie-breaker.
    pub(crate) role: Role,
    /// USE-CANDIDATE.
    pub(crate) use_candidate: bool,
}

/// An agent's role with its tie-breaker (RFC 8445 §6.1.1).
#[cfg(test)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Nominates pairs.
    Controlling(u64),
    /// Follows nominations.
    Controlled(u64),
}

/// Writes a connectivity check; its length, or 0 when `out` is too small.
#[cfg(test)]
pub(crate) fn write_request(out: &mut [u8], request: &Request<'_>, key: &[u8]) -> usize {
    let mut write = || {
        let mut writer = begin(out, Class::Request, &request.transaction_id)?;
        put_attribute(&mut writer, USERNAME, request.username.as_bytes())?;
        put_attribute(&mut writer, PRIORITY, &request.priority.to_be_bytes())?;
        match request.role {
            Role::Controlling(tie) => {
                put_attribute(&mut writer, ICE_CONTROLLING, &tie.to_be_bytes())?;
            }
            Role::Controlled(tie) => {
                put_attribute(&mut writer, ICE_CONTROLLED, &tie.to_be_bytes())?;
            }
        }
        if request.use_candidate {
            put_attribute(&mut writer, USE_CANDIDATE, &[])?;
        }
        finish(writer, Some(key))
    };
    write().unwrap_or(0)
}

fn begin<'b>(
    out: &'b mut [u8],
    class: Class,
    transaction_id: &TransactionId,
) -> Option<Writer<'b>> {
    let mut writer = Writer::new(out);
    writer.put_u16(match class {
        Class::Request => BINDING,
        Class::Indication => BINDING | 0x0010,
        Class::Success => BINDING | 0x0100,
        Class::Error => BINDING | 0x0110,
    })?;
    writer.put_u16(0)?;
    writer.put_u32(MAGIC_COOKIE)?;
    writer.put(transaction_id)?;
    Some(writer)
}

fn put_attribute(writer: &mut Writer<'_>, kind: u16, value: &[u8]) -> Option<()> {
    writer.put_u16(kind)?;
    writer.put_u16(u16::try_from(value.len()).ok()?)?;
    writer.put(value)?;
    writer.pad_to_word()
}

/// Appends MESSAGE-INTEGRITY and FINGERPRINT; both cover a length field that counts them in.
fn finish(mut writer: Writer<'_>, key: Option<&[u8]>) -> Option<usize> {
    if let Some(key) = key {
        let tag = integrity(writer.written(), key)?.finalize().into_bytes();
        put_attribute(&mut writer, MESSAGE_INTEGRITY, &tag)?;
    }
    let length = writer.len() - HEADER_BYTES + FINGERPRINT_ATTRIBUTE_BYTES;
    writer.patch_u16(2, u16::try_from(length).ok()?)?;
    let checksum = crc32(writer.written()) ^ FINGERPRINT_XOR;
    put_attribute(&mut writer, FINGERPRINT, &checksum.to_be_bytes())?;
    Some(writer.len())
}

/// HMAC-SHA1 over a message up to its MESSAGE-INTEGRITY, its length field set to include that.
fn integrity(covered: &[u8], key: &[u8]) -> Option<Hmac<Sha1>> {
    let length = covered.len().checked_sub(HEADER_BYTES)? + 4 + INTEGRITY_BYTES;
    let mut mac = <Hmac<Sha1> as Mac>::new_from_slice(key).ok()?;
    mac.update(covered.get(..2)?);
    mac.update(&u16::try_from(length).ok()?.to_be_bytes());
    mac.update(covered.get(4..)?);
    Some(mac)
}

/// `| 0 (8) | family (8) | port (16) | address |`, all but the first two XORed with the cookie.
fn put_address(
    writer: &mut Writer<'_>,
    address: SocketAddr,
    transaction_id: &TransactionId,
) -> Option<()> {
    writer.put_u16(XOR_MAPPED_ADDRESS)?;
    writer.put_u16(if address.is_ipv4() { 8 } else { 20 })?;
    writer.put_u16(if address.is_ipv4() {
        FAMILY_V4
    } else {
        FAMILY_V6
    })?;
    writer.put_u16(address.port() ^ COOKIE_HIGH)?;
    match address.ip() {
        IpAddr::V4(ip) => writer.put_u32(ip.to_bits() ^ MAGIC_COOKIE),
        IpAddr::V6(ip) => writer.put(&(ip.to_bits() ^ address_mask(transaction_id)).to_be_bytes()),
    }
}

fn read_address(value: &[u8], transaction_id: &TransactionId) -> Option<SocketAddr> {
    let port = u16_at(value, 2)? ^ COOKIE_HIGH;
    let ip = match (u16_at(value, 0)? & 0xff, value.len()) {
        (FAMILY_V4, 8) => Ipv4Addr::from_bits(u32_at(value, 4)? ^ MAGIC_COOKIE).into(),
        (FAMILY_V6, 20) => {
            let bits = u128::from_be_bytes(array_at(value, 4)?);
            Ipv6Addr::from_bits(bits ^ address_mask(transaction_id)).into()
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

/// The Binding method.
pub(crate) const BINDING: u16 = 1;
/// Bytes of the longest response we write: IPv6 mapped address, integrity and fingerprint.
pub(crate) const RESPONSE_BYTES_MAX: usize = 128;

const MAGIC_COOKIE: u32 = 0x2112_a442;
const COOKIE_HIGH: u16 = 0x2112;
const FINGERPRINT_XOR: u32 = 0x5354_554e;
const HEADER_BYTES: usize = 20;
const INTEGRITY_BYTES: usize = 20;
const FINGERPRINT_ATTRIBUTE_BYTES: usize = 8;
const MESSAGE_BYTES_MAX: usize = 1500; // no check comes near one MTU
const USERNAME_BYTES_MAX: usize = 513; // RFC 8489 §14.3: fewer than 509 characters; 256:256 in ICE
const UNKNOWN_MAX: usize = 8; // enough for the peer to see its mistake

const FAMILY_V4: u16 = 1;
const FAMILY_V6: u16 = 2;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FIRST_OPTIONAL: u16 = 0x8000;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;
