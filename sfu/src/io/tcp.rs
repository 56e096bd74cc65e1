//! The TCP connections of one shard: frames in (RFC 4571), frames out through bounded queues.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::metrics::{DropReason, Metrics, TcpRefusal};
use crate::shard::{Datagram, Path, Protocol};

pub(crate) mod framing;
pub(crate) mod listener;

/// A connection whose first frame named a shard, on its way there.
#[derive(Debug)]
pub(crate) struct Identified {
    /// The connection; does not block.
    pub(crate) stream: TcpStream,
    /// Our address.
    pub(crate) local: SocketAddr,
    /// The client's address.
    pub(crate) remote: SocketAddr,
    /// What was read so far: the first frame, and maybe more.
    pub(crate) bytes: Vec<u8>,
}

/// The connections of a shard.
#[derive(Debug)]
pub(crate) struct Connections {
    epoll: Epoll,
    open: HashMap<u64, Connection>,
    /// Numbers are never used twice, so a late event cannot reach another connection.
    next: u64,
    /// What one read call returns, behind the unfinished frame before it.
    scratch: Box<[u8]>,
    closed: VecDeque<Path>,
}

/// One connection of a shard.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    path: Path,
    /// The beginning of a frame whose end has not come in.
    partial: Vec<u8>,
    /// Whole frames, of which the first may be partly sent.
    unsent: VecDeque<u8>,
    /// Whether we wait for the socket to take more.
    is_blocked: bool,
    /// When it is closed unless the shard sends something on it.
    idle_at: Instant,
}

/// A connection that can be read or written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    /// Which one.
    pub(crate) number: u64,
    /// There are bytes to read, or it has ended.
    pub(crate) readable: bool,
    /// It takes more bytes.
    pub(crate) writable: bool,
}

impl Connections {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            open: HashMap::new(),
            next: 0,
            scratch: vec![0; framing::FRAME_BYTES_MAX + READ_BYTES].into_boxed_slice(),
            closed: VecDeque::new(),
        })
    }

    /// Takes a connection over; `None` when there are too many or it is already gone.
    ///
    /// The bytes read so far are in it: call `receive` even when nothing new comes in.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        identified: Identified,
        metrics: &mut Metrics,
    ) -> Option<u64> {
        if self.open.len() >= CONNECTIONS_MAX {
            metrics.tcp_refused(TcpRefusal::ShardFull);
            return None;
        }
        let Identified {
            stream,
            local,
            remote,
            bytes,
        } = identified;
        let number = self.next;
        self.epoll
            .add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, number))
            .ok()?;
        self.next += 1;
        let path = Path {
            local,
            remote,
            protocol: Protocol::Tcp(number),
        };
        let connection = Connection {
            stream,
            path,
            partial: bytes,
            unsent: VecDeque::new(),
            is_blocked: false,
            idle_at: now + FIRST_USE_MAX,
        };
        self.open.insert(number, connection);
        metrics.tcp_connections = self.open.len() as u64;
        Some(number)
    }

    /// Which connections can be read or written now, a few at a time.
    pub(crate) fn poll_ready(&self, ready: &mut Vec<Ready>) {
        let mut events = [EpollEvent::empty(); 64];
        let count = self
            .epoll
            .wait(&mut events, EpollTimeout::ZERO)
            .unwrap_or(0);
        ready.clear();
        ready.extend(events.iter().take(count).map(|event| Ready {
            number: event.data(),
            readable: event.events() != EpollFlags::EPOLLOUT,
            writable: event.events().contains(EpollFlags::EPOLLOUT),
        }));
    }

    /// Reads once and hands out the frames that are complete.
    pub(crate) fn receive<'b>(
        &'b mut self,
        number: u64,
        datagrams: &mut Vec<Datagram<'b>>,
        metrics: &mut Metrics,
    ) {
        let Some(connection) = self.open.get_mut(&number) else {
            return;
        };
        let kept = connection.partial.len();
        let Some(kept_room) = self.scratch.get_mut(..kept) else {
            return; // Never: an unfinished frame is shorter than the scratch buffer.
        };
        kept_room.copy_from_slice(&connection.partial);
        let read = match connection.stream.read(&mut self.scratch[kept..]) {
            Ok(0) => None,
            Ok(length) => Some(length),
            Err(error) if is_temporary(&error) => Some(0),
            Err(_) => None,
        };
        let ended = read.is_none();
        let filled = kept + read.unwrap_or(0);
        let path = connection.path;
        connection.partial.clear();
        if ended {
            Self::close(&mut self.open, &mut self.closed, number, metrics);
        }
        let mut rest = &mut self.scratch[..filled];
        while let Some(length) = framing::frame_length(rest) {
            let (frame, after) =
                std::mem::take(&mut rest).split_at_mut(framing::HEADER_BYTES + length);
            rest = after;
            if length > 0 {
                metrics.received_datagrams += 1;
                metrics.received_bytes += length as u64;
                let bytes = &mut frame[framing::HEADER_BYTES..];
                datagrams.push(Datagram {
                    path,
                    ecn: 0,
                    bytes,
                });
            }
        }
        if let Some(connection) = self.open.get_mut(&number) {
            connection.partial.extend_from_slice(rest);
        }
    }

    /// Frames datagrams and sends them, or queues what the socket does not take; a datagram for
    /// which the queue has no room is dropped whole.
    pub(crate) fn send<'a>(
        &mut self,
        now: Instant,
        number: u64,
        datagrams: impl Iterator<Item = &'a [u8]>,
        metrics: &mut Metrics,
    ) {
        let Some(connection) = self.open.get_mut(&number) else {
            metrics.dropped_many(DropReason::TcpClosed, datagrams.count() as u64);
            return;
        };
        for datagram in datagrams {
            let Some(header) = framing::header(datagram) else {
                metrics.dropped(DropReason::Malformed);
                continue;
            };
            if connection.unsent.len() + header.len() + datagram.len() > UNSENT_BYTES_MAX {
                metrics.dropped(DropReason::TcpFull);
                continue;
            }
            connection.unsent.extend(&header);
            connection.unsent.extend(datagram);
            metrics.sent_datagrams += 1;
            metrics.sent_bytes += datagram.len() as u64;
        }
        if !connection.is_blocked {
            self.write(now, number, metrics);
        }
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(crate) fn write(&mut self, now: Instant, number: u64, metrics: &mut Metrics) {
        let Some(connection) = self.open.get_mut(&number) else {
            return;
        };
        match connection.write_unsent() {
            Ok(0) => {}
            Ok(_) => connection.idle_at = now + IDLE_MAX,
            Err(_) => {
                Self::close(&mut self.open, &mut self.closed, number, metrics);
                return;
            }
        }
        let is_blocked = !connection.unsent.is_empty();
        if connection.is_blocked != is_blocked {
            connection.is_blocked = is_blocked;
            let wanted = EpollFlags::EPOLLIN
                | if is_blocked {
                    EpollFlags::EPOLLOUT
                } else {
                    EpollFlags::empty()
                };
            let _ = self
                .epoll
                .modify(&connection.stream, &mut EpollEvent::new(wanted, number));
        }
    }

    /// Closes what the shard has no use for: a connection it has not sent anything on for a while.
    /// Every valid connectivity check is answered, so one that carries a peer is never idle.
    pub(crate) fn close_idle(&mut self, now: Instant, metrics: &mut Metrics) {
        let is_idle = |connection: &Connection| connection.idle_at <= now;
        let idle: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, connection)| is_idle(connection))
            .map(|(&number, _)| number)
            .collect();
        for number in idle {
            metrics.tcp_refused(TcpRefusal::Idle);
            Self::close(&mut self.open, &mut self.closed, number, metrics);
        }
    }

    /// Closes every connection, without a word to the shard.
    pub(crate) fn close_all(&mut self, metrics: &mut Metrics) {
        self.open.clear();
        self.closed.clear();
        metrics.tcp_connections = 0;
    }

    /// A connection that has ended since the last call.
    pub(crate) fn poll_closed(&mut self) -> Option<Path> {
        self.closed.pop_front()
    }

    /// Dropping the stream closes it and takes it out of the epoll set.
    fn close(
        open: &mut HashMap<u64, Connection>,
        closed: &mut VecDeque<Path>,
        number: u64,
        metrics: &mut Metrics,
    ) {
        if let Some(connection) = open.remove(&number) {
            closed.push_back(connection.path);
        }
        metrics.tcp_connections = open.len() as u64;
    }
}

impl AsFd for Connections {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

impl Connection {
    /// Writes until the queue is empty or the socket full; returns the bytes written.
    fn write_unsent(&mut self) -> io::Result<usize> {
        let mut written = 0;
        while !self.unsent.is_empty() {
            let (front, back) = self.unsent.as_slices();
            match self
                .stream
                .write_vectored(&[IoSlice::new(front), IoSlice::new(back)])
            {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => {
                    self.unsent.drain(..length);
                    written += length;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Connections of one shard: more than a shard serves peers, and each costs under 300 KiB at worst.
const CONNECTIONS_MAX: usize = 2048;
/// About a second of a 2 Mbit/s stream; the kernel's own buffer comes on top.
const UNSENT_BYTES_MAX: usize = 256 << 10;
/// Bytes of one read call.
const READ_BYTES: usize = 64 << 10;
/// Anyone can name a shard, only a peer's valid check is answered: it has this long to send one.
const FIRST_USE_MAX: Duration = Duration::from_secs(10);
/// Consent ends after 30 s without a valid check (RFC 7675 §5.1); twice that leaves room for a restart.
const IDLE_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
