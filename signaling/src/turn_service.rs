//! The TURN server's place in this one: credentials for participants, a server in every media thread.
#![expect(
    clippy::disallowed_methods,
    reason = "this file opens the ports and reads the clock for the servers"
)]

mod relay;
mod urls;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use net::UdpSockets;
use sfu::{Candidates, Metric, MetricKind, ParticipantId};
use turn::{
    Discovery, Inlets, PeerFilter, Quotas, RelayAddress, RelaySettings, Secrets, Settings,
    UdpPorts, User,
};

use crate::StartError;
use crate::config::{Config, TURN_PORT_DEFAULT, TurnMode};
use crate::http::{TurnDoor, TurnStream, unix_time};
use crate::message::IceServer;

use relay::ShardRelay;
use urls::Urls;

/// The TURN servers of all media threads, and the credentials for them.
pub(crate) struct TurnService {
    secrets: Secrets,
    inlets: Arc<Inlets>,
    quotas: Quotas,
    /// UDP ports until the media threads take them.
    ports: Mutex<Vec<Option<UdpPorts>>>,
    relay: Option<RelaySettings>,
    discovery: Option<Discovery>,
    urls: Urls,
}

/// Credentials are good for new allocations this long (seconds); allocations live on without them.
const LIFETIME_S: u64 = 300;

impl TurnService {
    /// Opens the ports; `None` where the configuration wants no TURN server. `http`: the address listened
    /// on.
    ///
    /// # Errors
    /// A port that was asked for cannot be had. Without the default one the server goes on, and says so.
    pub(crate) fn open(config: &Config, http: SocketAddr) -> Result<Option<Arc<Self>>, StartError> {
        if config.turn.mode == TurnMode::Off {
            return Ok(None);
        }
        let own = sfu::machine_addresses().map_err(StartError::Turn)?;
        let discovery = discovery(config, &own);
        let ports = open_ports(config, discovery.is_some())?;
        let udp = ports
            .iter()
            .map(|ports| ports.as_ref().map(|ports| ports.own.port()));
        let urls = Urls::new(config, &own, udp.collect(), http);
        let service = Self {
            secrets: secrets(config)?,
            inlets: Arc::new(Inlets::new(ports.len(), shard_of).map_err(StartError::Turn)?),
            quotas: quotas(config),
            relay: relay_settings(config, &own, http),
            discovery,
            urls,
            ports: Mutex::new(ports),
        };
        Ok(Some(Arc::new(service)))
    }

    /// What a participant is to put into its `RTCPeerConnection`, good for some minutes from `now_s` (Unix
    /// seconds). `reached`: the address of ours that it spoke to.
    pub(crate) fn ice_servers(
        &self,
        participant: ParticipantId,
        identity: &str,
        reached: Option<IpAddr>,
        now_s: u64,
    ) -> Vec<IceServer> {
        let expires_at_s = now_s + LIFETIME_S;
        let user = User(participant.number());
        let credentials = self.secrets.issue(expires_at_s, identity, user);
        let urls = self.urls.list(participant.shard(), reached);
        entry(urls, credentials, expires_at_s)
    }

    /// What a client of another application is to use, in mode `relay` only.
    pub(crate) fn shared_ice_servers(
        &self,
        label: &str,
        reached: Option<IpAddr>,
        now_s: u64,
    ) -> Option<Vec<IceServer>> {
        self.relay.as_ref()?;
        let expires_at_s = now_s + LIFETIME_S;
        let credentials = self.secrets.issue_shared(expires_at_s, label)?;
        Some(entry(self.urls.list(0, reached), credentials, expires_at_s))
    }

    /// What all servers have counted.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let metric = |metric: turn::Metric| Metric {
            name: metric.name,
            help: metric.help,
            kind: if metric.is_gauge {
                MetricKind::Gauge
            } else {
                MetricKind::Counter
            },
            label: metric.label,
            value: metric.value,
        };
        self.inlets
            .counts()
            .list()
            .into_iter()
            .map(metric)
            .collect()
    }

    /// The ports and certificate name that are known once everything listens.
    pub(crate) fn set_tcp_port(&self, port: u16) {
        self.urls.set_tcp_port(port);
    }

    /// Its UDP ports: one for each media thread that could get one.
    pub(crate) fn udp_ports(&self) -> Vec<u16> {
        self.urls.udp_ports()
    }

    /// Where clients are sent for TURN over TLS.
    pub(crate) fn tls(&self) -> Option<(String, u16)> {
        self.urls.tls()
    }

    /// Where connections for TURN over TLS go.
    pub(crate) fn door(&self) -> TurnDoor {
        let inlets = Arc::clone(&self.inlets);
        Arc::new(move |stream: TurnStream| {
            inlets.push(turn::Stream {
                stream: stream.stream,
                tls: Some(Box::new(stream.tls)),
                bytes: stream.bytes,
                local: stream.local,
                remote: stream.remote,
            });
        })
    }
}

impl sfu::Relays for TurnService {
    fn open(&self, shard: u16, candidates: &Candidates) -> io::Result<Box<dyn sfu::Relay>> {
        let index = usize::from(shard);
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let own = ports.get_mut(index).and_then(Option::take);
        let settings = Settings {
            media: candidates.udp.clone(),
            secrets: self.secrets.clone(),
            quotas: self.quotas.clone(),
            relay: self.relay.clone(),
            discovery: self
                .discovery
                .map(|discovery| of_port(discovery, own.as_ref())),
            seed: random_seed()?,
            started: Instant::now(),
            unix_started: unix_time(),
        };
        let relay = turn::Relay::new(settings, own, Arc::clone(&self.inlets), index)?;
        Ok(Box::new(ShardRelay(relay)))
    }

    fn accept(&self, stream: TcpStream, ends: sfu::Ends, bytes: Vec<u8>) {
        self.inlets.push(turn::Stream {
            stream,
            tls: None,
            bytes,
            local: ends.local,
            remote: ends.remote,
        });
    }
}

/// The number of a user is that of a participant, which names its shard.
fn shard_of(user: User) -> usize {
    ParticipantId::from_number(user.0).shard()
}

fn entry(urls: Vec<String>, credentials: turn::Credentials, expires_at_s: u64) -> Vec<IceServer> {
    if urls.is_empty() {
        return Vec::new();
    }
    vec![IceServer {
        urls,
        username: credentials.username,
        credential: credentials.password,
        expires_at: expires_at_s * 1000,
    }]
}

/// One UDP port for each media thread, and the one after for behaviour discovery.
fn open_ports(config: &Config, has_discovery: bool) -> Result<Vec<Option<UdpPorts>>, StartError> {
    let count = config.media.shard_count();
    let bind = |index: u16| match config.turn.port {
        0 => UdpSockets::bind(0, config.media.socket_buffer_bytes),
        port => UdpSockets::bind(port.saturating_add(index), config.media.socket_buffer_bytes),
    };
    let mut own = Vec::new();
    for index in 0..count {
        let port = config.turn.port.saturating_add(index);
        match bind(index) {
            Ok(sockets) => own.push(Some(sockets)),
            Err(error) if config.turn.port == TURN_PORT_DEFAULT => {
                tracing::warn!(
                    port,
                    %error,
                    "the port for TURN over UDP is taken: clients behind strict networks fall back to TCP; \
                     set turn.port to a free one"
                );
                own.push(None);
            }
            Err(source) => return Err(StartError::TurnPort { port, source }),
        }
    }
    let others = match own.as_slice() {
        _ if !has_discovery => vec![None],
        [Some(_)] => vec![bind(1).ok().map(|other| (other, true))],
        [Some(first), Some(second), ..] => {
            let shared = |sockets: &UdpSockets| sockets.share().ok().map(|other| (other, false));
            vec![shared(second), shared(first)]
        }
        _ => vec![None],
    };
    let others = others.into_iter().chain(std::iter::repeat_with(|| None));
    let ports = own
        .into_iter()
        .zip(others)
        .map(|(own, other)| Some(UdpPorts { own: own?, other }));
    Ok(ports.collect())
}

/// Behaviour discovery needs two addresses of one kind that are really ours, named by the operator.
fn discovery(config: &Config, own: &[IpAddr]) -> Option<Discovery> {
    let advertised = config.media.advertise.iter().filter(|ip| own.contains(ip));
    let mut v4 = advertised.filter(|ip| ip.is_ipv4());
    let addresses = [*v4.next()?, *v4.next()?];
    // The ports follow with the sockets.
    Some(Discovery {
        addresses,
        ports: [0, 0],
    })
}

fn of_port(discovery: Discovery, ports: Option<&UdpPorts>) -> Discovery {
    let own = ports.map_or(0, |ports| ports.own.port());
    let other = ports.and_then(|ports| ports.other.as_ref());
    let other = other.map_or(own, |(other, _)| other.port());
    Discovery {
        ports: [own, other],
        ..discovery
    }
}

fn secrets(config: &Config) -> Result<Secrets, StartError> {
    let own = random_seed().map_err(StartError::Turn)?;
    let shared = match config.turn.shared_secret.expose() {
        // Nobody else knows it then, but the room API can still make credentials.
        "" => {
            let drawn = random_seed().map_err(StartError::Turn)?;
            drawn.iter().map(|byte| format!("{byte:02x}")).collect()
        }
        given => given.to_owned(),
    };
    Ok(Secrets::new(own, config.turn.is_relay().then_some(shared)))
}

fn quotas(config: &Config) -> Quotas {
    let limits = &config.limits;
    Quotas::new(
        limits.turn_participant_allocations,
        limits.turn_credential_allocations,
        usize::try_from(limits.turn_node_allocations).unwrap_or(usize::MAX),
    )
}

fn relay_settings(config: &Config, own: &[IpAddr], http: SocketAddr) -> Option<RelaySettings> {
    if !config.turn.is_relay() {
        return None;
    }
    let advertised = &config.media.advertise;
    let bytes = |kbps: u32| u64::from(kbps) * 1000 / 8;
    let allowed = config.turn.allow_peers.iter().map(|network| network.net());
    let ours = own.iter().chain(advertised).copied();
    let filter = PeerFilter::new(allowed.collect(), ours, listening(config, own, http));
    let shards = u64::from(config.media.shard_count());
    Some(RelaySettings {
        ports: config.turn.relay_ports.range(),
        addresses: relay_addresses(advertised, own),
        filter,
        allocation_bytes_per_second: bytes(config.limits.turn_allocation_kbps),
        total_bytes_per_second: bytes(config.limits.turn_node_kbps) / shards,
    })
}

/// What is bound, and what clients are told: the same where an advertised address is ours, else the first of
/// ours that leads outside, as behind a one-to-one NAT.
fn relay_addresses(advertised: &[IpAddr], own: &[IpAddr]) -> Vec<RelayAddress> {
    let same = |ip: &IpAddr| RelayAddress {
        local: *ip,
        public: *ip,
    };
    if advertised.is_empty() {
        return own.iter().map(same).collect();
    }
    let behind_nat = |public: &IpAddr| {
        let mut outside = own.iter().filter(|ip| !ip.is_loopback());
        let local = outside.find(|ip| ip.is_ipv4() == public.is_ipv4())?;
        Some(RelayAddress {
            local: *local,
            public: *public,
        })
    };
    let relayed = advertised.iter().filter_map(|ip| match own.contains(ip) {
        true => Some(same(ip)),
        false => behind_nat(ip),
    });
    relayed.collect()
}

/// Every address and port this server listens on.
fn listening(config: &Config, own: &[IpAddr], http: SocketAddr) -> Vec<SocketAddr> {
    let shards = config.media.shard_count();
    let ports = |first: u16, count: u16| (first..=first.saturating_add(count)).collect::<Vec<_>>();
    let mut wildcard = vec![config.media.tcp_port];
    wildcard.extend(ports(config.media.udp_port, shards - 1));
    wildcard.extend(ports(config.turn.port, shards));
    let mut bound = vec![http];
    bound.extend(config.broadcast.rtmp());
    bound.extend(config.broadcast.rtmps());
    bound.extend(config.http.admin_addr.parse::<SocketAddr>());
    let advertised = config.media.advertise.iter();
    let ours: Vec<IpAddr> = own.iter().chain(advertised).copied().collect();
    let at_all = |port: u16| ours.iter().map(move |ip| SocketAddr::new(*ip, port));
    let mut all: Vec<SocketAddr> = wildcard.into_iter().flat_map(at_all).collect();
    for address in bound {
        if address.ip().is_unspecified() {
            all.extend(at_all(address.port()));
        }
        all.push(address);
    }
    all
}

fn random_seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    Ok(seed)
}
