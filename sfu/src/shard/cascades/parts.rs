//! On which shards a room is open: asking, being introduced, closing, beginning anew.

use std::time::Instant;

use crate::cascade::News;
use crate::ids::RoomId;
use crate::room::Room;
use crate::shard::Shard;

impl Shard {
    /// Whether this shard is where a room began.
    pub(in crate::shard) fn is_home(&self, room: RoomId) -> bool {
        room.shard() == usize::from(self.options.index)
    }

    /// A room was opened here: a continuation asks its home for the rest.
    pub(in crate::shard) fn ask_home(&mut self, room: RoomId) {
        if let Some(home) = self.home_of(room) {
            self.ask_part(room, home);
        }
    }

    /// Asks the homes that have not answered once more: a room may be continued before its home has it, which
    /// then says nothing.
    pub(in crate::shard) fn ask_homes_again(&mut self) {
        if self.metrics.cascade_rooms == 0 {
            return;
        }
        let rooms = self.rooms.iter();
        let is_waiting = |room: &Room| {
            let home = self.home_of(room.id)?;
            (!room.parts.contains(&home)).then_some((room.id, home))
        };
        let waiting: Vec<_> = rooms.filter_map(|(_, room)| is_waiting(room)).collect();
        for (room, home) in waiting {
            self.ask_part(room, home);
        }
    }

    /// The home shard of a room that is only continued here.
    pub(super) fn home_of(&self, room: RoomId) -> Option<u16> {
        let elsewhere = !self.is_home(room);
        u16::try_from(room.shard()).ok().filter(|_| elsewhere)
    }

    /// Asks another shard for its part of a room that is open here.
    pub(super) fn ask_part(&mut self, room: RoomId, shard: u16) {
        if self.room_keys.contains_key(&room) && shard != self.options.index {
            let is_answer = false;
            self.cascades.tell(shard, News::Opened { room, is_answer });
        }
    }

    pub(super) fn handle_opened(&mut self, now: Instant, from: u16, id: RoomId, is_answer: bool) {
        let key = self.room_keys.get(&id).copied();
        let Some((key, room)) = key.and_then(|key| Some((key, self.rooms.get_mut(key)?))) else {
            if is_answer {
                // It ended here before the answer came.
                self.cascades.tell(from, News::Closed { room: id });
            }
            return;
        };
        let is_new = !room.parts.contains(&from);
        if is_new {
            room.parts.push(from);
        }
        let (parts, tracks) = (room.parts.clone(), room.tracks.clone());
        if !is_answer {
            let is_answer = true;
            self.cascades.tell(
                from,
                News::Opened {
                    room: id,
                    is_answer,
                },
            );
            if self.is_home(id) {
                for shard in parts.into_iter().filter(|shard| *shard != from) {
                    self.cascades
                        .tell(from, News::Introduced { room: id, shard });
                }
            }
        }
        if is_new || !is_answer {
            for track in tracks {
                if let Some(news) = self.track_news(now, track) {
                    self.cascades.tell(from, news);
                }
            }
            self.tell_speakers(key);
        }
    }

    /// A room begins anew here: the other shards forget what it had here, and tell what they have.
    pub(in crate::shard) fn reopen_room(&mut self, before: &Room) {
        let id = before.id;
        let home = self.home_of(id).filter(|home| !before.parts.contains(home));
        for &shard in before.parts.iter().chain(&home) {
            self.cascades.tell(shard, News::Closed { room: id });
            self.ask_part(id, shard);
        }
    }

    /// Another shard began anew: nothing of it is left, here or there.
    pub(super) fn forget_shard(&mut self, now: Instant, shard: u16) {
        let rooms: Vec<usize> = self.rooms.iter().map(|(key, _)| key).collect();
        for key in rooms {
            let Some(room) = self.rooms.get(key) else {
                continue;
            };
            let (id, was_part) = (room.id, room.parts.contains(&shard));
            if was_part && self.drop_part(key, shard) {
                self.reconcile_room(now, key);
            }
            if was_part || self.home_of(id) == Some(shard) {
                self.ask_part(id, shard);
            }
        }
    }

    /// A room is open on another shard no more; true when that ended mirrors here.
    pub(super) fn drop_part(&mut self, key: usize, shard: u16) -> bool {
        let Some(room) = self.rooms.get_mut(key) else {
            return false;
        };
        room.parts.retain(|part| *part != shard);
        let mut ended = Vec::new();
        for &track_key in &room.tracks.clone() {
            match self.tracks.get(track_key) {
                Some(track) if track.is_mirror_of(shard) => ended.push(track_key),
                Some(track) => {
                    room.set_cascade(track.route, shard, 0);
                }
                None => {}
            }
        }
        for track in &ended {
            self.remove_track(*track);
        }
        !ended.is_empty()
    }

    /// Ends a continuation that nobody is in any more.
    pub(in crate::shard) fn close_if_left(&mut self, key: usize) {
        let Some(room) = self.rooms.get(key) else {
            return;
        };
        if room.peers.is_empty() && !self.is_home(room.id) {
            self.forget_room(key);
        }
    }

    /// Takes a room out, tells the other shards, and forgets what of them was here.
    pub(in crate::shard) fn forget_room(&mut self, key: usize) {
        let Some(room) = self.rooms.get(key) else {
            return;
        };
        let (id, tracks, mut told) = (room.id, room.tracks.clone(), room.parts.clone());
        told.extend(self.home_of(id).filter(|home| !told.contains(home)));
        for track in tracks {
            self.remove_track(track);
        }
        for shard in told {
            self.cascades.tell(shard, News::Closed { room: id });
        }
        self.rooms.try_remove(key);
        self.room_keys.remove(&id);
        match self.is_home(id) {
            true => self.metrics.rooms = self.metrics.rooms.saturating_sub(1),
            false => self.metrics.cascade_rooms = self.metrics.cascade_rooms.saturating_sub(1),
        }
    }
}
