//! Layers: which each subscription gets, what its subscriber is told, and the keyframes it takes.

use std::time::{Duration, Instant};

use crate::peer::Peer;
use crate::peer::negotiation::{Format, NegotiatedCodec};
use crate::peer::transport::Transport;
use crate::publisher::keyframes::Urgency;
use crate::publisher::track::Track;
use crate::room::Sink;
use crate::sfu::{Codec, Event, Kind, PauseReason, StreamState, View};
use crate::shard::{Shard, touch};
use crate::subscriber::allocator::{Allocation, Request, allocate};
use crate::subscriber::head_start::KeptStarts;

/// From the end of our handshake to when a client has its keys in use; media it cannot read is lost.
const KEYS_TAKE: Duration = Duration::from_millis(50);

impl Shard {
    /// Shares a subscriber's estimate among its video, begins with keyframes that are kept, asks for
    /// those that are not.
    pub(super) fn allocate(&mut self, now: Instant, key: usize) {
        self.aim(now, key);
        self.begin_with_kept(now, key);
        self.tell_streams(key);
        self.request_needed_keyframes(now, key);
    }

    /// Shares a subscriber's estimate among its video and aims every subscription.
    fn aim(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        self.metrics.allocations += 1;
        let subscriber = &mut peer.subscriber;
        let mut requests = Vec::new();
        for slot in subscriber
            .slots
            .iter()
            .filter(|slot| slot.kind == Kind::Video)
        {
            if let Some(subscription) = &slot.subscription
                && let Some(track) = self.tracks.get_mut(subscription.track)
            {
                requests.push(request(track, subscription.view, now));
            }
        }
        let mut allocations = Vec::new();
        allocate(
            subscriber.estimator.estimate_bps(),
            &requests,
            &mut allocations,
        );
        let mut allocations = allocations.into_iter();
        for slot in &mut subscriber.slots {
            if let Some(subscription) = &mut slot.subscription
                && let Some(track) = self.tracks.get_mut(subscription.track)
            {
                subscription.allocation = match slot.kind {
                    Kind::Audio if subscription.view.paused => {
                        Allocation::Paused(PauseReason::View)
                    }
                    Kind::Audio => Allocation::Layer(0),
                    Kind::Video => allocations.next().unwrap_or(Allocation::Layer(0)),
                };
                subscription.aim(track, now);
                self.cascades.want(subscription, track);
            }
        }
    }

    /// Begins what can begin with a keyframe that is kept, as far as it may already.
    ///
    /// Every packet of the rings must have been offered: what is kept is queued.
    fn begin_with_kept(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        if !is_connected(peer) {
            return;
        }
        let KeptStarts { begun, next } = peer.subscriber.begin_with_kept(now, &self.tracks);
        self.metrics.kept_keyframe_starts += begun;
        if let Some(next) = next {
            let timer = peer.timers.allocation.get_or_insert(next);
            *timer = next.min(*timer);
        }
        if begun > 0 || next.is_some() {
            touch(&mut self.touched, key, peer);
        }
    }

    /// Tells a subscriber what changed in what it receives.
    pub(super) fn tell_streams(&mut self, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        peer.subscriber.take_news();
        let participant = peer.participant;
        let mut undecodable = Vec::new();
        for slot in &mut peer.subscriber.slots {
            let Some(subscription) = &mut slot.subscription else {
                continue;
            };
            let Some(track) = self.tracks.get(subscription.track) else {
                continue;
            };
            let state = subscription.state(track);
            if subscription.told == Some(state) {
                continue;
            }
            if matches!(
                (subscription.told, state),
                (Some(StreamState::Active { .. }), StreamState::Active { .. })
            ) {
                self.metrics.layer_switches += 1;
            }
            subscription.told = Some(state);
            let is_codec = matches!(
                state,
                StreamState::Paused {
                    reason: PauseReason::Codec
                }
            );
            if is_codec && slot.codecs.iter().any(|codec| codec.format == Format::Vp8) {
                undecodable.push(subscription.track);
            }
            let track = subscription.id;
            self.events.push_back(Event::StreamChanged {
                participant,
                track,
                state,
            });
        }
        for track in undecodable {
            self.ask_for_codec(track, Codec::Vp8);
        }
    }

    /// Asks a publisher, once for each track, for a codec that some subscriber needs: VP8, which every
    /// browser decodes, or H264, which broadcasts carry everywhere.
    pub(super) fn ask_for_codec(&mut self, track_key: usize, codec: Codec) {
        let Some(track) = self.tracks.get_mut(track_key) else {
            return;
        };
        let Some(owner) = self.peers.get(track.owner) else {
            return;
        };
        let section = owner.publisher.section_of(track_key);
        let is_it = |negotiated: &NegotiatedCodec| negotiated.codec() == Some(codec);
        let is_offered = section.is_some_and(|section| section.codecs.iter().any(is_it));
        if is_offered && track.wishes.asked.is_none() {
            track.wishes.asked = Some(codec);
            self.events.push_back(Event::CodecWanted {
                participant: owner.participant,
                track: track.id,
                codec,
            });
        }
    }

    /// Asks the publishers for the keyframes a subscriber waits for.
    pub(super) fn request_needed_keyframes(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        if !is_connected(peer) {
            return;
        }
        let mut needs = Vec::new();
        for slot in peer
            .subscriber
            .slots
            .iter_mut()
            .filter(|slot| slot.kind == Kind::Video)
        {
            let Some(subscription) = &mut slot.subscription else {
                continue;
            };
            if subscription.has_start {
                continue;
            }
            if let Some(layer) = subscription.take_keyframe_need(now) {
                let urgency = match subscription.is_waiting {
                    true => Urgency::Joiner,
                    false => Urgency::Viewer,
                };
                needs.push((subscription.track, layer, urgency));
            }
        }
        for (track, layer, urgency) in needs {
            self.request_keyframe(now, track, usize::from(layer), urgency);
        }
    }

    /// The transport came up: everything waits for a first keyframe.
    pub(super) fn request_first_keyframes(&mut self, now: Instant, key: usize) {
        if let Some(peer) = self.peers.get_mut(key) {
            for slot in &mut peer.subscriber.slots {
                slot.ready_at = Some(now + KEYS_TAKE);
                if let Some(subscription) = &mut slot.subscription {
                    subscription.renew_keyframe_need();
                }
            }
        }
        self.allocate(now, key);
    }

    /// A track's layers came, went or changed: everyone who receives it aims anew.
    pub(super) fn refresh_track(&mut self, now: Instant, track_key: usize) {
        let Some(track) = self.tracks.get_mut(track_key) else {
            return;
        };
        if track.take_change(now) {
            let info = track.info(now);
            let (room, owner, is_own) = (track.room, track.owner, track.mirror.is_none());
            let room = self.rooms.get(room).map(|room| room.id);
            let participant = self.peers.get(owner).map(|peer| peer.participant);
            // Of a mirror its own shard tells.
            let participant = participant.filter(|_| is_own);
            if let (Some(room), Some(participant)) = (room, participant) {
                self.events.push_back(Event::TrackChanged {
                    room,
                    participant,
                    track: info,
                });
            }
        }
        self.tell_state(now, track_key);
        let Some(track) = self.tracks.get(track_key) else {
            return;
        };
        let Some(room) = self.rooms.get(track.room) else {
            return;
        };
        let sinks: Vec<Sink> = room.sinks(track.route).to_vec();
        // The packet that brought this about is kept, and yet to be offered: nothing begins with it here.
        for sink in sinks {
            if let Sink::Subscription { peer, .. } = sink {
                self.aim(now, peer);
                self.tell_streams(peer);
                self.request_needed_keyframes(now, peer);
            }
        }
    }

    /// The layers of a track have other places now: every selector begins anew.
    pub(super) fn restart_selectors(&mut self, track_key: usize) {
        for (_, peer) in &mut self.peers {
            let slots = peer.subscriber.slots.iter_mut();
            let subscriptions = slots.filter_map(|slot| slot.subscription.as_mut());
            for subscription in subscriptions.filter(|s| s.track == track_key) {
                subscription.selector.restart();
                subscription.renew_keyframe_need();
            }
        }
    }
}

fn is_connected(peer: &Peer) -> bool {
    peer.transport.as_ref().is_some_and(Transport::is_connected)
}

/// What one subscription could get, as the allocator sees it.
fn request(track: &mut Track, view: View, now: Instant) -> Request {
    let (layers, layer_count) = track.layer_options(now);
    Request {
        view,
        layers,
        layer_count,
        priority: track.priority(view),
    }
}
