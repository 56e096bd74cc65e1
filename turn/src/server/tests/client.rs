//! A TURN server and clients that speak to it, without a network.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use net::stun::{Class, ERROR_CODE, Integrity, Message, MessageWriter, NONCE, REALM, USERNAME};
use net::{Arena, Datagram, Path, Protocol};
use sha2::Digest;

use super::super::{Delivery, Discovery, RelayAddress, RelaySettings, Server, Settings};
use crate::attributes::{
    ALGORITHMS, DATA, LIFETIME, PASSWORD_ALGORITHM, PASSWORD_ALGORITHMS, REQUESTED_TRANSPORT,
    RESERVATION_TOKEN, XOR_PEER_ADDRESS, XOR_RELAYED_ADDRESS,
};
use crate::auth::{Credentials, Secrets, User};
use crate::peer_filter::PeerFilter;
use crate::quotas::Quotas;

pub(super) const ALLOCATE: u16 = 3;
pub(super) const REFRESH: u16 = 4;
pub(super) const SEND: u16 = 6;
pub(super) const CREATE_PERMISSION: u16 = 8;
pub(super) const CHANNEL_BIND: u16 = 9;
pub(super) const UNIX_STARTED: u64 = 1_800_000_000;
pub(super) const SHARED_SECRET: &str = "north";

/// A server on a virtual clock.
pub(super) struct House {
    pub(super) server: Server,
    pub(super) now: Instant,
    pub(super) secrets: Secrets,
    pub(super) arena: Arena,
    /// Addresses that cannot be bound.
    pub(super) taken: Vec<SocketAddr>,
    /// What was opened and not closed.
    pub(super) open: Vec<SocketAddr>,
}

/// One reply, read.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    pub(super) path: Path,
}

/// A client with credentials.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) path: Path,
    pub(super) credentials: Credentials,
    pub(super) nonce: Vec<u8>,
    pub(super) uses_sha256: bool,
    id: u8,
}

/// What a client sends to a peer, as the server hands it out.
pub(super) type Relayed = (SocketAddr, SocketAddr, Option<u64>, Vec<u8>);

impl House {
    /// `change` adapts the settings of a server in mode `relay`.
    pub(super) fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let secrets = Secrets::new([7; 32], Some(SHARED_SECRET.to_owned()));
        #[expect(clippy::disallowed_methods, reason = "where the virtual clock starts")]
        let now = Instant::now();
        let address = |text: &str| {
            let ip: IpAddr = text.parse().unwrap();
            RelayAddress {
                local: ip,
                public: ip,
            }
        };
        let own = ["203.0.113.1", "2001:db8::1"];
        let mut settings = Settings {
            media: own
                .iter()
                .map(|ip| SocketAddr::new(ip.parse().unwrap(), 7800))
                .collect(),
            secrets: secrets.clone(),
            quotas: Quotas::new(12, 32, 2000),
            relay: Some(RelaySettings {
                ports: 50_000..=50_999,
                addresses: own.map(address).to_vec(),
                filter: PeerFilter::new(
                    Vec::new(),
                    own.map(|ip| ip.parse().unwrap()),
                    ["203.0.113.1:7800".parse().unwrap()],
                ),
                allocation_bytes_per_second: 1_000_000,
                total_bytes_per_second: 0,
            }),
            discovery: None,
            seed: [3; 32],
            started: now,
            unix_started: UNIX_STARTED,
        };
        change(&mut settings);
        Self {
            server: Server::new(settings),
            now,
            secrets,
            arena: Arena::new(),
            taken: Vec::new(),
            open: Vec::new(),
        }
    }

    /// Nobody but our own users.
    pub(super) fn for_users() -> Self {
        Self::new(|settings| settings.relay = None)
    }

    pub(super) fn with_discovery() -> Self {
        Self::new(|settings| {
            settings.discovery = Some(Discovery {
                addresses: ["203.0.113.1", "203.0.113.2"].map(|ip| ip.parse().unwrap()),
                ports: [3478, 3479],
            });
        })
    }

    pub(super) fn after(&mut self, seconds: u64) -> &mut Self {
        // In steps, as a driver does that follows `poll_timeout`.
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.server.handle_timeout(self.now);
            self.close();
        }
        self
    }

    fn close(&mut self) {
        while let Some(address) = self.server.poll_close() {
            self.open.retain(|open| *open != address);
        }
    }

    pub(super) fn unix_time(&self) -> u64 {
        self.server.unix_time(self.now)
    }

    /// A user of ours who has joined.
    pub(super) fn user(&mut self, number: u64, port: u16) -> Client {
        self.server.handle_joined(User(number));
        let credentials = self
            .secrets
            .issue(self.unix_time() + 300, "ann", User(number));
        Client::new(port, credentials)
    }

    /// Somebody with credentials made elsewhere.
    pub(super) fn stranger(&mut self, name: &str, port: u16) -> Client {
        let credentials = self.secrets.issue_shared(self.unix_time() + 300, name);
        Client::new(port, credentials.unwrap())
    }

    /// Hands bytes to the server: what it relays, and what it replies.
    pub(super) fn take(&mut self, path: Path, bytes: &[u8]) -> (Option<Relayed>, Vec<Reply>) {
        let mut bytes = bytes.to_vec();
        let datagram = Datagram {
            path,
            ecn: 0,
            bytes: &mut bytes,
        };
        let relayed = self
            .server
            .handle_client(self.now, datagram, &mut self.arena);
        let relayed = relayed.map(|to| (to.from, to.to, to.own, to.bytes.to_vec()));
        while let Some(opening) = self.server.poll_open() {
            let is_free = |address: &SocketAddr| {
                !self.taken.contains(address) && !self.open.contains(address)
            };
            let are_open = opening.addresses.iter().all(is_free);
            if are_open {
                self.open.extend(opening.addresses);
            }
            self.server
                .handle_opened(opening.number, are_open, &mut self.arena);
        }
        self.close();
        (relayed, self.replies())
    }

    pub(super) fn replies(&mut self) -> Vec<Reply> {
        let reply = |run: &net::Run| Reply {
            bytes: self.arena.bytes(run).to_vec(),
            path: run.path,
        };
        let replies = self.arena.runs().iter().map(reply).collect();
        self.arena.clear();
        replies
    }

    /// Sends a request that proves its sender, and returns the one reply.
    pub(super) fn ask(
        &mut self,
        client: &mut Client,
        method: u16,
        about: &[(u16, &[u8])],
    ) -> Reply {
        if client.nonce.is_empty() {
            self.challenge(client);
        }
        let bytes = client.request(method, about, &[]);
        self.take(client.path, &bytes).1.remove(0)
    }

    /// As `ask`, about a peer.
    pub(super) fn ask_about(
        &mut self,
        client: &mut Client,
        method: u16,
        peer: &str,
        about: &[(u16, &[u8])],
    ) -> Reply {
        let bytes = client.request(method, about, &[peer.parse().unwrap()]);
        self.take(client.path, &bytes).1.remove(0)
    }

    /// Gets a nonce.
    pub(super) fn challenge(&mut self, client: &mut Client) {
        let bytes = client.bare(ALLOCATE, &[(REQUESTED_TRANSPORT, &UDP)]);
        let reply = self.take(client.path, &bytes).1.remove(0);
        assert_eq!(reply.code(), 401);
        client.nonce = reply.attribute(NONCE).unwrap();
    }

    /// A new nonce for who has an allocation.
    pub(super) fn challenge_again(&mut self, client: &mut Client) {
        client.nonce.clear();
        self.challenge(client);
    }

    pub(super) fn allocate(&mut self, client: &mut Client) -> SocketAddr {
        let reply = self.ask(client, ALLOCATE, &[(REQUESTED_TRANSPORT, &UDP)]);
        reply
            .relayed()
            .first()
            .copied()
            .unwrap_or_else(|| panic!("refused: {}", reply.code()))
    }

    pub(super) fn code_of_allocate(&mut self, client: &mut Client, about: &[(u16, &[u8])]) -> u16 {
        self.ask(client, ALLOCATE, about).code()
    }

    pub(super) fn permit(&mut self, client: &mut Client, peer: &str) -> u16 {
        self.ask_about(client, CREATE_PERMISSION, peer, &[]).code()
    }

    pub(super) fn bind(&mut self, client: &mut Client, number: u16, peer: &str) -> u16 {
        let [high, low] = number.to_be_bytes();
        let number = (crate::attributes::CHANNEL_NUMBER, &[high, low, 0, 0][..]);
        self.ask_about(client, CHANNEL_BIND, peer, &[number]).code()
    }

    pub(super) fn refresh(&mut self, client: &mut Client, lifetime: Option<u32>) -> u16 {
        let bytes = lifetime.unwrap_or_default().to_be_bytes();
        let about: &[(u16, &[u8])] = if lifetime.is_some() {
            &[(LIFETIME, &bytes)]
        } else {
            &[]
        };
        self.ask(client, REFRESH, about).code()
    }

    /// Data from a peer: what the client gets.
    pub(super) fn peer_sends(
        &mut self,
        relayed: SocketAddr,
        peer: &str,
        data: &[u8],
    ) -> Vec<Reply> {
        let about = (relayed, peer.parse().unwrap());
        let delivery = self
            .server
            .handle_peer(self.now, about, data, &mut self.arena);
        assert_eq!(delivery, Delivery::Done);
        self.replies()
    }

    /// Data from our own media: what the client gets.
    pub(super) fn media_sends(&mut self, number: u64, media: &str, data: &[u8]) -> Vec<Reply> {
        let about = (number, media.parse().unwrap());
        let delivery = self
            .server
            .handle_own(self.now, about, data, &mut self.arena);
        assert_eq!(delivery, Delivery::Done);
        self.replies()
    }
}

impl Client {
    pub(super) fn new(port: u16, credentials: Credentials) -> Self {
        let path = Path::new(
            "203.0.113.1:3478".parse().unwrap(),
            SocketAddr::from(([192, 0, 2, 1], port)),
            Protocol::Udp,
        );
        Self {
            path,
            credentials,
            nonce: Vec::new(),
            uses_sha256: false,
            id: 0,
        }
    }

    fn next_id(&mut self) -> [u8; 12] {
        self.id += 1;
        [self.id; 12]
    }

    /// A message without proof.
    pub(super) fn bare(&mut self, method: u16, about: &[(u16, &[u8])]) -> Vec<u8> {
        let id = self.next_id();
        let mut out = [0; 2048];
        let mut writer = MessageWriter::new(&mut out, Class::Request, method, &id).unwrap();
        about
            .iter()
            .for_each(|(kind, value)| writer.put(*kind, value).unwrap());
        let length = writer.finish(None).unwrap();
        out[..length].to_vec()
    }

    /// A request with proof.
    pub(super) fn request(
        &mut self,
        method: u16,
        about: &[(u16, &[u8])],
        peers: &[SocketAddr],
    ) -> Vec<u8> {
        let id = self.next_id();
        self.request_with_id(id, method, about, peers)
    }

    pub(super) fn request_with_id(
        &self,
        id: [u8; 12],
        method: u16,
        about: &[(u16, &[u8])],
        peers: &[SocketAddr],
    ) -> Vec<u8> {
        let mut out = [0; 2048];
        let mut writer = MessageWriter::new(&mut out, Class::Request, method, &id).unwrap();
        about
            .iter()
            .for_each(|(kind, value)| writer.put(*kind, value).unwrap());
        for peer in peers {
            writer.put_xor_address(XOR_PEER_ADDRESS, *peer).unwrap();
        }
        writer
            .put(USERNAME, self.credentials.username.as_bytes())
            .unwrap();
        writer.put(REALM, b"plenum").unwrap();
        writer.put(NONCE, &self.nonce).unwrap();
        let text = format!(
            "{}:plenum:{}",
            self.credentials.username, self.credentials.password
        );
        let length = if self.uses_sha256 {
            writer.put(PASSWORD_ALGORITHMS, &ALGORITHMS).unwrap();
            writer.put(PASSWORD_ALGORITHM, &[0, 2, 0, 0]).unwrap();
            let key = sha2::Sha256::digest(text);
            writer.finish_with_fingerprint(Some(Integrity::Sha256(&key)))
        } else {
            let key = md5::Md5::digest(text);
            writer.finish_with_fingerprint(Some(Integrity::Sha1(&key)))
        };
        out[..length.unwrap()].to_vec()
    }

    /// A Send indication.
    pub(super) fn indication(&mut self, peer: &str, data: &[u8]) -> Vec<u8> {
        let id = self.next_id();
        let mut out = vec![0; 4096];
        let mut writer = MessageWriter::new(&mut out, Class::Indication, SEND, &id).unwrap();
        writer
            .put_xor_address(XOR_PEER_ADDRESS, peer.parse().unwrap())
            .unwrap();
        writer.put(DATA, data).unwrap();
        let length = writer.finish(None).unwrap();
        out[..length].to_vec()
    }
}

pub(super) fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    [&number.to_be_bytes()[..], &length.to_be_bytes(), data].concat()
}

impl Reply {
    pub(super) fn message(&self) -> Message<'_> {
        Message::parse(&self.bytes).unwrap()
    }

    pub(super) fn attribute(&self, kind: u16) -> Option<Vec<u8>> {
        self.message().attribute(kind).map(<[u8]>::to_vec)
    }

    /// The error code; 0 for success.
    pub(super) fn code(&self) -> u16 {
        match self.message().class {
            Class::Success => 0,
            _ => {
                let value = self.attribute(ERROR_CODE).unwrap();
                u16::from(value[2]) * 100 + u16::from(value[3])
            }
        }
    }

    pub(super) fn relayed(&self) -> Vec<SocketAddr> {
        let message = self.message();
        let attributes = message
            .attributes()
            .filter(|(kind, _)| *kind == XOR_RELAYED_ADDRESS);
        attributes
            .map(|(_, value)| message.xor_address(value).unwrap())
            .collect()
    }

    pub(super) fn token(&self) -> Option<Vec<u8>> {
        self.attribute(RESERVATION_TOKEN)
    }
}

/// REQUESTED-TRANSPORT of UDP.
pub(super) const UDP: [u8; 4] = [17, 0, 0, 0];
