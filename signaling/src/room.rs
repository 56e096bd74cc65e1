//! A room and the sessions in it: a pure machine from messages and events to commands and messages.
//!
//! In: [`Room::join`], [`Room::resume`], [`Room::handle_text`], [`Room::handle_event`],
//! [`Room::detach`], [`Room::handle_timeout`] and what the room API asks. Out: [`Room::poll_output`],
//! to be drained after each call.

mod data;
mod events;
mod messages;
mod moderation;
mod tokens;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sfu::{Answer, Command, JoinOptions, OfferError, ParticipantId, RoomId, TrackId};

use crate::message::{
    Bye, CloseCode, ErrorCode, ErrorReply, Joined, Left, LeftReason, Participant, PingTimes,
    Resume, RoomChange, RoomPatch, Roster, ServerEvent, ServerReply, Track, Welcome,
};
use crate::session::{Admission, Door, Session, SessionLimits, Stage, encode, encode_reply};

pub use events::offer_error;
pub use moderation::RoomState;

/// What a room wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Tell the core.
    Command(Command),
    /// Send this text to a native client.
    Message {
        /// To whom.
        participant: ParticipantId,
        /// One frame.
        text: String,
    },
    /// Tell a native client who speaks; may be merged with what it was not sent yet.
    Speakers {
        /// To whom.
        participant: ParticipantId,
        /// Participant id to level.
        levels: Arc<BTreeMap<String, f32>>,
    },
    /// Close a native client's socket after what was sent to it.
    Close {
        /// Whose.
        participant: ParticipantId,
        /// With this code.
        code: CloseCode,
    },
    /// The answer for a WHIP or WHEP client.
    Answered {
        /// For whom.
        participant: ParticipantId,
        /// The answer.
        answer: Result<Answer, OfferError>,
    },
    /// The SDP fragment for a WHIP or WHEP client.
    IceRestarted {
        /// For whom.
        participant: ParticipantId,
        /// The fragment; `None` without a transport.
        fragment: Option<String>,
    },
    /// The participant is gone for good.
    Gone {
        /// Who.
        participant: ParticipantId,
    },
    /// Tell the application.
    Notice(Notice),
}

/// What an application may want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// Someone came in, hidden ones included.
    Joined(Participant),
    /// Someone left; its tracks have ended before.
    Left(Participant, LeftReason),
    /// Someone publishes a track.
    Published(Publisher, Track),
    /// Someone publishes a track no more.
    Unpublished(Publisher, Track),
    /// The room has ended.
    Closed,
}

/// Whose track it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// Who.
    pub id: String,
    /// The name the application knows it by.
    pub identity: String,
}

/// What a room is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Free text for the application.
    pub metadata: String,
    /// Participants at a time.
    pub participants_max: usize,
    /// It ends this long after it was opened, when nobody joined.
    pub empty_timeout: Duration,
    /// It ends this long after the last participant left.
    pub departure_timeout: Duration,
}

/// A room and the sessions in it.
#[derive(Debug)]
pub struct Room {
    id: RoomId,
    name: String,
    settings: Settings,
    limits: Arc<SessionLimits>,
    sessions: BTreeMap<ParticipantId, Session>,
    identities: HashMap<String, ParticipantId>,
    publishers: HashMap<TrackId, ParticipantId>,
    /// How many are in it, as last told to those who are not told of each.
    told_count: u32,
    outputs: VecDeque<Output>,
    /// When it ends, while nobody is in it.
    ends_at: Option<Instant>,
    /// Who else gets its media.
    outside: Outside,
}

/// Who gets a room's media beside those who are in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// A broadcast runs.
    pub broadcasting: bool,
    /// A recording runs.
    pub recording: bool,
}

impl Outside {
    /// The room stays although nobody is in it.
    fn keeps_room(self) -> bool {
        self.broadcasting || self.recording
    }
}

/// How often clients ping, and how long they wait.
const PING: PingTimes = PingTimes {
    interval_ms: 10_000,
    timeout_ms: 5_000,
};

impl Room {
    /// An empty room.
    pub fn new(
        now: Instant,
        id: RoomId,
        name: String,
        settings: Settings,
        limits: Arc<SessionLimits>,
    ) -> Self {
        Self {
            id,
            name,
            ends_at: Some(now + settings.empty_timeout),
            settings,
            limits,
            sessions: BTreeMap::new(),
            identities: HashMap::new(),
            publishers: HashMap::new(),
            told_count: 0,
            outputs: VecDeque::new(),
            outside: Outside::default(),
        }
    }

    /// Its id.
    pub fn id(&self) -> RoomId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Lets a participant in; one of the same identity has to go.
    ///
    /// # Errors
    /// `room_full`.
    pub fn join(&mut self, now: Instant, admission: Admission) -> Result<(), ErrorReply> {
        let older = self.identities.get(&admission.identity).copied();
        if older.is_none() && self.sessions.len() >= self.settings.participants_max {
            return Err(ErrorReply::new(ErrorCode::RoomFull, "the room is full"));
        }
        if let Some(older) = older {
            self.dismiss(now, older, ErrorCode::DuplicateIdentity);
        }
        let participant = admission.participant;
        let options = JoinOptions {
            identity: admission.identity.clone(),
            grants: admission.grants.media.clone(),
            wants: admission.wants.clone(),
        };
        self.command(Command::Join {
            room: self.id,
            participant,
            options,
        });
        let resume_key = admission.resume_key.clone();
        let offer = admission.offer.clone();
        let session = Session::new(now, admission, &self.limits);
        self.identities
            .insert(session.identity.clone(), participant);
        let welcomed = session.stage == Stage::Welcomed && session.door == Door::Native;
        self.notice(Notice::Joined(session.participant()));
        self.sessions.insert(participant, session);
        self.ends_at = None;
        if let Some(offer) = offer {
            self.command(Command::Offer { participant, offer });
        }
        self.tell_joined(participant);
        if welcomed {
            self.welcome(participant, resume_key, Resumption::New, None);
        }
        Ok(())
    }

    /// Continues a session on a new socket. The caller makes sure that the token is about the same
    /// identity and room.
    ///
    /// # Errors
    /// `resume_unknown` when there is no such session or the key is wrong.
    pub fn resume(&mut self, resume: &Resume, next_key: String) -> Result<(), ErrorReply> {
        let unknown =
            || ErrorReply::new(ErrorCode::ResumeUnknown, "this session cannot be resumed");
        let participant = ParticipantId::parse(&resume.session).ok_or_else(unknown)?;
        let session = self.sessions.get_mut(&participant).ok_or_else(unknown)?;
        if !session.attach(&resume.key, &next_key) {
            return Err(unknown());
        }
        match session.replay(resume.n) {
            Some(texts) => {
                self.welcome(participant, next_key, Resumption::Replay(resume.n), None);
                for text in texts {
                    self.outputs
                        .push_back(Output::Message { participant, text });
                }
            }
            None => {
                self.welcome(participant, next_key, Resumption::Resync, None);
                self.repeat_codec_wishes(participant);
            }
        }
        Ok(())
    }

    /// The id of whoever has this identity.
    pub fn participant_of(&self, identity: &str) -> Option<ParticipantId> {
        self.identities.get(identity).copied()
    }

    /// The identity of a session, to check a token against before a resume.
    pub fn identity_of(&self, participant: ParticipantId) -> Option<&str> {
        self.sessions
            .get(&participant)
            .map(|session| session.identity.as_str())
    }

    /// A native client's socket is gone.
    pub fn detach(&mut self, now: Instant, participant: ParticipantId) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        session.detach(now, &self.limits);
        if session.is_welcoming() {
            // It has no key to come back with.
            self.leave(now, participant, LeftReason::ConnectionLost);
        }
    }

    /// Ends what waited long enough, and tells how many are here; call once a second or so.
    pub fn handle_timeout(&mut self, now: Instant) {
        let over = self
            .sessions
            .values()
            .filter(|session| session.is_over(now));
        for participant in over.map(|session| session.id).collect::<Vec<_>>() {
            self.leave(now, participant, LeftReason::ConnectionLost);
        }
        self.tell_count();
    }

    /// Tells those who are told of publishers only how many are here in all.
    fn tell_count(&mut self) {
        let count = self.count();
        if std::mem::replace(&mut self.told_count, count) == count {
            return;
        }
        let patch = RoomPatch {
            participants: Some(count),
            ..RoomPatch::default()
        };
        let json = encode(&ServerEvent::Room(RoomChange { patch }));
        for session in self.sessions.values_mut() {
            if session.roster == Roster::Publishers {
                deliver(&mut self.outputs, session, &json);
            }
        }
    }

    /// How many are here and not hidden.
    fn count(&self) -> u32 {
        let shown = self.sessions.values().filter(|one| !one.grants.hidden);
        u32::try_from(shown.count()).unwrap_or(u32::MAX)
    }

    /// True when the room has been empty for long enough to end.
    pub fn is_over(&self, now: Instant) -> bool {
        !self.outside.keeps_room() && self.ends_at.is_some_and(|at| now >= at)
    }

    /// Ends a participant's stay.
    pub fn leave(&mut self, now: Instant, participant: ParticipantId, reason: LeftReason) {
        if self.sessions.contains_key(&participant) {
            self.command(Command::Leave { participant });
            self.forget(now, participant, reason);
        }
    }

    /// Removes a session the core no longer has.
    fn forget(&mut self, now: Instant, participant: ParticipantId, reason: LeftReason) {
        let Some(session) = self.sessions.remove(&participant) else {
            return;
        };
        if self.identities.get(&session.identity) == Some(&participant) {
            self.identities.remove(&session.identity);
        }
        self.publishers
            .retain(|_, publisher| *publisher != participant);
        if self.sessions.is_empty() {
            self.ends_at = Some(now + self.settings.departure_timeout);
        }
        self.outputs.push_back(Output::Gone { participant });
        self.notice_left(&session, reason);
        if !session.grants.hidden {
            let json = encode(&ServerEvent::Left(Left {
                id: participant.to_string(),
                reason,
            }));
            for other in self.sessions.values_mut() {
                if other.roster == Roster::All || other.known.remove(&participant) {
                    deliver(&mut self.outputs, other, &json);
                }
            }
        }
    }

    fn notice_left(&mut self, session: &Session, reason: LeftReason) {
        let mut participant = session.participant();
        for track in std::mem::take(&mut participant.tracks) {
            self.notice(Notice::Unpublished(session.publisher(), track));
        }
        self.notice(Notice::Left(participant, reason));
    }

    /// Says goodbye and ends a participant's stay.
    fn dismiss(&mut self, now: Instant, participant: ParticipantId, code: ErrorCode) {
        self.reply(participant, ServerReply::Bye(Bye { code: Some(code) }));
        self.outputs.push_back(Output::Close {
            participant,
            code: code.into(),
        });
        let reason = match code {
            ErrorCode::DuplicateIdentity => LeftReason::DuplicateIdentity,
            ErrorCode::Removed => LeftReason::Removed,
            ErrorCode::RoomClosed => LeftReason::RoomClosed,
            _ => LeftReason::Failed,
        };
        self.leave(now, participant, reason);
    }

    fn tell_joined(&mut self, participant: ParticipantId) {
        let Some(session) = self.sessions.get(&participant) else {
            return;
        };
        if session.grants.hidden {
            return;
        }
        let json = encode(&ServerEvent::Joined(Joined {
            participant: session.participant(),
        }));
        for other in self.sessions.values_mut() {
            if other.id != participant && other.roster == Roster::All {
                deliver(&mut self.outputs, other, &json);
            }
        }
    }

    /// Sends `welcome`: a snapshot of the room, unless events are replayed after it.
    fn welcome(
        &mut self,
        participant: ParticipantId,
        resume_key: String,
        resumption: Resumption,
        answer: Option<crate::message::Answer>,
    ) {
        let snapshot = !matches!(resumption, Resumption::Replay(_));
        let Some(session) = self.sessions.get(&participant) else {
            return;
        };
        let shown = |other: &&Session| {
            let listed = session.roster == Roster::All || !other.tracks.is_empty();
            snapshot && other.id != participant && !other.grants.hidden && listed
        };
        let others: Vec<_> = self.sessions.values().filter(shown).collect();
        let known = others.iter().map(|other| other.id).collect();
        let welcome = Welcome {
            v: crate::message::VERSION,
            session: participant.to_string(),
            resume_key,
            resumed: !matches!(resumption, Resumption::New),
            resync: matches!(resumption, Resumption::Resync),
            features: session.features.clone(),
            room: crate::message::Room {
                id: self.id.to_string(),
                name: self.name.clone(),
                metadata: self.settings.metadata.clone(),
                participants: self.count(),
                broadcasting: self.outside.broadcasting,
                recording: self.outside.recording,
            },
            myself: session.myself(),
            grants: session.grants.view(),
            participants: others.iter().map(|other| other.participant()).collect(),
            slots: if snapshot {
                session.slots.clone()
            } else {
                BTreeMap::new()
            },
            ice_servers: session.ice_servers.clone(),
            limits: self.limits.told.clone(),
            ping: PING,
            answer,
            n: match resumption {
                Resumption::Replay(n) => n,
                _ => session.last_event(),
            },
        };
        if let Some(session) = self.sessions.get_mut(&participant).filter(|_| snapshot) {
            session.known = known;
        }
        self.reply(participant, ServerReply::Welcome(Box::new(welcome)));
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }

    fn command(&mut self, command: Command) {
        self.outputs.push_back(Output::Command(command));
    }

    /// Sends a reply to a native client that has a socket.
    fn reply(&mut self, participant: ParticipantId, reply: ServerReply) {
        let native = |session: &&Session| session.door == Door::Native && session.is_attached();
        if self.sessions.get(&participant).filter(native).is_some() {
            let text = encode_reply(&reply);
            self.outputs
                .push_back(Output::Message { participant, text });
        }
    }

    /// Sends an event to one participant.
    fn tell(&mut self, participant: ParticipantId, event: ServerEvent) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        match &mut session.stage {
            Stage::Welcoming { held, .. } if held.len() < HELD_EVENTS_MAX => held.push(event),
            Stage::Welcoming { .. } => {}
            Stage::Welcomed => deliver(&mut self.outputs, session, &encode(&event)),
        }
    }

    /// Sends an event to everyone but `except`.
    fn tell_all(&mut self, event: &ServerEvent, except: Option<ParticipantId>) {
        let json = encode(event);
        for session in self.sessions.values_mut() {
            if Some(session.id) != except {
                deliver(&mut self.outputs, session, &json);
            }
        }
    }
}

/// Events held back until `welcome`; there are a handful at most in the time of one negotiation.
const HELD_EVENTS_MAX: usize = 64;

enum Resumption {
    New,
    Replay(u64),
    Resync,
}

fn deliver(outputs: &mut VecDeque<Output>, session: &mut Session, json: &Arc<str>) {
    if let Some(text) = session.number(json) {
        outputs.push_back(Output::Message {
            participant: session.id,
            text,
        });
    }
}

#[cfg(test)]
mod tests;
