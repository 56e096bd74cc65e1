//! Which shard a room begins on, and on which a joiner is placed.
//!
//! A room begins on the shard with the least load. Whoever joins goes to a shard the room is on already,
//! as long as one of them has space; else to the shard with the least load of all, where the room is then
//! continued (`cascade.rs`). Nobody ever moves.
//!
//! The load of a shard is one number, in packets a second: what it sent to subscribers over the last second,
//! as its thread publishes it, plus what those who came since may still cost, by a fixed weight for each
//! participant and each room. A shard has space for one more of a room as long as fewer than
//! `media.room_participants_per_shard` of it are there, and it is not busy while another one idles.

use std::collections::HashMap;

use crate::ids::{ParticipantId, RoomId};
use crate::sfu::{Command, Event, RoomConfig};

/// What a participant is expected to cost: a viewer of 1 Mbit/s gets about that many packets a second.
const PARTICIPANT_LOAD: u64 = 100;
/// What an open room is expected to cost before anyone is in it: that of two participants.
const ROOM_LOAD: u64 = 200;
/// A shard that sends more than this is busy: a quarter of the 400,000 packets/s of one core.
const BUSY_LOAD: u64 = 100_000;
/// Another shard idles beside it with less than one part in this.
const IDLE_SHARE: u64 = 2;

/// Where rooms and participants are.
#[derive(Debug)]
pub(super) struct Placement {
    rooms: HashMap<RoomId, PlacedRoom>,
    participants: HashMap<ParticipantId, RoomId>,
    shards: Vec<Occupants>,
    next_room: u64,
    next_participant: u64,
    /// Participants of one room on one shard; 0: any number.
    participants_max: usize,
}

/// A room and where its participants are.
#[derive(Debug)]
struct PlacedRoom {
    config: RoomConfig,
    /// Shards it is or was on and its participants there; its home first.
    participants: Vec<(u16, usize)>,
}

/// What is placed on a shard.
#[derive(Clone, Copy, Debug, Default)]
struct Occupants {
    rooms: u64,
    participants: u64,
}

/// What changes who is where.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Joined(RoomId, ParticipantId),
    Left(ParticipantId),
    Closed(RoomId),
}

impl Change {
    /// What a command changes, once it is given to a shard.
    pub(super) fn of(command: &Command) -> Option<Self> {
        match *command {
            Command::Join {
                room, participant, ..
            } => Some(Self::Joined(room, participant)),
            Command::Leave { participant } => Some(Self::Left(participant)),
            Command::CloseRoom { room } => Some(Self::Closed(room)),
            _ => None,
        }
    }

    /// What an event says has changed.
    pub(super) fn of_event(event: &Event) -> Option<Self> {
        match *event {
            Event::ParticipantEnded { participant } => Some(Self::Left(participant)),
            _ => None,
        }
    }
}

impl Placement {
    pub(super) fn new(shards: usize, participants_max: u32) -> Self {
        Self {
            rooms: HashMap::new(),
            participants: HashMap::new(),
            shards: vec![Occupants::default(); shards],
            next_room: 0,
            next_participant: 0,
            participants_max: usize::try_from(participants_max).unwrap_or(0),
        }
    }

    /// Places a new room; `sent` is what each shard sends, in packets a second.
    pub(super) fn open(&mut self, config: &RoomConfig, sent: &[u64]) -> RoomId {
        let home = self.least_loaded(sent);
        let room = RoomId::new(home, self.next_room);
        self.next_room += 1;
        if let Some(shard) = self.shards.get_mut(usize::from(home)) {
            shard.rooms += 1;
        }
        let placed = PlacedRoom {
            config: config.clone(),
            participants: vec![(home, 0)],
        };
        self.rooms.insert(room, placed);
        room
    }

    /// An id for someone about to join a room; its shard is where it will be.
    pub(super) fn seat(&mut self, room: RoomId, sent: &[u64]) -> ParticipantId {
        let shard = self.shard_for(room, sent);
        self.seat_on(shard)
    }

    /// An id for someone about to join a room on this shard.
    pub(super) fn seat_on(&mut self, shard: u16) -> ParticipantId {
        let number = self.next_participant;
        self.next_participant += 1;
        ParticipantId::new(shard, number)
    }

    /// Notes what happened.
    pub(super) fn note(&mut self, change: Change) {
        match change {
            Change::Joined(room, participant) => self.join(room, participant),
            Change::Left(participant) => self.leave(participant),
            Change::Closed(room) => self.close(room),
        }
    }

    /// The shards a room is on, its home first; only the home of one that is not known.
    pub(super) fn shards_of(&self, room: RoomId) -> Vec<usize> {
        self.rooms.get(&room).map_or_else(
            || vec![room.shard()],
            |placed| {
                let shards = placed.participants.iter();
                shards.map(|(shard, _)| usize::from(*shard)).collect()
            },
        )
    }

    /// The settings a room was opened with.
    pub(super) fn config_of(&self, room: RoomId) -> Option<RoomConfig> {
        self.rooms.get(&room).map(|placed| placed.config.clone())
    }

    fn shard_for(&self, room: RoomId, sent: &[u64]) -> u16 {
        let home = u16::try_from(room.shard()).unwrap_or(0);
        let Some(placed) = self.rooms.get(&room) else {
            return home;
        };
        let least_loaded = self.least_loaded(sent);
        let least = self.load(least_loaded, sent);
        let has_space = |&(shard, count): &(u16, usize)| {
            let load = self.load(shard, sent);
            let is_full = self.participants_max != 0 && count >= self.participants_max;
            let is_busy = load >= BUSY_LOAD && least < load / IDLE_SHARE;
            !is_full && !is_busy
        };
        // The home stays on the list although nobody may be there: it is part of the room anyway.
        let parts = placed.participants.iter();
        // What is no shard of ours, the annex, takes nobody.
        let parts = parts.filter(|part| usize::from(part.0) < self.shards.len());
        let open = parts.filter(|part| part.0 == home || part.1 > 0);
        let open = open.filter(|part| has_space(part));
        let best = open.min_by_key(|(shard, _)| (self.load(*shard, sent), *shard));
        best.map_or(least_loaded, |(shard, _)| *shard)
    }

    fn least_loaded(&self, sent: &[u64]) -> u16 {
        let shards = (0..).take(self.shards.len());
        let least = shards.min_by_key(|shard| (self.load(*shard, sent), *shard));
        least.unwrap_or(0)
    }

    fn load(&self, shard: u16, sent: &[u64]) -> u64 {
        let index = usize::from(shard);
        let placed = self.shards.get(index).copied().unwrap_or_default();
        let sent = sent.get(index).copied().unwrap_or(0);
        sent + placed.participants * PARTICIPANT_LOAD + placed.rooms * ROOM_LOAD
    }

    fn join(&mut self, room: RoomId, participant: ParticipantId) {
        let Some(placed) = self.rooms.get_mut(&room) else {
            return;
        };
        if self.participants.insert(participant, room).is_some() {
            return;
        }
        let Ok(shard) = u16::try_from(participant.shard()) else {
            return;
        };
        match placed.participants.iter_mut().find(|part| part.0 == shard) {
            Some((_, count)) => *count += 1,
            None => placed.participants.push((shard, 1)),
        }
        if let Some(occupants) = self.shards.get_mut(usize::from(shard)) {
            occupants.participants += 1;
        }
    }

    fn leave(&mut self, participant: ParticipantId) {
        let Some(room) = self.participants.remove(&participant) else {
            return;
        };
        let index = participant.shard();
        if let Some(placed) = self.rooms.get_mut(&room) {
            let is_it = |part: &&mut (u16, usize)| usize::from(part.0) == index;
            if let Some((_, count)) = placed.participants.iter_mut().find(is_it) {
                *count = count.saturating_sub(1);
            }
        }
        if let Some(shard) = self.shards.get_mut(index) {
            shard.participants = shard.participants.saturating_sub(1);
        }
    }

    fn close(&mut self, room: RoomId) {
        let Some(placed) = self.rooms.remove(&room) else {
            return;
        };
        if let Some(home) = self.shards.get_mut(room.shard()) {
            home.rooms = home.rooms.saturating_sub(1);
        }
        for &(shard, count) in &placed.participants {
            if let Some(shard) = self.shards.get_mut(usize::from(shard)) {
                shard.participants = shard.participants.saturating_sub(count as u64);
            }
        }
        if placed.participants.iter().any(|(_, count)| *count > 0) {
            self.participants.retain(|_, of| *of != room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    /// Lets someone in as the service does.
    fn join(placement: &mut Placement, room: RoomId, sent: &[u64]) -> ParticipantId {
        let participant = placement.seat(room, sent);
        placement.note(Change::Joined(room, participant));
        participant
    }

    fn counts(placement: &Placement, room: RoomId) -> Vec<(u16, usize)> {
        placement.rooms[&room].participants.clone()
    }

    #[test]
    fn rooms_begin_where_the_load_is_least() {
        let mut placement = Placement::new(3, 200);
        let config = RoomConfig::default();
        let shards: Vec<usize> = (0..4)
            .map(|_| placement.open(&config, &[0; 3]).shard())
            .collect();
        assert_eq!(shards, [0, 1, 2, 0]);
        assert_eq!(placement.open(&config, &[0, 900, 500]).shard(), 0);
        assert_eq!(placement.open(&config, &[9000, 900, 500]).shard(), 2);
        let closed = placement.open(&config, &[9000, 500, 9000]);
        assert_eq!(closed.shard(), 1);
        placement.note(Change::Closed(closed));
        assert_eq!(placement.open(&config, &[9000, 500, 9000]).shard(), 1);
    }

    #[test]
    fn a_room_fills_its_shard_and_then_the_others() {
        let mut placement = Placement::new(2, 3);
        let room = placement.open(&RoomConfig::default(), &[]);
        let all: Vec<ParticipantId> = (0..10).map(|_| join(&mut placement, room, &[])).collect();
        let shards: Vec<usize> = all.iter().map(|who| who.shard()).collect();
        assert_eq!(shards[..6], [0, 0, 0, 1, 1, 1]);
        // The room itself weighs as much as two of them.
        assert_eq!(counts(&placement, room), [(0, 4), (1, 6)]);
        assert_eq!(placement.shards_of(room), [0, 1]);
        // Who leaves makes space.
        for who in all.iter().filter(|who| who.shard() == 0).take(3) {
            placement.note(Change::Left(*who));
        }
        assert_eq!(join(&mut placement, room, &[]).shard(), 0);
        assert_eq!(counts(&placement, room), [(0, 2), (1, 6)]);
    }

    #[test]
    fn a_room_leaves_a_busy_shard_for_an_idle_one_only() {
        let mut placement = Placement::new(2, 0);
        let room = placement.open(&RoomConfig::default(), &[]);
        assert_eq!(join(&mut placement, room, &[90_000, 0]).shard(), 0);
        assert_eq!(join(&mut placement, room, &[120_000, 80_000]).shard(), 0);
        assert_eq!(join(&mut placement, room, &[120_000, 20_000]).shard(), 1);
        assert_eq!(counts(&placement, room), [(0, 2), (1, 1)]);
    }

    #[test]
    fn who_was_ended_or_never_came_takes_no_place() {
        let mut placement = Placement::new(2, 1);
        let room = placement.open(&RoomConfig::default(), &[]);
        placement.seat(room, &[]);
        let first = join(&mut placement, room, &[]);
        assert_eq!(first.shard(), 0);
        placement.note(Change::Left(first));
        placement.note(Change::Left(first));
        assert_eq!(join(&mut placement, room, &[]).shard(), 0);
        assert_eq!(join(&mut placement, room, &[]).shard(), 1);
        placement.note(Change::Closed(room));
        assert!(placement.participants.is_empty());
        assert_eq!(placement.shards[0].participants, 0);
        assert_eq!(placement.shards_of(room), [0]);
    }

    #[test]
    fn the_annex_takes_nobody() {
        let mut placement = Placement::new(1, 1);
        let room = placement.open(&RoomConfig::default(), &[]);
        let encoder = placement.seat_on(1);
        placement.note(Change::Joined(room, encoder));
        assert_eq!(encoder.shard(), 1);
        assert_eq!(placement.shards_of(room), [0, 1]);
        let seated: Vec<usize> = (0..3)
            .map(|_| join(&mut placement, room, &[]).shard())
            .collect();
        assert_eq!(seated, [0, 0, 0], "although the shard is full and busy");
        placement.note(Change::Left(encoder));
        assert_eq!(join(&mut placement, room, &[]).shard(), 0);
    }

    #[test]
    fn ids_are_given_once() {
        let mut placement = Placement::new(1, 0);
        let room = placement.open(&RoomConfig::default(), &[]);
        assert_ne!(placement.seat(room, &[]), placement.seat(room, &[]));
        assert_ne!(room, placement.open(&RoomConfig::default(), &[]));
    }
}
