//! What the media core and the TURN server both stand on, and neither of them owns.
//!
//! | file | what |
//! |---|---|
//! | `datagram.rs` | [`Datagram`]: bytes that came in, with the [`Path`] they came on |
//! | `arena.rs` | [`Arena`]: what is to be sent, in runs that segmentation offload can take |
//! | `udp.rs`, `udp/` | [`UdpSockets`]: batches from and to the kernel; the only `unsafe` of the project |
//! | `mailbox.rs` | [`Mailbox`]: a bounded queue into a thread that waits in poll(2) |
//! | `proxy.rs` | [`proxy`]: whom a proxy in front of us speaks for (PROXY protocol, version 2) |
//! | `stun.rs` | [`stun::Message`]: STUN messages (RFC 8489), read and written |
//! | `cursor.rs` | [`cursor`]: bounds-checked big-endian fields |
//!
//! What the packet path calls for every packet is marked `inline`: it is compiled in other crates.
//! Nothing here knows rooms, allocations or metrics: what crosses the sockets is counted in [`UdpCounts`].

mod arena;
pub mod cursor;
mod datagram;
mod mailbox;
pub mod proxy;
pub mod stun;
mod udp;

pub use arena::{ARENA_BYTES, Arena, DATAGRAM_MAX, Run};
pub use datagram::{Datagram, Path, Protocol, canonical, recycle};
pub use mailbox::Mailbox;
pub use udp::{ReceiveBuffers, UdpCounts, UdpSockets, is_family_missing};
