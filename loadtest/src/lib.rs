//! Simulated participants of a Plenum server, for its end-to-end tests and for load.
//!
//! A [`Participant`] joins through the native protocol, [`Whip`] and [`Whep`] through HTTP. Each
//! owns a [`Peer`] built on the `webrtc` crate, which shares no transport code with the server, and
//! sends [`media`] whose every packet the receiving peer can verify ([`Reception`]).
//!
//! | to … | look at |
//! |---|---|
//! | change what is sent | `media.rs` (payloads), `publication.rs` (the sending task) |
//! | count something else | `reception.rs` (media), `wire.rs` (RTCP and loss) |
//! | speak another message | `client.rs` (participant), `room.rs` (what it knows), `signal.rs` (socket) |
//! | disturb a path | `relay.rs` |

pub mod client;
mod engine;
pub mod framing;
pub mod http;
pub mod media;
pub mod observed;
pub mod peer;
pub mod publication;
pub mod reception;
pub mod relay;
pub mod room;
pub mod signal;
pub mod token;
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
