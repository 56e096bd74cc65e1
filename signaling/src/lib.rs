//! Plenum's service: configuration, tokens, signaling, room API, WHIP and WHEP around the media core.
//!
//! A message's way: WebSocket text ([`http`](crate)) → [`message`] (parsed fully) → [`room`] and
//! [`session`] (allowed? in which state?) → `sfu::Command`; and back: `sfu::Event` → [`rooms`] →
//! [`room`] → text. `room` and `session` are pure machines; `http*` and this file hold the clocks,
//! sockets and tasks. [`Server`] is all of it, started.

pub mod auth;
mod broadcasts;
pub mod candidates;
pub mod cli;
pub mod config;
mod discovery;
mod http;
pub mod limits;
pub mod message;
pub mod metrics;
pub mod room;
pub mod rooms;
pub mod session;
mod turn_service;
pub mod webhooks;

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use sfu::{AnnexPort, Events, Sfu};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::auth::Keys;
use crate::broadcasts::{BroadcastEvents, Broadcasts};
use crate::candidates::Offered;
use crate::http::{Acme, App, EncoderSockets, Entry, Gate, HEAD_TIMEOUT, Listener, Proxies, Tls};
use crate::metrics::Metrics;
use crate::rooms::Rooms;
use crate::turn_service::TurnService;
use crate::webhooks::Webhooks;

pub use config::Config;
pub use http::{TurnDoor, TurnStream};

/// A running server. Dropping it ends it at once; [`Server::shutdown`] says goodbye first.
pub struct Server {
    addr: SocketAddr,
    admin_addr: Option<SocketAddr>,
    sfu: Arc<Sfu>,
    rooms: Arc<Rooms>,
    broadcasts: Arc<Broadcasts>,
    rtmp_addrs: Vec<SocketAddr>,
    keys: Arc<Keys>,
    tls: Option<Tls>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// A certificate made elsewhere than in files: DER of the certificate and its PKCS #8 key.
pub struct Certificate {
    /// The certificate.
    pub cert: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
}

/// Why the server does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address for HTTP cannot be had.
    #[error("cannot listen on {address} ({key}): {source}")]
    Listen {
        /// The option.
        key: &'static str,
        /// Its value.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// Certificate or key cannot be used.
    #[error("http.tls_cert: {0}")]
    Tls(String),
    /// A port for TURN cannot be had.
    #[error("turn.port: UDP port {port} cannot be used: {source}")]
    TurnPort {
        /// Which one; 0 when the system was to choose.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// The system lacks something the TURN server needs.
    #[error("the TURN server does not start: {0}")]
    Turn(std::io::Error),
    /// The folder for certificates by ACME cannot be used.
    #[error("http.acme_dir: {0}")]
    AcmeDir(std::io::Error),
    /// The folder for recordings cannot be used.
    #[error("recording.dir: {0}")]
    Recordings(std::io::Error),
    /// The media core does not start.
    #[error("the media core does not start: {0}")]
    Media(#[from] sfu::StartError),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// How often what is over is looked for.
const TICK: Duration = Duration::from_secs(1);
/// How often the certificate's files are looked at.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(10);
/// How long open requests and sockets have to end.
const END_TIMEOUT: Duration = Duration::from_secs(3);

impl Server {
    /// Starts everything the configuration asks for. Ports 0 let the system choose.
    ///
    /// # Errors
    /// What cannot be had, with the option it comes from.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let (http, metrics) = (&config.http, Arc::new(Metrics::new()));
        let unusable = |error: http::TlsError| StartError::Tls(error.to_string());
        let (mut tls, mut acme) = (None, None);
        if !http.tls_cert.is_empty() {
            let files = Tls::from_files(&http.tls_cert, &http.tls_key, Arc::clone(&metrics));
            tls = Some(files.map_err(unusable)?);
        } else if !http.acme_domains.is_empty() {
            let empty = Tls::for_acme(Arc::clone(&metrics)).map_err(unusable)?;
            let ordering = Acme::new(http, None, empty.clone(), Arc::clone(&metrics));
            acme = Some(ordering.map_err(StartError::AcmeDir)?);
            tls = Some(empty);
        }
        Self::start_with(config, metrics, tls, acme).await
    }

    /// As [`Server::start`], with a certificate that is in no file.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_https(config: &Config, own: Certificate) -> Result<Self, StartError> {
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(own.key).into();
        let metrics = Arc::new(Metrics::new());
        let tls = Tls::from_der(vec![own.cert.into()], key, Arc::clone(&metrics));
        let tls = tls.map_err(|error| StartError::Tls(error.to_string()))?;
        Self::start_with(config, metrics, Some(tls), None).await
    }

    async fn start_with(
        config: &Config,
        metrics: Arc<Metrics>,
        tls: Option<Tls>,
        acme: Option<Acme>,
    ) -> Result<Self, StartError> {
        let config = &*discovery::discovered(config).await;
        let listener = listen("http.addr", &config.http.addr.to_string()).await?;
        let admin = match config.http.admin_addr.as_str() {
            "" => None,
            address => Some(listen("http.admin_addr", address).await?),
        };
        let encoders = EncoderSockets::open(config, tls.as_ref()).await?;
        let turn = TurnService::open(config, listener.address())?;
        let (sfu, events, annex) = start_media(config, turn.as_ref())?;
        let keys = Arc::new(Keys::new(config.auth.clone()));
        let rooms = open_rooms(config, (&sfu, &metrics), &keys, turn.clone());
        dispatch(events, Arc::downgrade(&rooms))?;
        let (app, broadcast_events) =
            open_app(config, (&sfu, annex), (&rooms, &metrics), Arc::clone(&keys))?;
        let entry = Entry {
            tls: tls.clone(),
            proxies: Proxies::from_config(&config.http),
            turn: turn.as_ref().map(|turn| turn.door()),
            metrics: Arc::clone(&metrics),
            within: HEAD_TIMEOUT,
        };

        let (stop, stopped) = watch::channel(false);
        let (addr, rtmp) = (listener.address(), encoders.addresses());
        let admin_addr = admin.as_ref().map(Listener::address);
        let mut tasks = JoinSet::new();
        let broadcasts = Arc::clone(&app.broadcasts);
        encoders.serve(&mut tasks, &broadcasts);
        let telling = Broadcasts::listen(Arc::downgrade(&broadcasts), broadcast_events);
        tasks.spawn(until(stopped.clone(), telling));
        if let Some(admin) = admin {
            let routes = http::admin_routes(Arc::clone(&app));
            tasks.spawn(admin.serve(routes, Entry::plain(metrics), stopped.clone()));
        }
        tasks.spawn(listener.serve(http::routes(Arc::clone(&app)), entry, stopped.clone()));
        if let Some(acme) = acme {
            note_acme_port(addr);
            tasks.spawn(acme.run(stopped.clone()));
        }
        if let Some(webhooks) = app.rooms.webhooks() {
            tasks.spawn(Arc::clone(webhooks).run(stopped.clone()));
        }
        tasks.spawn(tick(app, tls.clone(), stopped));
        Ok(Self {
            addr,
            admin_addr,
            sfu,
            rooms,
            broadcasts,
            rtmp_addrs: rtmp,
            keys,
            tls,
            stop,
            tasks,
        })
    }

    /// The address HTTP is served on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address `/metrics` alone is served on.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// The addresses encoders publish to, plain ones first.
    pub fn rtmp_addrs(&self) -> &[SocketAddr] {
        &self.rtmp_addrs
    }

    /// The broadcasts of all rooms, and whatever else the bridge does.
    pub fn bridge(&self) -> &bridge::Bridge {
        self.broadcasts.bridge()
    }

    /// The media core.
    pub fn sfu(&self) -> &Sfu {
        &self.sfu
    }

    /// All rooms.
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// What clients are offered to reach this server by.
    pub fn offered(&self) -> Offered {
        let turn = self.rooms.turn();
        Offered {
            addresses: self.sfu.addresses().to_vec(),
            udp_ports: self.sfu.udp_ports(),
            tcp_port: self.sfu.tcp_port(),
            turn_udp_ports: turn.map(TurnService::udp_ports).unwrap_or_default(),
            has_turn: turn.is_some(),
            turn_tls: turn.and_then(TurnService::tls),
        }
    }

    /// Puts other API keys in force. Sessions go on.
    pub fn replace_keys(&self, auth: config::Auth) {
        self.keys.replace(auth);
    }

    /// Reads the certificate's files again, if it comes from files; they are also looked at every ten
    /// seconds. Files that cannot be used change nothing. Connections go on.
    pub fn reload_certificate(&self) {
        if let Some(tls) = &self.tls {
            tls.reload();
        }
    }

    /// Lets nobody in any more and tells everyone to go; `/readyz` fails from now on.
    pub fn drain(&self, spread: Duration) {
        self.rooms.drain(spread);
    }

    /// Says goodbye to everyone and ends.
    #[expect(clippy::disallowed_methods, reason = "this file waits for the tasks")]
    pub async fn shutdown(mut self) {
        self.rooms.shut_down(Instant::now());
        // The sockets' tasks take the goodbyes from their queues.
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(END_TIMEOUT, ended).await.ok();
        self.sfu.shutdown();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.sfu.shutdown();
    }
}

fn note_acme_port(addr: SocketAddr) {
    if addr.port() != 443 {
        tracing::info!(%addr, "ACME authorities look at port 443, which has to lead here");
    }
}

/// Runs something until the server ends.
async fn until(mut stopped: watch::Receiver<bool>, run: impl Future<Output = ()>) {
    tokio::select! {
        () = run => {}
        _ = stopped.wait_for(|stop| *stop) => {}
    }
}

async fn listen(key: &'static str, address: &str) -> Result<Listener, StartError> {
    let refused = |source| StartError::Listen {
        key,
        address: address.to_owned(),
        source,
    };
    let parsed = address
        .parse()
        .map_err(|_| refused(std::io::ErrorKind::InvalidInput.into()))?;
    Listener::bind(parsed).await.map_err(refused)
}

/// Starts the media core with a TURN server in every thread of it, and a place beside them for the bridge.
fn start_media(
    config: &Config,
    turn: Option<&Arc<TurnService>>,
) -> Result<(Arc<Sfu>, Events, AnnexPort), StartError> {
    let relays = turn.map(|turn| Arc::clone(turn) as Arc<dyn sfu::Relays>);
    let (sfu, events, annex) = Sfu::start_with(config.media.clone(), relays)?;
    if let Some(turn) = turn {
        turn.set_tcp_port(sfu.tcp_port());
    }
    Ok((Arc::new(sfu), events, annex))
}

/// No rooms yet, and who tells an application of them.
fn open_rooms(
    config: &Config,
    (sfu, metrics): (&Arc<Sfu>, &Arc<Metrics>),
    keys: &Arc<Keys>,
    turn: Option<Arc<TurnService>>,
) -> Arc<Rooms> {
    let (sfu, metrics) = (Arc::clone(sfu), Arc::clone(metrics));
    let rooms = Rooms::new(sfu, metrics, Arc::clone(keys), config);
    let webhooks = Webhooks::new(&config.webhooks);
    Arc::new(rooms.with_turn(turn).with_webhooks(webhooks))
}

/// What all routes share, with the bridge started.
fn open_app(
    config: &Config,
    (sfu, annex): (&Arc<Sfu>, AnnexPort),
    (rooms, metrics): (&Arc<Rooms>, &Arc<Metrics>),
    keys: Arc<Keys>,
) -> Result<(Arc<App>, BroadcastEvents), StartError> {
    let gate = Gate::new(Arc::clone(&keys), &config.limits, Arc::clone(metrics));
    let gate = Arc::new(gate);
    let started = Broadcasts::start(config, annex, (rooms, &gate), keys);
    let (broadcasts, events) = started.map_err(StartError::Recordings)?;
    let app = App::new(
        config,
        Arc::clone(sfu),
        Arc::clone(rooms),
        (Arc::clone(metrics), gate),
        Arc::new(broadcasts),
    );
    Ok((Arc::new(app), events))
}

/// Hands the core's events to the rooms, on a thread of its own because waiting for them blocks.
#[expect(
    clippy::disallowed_methods,
    reason = "this file reads the clock for the rooms"
)]
fn dispatch(mut events: Events, rooms: Weak<Rooms>) -> Result<(), StartError> {
    let run = move || {
        while let Some(event) = events.recv() {
            let Some(rooms) = rooms.upgrade() else { return };
            rooms.handle_event(Instant::now(), event);
        }
    };
    let thread = std::thread::Builder::new()
        .name("events".to_owned())
        .spawn(run);
    thread.map(drop).map_err(StartError::Thread)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this file reads the clock for the rooms"
)]
async fn tick(app: Arc<App>, tls: Option<Tls>, mut stopped: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(TICK);
    let mut looks = tokio::time::interval(CERTIFICATE_LOOK);
    loop {
        tokio::select! {
            _ = ticks.tick() => app.handle_timeout(Instant::now()),
            _ = looks.tick() => if let Some(tls) = &tls { tls.reload_changed() },
            stop = stopped.changed() => if stop.is_err() || *stopped.borrow() { return },
        }
    }
}
