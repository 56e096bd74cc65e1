//! Long-term credentials with an expiry (RFC 8489 §9.2) and stateless nonces.
//!
//! A user name is `expiry:anything`, in Unix seconds; its password is the base64 of an HMAC over it, so
//! nothing about credentials is stored. Those of this server's own users end in the user's number.
#![warn(clippy::indexing_slicing)]

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use md5::Md5;
use net::cursor::{array_at, u32_at};
use net::stun::{Integrity, Message};
use net::{Path, Protocol};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::attributes::{ALGORITHMS, Attributes, PasswordAlgorithm};

/// Who this server lets in on its own behalf: a number the service gave, as of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct User(pub u64);

/// What clients authenticate with, shared by all servers of a process.
#[derive(Clone)]
pub struct Secrets(Arc<Inner>);

struct Inner {
    /// Makes the passwords of our own users and protects nonces; drawn at every start.
    own: [u8; 32],
    /// Makes the passwords that other applications hand out.
    shared: Option<String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

/// A user name and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `expiry:label:user`.
    pub username: String,
    /// What it is used with.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// On whose behalf a request is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Account {
    /// One of our own users, who may reach our own media.
    User(User),
    /// Whoever got a credential from an application that has the shared secret.
    Shared(String),
}

/// A long-term key (RFC 8489 §9.2.2), and how it was made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    bytes: [u8; 32],
    algorithm: PasswordAlgorithm,
    /// Whether messages carry MESSAGE-INTEGRITY-SHA256.
    is_sha256: bool,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// Why a request is not let through; each is an error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 400.
    BadRequest,
    /// 401, with a challenge.
    Unauthorized,
    /// 438, with a challenge.
    StaleNonce,
}

impl Secrets {
    /// `own` is random and secret; `shared` is what other applications mint with, if they may.
    pub fn new(own: [u8; 32], shared: Option<String>) -> Self {
        Self(Arc::new(Inner { own, shared }))
    }

    /// Makes credentials for one of our own users. `expires_at`: Unix seconds, the end of new allocations.
    pub fn issue(&self, expires_at: u64, label: &str, user: User) -> Credentials {
        let username = format!("{expires_at}:{label}:{:x}", user.0);
        let password = own_password(&self.0.own, &username);
        Credentials { username, password }
    }

    /// Makes credentials as an application with the shared secret would; `None` where there is none.
    pub fn issue_shared(&self, expires_at: u64, label: &str) -> Option<Credentials> {
        let username = format!("{expires_at}:{label}");
        let password = password::<Hmac<Sha1>>(self.0.shared.as_ref()?.as_bytes(), &username);
        Some(Credentials { username, password })
    }

    /// A nonce for one client, or the plain one for requests too short to be answered with all of it.
    ///
    /// Never stored: the time and a tag over it and the client's address. 29 or 16 characters.
    pub(crate) fn nonce(&self, unix_time: u64, path: &Path, is_plain: bool) -> String {
        let time = low_word(unix_time).to_be_bytes();
        let tag = self.nonce_tag(time, path);
        let mut bytes = [0; NONCE_BYTES];
        let parts = time.iter().chain(tag.iter());
        bytes
            .iter_mut()
            .zip(parts)
            .for_each(|(to, from)| *to = *from);
        let text = BASE64.encode(bytes);
        if is_plain {
            text
        } else {
            format!("{NONCE_COOKIE}{text}")
        }
    }

    fn is_fresh(&self, unix_time: u64, path: &Path, nonce: &[u8]) -> bool {
        let text = nonce.strip_prefix(NONCE_COOKIE.as_bytes()).unwrap_or(nonce);
        let mut bytes = [0; NONCE_BYTES];
        if BASE64.decode_slice(text, &mut bytes) != Ok(NONCE_BYTES) {
            return false;
        }
        let (Some(time), Some(tag)) = (array_at::<4>(&bytes, 0), array_at::<8>(&bytes, 4)) else {
            return false;
        };
        let age = low_word(unix_time).wrapping_sub(u32_at(&time, 0).unwrap_or_default());
        // Compared in full whatever the age: no time tells what was wrong.
        let expected = self.nonce_tag(time, path);
        let differs = tag
            .iter()
            .zip(&expected)
            .fold(0, |all, (a, b)| all | (a ^ b));
        differs == 0 && age <= NONCE_LIFETIME_S
    }

    fn nonce_tag(&self, time: [u8; 4], path: &Path) -> [u8; 8] {
        let mut mac = keyed::<Hmac<Sha256>>(&self.0.own);
        mac.update(b"nonce");
        mac.update(&time);
        let ip = match path.remote.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        mac.update(&ip.octets());
        mac.update(&path.remote.port().to_be_bytes());
        mac.update(&[u8::from(path.protocol == Protocol::Udp)]);
        array_at(&mac.finalize().into_bytes(), 0).unwrap_or_default()
    }

    /// Whose request this is, and the key that proves it; for requests that need no state.
    ///
    /// `known`: the name and key of the allocation on the same path, whose credentials may be over.
    pub(crate) fn authenticate(
        &self,
        unix_time: u64,
        path: &Path,
        (message, attributes): (&Message<'_>, &Attributes<'_>),
        known: Option<(&str, Key)>,
    ) -> Result<(Option<Account>, Key), Refusal> {
        if !message.has_sha1() && !message.has_sha256() {
            return Err(Refusal::Unauthorized);
        }
        let nonce = attributes.nonce.ok_or(Refusal::BadRequest)?;
        let username = attributes.username.ok_or(Refusal::BadRequest)?;
        if attributes.is_malformed || attributes.realm.is_none() {
            return Err(Refusal::BadRequest);
        }
        let algorithm = chosen_algorithm(nonce, attributes)?;
        if !self.is_fresh(unix_time, path, nonce) {
            return Err(Refusal::StaleNonce);
        }
        if attributes.realm != Some(REALM.as_bytes()) {
            return Err(Refusal::Unauthorized);
        }
        let is_sha256 = message.has_sha256();
        if let Some((name, key)) = known
            && name == username
            && key.algorithm == algorithm
        {
            let key = Key { is_sha256, ..key };
            let is_proven = message.verify(key.integrity());
            return is_proven
                .then_some((None, key))
                .ok_or(Refusal::Unauthorized);
        }
        let candidates = self.candidates(unix_time, username);
        let proven = candidates.into_iter().find_map(|(account, password)| {
            let key = Key::new(algorithm, username, &password, is_sha256);
            message
                .verify(key.integrity())
                .then_some((Some(account), key))
        });
        proven.ok_or(Refusal::Unauthorized)
    }

    /// The accounts a user name may stand for, with their passwords.
    fn candidates(&self, unix_time: u64, username: &str) -> Vec<(Account, String)> {
        let mut candidates = Vec::new();
        let (expiry, rest) = username.split_once(':').unwrap_or((username, ""));
        let is_number = !expiry.is_empty() && expiry.bytes().all(|byte| byte.is_ascii_digit());
        let Some(expires_at) = expiry.parse().ok().filter(|_| is_number) else {
            return candidates;
        };
        if !(unix_time..=unix_time + EXPIRY_MAX_S).contains(&expires_at) {
            return candidates;
        }
        if let Some(user) = user_of(username) {
            candidates.push((Account::User(user), own_password(&self.0.own, username)));
        }
        if let Some(shared) = &self.0.shared {
            let secret = shared.as_bytes();
            // One person's credentials count together, whenever they were made.
            let name = if rest.is_empty() { username } else { rest };
            let account = Account::Shared(name.to_owned());
            let sha1 = password::<Hmac<Sha1>>(secret, username);
            candidates.push((account.clone(), sha1));
            candidates.push((account, password::<Hmac<Sha256>>(secret, username)));
        }
        candidates
    }
}

/// The user in a name of our own making; proven by nothing yet.
pub(crate) fn user_of(username: &str) -> Option<User> {
    let (_, digits) = username.rsplit_once(':')?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u64::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
    Some(User(number))
}

impl Key {
    fn new(algorithm: PasswordAlgorithm, name: &str, password: &str, is_sha256: bool) -> Self {
        let text = format!("{name}:{REALM}:{password}");
        let mut bytes = [0; 32];
        match algorithm {
            PasswordAlgorithm::Md5 => {
                let digest = Md5::digest(text);
                bytes
                    .iter_mut()
                    .zip(digest)
                    .for_each(|(to, from)| *to = from);
            }
            PasswordAlgorithm::Sha256 => bytes = Sha256::digest(text).into(),
        }
        Self {
            bytes,
            algorithm,
            is_sha256,
        }
    }

    /// What protects messages made with this key.
    pub(crate) fn integrity(&self) -> Integrity<'_> {
        let length = match self.algorithm {
            PasswordAlgorithm::Md5 => 16,
            PasswordAlgorithm::Sha256 => 32,
        };
        let bytes = self.bytes.get(..length).unwrap_or_default();
        if self.is_sha256 {
            Integrity::Sha256(bytes)
        } else {
            Integrity::Sha1(bytes)
        }
    }
}

/// RFC 8489 §9.2.4: a client that takes part in choosing repeats our list, so that nobody in between can
/// have shortened it.
fn chosen_algorithm(
    nonce: &[u8],
    attributes: &Attributes<'_>,
) -> Result<PasswordAlgorithm, Refusal> {
    let offered = nonce.starts_with(NONCE_COOKIE.as_bytes());
    match (
        attributes.password_algorithms,
        attributes.password_algorithm,
    ) {
        (None, None) => Ok(PasswordAlgorithm::Md5),
        (Some(list), Some(algorithm)) if offered && list == ALGORITHMS => Ok(algorithm),
        _ => Err(Refusal::BadRequest),
    }
}

fn own_password(secret: &[u8; 32], username: &str) -> String {
    password::<Hmac<Sha1>>(secret, username)
}

fn password<M: Mac + hmac::digest::KeyInit>(secret: &[u8], username: &str) -> String {
    let mut mac = keyed::<M>(secret);
    mac.update(username.as_bytes());
    BASE64.encode(mac.finalize().into_bytes())
}

fn keyed<M: Mac + hmac::digest::KeyInit>(secret: &[u8]) -> M {
    <M as Mac>::new_from_slice(secret).expect("HMAC takes keys of any length")
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "differences of times far less than 2^32 s apart survive"
)]
fn low_word(unix_time: u64) -> u32 {
    unix_time as u32
}

/// The realm of all credentials: short, because it is in every challenge.
pub(crate) const REALM: &str = "plenum";
/// Says that PASSWORD-ALGORITHMS was sent along: the first of the security features (RFC 8489 §9.2).
const NONCE_COOKIE: &str = "obMatJos2gAAA";
const NONCE_BYTES: usize = 12;
const NONCE_LIFETIME_S: u32 = 600;
/// Credentials that would be good for longer are refused: a mistake of who minted them.
const EXPIRY_MAX_S: u64 = 48 * 3600;
