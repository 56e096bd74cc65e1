//! Tracks of this shard that others mirror: what they are told of them, and what they ask for.

use std::time::{Duration, Instant};

use crate::cascade::{ClockNews, News, TrackNews, TrackState};
use crate::ids::TrackId;
use crate::publisher::keyframes::Urgency;
use crate::publisher::mirror::Ask;
use crate::publisher::track::Track;
use crate::room::Room;
use crate::sfu::{Kind, Publish};
use crate::shard::Shard;

/// Between two looks at the bitrates of what other shards have: as often as layers are allocated.
const STATES_INTERVAL: Duration = Duration::from_millis(200);

impl Shard {
    /// Tells the other shards of a room.
    pub(super) fn tell_parts(&mut self, room: usize, news: &News) {
        let Some(room) = self.rooms.get(room) else {
            return;
        };
        for &part in &room.parts {
            self.cascades.tell(part, news.clone());
        }
    }

    fn has_parts(&self, room: usize) -> bool {
        let room = self.rooms.get(room);
        room.is_some_and(|room| !room.parts.is_empty())
    }

    /// Tells the other shards of a room about the tracks of a peer, as they are after an offer.
    pub(in crate::shard) fn tell_tracks_of(&mut self, now: Instant, peer: usize) {
        let Some(peer) = self
            .peers
            .get(peer)
            .filter(|peer| self.has_parts(peer.room))
        else {
            return;
        };
        let room = peer.room;
        let tracks: Vec<usize> = peer.publisher.sections.iter().map(|s| s.track).collect();
        for track in tracks {
            if let Some(news) = self.track_news(now, track) {
                self.tell_parts(room, &news);
            }
        }
    }

    /// Tells the other shards of a room how a track is at present.
    pub(in crate::shard) fn tell_state(&mut self, now: Instant, track: usize) {
        let Some(room) = self.tracks.get(track).map(|track| track.room) else {
            return;
        };
        if !self.has_parts(room) {
            return;
        }
        if let Some((id, state)) = self.own_state(now, track) {
            let state = Box::new(state);
            self.tell_parts(room, &News::State { track: id, state });
        }
    }

    /// Tells the other shards of a room that a track of this one ended.
    pub(in crate::shard) fn tell_unpublished(&mut self, track: &Track) {
        if track.mirror.is_none() {
            let news = News::Unpublished { track: track.id };
            self.tell_parts(track.room, &news);
        }
    }

    fn own_state(&mut self, now: Instant, track: usize) -> Option<(TrackId, TrackState)> {
        let track = self.tracks.get_mut(track)?;
        let is_own = track.mirror.is_none();
        is_own.then(|| (track.id, track.state(now)))
    }

    /// Everything about a track of this shard.
    pub(super) fn track_news(&mut self, now: Instant, key: usize) -> Option<News> {
        let (id, state) = self.own_state(now, key)?;
        let track = self.tracks.get(key)?;
        let owner = self.peers.get(track.owner)?;
        let section = owner.publisher.section_of(key)?;
        Some(News::Track(Box::new(TrackNews {
            room: self.rooms.get(track.room)?.id,
            participant: owner.participant,
            identity: owner.identity.clone(),
            id,
            kind: track.kind,
            publish: Publish {
                mid: section.mid,
                source: track.source,
                name: track.name.clone(),
                muted: track.muted,
                width: 0,
                height: 0,
                codec: None,
                stereo: false,
                dtx: false,
            },
            codecs: section.codecs.clone(),
            rids: section.rids.clone(),
            state,
        })))
    }

    /// Another shard wants these encodings of a track, and no others.
    pub(super) fn handle_wanted(&mut self, now: Instant, from: u16, id: TrackId, ask: Ask) {
        let Some(&key) = self.track_keys.get(&id) else {
            return;
        };
        let Some(track) = self.tracks.get(key).filter(|t| t.mirror.is_none()) else {
            return;
        };
        let encoding_count = track.encodings.len();
        let encodings = track.encodings.iter();
        let newest = encodings.map(|encoding| encoding.layer.ring.newest_sequence());
        let newest = newest.collect();
        let Some(room) = self.rooms.get_mut(track.room) else {
            return;
        };
        if !room.parts.contains(&from) {
            return;
        }
        let is_new = room.set_cascade(track.route, from, ask.encodings);
        let (track, number) = (id, ask.number);
        let news = News::Flows {
            track,
            number,
            newest,
        };
        self.cascades.tell(from, news);
        if is_new {
            for encoding in 0..encoding_count {
                if let Some(clock) = self.clock_news(key, encoding) {
                    self.cascades.tell(from, News::Clock(clock));
                }
            }
            if let Some((track, state)) = self.own_state(now, key) {
                let state = Box::new(state);
                self.cascades.tell(from, News::State { track, state });
            }
        }
    }

    pub(super) fn handle_keyframe_wanted(
        &mut self,
        now: Instant,
        id: TrackId,
        encodings: u8,
        urgency: Urgency,
    ) {
        let Some(&key) = self.track_keys.get(&id) else {
            return;
        };
        let Some(track) = self.tracks.get_mut(key).filter(|t| t.mirror.is_none()) else {
            return;
        };
        let mut asked = 0;
        for encoding in (0..8).filter(|bit| encodings >> bit & 1 == 1) {
            asked |= track.keyframes.request(now, encoding, urgency);
        }
        self.send_keyframe_requests(key, asked, urgency);
    }

    /// A publisher's clock was told: those who mirror the track follow it.
    pub(in crate::shard) fn tell_clock(&mut self, key: usize, encoding: usize) {
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        let Some(room) = self.rooms.get(track.room) else {
            return;
        };
        let shards: Vec<u16> = room.cascades(track.route).collect();
        for shard in shards {
            if let Some(clock) = self.clock_news(key, encoding) {
                self.cascades.tell(shard, News::Clock(clock));
            }
        }
    }

    fn clock_news(&self, key: usize, encoding: usize) -> Option<ClockNews> {
        let track = self.tracks.get(key)?;
        let (report, offset) = track.encodings.get(encoding)?.layer.clock()?;
        Some(ClockNews {
            track: track.id,
            report,
            encoding: u8::try_from(encoding).ok()?,
            offset,
        })
    }

    /// What the other shards of this shard's rooms are told now and then.
    pub(in crate::shard) fn tend_cascades(&mut self, now: Instant) {
        let is_shared = |room: &Room| !room.parts.is_empty();
        let shared = self.rooms.iter().filter(|(_, room)| is_shared(room));
        let tracks: Vec<usize> = shared.flat_map(|(_, room)| room.tracks.clone()).collect();
        if tracks.is_empty() {
            return;
        }
        self.look_back_at_mirrors(now, &tracks);
        if self.cascades.next_states.is_some_and(|at| at > now) {
            return;
        }
        self.cascades.next_states = Some(now + STATES_INTERVAL);
        for key in tracks {
            self.tell_bitrates(now, key);
        }
    }

    /// Tells those who have something of a video track what its layers cost at present.
    fn tell_bitrates(&mut self, now: Instant, key: usize) {
        let Some(track) = self.tracks.get(key).filter(|t| t.kind == Kind::Video) else {
            return;
        };
        let Some(room) = self.rooms.get(track.room) else {
            return;
        };
        let shards: Vec<u16> = room.cascades(track.route).collect();
        if shards.is_empty() {
            return;
        }
        if let Some((track, state)) = self.own_state(now, key) {
            for shard in shards {
                let state = Box::new(state.clone());
                self.cascades.tell(shard, News::State { track, state });
            }
        }
    }
}
