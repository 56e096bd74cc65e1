//! Clients and their peers, all on one thread.

use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use md5::{Digest, Md5};
use net::stun::{Class, Integrity, Message, MessageWriter, NONCE, REALM, USERNAME};
use turn::Credentials;

use crate::servers::Server;

/// What every client sends, and its peer sends back.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    pub(crate) bursts_per_second: u32,
    pub(crate) datagrams_per_burst: usize,
    pub(crate) bytes: usize,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_second = self.bursts_per_second * u32::try_from(self.datagrams_per_burst).unwrap();
        let text = format!(
            "{} clients, {per_second}/s of {} bytes",
            self.clients, self.bytes
        );
        f.pad(&text)
    }
}

/// Clients with an allocation and a channel each.
pub(crate) struct Crowd {
    clients: Vec<Client>,
    load: Load,
    sent: u64,
    received: u64,
    buffer: Vec<u8>,
}

struct Client {
    socket: UdpSocket,
    peer: UdpSocket,
    relayed: SocketAddr,
}

impl Crowd {
    pub(crate) fn allocate(server: &Server, load: Load) -> Self {
        let clients = (0..load.clients).map(|number| {
            let credentials = server.credentials(number);
            Client::allocate(server.address, server.realm, &credentials)
        });
        Self {
            clients: clients.collect(),
            load,
            sent: 0,
            received: 0,
            buffer: vec![0; 2048],
        }
    }

    /// Datagrams that came through, in both directions.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn lost_per_thousand(&self) -> u64 {
        (self.sent - self.received.min(self.sent)) * 1000 / self.sent.max(1)
    }

    /// Bursts of all clients, spread over each period; peers send theirs half a period later.
    pub(crate) fn run(&mut self, time: Duration) {
        let period = Duration::from_secs(1) / self.load.bursts_per_second;
        let turns = u32::try_from(self.load.clients * 2).unwrap();
        let started = Instant::now();
        let mut turn = 0u32;
        while started.elapsed() < time {
            let number = usize::try_from(turn).unwrap() % (self.load.clients * 2);
            let due = started + period * turn / turns;
            self.send(number);
            turn += 1;
            // What comes meanwhile is taken at once, so that no buffer fills up.
            loop {
                self.take_all();
                let now = Instant::now();
                if now >= due + period / turns {
                    break;
                }
                std::thread::sleep((due + period / turns - now).min(Duration::from_micros(500)));
            }
        }
        std::thread::sleep(Duration::from_millis(20));
        self.take_all();
    }

    fn send(&mut self, number: usize) {
        let client = &self.clients[number / 2];
        let bytes = self.load.bytes;
        for _ in 0..self.load.datagrams_per_burst {
            if number.is_multiple_of(2) {
                let length = u16::try_from(bytes).unwrap().to_be_bytes();
                let framed = [&[0x40, 0x00], &length[..], &self.buffer[..bytes]].concat();
                client.socket.send(&framed).unwrap();
            } else {
                client
                    .peer
                    .send_to(&self.buffer[..bytes], client.relayed)
                    .unwrap();
            }
            self.sent += 1;
        }
    }

    fn take_all(&mut self) {
        for client in &self.clients {
            for socket in [&client.socket, &client.peer] {
                while socket.recv(&mut self.buffer).is_ok() {
                    self.received += 1;
                }
            }
        }
    }
}

impl Client {
    fn allocate(server: SocketAddr, realm: &str, credentials: &Credentials) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ask = |method: u16, nonce: &[u8], fill: &dyn Fn(&mut MessageWriter<'_>)| {
            let mut out = [0; 1024];
            let id = [u8::try_from(method).unwrap() + u8::from(!nonce.is_empty()); 12];
            let mut writer = MessageWriter::new(&mut out, Class::Request, method, &id).unwrap();
            fill(&mut writer);
            let key = Md5::digest(format!(
                "{}:{realm}:{}",
                credentials.username, credentials.password
            ));
            let length = if nonce.is_empty() {
                writer.finish(None)
            } else {
                writer
                    .put(USERNAME, credentials.username.as_bytes())
                    .unwrap();
                writer.put(REALM, realm.as_bytes()).unwrap();
                writer.put(NONCE, nonce).unwrap();
                writer.finish(Some(Integrity::Sha1(&key)))
            };
            socket.send(&out[..length.unwrap()]).unwrap();
            let mut reply = vec![0; 1024];
            let length = socket.recv(&mut reply).unwrap();
            reply.truncate(length);
            reply
        };
        let allocate = |writer: &mut MessageWriter<'_>| {
            writer.put(REQUESTED_TRANSPORT, &[17, 0, 0, 0]).unwrap();
        };
        let challenge = ask(3, &[], &allocate);
        let nonce = Message::parse(&challenge)
            .unwrap()
            .attribute(NONCE)
            .unwrap()
            .to_vec();
        let reply = ask(3, &nonce, &allocate);
        let message = Message::parse(&reply).unwrap();
        assert_eq!(message.class, Class::Success, "no allocation");
        let relayed = message
            .xor_address(message.attribute(XOR_RELAYED_ADDRESS).unwrap())
            .unwrap();
        let bound = ask(9, &nonce, &|writer| {
            writer.put(CHANNEL_NUMBER, &[0x40, 0, 0, 0]).unwrap();
            writer
                .put_xor_address(XOR_PEER_ADDRESS, peer.local_addr().unwrap())
                .unwrap();
        });
        assert_eq!(
            Message::parse(&bound).unwrap().class,
            Class::Success,
            "no channel"
        );
        socket.set_nonblocking(true).unwrap();
        peer.set_nonblocking(true).unwrap();
        Self {
            socket,
            peer,
            relayed,
        }
    }
}

const CHANNEL_NUMBER: u16 = 0x000c;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
const REQUESTED_TRANSPORT: u16 = 0x0019;
