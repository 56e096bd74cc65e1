//! Simulated participants of a Plenum server, for its end-to-end tests and for load.
//!
//! A [`Participant`] joins through the native protocol, [`Whip`] and [`Whep`] through HTTP. Each
//! owns a [`Peer`] built on the `webrtc` crate, which shares no transport code with the server, and
//! sends [`media`] whose every packet the receiving peer can verify ([`Reception`]).
//!
//! Load is made by light bots ([`bot`], pure machines in a [`fleet`], driven by [`io`]): a
//! [`scenario`] says who plays, [`run`](mod@run) brings them to a [`target`] and counts into a [`report`].
//! The binary `plenum-loadtest` is the command line of that.
//!
//! | to … | look at |
//! |---|---|
//! | change what is sent | `media.rs` (payloads), `publication.rs` (the sending task) |
//! | count something else | `reception.rs` (media), `wire.rs` (RTCP and loss) |
//! | speak another message | `client.rs` (participant), `room.rs` (what it knows), `signal.rs` (socket) |
//! | disturb a path | `relay.rs` |
//! | change what a bot does | `bot.rs` and `bot/` |
//! | report something else about load | `totals.rs`, `report.rs` |

pub mod bot;
pub mod client;
pub mod confirmers;
mod engine;
pub mod fleet;
pub mod framing;
pub mod http;
pub mod io;
pub mod media;
pub mod observed;
pub mod peer;
pub mod process;
mod progress;
pub mod publication;
pub mod reception;
pub mod relay;
pub mod report;
pub mod room;
pub mod run;
pub mod scenario;
pub mod signal;
pub mod target;
pub mod token;
pub mod totals;
pub mod turn;
pub mod whip;
pub mod wire;

pub use client::{JoinOptions, Participant};
pub use peer::{Network, Peer, PeerOptions, SrtpProfile};
pub use publication::{Source, TrackOptions};
pub use reception::Reception;
pub use relay::Relay;
pub use whip::{Whep, Whip};

/// The number that stands for an identity in stamps.
pub fn publisher_number(identity: &str) -> u32 {
    identity.bytes().fold(0x811c_9dc5, |sum, byte| {
        (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
