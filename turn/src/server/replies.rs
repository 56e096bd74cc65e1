//! Replies: those that are proven to go to their asker, and the few bytes that others get.

use std::net::SocketAddr;
use std::time::Instant;

use net::stun::{Class, Message, MessageWriter, NONCE, REALM as REALM_ATTRIBUTE};
use net::{Arena, Path, Protocol};

use super::Server;
use crate::attributes::{ALGORITHMS, PASSWORD_ALGORITHMS};
use crate::auth::{Key, REALM, Refusal};
use crate::budget::reply_bytes_max;
use crate::counts::DropReason;

impl Server {
    /// Writes a reply to an authenticated request.
    pub(super) fn reply(
        &self,
        (path, message): (Path, &Message<'_>),
        (class, key): (Class, &Key),
        arena: &mut Arena,
        fill: impl FnOnce(&mut MessageWriter<'_>) -> Option<()>,
    ) {
        let write = |out| {
            let id = &message.transaction_id;
            let mut writer = MessageWriter::new(out, class, message.method, id)?;
            fill(&mut writer)?;
            let integrity = Some(key.integrity());
            if message.has_fingerprint {
                writer.finish_with_fingerprint(integrity)
            } else {
                writer.finish(integrity)
            }
        };
        // The longest has two IPv6 addresses, token and integrity: far below what an arena reserves.
        let length = arena.reserve().and_then(write);
        commit(path, length, arena);
    }

    /// Refuses a request whose sender has proven nothing: within the budget, or not at all.
    pub(super) fn refuse_unproven(
        &mut self,
        now: Instant,
        (path, message): (Path, &Message<'_>),
        refusal: Refusal,
        arena: &mut Arena,
    ) {
        let code = match refusal {
            Refusal::BadRequest => 400,
            Refusal::Unauthorized => 401,
            Refusal::StaleNonce => 438,
        };
        let is_challenge = refusal != Refusal::BadRequest;
        let most = reply_bytes_max(message.length());
        let mut length = None;
        // All of a challenge where it fits, else the part that old clients need.
        for is_plain in [false, true] {
            let nonce = is_challenge.then(|| {
                self.settings
                    .secrets
                    .nonce(self.unix_time(now), &path, is_plain)
            });
            let write = |out| write_refusal(out, message, code, nonce.as_deref());
            length = arena.reserve().and_then(write);
            if length.is_some_and(|length| length <= most) {
                break;
            }
        }
        self.counts.challenges += u64::from(is_challenge);
        self.commit_unproven(now, (path, message), length, arena);
    }

    /// Sends a reply of this length to an unproven source, if the budget has it.
    pub(super) fn commit_unproven(
        &mut self,
        now: Instant,
        (path, message): (Path, &Message<'_>),
        length: Option<usize>,
        arena: &mut Arena,
    ) -> bool {
        let Some(length) = length else {
            return false;
        };
        // A TCP handshake has proven the address.
        let is_within = path.protocol != Protocol::Udp
            || self
                .replies
                .take(now, path.remote.ip(), message.length(), length);
        if is_within {
            commit(path, Some(length), arena);
        } else {
            self.counts.dropped(DropReason::Unproven);
        }
        is_within
    }
}

/// Commits what was written for a client.
pub(super) fn commit(path: Path, length: Option<usize>, arena: &mut Arena) {
    if let Some(length) = length {
        arena.aim(path);
        arena.commit(length);
    }
}

fn write_refusal(
    out: &mut [u8],
    message: &Message<'_>,
    code: u16,
    nonce: Option<&str>,
) -> Option<usize> {
    let id = &message.transaction_id;
    let mut writer = MessageWriter::new(out, Class::Error, message.method, id)?;
    writer.put_error(code)?;
    if let Some(nonce) = nonce {
        writer.put(REALM_ATTRIBUTE, REALM.as_bytes())?;
        writer.put(NONCE, nonce.as_bytes())?;
        if nonce.len() > PLAIN_NONCE_BYTES {
            writer.put(PASSWORD_ALGORITHMS, &ALGORITHMS)?;
        }
    }
    if message.has_fingerprint {
        writer.finish_with_fingerprint(None)
    } else {
        writer.finish(None)
    }
}

/// Appends an address attribute.
pub(super) fn put_addresses(
    writer: &mut MessageWriter<'_>,
    kind: u16,
    addresses: &[SocketAddr],
) -> Option<()> {
    addresses
        .iter()
        .try_for_each(|address| writer.put_xor_address(kind, *address))
}

/// A nonce without security features (RFC 8489 §9.2).
const PLAIN_NONCE_BYTES: usize = 16;
