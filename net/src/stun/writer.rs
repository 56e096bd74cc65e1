//! Writes a STUN message attribute by attribute.

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;

use super::{
    Class, ERROR_CODE, FAMILY_V4, FAMILY_V6, FINGERPRINT, FINGERPRINT_XOR, HEADER_BYTES, Integrity,
    MAGIC_COOKIE, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, SHA1_BYTES, SHA256_BYTES,
    TransactionId, UNKNOWN_ATTRIBUTES, address_mask, crc32, high_word, join_type, mac, port_mask,
};
use crate::cursor::Writer;

/// A message being written into a caller's buffer; every step is `None` once that is full.
#[derive(Debug)]
pub struct MessageWriter<'b> {
    writer: Writer<'b>,
    transaction_id: TransactionId,
}

impl<'b> MessageWriter<'b> {
    /// Writes the header.
    pub fn new(
        out: &'b mut [u8],
        class: Class,
        method: u16,
        transaction_id: &TransactionId,
    ) -> Option<Self> {
        let mut writer = Writer::new(out);
        writer.put_u16(join_type(class, method))?;
        writer.put_u16(0)?;
        writer.put_u32(MAGIC_COOKIE)?;
        writer.put(transaction_id)?;
        Some(Self {
            writer,
            transaction_id: *transaction_id,
        })
    }

    /// Appends an attribute, padded with zeros.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> Option<()> {
        self.writer.put_u16(kind)?;
        self.writer.put_u16(u16::try_from(value.len()).ok()?)?;
        self.writer.put(value)?;
        self.writer.pad_to_word()
    }

    /// Appends an attribute that holds an address, XORed (RFC 8489 §14.2).
    pub fn put_xor_address(&mut self, kind: u16, address: SocketAddr) -> Option<()> {
        self.put_masked_address(kind, address, address_mask(&self.transaction_id))
    }

    /// Appends an attribute that holds an address as it is (RFC 8489 §14.1).
    pub fn put_address(&mut self, kind: u16, address: SocketAddr) -> Option<()> {
        self.put_masked_address(kind, address, 0)
    }

    fn put_masked_address(&mut self, kind: u16, address: SocketAddr, mask: u128) -> Option<()> {
        let (family, length) = if address.is_ipv4() {
            (FAMILY_V4, 8)
        } else {
            (FAMILY_V6, 20)
        };
        self.writer.put_u16(kind)?;
        self.writer.put_u16(length)?;
        self.writer.put_u16(family)?;
        self.writer.put_u16(address.port() ^ port_mask(mask))?;
        match address.ip() {
            IpAddr::V4(ip) => self.writer.put_u32(ip.to_bits() ^ high_word(mask)),
            IpAddr::V6(ip) => self.writer.put(&(ip.to_bits() ^ mask).to_be_bytes()),
        }
    }

    /// Appends ERROR-CODE without a reason phrase: nobody reads it, and it makes replies longer.
    pub fn put_error(&mut self, code: u16) -> Option<()> {
        let hundreds = u8::try_from(code / 100).ok()?;
        let rest = u8::try_from(code % 100).ok()?;
        self.put(ERROR_CODE, &[0, 0, hundreds, rest])
    }

    /// Appends UNKNOWN-ATTRIBUTES.
    pub fn put_unknown(&mut self, kinds: &[u16]) -> Option<()> {
        self.writer.put_u16(UNKNOWN_ATTRIBUTES)?;
        self.writer.put_u16(u16::try_from(kinds.len() * 2).ok()?)?;
        kinds
            .iter()
            .try_for_each(|&kind| self.writer.put_u16(kind))?;
        self.writer.pad_to_word()
    }

    /// Bytes written so far.
    pub fn length(&self) -> usize {
        self.writer.len()
    }

    /// Ends the message with what proves it; its length.
    pub fn finish(mut self, integrity: Option<Integrity<'_>>) -> Option<usize> {
        self.protect(integrity)?;
        self.state_length(0)?;
        Some(self.writer.len())
    }

    /// As `finish`, with a FINGERPRINT behind.
    pub fn finish_with_fingerprint(mut self, integrity: Option<Integrity<'_>>) -> Option<usize> {
        self.protect(integrity)?;
        self.state_length(FINGERPRINT_ATTRIBUTE_BYTES)?;
        let checksum = crc32(self.writer.written()) ^ FINGERPRINT_XOR;
        self.put(FINGERPRINT, &checksum.to_be_bytes())?;
        Some(self.writer.len())
    }

    fn protect(&mut self, integrity: Option<Integrity<'_>>) -> Option<()> {
        let written = self.writer.written();
        match integrity {
            None => Some(()),
            Some(Integrity::Sha1(key)) => {
                let tag = mac::<Hmac<Sha1>>(written, SHA1_BYTES, key)?.finalize();
                self.put(MESSAGE_INTEGRITY, &tag.into_bytes())
            }
            Some(Integrity::Sha256(key)) => {
                let tag = mac::<Hmac<Sha256>>(written, SHA256_BYTES, key)?.finalize();
                self.put(MESSAGE_INTEGRITY_SHA256, &tag.into_bytes())
            }
        }
    }

    fn state_length(&mut self, more: usize) -> Option<()> {
        let length = self.writer.len() - HEADER_BYTES + more;
        self.writer.patch_u16(2, u16::try_from(length).ok()?)
    }
}

const FINGERPRINT_ATTRIBUTE_BYTES: usize = 8;
