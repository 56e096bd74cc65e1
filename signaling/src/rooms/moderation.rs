//! What the room API asks.

use std::net::IpAddr;
use std::time::Instant;

use sfu::{RoomId, TrackId};

use super::Rooms;
use crate::auth::RoomClaim;
use crate::message::{ErrorReply, IceServer, Participant};
use crate::room::{Outside, RoomState};

impl Rooms {
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
        is_for_broadcast: bool,
    ) -> Result<(RoomState, bool), ErrorReply> {
        let core = match is_for_broadcast {
            true => self.for_broadcast(),
            false => self.core.clone(),
        };
        let (cell, opened) = self.open_with(now, name, claim, core)?;
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

    /// The room of this name, opened if joining would open it: who broadcasts may be there first.
    ///
    /// # Errors
    /// `room_not_found`, `limit_exceeded`, `server_shutdown`.
    pub fn open_for_broadcast(&self, now: Instant, name: &str) -> Result<RoomId, ErrorReply> {
        if self.cell(name).is_none() && self.auto_create && !self.is_draining() {
            let (cell, _) =
                self.open_with(now, name, &RoomClaim::default(), self.for_broadcast())?;
            let id = cell.lock().room.id();
            return Ok(id);
        }
        let cell = self.cell_to_join(now, name, &RoomClaim::default())?;
        let id = cell.lock().room.id();
        Ok(id)
    }

    /// A track of a room: the room's id, and whether it has pictures.
    pub fn track(&self, name: &str, track: TrackId) -> Option<(RoomId, bool)> {
        let cell = self.cell(name)?;
        let occupied = cell.lock();
        let has_video = occupied.room.has_pictures(track)?;
        Some((occupied.room.id(), has_video))
    }

    /// Says who gets a room's media beside those who are in it.
    pub fn set_outside(&self, now: Instant, room: RoomId, outside: Outside) {
        let cell = self.directory().by_id.get(&room).cloned();
        if let Some(cell) = cell {
            let mut occupied = cell.lock();
            occupied.room.set_outside(now, outside);
            self.carry_out(&mut occupied);
        }
    }

    /// TURN servers for someone who is in a room now; `None` when nobody of that identity is.
    pub fn ice_servers(
        &self,
        name: &str,
        identity: &str,
        (reached, now_s): (Option<IpAddr>, u64),
    ) -> Option<Vec<IceServer>> {
        let occupied = self.cell(name)?;
        let participant = occupied.lock().room.participant_of(identity)?;
        let turn = self.turn.as_ref();
        let servers = turn.map(|turn| turn.ice_servers(participant, identity, reached, now_s));
        Some(servers.unwrap_or_default())
    }

    /// TURN servers for a client of another application, in mode `relay`.
    pub fn shared_ice_servers(
        &self,
        label: &str,
        (reached, now_s): (Option<IpAddr>, u64),
    ) -> Option<Vec<IceServer>> {
        self.turn
            .as_ref()?
            .shared_ice_servers(label, reached, now_s)
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
}
