//! A participant's transport: ICE, DTLS, SRTP and data channels over the paths that passed a check.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::metrics::{DropReason, Metrics};
use crate::peer::dtls::{Certificate, Dtls, DtlsOutput, DtlsRole, Fingerprint, SrtpKeying};
use crate::peer::ice::check::{Check, RESPONSE_BYTES_MAX};
use crate::peer::ice::{Credentials, IceChange, IceLite, IceState};
use crate::peer::sctp::{DataChannels, DataEvent, SendError};
use crate::peer::srtp::{KeyError, ReceiveContext, SendContext, SrtpError};
use crate::sfu::{DataChannel, TransportState};
use crate::shard::{Arena, DATAGRAM_MAX, Path};

/// What `Dtls::poll` needs room for: a decrypted record, or the certificate of the other side.
const DTLS_BUFFER_BYTES: usize = 2048;
/// Datagrams waiting for the next flush: a DTLS flight, some RTCP, a window of SCTP.
const OUTBOX_MAX: usize = 512;

/// The SRTP contexts of both directions; they live as long as the DTLS association.
struct Keys {
    send: SendContext,
    receive: ReceiveContext,
}

impl Keys {
    fn new(keying: &SrtpKeying) -> Result<Self, KeyError> {
        let SrtpKeying {
            profile,
            local_key,
            local_salt,
            remote_key,
            remote_salt,
        } = keying;
        Ok(Self {
            send: SendContext::new(*profile, local_key, local_salt)?,
            receive: ReceiveContext::new(*profile, remote_key, remote_salt)?,
        })
    }
}

/// ICE, DTLS, SRTP and data channels of one peer.
pub(crate) struct Transport {
    ice: IceLite,
    certificate: std::sync::Arc<Certificate>,
    role: DtlsRole,
    fingerprint: Fingerprint,
    /// What DTLS draws from in a simulation.
    dtls_seed: Option<u64>,
    /// Large, and idle once there are keys: kept apart from what each packet needs.
    dtls: Option<Box<Dtls>>,
    has_failed: bool,
    /// Consent ran out (RFC 7675): nothing but replies to checks may be sent until it is back.
    is_silenced: bool,
    keys: Option<Keys>,
    data: Option<Box<DataChannels>>,
    outbox: VecDeque<(Path, Vec<u8>)>,
    /// Datagrams that found the outbox full.
    outbox_drops: u64,
    /// RTCP packets encrypted.
    rtcp_sent: u64,
    told: Option<TransportState>,
}

/// Which paths a connectivity check opened and closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathChange {
    pub(crate) opened: Option<Path>,
    pub(crate) closed: Option<Path>,
}

/// Something a transport has to tell its shard.
#[derive(Debug)]
pub(crate) enum TransportEvent {
    /// A data channel message came in whole.
    Message { channel: DataChannel, bytes: Bytes },
    /// The handshake is done and the client's certificate is the announced one.
    Secured,
    /// The handshake failed, or the client closed.
    Ended,
}

/// What the other side of a transport is, from its first offer.
pub(crate) struct Remote {
    pub(crate) credentials: Credentials,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) role: DtlsRole,
}

impl Transport {
    /// Waits for the first connectivity check with these credentials.
    ///
    /// `dtls_seed` is for simulations; a server has none.
    pub(crate) fn new(
        local: Credentials,
        remote: Remote,
        certificate: std::sync::Arc<Certificate>,
        dtls_seed: Option<u64>,
    ) -> Self {
        let mut ice = IceLite::new(local);
        ice.set_remote(remote.credentials);
        Self {
            ice,
            certificate,
            role: remote.role,
            fingerprint: remote.fingerprint,
            dtls_seed,
            dtls: None,
            has_failed: false,
            is_silenced: false,
            keys: None,
            data: None,
            outbox: VecDeque::new(),
            outbox_drops: 0,
            rtcp_sent: 0,
            told: None,
        }
    }

    /// Our DTLS role; fixed with the first answer.
    pub(crate) fn role(&self) -> DtlsRole {
        self.role
    }

    /// The fingerprint the client announced.
    pub(crate) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Our ICE credentials.
    pub(crate) fn local_credentials(&self) -> &Credentials {
        self.ice.local()
    }

    /// The client's ICE credentials.
    pub(crate) fn remote_credentials(&self) -> Option<&Credentials> {
        self.ice.remote()
    }

    /// Takes new credentials of both sides; media flows on over the old path until a new one is
    /// nominated.
    pub(crate) fn restart_ice(&mut self, local: Credentials, remote: Credentials) {
        self.ice.restart(local, remote);
    }

    /// Answers a connectivity check and follows a nomination.
    pub(crate) fn handle_check(
        &mut self,
        now: Instant,
        path: Path,
        check: &Check<'_>,
    ) -> PathChange {
        let mut reply = [0; RESPONSE_BYTES_MAX];
        let outcome = self.ice.handle_check(now, path, check, &mut reply);
        self.look_at_consent(now);
        if let Some(reply) = reply
            .get(..outcome.reply_len)
            .filter(|reply| !reply.is_empty())
        {
            self.queue(path, reply.to_vec());
        }
        let opened = match outcome.change {
            Some(IceChange::Validated(path) | IceChange::Selected(path)) => Some(path),
            None => None,
        };
        if opened.is_some() && self.dtls.is_none() && !self.has_failed {
            let fingerprint = self.fingerprint.clone();
            self.dtls = Some(Box::new(Dtls::new(
                now,
                &self.certificate,
                self.role,
                fingerprint,
                self.dtls_seed,
            )));
        }
        PathChange {
            opened,
            closed: outcome.evicted,
        }
    }

    /// Takes in a DTLS datagram from a path that passed a check.
    pub(crate) fn handle_dtls(&mut self, now: Instant, path: Path, bytes: &[u8]) {
        if !self.ice.is_valid_source(path) {
            return;
        }
        let Some(dtls) = &mut self.dtls else { return };
        if dtls.handle_datagram(now, bytes).is_err() {
            self.fail();
        }
    }

    /// Decrypts an RTP packet in place; returns the length of what is plain.
    pub(crate) fn unprotect_rtp(
        &mut self,
        now: Instant,
        path: Path,
        bytes: &mut [u8],
    ) -> Result<usize, UnprotectError> {
        let keys = self.keys.as_mut().ok_or(UnprotectError::NoKeys)?;
        let (length, _) = keys.receive.unprotect_rtp(bytes)?;
        self.note_authenticated(now, path);
        Ok(length)
    }

    /// Decrypts an RTCP packet in place; returns the length of what is plain.
    pub(crate) fn unprotect_rtcp(
        &mut self,
        now: Instant,
        path: Path,
        bytes: &mut [u8],
    ) -> Result<usize, UnprotectError> {
        let keys = self.keys.as_mut().ok_or(UnprotectError::NoKeys)?;
        let length = keys.receive.unprotect_rtcp(bytes)?;
        self.note_authenticated(now, path);
        Ok(length)
    }

    /// Lets an unpublished source make room for a new one.
    pub(crate) fn retire_source(&mut self, ssrc: u32) {
        if let Some(keys) = &mut self.keys {
            keys.receive.retire(ssrc);
        }
    }

    fn note_authenticated(&mut self, now: Instant, path: Path) {
        self.ice.note_authenticated(now, path);
        if self.is_silenced {
            self.look_at_consent(now);
        }
    }

    fn look_at_consent(&mut self, now: Instant) {
        self.is_silenced = self.ice.state(now) == IceState::Failed;
    }

    /// The path that media, RTCP and data go to, while there is consent to use it.
    fn path_out(&self) -> Option<Path> {
        self.ice.selected().filter(|_| !self.is_silenced)
    }

    /// Encrypts RTCP and queues it for the next flush; without keys or path it is dropped.
    pub(crate) fn send_rtcp(&mut self, packet: &[u8]) {
        let Some(path) = self.path_out() else {
            return;
        };
        let Some(keys) = &mut self.keys else { return };
        let mut out = vec![0; DATAGRAM_MAX];
        if let Some(length) = keys.send.protect_rtcp(packet, &mut out) {
            out.truncate(length);
            self.rtcp_sent += 1;
            self.queue(path, out);
        }
    }

    /// The path media goes to and the context that encrypts it; `None` while not connected.
    pub(crate) fn media_out(&mut self) -> Option<(Path, &mut SendContext)> {
        let path = self.path_out()?;
        let keys = self.keys.as_mut()?;
        Some((path, &mut keys.send))
    }

    /// Media can be sent.
    pub(crate) fn is_connected(&self) -> bool {
        self.keys.is_some() && self.path_out().is_some()
    }

    /// Opens the way for data channels; they come up with DTLS.
    ///
    /// `message_bytes_max` is the longest message the client takes.
    pub(crate) fn enable_data(&mut self, message_bytes_max: u32) {
        if self.data.is_none() {
            self.data = Some(Box::new(DataChannels::new(message_bytes_max)));
        }
    }

    /// Sends one message, or says why not.
    pub(crate) fn send_data(
        &mut self,
        channel: DataChannel,
        message: &Bytes,
    ) -> Result<(), SendError> {
        let data = self.data.as_mut().ok_or(SendError::NotOpen)?;
        data.send(channel, message)
    }

    /// Drains DTLS and SCTP: their datagrams go to the outbox, what they tell is returned.
    pub(crate) fn drain(&mut self, now: Instant, events: &mut Vec<TransportEvent>) {
        let mut buffer = [0; DTLS_BUFFER_BYTES];
        self.drain_data_out(now, &mut buffer);
        while let Some(dtls) = &mut self.dtls {
            match dtls.poll(&mut buffer) {
                DtlsOutput::Transmit(length) => {
                    let bytes = buffer.get(..length).unwrap_or_default().to_vec();
                    let path = self.ice.send_tuple().filter(|_| !self.is_silenced);
                    if let Some(path) = path {
                        self.queue(path, bytes);
                    }
                }
                DtlsOutput::Keys(keying) => match Keys::new(&keying) {
                    Ok(keys) => self.keys = Some(keys),
                    Err(_) => self.fail(),
                },
                DtlsOutput::Connected => events.push(TransportEvent::Secured),
                DtlsOutput::Data(length) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    self.handle_data(now, bytes, events);
                }
                DtlsOutput::Closed => self.fail(),
                DtlsOutput::Nothing => break,
            }
        }
        if self.has_failed && self.dtls.take().is_some() {
            events.push(TransportEvent::Ended);
        }
    }

    fn handle_data(&mut self, now: Instant, bytes: &[u8], events: &mut Vec<TransportEvent>) {
        let Some(data) = &mut self.data else { return };
        data.handle_packet(now, bytes);
        while let Some(event) = data.poll_event() {
            if let DataEvent::Message { channel, bytes, .. } = event {
                events.push(TransportEvent::Message { channel, bytes });
            }
        }
        self.drain_data_out(now, &mut [0; DTLS_BUFFER_BYTES]);
    }

    fn drain_data_out(&mut self, now: Instant, buffer: &mut [u8]) {
        let (Some(data), Some(dtls)) = (&mut self.data, &mut self.dtls) else {
            return;
        };
        if self.keys.is_none() {
            return;
        }
        while let Some(length) = data.poll_transmit(now, buffer) {
            let sent = dtls.send(buffer.get(..length).unwrap_or_default());
            if sent.is_err() {
                self.has_failed = true;
                return;
            }
        }
    }

    fn fail(&mut self) {
        self.has_failed = true;
        self.keys = None;
    }

    /// Forgets a path whose TCP connection closed.
    pub(crate) fn remove_path(&mut self, path: Path) {
        self.ice.remove_tuple(path);
        self.outbox.retain(|(to, _)| *to != path);
    }

    /// Adds what was counted since the last call.
    pub(crate) fn report(&mut self, metrics: &mut Metrics) {
        let drops = std::mem::take(&mut self.outbox_drops);
        metrics.dropped_many(DropReason::QueueFull, drops);
        metrics.rtcp_sent_packets += std::mem::take(&mut self.rtcp_sent);
    }

    /// Moves queued datagrams into the arena; false when it filled up first.
    pub(crate) fn flush(&mut self, arena: &mut Arena) -> bool {
        while let Some((path, bytes)) = self.outbox.front() {
            let Some(out) = arena.reserve() else {
                return false;
            };
            if let Some(out) = out.get_mut(..bytes.len()) {
                out.copy_from_slice(bytes);
                arena.aim(*path);
                arena.commit(bytes.len());
            }
            self.outbox.pop_front();
        }
        true
    }

    /// Datagrams are waiting.
    pub(crate) fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// The state, when it is another than was last asked for.
    pub(crate) fn take_state_change(&mut self, now: Instant) -> Option<TransportState> {
        let state = self.state(now);
        if self.told == Some(state) {
            return None;
        }
        self.told = Some(state);
        Some(state)
    }

    fn state(&self, now: Instant) -> TransportState {
        if self.has_failed {
            return TransportState::Failed;
        }
        match self.ice.state(now) {
            IceState::Failed => TransportState::Failed,
            IceState::Disconnected => TransportState::Disconnected,
            IceState::Connected if self.keys.is_some() => TransportState::Connected,
            IceState::New | IceState::Connected => TransportState::Connecting,
        }
    }

    /// Lets timers run out; then `drain`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.look_at_consent(now);
        if let Some(dtls) = &mut self.dtls
            && dtls.poll_timeout().is_some_and(|at| at <= now)
            && dtls.handle_timeout(now).is_err()
        {
            self.fail();
        }
        if let Some(data) = &mut self.data {
            data.handle_timeout(now);
        }
    }

    /// When `handle_timeout` has something to do.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let dtls = self.dtls.as_ref().and_then(|dtls| dtls.poll_timeout());
        let data = self.data.as_ref().and_then(|data| data.poll_timeout());
        [dtls, data, self.ice.poll_timeout(now)]
            .into_iter()
            .flatten()
            .min()
    }

    fn queue(&mut self, path: Path, bytes: Vec<u8>) {
        if self.outbox.len() >= OUTBOX_MAX {
            self.outbox_drops += 1;
            return;
        }
        self.outbox.push_back((path, bytes));
    }
}

/// Why a protected packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnprotectError {
    #[error("no keys yet")]
    NoKeys,
    #[error(transparent)]
    Srtp(#[from] SrtpError),
}
