//! Plenum's bridge: a room goes out as a live broadcast, encoders come in, programs are recorded.
//!
//! What flows between the parts is in [`media`]: whole frames on the timeline of one broadcast. Nothing
//! decodes a picture: what publishers send goes on as it is.
//!
//! # From a room to those who watch
//!
//! | # | file | what happens | data |
//! |---|---|---|---|
//! | 1 | `engine.rs`, `engine/room.rs` | one thread hears the rooms that something is done with | `sfu`'s `Heard` |
//! | 2 | `broadcast.rs`, `broadcast/pictures.rs` | whose packet, of which encoding? | [`packets::Packet`] |
//! | 3 | `frames.rs`, `frames/` | in order, and whole: holes cost everything up to a keyframe | [`frames::Assembler`] |
//! | 4 | `timeline.rs`, `timeline/` | when was it captured? sender reports, slewed | [`timeline::Timeline`] |
//! | 5 | `program.rs`, `ladder.rs` | who is on the air, and which of their encodings? | [`program::Program`] |
//! | 5 | `rungs.rs`, `card.rs` | which rung? a card for nobody | [`rungs::Placed`] |
//! | 5 | `keyframes.rs` | when must the next keyframe come? | an ask to the publisher |
//! | 6 | `broadcast/sounds.rs`, `audio.rs` | everyone's sound is decoded, mixed, encoded | [`media::AudioFrame`] |
//! | 7 | `engine/channel.rs` | one broadcast with all that carries it | [`broadcast::Sample`] |
//! | 8 | `hls/packager.rs`, `fmp4.rs` | segments, parts, playlists; served by `hls/http.rs` | [`hls::Publication`] |
//! | 8 | `flv.rs`, `flv/feed.rs` | HTTP-FLV, from the last keyframe on; served by `flv/http.rs` | [`flv::FlvFeed`] |
//! | 8 | `rtmp/push.rs` | RTMP to others' servers; sent by `rtmp/io/pusher.rs` | [`rtmp::Push`] |
//! | 8 | `recording/muxer.rs`, `fmp4.rs`, `webm.rs` | files; written by `recording/io.rs` | [`recording::Frame`] |
//!
//! A track recorded by itself skips the program: `take.rs`, then stop 8.
//!
//! # From an encoder to a room
//!
//! | # | file | what happens |
//! |---|---|---|
//! | 1 | `rtmp/io.rs`, `rtmp/io/connection.rs` | a connection's bytes |
//! | 2 | `rtmp/ingest.rs` | handshake, chunks, commands; who is it? nothing of media is read before that is known |
//! | 3 | `handle.rs`, `engine/encoders.rs` | a place in the room that outlives a lost connection |
//! | 4 | `encoder.rs`, `packing.rs`, `audio/ingest.rs` | pictures become packets, AAC becomes Opus |
//! | 5 | `engine.rs` | to the room's shards through `sfu`'s annex; to broadcasts of this thread directly |
//!
//! # What asks, and what is shared
//!
//! The service has a [`Bridge`] (`handle.rs`), which orders the thread around by a mailbox and reads what
//! becomes of broadcasts from [`Listing`]s (`listing.rs`).
//!
//! I/O (clocks, sockets, files, threads) is in `engine.rs`, `handle.rs`, `hls/http.rs`, `flv/http.rs`,
//! `rtmp/io.rs` and `recording/io.rs`, with what is in their folders; everything else is pure: time,
//! randomness and bytes are arguments.

mod engine;
mod handle;
mod keyframes;
mod ladder;
mod listing;

pub mod audio;
pub mod broadcast;
pub mod card;
pub mod encoder;
pub mod flv;
pub mod fmp4;
pub mod frames;
pub mod hls;
pub mod media;
pub mod packets;
pub mod packing;
pub mod program;
pub mod recording;
pub mod rtmp;
pub mod rungs;
pub mod take;
pub mod timeline;
pub mod webm;

pub use broadcast::Shown;
pub use engine::BridgeEvent;
pub use handle::{BeginError, Bridge, BridgeSettings, Spec};
pub use listing::{BroadcastId, Ending, Listing, Progress, Target};
pub use media::{AudioCodec, VideoCodec};
pub use program::Follow;
pub use rtmp::PushState;
