//! All rooms of this server: finds or opens them, hands events to them, carries out what they want.
//!
//! Each room has a lock of its own, held for the time of one message or event. The directory's lock
//! is taken for look-ups only; whoever holds a room's lock may take it, never the other way round.

mod outbox;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sfu::{
    Answer, Command, Event, Offer, OfferError, ParticipantId, RoomConfig, RoomId, Sfu, TrackId,
    Wants,
};
use tokio::sync::oneshot;

use crate::auth::{Grants, RoomClaim};
use crate::config::Config;
use crate::limits::Rate;
use crate::message::{ErrorCode, ErrorReply, LeftReason, Participant, Resume, Roster};
use crate::metrics::Metrics;
use crate::room::{Output, Room, RoomState, Settings};
use crate::session::{Admission, Door, SessionLimits};

pub use outbox::{Frame, Outbox};

/// All rooms of this server.
pub struct Rooms {
    sfu: Arc<Sfu>,
    metrics: Arc<Metrics>,
    limits: Arc<SessionLimits>,
    defaults: Settings,
    core: RoomConfig,
    auto_create: bool,
    rooms_max: usize,
    directory: Mutex<Directory>,
}

#[derive(Default)]
struct Directory {
    by_name: HashMap<String, Arc<Cell>>,
    by_id: HashMap<RoomId, Arc<Cell>>,
    by_participant: HashMap<ParticipantId, Arc<Cell>>,
    draining: bool,
}

/// A room with its lock.
struct Cell(Mutex<Occupied>);

/// A room and what its participants are reached by.
struct Occupied {
    room: Room,
    closed: bool,
    sockets: HashMap<ParticipantId, Arc<Outbox>>,
    answers: HashMap<ParticipantId, oneshot::Sender<Result<Answer, OfferError>>>,
    fragments: HashMap<ParticipantId, oneshot::Sender<Option<String>>>,
    /// Commands the shard's queue had no room for, in order.
    backlog: VecDeque<Command>,
}

/// Commands of one room that wait for its shard: a few seconds of a busy room.
const BACKLOG_MAX: usize = 4096;

/// What a participant asks to be let in with.
pub struct JoinRequest {
    /// The room's name; the caller has checked that the token is about it.
    pub room: String,
    /// What the token allows.
    pub grants: Grants,
    /// The display name typed before joining.
    pub name: Option<String>,
    /// What it receives without asking.
    pub wants: Wants,
    /// Whom it is told about.
    pub roster: Roster,
    /// The features in common.
    pub features: Vec<String>,
    /// Its first offer.
    pub offer: Option<Offer>,
}

/// A native participant's place: which room, and by which socket.
pub struct Seat {
    /// Who sits there.
    pub participant: ParticipantId,
    cell: Arc<Cell>,
    outbox: Arc<Outbox>,
}

/// An answer to come.
pub type Pending<T> = oneshot::Receiver<T>;

impl Rooms {
    /// No rooms yet.
    pub fn new(sfu: Arc<Sfu>, metrics: Arc<Metrics>, config: &Config) -> Self {
        let rooms = &config.rooms;
        Self {
            sfu,
            metrics,
            limits: Arc::new(session_limits(config)),
            defaults: Settings {
                metadata: String::new(),
                participants_max: usize::try_from(rooms.participants_max).unwrap_or(usize::MAX),
                empty_timeout: rooms.empty_timeout.duration(),
                departure_timeout: rooms.departure_timeout.duration(),
            },
            core: RoomConfig {
                codecs: rooms.codecs.iter().map(|codec| (*codec).into()).collect(),
            },
            auto_create: rooms.auto_create,
            rooms_max: usize::try_from(rooms.rooms_max).unwrap_or(usize::MAX),
            directory: Mutex::default(),
        }
    }

    /// Lets a native client in; what it is told goes to `outbox`.
    ///
    /// # Errors
    /// `room_not_found`, `room_full`, `limit_exceeded`, `server_shutdown`.
    pub fn join_native(
        &self,
        now: Instant,
        request: JoinRequest,
        outbox: Arc<Outbox>,
    ) -> Result<Seat, ErrorReply> {
        let (cell, participant) =
            self.join(now, request, Door::Native, |occupied, participant| {
                occupied.sockets.insert(participant, Arc::clone(&outbox));
            })?;
        Ok(Seat {
            participant,
            cell,
            outbox,
        })
    }

    /// Lets a WHIP or WHEP client in; the answer to its offer follows.
    ///
    /// # Errors
    /// As [`Rooms::join_native`].
    pub fn join_http(
        &self,
        now: Instant,
        request: JoinRequest,
    ) -> Result<(ParticipantId, Pending<Result<Answer, OfferError>>), ErrorReply> {
        let (sender, receiver) = oneshot::channel();
        let (_, participant) = self.join(now, request, Door::Http, |occupied, participant| {
            occupied.answers.insert(participant, sender);
        })?;
        Ok((participant, receiver))
    }

    fn join(
        &self,
        now: Instant,
        request: JoinRequest,
        door: Door,
        register: impl FnOnce(&mut Occupied, ParticipantId),
    ) -> Result<(Arc<Cell>, ParticipantId), ErrorReply> {
        let cell = self.cell_to_join(now, &request.room, &request.grants.room_config)?;
        let mut occupied = cell.lock();
        if occupied.closed {
            // It ended in this very moment; the client's next try opens it anew.
            return Err(ErrorReply::new(
                ErrorCode::RoomClosed,
                "the room was just ended",
            ));
        }
        let participant = self.sfu.next_participant(occupied.room.id());
        register(&mut occupied, participant);
        self.directory()
            .by_participant
            .insert(participant, Arc::clone(&cell));
        let outcome = occupied
            .room
            .join(now, admission(participant, door, request));
        if outcome.is_err() {
            occupied.forget(participant);
            self.directory().by_participant.remove(&participant);
        } else {
            self.metrics.joins.inc();
            let room = occupied.room.id();
            tracing::info!(%room, %participant, ?door, "joined");
        }
        self.carry_out(&mut occupied);
        drop(occupied);
        outcome.map(|()| (cell, participant))
    }

    /// Continues a session on a new socket.
    ///
    /// # Errors
    /// `resume_unknown` also where the token is about another identity or room.
    pub fn resume(
        &self,
        resume: &Resume,
        grants: &Grants,
        outbox: Arc<Outbox>,
    ) -> Result<Seat, ErrorReply> {
        let unknown =
            || ErrorReply::new(ErrorCode::ResumeUnknown, "this session cannot be resumed");
        let participant = ParticipantId::parse(&resume.session).ok_or_else(unknown)?;
        let cell = self.directory().by_participant.get(&participant).cloned();
        let cell = cell.ok_or_else(unknown)?;
        let mut occupied = cell.lock();
        let identity = occupied.room.identity_of(participant).ok_or_else(unknown)?;
        let same = grants.identity.as_deref().is_none_or(|own| own == identity);
        if !same || !grants.may_join(occupied.room.name()) {
            return Err(unknown());
        }
        // The new socket counts from before `welcome` on, the old one only if the key is right.
        let old = occupied.sockets.insert(participant, Arc::clone(&outbox));
        if let Err(error) = occupied.room.resume(resume, random_key()) {
            match old {
                Some(old) => occupied.sockets.insert(participant, old),
                None => occupied.sockets.remove(&participant),
            };
            return Err(error);
        }
        if let Some(old) = old {
            old.close(crate::message::CloseCode::Normal);
        }
        self.carry_out(&mut occupied);
        drop(occupied);
        Ok(Seat {
            participant,
            cell,
            outbox,
        })
    }

    /// Takes in a frame of a native client.
    pub fn handle_text(&self, now: Instant, seat: &Seat, text: &str) {
        let mut occupied = seat.cell.lock();
        if occupied.has(seat) {
            occupied.room.handle_text(now, seat.participant, text);
            self.carry_out(&mut occupied);
        }
    }

    /// A native client's socket is gone.
    pub fn detach(&self, now: Instant, seat: &Seat) {
        let mut occupied = seat.cell.lock();
        if occupied.has(seat) {
            occupied.sockets.remove(&seat.participant);
            occupied.room.detach(now, seat.participant);
            self.carry_out(&mut occupied);
        }
    }

    /// New ICE credentials of a WHIP or WHEP client; the fragment for it follows. `None`: it is gone.
    pub fn restart_ice(
        &self,
        participant: ParticipantId,
        ufrag: String,
        pwd: String,
    ) -> Option<Pending<Option<String>>> {
        let cell = self.directory().by_participant.get(&participant).cloned()?;
        let mut occupied = cell.lock();
        let (sender, receiver) = oneshot::channel();
        occupied.fragments.insert(participant, sender);
        self.command(
            &mut occupied,
            Command::RestartIce {
                participant,
                ufrag,
                pwd,
            },
        );
        Some(receiver)
    }

    /// Ends a participant's stay; false when it is gone already.
    pub fn leave(&self, now: Instant, participant: ParticipantId) -> bool {
        let Some(cell) = self.directory().by_participant.get(&participant).cloned() else {
            return false;
        };
        let mut occupied = cell.lock();
        occupied.room.leave(now, participant, LeftReason::Left);
        self.carry_out(&mut occupied);
        true
    }

    /// True while this participant is in a room.
    pub fn has_participant(&self, participant: ParticipantId) -> bool {
        self.directory().by_participant.contains_key(&participant)
    }

    /// Takes in one event of the core.
    pub fn handle_event(&self, now: Instant, event: Event) {
        let place = place_of(&event);
        let cell = match place {
            Place::Room(room) => self.directory().by_id.get(&room).cloned(),
            Place::Participant(participant) => {
                self.directory().by_participant.get(&participant).cloned()
            }
        };
        // An event about what has just ended is nobody's.
        let Some(cell) = cell else { return };
        let mut occupied = cell.lock();
        occupied.room.handle_event(now, event);
        self.carry_out(&mut occupied);
    }

    /// Ends sessions and rooms whose time is over; call once a second or so.
    pub fn handle_timeout(&self, now: Instant) {
        let cells: Vec<_> = self.directory().by_name.values().cloned().collect();
        for cell in cells {
            let mut occupied = cell.lock();
            occupied.room.handle_timeout(now);
            if occupied.room.is_over(now) {
                self.end(now, &mut occupied);
            }
            self.carry_out(&mut occupied);
        }
        let directory = self.directory();
        self.metrics.rooms.set(gauge(directory.by_name.len()));
        self.metrics
            .participants
            .set(gauge(directory.by_participant.len()));
    }

    /// Every room, by name.
    pub fn list(&self) -> Vec<RoomState> {
        let cells: Vec<_> = self.directory().by_name.values().cloned().collect();
        let mut rooms: Vec<_> = cells.iter().map(|cell| cell.lock().room.state()).collect();
        rooms.sort_by(|one, other| one.name.cmp(&other.name));
        rooms
    }

    /// One room.
    pub fn get(&self, name: &str) -> Option<RoomState> {
        Some(self.cell(name)?.lock().room.state())
    }

    /// Opens a room, or gives it other settings; true when it was opened.
    ///
    /// # Errors
    /// `limit_exceeded`, `server_shutdown`.
    pub fn put(
        &self,
        now: Instant,
        name: &str,
        claim: &RoomClaim,
    ) -> Result<(RoomState, bool), ErrorReply> {
        let (cell, opened) = self.open(now, name, claim)?;
        let mut occupied = cell.lock();
        if !opened {
            occupied.room.set_settings(self.settings(claim));
            self.carry_out(&mut occupied);
        }
        Ok((occupied.room.state(), opened))
    }

    /// Ends a room and everyone's stay in it; false when there is none.
    pub fn delete(&self, now: Instant, name: &str) -> bool {
        let Some(cell) = self.cell(name) else {
            return false;
        };
        let mut occupied = cell.lock();
        self.end(now, &mut occupied);
        self.carry_out(&mut occupied);
        true
    }

    /// Everyone in a room; `None` when there is no such room.
    pub fn participants(&self, name: &str) -> Option<Vec<Participant>> {
        Some(self.cell(name)?.lock().room.participants())
    }

    /// One participant.
    pub fn participant(&self, name: &str, identity: &str) -> Option<Participant> {
        self.cell(name)?.lock().room.participant(identity)
    }

    /// Removes a participant; false when there is none.
    pub fn remove(&self, now: Instant, name: &str, identity: &str) -> bool {
        let Some(cell) = self.cell(name) else {
            return false;
        };
        let mut occupied = cell.lock();
        let removed = occupied.room.remove(now, identity);
        self.carry_out(&mut occupied);
        removed
    }

    /// Mutes or unmutes a track; false when there is none.
    pub fn mute(&self, name: &str, identity: &str, track: TrackId, muted: bool) -> bool {
        let Some(cell) = self.cell(name) else {
            return false;
        };
        let mut occupied = cell.lock();
        let found = occupied.room.mute(identity, track, muted);
        self.carry_out(&mut occupied);
        found
    }

    /// Lets nobody in any more and asks everyone to go, spread over `spread`.
    pub fn drain(&self, spread: Duration) {
        let cells: Vec<_> = {
            let mut directory = self.directory();
            directory.draining = true;
            directory.by_name.values().cloned().collect()
        };
        let spread_ms = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
        for cell in cells {
            let mut occupied = cell.lock();
            occupied.room.announce_shutdown(|| random_below(spread_ms));
            self.carry_out(&mut occupied);
        }
    }

    /// Says goodbye to everyone and ends all rooms.
    pub fn shut_down(&self, now: Instant) {
        self.directory().draining = true;
        let cells: Vec<_> = self.directory().by_name.values().cloned().collect();
        for cell in cells {
            let mut occupied = cell.lock();
            occupied.room.shut_down(now);
            self.end(now, &mut occupied);
            self.carry_out(&mut occupied);
        }
    }

    /// True once [`Rooms::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.directory().draining
    }

    fn cell(&self, name: &str) -> Option<Arc<Cell>> {
        self.directory().by_name.get(name).cloned()
    }

    fn cell_to_join(
        &self,
        now: Instant,
        name: &str,
        claim: &RoomClaim,
    ) -> Result<Arc<Cell>, ErrorReply> {
        if self.is_draining() {
            return Err(ErrorReply::new(
                ErrorCode::ServerShutdown,
                "the server is going down",
            ));
        }
        if self.auto_create {
            return self.open(now, name, claim).map(|(cell, _)| cell);
        }
        let missing = || ErrorReply::new(ErrorCode::RoomNotFound, "there is no such room");
        self.cell(name).ok_or_else(missing)
    }

    /// Finds a room or opens it; true when it was opened.
    fn open(
        &self,
        now: Instant,
        name: &str,
        claim: &RoomClaim,
    ) -> Result<(Arc<Cell>, bool), ErrorReply> {
        let mut directory = self.directory();
        if directory.draining {
            return Err(ErrorReply::new(
                ErrorCode::ServerShutdown,
                "the server is going down",
            ));
        }
        if let Some(cell) = directory.by_name.get(name) {
            return Ok((Arc::clone(cell), false));
        }
        if directory.by_name.len() >= self.rooms_max {
            let text = "the server has as many rooms as it may";
            return Err(ErrorReply::new(ErrorCode::LimitExceeded, text));
        }
        let id = self.sfu.create_room(self.core.clone());
        let settings = self.settings(claim);
        let room = Room::new(now, id, name.to_owned(), settings, Arc::clone(&self.limits));
        let cell = Arc::new(Cell(Mutex::new(Occupied::new(room))));
        directory.by_name.insert(name.to_owned(), Arc::clone(&cell));
        directory.by_id.insert(id, Arc::clone(&cell));
        tracing::info!(room = %id, "room opened");
        Ok((cell, true))
    }

    fn settings(&self, claim: &RoomClaim) -> Settings {
        let or_default = |seconds: u32, default| match seconds {
            0 => default,
            seconds => Duration::from_secs(u64::from(seconds)),
        };
        let wanted = usize::try_from(claim.max_participants).unwrap_or(usize::MAX);
        let most = self.defaults.participants_max;
        Settings {
            metadata: claim.metadata.clone(),
            participants_max: if wanted == 0 { most } else { wanted.min(most) },
            empty_timeout: or_default(claim.empty_timeout, self.defaults.empty_timeout),
            departure_timeout: or_default(claim.departure_timeout, self.defaults.departure_timeout),
        }
    }

    /// Ends a room and takes it out of the directory.
    fn end(&self, now: Instant, occupied: &mut Occupied) {
        if std::mem::replace(&mut occupied.closed, true) {
            return;
        }
        occupied.room.close(now);
        let mut directory = self.directory();
        directory.by_name.remove(occupied.room.name());
        directory.by_id.remove(&occupied.room.id());
        tracing::info!(room = %occupied.room.id(), "room ended");
    }

    fn carry_out(&self, occupied: &mut Occupied) {
        self.send_backlog(occupied);
        while let Some(output) = occupied.room.poll_output() {
            match output {
                Output::Command(command) => self.command(occupied, command),
                Output::Message { participant, text } => {
                    if let Some(outbox) = occupied.sockets.get(&participant)
                        && !outbox.push(text)
                    {
                        self.metrics.slow_consumers.inc();
                    }
                }
                Output::Speakers {
                    participant,
                    levels,
                } => {
                    if let Some(outbox) = occupied.sockets.get(&participant) {
                        outbox.push_speakers(&levels);
                    }
                }
                Output::Close { participant, code } => {
                    if let Some(outbox) = occupied.sockets.get(&participant) {
                        outbox.close(code);
                    }
                }
                Output::Answered {
                    participant,
                    answer,
                } => {
                    if let Some(waiting) = occupied.answers.remove(&participant) {
                        waiting.send(answer).ok();
                    }
                }
                Output::IceRestarted {
                    participant,
                    fragment,
                } => {
                    if let Some(waiting) = occupied.fragments.remove(&participant) {
                        waiting.send(fragment).ok();
                    }
                }
                Output::Gone { participant } => {
                    occupied.forget(participant);
                    tracing::info!(%participant, "left");
                    self.directory().by_participant.remove(&participant);
                }
            }
        }
    }

    fn command(&self, occupied: &mut Occupied, command: Command) {
        if occupied.backlog.is_empty() && self.sfu.send(command.clone()).is_ok() {
            return;
        }
        self.metrics.commands_deferred.inc();
        if occupied.backlog.len() < BACKLOG_MAX {
            occupied.backlog.push_back(command);
        } else {
            self.metrics.commands_dropped.inc();
        }
    }

    fn send_backlog(&self, occupied: &mut Occupied) {
        while let Some(command) = occupied.backlog.front() {
            if self.sfu.send(command.clone()).is_err() {
                return;
            }
            occupied.backlog.pop_front();
        }
    }

    fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cell {
    fn lock(&self) -> MutexGuard<'_, Occupied> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Occupied {
    fn new(room: Room) -> Self {
        Self {
            room,
            closed: false,
            sockets: HashMap::new(),
            answers: HashMap::new(),
            fragments: HashMap::new(),
            backlog: VecDeque::new(),
        }
    }

    /// True when this seat's socket is the one that counts: not replaced by a resume.
    fn has(&self, seat: &Seat) -> bool {
        let current = self.sockets.get(&seat.participant);
        current.is_some_and(|outbox| Arc::ptr_eq(outbox, &seat.outbox))
    }

    fn forget(&mut self, participant: ParticipantId) {
        self.sockets.remove(&participant);
        self.answers.remove(&participant);
        self.fragments.remove(&participant);
    }
}

enum Place {
    Room(RoomId),
    Participant(ParticipantId),
}

fn place_of(event: &Event) -> Place {
    match event {
        Event::TrackPublished { room, .. }
        | Event::TrackChanged { room, .. }
        | Event::TrackUnpublished { room, .. }
        | Event::SpeakersChanged { room, .. } => Place::Room(*room),
        Event::Answered { participant, .. }
        | Event::IceRestarted { participant, .. }
        | Event::SlotsChanged { participant, .. }
        | Event::SlotsNeeded { participant, .. }
        | Event::StreamChanged { participant, .. }
        | Event::DataReceived { participant, .. }
        | Event::DataUndelivered { participant, .. }
        | Event::TransportChanged { participant, .. }
        | Event::ParticipantEnded { participant } => Place::Participant(*participant),
    }
}

fn admission(participant: ParticipantId, door: Door, request: JoinRequest) -> Admission {
    let mut grants = request.grants;
    if let Some(name) = request
        .name
        .filter(|_| grants.guest || grants.update_own_metadata)
    {
        grants.name = name;
    }
    let identity = grants
        .identity
        .clone()
        .unwrap_or_else(|| format!("guest-{}", random_suffix()));
    Admission {
        participant,
        door,
        identity,
        wants: if grants.media.subscribe {
            request.wants
        } else {
            Wants::Nothing
        },
        grants,
        roster: request.roster,
        features: request.features,
        offer: request.offer,
        resume_key: random_key(),
    }
}

fn session_limits(config: &Config) -> SessionLimits {
    let limits = &config.limits;
    SessionLimits {
        messages: Rate {
            per_second: limits.messages_per_second,
            burst: limits.messages_burst,
        },
        offers: Rate {
            per_second: limits.offers_per_second,
            burst: limits.offers_burst,
        },
        data: Rate {
            per_second: limits.data_per_second,
            burst: limits.data_burst,
        },
        resume_timeout: config.rooms.resume_timeout.duration(),
        told: crate::message::Limits {
            audio_slots: config.media.audio_slots_max,
            video_slots: config.media.video_slots_max,
            tracks: config.media.tracks_max,
            frame_bytes: crate::message::FRAME_BYTES_MAX,
            data_bytes: 64 << 10,
            send_bytes: 16 << 10,
        },
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// 256 random bits as text.
pub(crate) fn random_key() -> String {
    URL_SAFE_NO_PAD.encode(random::<32>())
}

/// Eight random letters and digits, easy to read out: 40 bits, enough for a room of thousands.
fn random_suffix() -> String {
    const LETTERS: [char; 32] = [
        'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'm', 'n', 'p', 'q', 'r', 's', 't',
        'u', 'v', 'w', 'x', 'y', 'z', '2', '3', '4', '5', '6', '7', '8', '9',
    ];
    random::<8>()
        .iter()
        .map(|byte| LETTERS[usize::from(byte % 32)])
        .collect()
}

fn random_below(limit: u64) -> u64 {
    u64::from_le_bytes(random::<8>()) % limit.max(1)
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system's random numbers are available");
    bytes
}
