//! Beginning with a keyframe that came in before its subscriber did, instead of waiting for the next.

use std::time::Instant;

use slab::Slab;

use super::{Offered, Subscriber, VIDEO_QUEUE_MAX};
use crate::publisher::Received;
use crate::publisher::layer::HeadStart;
use crate::publisher::track::Track;
use crate::sfu::Kind;

/// What became of the kept keyframes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeptStarts {
    /// Subscriptions that began.
    pub(crate) begun: u64,
    /// When the first of those begins that may not yet.
    pub(crate) next: Option<Instant>,
}

impl Subscriber {
    /// Queues, for every video that waits for its first picture, the last keyframe and all that
    /// followed it, where these are kept.
    pub(crate) fn begin_with_kept(&mut self, now: Instant, tracks: &Slab<Track>) -> KeptStarts {
        let mut starts = KeptStarts::default();
        for index in 0..self.slots.len() {
            let Some((key, at)) = self.waiting_video(now, index) else {
                self.set_has_start(index, false);
                continue;
            };
            let found = tracks.get(key).and_then(|track| {
                let (encoding, start) = self.head_start(at, index, track)?;
                Some((track, encoding, start))
            });
            self.set_has_start(index, found.is_some() && at > now);
            match found {
                Some(_) if at > now => {
                    starts.next = Some(starts.next.map_or(at, |next| next.min(at)));
                }
                Some((track, encoding, start)) => {
                    self.queue_head_start(index, (key, track), (encoding, start));
                    starts.begun += 1;
                }
                None => {}
            }
        }
        starts
    }

    fn set_has_start(&mut self, index: usize, has_start: bool) {
        let slot = self.slots.get_mut(index);
        if let Some(subscription) = slot.and_then(|slot| slot.subscription.as_mut()) {
            subscription.has_start = has_start;
        }
    }

    /// The track of a video slot nothing was sent of yet, and when it may begin.
    fn waiting_video(&self, now: Instant, index: usize) -> Option<(usize, Instant)> {
        let slot = self.slots.get(index)?;
        let subscription = slot.subscription.as_ref()?;
        (slot.kind == Kind::Video && subscription.is_waiting).then(|| {
            let at = slot.ready_at.map_or(now, |ready| ready.max(now));
            (subscription.track, at)
        })
    }

    /// The best layer up to the target that a slot's track can begin with, as an encoding.
    ///
    /// `None` where something of the track waits to go out already, or what went out on the slot is
    /// not older than the keyframe: timestamps would not advance as time does.
    fn head_start(&self, at: Instant, index: usize, track: &Track) -> Option<(usize, HeadStart)> {
        let slot = self.slots.get(index)?;
        let selector = &slot.subscription.as_ref()?.selector;
        let target = selector.target_layer();
        let target = target.filter(|_| selector.current().is_none())?;
        let room = VIDEO_QUEUE_MAX.saturating_sub(self.video_queue.len()) as u64;
        let up_to_target = track.ranks().iter().take(usize::from(target) + 1);
        up_to_target.rev().find_map(|encoding| {
            let encoding = usize::from(*encoding);
            let start = track.encodings.get(encoding)?.layer.head_start(at)?;
            let fits = start.last - start.first < room;
            let follows = slot.last_sent().is_none_or(|last| {
                let is_same = last.track == track.id && last.encoding == encoding;
                last.arrival < start.arrival && (!is_same || last.timestamp_in < start.timestamp)
            });
            (fits && follows).then_some((encoding, start))
        })
    }

    fn queue_head_start(
        &mut self,
        index: usize,
        (key, track): (usize, &Track),
        (encoding, start): (usize, HeadStart),
    ) {
        let ring = track.encodings.get(encoding).map(|e| &e.layer.ring);
        let Some(packet) = ring.and_then(|ring| ring.find(start.first)) else {
            return;
        };
        let received = Received {
            track: key,
            encoding,
            packet,
            is_keyframe: false,
            is_first: false,
            is_resorted: false,
        };
        let Some(offered) = Offered::kept(track, &received) else {
            return;
        };
        if let Some(begun) = self.select(index, &offered) {
            self.queue_rest(begun, &offered, start.first + 1..start.last + 1);
        }
    }
}
