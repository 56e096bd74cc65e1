//! DTLS 1.2 of one transport: the handshake, the SRTP keys it yields (RFC 5764), and the records that carry
//! data channels.

#![warn(clippy::indexing_slicing)]

use crate::peer::srtp::SrtpProfile;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use dimpl::{Config, DtlsCertificate, Output};

/// Our certificate with its key, one for all peers of a process; clones share it.
#[derive(Clone, Debug)]
pub struct Certificate(Arc<Identity>);

#[derive(Debug)]
struct Identity {
    certificate: DtlsCertificate,
    fingerprint: Fingerprint,
    config: Arc<Config>,
}

impl Certificate {
    /// Makes a key pair (P-256) and a self-signed certificate for it.
    pub fn generate() -> Self {
        let certificate = dimpl::certificate::generate_self_signed_certificate()
            .expect("making a key needs nothing but randomness");
        let fingerprint = Fingerprint::of(HashAlgorithm::Sha256, &certificate.certificate);
        Self(Arc::new(Identity {
            certificate,
            fingerprint,
            config: config(None),
        }))
    }

    /// What the other side should find, with SHA-256.
    pub(crate) fn fingerprint(&self) -> &Fingerprint {
        &self.0.fingerprint
    }
}

/// How every connection is set up.
///
/// A seed makes what the engine draws itself repeatable: the jitter of its timers, but hello randoms and
/// record nonces too (keys and signatures come from the system all the same). For simulations only.
fn config(seed: Option<u64>) -> Arc<Config> {
    let config = Config::builder()
        // Only addresses that passed ICE get here, so a cookie would only cost a round trip.
        .use_server_cookie(false)
        .require_client_certificate(true)
        .handshake_timeout(HANDSHAKE_MAX)
        .flight_start_rto(RETRANSMIT_AFTER)
        .flight_retries(RETRANSMITS_MAX)
        .max_queue_rx(INBOUND_MAX)
        .max_queue_tx(OUTBOUND_MAX + 16);
    let config = match seed {
        Some(seed) => config.dangerously_set_rng_seed(seed),
        None => config,
    };
    Arc::new(config.build().expect("the timings are in range"))
}

/// The hash of a certificate as it stands in SDP (RFC 8122 §5).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    algorithm: HashAlgorithm,
    bytes: Vec<u8>,
}

/// The hashes we accept in a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HashAlgorithm {
    Sha256,
    Sha384,
    Sha512,
}

impl Fingerprint {
    /// Hashes a certificate in DER.
    pub(crate) fn of(algorithm: HashAlgorithm, certificate: &[u8]) -> Self {
        let hash = match algorithm {
            HashAlgorithm::Sha256 => &digest::SHA256,
            HashAlgorithm::Sha384 => &digest::SHA384,
            HashAlgorithm::Sha512 => &digest::SHA512,
        };
        Self {
            algorithm,
            bytes: digest::digest(hash, certificate).as_ref().to_vec(),
        }
    }

    /// Reads `sha-256 AA:BB:…`, in either case; `None` for other hashes and wrong lengths.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, hex) = text.trim().split_once(' ')?;
        let (algorithm, length) = match name.to_ascii_lowercase().as_str() {
            "sha-256" => (HashAlgorithm::Sha256, 32),
            "sha-384" => (HashAlgorithm::Sha384, 48),
            "sha-512" => (HashAlgorithm::Sha512, 64),
            _ => return None,
        };
        let hex = hex.trim();
        if hex.len() != 3 * length - 1 {
            return None;
        }
        let byte = |pair: &str| {
            let is_hex = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            is_hex.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
        };
        let bytes: Option<Vec<u8>> = hex.split(':').map(byte).collect();
        bytes
            .filter(|bytes| bytes.len() == length)
            .map(|bytes| Self { algorithm, bytes })
    }

    fn matches(&self, certificate: &[u8]) -> bool {
        Self::of(self.algorithm, certificate) == *self
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.algorithm {
            HashAlgorithm::Sha256 => "sha-256",
            HashAlgorithm::Sha384 => "sha-384",
            HashAlgorithm::Sha512 => "sha-512",
        })?;
        let mut separator = ' ';
        for byte in &self.bytes {
            write!(f, "{separator}{byte:02X}")?;
            separator = ':';
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Our part in the handshake (RFC 8842 §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DtlsRole {
    /// The DTLS client: we send the first message.
    Active,
    /// The DTLS server.
    Passive,
}

/// The SRTP master keys and salts of a transport (RFC 5764 §4.2).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SrtpKeying {
    pub(crate) profile: SrtpProfile,
    /// For what we send.
    pub(crate) local_key: Vec<u8>,
    pub(crate) local_salt: Vec<u8>,
    /// For what we receive.
    pub(crate) remote_key: Vec<u8>,
    pub(crate) remote_salt: Vec<u8>,
}

impl SrtpKeying {
    /// Cuts up `client key | server key | client salt | server salt`; `None` when it is too short.
    fn split(profile: SrtpProfile, role: DtlsRole, material: &[u8]) -> Option<Self> {
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let (client_key, rest) = material.split_at_checked(key)?;
        let (server_key, rest) = rest.split_at_checked(key)?;
        let (client_salt, rest) = rest.split_at_checked(salt)?;
        let (server_salt, _) = rest.split_at_checked(salt)?;
        let client = (client_key.to_vec(), client_salt.to_vec());
        let server = (server_key.to_vec(), server_salt.to_vec());
        let (local, remote) = match role {
            DtlsRole::Active => (client, server),
            DtlsRole::Passive => (server, client),
        };
        Some(Self {
            profile,
            local_key: local.0,
            local_salt: local.1,
            remote_key: remote.0,
            remote_salt: remote.1,
        })
    }
}

impl fmt::Debug for SrtpKeying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpKeying")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// What a [`Dtls`] wants done.
#[derive(Debug, PartialEq)]
pub(crate) enum DtlsOutput {
    /// Send the first this many bytes of the buffer.
    Transmit(usize),
    /// The other side proved to be the certificate of the SDP, and these are the keys.
    Keys(SrtpKeying),
    /// The handshake is over; data may be sent.
    Connected,
    /// The first this many bytes of the buffer were received.
    Data(usize),
    /// The other side closed the connection.
    Closed,
    /// Nothing until the next call of a `handle_*` or `send`.
    Nothing,
}

/// Why a DTLS connection ended; final.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DtlsError {
    /// The certificate is not the one of the SDP.
    #[error("the certificate does not match the fingerprint")]
    WrongFingerprint,
    /// The handshake took more than 10 s.
    #[error("the handshake timed out")]
    Timeout,
    /// The other side broke the protocol or shares no cipher with us.
    #[error("the handshake failed: {0}")]
    Protocol(String),
}

/// Why a message was not taken for sending; the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DtlsSendError {
    /// The handshake is not over, or the connection has ended.
    #[error("the connection is not open")]
    NotOpen,
    /// Too much was sent since the last `poll`.
    #[error("the send queue is full")]
    Full,
    /// Longer than one datagram carries.
    #[error("the message is too long")]
    TooLong,
}

/// One DTLS connection, without sockets or clock.
///
/// After each `handle_*` and `send`, call `poll` until it says `Nothing`. The certificate of the other
/// side is compared with the expected fingerprint before anything else of it counts: until then no keys,
/// no data, no `Connected` come out, and after a mismatch nothing ever does.
pub(crate) struct Dtls {
    state: State,
    role: DtlsRole,
    expected: Fingerprint,
    /// Outputs taken out of the engine while the certificate was still unknown.
    ready: VecDeque<Ready>,
    next_timeout: Option<Instant>,
    unsent: usize,
}

enum State {
    /// Nothing of the other side is trusted.
    Unverified(dimpl::Dtls),
    /// The certificate is the expected one; what the handshake then says counts.
    Verified {
        engine: dimpl::Dtls,
        is_open: bool,
    },
    Closed,
    Failed(DtlsError),
}

/// An output with its bytes.
enum Ready {
    Transmit(Vec<u8>),
    Closed,
}

impl Dtls {
    /// Starts a connection. In the active role the first message is ready at once.
    ///
    /// `seed` is for simulations; a server has none.
    pub(crate) fn new(
        now: Instant,
        certificate: &Certificate,
        role: DtlsRole,
        expected: Fingerprint,
        seed: Option<u64>,
    ) -> Self {
        let identity = &certificate.0;
        let config = match seed {
            Some(_) => config(seed),
            None => identity.config.clone(),
        };
        let mut engine = dimpl::Dtls::new_12(config, identity.certificate.clone(), now);
        engine.set_active(role == DtlsRole::Active);
        let mut dtls = Self {
            state: State::Unverified(engine),
            role,
            expected,
            ready: VecDeque::new(),
            next_timeout: None,
            unsent: 0,
        };
        // A failure is kept in the state and told by the next call.
        let _ = dtls.handle_timeout(now);
        dtls
    }

    /// Takes in one datagram (RFC 7983: first byte 20 to 63).
    ///
    /// Garbage and replays are dropped; an error is final and repeated by every later call.
    pub(crate) fn handle_datagram(&mut self, now: Instant, bytes: &[u8]) -> Result<(), DtlsError> {
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return Ok(()); // no DTLS stack sends these; this bounds what a handshake can hold
        }
        self.drive(now, |engine| engine.handle_packet(bytes))
    }

    /// Retransmits what is due and ends a handshake that takes too long.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        self.drive(now, |_| Ok(()))
    }

    /// When to call `handle_timeout`; `None`: no need.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Unverified(_) | State::Verified { is_open: false, .. } => self.next_timeout,
            // An open connection retransmits its last flight only when the other side repeats its own.
            State::Verified { .. } | State::Closed | State::Failed(_) => None,
        }
    }

    /// Encrypts `data` as one record.
    pub(crate) fn send(&mut self, data: &[u8]) -> Result<(), DtlsSendError> {
        let State::Verified {
            engine,
            is_open: true,
        } = &mut self.state
        else {
            return Err(DtlsSendError::NotOpen);
        };
        if data.len() > RECORD_BYTES_MAX {
            return Err(DtlsSendError::TooLong);
        }
        if self.unsent >= OUTBOUND_MAX {
            return Err(DtlsSendError::Full);
        }
        match engine.send_application_data(data) {
            Ok(_) => {
                self.unsent += 1;
                Ok(())
            }
            Err(error) => {
                self.fail(error_of(&error));
                Err(DtlsSendError::NotOpen)
            }
        }
    }

    /// What to do next; `buf` takes the bytes and holds at least 2,048 (longer data is dropped).
    pub(crate) fn poll(&mut self, buf: &mut [u8]) -> DtlsOutput {
        while let Some(ready) = self.ready.pop_front() {
            let Ready::Transmit(bytes) = ready else {
                return self.close();
            };
            if let Some(start) = buf.get_mut(..bytes.len()) {
                start.copy_from_slice(&bytes);
                return DtlsOutput::Transmit(bytes.len());
            }
        }
        self.poll_engine(buf)
    }

    fn poll_engine(&mut self, buf: &mut [u8]) -> DtlsOutput {
        loop {
            let State::Verified { engine, .. } = &mut self.state else {
                return DtlsOutput::Nothing;
            };
            match engine.poll_output(buf) {
                Output::Packet(bytes) => return DtlsOutput::Transmit(bytes.len()),
                Output::ApplicationData(bytes) => return DtlsOutput::Data(bytes.len()),
                Output::Connected => return self.open(),
                Output::KeyingMaterial(material, profile) => {
                    match keys_of(profile, self.role, &material) {
                        Some(keys) => return DtlsOutput::Keys(keys),
                        None => continue,
                    }
                }
                Output::CloseNotify => return self.close(),
                Output::BufferTooSmall { needed } => {
                    // Taken out and dropped, or it would block what follows.
                    let mut scratch = vec![0; needed];
                    let _ = engine.poll_output(&mut scratch);
                }
                Output::Timeout(at) => {
                    self.next_timeout = Some(at);
                    self.unsent = 0;
                    return DtlsOutput::Nothing;
                }
                _ => {}
            }
        }
    }

    /// Moves the clock, then the engine, then looks at the certificate if that is still to be done.
    fn drive(
        &mut self,
        now: Instant,
        step: impl FnOnce(&mut dimpl::Dtls) -> Result<(), dimpl::Error>,
    ) -> Result<(), DtlsError> {
        let engine = match &mut self.state {
            State::Unverified(engine) | State::Verified { engine, .. } => engine,
            State::Closed => return Ok(()),
            State::Failed(error) => return Err(error.clone()),
        };
        let done = engine.handle_timeout(now).and_then(|()| step(engine));
        // Even before the error counts: the certificate decides which error it is.
        self.verify();
        if let Err(error) = done {
            self.fail(error_of(&error));
        }
        match &self.state {
            State::Failed(error) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Takes the engine's outputs until the certificate has been seen and found right.
    fn verify(&mut self) {
        let State::Unverified(engine) = &mut self.state else {
            return;
        };
        // The engine panics when the buffer cannot hold the certificate, whose size is the other side's
        // choice: this holds all that the inbound queue can.
        let mut scratch = vec![0; INBOUND_MAX * DATAGRAM_BYTES_MAX];
        loop {
            match engine.poll_output(&mut scratch) {
                Output::Packet(bytes) => self.ready.push_back(Ready::Transmit(bytes.to_vec())),
                Output::PeerCert(certificate) => {
                    let is_expected = self.expected.matches(certificate);
                    let failed = State::Failed(DtlsError::WrongFingerprint);
                    let State::Unverified(engine) = std::mem::replace(&mut self.state, failed)
                    else {
                        return;
                    };
                    if is_expected {
                        self.state = State::Verified {
                            engine,
                            is_open: false,
                        };
                    } else {
                        self.ready.clear();
                    }
                    return;
                }
                Output::CloseNotify => {
                    self.ready.push_back(Ready::Closed);
                    return;
                }
                Output::Timeout(at) => {
                    self.next_timeout = Some(at);
                    return;
                }
                // Nothing of these counts without a certificate; the engine never yields them before it.
                Output::ApplicationData(_)
                | Output::KeyingMaterial(..)
                | Output::Connected
                | Output::BufferTooSmall { .. } => {
                    self.fail(DtlsError::Protocol("no certificate".to_owned()));
                    return;
                }
                _ => {}
            }
        }
    }

    fn open(&mut self) -> DtlsOutput {
        if let State::Verified { is_open, .. } = &mut self.state {
            *is_open = true;
        }
        DtlsOutput::Connected
    }

    fn close(&mut self) -> DtlsOutput {
        self.state = State::Closed;
        DtlsOutput::Closed
    }

    fn fail(&mut self, error: DtlsError) {
        if !matches!(self.state, State::Failed(_)) {
            self.state = State::Failed(error);
            self.ready.clear();
        }
    }
}

impl fmt::Debug for Dtls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Unverified(_) => "Unverified",
            State::Verified { .. } => "Verified",
            State::Closed => "Closed",
            State::Failed(_) => "Failed",
        };
        f.debug_struct("Dtls")
            .field("role", &self.role)
            .field("state", &state)
            .finish()
    }
}

fn error_of(error: &dimpl::Error) -> DtlsError {
    match error {
        dimpl::Error::Timeout(_) => DtlsError::Timeout,
        other => DtlsError::Protocol(other.to_string()),
    }
}

fn keys_of(profile: dimpl::SrtpProfile, role: DtlsRole, material: &[u8]) -> Option<SrtpKeying> {
    let profile = match profile {
        dimpl::SrtpProfile::AEAD_AES_256_GCM => SrtpProfile::AeadAes256Gcm,
        dimpl::SrtpProfile::AEAD_AES_128_GCM => SrtpProfile::AeadAes128Gcm,
        dimpl::SrtpProfile::AES128_CM_SHA1_80 => SrtpProfile::Aes128CmSha1_80,
        _ => return None,
    };
    SrtpKeying::split(profile, role, material)
}

/// Counted from the first message of either side.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// The first retransmission of a flight; doubles each time. Most round trips are shorter.
const RETRANSMIT_AFTER: Duration = Duration::from_millis(200);
/// Retransmissions of a flight; those that answer repeats of the other side count too, and Chromium
/// repeats after 50 ms.
const RETRANSMITS_MAX: usize = 20;
/// Datagrams the engine holds while a handshake message is incomplete.
const INBOUND_MAX: usize = 30;
/// Records that may be sent between two drains of `poll`.
const OUTBOUND_MAX: usize = 64;
/// Longer datagrams are dropped.
const DATAGRAM_BYTES_MAX: usize = 2048;
/// Data of one record, so that it fits a datagram with its overhead of 37 bytes.
const RECORD_BYTES_MAX: usize = 1400;

#[cfg(test)]
mod tests;
