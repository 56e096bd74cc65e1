//! What a peer receives: its slots, the queue in front of them, the estimate behind them.

pub(crate) mod allocator;
pub(crate) mod assignment;
pub(crate) mod estimator;
pub(crate) mod head_start;
mod pacer;
pub(crate) mod rewriter;
pub(crate) mod selector;
mod sent;
pub(crate) mod slot;
pub(crate) mod subscription;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::ids::TrackId;
use crate::metrics::{DropReason, Metrics};
use crate::peer::srtp::SendContext;
use crate::publisher::Received;
use crate::publisher::layer::{PacketId, PacketMeta, PacketRing};
use crate::publisher::track::Track;
use crate::sfu::{Kind, View, Wants};
use crate::shard::{Arena, Path};
use crate::subscriber::estimator::Estimator;
use crate::subscriber::pacer::Pacer;
use crate::subscriber::selector::Selection;
use crate::subscriber::slot::{Action, LaneId, Outgoing, Queued, Slot, abs_send_time};

/// Video packets waiting for one subscriber: half a second of 6 Mbit/s.
const VIDEO_QUEUE_MAX: usize = 512;
/// Audio packets waiting for one subscriber: over a second of three speakers.
const AUDIO_QUEUE_MAX: usize = 256;
/// Packets of a new layer that may have overtaken its keyframe's first packet: they go out in one burst.
const OVERTAKEN_MAX: usize = 64;
/// How far they may be ahead of it: what a layer's history holds.
const OVERTAKEN_REACH: u64 = 1024;
/// Packets one subscriber may ask for between two flushes.
const NACKS_MAX: usize = 1000;
/// Choices a subscriber may leave for tracks that do not exist (any more).
const CHOICES_MAX: usize = 1024;

/// How far a flush came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    Done,
    ArenaFull,
}

/// A packet on its way to the sinks of its track, with what all of them ask of it.
pub(crate) struct Offered<'a> {
    received: &'a Received,
    ring: &'a PacketRing,
    meta: &'a PacketMeta,
    /// The place of its encoding among the layers, 0 is the lowest.
    layer: u8,
    /// It is padding only.
    is_empty: bool,
    /// A stream can begin with it: a keyframe does, and not too much overtook it.
    is_start: bool,
    /// The latest packet of its layer to be queued behind it: later ones are still to be offered.
    latest: PacketId,
}

impl<'a> Offered<'a> {
    /// `None`: the packet is gone already.
    pub(crate) fn new(track: &'a Track, received: &'a Received) -> Option<Self> {
        let encoding = track.encodings.get(received.encoding)?;
        let ring = &encoding.layer.ring;
        let (meta, payload, _) = ring.get(received.packet)?;
        let layer = u8::try_from(track.rank_of(received.encoding)).unwrap_or(0);
        let is_keyframe = meta.descriptor.keyframe;
        Some(Self {
            received,
            ring,
            meta,
            layer,
            is_empty: payload.is_empty(),
            is_start: is_keyframe && overtaken(ring, meta.sequence).is_some(),
            latest: received.packet,
        })
    }

    /// A keyframe that all sinks of its track were offered before, and everything that followed it.
    fn kept(track: &'a Track, received: &'a Received) -> Option<Self> {
        let offered = Self::new(track, received)?;
        let is_start = offered.meta.descriptor.keyframe;
        Some(Self {
            is_start,
            latest: PacketId::MAX,
            ..offered
        })
    }
}

/// The receiving half of a peer.
pub(crate) struct Subscriber {
    pub(crate) slots: Vec<Slot>,
    pub(crate) wants: Wants,
    choices: HashMap<TrackId, bool>,
    views: HashMap<TrackId, View>,
    audio_queue: VecDeque<Queued>,
    video_queue: VecDeque<Queued>,
    /// Slots and sequence numbers to send again.
    nacked: VecDeque<(usize, u16)>,
    pub(crate) estimator: Estimator,
    pacer: Pacer,
    /// Round trip to the subscriber, by its receiver reports.
    pub(crate) rtt: Duration,
    /// Slots it was last asked to offer: audio, video.
    pub(crate) asked_slots: (u16, u16),
    epoch: Instant,
    has_news: bool,
    /// Packets given up because a queue was full, not yet counted.
    overflow: u64,
}

impl Subscriber {
    pub(crate) fn new(now: Instant, wants: Wants) -> Self {
        Self {
            slots: Vec::new(),
            wants,
            choices: HashMap::new(),
            views: HashMap::new(),
            audio_queue: VecDeque::new(),
            video_queue: VecDeque::new(),
            nacked: VecDeque::new(),
            estimator: Estimator::new(now),
            pacer: Pacer::new(now),
            rtt: RTT_INITIAL,
            asked_slots: (0, 0),
            epoch: now,
            has_news: false,
            overflow: 0,
        }
    }

    /// Queues a packet for a slot if its track's selector wants it. Called once per packet and sink.
    ///
    /// True: there is something to flush.
    pub(crate) fn offer(&mut self, index: usize, offered: &Offered<'_>) -> bool {
        let Some(queued) = self.select(index, offered) else {
            return false;
        };
        if queued.action == Action::Switch {
            let first = offered.meta.sequence;
            if let Some(numbers) = overtaken(offered.ring, first) {
                self.queue_rest(queued, offered, numbers);
            }
        }
        true
    }

    /// Lets a slot's selector decide about one packet of its track, and queues what it takes.
    fn select(&mut self, index: usize, offered: &Offered<'_>) -> Option<Queued> {
        let Offered {
            received,
            meta,
            layer,
            is_empty,
            is_start,
            ..
        } = *offered;
        let slot = self.slots.get_mut(index)?;
        let subscription = slot.subscription.as_mut()?;
        if subscription.track != received.track {
            return None;
        }
        let mut descriptor = meta.descriptor;
        descriptor.keyframe =
            is_start && subscription.has_not_passed(received.encoding, meta.sequence);
        let selector = &mut subscription.selector;
        let selection = match is_empty {
            true if selector.current() == Some(layer) => Selection::Drop,
            true => Selection::Ignore,
            false => selector.select(layer, &descriptor),
        };
        let action = match selection {
            Selection::Forward => Action::Forward,
            Selection::Switch => Action::Switch,
            Selection::Drop => Action::Skip,
            Selection::Ignore => return None,
        };
        let lane = LaneId {
            generation: slot.generation,
            slot: u16::try_from(index).unwrap_or(u16::MAX),
            encoding: u8::try_from(received.encoding).unwrap_or(u8::MAX),
        };
        let queued = Queued {
            packet: received.packet,
            lane,
            action,
            marker: selector.marker(&meta.descriptor, meta.marker),
        };
        let kind = slot.kind;
        subscription.note_passed(received.encoding, meta.sequence);
        self.push(kind, queued);
        self.has_news |= action == Action::Switch;
        Some(queued)
    }

    /// Queues what is kept of a layer's packets behind the keyframe that began it, but for those that
    /// are still to be offered.
    fn queue_rest(&mut self, begun: Queued, offered: &Offered<'_>, numbers: Range<u64>) {
        let Offered {
            received,
            ring,
            layer,
            latest,
            ..
        } = *offered;
        let lane = begun.lane;
        for sequence in numbers {
            let Some(packet) = ring.find(sequence).filter(|id| *id <= latest) else {
                continue;
            };
            let Some((meta, ..)) = ring.get(packet) else {
                continue;
            };
            let Some(slot) = self.slots.get_mut(usize::from(lane.slot)) else {
                return;
            };
            let Some(subscription) = &mut slot.subscription else {
                return;
            };
            let action = match subscription.selector.select(layer, &meta.descriptor) {
                Selection::Forward | Selection::Switch => Action::Forward,
                Selection::Drop => Action::Skip,
                Selection::Ignore => continue,
            };
            let marker = subscription.selector.marker(&meta.descriptor, meta.marker);
            subscription.note_passed(received.encoding, sequence);
            let kind = slot.kind;
            let queued = Queued {
                packet,
                lane,
                action,
                marker,
            };
            self.push(kind, queued);
        }
    }

    /// Adds to a queue; a full one gives up its stream's frames up to the next keyframe.
    fn push(&mut self, kind: Kind, queued: Queued) {
        let (queue, limit) = match kind {
            Kind::Audio => (&mut self.audio_queue, AUDIO_QUEUE_MAX),
            Kind::Video => (&mut self.video_queue, VIDEO_QUEUE_MAX),
        };
        if queue.len() < limit {
            queue.push_back(queued);
            return;
        }
        self.overflow += 1;
        // What is skipped has no number yet, so the receiver sees no hole, only a late keyframe.
        for waiting in queue
            .iter_mut()
            .filter(|waiting| waiting.lane.slot == queued.lane.slot)
        {
            waiting.action = Action::Skip;
        }
        let slot = self.slots.get_mut(usize::from(queued.lane.slot));
        if let Some(subscription) = slot.and_then(|slot| slot.subscription.as_mut()) {
            subscription.selector.restart();
            subscription.renew_keyframe_need();
        }
    }

    /// Sends what the queues hold, audio first, as far as pacing allows.
    pub(crate) fn flush(
        &mut self,
        now: Instant,
        tracks: &Slab<Track>,
        (path, protect, arena): (Path, &mut SendContext, &mut Arena),
        metrics: &mut Metrics,
    ) -> Flushed {
        metrics.dropped_many(DropReason::QueueFull, std::mem::take(&mut self.overflow));
        let estimate = self.estimator.estimate_bps();
        let send_time = abs_send_time(now, self.epoch);
        let estimator = &mut self.estimator;
        arena.aim(path);
        let mut out = Outgoing {
            now,
            send_time,
            protect,
            arena,
            estimator,
            metrics,
        };
        self.pacer.refill(now, estimate);
        while let Some(&(slot, sequence)) = self.nacked.front() {
            if out.arena.reserve().is_none() {
                return Flushed::ArenaFull;
            }
            resend(
                &mut self.slots,
                (slot, sequence),
                self.rtt,
                tracks,
                &mut out,
            );
            self.nacked.pop_front();
        }
        let (slots, pacer) = (&mut self.slots, &mut self.pacer);
        let audio = send_queue(&mut self.audio_queue, slots, tracks, None, &mut out);
        match audio {
            Flushed::ArenaFull => audio,
            Flushed::Done => {
                send_queue(&mut self.video_queue, slots, tracks, Some(pacer), &mut out)
            }
        }
    }

    /// Notes what a NACK asks for; the next flush answers. Returns how many packets.
    pub(crate) fn handle_nack(&mut self, media: u32, lost: impl Iterator<Item = u16>) -> u64 {
        let slot = self.slots.iter().position(|slot| slot.media.0 == media);
        let Some(slot) = slot else { return 0 };
        let room = NACKS_MAX.saturating_sub(self.nacked.len());
        let before = self.nacked.len();
        self.nacked
            .extend(lost.take(room).map(|sequence| (slot, sequence)));
        (self.nacked.len() - before) as u64
    }

    /// When the queue may go on; `None` while it is empty.
    pub(crate) fn next_send(&self) -> Option<Instant> {
        (!self.video_queue.is_empty()).then(|| self.pacer.next_send())
    }

    /// Forgets what waits: there is no way to send it.
    pub(crate) fn clear_queue(&mut self) {
        self.audio_queue.clear();
        self.video_queue.clear();
        for slot in &mut self.slots {
            if let Some(subscription) = &mut slot.subscription {
                subscription.selector.restart();
                subscription.renew_keyframe_need();
                subscription.forget_passed();
            }
        }
    }

    /// A selector switched since the last call of `take_news`.
    pub(crate) fn has_news(&self) -> bool {
        self.has_news
    }

    /// Marks what happened as told.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Notes that streams should be looked at: a subscription came, went or changed.
    pub(crate) fn note_news(&mut self) {
        self.has_news = true;
    }

    /// Whether the participant said yes or no to this track.
    pub(crate) fn choice(&self, track: TrackId) -> Option<bool> {
        self.choices.get(&track).copied()
    }

    /// Remembers a yes or no; false when too many are remembered.
    pub(crate) fn choose(&mut self, track: TrackId, wanted: bool) -> bool {
        let fits = self.choices.len() < CHOICES_MAX || self.choices.contains_key(&track);
        if fits {
            self.choices.insert(track, wanted);
        }
        fits
    }

    /// Forgets all yes and no.
    pub(crate) fn clear_choices(&mut self) {
        self.choices.clear();
    }

    /// How a track is shown.
    pub(crate) fn view(&self, track: TrackId) -> View {
        self.views.get(&track).copied().unwrap_or_default()
    }

    /// Remembers how a track is shown, and tells its subscription.
    pub(crate) fn set_view(&mut self, track: TrackId, view: View) {
        if self.views.len() < CHOICES_MAX || self.views.contains_key(&track) {
            self.views.insert(track, view);
        }
        let subscriptions = self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.subscription.as_mut());
        for subscription in subscriptions.filter(|subscription| subscription.id == track) {
            subscription.view = view;
            subscription.renew_keyframe_need();
        }
    }

    /// Forgets everything about a track that ended.
    pub(crate) fn forget(&mut self, track: TrackId) {
        self.choices.remove(&track);
        self.views.remove(&track);
    }

    /// The slot that carries this track.
    pub(crate) fn slot_of(&self, track: usize) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| slot.subscription.as_ref().is_some_and(|s| s.track == track))
    }
}

/// The numbers after a packet's that may have come in before it.
///
/// `None`: too many have. A stream that began with it and left some of them out would have a hole that no
/// loss made and nobody fills.
fn overtaken(ring: &PacketRing, first: u64) -> Option<Range<u64>> {
    let end = ring.newest_sequence().unwrap_or(first) + 1;
    let numbers = first + 1..end.max(first + 1);
    if end.saturating_sub(first) > OVERTAKEN_REACH {
        return None;
    }
    let here = numbers
        .clone()
        .filter(|number| ring.find(*number).is_some());
    (here.take(OVERTAKEN_MAX + 1).count() <= OVERTAKEN_MAX).then_some(numbers)
}

/// Before the first receiver report.
const RTT_INITIAL: Duration = Duration::from_millis(50);

/// Sends one packet again.
fn resend(
    slots: &mut [Slot],
    (slot, sequence): (usize, u16),
    rtt: Duration,
    tracks: &Slab<Track>,
    out: &mut Outgoing<'_>,
) {
    let Some(slot) = slots.get_mut(slot) else {
        return;
    };
    let track = slot.subscription.as_ref().and_then(|s| tracks.get(s.track));
    if let Some(track) = track {
        slot.resend(sequence, rtt, track, out);
    }
}

/// Sends what a queue holds, as far as arena and pacer allow.
fn send_queue(
    queue: &mut VecDeque<Queued>,
    slots: &mut [Slot],
    tracks: &Slab<Track>,
    mut pacer: Option<&mut Pacer>,
    out: &mut Outgoing<'_>,
) -> Flushed {
    while let Some(id) = queue.front().map(|queued| queued.lane) {
        let found = slots.get_mut(usize::from(id.slot)).and_then(|slot| {
            let lane = slot.lane(id, tracks)?;
            Some((slot, lane))
        });
        let Some((slot, mut lane)) = found else {
            out.metrics.dropped(DropReason::Replaced);
            queue.pop_front();
            continue;
        };
        while let Some(queued) = queue.front().filter(|queued| queued.lane == id) {
            if pacer.as_ref().is_some_and(|pacer| !pacer.may_send()) {
                return Flushed::Done;
            }
            let before = out.arena.used();
            if !slot.send(queued, &mut lane, out) {
                return Flushed::ArenaFull;
            }
            if let Some(pacer) = &mut pacer {
                pacer.sent(out.arena.used() - before);
            }
            queue.pop_front();
        }
    }
    Flushed::Done
}

#[cfg(test)]
mod tests;
