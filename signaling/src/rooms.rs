//! All rooms of this server: finds or opens them, hands events to them, carries out what they want.
//!
//! Each room has a lock of its own, held for the time of one message or event. The directory's lock
//! is taken for look-ups only; whoever holds a room's lock may take it, never the other way round.

mod cell;
mod joining;
mod moderation;
mod outbox;
mod outputs;
mod random;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sfu::{Command, Event, ParticipantId, RoomConfig, RoomId, Sfu};
use tokio::sync::oneshot;

use crate::auth::Keys;
use crate::config::Config;
use crate::limits::Rate;
use crate::message::{IceServer, LeftReason};
use crate::metrics::Metrics;
use crate::room::Settings;
use crate::session::SessionLimits;
use crate::turn_service::TurnService;
use crate::webhooks::Webhooks;

use cell::{Cell, Occupied};
pub use joining::JoinRequest;
pub use outbox::{Frame, Outbox};
use random::random_below;
pub(crate) use random::random_key;

/// All rooms of this server.
pub struct Rooms {
    sfu: Arc<Sfu>,
    metrics: Arc<Metrics>,
    keys: Arc<Keys>,
    limits: Arc<SessionLimits>,
    defaults: Settings,
    core: RoomConfig,
    auto_create: bool,
    rooms_max: usize,
    turn: Option<Arc<TurnService>>,
    webhooks: Option<Arc<Webhooks>>,
    directory: Mutex<Directory>,
}

#[derive(Default)]
struct Directory {
    by_name: HashMap<String, Arc<Cell>>,
    by_id: HashMap<RoomId, Arc<Cell>>,
    by_participant: HashMap<ParticipantId, Arc<Cell>>,
    draining: bool,
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
    pub fn new(sfu: Arc<Sfu>, metrics: Arc<Metrics>, keys: Arc<Keys>, config: &Config) -> Self {
        let rooms = &config.rooms;
        Self {
            sfu,
            metrics,
            keys,
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
            turn: None,
            webhooks: None,
            directory: Mutex::default(),
        }
    }

    /// Hands out credentials of this TURN server.
    #[must_use]
    pub(crate) fn with_turn(mut self, turn: Option<Arc<TurnService>>) -> Self {
        self.turn = turn;
        self
    }

    /// Tells an application what happens.
    #[must_use]
    pub(crate) fn with_webhooks(mut self, webhooks: Option<Arc<Webhooks>>) -> Self {
        self.webhooks = webhooks;
        self
    }

    /// Who tells an application what happens.
    pub(crate) fn webhooks(&self) -> Option<&Arc<Webhooks>> {
        self.webhooks.as_ref()
    }

    /// The TURN server.
    pub(crate) fn turn(&self) -> Option<&TurnService> {
        self.turn.as_deref()
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

    /// TURN servers for someone who has just joined.
    pub(crate) fn ice_servers_of(&self, participant: ParticipantId) -> Vec<IceServer> {
        let cell = self.directory().by_participant.get(&participant).cloned();
        let servers = |cell: Arc<Cell>| cell.lock().room.ice_servers_of(participant).to_vec();
        cell.map(servers).unwrap_or_default()
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

    /// Ends sessions and rooms whose time is over and renews tokens; call once a second or so.
    /// `now_s` is the wall clock in seconds since 1970.
    pub fn handle_timeout(&self, now: Instant, now_s: u64) {
        let cells: Vec<_> = self.directory().by_name.values().cloned().collect();
        for cell in cells {
            let mut occupied = cell.lock();
            occupied.room.handle_timeout(now);
            let sign = |key: &str, claims| self.keys.sign(key, claims).ok();
            occupied.room.renew_tokens(now_s, sign);
            if let Some(turn) = &self.turn {
                let issue =
                    |who, identity: &str, reached| turn.ice_servers(who, identity, reached, now_s);
                occupied.room.renew_ice_servers(now_s, issue);
            }
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

    fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
        | Event::CodecWanted { participant, .. }
        | Event::DataReceived { participant, .. }
        | Event::DataUndelivered { participant, .. }
        | Event::TransportChanged { participant, .. }
        | Event::ParticipantEnded { participant } => Place::Participant(*participant),
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
