//! Commands: who joins and leaves, what an offer becomes, what is published.

use std::time::Instant;

use crate::ids::{ParticipantId, RoomId, TrackId};
use crate::peer::ice::Credentials;
use crate::peer::{Peer, Timers};
use crate::publisher::{PublishedSection, Publisher};
use crate::room::Room;
use crate::sfu::{
    Command, Event, JoinOptions, MediaGrants, RoomConfig, Source, SubscribeChange, View, Wants,
};
use crate::shard::Shard;
use crate::shard::panics::Unit;
use crate::shard::reconcile::Announce;
use crate::subscriber::Subscriber;

impl Shard {
    /// Carries out one command; what comes of it is told by `poll_event`.
    ///
    /// A panic ends everyone in the room it was for and nothing else.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        let Some(room) = self.room_of(&command) else {
            return self.carry_out(now, command);
        };
        let (joining, closing) = match &command {
            Command::Join { participant, .. } => (Some(*participant), None),
            Command::CloseRoom { room } => (None, Some(*room)),
            _ => (None, None),
        };
        let done = self.contain(now, Unit::Room(room), |shard| shard.carry_out(now, command));
        if done.is_none() {
            // Who was not in yet is told as well, and the service knows this room no more.
            joining.into_iter().for_each(|who| self.tell_ended(who));
            let closed = closing.and_then(|room| self.room_keys.get(&room).copied());
            closed.into_iter().for_each(|key| self.forget_room(key));
        }
    }

    fn carry_out(&mut self, now: Instant, command: Command) {
        match command {
            Command::CreateRoom { room, config } => self.create_room(room, config),
            Command::CloseRoom { room } => self.close_room(now, room),
            Command::Join {
                room,
                participant,
                options,
            } => {
                self.join(now, room, participant, options);
            }
            Command::Leave { participant } => self.leave(now, participant),
            Command::Offer { participant, offer } => self.handle_offer(now, participant, &offer),
            Command::RestartIce {
                participant,
                ufrag,
                pwd,
            } => {
                let credentials = Credentials { ufrag, pwd };
                let fragment = self.restart_ice(participant, credentials);
                self.events.push_back(Event::IceRestarted {
                    participant,
                    fragment,
                });
            }
            Command::Unpublish { participant, track } => {
                self.unpublish_own(now, participant, track);
            }
            Command::Mute {
                participant,
                track,
                muted,
            } => {
                self.mute(now, participant, track, muted);
            }
            Command::Subscribe {
                participant,
                change,
            } => self.subscribe(now, participant, &change),
            Command::View {
                participant,
                track,
                view,
            } => self.set_view(now, participant, track, view),
            Command::SetGrants {
                participant,
                grants,
            } => self.set_grants(now, participant, grants),
            Command::SendData {
                room,
                to,
                except,
                channel,
                message,
            } => {
                let keys = self.receivers(room, to.as_deref(), except);
                keys.iter()
                    .for_each(|key| self.send_data(now, *key, channel, &message));
            }
        }
    }

    fn set_view(&mut self, now: Instant, participant: ParticipantId, track: TrackId, view: View) {
        let Some(&key) = self.peer_keys.get(&participant) else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(key) {
            peer.subscriber.set_view(track, view);
            peer.subscriber.note_news();
        }
        self.reconcile(now, key, Announce::Changes);
    }

    fn create_room(&mut self, id: RoomId, config: RoomConfig) {
        if !self.room_keys.contains_key(&id) {
            let key = self.rooms.insert(Room::new(id, config));
            self.room_keys.insert(id, key);
            match self.is_home(id) {
                true => self.metrics.rooms += 1,
                false => self.metrics.cascade_rooms += 1,
            }
            self.ask_home(id);
        }
    }

    fn close_room(&mut self, now: Instant, id: RoomId) {
        let Some(&key) = self.room_keys.get(&id) else {
            return;
        };
        let peers = self
            .rooms
            .get(key)
            .map_or_else(Vec::new, |room| room.peers.clone());
        let told = self.events.len();
        for peer in peers {
            if let Some(participant) = self.peers.get(peer).map(|peer| peer.participant) {
                self.leave(now, participant);
            }
        }
        // Nobody is left to be told: the service ends the sessions itself.
        self.events.truncate(told);
        // A continuation has ended with its last peer.
        if self.room_keys.contains_key(&id) {
            self.forget_room(key);
        }
    }

    fn join(
        &mut self,
        now: Instant,
        room: RoomId,
        participant: ParticipantId,
        options: JoinOptions,
    ) {
        let Some(&room) = self.room_keys.get(&room) else {
            self.events
                .push_back(Event::ParticipantEnded { participant });
            return;
        };
        if self.peer_keys.contains_key(&participant) {
            return;
        }
        let key = self.peers.insert(Peer {
            participant,
            room,
            lives_on: None,
            identity: options.identity,
            grants: options.grants,
            transport: None,
            publisher: Publisher::new(now),
            subscriber: Subscriber::new(now, options.wants),
            data_section: None,
            previous_ufrag: None,
            answer_count: 0,
            is_touched: false,
            has_new_timers: false,
            due: None,
            timers: Timers::default(),
        });
        self.peer_keys.insert(participant, key);
        if let Some(room) = self.rooms.get_mut(room) {
            room.peers.push(key);
        }
        self.metrics.peers = self.peer_keys.len() as u64;
        self.next_sweep.get_or_insert(now);
    }

    /// Ends a stay: its tracks, its subscriptions, its paths.
    pub(super) fn leave(&mut self, now: Instant, participant: ParticipantId) {
        let Some(key) = self.peer_keys.remove(&participant) else {
            return;
        };
        let Some(peer) = self.peers.get(key) else {
            return;
        };
        let room_key = peer.room;
        let tracks: Vec<usize> = peer.publisher.sections.iter().map(|s| s.track).collect();
        for track in tracks {
            self.remove_track(track);
        }
        self.drop_subscriptions(key);
        self.demux.remove_peer(key);
        if let Some(room) = self.rooms.get_mut(room_key) {
            room.peers.retain(|other| *other != key);
        }
        self.touched.retain(|other| *other != key);
        self.peers.try_remove(key);
        self.metrics.peers = self.peer_keys.len() as u64;
        self.close_if_left(room_key);
        self.reconcile_room(now, room_key);
    }

    /// Ends a track: nobody receives it any more, its number is free.
    pub(super) fn remove_track(&mut self, key: usize) {
        let Some(track) = self.tracks.try_remove(key) else {
            return;
        };
        self.track_keys.remove(&track.id);
        match track.mirror {
            None => self.metrics.tracks = self.metrics.tracks.saturating_sub(1),
            Some(_) => self.metrics.cascade_tracks = self.metrics.cascade_tracks.saturating_sub(1),
        }
        self.tell_unpublished(&track);
        if let Some(owner) = self.peers.get_mut(track.owner) {
            for binding in owner.publisher.remove_track(key) {
                if let Some(transport) = &mut owner.transport {
                    transport.retire_source(binding.ssrc);
                }
            }
            let (participant, track_id) = (owner.participant, track.id);
            let room = self.rooms.get(track.room).map(|room| room.id);
            if let Some(room) = room.filter(|_| track.mirror.is_none()) {
                let track = track_id;
                self.events.push_back(Event::TrackUnpublished {
                    room,
                    participant,
                    track,
                });
            }
        }
        self.release_guest(track.owner);
        let Some(room) = self.rooms.get_mut(track.room) else {
            return;
        };
        room.tracks.retain(|other| *other != key);
        room.close_route(track.route);
        for peer in room.peers.clone() {
            if let Some(peer) = self.peers.get_mut(peer) {
                peer.subscriber.forget(track.id);
            }
        }
    }

    fn unpublish_own(&mut self, now: Instant, participant: ParticipantId, track: TrackId) {
        let Some(&key) = self.track_keys.get(&track) else {
            return;
        };
        let Some((owner, room)) = self.tracks.get(key).map(|t| (t.owner, t.room)) else {
            return;
        };
        if self
            .peers
            .get(owner)
            .is_some_and(|peer| peer.participant == participant)
        {
            self.remove_track(key);
            self.reconcile_room(now, room);
        }
    }

    fn mute(&mut self, now: Instant, participant: ParticipantId, track: TrackId, muted: bool) {
        let Some(&key) = self.track_keys.get(&track) else {
            return;
        };
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        let owner = self.peers.get(track.owner).map(|peer| peer.participant);
        if owner == Some(participant) && track.muted != muted {
            track.muted = muted;
            let room = track.room;
            self.refresh_track(now, key);
            self.reconcile_room(now, room);
        }
    }

    fn subscribe(&mut self, now: Instant, participant: ParticipantId, change: &SubscribeChange) {
        let Some(&key) = self.peer_keys.get(&participant) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        match change {
            SubscribeChange::All(all) => {
                peer.subscriber.clear_choices();
                peer.subscriber.wants = match all {
                    true => Wants::All,
                    false => Wants::Nothing,
                };
            }
            SubscribeChange::Tracks(tracks) => {
                for (track, wanted) in tracks {
                    peer.subscriber.choose(*track, *wanted);
                }
            }
        }
        self.reconcile(now, key, Announce::Changes);
    }

    fn set_grants(&mut self, now: Instant, participant: ParticipantId, grants: MediaGrants) {
        let Some(&key) = self.peer_keys.get(&participant) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        peer.grants = grants;
        let (room, grants) = (peer.room, &peer.grants);
        let denied = |section: &&PublishedSection| {
            let track = self.tracks.get(section.track);
            track.is_some_and(|track| !allows(grants, track.source))
        };
        let ended: Vec<usize> = peer
            .publisher
            .sections
            .iter()
            .filter(denied)
            .map(|s| s.track)
            .collect();
        for track in ended {
            self.remove_track(track);
        }
        self.reconcile_room(now, room);
    }
}

/// Whether these grants let someone publish this source.
pub(super) fn allows(grants: &MediaGrants, source: Source) -> bool {
    let sources = &grants.publish_sources;
    grants.publish && (sources.is_empty() || sources.contains(&source))
}
