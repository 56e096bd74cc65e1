//! What a peer receives: its slots, the queue in front of them, the estimate behind them.

pub(crate) mod allocator;
pub(crate) mod assignment;
pub(crate) mod estimator;
mod head_start;
mod pacer;
pub(crate) mod rewriter;
pub(crate) mod selector;
mod sent;
pub(crate) mod slot;
pub(crate) mod subscription;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::ids::TrackId;
use crate::metrics::{DropReason, Metrics};
use crate::peer::srtp::SendContext;
use crate::publisher::Received;
use crate::publisher::layer::PacketId;
use crate::publisher::track::Track;
use crate::sfu::{Kind, View, Wants};
use crate::shard::{Arena, Path};
use crate::subscriber::estimator::Estimator;
use crate::subscriber::pacer::Pacer;
use crate::subscriber::selector::Selection;
use crate::subscriber::slot::{Action, Outgoing, Queued, Slot};

/// Video packets waiting for one subscriber: half a second of 6 Mbit/s.
const VIDEO_QUEUE_MAX: usize = 512;
/// Audio packets waiting for one subscriber: over a second of three speakers.
const AUDIO_QUEUE_MAX: usize = 256;
/// Packets of a new layer that may have overtaken its keyframe's first packet.
const OVERTAKEN_MAX: u64 = 64;
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
            estimator: Estimator::new(),
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
    pub(crate) fn offer(&mut self, index: usize, track: &Track, received: &Received) -> bool {
        let slot = self.slots.get(index);
        let subscription = slot.and_then(|slot| slot.subscription.as_ref());
        if subscription.is_none_or(|subscription| subscription.track != received.track) {
            return false;
        }
        let Some(action) = self.select(index, track, received.encoding, received.packet) else {
            return false;
        };
        if action == Action::Switch {
            self.has_news = true;
            self.queue_overtaken(index, track, received);
        }
        true
    }

    /// Lets a slot's selector decide about one packet of its track, and queues what it takes.
    fn select(
        &mut self,
        index: usize,
        track: &Track,
        encoding: usize,
        packet: PacketId,
    ) -> Option<Action> {
        let ring = &track.encodings.get(encoding)?.layer.ring;
        let (meta, payload, _) = ring.get(packet)?;
        let layer = u8::try_from(track.rank_of(encoding)).unwrap_or(0);
        let slot = self.slots.get_mut(index)?;
        let selector = &mut slot.subscription.as_mut()?.selector;
        let selection = match payload.is_empty() {
            true if selector.current() == Some(layer) => Selection::Drop,
            true => Selection::Ignore,
            false => selector.select(layer, &meta.descriptor),
        };
        let action = match selection {
            Selection::Forward => Action::Forward,
            Selection::Switch => Action::Switch,
            Selection::Drop => Action::Skip,
            Selection::Ignore => return None,
        };
        let queued = Queued {
            slot: index,
            generation: slot.generation,
            encoding,
            packet,
            action,
            marker: selector.marker(&meta.descriptor, meta.marker),
        };
        let kind = slot.kind;
        self.push(kind, queued);
        Some(action)
    }

    /// Queues what came before its layer's keyframe began but stands behind it.
    fn queue_overtaken(&mut self, index: usize, track: &Track, received: &Received) {
        let Some(encoding) = track.encodings.get(received.encoding) else {
            return;
        };
        let ring = &encoding.layer.ring;
        let Some((meta, ..)) = ring.get(received.packet) else {
            return;
        };
        let first = meta.sequence;
        if ring.newest_sequence().is_none_or(|newest| newest <= first) {
            return;
        }
        for sequence in first + 1..first + OVERTAKEN_MAX {
            let earlier = ring.find(sequence).filter(|id| *id < received.packet);
            if let Some(packet) = earlier {
                self.select(index, track, received.encoding, packet);
            }
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
            .filter(|waiting| waiting.slot == queued.slot)
        {
            waiting.action = Action::Skip;
        }
        let slot = self.slots.get_mut(queued.slot);
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
        let estimator = &mut self.estimator;
        let epoch = self.epoch;
        let mut out = Outgoing {
            now,
            path,
            protect,
            arena,
            estimator,
            epoch,
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
        while let Some(queued) = self.audio_queue.front() {
            if !send_queued(&mut self.slots, queued, tracks, &mut out) {
                return Flushed::ArenaFull;
            }
            self.audio_queue.pop_front();
        }
        while let Some(queued) = self.video_queue.front() {
            if !self.pacer.may_send() {
                return Flushed::Done;
            }
            if !send_queued(&mut self.slots, queued, tracks, &mut out) {
                return Flushed::ArenaFull;
            }
            self.pacer.sent();
            self.video_queue.pop_front();
        }
        Flushed::Done
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

/// Sends one queued packet; false when the arena is full.
fn send_queued(
    slots: &mut [Slot],
    queued: &Queued,
    tracks: &Slab<Track>,
    out: &mut Outgoing<'_>,
) -> bool {
    let Some(slot) = slots.get_mut(queued.slot) else {
        return true;
    };
    if slot.generation != queued.generation {
        return true;
    }
    let track = slot.subscription.as_ref().and_then(|s| tracks.get(s.track));
    let Some(track) = track else {
        out.metrics.dropped(DropReason::QueueFull);
        return true;
    };
    slot.send(queued, track, out)
}
