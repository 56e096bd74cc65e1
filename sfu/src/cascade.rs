//! A room continued on other shards: what shards tell each other, and the packets they share.
//!
//! A room begins on its *home* shard, the one its id names. When it outgrows that shard (`io/placement.rs`
//! says when), whoever joins next is placed on another one, which opens a *continuation* of the room: a
//! room of the same id, with its own peers, timers and slots. Nobody ever moves.
//!
//! # Who owns what
//!
//! A peer lives on one shard, and so do its tracks: that shard receives, decrypts, asks for what is
//! lost, keeps the keyframe budget, and alone tells the service about the track. On every other shard of
//! the room the track is a *mirror*: a `Track` with rings of its own, whose
//! owner is a peer without a transport. Subscribers there are served from the mirror as from any track:
//! selectors, numbers, retransmission. A mirror is never mirrored again, so nothing goes round in circles;
//! each shard talks to each other one directly.
//!
//! ```text
//!  publisher                 own shard of the track                         another shard of the room
//!  ─────────► decrypt, ring ──► Sink::Subscription × n
//!                           └─► Sink::Cascade × shard  ══ Shipment ══► mirror's ring ──► Sink::Subscription × n
//!  ◄───────── PLI ◄── budget ◄─────────────────────────── Notice ◄──── budget of the mirror ◄── NACK, PLI
//! ```
//!
//! # Packets
//!
//! `Sink::Cascade { shard, encodings }` stands once in a track's route for each shard that wants something
//! of it, whatever the number of subscribers there. What a receive batch brought for such sinks is copied
//! once, decrypted, into a [`Shipment`]; all shards that want it read that one by reference and copy what
//! is theirs into the rings of their mirrors. Extended sequence numbers, timestamps, arrival times and
//! payload descriptors go along as they are: nothing is parsed twice, and a packet recovered late is late
//! on both sides.
//!
//! A mirror asks only for the encodings its subscribers are at or on their way to: at once for one more,
//! and after a second or so (`publisher/mirror.rs`) for one less. It takes packets of an
//! encoding from when the track's own shard says that they flow: those still on their way from an earlier
//! time are followed by a gap that no loss made.
//!
//! # Feedback
//!
//! NACKs end at the mirror, whose ring answers them. Keyframe requests pass the mirror's own
//! `KeyframeBudget`, so that any number of subscribers makes one request per encoding and interval, and
//! then that of the publication, where they meet the requests of the other shards. Estimates and layers
//! are each subscriber's own and never leave its shard.
//!
//! # Control
//!
//! What else shards say is a [`Notice`], in order between any two of them:
//!
//! - `Opened` asks another shard for its part of a room and answers such a question; each side then
//!   announces its tracks (`Track`), their changes (`State`) and their end (`Unpublished`). A continuation
//!   asks the home shard, which introduces it to the others (`Introduced`). What comes from a shard that is
//!   not known to have the room open is ignored, so a notice that was overtaken by an end does no harm.
//! - `Wanted`, `KeyframeWanted` and `CodecWanted` go to a track's own shard; `Flows`, its answer, and `Clock` (sender reports, rule 6 of the data
//!   plane: lip sync) come from it.
//! - `Levels` go to the home shard, which alone decides who speaks, tells the service, and sends
//!   `Speakers` to the other shards: programs and crowded audio slots follow the same speakers everywhere.
//! - A continuation that its last peer has left says `Closed` and is gone.
//!
//! All of them state how things are, none how they changed: saying one twice changes nothing. Data
//! messages need no notice, since the service hands them to every shard of the room.
//!
//! # Threads
//!
//! Both ends are pure: a shard's `poll_notice` and `poll_shipment` give, the other's `handle_notices` and
//! `handle_shipment` take. Between them stands one bounded queue in front of each media thread
//! (`io/cascades.rs`), and its eventfd is written only when that thread sleeps. A shipment that finds the
//! queue full is dropped and counted (`cascade_full`): a hole in the stream, as a network makes one, which the
//! subscribers' own keyframe requests heal. Notices wait at the sender instead, at most
//! `NOTICES_WAITING_MAX` of them; beyond that the sender forgets them and says `Restarted`.
//!
//! # When a shard is made anew
//!
//! After a panic in its own code a shard begins empty, with the rooms whose home it is. Its driver says
//! `Restarted` to all others: they forget its mirrors and what it wanted of them, and ask for its parts of
//! rooms again. Its participants are ended and join anew; everybody else loses nothing but their streams.
//!
//! Over to other nodes the same notices and shipments would go as bytes: the only field with a meaning
//! inside one process is the `Instant` of an arrival, which becomes an age on the way.

mod notice;
mod shipment;

pub use self::notice::Notice;
pub(crate) use self::notice::{ClockNews, LayerState, News, SpeakerNews, TrackNews, TrackState};
pub use self::shipment::{ShardSet, Shipment};
