//! Wanted versus is: which slots carry which tracks, in which layer, and who is told.

use std::time::Instant;

use bytes::Bytes;

use crate::ids::ParticipantId;
use crate::publisher::keyframes::Urgency;
use crate::room::Sink;
use crate::sfu::{DataChannel, Event, Kind, Slot as SlotInfo, Source, StreamState, Wants};
use crate::shard::{Shard, touch};
use crate::subscriber::allocator::{Allocation, Request, allocate};
use crate::subscriber::assignment::{SlotRow, WantedRow, assign};
use crate::subscriber::subscription::Subscription;

/// Who hears about changed slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announce {
    /// The participant, by `SlotsChanged`.
    Changes,
    /// Nobody: the answer under way lists all slots.
    Nothing,
}

/// Slots to ask for beyond those needed now, so that the next few tracks find one.
const SPARE_SLOTS: u16 = 2;

impl Shard {
    /// Reconciles everyone in a room.
    pub(super) fn reconcile_room(&mut self, now: Instant, room: usize) {
        let peers = self
            .rooms
            .get(room)
            .map_or_else(Vec::new, |room| room.peers.clone());
        for key in peers {
            self.reconcile(now, key, Announce::Changes);
        }
    }

    /// Gives a subscriber's slots to the tracks it wants; safe to call at any time.
    pub(super) fn reconcile(&mut self, now: Instant, key: usize, announce: Announce) {
        let wanted = self.wanted(key);
        let Some(peer) = self.peers.get(key) else {
            return;
        };
        let rows: Vec<SlotRow> = peer
            .subscriber
            .slots
            .iter()
            .map(|slot| SlotRow {
                kind: slot.kind,
                place: slot.place,
                track: slot
                    .subscription
                    .as_ref()
                    .map(|subscription| subscription.track),
            })
            .collect();
        let assigned = assign(&rows, &wanted);
        let mut changed = Vec::new();
        for (index, (row, track)) in rows.iter().zip(&assigned).enumerate() {
            // A key may stand for a newer track by now: the id tells.
            if row.track != *track || self.is_stale(key, index) {
                self.repoint(now, key, index, *track);
                changed.push(index);
            }
        }
        if announce == Announce::Changes {
            self.tell_slots(key, &changed);
            self.ask_for_slots(key, &wanted);
        }
        self.allocate(now, key);
    }

    fn is_stale(&self, key: usize, slot: usize) -> bool {
        let slot = self
            .peers
            .get(key)
            .and_then(|peer| peer.subscriber.slots.get(slot));
        let Some(subscription) = slot.and_then(|slot| slot.subscription.as_ref()) else {
            return false;
        };
        self.tracks
            .get(subscription.track)
            .is_none_or(|track| track.id != subscription.id)
    }

    /// The tracks a subscriber wants, most important first.
    fn wanted(&self, key: usize) -> Vec<WantedRow> {
        let Some(peer) = self.peers.get(key) else {
            return Vec::new();
        };
        let Some(room) = self.rooms.get(peer.room) else {
            return Vec::new();
        };
        if !peer.grants.subscribe {
            return Vec::new();
        }
        let program = match peer.subscriber.wants {
            Wants::Program => self.program(peer.room, key),
            _ => Vec::new(),
        };
        let loudest = room
            .speakers
            .loudest(usize::from(self.options.config.audio_slots_max));
        let mut rows: Vec<(u64, WantedRow)> = Vec::new();
        for &track_key in &room.tracks {
            let Some(track) = self.tracks.get(track_key) else {
                continue;
            };
            let owner = self
                .peers
                .get(track.owner)
                .map(|owner| owner.identity.as_str());
            let by_default = match &peer.subscriber.wants {
                Wants::All => true,
                Wants::Nothing => false,
                Wants::Program => program.contains(&track_key),
                Wants::Participant(identity) => owner == Some(identity),
            };
            let is_wanted = peer.subscriber.choice(track.id).unwrap_or(by_default);
            if track.owner == key || !is_wanted {
                continue;
            }
            let view = peer.subscriber.view(track.id);
            let is_carried = peer.subscriber.slot_of(track_key).is_some();
            let weight = match track.kind {
                Kind::Audio => {
                    let place = loudest.iter().position(|speaker| *speaker == track.owner);
                    place.map_or(0, |place| 1000 - place.min(999)) as u64
                }
                Kind::Video => {
                    let by_source = if track.source == Source::ScreenShare {
                        200
                    } else {
                        100
                    };
                    let priority = if view.priority == 0 {
                        by_source
                    } else {
                        view.priority
                    };
                    u64::from(!view.paused) << 16 | u64::from(priority) << 8 | u64::from(is_carried)
                }
            };
            rows.push((
                weight,
                WantedRow {
                    track: track_key,
                    kind: track.kind,
                    owner: track.owner,
                },
            ));
        }
        rows.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// The room's program for one viewer: one video, and the audio of the same participant.
    fn program(&self, room: usize, viewer: usize) -> Vec<usize> {
        let Some(room) = self.rooms.get(room) else {
            return Vec::new();
        };
        let tracks = || {
            let all = room.tracks.iter().rev();
            let known = all.filter_map(|key| Some((*key, self.tracks.get(*key)?)));
            known.filter(|(_, track)| track.owner != viewer && !track.muted)
        };
        let dominant = room.speakers.dominant();
        let mut videos = tracks().filter(|(_, track)| track.kind == Kind::Video);
        let video = videos
            .clone()
            .find(|(_, track)| track.source == Source::ScreenShare);
        let video = video
            .or_else(|| {
                videos
                    .clone()
                    .find(|(_, track)| Some(track.owner) == dominant)
            })
            .or_else(|| videos.next());
        let mut audios = tracks().filter(|(_, track)| track.kind == Kind::Audio);
        let owner = video.map(|(_, track)| track.owner).or(dominant);
        let audio = match owner {
            Some(owner) => audios.clone().find(|(_, track)| track.owner == owner),
            None => audios.next(),
        };
        video.into_iter().chain(audio).map(|(key, _)| key).collect()
    }

    /// Lets a slot carry another track, or none: routes, codecs, and a first keyframe.
    pub(super) fn repoint(&mut self, now: Instant, key: usize, index: usize, track: Option<usize>) {
        self.drop_sink(key, index);
        let Some(track_key) = track else {
            if let Some(slot) = self
                .peers
                .get_mut(key)
                .and_then(|p| p.subscriber.slots.get_mut(index))
            {
                slot.carry(None);
            }
            return;
        };
        let Some(track) = self.tracks.get(track_key) else {
            return;
        };
        let source = self
            .peers
            .get(track.owner)
            .and_then(|owner| owner.publisher.section_of(track_key))
            .map_or_else(Vec::new, |section| section.codecs.clone());
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let view = peer.subscriber.view(track.id);
        let Some(slot) = peer.subscriber.slots.get_mut(index) else {
            return;
        };
        let mut subscription = Subscription::new(track_key, track.id, view);
        subscription.map_codecs(&source, &slot.codecs);
        slot.carry(Some(subscription));
        peer.subscriber.note_news();
        peer.timers
            .reports
            .get_or_insert(now + super::ticks::REPORT_INTERVAL);
        peer.timers
            .allocation
            .get_or_insert(now + super::ticks::ALLOCATION_INTERVAL);
        touch(&mut self.touched, key, &mut peer.is_touched);
        if let Some(room) = self.rooms.get_mut(track.room) {
            room.add_sink(
                track.route,
                Sink::Subscription {
                    peer: key,
                    slot: index,
                },
            );
        }
        self.metrics.subscriptions += 1;
    }

    /// Takes a slot's sink out of its track's route.
    fn drop_sink(&mut self, key: usize, index: usize) {
        let Some(peer) = self.peers.get(key) else {
            return;
        };
        let Some(slot) = peer.subscriber.slots.get(index) else {
            return;
        };
        let Some(subscription) = &slot.subscription else {
            return;
        };
        self.metrics.subscriptions = self.metrics.subscriptions.saturating_sub(1);
        let Some(track) = self.tracks.get(subscription.track) else {
            return;
        };
        if track.id == subscription.id
            && let Some(room) = self.rooms.get_mut(track.room)
        {
            room.remove_sink(
                track.route,
                Sink::Subscription {
                    peer: key,
                    slot: index,
                },
            );
        }
    }

    /// Ends everything a peer receives.
    pub(super) fn drop_subscriptions(&mut self, key: usize) {
        let count = self
            .peers
            .get(key)
            .map_or(0, |peer| peer.subscriber.slots.len());
        for index in 0..count {
            self.drop_sink(key, index);
        }
    }

    /// What every slot of a peer carries.
    pub(super) fn slots_of(&self, key: usize) -> Vec<SlotInfo> {
        let Some(peer) = self.peers.get(key) else {
            return Vec::new();
        };
        peer.subscriber
            .slots
            .iter()
            .map(|slot| {
                let track = slot
                    .subscription
                    .as_ref()
                    .map(|subscription| subscription.id);
                let timestamp = track.map(|_| slot.next_timestamp());
                SlotInfo {
                    mid: slot.mid,
                    track,
                    timestamp,
                }
            })
            .collect()
    }

    fn tell_slots(&mut self, key: usize, changed: &[usize]) {
        if changed.is_empty() {
            return;
        }
        let all = self.slots_of(key);
        let slots = changed
            .iter()
            .filter_map(|index| all.get(*index).cloned())
            .collect();
        if let Some(participant) = self.peers.get(key).map(|peer| peer.participant) {
            self.events
                .push_back(Event::SlotsChanged { participant, slots });
        }
    }

    /// Asks a participant for more slots when it wants more tracks than it has slots for.
    fn ask_for_slots(&mut self, key: usize, wanted: &[WantedRow]) {
        let limits = (
            self.options.config.audio_slots_max,
            self.options.config.video_slots_max,
        );
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        // Who has one slot or two wants a program, not a room: WHEP never offers again.
        if peer.transport.is_none() || !matches!(peer.subscriber.wants, Wants::All | Wants::Nothing)
        {
            return;
        }
        let needed = |kind, limit: u16| {
            let slots = peer
                .subscriber
                .slots
                .iter()
                .filter(|slot| slot.kind == kind)
                .count();
            let rows = wanted.iter().filter(|row| row.kind == kind).count();
            let spare = if rows > slots { SPARE_SLOTS } else { 0 };
            let all = u16::try_from(rows.max(slots))
                .unwrap_or(limit)
                .saturating_add(spare);
            (all.min(limit), rows > slots)
        };
        let (audio, needs_audio) = needed(Kind::Audio, limits.0);
        let (video, needs_video) = needed(Kind::Video, limits.1);
        let (asked_audio, asked_video) = peer.subscriber.asked_slots;
        let is_new = (needs_audio && audio > asked_audio) || (needs_video && video > asked_video);
        if is_new {
            peer.subscriber.asked_slots = (audio.max(asked_audio), video.max(asked_video));
            let participant = peer.participant;
            self.events.push_back(Event::SlotsNeeded {
                participant,
                audio,
                video,
            });
        }
    }

    /// Shares a subscriber's estimate among its video, aims every subscription, asks for keyframes.
    pub(super) fn allocate(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        self.metrics.allocations += 1;
        let mut requests = Vec::new();
        for slot in peer
            .subscriber
            .slots
            .iter()
            .filter(|slot| slot.kind == Kind::Video)
        {
            let Some(subscription) = &slot.subscription else {
                continue;
            };
            let Some(track) = self.tracks.get_mut(subscription.track) else {
                continue;
            };
            let (layers, layer_count) = track.layer_options(now);
            let by_source = if track.source == Source::ScreenShare {
                200
            } else {
                100
            };
            let view = subscription.view;
            let priority = if view.priority == 0 {
                by_source
            } else {
                view.priority
            };
            requests.push(Request {
                view,
                layers,
                layer_count,
                priority,
            });
        }
        let mut allocations = Vec::new();
        allocate(
            peer.subscriber.estimator.estimate_bps(),
            &requests,
            &mut allocations,
        );
        let mut allocations = allocations.into_iter();
        for slot in &mut peer.subscriber.slots {
            let Some(subscription) = &mut slot.subscription else {
                continue;
            };
            let Some(track) = self.tracks.get_mut(subscription.track) else {
                continue;
            };
            subscription.allocation = match slot.kind {
                Kind::Audio if subscription.view.paused => {
                    Allocation::Paused(crate::sfu::PauseReason::View)
                }
                Kind::Audio => Allocation::Layer(0),
                Kind::Video => allocations.next().unwrap_or(Allocation::Layer(0)),
            };
            subscription.aim(track, now);
        }
        self.tell_streams(now, key);
        self.request_needed_keyframes(now, key);
    }

    /// Tells a subscriber what changed in what it receives.
    pub(super) fn tell_streams(&mut self, now: Instant, key: usize) {
        let _ = now;
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        peer.subscriber.take_news();
        let participant = peer.participant;
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
            let track = subscription.id;
            self.events.push_back(Event::StreamChanged {
                participant,
                track,
                state,
            });
        }
    }

    /// Asks the publishers for the keyframes a subscriber waits for.
    pub(super) fn request_needed_keyframes(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        if !peer
            .transport
            .as_ref()
            .is_some_and(|transport| transport.is_connected())
        {
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
            let (room, owner) = (track.room, track.owner);
            let room = self.rooms.get(room).map(|room| room.id);
            let participant = self.peers.get(owner).map(|peer| peer.participant);
            if let (Some(room), Some(participant)) = (room, participant) {
                self.events.push_back(Event::TrackChanged {
                    room,
                    participant,
                    track: info,
                });
            }
        }
        let Some(track) = self.tracks.get(track_key) else {
            return;
        };
        let Some(room) = self.rooms.get(track.room) else {
            return;
        };
        let sinks: Vec<Sink> = room.sinks(track.route).to_vec();
        for Sink::Subscription { peer, .. } in sinks {
            self.allocate(now, peer);
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

    /// Who gets a data message.
    pub(super) fn receivers(
        &self,
        room: usize,
        to: Option<&[ParticipantId]>,
        except: Option<ParticipantId>,
    ) -> Vec<usize> {
        let Some(room) = self.rooms.get(room) else {
            return Vec::new();
        };
        let is_meant = |key: &usize| {
            let participant = self.peers.get(*key).map(|peer| peer.participant);
            participant.is_some_and(|id| to.is_none_or(|to| to.contains(&id)) && except != Some(id))
        };
        room.peers.iter().copied().filter(is_meant).collect()
    }

    /// Sends one data message, or says that it cannot be sent that way.
    pub(super) fn send_data(
        &mut self,
        now: Instant,
        key: usize,
        channel: DataChannel,
        message: &Bytes,
    ) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let sent = match &mut peer.transport {
            Some(transport) => transport.send_data(channel, message),
            None => Err(crate::peer::sctp::SendError::NotOpen),
        };
        let participant = peer.participant;
        match sent {
            Ok(()) => self.drain_transport(now, key),
            Err(crate::peer::sctp::SendError::NotOpen) => {
                let message = message.clone();
                self.events.push_back(Event::DataUndelivered {
                    participant,
                    message,
                });
            }
            Err(_) => self.metrics.dropped(crate::metrics::DropReason::QueueFull),
        }
    }
}
