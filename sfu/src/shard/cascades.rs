//! A room on several shards as one of them sees it: whom it tells what, and what it gives them.
//!
//! What is told of tracks of this shard is in `cascades/origins.rs`, tracks of others are in
//! `cascades/mirrors.rs`; the whole is described in `cascade.rs`.

mod mirrors;
mod origins;
mod parts;
mod speakers;

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::cascade::{News, Notice, ShardSet, Shipment};
use crate::ids::ParticipantId;
use crate::metrics::{DropReason, PanicUnit};
use crate::publisher::Received;
use crate::publisher::layer::{PacketId, StoredPacket};
use crate::publisher::mirror::Ask;
use crate::shard::Shard;

/// Packets that wait for one turn's shipments; a receive batch has at most 64 runs of 64.
const OUTBOUND_MAX: usize = 4096;

/// What a shard keeps for the others.
#[derive(Default)]
pub(super) struct Cascades {
    notices: VecDeque<(u16, Notice)>,
    outbound: VecDeque<Outbound>,
    /// Peers that stand for participants of other shards.
    pub(super) guests: HashMap<ParticipantId, usize>,
    next_states: Option<Instant>,
    pub(super) next_look: Option<Instant>,
}

/// A packet for other shards, by reference into its ring.
struct Outbound {
    track: usize,
    encoding: usize,
    packet: PacketId,
    to: ShardSet,
}

impl Cascades {
    pub(super) fn tell(&mut self, to: u16, news: News) {
        self.notices.push_back((to, Notice(news)));
    }

    /// Keeps a packet for the next shipment; false when too many wait.
    pub(super) fn queue(&mut self, received: &Received, to: ShardSet) -> bool {
        let fits = self.outbound.len() < OUTBOUND_MAX;
        if fits {
            self.outbound.push_back(Outbound {
                track: received.track,
                encoding: received.encoding,
                packet: received.packet,
                to,
            });
        }
        fits
    }
}

impl Shard {
    /// What this shard has to tell another one: to which, and what. In order.
    pub fn poll_notice(&mut self) -> Option<(u16, Notice)> {
        self.cascades.notices.pop_front()
    }

    /// How many notices there are to poll.
    pub fn notice_count(&self) -> usize {
        self.cascades.notices.len()
    }

    /// True: packets wait for other shards; `poll_shipment` before they are overwritten.
    pub fn has_shipment(&self) -> bool {
        !self.cascades.outbound.is_empty()
    }

    /// Fills a shipment with what waits for other shards; false when there is nothing.
    pub fn poll_shipment(&mut self, shipment: &mut Shipment) -> bool {
        shipment.clear();
        while let Some(outbound) = self.cascades.outbound.front() {
            if shipment.is_full() {
                break;
            }
            let track = self.tracks.get(outbound.track);
            let found = track.and_then(|track| {
                let encoding = track.encodings.get(outbound.encoding)?;
                Some((track.id, encoding.layer.ring.get(outbound.packet)?))
            });
            match found {
                Some((id, (meta, payload, dependency_descriptor))) => {
                    let packet = StoredPacket {
                        meta: *meta,
                        payload,
                        dependency_descriptor,
                    };
                    shipment.push((id, outbound.encoding), outbound.to, packet);
                    self.metrics.cascade_packets += 1;
                }
                None => self.metrics.dropped(DropReason::CascadeFull),
            }
            self.cascades.outbound.pop_front();
        }
        !shipment.is_empty()
    }

    /// Takes in what another shard says, in order.
    ///
    /// A panic over a notice loses that notice and nothing else.
    pub fn handle_notices(
        &mut self,
        now: Instant,
        from: u16,
        notices: impl IntoIterator<Item = Notice>,
    ) {
        // A hundred tracks that come at once are one change to those who want them.
        let mut changed: Vec<usize> = Vec::new();
        for Notice(news) in notices {
            let room = self.contain_news(|shard| shard.handle_news(now, from, news));
            changed.extend(room.flatten().filter(|room| !changed.contains(room)));
        }
        for room in changed {
            self.contain_news(|shard| shard.reconcile_room(now, room));
        }
    }

    /// A shard made anew would be told the same again: what panics over it must not end a shard.
    fn contain_news<R>(&mut self, handle: impl FnOnce(&mut Self) -> R) -> Option<R> {
        let handled = catch_unwind(AssertUnwindSafe(|| handle(self)));
        if handled.is_err() {
            self.metrics.panicked(PanicUnit::Room);
            tracing::error!("a panic over what another shard said");
        }
        handled.ok()
    }

    /// Returns the room whose tracks are others now, by key.
    fn handle_news(&mut self, now: Instant, from: u16, news: News) -> Option<usize> {
        match news {
            News::Restarted => self.forget_shard(now, from),
            News::Opened { room, is_answer } => self.handle_opened(now, from, room, is_answer),
            News::Introduced { room, shard } => self.ask_part(room, shard),
            News::Closed { room } => {
                let key = self.room_keys.get(&room).copied()?;
                return self.drop_part(key, from).then_some(key);
            }
            News::Track(track) => return self.mirror_track(now, from, &track),
            News::State { track, state } => return self.follow_track(now, from, track, &state),
            News::Unpublished { track } => return self.end_mirror(from, track),
            News::Wanted {
                track,
                encodings,
                number,
            } => self.handle_wanted(now, from, track, Ask { encodings, number }),
            News::Flows {
                track,
                number,
                newest,
            } => self.note_flow(from, track, number, &newest),
            News::KeyframeWanted {
                track,
                encodings,
                urgency,
            } => self.handle_keyframe_wanted(now, track, encodings, urgency),
            News::CodecWanted { track, codec } => {
                let key = self.track_keys.get(&track).copied();
                let is_own =
                    |key: &usize| self.tracks.get(*key).is_some_and(|t| t.mirror.is_none());
                if let Some(key) = key.filter(is_own) {
                    self.ask_for_codec(key, codec);
                }
            }
            News::Clock(clock) => self.follow_clock(from, &clock),
            News::Levels { room, levels } => self.note_levels(from, room, &levels),
            News::Speakers(speakers) => self.follow_home_speakers(now, from, &speakers),
        }
        None
    }
}
