//! The threads of the bots: each waits for its sockets, its mailbox and the next due moment, and drives
//! its [`Fleet`].

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use net::{ReceiveBuffers, UdpSockets};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use sfu::shard::{Arena, Datagram};
use tokio::sync::oneshot;

use crate::bot::{Agreed, BotPlan};
use crate::fleet::{BotKey, Clock, Fleet, Stages};
use crate::totals::{Joins, Totals};
use crate::turn::Channel;

/// The local end of a bot's path.
pub enum Seat {
    /// An address of its own on the socket that the bots of a thread share.
    Shared(SocketAddr),
    /// A socket of its own.
    Own(Box<UdpSockets>),
    /// A socket of its own, through the server's TURN.
    Relayed(Box<UdpSockets>, Channel),
}

impl Seat {
    /// The local address; unspecified where the system chooses.
    pub fn local(&self) -> SocketAddr {
        match self {
            Self::Shared(address) => *address,
            Self::Own(socket) | Self::Relayed(socket, _) => {
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, socket.port()))
            }
        }
    }
}

/// What the bots of a thread have counted.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Since the mark.
    pub totals: Totals,
    /// Of bots that do not receive as others do.
    pub hindered: Totals,
    /// Since the beginning.
    pub joins: Joins,
    /// How far they have come.
    pub stages: Stages,
    /// Expected streams that do not come; known after the finish.
    pub missing_streams: u64,
    /// Processor time of the threads.
    pub cpu: Duration,
    /// Datagrams that the kernel did not take.
    pub unsent: u64,
}

impl Snapshot {
    /// Adds that of another thread.
    pub fn add(&mut self, other: &Self) {
        self.totals.add(&other.totals);
        self.hindered.add(&other.hindered);
        self.joins.add(&other.joins);
        self.stages.add(&other.stages);
        self.missing_streams += other.missing_streams;
        self.cpu += other.cpu;
        self.unsent += other.unsent;
    }
}

enum Order {
    Add(Box<(BotPlan, Agreed, Seat)>),
    Mark,
    Look(oneshot::Sender<Snapshot>),
    Finish(oneshot::Sender<Snapshot>),
    Stop,
}

/// The handle to one thread of bots; dropping it ends the thread.
pub struct BotThread {
    orders: Sender<Order>,
    wake: Arc<EventFd>,
    port: u16,
    /// How many addresses of the shared socket are taken.
    taken: Mutex<u32>,
    first_address: u32,
    thread: Option<JoinHandle<()>>,
}

impl BotThread {
    /// Starts the `index`th thread.
    pub fn start(index: u8, clock: Clock) -> Result<Self> {
        let socket = UdpSockets::bind(0, BUFFER_BYTES).context("no UDP socket for the bots")?;
        let port = socket.port();
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let (orders, inbox) = channel();
        let driver = Driver::new(socket, (inbox, wake.clone()), clock)?;
        let thread = std::thread::Builder::new()
            .name(format!("bots-{index}"))
            .spawn(move || driver.run())?;
        Ok(Self {
            orders,
            wake,
            port,
            taken: Mutex::new(0),
            first_address: u32::from(Ipv4Addr::new(127, 1 + index % 250, 0, 1)),
            thread: Some(thread),
        })
    }

    /// A seat for one more bot: on loopback an address of its own unless it `is_own`, else a socket of its own.
    pub fn seat(&self, server: IpAddr, is_own: bool) -> io::Result<Seat> {
        if is_own || !server.is_loopback() || server.is_ipv6() {
            return Ok(Seat::Own(Box::new(UdpSockets::bind(0, OWN_BUFFER_BYTES)?)));
        }
        let mut taken = self.taken.lock().map_err(|_| io::ErrorKind::Other)?;
        let ip = Ipv4Addr::from(self.first_address + *taken);
        *taken += 1;
        Ok(Seat::Shared(SocketAddr::from((ip, self.port))))
    }

    /// Hands a bot over.
    pub fn add(&self, plan: BotPlan, agreed: Agreed, seat: Seat) {
        self.order(Order::Add(Box::new((plan, agreed, seat))));
    }

    /// Counts from now on.
    pub fn mark(&self) {
        self.order(Order::Mark);
    }

    /// What was counted so far.
    pub async fn look(&self) -> Result<Snapshot> {
        let (reply, snapshot) = oneshot::channel();
        self.order(Order::Look(reply));
        snapshot.await.context("a thread of bots has ended")
    }

    /// What was counted, with what is still open settled.
    pub async fn finish(&self) -> Result<Snapshot> {
        let (reply, snapshot) = oneshot::channel();
        self.order(Order::Finish(reply));
        snapshot.await.context("a thread of bots has ended")
    }

    fn order(&self, order: Order) {
        // A thread that has ended is noticed by who waits for its answer.
        let _ = self.orders.send(order);
        let _ = self.wake.write(1);
    }
}

impl Drop for BotThread {
    fn drop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What runs in a thread.
struct Driver {
    fleet: Fleet,
    sockets: Vec<UdpSockets>,
    /// Which socket has a port.
    ports: HashMap<u16, usize>,
    /// Whose a local address is; with an unspecified address, whose a port is.
    seats: HashMap<SocketAddr, BotKey>,
    /// Through which TURN channel the socket with this port speaks.
    channels: HashMap<u16, Channel>,
    buffers: ReceiveBuffers,
    arena: Arena,
    inbox: Receiver<Order>,
    wake: Arc<EventFd>,
    epoll: Epoll,
    stopped: bool,
}

impl Driver {
    fn new(
        shared: UdpSockets,
        (inbox, wake): (Receiver<Order>, Arc<EventFd>),
        clock: Clock,
    ) -> Result<Self> {
        let mut driver = Self {
            fleet: Fleet::new(clock),
            sockets: Vec::new(),
            ports: HashMap::new(),
            seats: HashMap::new(),
            channels: HashMap::new(),
            buffers: ReceiveBuffers::new(),
            arena: Arena::new(),
            inbox,
            wake,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            stopped: false,
        };
        driver.watch(shared)?;
        Ok(driver)
    }

    fn watch(&mut self, socket: UdpSockets) -> io::Result<()> {
        let number = self.sockets.len() as u64;
        for index in 0..socket.count() {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, number << 1 | index as u64);
            self.epoll.add(socket.fd(index), event)?;
        }
        self.ports.insert(socket.port(), self.sockets.len());
        self.sockets.push(socket);
        Ok(())
    }

    fn run(mut self) {
        while !self.stopped {
            let ready = self.wait();
            let began = Instant::now();
            let mut packets = 0;
            for socket in ready {
                packets += self.receive(socket);
            }
            self.take_orders();
            for _ in 0..TIMEOUTS_PER_TURN {
                if !self.fleet.handle_next_timeout(Instant::now()) {
                    break;
                }
                // A publisher's frame does not wait for what others have to say.
                if self.fleet.outbox().len() >= OUT_MAX {
                    self.send();
                }
            }
            self.send();
            if packets > 0 {
                self.fleet.note_turn(began.elapsed(), packets);
            }
        }
    }

    /// Waits for sockets, orders or the next due moment; returns the sockets that have something.
    fn wait(&mut self) -> Vec<u64> {
        let now = Instant::now();
        let due = self.fleet.poll_timeout().unwrap_or(now + WAIT_MAX);
        let wait = TimeSpec::from_duration(due.saturating_duration_since(now));
        let mut watched = [
            PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
        ];
        // A signal only wakes it early.
        let _ = ppoll(&mut watched, Some(wait), None);
        let mut events = [EpollEvent::empty(); SOCKETS_PER_TURN];
        let count = self
            .epoll
            .wait(&mut events, EpollTimeout::ZERO)
            .unwrap_or(0);
        let ready = events.iter().take(count);
        ready.map(EpollEvent::data).collect()
    }

    fn take_orders(&mut self) {
        let _ = self.wake.read();
        while let Ok(order) = self.inbox.try_recv() {
            let now = Instant::now();
            match order {
                Order::Add(entry) => self.add(now, *entry),
                Order::Mark => self.fleet.mark(now),
                Order::Look(reply) => {
                    let _ = reply.send(self.snapshot(0));
                }
                Order::Finish(reply) => {
                    let missing = self.fleet.finish(now);
                    let _ = reply.send(self.snapshot(missing));
                }
                Order::Stop => self.stopped = true,
            }
        }
    }

    fn add(&mut self, now: Instant, (plan, agreed, seat): (BotPlan, Agreed, Seat)) {
        let local = seat.local();
        let key = self.fleet.add(now, plan, agreed);
        self.seats.insert(local, key);
        // Without it the bot hears nothing and is reported as failed.
        match seat {
            Seat::Shared(_) => {}
            Seat::Own(socket) => _ = self.watch(*socket),
            Seat::Relayed(socket, channel) => {
                self.channels.insert(socket.port(), channel);
                let _ = self.watch(*socket);
            }
        }
    }

    fn snapshot(&self, missing_streams: u64) -> Snapshot {
        let cpu = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
        Snapshot {
            totals: self.fleet.totals().clone(),
            hindered: self.fleet.hindered().clone(),
            joins: self.fleet.joins().clone(),
            stages: self.fleet.stages(),
            missing_streams,
            cpu: cpu.unwrap_or_default(),
            unsent: self.sockets.iter().map(UdpSockets::dropped).sum(),
        }
    }

    /// Takes what a socket has, but not for ever; returns how many datagrams.
    fn receive(&mut self, ready: u64) -> u64 {
        let index = usize::from(ready & 1 == 1);
        let Some(socket) = usize::try_from(ready >> 1)
            .ok()
            .and_then(|n| self.sockets.get_mut(n))
        else {
            return 0;
        };
        let mut received = 0;
        let mut last: Option<(SocketAddr, BotKey)> = None;
        for _ in 0..BATCHES_PER_TURN {
            let mut datagrams: Vec<Datagram<'_>> = Vec::with_capacity(DATAGRAMS_PER_BATCH);
            socket.receive(index, &mut self.buffers, &mut datagrams);
            if datagrams.is_empty() {
                break;
            }
            let now = Instant::now();
            received += datagrams.len() as u64;
            for datagram in datagrams {
                let local = datagram.path.local;
                let key = match last {
                    Some((address, key)) if address == local => key,
                    _ => {
                        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, local.port()));
                        let found = self.seats.get(&local).or_else(|| self.seats.get(&any));
                        let Some(key) = found else { continue };
                        last = Some((local, *key));
                        *key
                    }
                };
                let is_relayed = self.channels.contains_key(&local.port());
                let bytes = match is_relayed {
                    true => Channel::data(datagram.bytes),
                    false => Some(datagram.bytes),
                };
                if let Some(bytes) = bytes {
                    self.fleet.handle_datagram(now, key, bytes);
                }
            }
        }
        received
    }

    /// Sends what the fleet has, each datagram by itself: browsers use no segmentation offload.
    fn send(&mut self) {
        let mut out = std::mem::take(self.fleet.outbox());
        let (mut from, mut last) = (0, None);
        for (mut path, bytes) in out.drain() {
            let channel = self.channels.get(&path.local.port());
            let header = channel.map(|_| Channel::header(bytes.len()));
            let header = header.as_ref().map_or(&[][..], |header| header);
            if let Some(channel) = channel {
                path.remote = channel.server;
            }
            let socket = self.ports.get(&path.local.port()).copied().unwrap_or(0);
            // Two in a row on one path would become one run.
            if socket != from || last == Some(path) || self.arena.reserve().is_none() {
                self.flush(from);
            }
            (from, last) = (socket, Some(path));
            if let Some(room) = self.arena.reserve()
                && let Some((first, rest)) = room.split_at_mut_checked(header.len())
                && let Some(rest) = rest.get_mut(..bytes.len())
            {
                first.copy_from_slice(header);
                rest.copy_from_slice(&bytes);
                self.arena.aim(path);
                self.arena.commit(header.len() + bytes.len());
            }
        }
        self.flush(from);
        *self.fleet.outbox() = out;
    }

    fn flush(&mut self, socket: usize) {
        if let Some(socket) = self.sockets.get_mut(socket)
            && !self.arena.runs().is_empty()
        {
            socket.send(&self.arena);
        }
        self.arena.clear();
    }
}

/// Of the shared socket: a burst to every bot of the thread has to fit.
const BUFFER_BYTES: usize = 32 << 20;
/// Of a socket that is one bot's own.
const OWN_BUFFER_BYTES: usize = 1 << 20;
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Sockets served before timers are looked at again.
const SOCKETS_PER_TURN: usize = 64;
/// Batches taken from one socket before timers are looked at again.
const BATCHES_PER_TURN: usize = 32;
/// What a batch usually holds.
const DATAGRAMS_PER_BATCH: usize = 256;
/// Due moments served before sockets are looked at again.
const TIMEOUTS_PER_TURN: usize = 256;
/// Datagrams gathered before they are sent.
const OUT_MAX: usize = 16;
