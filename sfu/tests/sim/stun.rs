//! A browser's connectivity checks, written and read by hand (RFC 8489, RFC 8445).

use hmac::{Hmac, Mac};
use sha1::Sha1;

const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// What a check says.
pub(crate) struct Check<'a> {
    pub(crate) transaction: [u8; 12],
    /// Their ufrag, then ours.
    pub(crate) username: &'a str,
    /// Their password.
    pub(crate) password: &'a str,
    pub(crate) nominates: bool,
}

impl Check<'_> {
    /// Writes a Binding request with integrity and fingerprint.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = vec![0x00, 0x01, 0, 0];
        out.extend(MAGIC);
        out.extend(self.transaction);
        push(&mut out, 0x0006, self.username.as_bytes());
        push(&mut out, 0x0024, &0x6e00_1effu32.to_be_bytes());
        push(&mut out, 0x802a, &7u64.to_be_bytes());
        if self.nominates {
            push(&mut out, 0x0025, &[]);
        }
        let tag = integrity(&mut out, self.password);
        push(&mut out, 0x0008, &tag);
        let crc = {
            set_length(&mut out, 8);
            crc32(&out) ^ 0x5354_554e
        };
        push(&mut out, 0x8028, &crc.to_be_bytes());
        out
    }
}

/// The transaction of a success response that was made with `password`.
pub(crate) fn read_success(bytes: &[u8], password: &str) -> Option<[u8; 12]> {
    if bytes.get(..2)? != [0x01, 0x01] || bytes.get(4..8)? != MAGIC {
        return None;
    }
    let mut at = 20;
    while at + 4 <= bytes.len() {
        let kind = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let length = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        if kind == 0x0008 {
            let mut covered = bytes[..at].to_vec();
            let tag = integrity(&mut covered, password);
            return (bytes.get(at + 4..at + 24)? == tag).then(|| bytes[8..20].try_into().unwrap());
        }
        at += 4 + length.next_multiple_of(4);
    }
    None
}

fn push(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend(kind.to_be_bytes());
    out.extend((value.len() as u16).to_be_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    set_length(out, 0);
}

fn set_length(out: &mut [u8], more: usize) {
    let length = (out.len() - 20 + more) as u16;
    out[2..4].copy_from_slice(&length.to_be_bytes());
}

fn integrity(out: &mut [u8], password: &str) -> [u8; 20] {
    set_length(out, 24);
    let mut mac = Hmac::<Sha1>::new_from_slice(password.as_bytes()).unwrap();
    mac.update(out);
    mac.finalize().into_bytes().into()
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (0u32.wrapping_sub(crc & 1)));
        }
    }
    !crc
}
