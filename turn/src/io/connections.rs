//! TCP and TLS connections of TURN clients: messages in, messages out through bounded queues.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use net::stun::{Message, USERNAME};
use net::{Datagram, Path, Protocol, ReceiveBuffers};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use rustls::ServerConnection;

use super::{CONNECTION, Stream, add};
use crate::auth::{User, user_of};
use crate::framing::{Frame, MESSAGE_BYTES_MAX, first_frame};

/// The connections of a server.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: HashMap<u64, Connection>,
    /// Numbers are never used twice, so a late event cannot reach another connection.
    next: u64,
    closed: VecDeque<Path>,
    /// Messages for which a queue had no room, and connections for which there was none.
    dropped: u64,
    refused: u64,
}

struct Connection {
    stream: TcpStream,
    tls: Option<Box<ServerConnection>>,
    path: Path,
    /// What was read and not handled.
    unread: Vec<u8>,
    /// Whole messages, of which the first may be partly sent.
    unsent: VecDeque<u8>,
    /// Whether we wait for the socket to take more.
    is_blocked: bool,
    /// Whether its client has said who it is, as far as that matters here.
    is_identified: bool,
    /// When it is closed unless it has an allocation.
    idle_at: Instant,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// A connection of a user whom another server serves, with what that one is to read first.
#[derive(Debug)]
pub(super) struct Misplaced {
    pub(super) user: User,
    pub(super) bytes: Vec<u8>,
}

impl Connections {
    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.open.len() as u64
    }

    /// Runs of messages dropped because their connection did not take them.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Connections closed because there were too many.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Takes a connection over; `None` when there are too many or it is already gone.
    pub(super) fn open(&mut self, now: Instant, stream: Stream, epoll: &Epoll) -> Option<u64> {
        if self.open.len() >= CONNECTIONS_MAX {
            self.refused += 1;
            return None;
        }
        let number = self.next;
        add(epoll, stream.stream.as_fd(), CONNECTION, number).ok()?;
        self.next += 1;
        let path = Path::new(stream.local, stream.remote, Protocol::Tcp(number));
        let connection = Connection {
            stream: stream.stream,
            tls: stream.tls,
            path,
            unread: stream.bytes,
            unsent: VecDeque::new(),
            is_blocked: false,
            is_identified: false,
            idle_at: now + IDLE_MAX,
        };
        self.open.insert(number, connection);
        Some(number)
    }

    /// Gives a connection away, with bytes that were read and not handled.
    pub(super) fn take(&mut self, number: u64, bytes: Vec<u8>, epoll: &Epoll) -> Option<Stream> {
        let connection = self.open.remove(&number)?;
        epoll.delete(&connection.stream).ok()?;
        Some(Stream {
            stream: connection.stream,
            tls: connection.tls,
            bytes,
            local: connection.path.local,
            remote: connection.path.remote,
        })
    }

    /// Reads what is there and hands out the messages that are complete.
    ///
    /// A message of a user who is not `is_here`, and all that follows it, comes back.
    pub(super) fn receive<'b>(
        &mut self,
        number: u64,
        is_here: &dyn Fn(User) -> bool,
        buffers: &'b mut ReceiveBuffers,
        batch: &mut Vec<Datagram<'b>>,
    ) -> Option<Misplaced> {
        let connection = self.open.get_mut(&number)?;
        let scratch = buffers.bytes();
        let kept = connection.unread.len().min(scratch.len());
        scratch[..kept].copy_from_slice(&connection.unread[..kept]);
        connection.unread.clear();
        let (read, mut is_over) = connection.read(&mut scratch[kept..SCRATCH_BYTES]);
        let path = connection.path;
        let mut misplaced = None;
        let mut rest = &mut scratch[..kept + read];
        loop {
            match first_frame(rest) {
                Frame::Unfinished => break,
                Frame::Foreign => {
                    is_over = true;
                    break;
                }
                Frame::Message { length, total } => {
                    if !connection.is_identified
                        && let Some(user) = user_in(&rest[..length])
                    {
                        if !is_here(user) {
                            let bytes = rest.to_vec();
                            misplaced = Some(Misplaced { user, bytes });
                            rest = &mut [];
                            break;
                        }
                        connection.is_identified = true;
                    }
                    let (message, after) = std::mem::take(&mut rest).split_at_mut(total);
                    rest = after;
                    batch.push(Datagram {
                        path,
                        ecn: 0,
                        bytes: &mut message[..length],
                    });
                }
            }
        }
        connection.unread.extend_from_slice(rest);
        if is_over {
            self.close(number);
            return None;
        }
        misplaced
    }

    /// Sends messages, or queues what the socket does not take; what the queue has no room for is dropped
    /// whole.
    pub(super) fn send(&mut self, number: u64, messages: &[u8], epoll: &Epoll) {
        let Some(connection) = self.open.get_mut(&number) else {
            return;
        };
        if connection.unsent.len() + messages.len() > UNSENT_BYTES_MAX {
            self.dropped += 1;
            return;
        }
        connection.unsent.extend(messages);
        if !connection.is_blocked {
            self.write(epoll, number);
        }
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(super) fn write(&mut self, epoll: &Epoll, number: u64) {
        let Some(connection) = self.open.get_mut(&number) else {
            return;
        };
        let Ok(is_blocked) = connection.write() else {
            return self.close(number);
        };
        if connection.is_blocked != is_blocked {
            connection.is_blocked = is_blocked;
            let mut wanted = EpollFlags::EPOLLIN;
            wanted.set(EpollFlags::EPOLLOUT, is_blocked);
            let mut event = EpollEvent::new(wanted, CONNECTION | number);
            epoll.modify(&connection.stream, &mut event).ok();
        }
    }

    /// Closes what has been without an allocation for a while.
    pub(super) fn close_idle(&mut self, now: Instant, has_allocation: impl Fn(&Path) -> bool) {
        let mut idle = Vec::new();
        for (number, connection) in &mut self.open {
            if has_allocation(&connection.path) {
                connection.idle_at = now + IDLE_MAX;
            } else if connection.idle_at <= now {
                idle.push(*number);
            }
        }
        idle.into_iter().for_each(|number| self.close(number));
    }

    /// A connection that has ended since the last call.
    pub(super) fn poll_closed(&mut self) -> Option<Path> {
        self.closed.pop_front()
    }

    /// Dropping the stream closes it and takes it out of the epoll set.
    fn close(&mut self, number: u64) {
        if let Some(connection) = self.open.remove(&number) {
            self.closed.push_back(connection.path);
        }
    }
}

impl Connection {
    /// Reads until the socket is empty or `into` full: how much, and whether the connection is over.
    fn read(&mut self, into: &mut [u8]) -> (usize, bool) {
        let mut filled = 0;
        while filled < into.len() {
            let outcome = match &mut self.tls {
                None => self.stream.read(&mut into[filled..]),
                Some(tls) => read_tls(tls, &mut self.stream, &mut into[filled..]),
            };
            match outcome {
                Ok(0) => return (filled, true),
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return (filled, true),
            }
            if self.tls.is_none() {
                break; // One call took what there was; more makes the socket readable again.
            }
        }
        (filled, false)
    }

    /// Writes until nothing is left or the socket is full; true when it is full.
    fn write(&mut self) -> io::Result<bool> {
        loop {
            if let Some(tls) = &mut self.tls {
                while tls.wants_write() {
                    match tls.write_tls(&mut self.stream) {
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                        Err(error) => return Err(error),
                    }
                }
            }
            if self.unsent.is_empty() {
                return Ok(false);
            }
            let (front, back) = self.unsent.as_slices();
            let written = match &mut self.tls {
                None => self
                    .stream
                    .write_vectored(&[IoSlice::new(front), IoSlice::new(back)]),
                Some(tls) => tls
                    .writer()
                    .write(&front[..front.len().min(TLS_RECORD_BYTES)]),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => _ = self.unsent.drain(..length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Decrypts what the socket has; `WouldBlock` when that makes no whole record.
fn read_tls(
    tls: &mut ServerConnection,
    stream: &mut TcpStream,
    into: &mut [u8],
) -> io::Result<usize> {
    loop {
        match tls.reader().read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return outcome,
        }
        if tls.read_tls(stream)? == 0 {
            return Ok(0);
        }
        tls.process_new_packets()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
}

/// The user of ours that a request claims to come from.
fn user_in(message: &[u8]) -> Option<User> {
    let message = Message::parse(message)?;
    let username = message.attribute(USERNAME)?;
    user_of(std::str::from_utf8(username).ok()?)
}

/// Connections of one server; each costs under 600 KiB at worst, and usually 30.
const CONNECTIONS_MAX: usize = 2048;
/// About a second of a 2 Mbit/s stream; the kernel's own buffer comes on top.
const UNSENT_BYTES_MAX: usize = 256 << 10;
/// What is read at a time, behind an unfinished message.
const SCRATCH_BYTES: usize = (64 << 10) + MESSAGE_BYTES_MAX;
const TLS_RECORD_BYTES: usize = 16 << 10;
/// How long a connection may be without an allocation: two round trips on any network, and some patience.
const IDLE_MAX: Duration = Duration::from_secs(10);
