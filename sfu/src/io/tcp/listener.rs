//! The one TCP listener: takes connections, reads who they are for, hands them to that shard.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};

use super::Identified;
use super::framing::{FIRST_FRAME_BYTES_MAX, HEADER_BYTES, Opening, opening};
use crate::io::Link;
use crate::io::relay::{Ends, SharedRelays};
use crate::metrics::{Metrics, TcpRefusal};
use ipnet::IpNet;
use net::proxy::{self, Parsed};
use net::{Mailbox, is_family_missing};

/// The sockets that take connections.
#[derive(Debug)]
pub(crate) struct Listener {
    sockets: Vec<TcpListener>,
    port: u16,
}

impl Listener {
    /// Binds the wildcard addresses; port 0 takes one that is free for both IP versions.
    pub(crate) fn bind(port: u16) -> io::Result<Self> {
        let mut tries = if port == 0 { 16 } else { 1 };
        loop {
            tries -= 1;
            match Self::bind_once(port) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
                done => return done,
            }
        }
    }

    fn bind_once(mut port: u16) -> io::Result<Self> {
        let mut sockets = Vec::new();
        for ip in [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ] {
            match open(SocketAddr::new(ip, port)) {
                Ok(socket) => {
                    port = socket.local_addr()?.port();
                    sockets.push(socket);
                }
                Err(error) if is_family_missing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if sockets.is_empty() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        Ok(Self { sockets, port })
    }

    /// The port of all sockets.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(fd.into())
}

/// Reads the first frame of every connection; runs on a thread of its own.
pub(crate) struct Doorkeeper {
    listener: Listener,
    links: Arc<[Arc<Link>]>,
    /// Who takes connections of TURN clients.
    relays: SharedRelays,
    /// Connections begin with a PROXY header, from these networks; empty: from anywhere.
    proxies: Option<Vec<IpNet>>,
    metrics: Arc<Mutex<Metrics>>,
    epoll: Epoll,
    /// By number, which is also their age.
    strangers: BTreeMap<u64, Stranger>,
    next: u64,
    /// How long a connection may take to say who it is for.
    patience: Duration,
    /// Readable once it is to end.
    #[expect(
        dead_code,
        reason = "keeps the descriptor open that the epoll set watches"
    )]
    stop: Arc<Mailbox<()>>,
    /// When connections are taken again after the system refused to give one.
    resume_at: Option<Instant>,
}

/// A connection that has not said who it is for.
#[derive(Debug)]
struct Stranger {
    stream: TcpStream,
    ends: Ends,
    bytes: Vec<u8>,
    deadline: Instant,
    /// A proxy has yet to say whom it speaks for.
    is_introduced: bool,
}

impl Doorkeeper {
    /// `links[i]` leads to shard `i`; anything put into `stop` ends it.
    pub(crate) fn new(
        listener: Listener,
        links: Arc<[Arc<Link>]>,
        metrics: Arc<Mutex<Metrics>>,
        stop: Arc<Mailbox<()>>,
        patience: Duration,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        for (index, socket) in listener.sockets.iter().enumerate() {
            epoll.add(
                socket,
                EpollEvent::new(EpollFlags::EPOLLIN, LISTENERS + index as u64),
            )?;
        }
        Ok(Self {
            listener,
            links,
            relays: None,
            proxies: None,
            metrics,
            epoll,
            strangers: BTreeMap::new(),
            next: 0,
            patience,
            stop,
            resume_at: None,
        })
    }

    /// Hands connections of TURN clients to `relays` from now on.
    pub(crate) fn serve_relays(&mut self, relays: SharedRelays) {
        self.relays = relays;
    }

    /// Expects a PROXY header from now on, from one of these networks; empty: from anywhere.
    pub(crate) fn expect_proxies(&mut self, proxies: Vec<IpNet>) {
        self.proxies = Some(proxies);
    }

    /// Serves until it is stopped.
    pub(crate) fn run(mut self) {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let timeout = self.timeout(Instant::now());
            let count = self.epoll.wait(&mut events, timeout).unwrap_or(0);
            let now = Instant::now();
            for event in events.iter().take(count) {
                match event.data() {
                    STOP => return,
                    number if number >= LISTENERS => self.accept(now, number - LISTENERS),
                    number => self.read(number),
                }
            }
            self.close_slow(now);
            self.resume(now);
            self.count(|metrics, strangers| metrics.tcp_unidentified = strangers);
        }
    }

    fn timeout(&self, now: Instant) -> EpollTimeout {
        let slow_at = self
            .strangers
            .first_key_value()
            .map(|(_, stranger)| stranger.deadline);
        let Some(due) = slow_at.into_iter().chain(self.resume_at).min() else {
            return EpollTimeout::NONE;
        };
        // A millisecond more, because the wait is cut to whole ones.
        let wait = due.saturating_duration_since(now) + Duration::from_millis(1);
        EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX)
    }

    fn accept(&mut self, now: Instant, index: u64) {
        for _ in 0..ACCEPTS_PER_TURN {
            let socket = usize::try_from(index)
                .ok()
                .and_then(|at| self.listener.sockets.get(at));
            let Some(socket) = socket else {
                return;
            };
            match socket.accept() {
                Ok((stream, remote)) => self.welcome(now, stream, remote),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Out of descriptors or memory: the listener would be ready again at once.
                    tracing::warn!(%error, "no TCP connection could be taken");
                    self.turn_away_oldest();
                    self.pause(now);
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, now: Instant, stream: TcpStream, remote: SocketAddr) {
        // Without autotuning the kernel queues no more than this for a slow client.
        let prepared = stream.set_nonblocking(true).is_ok()
            && stream.set_nodelay(true).is_ok()
            && setsockopt(&stream, sockopt::SndBuf, &SEND_BUFFER_BYTES).is_ok();
        if !prepared {
            return;
        }
        if self.strangers.len() >= STRANGERS_MAX {
            self.turn_away_oldest();
        }
        let number = self.next;
        if self
            .epoll
            .add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, number))
            .is_err()
        {
            return;
        }
        self.next += 1;
        let Ok(local) = stream.local_addr() else {
            return;
        };
        let ends = Ends {
            local: canonical(local),
            remote: canonical(remote),
        };
        let stranger = Stranger {
            stream,
            ends,
            bytes: Vec::new(),
            deadline: now + self.patience,
            is_introduced: self.proxies.is_none(),
        };
        self.strangers.insert(number, stranger);
        self.count(|metrics, _| metrics.tcp_accepted += 1);
    }

    fn read(&mut self, number: u64) {
        let Some(stranger) = self.strangers.get_mut(&number) else {
            return;
        };
        let mut bytes = [0; HEADER_BYTES + FIRST_FRAME_BYTES_MAX];
        // Never more in all than the longest first frame: what is unfinished is shorter than that. And
        // never more than a PROXY header, where one is due: what follows it is the client's.
        let room = match proxy::parse(&stranger.bytes) {
            Parsed::Incomplete { missing } if !stranger.is_introduced => missing.min(bytes.len()),
            _ => bytes.len() - stranger.bytes.len().min(bytes.len()),
        };
        let read = match stranger.stream.read(&mut bytes[..room]) {
            Ok(0) => None,
            Ok(length) => Some(&bytes[..length]),
            Err(error) if super::is_temporary(&error) => return,
            Err(_) => None,
        };
        let Some(read) = read else {
            self.strangers.remove(&number);
            return;
        };
        stranger.bytes.extend_from_slice(read);
        if !stranger.is_introduced {
            return self.introduce(number);
        }
        match opening(&stranger.bytes) {
            Opening::Unfinished => {}
            Opening::Shard(shard) => self.hand_over(number, shard),
            Opening::Relay => self.hand_to_relays(number),
            Opening::NotIce => self.turn_away(number, TcpRefusal::NotIce),
        }
    }

    fn hand_over(&mut self, number: u64, shard: u8) {
        let Some(link) = self.links.get(usize::from(shard)).map(Arc::clone) else {
            self.turn_away(number, TcpRefusal::NotIce);
            return;
        };
        let Some(Stranger {
            stream,
            ends,
            bytes,
            ..
        }) = self.strangers.remove(&number)
        else {
            return;
        };
        if self.epoll.delete(&stream).is_err() {
            return;
        }
        let identified = Identified {
            stream,
            local: ends.local,
            remote: ends.remote,
            bytes,
        };
        if link.hand_over(identified).is_err() {
            self.count(|metrics, _| metrics.tcp_refused(TcpRefusal::ShardFull));
        }
    }

    /// Reads what a proxy says about the connection it passes on.
    fn introduce(&mut self, number: u64) {
        let may_introduce = |proxies: &[IpNet], proxy: IpAddr| {
            proxies.is_empty() || proxies.iter().any(|network| network.contains(&proxy))
        };
        let Some(stranger) = self.strangers.get_mut(&number) else {
            return;
        };
        let proxies = self.proxies.as_deref().unwrap_or_default();
        match proxy::parse(&stranger.bytes) {
            Parsed::Incomplete { .. } => {}
            Parsed::Header {
                source,
                destination,
                ..
            } if may_introduce(proxies, stranger.ends.remote.ip()) => {
                let socket = stranger.ends;
                stranger.ends = Ends {
                    local: destination.map_or(socket.local, canonical),
                    remote: source.map_or(socket.remote, canonical),
                };
                stranger.bytes.clear();
                stranger.is_introduced = true;
            }
            Parsed::Header { .. } | Parsed::Invalid => {
                self.turn_away(number, TcpRefusal::ProxyHeader);
            }
        }
    }

    fn hand_to_relays(&mut self, number: u64) {
        let Some(relays) = self.relays.clone() else {
            return self.turn_away(number, TcpRefusal::NotIce);
        };
        let Some(stranger) = self.strangers.remove(&number) else {
            return;
        };
        if self.epoll.delete(&stranger.stream).is_ok() {
            relays.accept(stranger.stream, stranger.ends, stranger.bytes);
        }
    }

    fn close_slow(&mut self, now: Instant) {
        while let Some((&number, stranger)) = self.strangers.first_key_value()
            && stranger.deadline <= now
        {
            self.turn_away(number, TcpRefusal::Slow);
        }
    }

    fn turn_away_oldest(&mut self) {
        if let Some((&number, _)) = self.strangers.first_key_value() {
            self.turn_away(number, TcpRefusal::Crowded);
        }
    }

    fn turn_away(&mut self, number: u64, refusal: TcpRefusal) {
        // Counted before it closes: who sees it closed finds it counted.
        let stranger = self.strangers.remove(&number);
        self.count(|metrics, _| metrics.tcp_refused(refusal));
        drop(stranger);
    }

    fn pause(&mut self, now: Instant) {
        self.resume_at = Some(now + PAUSE);
        self.listen_for(EpollFlags::empty());
    }

    fn resume(&mut self, now: Instant) {
        if self.resume_at.is_some_and(|at| at <= now) {
            self.resume_at = None;
            self.listen_for(EpollFlags::EPOLLIN);
        }
    }

    fn listen_for(&self, wanted: EpollFlags) {
        for (index, socket) in self.listener.sockets.iter().enumerate() {
            let mut event = EpollEvent::new(wanted, LISTENERS + index as u64);
            let _ = self.epoll.modify(socket, &mut event);
        }
    }

    fn count(&self, change: impl FnOnce(&mut Metrics, u64)) {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut metrics, self.strangers.len() as u64);
    }
}

/// IPv4-mapped forms written as IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// How long a connection may take to send its first frame.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that have not said who they are for; the oldest makes room.
const STRANGERS_MAX: usize = 1024;
const ACCEPTS_PER_TURN: usize = 64;
const BACKLOG: i32 = 1024;
const PAUSE: Duration = Duration::from_millis(200);
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// Event data from here on are listeners, below are connections.
const LISTENERS: u64 = u64::MAX - 8;
const STOP: u64 = u64::MAX;

#[cfg(test)]
mod tests;
