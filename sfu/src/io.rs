//! All input and output: one thread per shard, the TCP listener's thread, and the handle to them.
//!
//! A [`driver`] waits in poll(2), takes a batch from its sockets, gives it to the pure
//! [`Shard`](crate::shard::Shard), and sends what `flush` put into the arena. The outside talks to shards
//! through [`Sfu`] and hears from them through [`Events`].
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "I/O lives here"
)]

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::driver::Driver;
use self::tcp::Identified;
use self::tcp::listener::{Doorkeeper, Listener, PATIENCE};
use self::udp::UdpSockets;
use self::wake::Mailbox;
use crate::config::Config;
use crate::ids::{ParticipantId, RoomId};
use crate::metrics::{Metric, Metrics};
use crate::peer::dtls::Certificate;
use crate::sfu::{Command, Event, RoomConfig};
use crate::shard::ShardOptions;

mod addresses;
mod driver;
mod limits;
mod restart;
mod tcp;
mod udp;
mod wake;

/// The running media core: its threads, and the way to tell them something.
///
/// Dropping it ends the threads.
#[derive(Debug)]
pub struct Sfu {
    links: Arc<[Arc<Link>]>,
    udp_ports: Vec<u16>,
    tcp_port: u16,
    rooms: Mutex<Rooms>,
    next_participant: AtomicU64,
    listener_metrics: Arc<Mutex<Metrics>>,
    listener_stop: Arc<Mailbox<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// What shards tell the outside, of each shard in order.
#[derive(Debug)]
pub struct Events {
    receiver: Receiver<Event>,
}

/// Why the media core cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A UDP port cannot be had.
    #[error("media.udp_port: UDP port {port} cannot be used")]
    Udp {
        /// Which one; 0 when the system was to choose.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The TCP port cannot be had.
    #[error("media.tcp_port: TCP port {port} cannot be used")]
    Tcp {
        /// Which one; 0 when the system was to choose.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// More shards than there are ports above `udp_port`, or than a ufrag can name.
    #[error("media.shards: {shards} shards from UDP port {port} are too many")]
    TooManyShards {
        /// How many.
        shards: u16,
        /// The first port.
        port: u16,
    },
    /// The addresses of this machine cannot be listed.
    #[error("the addresses of this machine cannot be listed; set media.advertise")]
    Addresses(#[source] std::io::Error),
    /// The system gives no thread, descriptor or randomness.
    #[error("the system lacks something every program needs")]
    System(#[source] std::io::Error),
}

/// A shard has more commands waiting than it takes; the command was not given to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard's command queue is full")]
pub struct QueueFull;

/// What leads to one shard's thread.
#[derive(Debug)]
pub(crate) struct Link {
    inputs: Mailbox<Input>,
    stopped: AtomicBool,
    published: Mutex<Metrics>,
}

/// What a shard's thread is handed.
#[derive(Debug)]
enum Input {
    Command(Command),
    Connection(Identified),
}

/// Where rooms live, for placing the next one.
#[derive(Debug)]
struct Rooms {
    next: u64,
    by_shard: Vec<HashSet<RoomId>>,
}

impl Sfu {
    /// Opens the sockets and starts the threads.
    ///
    /// # Errors
    /// Nothing is left running when something cannot be had.
    pub fn start(config: Config) -> Result<(Self, Events), StartError> {
        let shards = shard_count(&config)?;
        limits::raise_files();
        let mut sockets = Vec::new();
        for index in 0..shards {
            let port = if config.udp_port == 0 {
                0
            } else {
                config.udp_port + index
            };
            let bound = UdpSockets::bind(port, config.socket_buffer_bytes);
            sockets.push(bound.map_err(|source| StartError::Udp { port, source })?);
        }
        limits::check_buffers(&sockets, config.socket_buffer_bytes);
        let port = config.tcp_port;
        let listener = Listener::bind(port).map_err(|source| StartError::Tcp { port, source })?;
        Self::start_threads(config, sockets, listener)
    }

    fn start_threads(
        config: Config,
        sockets: Vec<UdpSockets>,
        listener: Listener,
    ) -> Result<(Self, Events), StartError> {
        let (sender, receiver) = sync_channel(EVENTS_MAX);
        let links: Result<Vec<_>, _> = sockets.iter().map(|_| Link::new().map(Arc::new)).collect();
        let links: Arc<[Arc<Link>]> = links.map_err(StartError::System)?.into();
        let stop = Arc::new(Mailbox::new(1).map_err(StartError::System)?);
        // The handle exists before its threads, so that a failure on the way ends those that run.
        let mut sfu = Self {
            links: Arc::clone(&links),
            udp_ports: sockets.iter().map(UdpSockets::port).collect(),
            tcp_port: listener.port(),
            rooms: Mutex::new(Rooms {
                next: 0,
                by_shard: vec![HashSet::new(); sockets.len()],
            }),
            next_participant: AtomicU64::new(0),
            listener_metrics: Arc::default(),
            listener_stop: Arc::clone(&stop),
            threads: Vec::new(),
        };
        sfu.start_shards(config, sockets, &sender)?;
        let metrics = Arc::clone(&sfu.listener_metrics);
        let doorkeeper = Doorkeeper::new(listener, links, metrics, stop, PATIENCE);
        let doorkeeper = doorkeeper.map_err(StartError::System)?;
        sfu.start_thread("plenum-tcp".to_owned(), move || doorkeeper.run())?;
        Ok((sfu, Events { receiver }))
    }

    fn start_shards(
        &mut self,
        config: Config,
        sockets: Vec<UdpSockets>,
        events: &SyncSender<Event>,
    ) -> Result<(), StartError> {
        let advertised = advertised(&config, &sockets)?;
        let config = Arc::new(config);
        let certificate = Arc::new(Certificate::generate());
        let (started, ntp_at_start) = (Instant::now(), ntp_now());
        for (index, udp) in (0..).zip(sockets) {
            let options = ShardOptions {
                index,
                config: Arc::clone(&config),
                candidates: addresses::candidates(&advertised, udp.port(), self.tcp_port),
                certificate: Arc::clone(&certificate),
                seed: fresh_seed().map_err(StartError::System)?,
                started,
                ntp_at_start,
            };
            let link = Arc::clone(&self.links[usize::from(index)]);
            let driver = Driver::new(options, udp, link, events.clone());
            let driver = driver.map_err(StartError::System)?;
            self.start_thread(format!("plenum-shard-{index}"), move || driver.run())?;
        }
        Ok(())
    }

    fn start_thread(
        &mut self,
        name: String,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let thread = thread::Builder::new()
            .name(name)
            .spawn(run)
            .map_err(StartError::System)?;
        self.threads.push(thread);
        Ok(())
    }

    /// Opens a room on the shard with the fewest.
    pub fn create_room(&self, config: RoomConfig) -> RoomId {
        let room = self.lock_rooms().place();
        // Rooms are bounded by who may create them, so this one goes in even when the queue is full.
        let link = &self.links[room.shard()];
        link.inputs
            .push_always(Input::Command(Command::CreateRoom { room, config }));
        room
    }

    /// An id for someone about to join a room.
    pub fn next_participant(&self, room: RoomId) -> ParticipantId {
        let number = self.next_participant.fetch_add(1, Ordering::Relaxed);
        ParticipantId::new(u16::try_from(room.shard()).unwrap_or(u16::MAX), number)
    }

    /// Gives a command to the shard its ids name. An id that names no shard of ours goes to some
    /// shard, which treats it like any id it does not know.
    ///
    /// # Errors
    /// The shard is so busy that its queue is full.
    pub fn send(&self, command: Command) -> Result<(), QueueFull> {
        let index = shard_of(&command) % self.links.len();
        let closed = match &command {
            Command::CloseRoom { room } => Some(*room),
            _ => None,
        };
        self.links[index]
            .inputs
            .push(Input::Command(command))
            .map_err(|_| QueueFull)?;
        if let Some(room) = closed {
            self.lock_rooms().by_shard[index].remove(&room);
        }
        Ok(())
    }

    /// What all shards have counted, as of at most a second ago.
    pub fn metrics(&self) -> Vec<Metric> {
        self.counted().list()
    }

    fn counted(&self) -> Metrics {
        let mut sum = lock(&self.listener_metrics).clone();
        for link in self.links.iter() {
            sum.add(&lock(&link.published));
        }
        sum.shards = self.links.len() as u64;
        sum
    }

    /// The UDP port of each shard.
    pub fn udp_ports(&self) -> Vec<u16> {
        self.udp_ports.clone()
    }

    /// The port TCP connections are taken on.
    pub fn tcp_port(&self) -> u16 {
        self.tcp_port
    }

    /// Ends the threads once they have handled the commands given before; does not wait for them.
    pub fn shutdown(&self) {
        for link in self.links.iter() {
            link.stopped.store(true, Ordering::Release);
            link.inputs.wake();
        }
        self.listener_stop.push_always(());
    }

    fn lock_rooms(&self) -> MutexGuard<'_, Rooms> {
        lock(&self.rooms)
    }
}

impl Drop for Sfu {
    fn drop(&mut self) {
        self.shutdown();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Events {
    /// Waits for the next event; `None` once all shards have ended.
    pub fn recv(&mut self) -> Option<Event> {
        self.receiver.recv().ok()
    }
}

impl Link {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            inputs: Mailbox::new(COMMANDS_MAX)?,
            stopped: AtomicBool::new(false),
            published: Mutex::default(),
        })
    }

    /// Gives a TCP connection to the shard; gives it back when its queue is full.
    pub(crate) fn hand_over(&self, identified: Identified) -> Result<(), Identified> {
        match self.inputs.push(Input::Connection(identified)) {
            Err(Input::Connection(identified)) => Err(identified),
            _ => Ok(()),
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

impl Rooms {
    fn place(&mut self) -> RoomId {
        let counts = self.by_shard.iter().map(HashSet::len).zip(0..);
        let index = counts.min().map_or(0, |(_, index)| index);
        let room = RoomId::new(index, self.next);
        self.next += 1;
        self.by_shard[usize::from(index)].insert(room);
        room
    }
}

/// The shard a command's ids name.
fn shard_of(command: &Command) -> usize {
    match command {
        Command::CreateRoom { room, .. }
        | Command::CloseRoom { room }
        | Command::Join { room, .. }
        | Command::SendData { room, .. } => room.shard(),
        Command::Leave { participant }
        | Command::Offer { participant, .. }
        | Command::RestartIce { participant, .. }
        | Command::Unpublish { participant, .. }
        | Command::Mute { participant, .. }
        | Command::Subscribe { participant, .. }
        | Command::View { participant, .. }
        | Command::SetGrants { participant, .. } => participant.shard(),
    }
}

fn shard_count(config: &Config) -> Result<u16, StartError> {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    let shards = match config.shards {
        0 => u16::try_from(cores.min(SHARDS_MAX.into())).unwrap_or(SHARDS_MAX),
        shards => shards,
    };
    let is_too_many = config.udp_port.checked_add(shards - 1).is_none();
    if shards > SHARDS_MAX || is_too_many {
        return Err(StartError::TooManyShards {
            shards,
            port: config.udp_port,
        });
    }
    Ok(shards)
}

/// The addresses to offer: those configured, else all of this machine that the sockets reach.
fn advertised(config: &Config, sockets: &[UdpSockets]) -> Result<Vec<IpAddr>, StartError> {
    if !config.advertise.is_empty() {
        return Ok(config
            .advertise
            .iter()
            .map(|address| address.to_canonical())
            .collect());
    }
    let mut addresses = addresses::machine_addresses().map_err(StartError::Addresses)?;
    addresses.retain(|&address| sockets.iter().all(|udp| udp.reaches(address)));
    Ok(addresses)
}

fn fresh_seed() -> std::io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    let filled = aws_lc_rs::rand::fill(&mut seed);
    filled.map_err(|_| std::io::Error::other("no randomness"))?;
    Ok(seed)
}

/// The wall clock as NTP has it: seconds since 1900 and their fraction, 32 bits each (RFC 5905 §6).
fn ntp_now() -> u64 {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let seconds = since_1970.as_secs().wrapping_add(NTP_TO_UNIX_SECONDS);
    let fraction = (u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000;
    seconds << 32 | fraction
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A ufrag names its shard with two hex digits.
const SHARDS_MAX: u16 = 256;
/// Commands waiting for one shard: a few milliseconds of its time.
const COMMANDS_MAX: usize = 4096;
/// Events waiting for the service; beyond that each shard keeps its own.
const EVENTS_MAX: usize = 4096;
/// From 1900 to 1970, 17 leap years among them.
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

#[cfg(test)]
mod tests;
