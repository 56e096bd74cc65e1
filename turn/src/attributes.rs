//! The attributes of TURN (RFC 8656 §18) and of behaviour discovery (RFC 5780 §7), read once per request.
#![warn(clippy::indexing_slicing)]

use std::net::SocketAddr;

use net::cursor::{array_at, u16_at, u32_at};
use net::stun::{FIRST_OPTIONAL, Message, NONCE, REALM, USERNAME};

pub(crate) const CHANGE_REQUEST: u16 = 0x0003;
pub(crate) const CHANNEL_NUMBER: u16 = 0x000c;
pub(crate) const LIFETIME: u16 = 0x000d;
pub(crate) const XOR_PEER_ADDRESS: u16 = 0x0012;
pub(crate) const DATA: u16 = 0x0013;
pub(crate) const XOR_RELAYED_ADDRESS: u16 = 0x0016;
pub(crate) const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
pub(crate) const EVEN_PORT: u16 = 0x0018;
pub(crate) const REQUESTED_TRANSPORT: u16 = 0x0019;
pub(crate) const DONT_FRAGMENT: u16 = 0x001a;
pub(crate) const PASSWORD_ALGORITHM: u16 = 0x001d;
pub(crate) const RESERVATION_TOKEN: u16 = 0x0022;
pub(crate) const PADDING: u16 = 0x0026;
pub(crate) const RESPONSE_PORT: u16 = 0x0027;
pub(crate) const ADDITIONAL_ADDRESS_FAMILY: u16 = 0x8000;
pub(crate) const PASSWORD_ALGORITHMS: u16 = 0x8002;
pub(crate) const RESPONSE_ORIGIN: u16 = 0x802b;
pub(crate) const OTHER_ADDRESS: u16 = 0x802c;

/// An IP version as attributes name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// 0x01.
    V4,
    /// 0x02.
    V6,
}

impl Family {
    pub(crate) fn of(address: SocketAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }
}

/// How a password becomes a key (RFC 8489 §18.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PasswordAlgorithm {
    /// MD5, for clients older than RFC 8489.
    Md5,
    /// SHA-256.
    Sha256,
}

/// A token that stands for a reserved port.
pub(crate) type Token = [u8; 8];

/// What a request says, borrowed; of an attribute that comes twice the first counts (RFC 8489 §14).
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes<'a> {
    pub(crate) username: Option<&'a str>,
    pub(crate) realm: Option<&'a [u8]>,
    pub(crate) nonce: Option<&'a [u8]>,
    pub(crate) password_algorithm: Option<PasswordAlgorithm>,
    /// The list the server offered, as the client repeats it.
    pub(crate) password_algorithms: Option<&'a [u8]>,
    pub(crate) lifetime: Option<u32>,
    /// The protocol number.
    pub(crate) transport: Option<u8>,
    pub(crate) family: Option<Family>,
    pub(crate) additional_family: Option<Family>,
    /// Whether the port after the even one is to be reserved.
    pub(crate) even_port: Option<bool>,
    pub(crate) token: Option<Token>,
    pub(crate) dont_fragment: bool,
    pub(crate) channel: Option<u16>,
    pub(crate) change: Option<Change>,
    pub(crate) response_port: Option<u16>,
    /// A family attribute names neither IP version.
    pub(crate) has_unknown_family: bool,
    /// An attribute has a length or value it cannot have.
    pub(crate) is_malformed: bool,
    unknown: [u16; UNKNOWN_MAX],
    unknown_count: usize,
}

/// CHANGE-REQUEST: from where the response is to come (RFC 5780 §7.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// From the other address.
    pub(crate) ip: bool,
    /// From the other port.
    pub(crate) port: bool,
}

impl<'a> Attributes<'a> {
    /// Reads all attributes that count.
    pub(crate) fn read(message: &Message<'a>) -> Self {
        let mut attributes = Self::default();
        for (kind, value) in message.attributes() {
            if attributes.take(kind, value).is_none() {
                attributes.is_malformed = true;
            }
        }
        attributes
    }

    /// Attributes that must be understood and are not; the first few of them.
    pub(crate) fn unknown_required(&self) -> &[u16] {
        self.unknown.get(..self.unknown_count).unwrap_or_default()
    }

    /// Takes one attribute; `None` when it is malformed.
    fn take(&mut self, kind: u16, value: &'a [u8]) -> Option<()> {
        match kind {
            USERNAME => {
                let name = std::str::from_utf8(value).ok()?;
                let name = Some(name).filter(|name| name.len() <= USERNAME_BYTES_MAX)?;
                self.username.get_or_insert(name);
            }
            REALM => _ = self.realm.get_or_insert(value),
            NONCE => _ = self.nonce.get_or_insert(value),
            PASSWORD_ALGORITHM => {
                let algorithm = algorithm(value)?;
                self.password_algorithm.get_or_insert(algorithm);
            }
            PASSWORD_ALGORITHMS => _ = self.password_algorithms.get_or_insert(value),
            LIFETIME => _ = self.lifetime.get_or_insert(word(value)?),
            REQUESTED_TRANSPORT => {
                let [protocol, ..] = word(value)?.to_be_bytes();
                self.transport.get_or_insert(protocol);
            }
            REQUESTED_ADDRESS_FAMILY => self.family = self.family.or(self.read_family(value)?),
            ADDITIONAL_ADDRESS_FAMILY => {
                self.additional_family = self.additional_family.or(self.read_family(value)?);
            }
            EVEN_PORT => {
                let [flags] = *value else { return None };
                self.even_port.get_or_insert(flags & 0x80 != 0);
            }
            RESERVATION_TOKEN => _ = self.token.get_or_insert(value.try_into().ok()?),
            DONT_FRAGMENT => self.dont_fragment = value.is_empty().then_some(true)?,
            CHANNEL_NUMBER => {
                let number = u16_at(value, 0).filter(|_| value.len() == 4)?;
                self.channel.get_or_insert(number);
            }
            CHANGE_REQUEST => {
                let flags = word(value)?;
                self.change.get_or_insert(Change {
                    ip: flags & 4 != 0,
                    port: flags & 2 != 0,
                });
            }
            RESPONSE_PORT => {
                let port = u16_at(value, 0).filter(|_| value.len() == 2 || value.len() == 4)?;
                self.response_port.get_or_insert(port);
            }
            XOR_PEER_ADDRESS | DATA | PADDING => {}
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

    fn read_family(&mut self, value: &[u8]) -> Option<Option<Family>> {
        let [family, ..] = word(value)?.to_be_bytes();
        let family = match family {
            1 => Some(Family::V4),
            2 => Some(Family::V6),
            _ => None,
        };
        self.has_unknown_family |= family.is_none();
        Some(family)
    }
}

/// Every XOR-PEER-ADDRESS of a message; `None` when one is malformed.
pub(crate) fn peers(message: &Message<'_>) -> Option<Vec<SocketAddr>> {
    let attributes = message.attributes();
    let peers = attributes.filter(|(kind, _)| *kind == XOR_PEER_ADDRESS);
    peers.map(|(_, value)| message.xor_address(value)).collect()
}

fn word(value: &[u8]) -> Option<u32> {
    u32_at(value, 0).filter(|_| value.len() == 4)
}

/// `| algorithm (16) | length of parameters (16) | parameters |`
fn algorithm(value: &[u8]) -> Option<PasswordAlgorithm> {
    match array_at(value, 0)? {
        [0, 1, 0, 0] => Some(PasswordAlgorithm::Md5),
        [0, 2, 0, 0] => Some(PasswordAlgorithm::Sha256),
        _ => None,
    }
}

/// The value of PASSWORD-ALGORITHMS: SHA-256, then MD5 for older clients.
pub(crate) const ALGORITHMS: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];

const USERNAME_BYTES_MAX: usize = 508; // RFC 8489 §14.3
const UNKNOWN_MAX: usize = 8; // enough for the client to see its mistake
