//! STUN as an ICE agent speaks it (RFC 8489, RFC 8445): checks, and answers to the checks of others.

use std::net::SocketAddr;

use hmac::{Hmac, Mac};
use sha1::Sha1;

/// Names one request.
pub(super) type Transaction = [u8; 12];

/// Writes a check of a controlling agent that nominates at once.
pub(super) fn write_check(transaction: Transaction, username: &str, password: &str) -> Vec<u8> {
    let mut out = begin(REQUEST, transaction);
    push(&mut out, USERNAME, username.as_bytes());
    push(&mut out, PRIORITY, &HOST_PRIORITY.to_be_bytes());
    push(&mut out, CONTROLLING, &TIE_BREAKER.to_be_bytes());
    push(&mut out, USE_CANDIDATE, &[]);
    seal(out, password)
}

/// Answers a check that came from `source`; `None` when it is no intact check under our password.
pub(super) fn answer_check(request: &[u8], source: SocketAddr, password: &str) -> Option<Vec<u8>> {
    if kind(request)? != REQUEST || !is_intact(request, password) {
        return None;
    }
    let SocketAddr::V4(source) = source else {
        return None;
    };
    let mut address = vec![0, 1];
    let [m0, m1, m2, m3] = MAGIC;
    address.extend((source.port() ^ u16::from_be_bytes([m0, m1])).to_be_bytes());
    let octets = source.ip().octets();
    address.extend(octets.iter().zip([m0, m1, m2, m3]).map(|(a, b)| a ^ b));
    let mut out = begin(SUCCESS, transaction(request)?);
    push(&mut out, XOR_MAPPED_ADDRESS, &address);
    Some(seal(out, password))
}

/// The transaction of an intact success response under the other side's password.
pub(super) fn read_success(bytes: &[u8], password: &str) -> Option<Transaction> {
    (kind(bytes)? == SUCCESS && is_intact(bytes, password)).then(|| transaction(bytes))?
}

fn begin(kind: u16, transaction: Transaction) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend(kind.to_be_bytes());
    out.extend([0, 0]);
    out.extend(MAGIC);
    out.extend(transaction);
    out
}

/// Appends integrity and fingerprint.
fn seal(mut out: Vec<u8>, password: &str) -> Vec<u8> {
    set_length(&mut out, INTEGRITY_BYTES);
    let tag = integrity(&out, password);
    push(&mut out, MESSAGE_INTEGRITY, &tag);
    set_length(&mut out, FINGERPRINT_BYTES);
    let sum = crc32(&out) ^ 0x5354_554e;
    push(&mut out, FINGERPRINT, &sum.to_be_bytes());
    out
}

fn push(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend(kind.to_be_bytes());
    out.extend(u16::try_from(value.len()).unwrap_or_default().to_be_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    set_length(out, 0);
}

/// Says in the header how long the message is, with what is yet to come.
fn set_length(out: &mut [u8], more: usize) {
    let length = u16::try_from(out.len() - HEADER_BYTES + more).unwrap_or_default();
    if let Some(place) = out.get_mut(2..4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

fn kind(bytes: &[u8]) -> Option<u16> {
    let kind = bytes.first_chunk::<2>()?;
    (bytes.get(4..8)? == MAGIC).then_some(u16::from_be_bytes(*kind))
}

fn transaction(bytes: &[u8]) -> Option<Transaction> {
    bytes.get(8..20)?.try_into().ok()
}

fn is_intact(bytes: &[u8], password: &str) -> bool {
    let mut at = HEADER_BYTES;
    while let Some([k0, k1, l0, l1]) = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>) {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        if u16::from_be_bytes([*k0, *k1]) == MESSAGE_INTEGRITY {
            let Some(covered) = bytes.get(..at) else {
                return false;
            };
            let mut covered = covered.to_vec();
            set_length(&mut covered, INTEGRITY_BYTES);
            return bytes.get(at + 4..at + INTEGRITY_BYTES) == Some(&integrity(&covered, password));
        }
        at += 4 + length.next_multiple_of(4);
    }
    false
}

fn integrity(covered: &[u8], password: &str) -> [u8; 20] {
    // HMAC takes keys of any length.
    let mac = Hmac::<Sha1>::new_from_slice(password.as_bytes());
    mac.map(|mac| mac.chain_update(covered).finalize().into_bytes().into())
        .unwrap_or_default()
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (0_u32.wrapping_sub(crc & 1)));
        }
    }
    !crc
}

const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const CONTROLLING: u16 = 0x802a;
const FINGERPRINT: u16 = 0x8028;
const HEADER_BYTES: usize = 20;
const INTEGRITY_BYTES: usize = 24;
const FINGERPRINT_BYTES: usize = 8;
/// Type preference 110, as for a peer-reflexive candidate (RFC 8445 §5.1.2.2).
const HOST_PRIORITY: u32 = 0x6e00_1eff;
/// Larger than any other agent's, so that a full one takes the controlled role.
const TIE_BREAKER: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_answered_and_the_answer_read() {
        let check = write_check([7; 12], "theirs:ours", "a password of theirs");
        let source = SocketAddr::from(([127, 0, 0, 1], 4000));
        let answer = answer_check(&check, source, "a password of theirs").unwrap();
        assert_eq!(read_success(&answer, "a password of theirs"), Some([7; 12]));
        assert_eq!(read_success(&answer, "another"), None);
        assert_eq!(answer_check(&check, source, "another"), None);
    }

    #[test]
    fn truncated_and_changed_messages_are_refused() {
        let check = write_check([7; 12], "theirs:ours", "pwd");
        let source = SocketAddr::from(([127, 0, 0, 1], 4000));
        for length in 0..check.len() - FINGERPRINT_BYTES {
            assert_eq!(answer_check(&check[..length], source, "pwd"), None);
        }
        let mut changed = check;
        changed[30] ^= 1;
        assert_eq!(answer_check(&changed, source, "pwd"), None);
    }
}
