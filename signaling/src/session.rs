//! A participant's stay in a room: what it may do, what it was told, and how it comes back.
//!
//! Pure: any door feeds it through [`Room`](crate::room::Room), time and random keys are arguments.

mod offer;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, digest};
use sfu::{Mid, ParticipantId, TrackId, TransportState};

use crate::auth::Grants;
use crate::limits::{Bucket, Rate};
use crate::message::{
    ErrorReply, IceServer, Participant, Roster, ServerEvent, ServerReply, SlotContent, Track,
};
use crate::room::Publisher;

pub use offer::{local_offer, read_offer};

/// What a session may do in which time, and how long it is kept.
#[derive(Clone, Debug)]
pub struct SessionLimits {
    /// Messages; more end the session.
    pub messages: Rate,
    /// Offers; more are refused.
    pub offers: Rate,
    /// Data channel messages; more are dropped.
    pub data: Rate,
    /// A session without a socket is kept this long.
    pub resume_timeout: Duration,
    /// As told to clients.
    pub told: crate::message::Limits,
}

/// How a participant speaks to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The native protocol: gets events and can resume.
    Native,
    /// WHIP or WHEP: answers only; ends with its transport.
    Http,
    /// RTMP: publishes through the bridge, without a transport of its own; whoever let it in ends it.
    Encoder,
}

/// A participant who is let in.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Its id, fresh from the core.
    pub participant: ParticipantId,
    /// How it speaks to us.
    pub door: Door,
    /// Its identity; for guests made up by the caller.
    pub identity: String,
    /// What its token allows, its name included.
    pub grants: Grants,
    /// What it receives without asking.
    pub wants: sfu::Wants,
    /// Whom it is told about.
    pub roster: Roster,
    /// The features in common.
    pub features: Vec<String>,
    /// Its first offer.
    pub offer: Option<sfu::Offer>,
    /// The address of ours that it spoke to, where that is known.
    pub reached: Option<IpAddr>,
    /// How it gets through firewalls.
    pub ice_servers: Vec<IceServer>,
    /// The key for its first resume.
    pub resume_key: String,
}

/// A participant's stay in a room.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: ParticipantId,
    pub(crate) door: Door,
    pub(crate) identity: String,
    pub(crate) grants: Grants,
    pub(crate) roster: Roster,
    pub(crate) features: Vec<String>,
    pub(crate) reached: Option<IpAddr>,
    /// TURN servers with credentials that are good for a while.
    pub(crate) ice_servers: Vec<IceServer>,
    /// Whom a client with the roster `publishers` was told about.
    pub(crate) known: HashSet<ParticipantId>,
    /// What it publishes.
    pub(crate) tracks: BTreeMap<TrackId, Track>,
    /// The sections its own tracks are published in.
    pub(crate) mids: BTreeMap<TrackId, Mid>,
    /// Codecs it was asked to send its own tracks in.
    pub(crate) codec_wishes: BTreeMap<TrackId, crate::message::Codec>,
    /// What its receive slots carry.
    pub(crate) slots: BTreeMap<String, Option<SlotContent>>,
    pub(crate) stage: Stage,
    pub(crate) offers: Offers,
    pub(crate) messages: Bucket,
    pub(crate) data: Bucket,
    pub(crate) transport: Option<TransportState>,
    socket: Socket,
    resume_key: digest::Digest,
    log: EventLog,
}

/// Whether the client knows that it is in.
#[derive(Debug, PartialEq)]
pub(crate) enum Stage {
    /// `welcome` waits for the answer to the first offer; what the snapshot will not hold waits too.
    Welcoming {
        resume_key: String,
        held: Vec<ServerEvent>,
    },
    /// `welcome` was sent.
    Welcomed,
}

/// The offers of a session: ids increase, one is outstanding at a time.
#[derive(Debug)]
pub(crate) struct Offers {
    pub(crate) last: Option<u32>,
    pub(crate) outstanding: Option<u32>,
    pub(crate) bucket: Bucket,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Socket {
    Attached,
    /// Kept until then; also the deadline of HTTP doors to connect.
    Detached {
        until: Instant,
    },
}

/// The events last sent, for a resume.
#[derive(Debug, Default)]
struct EventLog {
    /// The number of the last event.
    n: u64,
    /// JSON of the last events without their number; the last is number `n`.
    ring: VecDeque<Arc<str>>,
    bytes: usize,
}

/// Events kept for a resume: about a minute of a lively room.
const RING_EVENTS_MAX: usize = 256;
/// The same in bytes: large messages cannot make it heavy, and a replay fits into the outbox.
const RING_BYTES_MAX: usize = 512 << 10;
/// A WHIP or WHEP participant has this long to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

impl Session {
    pub(crate) fn new(now: Instant, admission: Admission, limits: &SessionLimits) -> Self {
        let (stage, outstanding) = match (&admission.offer, admission.door) {
            (Some(offer), Door::Native) => {
                let resume_key = admission.resume_key.clone();
                (
                    Stage::Welcoming {
                        resume_key,
                        held: Vec::new(),
                    },
                    Some(offer.id),
                )
            }
            _ => (Stage::Welcomed, None),
        };
        let socket = match admission.door {
            Door::Native | Door::Encoder => Socket::Attached,
            Door::Http => Socket::Detached {
                until: now + CONNECT_TIMEOUT,
            },
        };
        Self {
            id: admission.participant,
            door: admission.door,
            identity: admission.identity,
            grants: admission.grants,
            roster: admission.roster,
            features: admission.features,
            reached: admission.reached,
            ice_servers: admission.ice_servers,
            known: HashSet::new(),
            tracks: BTreeMap::new(),
            mids: BTreeMap::new(),
            codec_wishes: BTreeMap::new(),
            slots: BTreeMap::new(),
            stage,
            offers: Offers {
                last: outstanding,
                outstanding,
                bucket: Bucket::new(now, limits.offers),
            },
            messages: Bucket::new(now, limits.messages),
            data: Bucket::new(now, limits.data),
            transport: None,
            socket,
            resume_key: hash(&admission.resume_key),
            log: EventLog::default(),
        }
    }

    /// The participant as others see it.
    pub(crate) fn participant(&self) -> Participant {
        Participant {
            id: self.id.to_string(),
            identity: self.identity.clone(),
            name: self.grants.name.clone(),
            metadata: self.grants.metadata.clone(),
            attributes: self.grants.attributes.clone(),
            tracks: self.tracks.values().cloned().collect(),
        }
    }

    /// Whose its tracks are.
    pub(crate) fn publisher(&self) -> Publisher {
        Publisher {
            id: self.id.to_string(),
            identity: self.identity.clone(),
        }
    }

    /// The participant as it sees itself: its tracks with their sections.
    pub(crate) fn myself(&self) -> Participant {
        let mut participant = self.participant();
        participant.tracks = self
            .tracks
            .keys()
            .filter_map(|id| self.own_track(*id))
            .collect();
        participant
    }

    /// One of its tracks with its section.
    pub(crate) fn own_track(&self, id: TrackId) -> Option<Track> {
        let mut track = self.tracks.get(&id)?.clone();
        track.mid = self.mids.get(&id).map(Mid::to_string);
        Some(track)
    }

    /// Numbers an event and keeps it; the text to send, when there is a socket to send it on.
    pub(crate) fn number(&mut self, json: &Arc<str>) -> Option<String> {
        if self.door != Door::Native || self.is_welcoming() {
            return None;
        }
        self.log.push(json);
        self.is_attached().then(|| numbered(self.log.n, json))
    }

    /// The number of the last event.
    pub(crate) fn last_event(&self) -> u64 {
        self.log.n
    }

    /// True while `welcome` waits.
    pub(crate) fn is_welcoming(&self) -> bool {
        matches!(self.stage, Stage::Welcoming { .. })
    }

    /// True when there is a socket.
    pub(crate) fn is_attached(&self) -> bool {
        self.socket == Socket::Attached
    }

    /// The socket is gone; the session waits for a resume.
    pub(crate) fn detach(&mut self, now: Instant, limits: &SessionLimits) {
        self.socket = Socket::Detached {
            until: now + limits.resume_timeout,
        };
    }

    /// True when it waited long enough for a socket, or for its transport to come up.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        let connected = matches!(
            self.transport,
            Some(TransportState::Connected | TransportState::Disconnected)
        );
        match self.socket {
            Socket::Attached => false,
            Socket::Detached { .. } if self.door == Door::Http && connected => false,
            Socket::Detached { until } => now >= until,
        }
    }

    /// Takes a new socket if `key` is right; the key is then replaced.
    pub(crate) fn attach(&mut self, key: &str, next_key: &str) -> bool {
        let hashed = hash(key);
        let right =
            constant_time::verify_slices_are_equal(hashed.as_ref(), self.resume_key.as_ref());
        if self.door != Door::Native || right.is_err() || self.is_welcoming() {
            return false;
        }
        self.resume_key = hash(next_key);
        self.socket = Socket::Attached;
        // An answer on its way was meant for the old socket; the client offers again.
        self.offers.outstanding = None;
        true
    }

    /// The events after number `n` as texts, or `None` when some of them are gone.
    pub(crate) fn replay(&self, n: u64) -> Option<Vec<String>> {
        let missed = usize::try_from(self.log.n.checked_sub(n)?).ok()?;
        let from = self.log.ring.len().checked_sub(missed)?;
        let events = self.log.ring.iter().skip(from);
        Some(
            events
                .zip(n + 1..)
                .map(|(json, n)| numbered(n, json))
                .collect(),
        )
    }
}

impl EventLog {
    fn push(&mut self, json: &Arc<str>) {
        self.n += 1;
        self.bytes += json.len();
        self.ring.push_back(Arc::clone(json));
        while self.ring.len() > RING_EVENTS_MAX || self.bytes > RING_BYTES_MAX {
            let Some(oldest) = self.ring.pop_front() else {
                break;
            };
            self.bytes -= oldest.len();
        }
    }
}

/// An event as JSON without its number, made once for all who get it.
pub(crate) fn encode(event: &ServerEvent) -> Arc<str> {
    Arc::from(to_json(event))
}

/// A reply as JSON.
pub fn encode_reply(reply: &ServerReply) -> String {
    to_json(reply)
}

fn to_json(message: &impl serde::Serialize) -> String {
    // Our own types have string keys and finite numbers: this cannot fail.
    serde_json::to_string(message).unwrap_or_default()
}

/// `{"t":…}` with `"n"` put in front.
fn numbered(n: u64, json: &str) -> String {
    format!("{{\"n\":{n},{}", json.get(1..).unwrap_or_default())
}

fn hash(key: &str) -> digest::Digest {
    digest::digest(&digest::SHA256, key.as_bytes())
}

impl ErrorReply {
    /// An error that is about no request.
    pub fn new(code: crate::message::ErrorCode, message: impl Into<String>) -> Self {
        Self {
            id: None,
            code,
            message: message.into(),
            retry_after_ms: None,
            supported: None,
        }
    }

    /// The same about a request.
    pub fn about(mut self, id: Option<u32>) -> Self {
        self.id = id;
        self
    }

    /// The same with the time after which to try again.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_ms = u64::try_from(wait.as_millis()).ok().map(|ms| ms.max(1));
        self
    }
}
