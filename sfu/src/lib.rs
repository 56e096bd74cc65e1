//! Plenum's media core: rooms, transports and packet forwarding. Knows no HTTP, no JSON, no tokens.
//!
//! Everything but `io` is a pure machine: time, randomness and datagrams are arguments; what is to be
//! sent and told comes back as values. A [`shard::Shard`] is one thread's worth of it.
//!
//! # The path of a packet
//!
//! | # | file | what happens | data |
//! |---|---|---|---|
//! | 1 | `net`'s `udp.rs`, `io/tcp.rs`, `io/relay.rs` | receives a batch from the kernel | up to 64 [`shard::Datagram`] |
//! | 2 | `io/driver.rs` | takes `now` once per batch; hands both to the shard | `(now, &mut [Datagram])` |
//! | 3 | `shard.rs`, `shard/demux.rs` | whose? the address that passed ICE, else the ufrag, else drop | key of a peer |
//! | 4 | `peer/transport.rs`, `peer/{ice,dtls,srtp}.rs` | STUN, DTLS or SRTP (RFC 7983); decrypts in place | `RtpView` |
//! | 5 | `publisher.rs`, `publisher/encoding.rs` | which track and encoding? kept in its ring | `Received` |
//! | 6 | `room.rs` | who wants it? | `Sink`s of the track |
//! | 7 | `subscriber.rs`, `subscriber/selector.rs` | selects the layer; queues a reference, or stops here | `Queued` |
//! | 8 | `subscriber/slot.rs`, `slot/writing.rs`, `net`'s `arena.rs`, `io/driver.rs` | numbers, rewrites, encrypts; one batch to the kernel | [`shard::Run`] |
//!
//! Stops 3 to 7 are `Shard::handle_batch`, for a whole batch; stop 8 is `Shard::flush`, peer by peer.
//!
//! Feedback walks back: RTCP arrives at stop 4 and goes to `shard/feedback.rs`. NACK and
//! transport-wide feedback end in the subscriber (`subscriber/{sent,estimator}.rs`); only keyframe
//! requests go on, to the budget of the track they ask for (`publisher/keyframes.rs`).
//!
//! # Control
//!
//! [`Sfu`] takes each [`Command`] to the shard of its room (`shard/control.rs`; offers:
//! `shard/offer.rs`) and brings back [`Event`]s. What a subscriber should carry is computed anew and
//! compared with what it carries (`shard/reconcile.rs`); what runs on time is in `shard/ticks.rs`.
//! A room too big for one shard is continued on others: [`cascade`]. A program of this process takes
//! part in rooms in the same way: [`annex`].

pub mod annex;
pub mod cascade;
mod config;
mod ids;
mod io;
mod metrics;
mod peer;
mod publisher;
mod room;
mod rtp;
mod sfu;
pub mod shard;
mod subscriber;

pub use config::{Config, Discover};
pub use ids::{Mid, ParticipantId, PayloadType, Rid, RoomId, Ssrc, TrackId};
pub use io::{
    AnnexPort, Ends, Events, Limit, QueueFull, Relay, Relays, Sfu, StartError, limits,
    machine_addresses,
};
pub use metrics::{Metric, MetricKind};
pub use peer::dtls::Certificate;
pub use sfu::*;
pub use shard::Candidates;
