//! Panics, caught around the smallest unit that the work was for: a peer or a room.
//!
//! What nobody catches here is the shard's own and ends all of it; the driver then makes a new one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::ids::ParticipantId;
use crate::metrics::{DropReason, PanicUnit};
use crate::publisher::track::Track;
use crate::room::Room;
use crate::sfu::{Command, Event};
#[cfg(test)]
use crate::shard::Path;
use crate::shard::{Datagram, Shard};

/// Whom some work is for, by key; a panic in it ends that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// What a peer sent, its protocols' timers, what it is sent.
    Peer(usize),
    /// What concerns the others in its room too.
    Room(usize),
}

impl Shard {
    /// Works for a peer or a room; `None` after a panic, which has ended it and nothing else.
    pub(super) fn contain<R>(
        &mut self,
        now: Instant,
        unit: Unit,
        work: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        let worked = catch_unwind(AssertUnwindSafe(|| {
            #[cfg(test)]
            self.stumble(unit);
            work(self)
        }));
        if worked.is_err() {
            match unit {
                Unit::Peer(key) => self.end_peer_after_panic(now, key),
                Unit::Room(key) => self.end_room_after_panic(key),
            }
        }
        worked.ok()
    }

    /// Takes in a datagram; a panic ends the peer it came from.
    pub(super) fn contain_datagram(
        &mut self,
        now: Instant,
        datagram: &mut Datagram<'_>,
    ) -> Result<(), DropReason> {
        let path = datagram.path;
        let received = catch_unwind(AssertUnwindSafe(|| {
            #[cfg(test)]
            self.stumble_on(&path);
            self.receive(now, datagram)
        }));
        received.unwrap_or_else(|_| {
            match self.demux.peer_on(&path) {
                Some(key) => self.end_peer_after_panic(now, key),
                None => self.metrics.panicked(PanicUnit::Peer),
            }
            Ok(())
        })
    }

    /// The room a command is for, if it is there.
    pub(super) fn room_of(&self, command: &Command) -> Option<usize> {
        match command {
            // A room that cannot be made is nobody's yet.
            Command::CreateRoom { .. } => None,
            Command::CloseRoom { room }
            | Command::Join { room, .. }
            | Command::SendData { room, .. } => self.room_keys.get(room).copied(),
            Command::Leave { participant }
            | Command::Offer { participant, .. }
            | Command::RestartIce { participant, .. }
            | Command::Unpublish { participant, .. }
            | Command::Mute { participant, .. }
            | Command::Subscribe { participant, .. }
            | Command::View { participant, .. }
            | Command::SetGrants { participant, .. } => {
                let key = self.peer_keys.get(participant)?;
                Some(self.peers.get(*key)?.room)
            }
        }
    }

    fn end_peer_after_panic(&mut self, now: Instant, key: usize) {
        self.metrics.panicked(PanicUnit::Peer);
        let Some(peer) = self.peers.get(key) else {
            return;
        };
        let (participant, room) = (peer.participant, peer.room);
        tracing::error!(%participant, "a panic ended a peer");
        // Leaving concerns the room: should that panic as well, the room is what is broken.
        let left = self.contain(now, Unit::Room(room), |shard| shard.leave(now, participant));
        if left.is_some() {
            self.tell_ended(participant);
        }
    }

    /// Ends everyone in a room and leaves it empty: it is the service's to close.
    ///
    /// Nothing of the room's own is believed any more, so nobody leaves it in the usual way.
    fn end_room_after_panic(&mut self, key: usize) {
        self.metrics.panicked(PanicUnit::Room);
        let in_room = self.peers.iter().filter(|(_, peer)| peer.room == key);
        let peers: Vec<usize> = in_room.map(|(peer, _)| peer).collect();
        for peer in peers {
            self.discard_peer(peer);
        }
        let in_room = self.tracks.iter().filter(|(_, track)| track.room == key);
        let tracks: Vec<usize> = in_room.map(|(track, _)| track).collect();
        for track in tracks {
            if let Some(track) = self.tracks.try_remove(track) {
                self.track_keys.remove(&track.id);
            }
        }
        if let Some(room) = self.rooms.get_mut(key) {
            tracing::error!(room = %room.id, "a panic ended everyone in a room");
            let anew = Room::new(room.id, room.config.clone());
            let before = std::mem::replace(room, anew);
            self.reopen_room(&before);
        }
        let is_mirror = |(_, track): &(usize, &Track)| track.mirror.is_some();
        let mirrors = self.tracks.iter().filter(is_mirror).count();
        self.metrics.peers = self.peer_keys.len() as u64;
        self.metrics.tracks = (self.tracks.len() - mirrors) as u64;
        self.metrics.cascade_tracks = mirrors as u64;
    }

    fn discard_peer(&mut self, key: usize) {
        let Some(peer) = self.peers.try_remove(key) else {
            return;
        };
        let slots = peer.subscriber.slots.iter();
        let subscriptions = slots.filter(|slot| slot.subscription.is_some()).count();
        self.metrics.subscriptions -= (subscriptions as u64).min(self.metrics.subscriptions);
        self.demux.remove_peer(key);
        self.touched.retain(|other| *other != key);
        if peer.lives_on.is_some() {
            // Another shard's, where nothing broke: only what stood for it here is gone.
            self.forget_guest(peer.participant);
            return;
        }
        self.peer_keys.remove(&peer.participant);
        self.tell_ended(peer.participant);
    }

    /// Tells that a participant was ended; once, as long as nobody has taken that event.
    pub(super) fn tell_ended(&mut self, participant: ParticipantId) {
        let event = Event::ParticipantEnded { participant };
        if !self.events.contains(&event) {
            self.events.push_back(event);
        }
    }

    /// Panics once when a test wants this unit's work to.
    #[cfg(test)]
    fn stumble(&mut self, unit: Unit) {
        if self.stumbles.pop_if(|next| *next == unit).is_some() {
            panic!("as a bug would");
        }
    }

    #[cfg(test)]
    fn stumble_on(&mut self, path: &Path) {
        if let Some(key) = self.demux.peer_on(path) {
            self.stumble(Unit::Peer(key));
        }
    }
}

#[cfg(test)]
mod tests;
