//! A light bot: one simulated participant as a pure machine, cheap enough for thousands on one thread.
//!
//! It does ICE, DTLS, SRTP, RTP and RTCP as browsers do, but decrypts only a sample of what it gets: the
//! rest it counts by the clear RTP headers. Time and datagrams are arguments; what it sends goes to an
//! [`Outbox`], what it counts to [`Totals`].
//!
//! | to … | look at |
//! |---|---|
//! | change what is published | `bot/sending.rs`; sizes: `media/captured.rs` |
//! | count something else | `bot/stream.rs`, `bot/receiving.rs`, `totals.rs` |
//! | change feedback | `bot/receiving.rs`, `bot/rtcp.rs` |
//! | speak to another server | `bot/sdp.rs`, `bot/stun.rs`, `bot/secure.rs` |

mod plan;
mod receiving;
mod rtcp;
mod rtp;
pub mod sdp;
mod secure;
mod sending;
mod stream;
mod stun;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sfu::shard::Path;

use self::plan::Bucket;
use self::receiving::Receiving;
use self::secure::{Keys, Secure};
use self::sending::{Link, Track};
use crate::totals::{Joins, Totals};

pub use self::plan::{BotPlan, Credentials, Hindrance};
pub use self::receiving::ReceivePlan;
pub use self::secure::{Identity, Protection};
pub use self::sending::{LayerPlan, TrackPlan};

/// One datagram after the other, on its way out.
#[derive(Debug, Default)]
pub struct Outbox {
    datagrams: Vec<(Path, BytesMut)>,
}

impl Outbox {
    fn push(&mut self, path: Path, bytes: BytesMut) {
        self.datagrams.push((path, bytes));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Takes everything out, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = (Path, BytesMut)> {
        self.datagrams.drain(..)
    }
}

/// What a bot needs to do anything: the time, and where to put what comes of it.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The time.
    pub now: Instant,
    /// The same moment in microseconds since the epoch, the clock of stamps.
    pub wall_us: u64,
    /// What is sent.
    pub out: &'a mut Outbox,
    /// What is counted.
    pub totals: &'a mut Totals,
    /// How long joining took.
    pub joins: &'a mut Joins,
}

/// What signaling has agreed on.
pub struct Agreed {
    /// The answer to the bot's offer.
    pub answer: sdp::Answer,
    /// The credentials in that offer.
    pub credentials: Credentials,
    /// The way to the server.
    pub path: Path,
    /// The certificate in the offer.
    pub identity: Arc<Identity>,
    /// When the bot began to join.
    pub opened: Instant,
}

/// A simulated participant.
pub struct Bot {
    agreed: Agreed,
    secure: Option<Secure>,
    keys: Option<Keys>,
    tracks: Vec<Track>,
    receiving: Receiving,
    transaction: stun::Transaction,
    transport_number: u16,
    random: StdRng,
    checks: u32,
    is_nominated: bool,
    next_check: Option<Instant>,
    next_report: Option<Instant>,
    stage: Stage,
    hindrance: Option<Hindrance>,
    link: Bucket,
}

/// How far a bot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has no keys yet.
    Connecting,
    /// It has keys; what it wants has not begun to come.
    Connected,
    /// What it wants comes.
    Started,
    /// It could not connect.
    Failed,
}

impl Bot {
    /// Sets a bot up; its first check is due at once.
    pub fn new(now: Instant, plan: BotPlan, agreed: Agreed) -> Self {
        let receiving = Receiving::new(plan.receive, &agreed.answer);
        let tracks = plan.publish.iter().enumerate();
        Self {
            tracks: tracks
                .map(|(mid, track)| Track::new(track, mid, plan.number))
                .collect(),
            random: StdRng::seed_from_u64(u64::from(plan.number)),
            agreed,
            secure: None,
            keys: None,
            receiving,
            transaction: [0; 12],
            transport_number: 0,
            checks: 0,
            is_nominated: false,
            next_check: Some(now),
            next_report: None,
            stage: Stage::Connecting,
            hindrance: plan.hindrance,
            link: Bucket::default(),
        }
    }

    /// How far it has come.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// It does not receive as others do, so what it counts says nothing about them.
    pub fn is_hindered(&self) -> bool {
        self.hindrance.is_some() && self.stage == Stage::Started
    }

    fn is_stopped(&self) -> bool {
        self.is_hindered() && self.hindrance == Some(Hindrance::Stopped)
    }

    /// When to call `handle_timeout`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_stopped() {
            return None;
        }
        let dtls = self.secure.as_ref().and_then(Secure::poll_timeout);
        let mut next = [self.next_check, self.next_report, dtls]
            .into_iter()
            .flatten()
            .min();
        if self.keys.is_some() {
            let tracks = self.tracks.iter().filter_map(Track::poll_timeout);
            next = tracks
                .chain(self.receiving.poll_timeout())
                .chain(next)
                .min();
        }
        next
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        if self.is_stopped() {
            return;
        }
        let now = turn.now;
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.next_check) {
            self.check(turn);
        }
        if is_due(self.secure.as_ref().and_then(Secure::poll_timeout)) {
            self.drive_dtls(turn, None);
        }
        let Some(keys) = &mut self.keys else { return };
        let mut link = Link {
            keys,
            path: self.agreed.path,
            transport_number: &mut self.transport_number,
        };
        for track in &mut self.tracks {
            track.handle_timeout(turn, &mut link);
        }
        let mut told = Vec::new();
        self.receiving.handle_timeout(turn, &mut told);
        if is_due(self.next_report) {
            self.next_report = Some(now + REPORT_INTERVAL);
            let ntp = ntp_of(turn.wall_us);
            for track in &self.tracks {
                track.report(now, ntp, &mut told);
            }
        }
        self.tell(turn, &told);
    }

    /// Takes in one datagram.
    pub fn handle_datagram(&mut self, turn: &mut Turn<'_>, bytes: &[u8]) {
        if self.is_hindered() && !self.gets_through(turn, bytes.len()) {
            // The server has paid for it all the same.
            turn.totals.packets += 1;
            turn.totals.bytes += bytes.len() as u64;
            return;
        }
        match *bytes {
            [128..=191, 192..=223, ..] => self.handle_rtcp(turn, bytes),
            [128..=191, ..] => {
                if let Some(keys) = &mut self.keys {
                    self.receiving.handle_rtp(turn, keys, bytes);
                    if self.stage == Stage::Connected && self.receiving.has_started() {
                        self.advance(turn, Stage::Started);
                    }
                }
            }
            [20..=63, ..] => self.drive_dtls(turn, Some(bytes)),
            [0..=3, ..] => self.handle_stun(turn, bytes),
            _ => turn.totals.malformed += 1,
        }
    }

    fn gets_through(&mut self, turn: &Turn<'_>, bytes: usize) -> bool {
        match self.hindrance {
            None => true,
            Some(Hindrance::Stopped) => false,
            Some(Hindrance::Slow(rate_bps)) => self.link.carries(turn.wall_us, bytes, rate_bps),
        }
    }

    /// Counts from now on.
    pub fn mark(&mut self, now: Instant) {
        self.receiving.mark(now);
    }

    /// Settles what is still open; returns how many expected streams do not come.
    pub fn finish(&mut self, turn: &mut Turn<'_>) -> u64 {
        let missing = self.receiving.finish(turn);
        if self.is_hindered() { 0 } else { missing }
    }

    fn advance(&mut self, turn: &mut Turn<'_>, stage: Stage) {
        self.stage = stage;
        let took = turn.now.saturating_duration_since(self.agreed.opened);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        match stage {
            Stage::Connecting => {}
            Stage::Connected => turn.joins.connected.record(took_us),
            Stage::Started => turn.joins.started.record(took_us),
            Stage::Failed => turn.joins.failed += 1,
        }
    }

    /// Gives up on a bot that has not come far enough in time.
    pub fn give_up(&mut self, turn: &mut Turn<'_>) {
        if matches!(self.stage, Stage::Connecting | Stage::Connected) {
            self.advance(turn, Stage::Failed);
        }
    }

    /// When it began to join.
    pub fn opened(&self) -> Instant {
        self.agreed.opened
    }

    /// Sends a connectivity check: often until the first answer, then to keep consent (RFC 7675).
    fn check(&mut self, turn: &mut Turn<'_>) {
        self.transaction = self.random.random();
        let username = format!(
            "{}:{}",
            self.agreed.answer.ufrag, self.agreed.credentials.ufrag
        );
        let check = stun::write_check(self.transaction, &username, &self.agreed.answer.pwd);
        turn.out.push(self.agreed.path, BytesMut::from(&check[..]));
        let pause = if self.is_nominated {
            CONSENT_INTERVAL
        } else {
            (CHECK_INTERVAL * (1 << self.checks.min(4))).min(CHECK_INTERVAL_MAX)
        };
        self.checks += 1;
        self.next_check = Some(turn.now + pause);
    }

    fn handle_stun(&mut self, turn: &mut Turn<'_>, bytes: &[u8]) {
        let Agreed {
            answer,
            credentials,
            path,
            ..
        } = &self.agreed;
        if let Some(reply) = stun::answer_check(bytes, path.remote, &credentials.pwd) {
            turn.out.push(*path, BytesMut::from(&reply[..]));
            return;
        }
        if stun::read_success(bytes, &answer.pwd) != Some(self.transaction) || self.is_nominated {
            return;
        }
        self.is_nominated = true;
        self.next_check = Some(turn.now + CONSENT_INTERVAL);
        let is_client = !answer.is_active;
        let identity = &self.agreed.identity;
        self.secure = Some(Secure::new(
            turn.now,
            identity,
            is_client,
            &answer.fingerprint,
        ));
        self.drive_dtls(turn, None);
    }

    fn drive_dtls(&mut self, turn: &mut Turn<'_>, datagram: Option<&[u8]>) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        let (path, out) = (self.agreed.path, &mut *turn.out);
        let transmit = |bytes: &[u8]| out.push(path, BytesMut::from(bytes));
        match secure.drive(turn.now, datagram, transmit) {
            Ok(None) => {}
            Ok(Some(keys)) => self.open(turn, keys),
            Err(secure::HandshakeFailed) => self.give_up(turn),
        }
    }

    fn open(&mut self, turn: &mut Turn<'_>, keys: Keys) {
        self.keys = Some(keys);
        self.tracks
            .iter_mut()
            .for_each(|track| track.start(turn.now));
        if !self.tracks.is_empty() {
            self.next_report = Some(turn.now + REPORT_INTERVAL / 2);
        }
        self.advance(turn, Stage::Connected);
        if self.receiving.expects_nothing() {
            self.advance(turn, Stage::Started);
        }
    }

    fn handle_rtcp(&mut self, turn: &mut Turn<'_>, bytes: &[u8]) {
        let Some(keys) = &mut self.keys else { return };
        let Some(plain) = keys.unprotect_rtcp(bytes) else {
            turn.totals.unreadable += 1;
            return;
        };
        turn.totals.rtcp_received += 1;
        let mut link = Link {
            keys,
            path: self.agreed.path,
            transport_number: &mut self.transport_number,
        };
        for packet in rtcp::read(&plain) {
            self.receiving.handle_rtcp(turn.now, &packet);
            for track in &mut self.tracks {
                track.handle_rtcp(turn, &mut link, &packet);
            }
        }
    }

    fn tell(&mut self, turn: &mut Turn<'_>, told: &[Vec<u8>]) {
        let Some(keys) = &mut self.keys else { return };
        for packet in told.iter().filter(|packet| !packet.is_empty()) {
            if let Some(bytes) = keys.protect_rtcp(packet) {
                turn.out.push(self.agreed.path, bytes);
            }
        }
    }
}

/// Wall clock time in NTP form: seconds since 1900 and their fraction (RFC 5905 §6).
fn ntp_of(wall_us: u64) -> u64 {
    let seconds = wall_us / 1_000_000 + NTP_TO_UNIX_SECONDS;
    let fraction = ((wall_us % 1_000_000) << 32) / 1_000_000;
    seconds << 32 | fraction
}

const CHECK_INTERVAL: Duration = Duration::from_millis(50);
const CHECK_INTERVAL_MAX: Duration = Duration::from_millis(500);
/// As Chromium checks a pair that works.
const CONSENT_INTERVAL: Duration = Duration::from_millis(2500);
/// Between two sender reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;
