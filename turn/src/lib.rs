//! Plenum's STUN and TURN server (RFC 8489, RFC 8656, RFC 5780). Knows nothing of rooms.
//!
//! [`Server`] is a pure machine: time, randomness and datagrams are arguments. Its own users, whom the
//! service names, reach our own media and nothing else, without leaving the process; in mode `relay` those
//! who have credentials made by other applications get relayed addresses with sockets of their own.
//!
//! # The way of a datagram
//!
//! | # | file | what happens |
//! |---|---|---|
//! | 1 | `io.rs`, `io/connections.rs` | a batch from UDP, messages from TCP and TLS |
//! | 2 | `server.rs` | channel data, indication or request? |
//! | 3 | `server/relaying.rs` | data: which peer? is it permitted? within the bandwidth? |
//! | 4 | `server/requests.rs`, `server/allocating.rs`, `auth.rs` | requests: who asks? what becomes of it? |
//! | 5 | `server/replies.rs`, `budget.rs` | replies; few and short to who has proven nothing |
//! | 6 | `peer_filter.rs` | which addresses are nobody's peers, in every encoding |
//!
//! Back: what a peer or our own media sends goes through `server/relaying.rs` into the arena of stop 1.

mod allocation;
mod attributes;
mod auth;
mod budget;
mod counts;
mod framing;
mod io;
mod peer_filter;
mod quotas;
mod server;

pub use auth::{Credentials, Secrets, User};
pub use counts::{Counts, DropReason, Metric};
pub use io::{Inlets, Relay, Stream, UdpPorts};
pub use peer_filter::PeerFilter;
pub use quotas::Quotas;
pub use server::{
    Delivery, Discovery, Opening, RelayAddress, RelaySettings, Server, Settings, ToPeer,
};
