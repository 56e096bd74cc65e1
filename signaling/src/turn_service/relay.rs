//! The TURN server of one shard, as the media core wants it.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use net::{Datagram, Path};
use sfu::ParticipantId;
use turn::User;

/// Lets a media thread serve a TURN server; users are participants.
pub(super) struct ShardRelay(pub(super) turn::Relay);

impl sfu::Relay for ShardRelay {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }

    fn receive<'b>(&'b mut self, now: Instant, datagrams: &mut Vec<Datagram<'b>>) -> bool {
        self.0.receive(now, datagrams)
    }

    fn send(&mut self, now: Instant, path: Path, bytes: &[u8]) {
        self.0.send(now, path, bytes);
    }

    fn flush(&mut self) {
        self.0.flush();
    }

    fn handle_joined(&mut self, participant: ParticipantId) {
        self.0.handle_joined(User(participant.number()));
    }

    fn handle_left(&mut self, participant: ParticipantId) {
        self.0.handle_left(User(participant.number()));
    }

    fn retain(&mut self, is_here: &dyn Fn(ParticipantId) -> bool) {
        self.0
            .retain_users(&|user| is_here(ParticipantId::from_number(user.0)));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.0.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now);
    }
}
