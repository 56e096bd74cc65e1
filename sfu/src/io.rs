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

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::cascades::{Inbox, Inlet};
use self::driver::Driver;
use self::placement::{Change, Placement};
use self::relay::SharedRelays;
pub use self::relay::{Ends, Relay, Relays};
use self::tcp::Identified;
use self::tcp::listener::{Doorkeeper, Listener, PATIENCE};
use crate::config::{Config, SHARDS_MAX};
use crate::ids::{ParticipantId, RoomId};
use crate::metrics::{Metric, Metrics};
use crate::peer::dtls::Certificate;
use crate::sfu::{Command, Event, RoomConfig};
use crate::shard::ShardOptions;
use net::{Mailbox, UdpSockets};

pub use self::addresses::machine_addresses;
pub use self::annex::AnnexPort;
pub use self::limits::{Limit, limits};
mod addresses;
mod annex;
mod cascades;
mod driver;
mod limits;
mod placement;
mod quantum;
mod relay;
mod restart;
mod tcp;

/// The running media core: its threads, and the way to tell them something.
///
/// Dropping it ends the threads.
#[derive(Debug)]
pub struct Sfu {
    links: Arc<[Arc<Link>]>,
    addresses: Vec<IpAddr>,
    udp_ports: Vec<u16>,
    tcp_port: u16,
    placement: Arc<Mutex<Placement>>,
    listener_metrics: Arc<Mutex<Metrics>>,
    listener_stop: Arc<Mailbox<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// What shards tell the outside, of each shard in order.
#[derive(Debug)]
pub struct Events {
    receiver: Receiver<Event>,
    placement: Arc<Mutex<Placement>>,
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
    /// A port of the TURN server cannot be had.
    #[error("turn.port: a port of the TURN server cannot be used")]
    Relay(#[source] std::io::Error),
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
    inlet: Inlet,
    /// RTP packets sent to subscribers in the last second: its load, for placing rooms.
    sent_per_second: AtomicU64,
    stopped: AtomicBool,
    published: Mutex<Metrics>,
}

/// What a shard's thread is handed.
#[derive(Debug)]
enum Input {
    Command(Command),
    Connection(Identified),
}

impl Sfu {
    /// Opens the sockets and starts the threads.
    ///
    /// # Errors
    /// Nothing is left running when something cannot be had.
    pub fn start(config: Config) -> Result<(Self, Events), StartError> {
        let (sfu, events, _) = Self::start_with(config, None)?;
        Ok((sfu, events))
    }

    /// As [`Sfu::start`], with a TURN server in every media thread, and with a place in rooms for a
    /// program of this process.
    ///
    /// # Errors
    /// As [`Sfu::start`].
    pub fn start_with(
        config: Config,
        relays: Option<Arc<dyn Relays>>,
    ) -> Result<(Self, Events, AnnexPort), StartError> {
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
        Self::start_threads(config, sockets, listener, relays)
    }

    fn start_threads(
        config: Config,
        sockets: Vec<UdpSockets>,
        listener: Listener,
        relays: SharedRelays,
    ) -> Result<(Self, Events, AnnexPort), StartError> {
        let (sender, receiver) = sync_channel(EVENTS_MAX);
        // One for each shard, and the last one for the annex.
        let ends: Result<Vec<_>, _> = (0..=sockets.len()).map(|_| Link::new()).collect();
        let (links, mut inboxes): (Vec<_>, Vec<_>) =
            ends.map_err(StartError::System)?.into_iter().unzip();
        let links: Arc<[Arc<Link>]> = links.into();
        let annexed = u16::try_from(sockets.len()).ok().zip(inboxes.pop());
        let annex = annexed
            .map(|(index, inbox)| AnnexPort::new(index, Arc::clone(&links), inbox, sender.clone()));
        let placement = Placement::new(sockets.len(), config.room_participants_per_shard);
        let placement = Arc::new(Mutex::new(placement));
        let stop = Arc::new(Mailbox::new(1).map_err(StartError::System)?);
        // The handle exists before its threads, so that a failure on the way ends those that run.
        let mut sfu = Self {
            links: Arc::clone(&links),
            addresses: advertised(&config, &sockets)?,
            udp_ports: sockets.iter().map(UdpSockets::port).collect(),
            tcp_port: listener.port(),
            placement: Arc::clone(&placement),
            listener_metrics: Arc::default(),
            listener_stop: Arc::clone(&stop),
            threads: Vec::new(),
        };
        let ends = sockets.into_iter().zip(inboxes).collect();
        let proxies = config
            .tcp_proxy_protocol
            .then(|| config.tcp_proxy_from.clone());
        sfu.start_shards(config, ends, &sender, relays.as_deref())?;
        let metrics = Arc::clone(&sfu.listener_metrics);
        let doorkeeper = Doorkeeper::new(listener, links, metrics, stop, PATIENCE);
        let mut doorkeeper = doorkeeper.map_err(StartError::System)?;
        doorkeeper.serve_relays(relays);
        if let Some(proxies) = proxies {
            doorkeeper.expect_proxies(proxies);
        }
        sfu.start_thread("plenum-tcp".to_owned(), move || doorkeeper.run())?;
        let events = Events {
            receiver,
            placement,
        };
        let annex = annex.ok_or_else(|| StartError::System(std::io::ErrorKind::Other.into()))?;
        Ok((sfu, events, annex))
    }

    fn start_shards(
        &mut self,
        config: Config,
        ends: Vec<(UdpSockets, Inbox)>,
        events: &SyncSender<Event>,
        relays: Option<&dyn Relays>,
    ) -> Result<(), StartError> {
        let config = Arc::new(config);
        let certificate = Arc::new(Certificate::generate());
        let (started, ntp_at_start) = (Instant::now(), ntp_now());
        for (index, (udp, inbox)) in (0..).zip(ends) {
            let options = ShardOptions {
                index,
                config: Arc::clone(&config),
                candidates: addresses::candidates(&self.addresses, udp.port(), self.tcp_port),
                certificate: Arc::clone(&certificate),
                seed: fresh_seed().map_err(StartError::System)?,
                has_seeded_dtls: false,
                started,
                ntp_at_start,
            };
            let links = Arc::clone(&self.links);
            let relay = relays.map(|relays| relays.open(index, &options.candidates));
            let relay = relay.transpose().map_err(StartError::Relay)?;
            let driver = Driver::new(options, udp, links, inbox, events.clone());
            let mut driver = driver.map_err(StartError::System)?;
            driver.relay = relay;
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

    /// Opens a room on the shard with the least load.
    pub fn create_room(&self, config: RoomConfig) -> RoomId {
        let room = lock(&self.placement).open(&config, &self.loads());
        // Rooms are bounded by who may create them, so this one goes in even when the queue is full.
        let link = &self.links[room.shard()];
        link.inputs
            .push_always(Input::Command(Command::CreateRoom { room, config }));
        room
    }

    /// An id for someone about to join a room; it names the shard where the room has space.
    pub fn next_participant(&self, room: RoomId) -> ParticipantId {
        lock(&self.placement).seat(room, &self.loads())
    }

    /// An id for a participant of the annex, which publishes without a transport.
    ///
    /// `Join` places it; commands about it go to the annex.
    pub fn next_annexed(&self) -> ParticipantId {
        let annex = u16::try_from(self.udp_ports.len()).unwrap_or(u16::MAX);
        lock(&self.placement).seat_on(annex)
    }

    fn loads(&self) -> Vec<u64> {
        let links = self.links.iter();
        links
            .map(|link| link.sent_per_second.load(Ordering::Relaxed))
            .collect()
    }

    /// Gives a command to the shards its ids name. An id that names no shard of ours goes to some
    /// shard, which treats it like any id it does not know.
    ///
    /// # Errors
    /// A shard is so busy that its queue is full; no shard was given the command.
    pub fn send(&self, command: Command) -> Result<(), QueueFull> {
        let change = Change::of(&command);
        match &command {
            Command::CloseRoom { room } | Command::SendData { room, to: None, .. } => {
                let shards = lock(&self.placement).shards_of(*room);
                self.send_to(shards, &command)?;
            }
            Command::SendData { to: Some(to), .. } => {
                let shards = to.iter().map(|who| who.shard() % self.links.len());
                let mut shards: Vec<usize> = shards.collect();
                shards.sort_unstable();
                shards.dedup();
                self.send_to(shards, &command)?;
            }
            Command::CreateRoom { room, .. } => self.send_to(vec![room.shard()], &command)?,
            Command::Join {
                room, participant, ..
            } => {
                self.continue_room(*room, participant.shard())?;
                self.send_to(vec![participant.shard()], &command)?;
            }
            Command::Leave { participant }
            | Command::Offer { participant, .. }
            | Command::RestartIce { participant, .. }
            | Command::Unpublish { participant, .. }
            | Command::Mute { participant, .. }
            | Command::Subscribe { participant, .. }
            | Command::View { participant, .. }
            | Command::SetGrants { participant, .. } => {
                let link = self.link(participant.shard());
                let given = link.inputs.push(Input::Command(command));
                given.map_err(|_| QueueFull)?;
            }
        }
        if let Some(change) = change {
            lock(&self.placement).note(change);
        }
        Ok(())
    }

    /// Gives a command to several shards, or to none when one of them has no space.
    fn send_to(&self, shards: Vec<usize>, command: &Command) -> Result<(), QueueFull> {
        let links = || shards.iter().map(|shard| self.link(*shard));
        if !links().all(|link| link.inputs.has_space()) {
            return Err(QueueFull);
        }
        for link in links() {
            // At most one too many for each thread that gives commands in this moment.
            link.inputs.push_always(Input::Command(command.clone()));
        }
        Ok(())
    }

    /// Opens a room on a shard beside its home, if that is where someone joins; a second time does nothing.
    fn continue_room(&self, room: RoomId, shard: usize) -> Result<(), QueueFull> {
        let config = lock(&self.placement).config_of(room);
        match config.filter(|_| shard != room.shard()) {
            Some(config) => self.send_to(vec![shard], &Command::CreateRoom { room, config }),
            None => Ok(()),
        }
    }

    fn link(&self, shard: usize) -> &Link {
        &self.links[shard % self.links.len()]
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
        sum.shards = self.udp_ports.len() as u64;
        sum
    }

    /// The addresses given to clients, best first.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
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
        let event = self.receiver.recv().ok()?;
        if let Some(change) = Change::of_event(&event) {
            lock(&self.placement).note(change);
        }
        Some(event)
    }
}

impl Link {
    fn new() -> std::io::Result<(Arc<Self>, Inbox)> {
        let (inlet, inbox) = cascades::inbox();
        let link = Self {
            inputs: Mailbox::new(COMMANDS_MAX)?,
            inlet,
            sent_per_second: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            published: Mutex::default(),
        };
        Ok((Arc::new(link), inbox))
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

fn shard_count(config: &Config) -> Result<u16, StartError> {
    let shards = config.shard_count();
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
    let mut addresses = machine_addresses().map_err(StartError::Addresses)?;
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

/// Commands waiting for one shard: a few milliseconds of its time.
const COMMANDS_MAX: usize = 4096;
/// Events waiting for the service; beyond that each shard keeps its own.
const EVENTS_MAX: usize = 4096;
/// From 1900 to 1970, 17 leap years among them.
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

#[cfg(test)]
mod tests;
