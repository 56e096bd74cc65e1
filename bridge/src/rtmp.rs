//! RTMP: encoders come in, the program goes out (Adobe's RTMP 1.0; Veovera's Enhanced RTMP, refused).
//!
//! [`Ingest`] and [`Push`] are pure machines: bytes, frames and time are arguments, what is to be sent
//! and what happened is polled. [`Listener`] and [`Pusher`] in `io.rs` give them sockets.
//!
//! | # | file | what happens |
//! |---|---|---|
//! | 1 | `handshake.rs` | is this RTMP? |
//! | 2 | `chunk.rs` | chunks become messages, within bounds |
//! | 3 | `message.rs`, `amf.rs` | what does a message say? |
//! | 4 | `ingest.rs`, `ingest/commands.rs`, `key.rs` | who publishes where? nothing of media is read before that is admitted |
//! | 5 | `ingest/tracks.rs`, `flv.rs` | pictures and sound |
//!
//! Out: `push.rs` makes messages of frames, `target.rs` knows where to, `backoff.rs` and `queue.rs` what
//! to do when it does not work.

pub(crate) mod amf;
mod backoff;
mod chunk;
mod failures;
#[doc(hidden)]
pub mod fuzz;
mod handshake;
mod ingest;
mod io;
mod key;
mod message;
mod push;
pub(crate) mod queue;
mod target;

pub use amf::AmfError;
pub use chunk::ChunkError;
pub use handshake::HandshakeError;
pub use ingest::{
    Ending, Event, Ingest, IngestCounts, IngestError, Media, Metadata, PublishRequest, Refusal,
    RefusalCode,
};
pub use io::{
    Admitted, Counts, Doors, Listener, ListenerSettings, PushSettings, PushState, Pusher,
    PusherCounts,
};
pub use key::KeyError;
pub(crate) use key::query_token;
pub use push::{Push, PushError, PushEvent, PushRefused, Takes};
pub use target::{Target, TargetError};

#[cfg(test)]
mod tests;
