//! Beginning with a keyframe that came in before its subscriber did, instead of waiting for the next.

use std::time::Instant;

use slab::Slab;

use super::{Offered, Subscriber, VIDEO_QUEUE_MAX};
use crate::publisher::Received;
use crate::publisher::layer::HeadStart;
use crate::publisher::track::Track;
use crate::sfu::Kind;
use crate::subscriber::slot::{Action, Queued};

impl Subscriber {
    /// Queues, for every video that waits for its first picture, the last keyframe and all that
    /// followed it, where these are kept. Returns how many subscriptions began so.
    pub(crate) fn begin_with_kept(&mut self, now: Instant, tracks: &Slab<Track>) -> u64 {
        let mut begun = 0;
        for index in 0..self.slots.len() {
            let slot = self.slots.get(index);
            let slot = slot.filter(|slot| slot.kind == Kind::Video);
            let subscription = slot.and_then(|slot| slot.subscription.as_ref());
            let Some(key) = subscription.map(|subscription| subscription.track) else {
                continue;
            };
            let Some(track) = tracks.get(key) else {
                continue;
            };
            if let Some(start) = self.head_start(now, index, track) {
                self.queue_head_start(index, (key, track), start);
                begun += 1;
            }
        }
        begun
    }

    /// The best layer up to the target that a slot's track can begin with, as an encoding.
    ///
    /// `None` where something of the track went out on the slot already, or something else after
    /// the keyframe came in: timestamps would not advance as time does.
    fn head_start(&self, now: Instant, index: usize, track: &Track) -> Option<(usize, HeadStart)> {
        let slot = self.slots.get(index)?;
        let subscription = slot.subscription.as_ref().filter(|s| s.is_waiting)?;
        if subscription.held_until.is_some_and(|until| now < until) {
            return None;
        }
        let selector = &subscription.selector;
        let target = selector.target_layer();
        let target = target.filter(|_| selector.current().is_none())?;
        let room = VIDEO_QUEUE_MAX.saturating_sub(self.video_queue.len()) as u64;
        let last_sent = slot.last_sent().map(|last| last.arrival);
        let up_to_target = track.ranks().iter().take(usize::from(target) + 1);
        up_to_target.rev().find_map(|encoding| {
            let encoding = usize::from(*encoding);
            let start = track.encodings.get(encoding)?.layer.head_start(now)?;
            let fits = start.last - start.first < room;
            let follows = last_sent.is_none_or(|sent| sent <= start.arrival);
            (fits && follows).then_some((encoding, start))
        })
    }

    fn queue_head_start(
        &mut self,
        index: usize,
        (key, track): (usize, &Track),
        (encoding, start): (usize, HeadStart),
    ) {
        let Some(layer) = track.encodings.get(encoding).map(|e| &e.layer) else {
            return;
        };
        // A beginning that was given up may wait there still: nothing goes out twice.
        let is_its = |queued: &&mut Queued| usize::from(queued.lane.slot) == index;
        for waiting in self.video_queue.iter_mut().filter(is_its) {
            waiting.action = Action::Skip;
        }
        for sequence in start.first..=start.last {
            let Some(packet) = layer.ring.find(sequence) else {
                continue;
            };
            let received = Received {
                track: key,
                encoding,
                packet,
                is_keyframe: false,
                is_first: false,
                is_resorted: false,
            };
            if let Some(offered) = Offered::kept(track, &received) {
                self.select(index, &offered);
            }
        }
        self.note_news();
    }
}
