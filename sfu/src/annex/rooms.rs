//! In which rooms an annex is, and on which shards those are.

use crate::annex::{Annex, Heard};
use crate::cascade::News;
use crate::ids::{RoomId, TrackId};

/// A room an annex is in.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// The shards that said they have it open.
    pub(super) shards: Vec<u16>,
}

impl Annex {
    /// Enters a room: its tracks are told of from now on. A second time changes nothing.
    pub fn enter(&mut self, room: RoomId) {
        if self.rooms.contains_key(&room) {
            return;
        }
        self.rooms.insert(room, Part::default());
        if let Ok(home) = u16::try_from(room.shard()) {
            self.ask_part(room, home);
        }
    }

    /// Leaves a room: own tracks in it end, and nothing more of it is told.
    pub fn leave(&mut self, room: RoomId) {
        let own: Vec<TrackId> = self.own_in(room).collect();
        for track in own {
            self.unpublish(track);
        }
        let Some(part) = self.rooms.remove(&room) else {
            return;
        };
        self.listened.retain(|_, listened| listened.room != room);
        for shard in part.shards {
            self.tell(shard, News::Closed { room });
        }
    }

    /// Whether it is in a room.
    pub fn is_in(&self, room: RoomId) -> bool {
        self.rooms.contains_key(&room)
    }

    /// Asks the homes that have not answered once more: a room may be asked for before its home has it,
    /// which then says nothing. To be called now and then.
    pub(crate) fn ask_again(&mut self) {
        let is_waiting = |room: &RoomId, part: &Part| {
            let home = u16::try_from(room.shard()).ok();
            home.filter(|home| !part.shards.contains(home))
        };
        let rooms = self.rooms.iter();
        let waiting: Vec<(RoomId, u16)> = rooms
            .filter_map(|(room, part)| Some((*room, is_waiting(room, part)?)))
            .collect();
        for (room, home) in waiting {
            self.ask_part(room, home);
        }
    }

    /// Asks a shard for its part of a room.
    pub(super) fn ask_part(&mut self, room: RoomId, shard: u16) {
        if self.rooms.contains_key(&room) && shard != self.index {
            let is_answer = false;
            self.tell(shard, News::Opened { room, is_answer });
        }
    }

    pub(super) fn handle_opened(&mut self, from: u16, room: RoomId, is_answer: bool) {
        let Some(part) = self.rooms.get_mut(&room) else {
            if is_answer {
                // It was left before the answer came.
                self.tell(from, News::Closed { room });
            }
            return;
        };
        let is_new = !part.shards.contains(&from);
        if is_new {
            part.shards.push(from);
        }
        if !is_answer {
            let is_answer = true;
            self.tell(from, News::Opened { room, is_answer });
        }
        if is_new || !is_answer {
            let own: Vec<TrackId> = self.own_in(room).collect();
            for track in own {
                self.introduce(from, track);
            }
        }
    }

    /// A shard has a room open no more; the room has ended when that was its home.
    pub(super) fn handle_closed(&mut self, from: u16, room: RoomId) {
        self.drop_part(from, room);
        if usize::from(from) == room.shard() && self.rooms.contains_key(&room) {
            self.close(room);
        }
    }

    /// A room has ended, or never was.
    pub(super) fn close(&mut self, room: RoomId) {
        if self.rooms.contains_key(&room) {
            self.leave(room);
            self.heard.push_back(Heard::RoomClosed { room });
        }
    }

    /// A shard began anew: what it had is gone, and it knows nothing of this annex.
    pub(super) fn forget_shard(&mut self, shard: u16) {
        let rooms: Vec<RoomId> = self.rooms.keys().copied().collect();
        for room in rooms {
            let was_part = self.drop_part(shard, room);
            if was_part || room.shard() == usize::from(shard) {
                self.ask_part(room, shard);
            }
        }
    }

    /// Forgets what a shard had of a room; false when that was nothing.
    fn drop_part(&mut self, shard: u16, room: RoomId) -> bool {
        let Some(part) = self.rooms.get_mut(&room) else {
            return false;
        };
        let before = part.shards.len();
        part.shards.retain(|part| *part != shard);
        let was_part = part.shards.len() < before;
        let is_its = |listened: &super::Listened| listened.room == room && listened.shard == shard;
        let tracks = self.listened.iter();
        let ended: Vec<TrackId> = tracks
            .filter(|(_, listened)| is_its(listened))
            .map(|(id, _)| *id)
            .collect();
        for track in ended {
            self.listened.remove(&track);
            self.heard.push_back(Heard::Ended { track });
        }
        for own in self.own.values_mut().filter(|own| own.room == room) {
            own.unwant(shard);
        }
        was_part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cascade::Notice;

    #[test]
    fn a_home_that_does_not_know_the_room_yet_is_asked_until_it_does() {
        let mut annex = Annex::new(1);
        let room = RoomId::new(0, 5);
        annex.enter(room);
        for _ in 0..3 {
            let asked = annex.poll_notice();
            assert!(
                matches!(asked, Some((0, Notice(News::Opened { room: of, is_answer: false }))) if of == room),
                "{asked:?}"
            );
            assert!(annex.poll_notice().is_none());
            annex.ask_again();
        }
        annex.poll_notice();
        annex.handle_opened(0, room, true);
        annex.ask_again();
        assert!(annex.poll_notice().is_none());
    }
}
