//! STUN Binding for everyone (RFC 8489 §3), and behaviour discovery where there are two addresses (RFC 5780).

use std::net::SocketAddr;
use std::time::Instant;

use net::stun::{Class, Message, MessageWriter, XOR_MAPPED_ADDRESS};
use net::{Arena, Path, Protocol};

use super::{Discovery, Server};
use crate::attributes::{Attributes, Change, OTHER_ADDRESS, RESPONSE_ORIGIN};
use crate::auth::Refusal;
use crate::budget::reply_bytes_max;

impl Server {
    /// Tells anyone the address it is seen with.
    pub(super) fn handle_binding(
        &mut self,
        now: Instant,
        (path, message): (Path, &Message<'_>),
        attributes: &Attributes<'_>,
        arena: &mut Arena,
    ) {
        let discovery = self
            .settings
            .discovery
            .filter(|discovery| discovery.is_of(&path));
        let is_refused = attributes.is_malformed
            || (discovery.is_none()
                && (attributes.change.is_some() || attributes.response_port.is_some()));
        if is_refused {
            return self.refuse_unproven(now, (path, message), Refusal::BadRequest, arena);
        }
        let unknown = attributes.unknown_required();
        if !unknown.is_empty() {
            let length = arena
                .reserve()
                .and_then(|out| write_unknown(out, message, unknown));
            self.commit_unproven(now, (path, message), length, arena);
            return;
        }
        let mut from = path;
        if let Some(discovery) = discovery {
            from.local = discovery.origin(path.local, attributes.change.unwrap_or_default());
        }
        if let Some(port) = attributes.response_port.filter(|port| *port != 0) {
            from.remote.set_port(port);
        }
        let mut length = None;
        // Without what only discovery needs when there would be too much.
        for told in [discovery, None] {
            let write = |out| write_success(out, message, (path, from.local), told);
            length = arena.reserve().and_then(write);
            if length.is_some_and(|length| length <= reply_bytes_max(message.length())) {
                break;
            }
        }
        let is_sent = self.commit_unproven(now, (from, message), length, arena);
        self.counts.bindings += u64::from(is_sent);
    }
}

impl Discovery {
    /// Whether a request came to one of the two addresses.
    fn is_of(&self, path: &Path) -> bool {
        path.protocol == Protocol::Udp && self.addresses.contains(&path.local.ip())
    }

    /// Where a response to a request at `local` is to come from.
    fn origin(&self, local: SocketAddr, change: Change) -> SocketAddr {
        let other = self.other(local);
        let ip = if change.ip { other.ip() } else { local.ip() };
        let port = if change.port {
            other.port()
        } else {
            local.port()
        };
        SocketAddr::new(ip, port)
    }

    /// The address and port that both differ from `local`.
    fn other(&self, local: SocketAddr) -> SocketAddr {
        let [first, second] = self.addresses;
        let ip = if local.ip() == first { second } else { first };
        let [own, other] = self.ports;
        let port = if local.port() == own { other } else { own };
        SocketAddr::new(ip, port)
    }
}

fn write_success(
    out: &mut [u8],
    message: &Message<'_>,
    (path, origin): (Path, SocketAddr),
    discovery: Option<Discovery>,
) -> Option<usize> {
    let id = &message.transaction_id;
    let mut writer = MessageWriter::new(out, Class::Success, message.method, id)?;
    writer.put_xor_address(XOR_MAPPED_ADDRESS, path.remote)?;
    if let Some(discovery) = discovery {
        writer.put_address(RESPONSE_ORIGIN, origin)?;
        writer.put_address(OTHER_ADDRESS, discovery.other(path.local))?;
    }
    if message.has_fingerprint {
        writer.finish_with_fingerprint(None)
    } else {
        writer.finish(None)
    }
}

fn write_unknown(out: &mut [u8], message: &Message<'_>, unknown: &[u16]) -> Option<usize> {
    let id = &message.transaction_id;
    let mut writer = MessageWriter::new(out, Class::Error, message.method, id)?;
    writer.put_error(UNKNOWN_ATTRIBUTE)?;
    writer.put_unknown(unknown)?;
    writer.finish(None)
}

const UNKNOWN_ATTRIBUTE: u16 = 420;
