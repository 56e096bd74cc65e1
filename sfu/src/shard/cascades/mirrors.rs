//! Tracks of other shards, mirrored here for the subscribers of this one.
//!
//! The other side of each is in `origins.rs`; the whole is described in `cascade.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::cascade::{ClockNews, News, Shipment, TrackNews, TrackState};
use crate::ids::{ParticipantId, TrackId};
use crate::metrics::{DropReason, PanicUnit};
use crate::peer::{Peer, Timers};
use crate::publisher::layer::StoredPacket;
use crate::publisher::mirror::{Ask, Mirror};
use crate::publisher::track::{Ownership, Track};
use crate::publisher::{PublishedSection, Publisher, Received};
use crate::room::Sink;
use crate::sfu::{MediaGrants, Wants};
use crate::shard::Shard;
use crate::shard::cascades::Cascades;
use crate::subscriber::Subscriber;
use crate::subscriber::subscription::Subscription;

/// Between two looks back at what was wanted of mirrors. Subscribers say it every 200 ms.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

impl Cascades {
    /// Notes what a subscription wants of a track; of a mirror, more than before is asked for at once.
    pub(in crate::shard) fn want(&mut self, subscription: &Subscription, track: &mut Track) {
        let selector = &subscription.selector;
        let layers = [
            selector.current(),
            selector.target_layer(),
            selector.needs_keyframe(),
        ];
        let encodings = track.encodings_of(layers.into_iter().flatten());
        let Some(mirror) = &mut track.mirror else {
            return;
        };
        if let Some(ask) = mirror.want(encodings) {
            let (shard, track) = (mirror.shard, track.id);
            self.ask(shard, track, ask);
        }
    }

    fn ask(&mut self, shard: u16, track: TrackId, Ask { encodings, number }: Ask) {
        let news = News::Wanted {
            track,
            encodings,
            number,
        };
        self.tell(shard, news);
    }
}

impl Shard {
    /// Takes in the packets another shard has for this one; what they cause to be sent waits for `flush`.
    ///
    /// A panic over a packet ends the mirror it was for and nothing else.
    pub fn handle_shipment(&mut self, now: Instant, shipment: &Shipment) {
        for shipped in shipment.packets_for(self.options.index) {
            let key = self.track_keys.get(&shipped.track).copied();
            let Some((key, packet)) = key.zip(shipment.stored(shipped)) else {
                // Sent before the other shard knew that this one wants it no more.
                self.metrics.dropped(DropReason::UnknownSource);
                continue;
            };
            let encoding = shipped.encoding;
            let taken = catch_unwind(AssertUnwindSafe(|| {
                self.mirror_packet(now, key, encoding, packet);
            }));
            if taken.is_err() {
                self.metrics.panicked(PanicUnit::Peer);
                tracing::error!(track = %shipped.track, "a panic ended a mirrored track");
                let room = self.tracks.get(key).map(|track| track.room);
                self.remove_track(key);
                room.into_iter()
                    .for_each(|room| self.reconcile_room(now, room));
            }
        }
    }

    fn mirror_packet(
        &mut self,
        now: Instant,
        key: usize,
        encoding: usize,
        packet: StoredPacket<'_>,
    ) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        let Some(mirror) = &mut track.mirror else {
            return;
        };
        let is_keyframe = packet.meta.descriptor.keyframe;
        if !mirror.expects(encoding, packet.meta.sequence, is_keyframe) {
            // From before it was wanted: a stream that began with it would have a hole.
            self.metrics.dropped(DropReason::UnknownSource);
            return;
        }
        let Some(mirrored) = track.encodings.get_mut(encoding) else {
            return;
        };
        let is_first = mirrored.layer.last_packet().is_none();
        let Some(id) = mirrored.mirror(packet) else {
            self.metrics.dropped(DropReason::Replay);
            return;
        };
        self.metrics.cascade_received_packets += 1;
        let received = Received {
            track: key,
            encoding,
            packet: id,
            is_keyframe,
            is_first,
            is_resorted: false,
        };
        self.offer(now, received);
    }

    /// Another shard has a track: mirrors it, or follows it when it is mirrored already.
    ///
    /// Returns the room it is new in, by key.
    pub(in crate::shard) fn mirror_track(
        &mut self,
        now: Instant,
        from: u16,
        news: &TrackNews,
    ) -> Option<usize> {
        let room_key = self.room_keys.get(&news.room).copied()?;
        let room = self.rooms.get_mut(room_key)?;
        if !room.parts.contains(&from) {
            return None;
        }
        if self.track_keys.contains_key(&news.id) {
            return self.follow_announced(now, from, news);
        }
        let route = room.open_route();
        let owner = self.guest(now, from, (room_key, news));
        let ownership = Ownership {
            id: news.id,
            room: room_key,
            owner,
            route,
        };
        let mut track = Track::new(ownership, news.kind, &news.publish, &news.rids);
        track.mirror = Some(Box::new(Mirror::new(from, &news.state)));
        track.follow(&news.state);
        let key = self.tracks.insert(track);
        self.track_keys.insert(news.id, key);
        if let Some(room) = self.rooms.get_mut(room_key) {
            room.tracks.push(key);
        }
        if let Some(owner) = self.peers.get_mut(owner) {
            owner.publisher.sections.push(mirrored_section(key, news));
        }
        self.metrics.cascade_tracks += 1;
        Some(room_key)
    }

    /// A mirrored track was announced again: its codecs and its state may be others.
    fn follow_announced(&mut self, now: Instant, from: u16, news: &TrackNews) -> Option<usize> {
        let key = self.track_keys.get(&news.id).copied()?;
        let track = self.tracks.get(key).filter(|t| t.is_mirror_of(from))?;
        let owner = self.peers.get_mut(track.owner)?;
        owner.publisher.sections.retain(|s| s.track != key);
        owner.publisher.sections.push(mirrored_section(key, news));
        self.follow_track(now, from, news.id, &news.state)
    }

    /// The peer that stands for a participant of another shard, made when it is new.
    fn guest(&mut self, now: Instant, from: u16, (room, news): (usize, &TrackNews)) -> usize {
        if let Some(&key) = self.cascades.guests.get(&news.participant) {
            return key;
        }
        let key = self.peers.insert(Peer {
            participant: news.participant,
            room,
            lives_on: Some(from),
            identity: news.identity.clone(),
            grants: MediaGrants::default(),
            transport: None,
            publisher: Publisher::new(now),
            subscriber: Subscriber::new(now, Wants::Nothing),
            data_section: None,
            previous_ufrag: None,
            answer_count: 0,
            is_touched: false,
            has_new_timers: false,
            due: None,
            timers: Timers::default(),
        });
        self.cascades.guests.insert(news.participant, key);
        self.next_sweep.get_or_insert(now);
        key
    }

    /// Forgets that a guest was here.
    pub(in crate::shard) fn forget_guest(&mut self, participant: ParticipantId) {
        self.cascades.guests.remove(&participant);
    }

    /// Lets go of a guest that has no tracks here any more.
    pub(in crate::shard) fn release_guest(&mut self, key: usize) {
        let is_over = |peer: &Peer| peer.lives_on.is_some() && peer.publisher.sections.is_empty();
        if let Some(guest) = self.peers.get(key).filter(|peer| is_over(peer)) {
            self.cascades.guests.remove(&guest.participant);
            self.peers.try_remove(key);
        }
    }

    /// A mirrored track changed on its own shard. Returns its room, by key, when that changes who wants it.
    pub(in crate::shard) fn follow_track(
        &mut self,
        now: Instant,
        from: u16,
        id: TrackId,
        state: &TrackState,
    ) -> Option<usize> {
        let key = self.track_keys.get(&id).copied()?;
        let track = self.tracks.get_mut(key).filter(|t| t.is_mirror_of(from))?;
        let was_muted = track.muted;
        let is_resorted = track.follow(state);
        let (room, is_muted) = (track.room, track.muted);
        if is_resorted {
            self.restart_selectors(key);
        }
        let track = self.tracks.get(key)?;
        if is_resorted || was_muted != is_muted || track.has_changed(now) {
            self.refresh_track(now, key);
        }
        (was_muted != is_muted).then_some(room)
    }

    /// A mirrored track ended on its own shard. Returns its room, by key.
    pub(in crate::shard) fn end_mirror(&mut self, from: u16, id: TrackId) -> Option<usize> {
        let key = self.track_keys.get(&id).copied()?;
        let track = self.tracks.get(key).filter(|t| t.is_mirror_of(from))?;
        let room = track.room;
        self.remove_track(key);
        Some(room)
    }

    /// What was asked for of a mirrored track comes from here on.
    pub(super) fn note_flow(
        &mut self,
        from: u16,
        id: TrackId,
        number: u32,
        newest: &[Option<u64>],
    ) {
        let key = self.track_keys.get(&id);
        let track = key.and_then(|key| self.tracks.get_mut(*key));
        let mirror = track.and_then(|track| track.mirror.as_mut());
        if let Some(mirror) = mirror.filter(|mirror| mirror.shard == from) {
            mirror.flows(number, newest);
        }
    }

    pub(in crate::shard) fn follow_clock(&mut self, from: u16, clock: &ClockNews) {
        let Some(&key) = self.track_keys.get(&clock.track) else {
            return;
        };
        let track = self.tracks.get_mut(key);
        let Some(track) = track.filter(|track| track.is_mirror_of(from)) else {
            return;
        };
        if let Some(encoding) = track.encodings.get_mut(usize::from(clock.encoding)) {
            encoding.layer.handle_sender_report(clock.report);
            encoding.layer.follow_clock(clock.offset, 0);
        }
    }

    /// Asks for less of the mirrors among these tracks when nobody wants it any more.
    pub(in crate::shard) fn look_back_at_mirrors(&mut self, now: Instant, tracks: &[usize]) {
        let is_due = self.cascades.next_look.is_none_or(|at| at <= now);
        if is_due {
            self.cascades.next_look = Some(now + LOOK_INTERVAL);
        }
        for &key in tracks {
            let Some(track) = self.tracks.get_mut(key) else {
                continue;
            };
            let room = self.rooms.get(track.room);
            let sinks: &[Sink] = room.map_or(&[], |room| room.sinks(track.route));
            let Some(mirror) = &mut track.mirror else {
                continue;
            };
            let is_left = sinks.is_empty() && mirror.is_asked_for();
            if !is_due && !is_left {
                continue;
            }
            if let Some(ask) = mirror.look_back(!sinks.is_empty()) {
                for (at, encoding) in track.encodings.iter_mut().enumerate() {
                    if !mirror.is_flowing(at) {
                        encoding.layer.forget_keyframe();
                    }
                }
                self.cascades.ask(mirror.shard, track.id, ask);
            }
        }
    }
}

/// The section a mirrored track is published on, as far as its subscribers need it.
fn mirrored_section(track: usize, news: &TrackNews) -> PublishedSection {
    PublishedSection {
        mid: news.publish.mid,
        track,
        codecs: news.codecs.clone(),
        extensions: Vec::new(),
        rids: news.rids.clone(),
    }
}
