//! Who speaks in a room on several shards: levels go to its home shard, which decides for all.

use std::time::Instant;

use crate::cascade::{News, SpeakerNews};
use crate::ids::{RoomId, TrackId};
use crate::room::Room;
use crate::sfu::Kind;
use crate::shard::Shard;

/// Speakers other shards are told of at a time; more than there are audio slots.
const SPEAKERS_MAX: usize = 64;
/// Speakers whose order matters: as many as are looked at before slots are given anew.
const SPEAKERS_FOLLOWED: usize = 4;

impl Shard {
    /// Tells the home shard of a continuation who makes sound here.
    pub(in crate::shard) fn tell_levels(&mut self, key: usize) {
        let Some(room) = self.rooms.get(key) else {
            return;
        };
        let (id, tracks) = (room.id, room.tracks.clone());
        let mut levels = Vec::new();
        for key in tracks {
            let track = self.tracks.get_mut(key);
            let Some(track) = track.filter(|t| t.mirror.is_none() && t.kind == Kind::Audio) else {
                continue;
            };
            let level = track.meter.take();
            if level > 0.0 && !track.muted {
                levels.push((track.id, level));
            }
        }
        levels.sort_by(|a, b| b.1.total_cmp(&a.1));
        levels.truncate(SPEAKERS_MAX);
        if let Some(home) = self.home_of(id) {
            self.cascades.tell(home, News::Levels { room: id, levels });
        }
    }

    /// Tells the other shards of a room who speaks, if anyone does.
    pub(in crate::shard) fn tell_speakers(&mut self, key: usize) {
        let Some(room) = self.rooms.get(key) else {
            return;
        };
        if room.parts.is_empty() || !self.is_home(room.id) {
            return;
        }
        let named = |peer: usize| self.peers.get(peer).map(|peer| peer.participant);
        let loudest = room.speakers.loudest(SPEAKERS_MAX);
        let news = SpeakerNews {
            room: room.id,
            dominant: room.speakers.dominant().and_then(named),
            loudest: loudest.into_iter().filter_map(named).collect(),
        };
        if !news.loudest.is_empty() {
            self.tell_parts(key, &News::Speakers(news));
        }
    }

    /// Another shard says who makes sound there.
    pub(in crate::shard) fn note_levels(
        &mut self,
        from: u16,
        room: RoomId,
        levels: &[(TrackId, f32)],
    ) {
        let key = self.room_keys.get(&room);
        let Some(room) = key.and_then(|key| self.rooms.get(*key)) else {
            return;
        };
        for track in &room.tracks {
            let track = self.tracks.get_mut(*track);
            let Some(track) = track.filter(|track| track.is_mirror_of(from)) else {
                continue;
            };
            let told = levels.iter().find(|(id, _)| *id == track.id);
            if let Some(mirror) = &mut track.mirror {
                mirror.level = told.map_or(0.0, |(_, level)| *level);
            }
        }
    }

    /// The home shard says who speaks.
    pub(in crate::shard) fn follow_home_speakers(
        &mut self,
        now: Instant,
        from: u16,
        news: &SpeakerNews,
    ) {
        let Some(&key) = self.room_keys.get(&news.room) else {
            return;
        };
        if news.room.shard() != usize::from(from) {
            return;
        }
        let known = |participant| {
            let here = self.peer_keys.get(&participant);
            here.or_else(|| self.cascades.guests.get(&participant))
                .copied()
        };
        let dominant = news.dominant.and_then(known);
        let loudest: Vec<usize> = news.loudest.iter().copied().filter_map(known).collect();
        let Some(room) = self.rooms.get_mut(key) else {
            return;
        };
        let present = |room: &Room| {
            let speakers = &room.speakers;
            (speakers.dominant(), speakers.loudest(SPEAKERS_FOLLOWED))
        };
        let before = present(room);
        room.speakers.follow(dominant, &loudest);
        if before != present(room) {
            self.follow_speakers(now, key);
        }
    }
}
