//! The place for a TURN server in a media thread: all the core knows of TURN.
//!
//! What relayed clients send comes in here as if a candidate had received it, and what the shard sends to
//! them goes out here; neither leaves the process as plain UDP.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use crate::ids::ParticipantId;
use crate::shard::{Candidates, Datagram, Path};

/// The TURN server of one shard, served by that shard's thread. It never waits.
pub trait Relay: Send {
    /// Readable when `receive` has something to do.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Serves one source that is ready, and appends what clients send to the shard's candidates.
    ///
    /// The paths have the candidate as `local`, the relayed address as `remote` and `Protocol::Relayed`.
    /// False: nothing is ready any more.
    fn receive<'b>(&'b mut self, now: Instant, datagrams: &mut Vec<Datagram<'b>>) -> bool;

    /// Queues a datagram for the client behind a relayed path; `flush` sends it.
    fn send(&mut self, now: Instant, path: Path, bytes: &[u8]);

    /// Sends what is queued.
    fn flush(&mut self);

    /// A participant may use its credentials from now on.
    fn handle_joined(&mut self, participant: ParticipantId);

    /// A participant is gone: its allocations end.
    fn handle_left(&mut self, participant: ParticipantId);

    /// Ends all participants that are not there any more.
    fn retain(&mut self, is_here: &dyn Fn(ParticipantId) -> bool);

    /// When `handle_timeout` has something to do; `None`: nothing pending.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Ends what has expired.
    fn handle_timeout(&mut self, now: Instant);
}

/// Makes the relays of all shards.
pub trait Relays: Send + Sync {
    /// The relay of a shard that clients reach at these candidates.
    ///
    /// # Errors
    /// A port cannot be had, or the system gives no descriptor.
    fn open(&self, shard: u16, candidates: &Candidates) -> io::Result<Box<dyn Relay>>;

    /// Takes a connection of the TCP listener that speaks TURN, with what was read of it.
    fn accept(&self, stream: TcpStream, ends: Ends, bytes: Vec<u8>);
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Our address.
    pub local: SocketAddr,
    /// The client's address.
    pub remote: SocketAddr,
}

/// Relays there may be.
pub(super) type SharedRelays = Option<Arc<dyn Relays>>;
