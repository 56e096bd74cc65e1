//! The server over real sockets: what it answers to good and bad requests.
#![allow(clippy::unwrap_used, clippy::too_many_lines, reason = "tests may")]
#![allow(
    clippy::disallowed_methods,
    reason = "these tests are clients with clocks and sockets"
)]

#[path = "http/api.rs"]
mod api;
#[path = "http/broadcasts.rs"]
mod broadcasts;
#[path = "http/client.rs"]
mod client;
#[path = "http/encoders.rs"]
mod encoders;
#[path = "http/ice_servers.rs"]
mod ice_servers;
#[path = "http/live.rs"]
mod live;
#[path = "http/native.rs"]
mod native;
#[path = "http/proxy.rs"]
mod proxy;
#[path = "http/recordings.rs"]
mod recordings;
#[path = "http/test_room.rs"]
mod test_room;
#[path = "http/tls.rs"]
mod tls;
#[path = "http/webhooks.rs"]
mod webhooks;
#[path = "http/whip.rs"]
mod whip;
