//! A connectivity check (RFC 8445 §7.2): what the doctor asks of a candidate, and what it gets back.

use std::io;
use std::net::SocketAddr;

use net::stun::{
    BINDING, Class, Integrity, Message, MessageWriter, TransactionId, USERNAME, XOR_MAPPED_ADDRESS,
};

use super::answer::{Answer, Ours};
use super::wire::Wire;

/// One check; any number of answers to it mean the same.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) bytes: Vec<u8>,
    id: TransactionId,
    /// The other side's password.
    pwd: String,
}

impl Check {
    /// Asks the server of this answer, on behalf of our offer.
    pub(super) fn new(ours: &Ours, answer: &Answer, id: TransactionId) -> Option<Self> {
        let mut bytes = vec![0; CHECK_BYTES_MAX];
        let mut writer = MessageWriter::new(&mut bytes, Class::Request, BINDING, &id)?;
        let username = format!("{}:{}", answer.ufrag, ours.ufrag);
        writer.put(USERNAME, username.as_bytes())?;
        writer.put(PRIORITY, &PRIORITY_VALUE.to_be_bytes())?;
        let [tie_breaker @ .., _, _, _, _] = id;
        writer.put(ICE_CONTROLLING, &tie_breaker)?;
        let pwd = answer.pwd.clone();
        let length = writer.finish_with_fingerprint(Some(Integrity::Sha1(pwd.as_bytes())))?;
        bytes.truncate(length);
        Some(Self { bytes, id, pwd })
    }

    /// Where the server saw the check come from, if this is its answer, proven by its password.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<SocketAddr> {
        let message = Message::parse(bytes)?;
        let is_ours = message.class == Class::Success && message.transaction_id == self.id;
        let is_proven = is_ours && message.verify(Integrity::Sha1(self.pwd.as_bytes()));
        let mapped = message.attribute(XOR_MAPPED_ADDRESS).filter(|_| is_proven);
        message.xor_address(mapped?)
    }

    /// Sends it and waits for the answer.
    pub(super) fn make(&self, wire: &mut Wire) -> io::Result<SocketAddr> {
        wire.ask(&self.bytes, |bytes| self.read(bytes))
    }
}

const PRIORITY: u16 = 0x0024;
const ICE_CONTROLLING: u16 = 0x802a;
/// That of a peer-reflexive candidate over UDP (RFC 8445 §5.1.2).
const PRIORITY_VALUE: u32 = 110 << 24 | 65_535 << 8 | 255;
/// User names are at most 513 bytes, and the rest is less than 100.
const CHECK_BYTES_MAX: usize = 640;

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TransactionId = [9; 12];

    fn check() -> Check {
        let ours = Ours {
            ufrag: "mine".to_owned(),
            pwd: "unused".to_owned(),
            fingerprint: String::new(),
        };
        let answer = Answer {
            ufrag: "00ab".to_owned(),
            pwd: "theirs".to_owned(),
            ..Answer::default()
        };
        Check::new(&ours, &answer, ID).unwrap()
    }

    fn reply(class: Class, id: TransactionId, pwd: &str) -> Vec<u8> {
        let mut bytes = vec![0; 128];
        let mut writer = MessageWriter::new(&mut bytes, class, BINDING, &id).unwrap();
        let mapped = "192.0.2.9:40000".parse().unwrap();
        writer.put_xor_address(XOR_MAPPED_ADDRESS, mapped).unwrap();
        let length = writer.finish_with_fingerprint(Some(Integrity::Sha1(pwd.as_bytes())));
        bytes.truncate(length.unwrap());
        bytes
    }

    #[test]
    fn a_check_proves_that_it_has_read_the_answer() {
        let check = check();
        let message = Message::parse(&check.bytes).unwrap();
        assert!(message.is_request(BINDING) && message.has_fingerprint);
        assert_eq!(message.attribute(USERNAME), Some(&b"00ab:mine"[..]));
        assert!(message.verify(Integrity::Sha1(b"theirs")));
    }

    #[test]
    fn only_the_server_can_answer_it() {
        let check = check();
        let good = reply(Class::Success, ID, "theirs");
        assert_eq!(check.read(&good), "192.0.2.9:40000".parse().ok());
        for bad in [
            reply(Class::Success, ID, "other"),
            reply(Class::Success, [8; 12], "theirs"),
            reply(Class::Error, ID, "theirs"),
        ] {
            assert_eq!(check.read(&bad), None);
        }
        for end in 0..good.len() {
            assert_eq!(check.read(&good[..end]), None);
        }
    }
}
