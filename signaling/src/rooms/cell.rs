//! A room with its lock, and what its participants are reached by.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sfu::{Answer, Command, OfferError, ParticipantId};
use tokio::sync::oneshot;

use super::Seat;
use super::outbox::Outbox;
use crate::room::Room;

/// A room with its lock.
pub(super) struct Cell(Mutex<Occupied>);

/// A room and what its participants are reached by.
pub(super) struct Occupied {
    pub(super) room: Room,
    pub(super) closed: bool,
    pub(super) sockets: HashMap<ParticipantId, Arc<Outbox>>,
    pub(super) answers: HashMap<ParticipantId, oneshot::Sender<Result<Answer, OfferError>>>,
    pub(super) fragments: HashMap<ParticipantId, oneshot::Sender<Option<String>>>,
    /// Commands the shard's queue had no room for, in order.
    pub(super) backlog: VecDeque<Command>,
}

/// Commands of one room that wait for its shard: a few seconds of a busy room.
pub(super) const BACKLOG_MAX: usize = 4096;

impl Cell {
    pub(super) fn new(room: Room) -> Self {
        Self(Mutex::new(Occupied::new(room)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Occupied> {
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
    pub(super) fn has(&self, seat: &Seat) -> bool {
        let current = self.sockets.get(&seat.participant);
        current.is_some_and(|outbox| Arc::ptr_eq(outbox, &seat.outbox))
    }

    pub(super) fn forget(&mut self, participant: ParticipantId) {
        self.sockets.remove(&participant);
        self.answers.remove(&participant);
        self.fragments.remove(&participant);
    }
}
