//! A bot's way through the server's TURN: an allocation with one channel, over UDP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use md5::{Digest, Md5};
use net::stun::{Class, Integrity, Message, MessageWriter, NONCE, REALM, USERNAME};
use net::{Arena, Path, Protocol, ReceiveBuffers, UdpSockets};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Where a TURN server is, and what it lets in with.
#[derive(Clone, Debug)]
pub struct IceServer {
    /// As `turn:host:port?transport=udp`, with an address as host.
    pub url: String,
    /// The user name.
    pub username: String,
    /// The password.
    pub credential: String,
}

/// A channel to the server's candidate.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    /// The TURN server.
    pub server: SocketAddr,
    /// Its address for us: what the peer sees.
    pub relayed: SocketAddr,
}

impl Channel {
    /// Allocates and binds; waits for the answers, some milliseconds.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub fn open(socket: &mut UdpSockets, server: &IceServer, peer: SocketAddr) -> Result<Self> {
        let mut client = Client {
            address: server.address()?,
            server,
            socket,
            nonce: Vec::new(),
            realm: Vec::new(),
        };
        let challenge = client.ask(ALLOCATE, |writer| writer.put(REQUESTED_TRANSPORT, &UDP))?;
        let challenge = Message::parse(&challenge).context("no challenge")?;
        let part = |kind| challenge.attribute(kind).map(<[u8]>::to_vec);
        client.nonce = part(NONCE).context("a challenge without a nonce")?;
        client.realm = part(REALM).context("a challenge without a realm")?;
        let allocated = client.ask(ALLOCATE, |writer| writer.put(REQUESTED_TRANSPORT, &UDP))?;
        let allocated = Message::parse(&allocated).context("no reply")?;
        ensure!(allocated.class == Class::Success, "no allocation");
        let relayed = allocated.attribute(XOR_RELAYED_ADDRESS);
        let relayed = relayed.and_then(|value| allocated.xor_address(value));
        let bound = client.ask(CHANNEL_BIND, |writer| {
            let [high, low] = NUMBER.to_be_bytes();
            writer.put(CHANNEL_NUMBER, &[high, low, 0, 0])?;
            writer.put_xor_address(XOR_PEER_ADDRESS, peer)
        })?;
        let bound = Message::parse(&bound).context("no reply")?;
        ensure!(bound.class == Class::Success, "no channel");
        Ok(Self {
            server: client.address,
            relayed: relayed.context("an allocation without an address")?,
        })
    }

    /// What goes before a datagram of this length.
    pub fn header(length: usize) -> [u8; HEADER_BYTES] {
        let [high, low] = NUMBER.to_be_bytes();
        let [long, short] = u16::try_from(length).unwrap_or_default().to_be_bytes();
        [high, low, long, short]
    }

    /// The datagram inside channel data; `None`: it is something else.
    pub fn data(bytes: &mut [u8]) -> Option<&mut [u8]> {
        let (header, data) = bytes.split_first_chunk_mut::<HEADER_BYTES>()?;
        let [high, low, long, short] = *header;
        let length = usize::from(u16::from_be_bytes([long, short]));
        let is_ours = u16::from_be_bytes([high, low]) == NUMBER;
        data.get_mut(..length).filter(|_| is_ours)
    }
}

impl IceServer {
    fn address(&self) -> Result<SocketAddr> {
        let place = self
            .url
            .strip_prefix("turn:")
            .and_then(|rest| rest.split('?').next());
        let place = place.with_context(|| format!("{} is no TURN address", self.url))?;
        Ok(place.parse()?)
    }

    /// Whether it is reached over UDP and IPv4, as bots speak it.
    pub fn is_fit(&self) -> bool {
        self.url.ends_with("transport=udp") && self.address().is_ok_and(|address| address.is_ipv4())
    }
}

struct Client<'c> {
    address: SocketAddr,
    server: &'c IceServer,
    socket: &'c mut UdpSockets,
    nonce: Vec<u8>,
    realm: Vec<u8>,
}

impl Client<'_> {
    /// Sends a request until it is answered.
    fn ask(
        &mut self,
        method: u16,
        fill: impl Fn(&mut MessageWriter<'_>) -> Option<()>,
    ) -> Result<Vec<u8>> {
        let id = rand::random();
        let mut out = [0; 1024];
        let length = self
            .write(&mut out, (method, &id), fill)
            .context("the request is too long")?;
        for _ in 0..TRIES {
            self.send(&out[..length]);
            let deadline = Instant::now() + TRY_WITHIN;
            while let Some(reply) = self.receive(deadline) {
                if Message::parse(&reply).is_some_and(|reply| reply.transaction_id == id) {
                    return Ok(reply);
                }
            }
        }
        bail!("the TURN server does not answer")
    }

    fn write(
        &self,
        out: &mut [u8],
        (method, id): (u16, &[u8; 12]),
        fill: impl Fn(&mut MessageWriter<'_>) -> Option<()>,
    ) -> Option<usize> {
        let mut writer = MessageWriter::new(out, Class::Request, method, id)?;
        fill(&mut writer)?;
        if self.nonce.is_empty() {
            return writer.finish(None);
        }
        let name = self.server.username.as_bytes();
        writer.put(USERNAME, name)?;
        writer.put(REALM, &self.realm)?;
        writer.put(NONCE, &self.nonce)?;
        let password = self.server.credential.as_bytes();
        let key = Md5::digest([name, b":", &self.realm, b":", password].concat());
        writer.finish(Some(Integrity::Sha1(&key)))
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut arena = Arena::new();
        if let Some(room) = arena.reserve().and_then(|room| room.get_mut(..bytes.len())) {
            room.copy_from_slice(bytes);
            let local = SocketAddr::from(([0, 0, 0, 0], self.socket.port()));
            arena.aim(Path::new(local, self.address, Protocol::Udp));
            arena.commit(bytes.len());
        }
        self.socket.send(&arena);
    }

    fn receive(&mut self, deadline: Instant) -> Option<Vec<u8>> {
        let mut buffers = ReceiveBuffers::new();
        loop {
            let mut datagrams = Vec::new();
            self.socket.receive(0, &mut buffers, &mut datagrams);
            if let Some(datagram) = datagrams.first() {
                return Some(datagram.bytes.to_vec());
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut watched = [PollFd::new(self.socket.fd(0), PollFlags::POLLIN)];
            poll(&mut watched, wait).ok();
        }
    }
}

/// Bytes of channel data before the datagram.
pub const HEADER_BYTES: usize = 4;
const NUMBER: u16 = 0x4000;
const ALLOCATE: u16 = 3;
const CHANNEL_BIND: u16 = 9;
const UDP: [u8; 4] = [17, 0, 0, 0];
const CHANNEL_NUMBER: u16 = 0x000c;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
const REQUESTED_TRANSPORT: u16 = 0x0019;
const TRIES: u32 = 5;
const TRY_WITHIN: Duration = Duration::from_secs(1);
