//! A TURN client (RFC 8656) that gets an allocation, sends one connectivity check through it, and
//! ends it.

use std::io;
use std::net::SocketAddr;

use md5::{Digest, Md5};
use net::stun::{
    Class, ERROR_CODE, Integrity, Message, MessageWriter, NONCE, REALM, TransactionId, USERNAME,
};
use thiserror::Error;

use super::ice::Check;
use super::wire::{Wire, foreign};

/// Why media does not get through a TURN server.
#[derive(Debug, Error)]
pub(super) enum TurnError {
    /// Nobody there, or nobody who speaks TURN.
    #[error("{0}")]
    Unreachable(#[from] io::Error),
    /// It says no.
    #[error("it refuses {step} with error {code}")]
    Refused { step: &'static str, code: u16 },
    /// It answers, but what goes through it does not arrive.
    #[error("it answers, but the media behind it does not")]
    Dark,
}

/// A client of one server.
pub(super) struct Client<'a> {
    wire: &'a mut Wire,
    username: &'a str,
    password: &'a str,
    /// What proves who we are, once the server has said for where: realm, nonce and key.
    login: Option<Login>,
    draw: &'a dyn Fn() -> TransactionId,
}

struct Login {
    realm: Vec<u8>,
    nonce: Vec<u8>,
    key: [u8; 16],
}

/// A reply to a request: what it is, and of an error the code.
struct Reply {
    bytes: Vec<u8>,
    code: Option<u16>,
}

impl<'a> Client<'a> {
    /// `draw` gives transaction ids.
    pub(super) fn new(
        wire: &'a mut Wire,
        (username, password): (&'a str, &'a str),
        draw: &'a dyn Fn() -> TransactionId,
    ) -> Self {
        Self {
            wire,
            username,
            password,
            login: None,
            draw,
        }
    }

    /// Sends `check` to `peer`, one of the media candidates, and returns where it seemed to come from.
    ///
    /// # Errors
    /// The server refuses, or nothing comes back.
    pub(super) fn relay(
        &mut self,
        check: &Check,
        peer: SocketAddr,
    ) -> Result<SocketAddr, TurnError> {
        let family: u8 = if peer.is_ipv4() { 1 } else { 2 };
        let allocation = move |writer: &mut MessageWriter<'_>| {
            writer.put(REQUESTED_TRANSPORT, &[UDP, 0, 0, 0])?;
            // Without it an IPv4 address is meant, and older servers do not know the attribute.
            match family {
                1 => Some(()),
                family => writer.put(REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]),
            }
        };
        let challenge = self.request(ALLOCATE, &allocation)?;
        self.log_in(&challenge)?;
        succeeded("an allocation", &self.request(ALLOCATE, &allocation)?)?;
        let answer = self.check(check, peer);
        // Over at once instead of after ten minutes; if that is lost, it is over when the session is.
        self.request(REFRESH, &|writer| writer.put(LIFETIME, &[0; 4]))
            .ok();
        answer
    }

    fn check(&mut self, check: &Check, peer: SocketAddr) -> Result<SocketAddr, TurnError> {
        let permission =
            move |writer: &mut MessageWriter<'_>| writer.put_xor_address(XOR_PEER_ADDRESS, peer);
        succeeded(
            "a permission",
            &self.request(CREATE_PERMISSION, &permission)?,
        )?;
        let id = (self.draw)();
        let indication = write(Class::Indication, SEND, &id, None, &|writer| {
            writer.put_xor_address(XOR_PEER_ADDRESS, peer)?;
            writer.put(DATA, &check.bytes)
        })?;
        let read = |bytes: &[u8]| {
            let message = Message::parse(bytes)?;
            let is_data = message.class == Class::Indication && message.method == DATA_METHOD;
            check.read(message.attribute(DATA).filter(|_| is_data)?)
        };
        let answered = self.wire.ask(&indication, read);
        answered.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => TurnError::Dark,
            _ => error.into(),
        })
    }

    /// The server's first word is always an error with what it wants to be sent back.
    fn log_in(&mut self, challenge: &Reply) -> Result<(), TurnError> {
        if challenge.code != Some(UNAUTHORIZED) {
            return succeeded("to ask who is there", challenge);
        }
        let message = Message::parse(&challenge.bytes).ok_or_else(foreign)?;
        let required = |kind| message.attribute(kind).ok_or_else(foreign);
        let (realm, nonce) = (required(REALM)?.to_vec(), required(NONCE)?.to_vec());
        let mut key = Md5::new();
        key.update(self.username);
        key.update(":");
        key.update(&realm);
        key.update(":");
        key.update(self.password);
        self.login = Some(Login {
            realm,
            nonce,
            key: key.finalize().into(),
        });
        Ok(())
    }

    fn request(&mut self, method: u16, attributes: &Attributes<'_>) -> io::Result<Reply> {
        let id = (self.draw)();
        let login = self.login.as_ref();
        let login = login.map(|login| (self.username, login));
        let request = write(Class::Request, method, &id, login, attributes)?;
        self.wire.ask(&request, |bytes| {
            let message = Message::parse(bytes)?;
            let is_reply = matches!(message.class, Class::Success | Class::Error);
            if !is_reply || message.method != method || message.transaction_id != id {
                return None;
            }
            let code = match message.class {
                Class::Success => None,
                _ => Some(code_of(&message)),
            };
            Some(Reply {
                bytes: bytes.to_vec(),
                code,
            })
        })
    }
}

type Attributes<'a> = dyn Fn(&mut MessageWriter<'_>) -> Option<()> + 'a;

fn write(
    class: Class,
    method: u16,
    id: &TransactionId,
    login: Option<(&str, &Login)>,
    attributes: &Attributes<'_>,
) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    let mut write = || {
        let mut writer = MessageWriter::new(&mut bytes, class, method, id)?;
        attributes(&mut writer)?;
        let Some((username, login)) = login else {
            return writer.finish(None);
        };
        writer.put(USERNAME, username.as_bytes())?;
        writer.put(REALM, &login.realm)?;
        writer.put(NONCE, &login.nonce)?;
        writer.finish(Some(Integrity::Sha1(&login.key)))
    };
    let length = write().ok_or_else(|| io::Error::other("the message is too long"))?;
    bytes.truncate(length);
    Ok(bytes)
}

fn succeeded(step: &'static str, reply: &Reply) -> Result<(), TurnError> {
    match reply.code {
        None => Ok(()),
        Some(code) => Err(TurnError::Refused { step, code }),
    }
}

/// `| 0 (21 bits) | class (3) | number (8) |`; 0 when it is missing.
fn code_of(message: &Message<'_>) -> u16 {
    match message.attribute(ERROR_CODE) {
        Some([_, _, class, number, ..]) => u16::from(*class) * 100 + u16::from(*number),
        _ => 0,
    }
}

// RFC 8656 §17 and §18.
const ALLOCATE: u16 = 3;
const REFRESH: u16 = 4;
const SEND: u16 = 6;
const DATA_METHOD: u16 = 7;
const CREATE_PERMISSION: u16 = 8;
const LIFETIME: u16 = 0x000d;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA: u16 = 0x0013;
const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
const REQUESTED_TRANSPORT: u16 = 0x0019;
/// The protocol's number.
const UDP: u8 = 17;
const UNAUTHORIZED: u16 = 401;
const MESSAGE_BYTES_MAX: usize = 2048;
