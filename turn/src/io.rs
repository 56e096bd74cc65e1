//! All input and output: the sockets of one TURN server, served by whichever thread waits for `fd`.
//!
//! [`Relay`] holds the pure [`Server`] and its UDP port, its TCP and TLS connections and, in mode `relay`,
//! the sockets of relayed addresses. It never waits; its descriptor is readable when there is something to do.
#![expect(clippy::disallowed_types, reason = "I/O lives here")]

mod clients;
mod connections;
mod ports;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use net::{
    Arena, Datagram, Mailbox, Path, Protocol, ReceiveBuffers, UdpCounts, UdpSockets, recycle,
};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::auth::User;
use crate::counts::{Counts, DropReason};
use crate::server::{Delivery, Server, Settings};
use clients::Clients;
use connections::{Connections, Misplaced};
use ports::Ports;

/// A TCP connection of a TURN client, with TLS or without, on its way to a server.
pub struct Stream {
    /// The connection; does not block.
    pub stream: TcpStream,
    /// The TLS session on it, whose handshake is done.
    pub tls: Option<Box<rustls::ServerConnection>>,
    /// What was read, and with TLS decrypted, so far.
    pub bytes: Vec<u8>,
    /// Our address.
    pub local: SocketAddr,
    /// The client's address.
    pub remote: SocketAddr,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("has_tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// The ways into the servers of a process, and what they have counted.
#[derive(Debug)]
pub struct Inlets {
    streams: Vec<Mailbox<Stream>>,
    counts: Vec<Mutex<Counts>>,
    /// Connections for which there was no room on their way in.
    refused: AtomicU64,
    route: fn(User) -> usize,
}

impl Inlets {
    /// For so many servers; `route` says which of them serves a user.
    ///
    /// # Errors
    /// The system gives no descriptor.
    pub fn new(servers: usize, route: fn(User) -> usize) -> io::Result<Self> {
        let streams: io::Result<_> = (0..servers).map(|_| Mailbox::new(STREAMS_MAX)).collect();
        Ok(Self {
            streams: streams?,
            counts: (0..servers).map(|_| Mutex::default()).collect(),
            refused: AtomicU64::new(0),
            route,
        })
    }

    /// Gives a connection to the first server, which passes it on once it says whose it is. One for which
    /// there is no room is closed.
    pub fn push(&self, stream: Stream) {
        self.push_to(0, stream);
    }

    fn push_to(&self, server: usize, stream: Stream) {
        if let Some(streams) = self.streams.get(server) {
            // Dropping closes it: the client tries again.
            let refused = u64::from(streams.push(stream).is_err());
            self.refused.fetch_add(refused, Ordering::Relaxed);
        }
    }

    /// What all servers have counted, as of at most a second ago.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        sum.connections_refused = self.refused.load(Ordering::Relaxed);
        for counts in &self.counts {
            sum.add(&counts.lock().unwrap_or_else(PoisonError::into_inner));
        }
        sum
    }
}

/// One TURN server with its sockets.
#[derive(Debug)]
pub struct Relay {
    clients: Clients,
    inlets: Arc<Inlets>,
    index: usize,
    ready: VecDeque<Ready>,
    buffers: ReceiveBuffers,
    batch: Vec<Datagram<'static>>,
    published_at: Instant,
}

/// The UDP sockets of a server.
#[derive(Debug)]
pub struct UdpPorts {
    /// The server's own port.
    pub own: UdpSockets,
    /// The other port of behaviour discovery, and whether it is received here.
    pub other: Option<(UdpSockets, bool)>,
}

/// A source with something to read or room to write.
#[derive(Clone, Copy, Debug)]
enum Ready {
    Inlet,
    Udp(usize),
    Other(usize),
    Port(u64),
    Connection { number: u64, writable: bool },
}

impl Relay {
    /// Takes over the sockets of server `index`.
    ///
    /// # Errors
    /// The system gives no descriptor.
    pub fn new(
        settings: Settings,
        udp: Option<UdpPorts>,
        inlets: Arc<Inlets>,
        index: usize,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let (own, other) = udp.map(|udp| (udp.own, udp.other)).unzip();
        let other = other.flatten();
        for place in 0..own.as_ref().map_or(0, UdpSockets::count) {
            let fd = own.as_ref().map(|own: &UdpSockets| own.fd(place));
            fd.map(|fd| add(&epoll, fd, UDP, place as u64))
                .transpose()?;
        }
        if let Some((other, true)) = &other {
            for place in 0..other.count() {
                add(&epoll, other.fd(place), OTHER, place as u64)?;
            }
        }
        if let Some(streams) = inlets.streams.get(index) {
            add(&epoll, streams.as_fd(), INLET, 0)?;
        }
        Ok(Self {
            published_at: settings.started,
            clients: Clients {
                server: Server::new(settings),
                before: Counts::default(),
                udp: own,
                other: other.map(|(other, _)| other),
                connections: Connections::default(),
                ports: Ports::default(),
                epoll,
                arena: Arena::new(),
            },
            inlets,
            index,
            ready: VecDeque::new(),
            buffers: ReceiveBuffers::new(),
            batch: Vec::new(),
        })
    }

    /// Readable when `receive` has something to do.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.clients.epoll.0.as_fd()
    }

    /// Serves one source that is ready. What clients send to our own media is appended to `datagrams`.
    ///
    /// False: nothing is ready any more.
    pub fn receive<'b>(&'b mut self, now: Instant, datagrams: &mut Vec<Datagram<'b>>) -> bool {
        if self.ready.is_empty() {
            self.poll_ready();
        }
        let Some(ready) = self.ready.pop_front() else {
            return false;
        };
        match ready {
            Ready::Inlet => self.take_streams(now),
            Ready::Udp(_) | Ready::Other(_) => self.receive_udp(now, ready, datagrams),
            Ready::Port(number) => self.receive_port(now, number),
            Ready::Connection { number, writable } => {
                if writable {
                    self.clients.connections.write(&self.clients.epoll, number);
                }
                self.receive_connection(now, number, datagrams);
            }
        }
        true
    }

    /// Queues a datagram of our own media for a client; `flush` sends it.
    pub fn send(&mut self, now: Instant, path: Path, bytes: &[u8]) {
        let Protocol::Relayed(number) = path.protocol else {
            return;
        };
        let about = (number, path.local);
        self.clients.contain(|clients| {
            let full = Delivery::ArenaFull;
            let arena = &mut clients.arena;
            if clients.server.handle_own(now, about, bytes, arena) == full {
                clients.send();
                let arena = &mut clients.arena;
                clients.server.handle_own(now, about, bytes, arena);
            }
        });
    }

    /// Sends what is queued for clients.
    pub fn flush(&mut self) {
        self.clients.send();
    }

    /// Lets one of our own users use its credentials.
    pub fn handle_joined(&mut self, user: User) {
        self.clients.server.handle_joined(user);
    }

    /// Ends one of our own users and its allocations.
    pub fn handle_left(&mut self, user: User) {
        self.clients
            .contain(|clients| clients.server.handle_left(user));
        self.close_ports();
    }

    /// Ends all users that are not there any more.
    pub fn retain_users(&mut self, is_here: &dyn Fn(User) -> bool) {
        self.clients
            .contain(|clients| clients.server.retain_users(is_here));
        self.close_ports();
    }

    /// What crossed its UDP port.
    pub fn udp_counts(&self) -> UdpCounts {
        self.clients
            .udp
            .as_ref()
            .map(|udp| *udp.counts())
            .unwrap_or_default()
    }

    /// When `handle_timeout` has something to do; `None`: nothing pending.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let publish = self.published_at + PUBLISH_INTERVAL;
        self.clients
            .server
            .poll_timeout()
            .into_iter()
            .chain([publish])
            .min()
    }

    /// Ends what has expired, and publishes what was counted.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clients
            .contain(|clients| clients.server.handle_timeout(now));
        self.close_ports();
        if now < self.published_at + PUBLISH_INTERVAL {
            return;
        }
        self.published_at = now;
        self.set_clock(now);
        self.close_connections(now);
        let mut counts = self.clients.server.counts();
        counts.add_counters(&self.clients.before);
        counts.connections = self.clients.connections.count();
        counts.connections_refused += self.clients.connections.refused();
        counts.dropped_many(DropReason::StreamFull, self.clients.connections.dropped());
        let sockets = [&self.clients.udp, &self.clients.other]
            .into_iter()
            .flatten();
        let unsent = sockets.map(UdpSockets::dropped).sum::<u64>() + self.clients.ports.dropped();
        counts.dropped_many(DropReason::SocketFull, unsent);
        if let Some(published) = self.inlets.counts.get(self.index) {
            *published.lock().unwrap_or_else(PoisonError::into_inner) = counts;
        }
    }

    /// Follows the wall clock, by which credentials end: somebody may have stepped it.
    #[expect(clippy::disallowed_methods, reason = "I/O lives here")]
    fn set_clock(&mut self, now: Instant) {
        if let Ok(unix_time) = SystemTime::now().duration_since(UNIX_EPOCH) {
            self.clients.server.set_clock(now, unix_time.as_secs());
        }
    }

    fn poll_ready(&mut self) {
        let mut events = [EpollEvent::empty(); 64];
        let count = self
            .clients
            .epoll
            .wait(&mut events, EpollTimeout::ZERO)
            .unwrap_or(0);
        self.ready
            .extend(events.iter().take(count).filter_map(|event| {
                let number = event.data() & NUMBER_MASK;
                let place = usize::try_from(number).unwrap_or_default();
                match event.data() & !NUMBER_MASK {
                    INLET => Some(Ready::Inlet),
                    UDP => Some(Ready::Udp(place)),
                    OTHER => Some(Ready::Other(place)),
                    PORT => Some(Ready::Port(number)),
                    CONNECTION => Some(Ready::Connection {
                        number,
                        writable: event.events().contains(EpollFlags::EPOLLOUT),
                    }),
                    _ => None,
                }
            }));
    }

    fn take_streams(&mut self, now: Instant) {
        let Some(streams) = self.inlets.streams.get(self.index) else {
            return;
        };
        streams.clear_wake();
        let mut taken = VecDeque::new();
        streams.take(STREAMS_MAX, &mut taken);
        for stream in taken {
            if let Some(number) = self
                .clients
                .connections
                .open(now, stream, &self.clients.epoll)
            {
                // What was read before does not make the socket readable.
                self.ready.push_back(Ready::Connection {
                    number,
                    writable: false,
                });
            }
        }
    }

    fn receive_udp<'b>(
        &'b mut self,
        now: Instant,
        ready: Ready,
        datagrams: &mut Vec<Datagram<'b>>,
    ) {
        let mut batch = recycle(std::mem::take(&mut self.batch));
        let clients = &mut self.clients;
        let (place, sockets) = match ready {
            Ready::Other(place) => (place, &mut clients.other),
            Ready::Udp(place) => (place, &mut clients.udp),
            _ => return,
        };
        if let Some(sockets) = sockets {
            sockets.receive(place, &mut self.buffers, &mut batch);
        }
        clients.serve(now, batch.drain(..), datagrams);
        self.batch = recycle(batch);
    }

    fn receive_connection<'b>(
        &'b mut self,
        now: Instant,
        number: u64,
        datagrams: &mut Vec<Datagram<'b>>,
    ) {
        let mut batch = Vec::new();
        let (inlets, index) = (&self.inlets, self.index);
        let is_here = |user: User| (inlets.route)(user) == index;
        let clients = &mut self.clients;
        let misplaced =
            clients
                .connections
                .receive(number, &is_here, &mut self.buffers, &mut batch);
        clients.serve(now, batch.into_iter(), datagrams);
        if let Some(Misplaced { user, bytes }) = misplaced
            && let Some(stream) = clients.connections.take(number, bytes, &clients.epoll)
        {
            self.inlets.push_to((self.inlets.route)(user), stream);
        }
        while let Some(path) = clients.connections.poll_closed() {
            clients.server.handle_closed(path);
        }
    }

    fn receive_port(&mut self, now: Instant, number: u64) {
        let mut batch = recycle(std::mem::take(&mut self.batch));
        let clients = &mut self.clients;
        let relayed = clients.ports.receive(number, &mut self.buffers, &mut batch);
        clients.contain(|clients| {
            for datagram in batch.drain(..) {
                let Some(relayed) = relayed else { break };
                let about = (relayed, datagram.path.remote);
                clients.deliver(now, about, datagram.bytes);
            }
        });
        clients.send();
        self.batch = recycle(batch);
    }

    fn close_ports(&mut self) {
        while let Some(address) = self.clients.server.poll_close() {
            self.clients.ports.close(address);
        }
    }

    /// Closes connections that have been without an allocation for a while.
    fn close_connections(&mut self, now: Instant) {
        let server = &self.clients.server;
        self.clients
            .connections
            .close_idle(now, |path| server.has_allocation(path));
        while let Some(path) = self.clients.connections.poll_closed() {
            self.clients.server.handle_closed(path);
        }
    }
}

fn add(epoll: &Epoll, fd: BorrowedFd<'_>, kind: u64, number: u64) -> io::Result<()> {
    epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, kind | number))?;
    Ok(())
}

/// Connections on their way into a server.
const STREAMS_MAX: usize = 256;
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);
/// What epoll data say: the kind of source, and its number below.
const NUMBER_MASK: u64 = (1 << 56) - 1;
const INLET: u64 = 1 << 56;
const UDP: u64 = 2 << 56;
const OTHER: u64 = 3 << 56;
const PORT: u64 = 4 << 56;
const CONNECTION: u64 = 5 << 56;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::auth::Secrets;
    use crate::quotas::Quotas;

    /// A server with one user, and its address.
    fn open() -> (Relay, SocketAddr) {
        #[expect(clippy::disallowed_methods, reason = "where the virtual clock starts")]
        let started = Instant::now();
        let settings = Settings {
            media: Vec::new(),
            secrets: Secrets::new([1; 32], None),
            quotas: Quotas::new(12, 32, 2000),
            relay: None,
            discovery: None,
            seed: [2; 32],
            started,
            unix_started: 1_800_000_000,
        };
        let own = UdpSockets::bind(0, 1 << 16).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], own.port()));
        let inlets = Arc::new(Inlets::new(1, |_| 0).unwrap());
        let udp = Some(UdpPorts { own, other: None });
        let mut relay = Relay::new(settings, udp, inlets, 0).unwrap();
        relay.handle_joined(User(7));
        (relay, address)
    }

    /// Serves until the client has its answer, or until nothing is left to do.
    fn answer(relay: &mut Relay, client: &UdpSocket) -> bool {
        let now = relay.published_at;
        let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[1; 12]].concat();
        client.send(&binding).unwrap();
        // On loopback what was sent is there when the call returns.
        while relay.receive(now, &mut Vec::new()) {}
        client.recv(&mut [0; 100]).is_ok()
    }

    #[test]
    fn a_panic_ends_the_allocations_and_the_server_goes_on_with_its_users() {
        let (mut relay, address) = open();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(address).unwrap();
        client.set_nonblocking(true).unwrap();
        assert!(answer(&mut relay, &client));
        relay.clients.server.stumbles = true;
        assert!(!answer(&mut relay, &client));
        assert!(answer(&mut relay, &client));
        assert!(relay.clients.server.users().contains(&User(7)));
        relay.handle_timeout(relay.published_at + PUBLISH_INTERVAL);
        let counts = relay.inlets.counts();
        assert_eq!((counts.panics, counts.bindings), (1, 2));
    }
}
