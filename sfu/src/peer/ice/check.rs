//! Connectivity checks (RFC 8445 §7): what a Binding request of ICE says, and the replies to it.
#![warn(clippy::indexing_slicing)]

use std::net::SocketAddr;

use net::cursor::u64_at;
use net::stun::{
    BINDING, Class, FIRST_OPTIONAL, Integrity, Message, MessageWriter, NONCE, REALM, TransactionId,
    USERNAME, XOR_MAPPED_ADDRESS,
};

/// A Binding request with the attributes of ICE, borrowed. Nothing in it is proven until
/// `verify_integrity` says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Check<'a> {
    /// Pairs the response with it.
    pub(crate) transaction_id: TransactionId,
    /// "receiver's ufrag:sender's ufrag".
    pub(crate) username: &'a str,
    /// USE-CANDIDATE: the controlling side nominates this pair.
    pub(crate) use_candidate: bool,
    /// Whether the sender believes to be the controlled side.
    pub(crate) is_controlled: bool,
    unknown: [u16; UNKNOWN_MAX],
    unknown_count: usize,
    message: Message<'a>,
}

impl<'a> Check<'a> {
    /// Reads a whole datagram; `None` when it is malformed, or another message than a check.
    ///
    /// Of an attribute that comes twice the first counts (RFC 8489 §14).
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let message = Message::parse(bytes)?;
        if bytes.len() > CHECK_BYTES_MAX || !message.is_request(BINDING) {
            return None;
        }
        let mut check = Self {
            transaction_id: message.transaction_id,
            username: "",
            use_candidate: false,
            is_controlled: false,
            unknown: [0; UNKNOWN_MAX],
            unknown_count: 0,
            message,
        };
        let mut username = None;
        for (kind, value) in message.attributes() {
            if kind == USERNAME {
                username = username.or(Some(value));
            } else {
                check.read(kind, value)?;
            }
        }
        let username = username.filter(|username| username.len() <= USERNAME_BYTES_MAX)?;
        check.username = std::str::from_utf8(username).ok()?;
        Some(check)
    }

    fn read(&mut self, kind: u16, value: &[u8]) -> Option<()> {
        match kind {
            USE_CANDIDATE if value.is_empty() => self.use_candidate = true,
            PRIORITY if value.len() == 4 => {}
            ICE_CONTROLLING if value.len() == 8 => {}
            ICE_CONTROLLED => {
                u64_at(value, 0).filter(|_| value.len() == 8)?;
                self.is_controlled = true;
            }
            PRIORITY | USE_CANDIDATE | ICE_CONTROLLING => return None,
            XOR_MAPPED_ADDRESS | REALM | NONCE => {}
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

    /// Whether MESSAGE-INTEGRITY is there and was made with `key` (a short-term password).
    pub(crate) fn verify_integrity(&self, key: &[u8]) -> bool {
        self.message.verify(Integrity::Sha1(key))
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
        let mut writer = MessageWriter::new(out, Class::Success, BINDING, transaction_id)?;
        writer.put_xor_address(XOR_MAPPED_ADDRESS, mapped)?;
        writer.finish_with_fingerprint(Some(Integrity::Sha1(key)))
    };
    write().unwrap_or(0)
}

/// Writes a Binding error response without a reason phrase; its length, or 0 when `out` is too small.
///
/// `unknown` is listed for 420.
pub(crate) fn write_error(
    out: &mut [u8],
    transaction_id: &TransactionId,
    code: u16,
    unknown: &[u16],
    key: &[u8],
) -> usize {
    let mut write = || {
        let mut writer = MessageWriter::new(out, Class::Error, BINDING, transaction_id)?;
        writer.put_error(code)?;
        if !unknown.is_empty() {
            writer.put_unknown(unknown)?;
        }
        writer.finish_with_fingerprint(Some(Integrity::Sha1(key)))
    };
    write().unwrap_or(0)
}

/// What a connectivity check of a full agent carries beside its password; we only answer them.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// Pairs the response with it.
    pub(crate) transaction_id: TransactionId,
    /// "receiver's ufrag:sender's ufrag".
    pub(crate) username: &'a str,
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
        let id = &request.transaction_id;
        let mut writer = MessageWriter::new(out, Class::Request, BINDING, id)?;
        writer.put(USERNAME, request.username.as_bytes())?;
        writer.put(PRIORITY, &1u32.to_be_bytes())?;
        match request.role {
            Role::Controlling(tie) => writer.put(ICE_CONTROLLING, &tie.to_be_bytes())?,
            Role::Controlled(tie) => writer.put(ICE_CONTROLLED, &tie.to_be_bytes())?,
        }
        if request.use_candidate {
            writer.put(USE_CANDIDATE, &[])?;
        }
        writer.finish_with_fingerprint(Some(Integrity::Sha1(key)))
    };
    write().unwrap_or(0)
}

/// Bytes of the longest response we write: IPv6 mapped address, integrity and fingerprint.
pub(crate) const RESPONSE_BYTES_MAX: usize = 128;

const CHECK_BYTES_MAX: usize = 1500; // no check comes near one MTU
const USERNAME_BYTES_MAX: usize = 513; // RFC 8489 §14.3: fewer than 509 characters; 256:256 in ICE
const UNKNOWN_MAX: usize = 8; // enough for the peer to see its mistake

const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";
    const ID: TransactionId = [7; 12];

    fn request(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = [0; 2048];
        let mut writer = MessageWriter::new(&mut out, Class::Request, BINDING, &ID).unwrap();
        for (kind, value) in attributes {
            writer.put(*kind, value).unwrap();
        }
        let length = writer.finish(Some(Integrity::Sha1(PASSWORD))).unwrap();
        out[..length].to_vec()
    }

    #[test]
    fn our_requests_read_back() {
        let sent = Request {
            transaction_id: ID,
            username: "evtj:h6vY",
            role: Role::Controlled(7),
            use_candidate: true,
        };
        let mut out = [0; 256];
        let length = write_request(&mut out, &sent, PASSWORD);
        let check = Check::parse(&out[..length]).unwrap();
        assert_eq!((check.username, check.transaction_id), ("evtj:h6vY", ID));
        assert!(check.use_candidate && check.is_controlled && check.verify_integrity(PASSWORD));
        assert!(!check.verify_integrity(b"another password"));
    }

    #[test]
    fn success_responses_are_no_longer_than_an_unproven_source_may_cause() {
        for mapped in ["192.0.2.1:32853", "[2001:db8::7]:1"] {
            let mapped = mapped.parse().unwrap();
            let mut out = [0xee; RESPONSE_BYTES_MAX];
            let length = write_success(&mut out, &ID, mapped, PASSWORD);
            assert!((1..=100).contains(&length));
            let message = Message::parse(&out[..length]).unwrap();
            let value = message.attribute(XOR_MAPPED_ADDRESS).unwrap();
            assert_eq!(message.xor_address(value), Some(mapped));
            assert!(message.has_fingerprint && message.verify(Integrity::Sha1(PASSWORD)));
            for short in 0..length {
                assert_eq!(write_success(&mut out[..short], &ID, mapped, PASSWORD), 0);
            }
        }
    }

    #[test]
    fn errors_read_back() {
        let mut out = [0; RESPONSE_BYTES_MAX];
        for (code, unknown) in [(420, &[0x7777, 0x0003, 0x0004][..]), (487, &[])] {
            let length = write_error(&mut out, &ID, code, unknown, PASSWORD);
            let message = Message::parse(&out[..length]).unwrap();
            let value = message.attribute(net::stun::ERROR_CODE).unwrap();
            assert_eq!(u16::from(value[2]) * 100 + u16::from(value[3]), code);
            assert!(message.verify(Integrity::Sha1(PASSWORD)));
        }
    }

    #[test]
    fn unknown_required_attributes_are_told_and_bounded() {
        let mut attributes: Vec<(u16, &[u8])> =
            (0x7000..0x7014).map(|kind| (kind, &[1][..])).collect();
        attributes.push((0xc001, b"optional"));
        attributes.push((USERNAME, b"a:b"));
        let bytes = request(&attributes);
        let check = Check::parse(&bytes).unwrap();
        assert_eq!(
            check.unknown_required(),
            (0x7000..0x7008).collect::<Vec<_>>()
        );
    }

    #[test]
    fn other_messages_and_malformed_ones_are_no_checks() {
        assert!(Check::parse(&request(&[])).is_none());
        let mut indication = request(&[(USERNAME, b"a:b")]);
        indication[1] |= 0x10;
        assert!(Check::parse(&indication).is_none());
        assert!(Check::parse(&request(&[(USERNAME, &[0xff, 0xfe])])).is_none());
        assert!(Check::parse(&request(&[(PRIORITY, &[1]), (USERNAME, b"a:b")])).is_none());
        assert!(Check::parse(&request(&[(0xc001, &[0; 1600])])).is_none());
        assert!(Check::parse(b"no STUN at all, but long enough for it").is_none());
    }

    proptest! {
        #[test]
        fn well_formed_random_attributes_never_panic(
            attributes in prop::collection::vec(
                (prop::sample::select(vec![6u16, 9, 0x20, 0x24, 0x25, 0x8029, 0x802a, 0x7000]),
                 prop::collection::vec(any::<u8>(), 0..24)), 0..12),
        ) {
            let attributes: Vec<(u16, &[u8])> =
                attributes.iter().map(|(kind, value)| (*kind, &value[..])).collect();
            let bytes = request(&attributes);
            if let Some(check) = Check::parse(&bytes) {
                prop_assert!(check.verify_integrity(PASSWORD));
                prop_assert!(check.unknown_required().len() <= UNKNOWN_MAX);
            }
        }
    }
}
