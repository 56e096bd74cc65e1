//! The server over real sockets: what it answers to good and bad requests.
#![allow(
    clippy::disallowed_methods,
    reason = "these tests are clients with clocks and sockets"
)]

#[path = "http/api.rs"]
mod api;
#[path = "http/client.rs"]
mod client;
#[path = "http/native.rs"]
mod native;
#[path = "http/whip.rs"]
mod whip;
