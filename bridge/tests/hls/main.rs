//! HLS over HTTP on loopback: the protocol with made-up frames, players with real ones.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test has clocks and sockets, and stops where something is not as it must be"
)]

mod client;
mod ffmpeg;
mod players;
mod protection;
mod protocol;
mod stage;
