//! Wanted versus is: which slots carry which tracks, in which layer, and who is told.

use std::time::Instant;

use crate::peer::Peer;
use crate::publisher::track::Track;
use crate::room::Sink;
use crate::sfu::{Event, Kind, Slot as SlotInfo, Source, Wants};
use crate::shard::{Shard, touch};
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
        let Some(peer) = self.peers.get(key).filter(|peer| peer.grants.subscribe) else {
            return Vec::new();
        };
        let Some(room) = self.rooms.get(peer.room) else {
            return Vec::new();
        };
        let program = match peer.subscriber.wants {
            Wants::Program => self.program(peer.room, key),
            _ => Vec::new(),
        };
        let audible = usize::from(self.options.config.audio_slots_max);
        let loudest = room.speakers.loudest(audible);
        let mut rows: Vec<(u64, WantedRow)> = Vec::new();
        for &track_key in &room.tracks {
            let Some(track) = self.tracks.get(track_key) else {
                continue;
            };
            let is_program = program.contains(&track_key);
            if track.owner == key || !self.is_wanted(peer, track, is_program) {
                continue;
            }
            let weight = match track.kind {
                Kind::Audio => {
                    let place = loudest.iter().position(|speaker| *speaker == track.owner);
                    place.map_or(0, |place| (1000 - place.min(999)) as u64)
                }
                Kind::Video => {
                    let view = peer.subscriber.view(track.id);
                    let is_carried = peer.subscriber.slot_of(track_key).is_some();
                    u64::from(!view.paused) << 16
                        | u64::from(track.priority(view)) << 8
                        | u64::from(is_carried)
                }
            };
            let (kind, owner) = (track.kind, track.owner);
            let track = track_key;
            rows.push((weight, WantedRow { track, kind, owner }));
        }
        rows.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// Whether a peer wants a track: its own word counts, else what it joined for.
    fn is_wanted(&self, peer: &Peer, track: &Track, is_program: bool) -> bool {
        let by_default = || match &peer.subscriber.wants {
            Wants::All => true,
            Wants::Nothing => false,
            Wants::Program => is_program,
            Wants::Participant(identity) => {
                let owner = self.peers.get(track.owner);
                owner.is_some_and(|owner| owner.identity == *identity)
            }
        };
        peer.subscriber.choice(track.id).unwrap_or_else(by_default)
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
        touch(&mut self.touched, key, peer);
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
}
