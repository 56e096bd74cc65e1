//! A participant's media endpoint: its transport, what it publishes, what it receives.

pub(crate) mod dtls;
pub(crate) mod ice;
pub(crate) mod negotiation;
pub(crate) mod rtcp;
pub(crate) mod sctp;
pub(crate) mod srtp;
pub(crate) mod transport;

use std::time::Instant;

use slab::Slab;

use crate::ids::{Mid, ParticipantId};
use crate::metrics::Metrics;
use crate::peer::transport::Transport;
use crate::publisher::Publisher;
use crate::publisher::track::Track;
use crate::sfu::MediaGrants;
use crate::shard::Arena;
use crate::subscriber::{Flushed, Subscriber};

/// One participant of a room as the data plane sees it.
pub(crate) struct Peer {
    pub(crate) participant: ParticipantId,
    /// Key of its room.
    pub(crate) room: usize,
    /// It lives on this other shard: here it stands for the owner of mirrored tracks and nothing else.
    pub(crate) lives_on: Option<u16>,
    pub(crate) identity: String,
    pub(crate) grants: MediaGrants,
    /// From the first offer on. One for now; a door whose clients want two adds a second here.
    pub(crate) transport: Option<Transport>,
    pub(crate) publisher: Publisher,
    pub(crate) subscriber: Subscriber,
    /// The section with the data channels, once offered.
    pub(crate) data_section: Option<Mid>,
    /// Our ufrag before the last ICE restart; checks with it may still be on their way.
    pub(crate) previous_ufrag: Option<String>,
    /// Answers given so far: the version in their `o=` line.
    pub(crate) answer_count: u64,
    /// It is on the shard's list of peers to flush.
    pub(crate) is_touched: bool,
    /// Something may have moved its timers since they were last looked at.
    pub(crate) has_new_timers: bool,
    /// The earliest timer the shard holds for it.
    pub(crate) due: Option<Instant>,
    pub(crate) timers: Timers,
}

/// When a peer's periodic work is due next; `None`: not pending.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timers {
    /// Missing packets are asked for.
    pub(crate) nack: Option<Instant>,
    /// Transport-wide feedback goes to the publisher.
    pub(crate) arrivals: Option<Instant>,
    /// Sender and receiver reports.
    pub(crate) reports: Option<Instant>,
    /// Layers are allocated, keyframes asked for.
    pub(crate) allocation: Option<Instant>,
}

impl Peer {
    /// When this peer's timers want it handled next.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let Timers {
            nack,
            arrivals,
            reports,
            allocation,
        } = self.timers;
        let transport = self.transport.as_ref().and_then(|t| t.poll_timeout(now));
        let pacer = self.subscriber.next_send();
        [nack, arrivals, reports, allocation, transport, pacer]
            .into_iter()
            .flatten()
            .min()
    }

    /// Moves what this peer may be sent now into the arena.
    pub(crate) fn flush(
        &mut self,
        now: Instant,
        tracks: &Slab<Track>,
        arena: &mut Arena,
        metrics: &mut Metrics,
    ) -> Flushed {
        let Some(transport) = &mut self.transport else {
            return Flushed::Done;
        };
        transport.report(metrics);
        if !transport.flush(arena) {
            return Flushed::ArenaFull;
        }
        let Some((path, protect)) = transport.media_out() else {
            self.subscriber.clear_queue();
            return Flushed::Done;
        };
        self.subscriber
            .flush(now, tracks, (path, protect, arena), metrics)
    }
}
