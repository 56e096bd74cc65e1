//! A TURN client on a socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use md5::{Digest, Md5};
use net::stun::{Class, ERROR_CODE, Integrity, Message, MessageWriter, NONCE, REALM, USERNAME};
use turn::Credentials;

use crate::house::House;

pub(crate) const ALLOCATE: u16 = 3;
const REFRESH: u16 = 4;
const CHANNEL_BIND: u16 = 9;
pub(crate) const UDP: [u8; 4] = [17, 0, 0, 0];
const CHANNEL_NUMBER: u16 = 0x000c;
const LIFETIME: u16 = 0x000d;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
pub(crate) const REQUESTED_TRANSPORT: u16 = 0x0019;

/// How it reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// A client with credentials and at most one channel.
pub(crate) struct Client {
    socket: Socket,
    credentials: Credentials,
    nonce: Vec<u8>,
    id: u8,
}

impl Client {
    pub(crate) fn new(house: &House, transport: Transport, credentials: Credentials) -> Self {
        let socket = match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.connect(house.udp).unwrap();
                socket
                    .set_read_timeout(Some(Duration::from_secs(10)))
                    .unwrap();
                Socket::Udp(socket)
            }
            Transport::Tcp => Socket::Tcp(house.connect()),
        };
        Self {
            socket,
            credentials,
            nonce: Vec::new(),
            id: 0,
        }
    }

    /// A request without proof.
    pub(crate) fn bare(method: u16, about: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = [0; 512];
        let mut writer = MessageWriter::new(&mut out, Class::Request, method, &[1; 12]).unwrap();
        about
            .iter()
            .for_each(|(kind, value)| writer.put(*kind, value).unwrap());
        let length = writer.finish(None).unwrap();
        out[..length].to_vec()
    }

    /// An Allocate request with a nonce and a password that are no more than a guess.
    pub(crate) fn with_a_guess(&mut self) -> Vec<u8> {
        self.nonce = vec![b'A'; 29];
        let request = self.request(ALLOCATE, &[(REQUESTED_TRANSPORT, &UDP)], None);
        self.nonce.clear();
        request
    }

    /// Allocates; the relayed address, or the error code.
    pub(crate) fn allocate(&mut self) -> Result<SocketAddr, u16> {
        let about: [(u16, &[u8]); 1] = [(REQUESTED_TRANSPORT, &UDP)];
        // Of 200 at once from one address some challenges are withheld; clients ask again (RFC 8489 §6.2.1).
        while self.nonce.is_empty() {
            if let Some(challenge) = self.try_ask(&Self::bare(ALLOCATE, &about)) {
                let challenge = Message::parse(&challenge).unwrap();
                self.nonce = challenge.attribute(NONCE).unwrap().to_vec();
            }
        }
        let reply = self.ask(ALLOCATE, &about, None)?;
        let message = Message::parse(&reply).unwrap();
        let relayed = message.attribute(XOR_RELAYED_ADDRESS).unwrap();
        Ok(message.xor_address(relayed).unwrap())
    }

    pub(crate) fn bind(&mut self, peer: SocketAddr) -> Result<(), u16> {
        let number = (CHANNEL_NUMBER, &[0x40, 0, 0, 0][..]);
        self.ask(CHANNEL_BIND, &[number], Some(peer)).map(|_| ())
    }

    /// Binds to the media and sends something there: what came, and to whom.
    pub(crate) fn bind_media(&mut self, house: &House) -> (usize, Vec<u8>) {
        self.bind("127.0.0.1:7".parse().unwrap()).unwrap();
        self.send(b"for the media");
        house.next_media()
    }

    pub(crate) fn release(&mut self) {
        self.ask(REFRESH, &[(LIFETIME, &[0; 4])], None).unwrap();
    }

    /// Sends through the channel.
    pub(crate) fn send(&mut self, data: &[u8]) {
        let length = u16::try_from(data.len()).unwrap().to_be_bytes();
        let mut bytes = [&[0x40, 0][..], &length, data].concat();
        if matches!(self.socket, Socket::Tcp(_)) {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        self.write(&bytes);
    }

    /// What comes through the channel next.
    pub(crate) fn receive(&mut self) -> Vec<u8> {
        let bytes = self.read().unwrap();
        assert_eq!(bytes[..2], [0x40, 0]);
        let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        bytes[4..4 + length].to_vec()
    }

    fn ask(
        &mut self,
        method: u16,
        about: &[(u16, &[u8])],
        peer: Option<SocketAddr>,
    ) -> Result<Vec<u8>, u16> {
        let request = self.request(method, about, peer);
        let reply = loop {
            if let Some(reply) = self.try_ask(&request) {
                break reply;
            }
        };
        let message = Message::parse(&reply).unwrap();
        match message.attribute(ERROR_CODE) {
            Some(code) => Err(u16::from(code[2]) * 100 + u16::from(code[3])),
            None => Ok(reply),
        }
    }

    /// Sends a request and waits for a moment.
    fn try_ask(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        if let Socket::Udp(socket) = &self.socket {
            socket
                .set_read_timeout(Some(Duration::from_millis(500)))
                .unwrap();
        }
        self.write(request);
        self.read()
    }

    fn request(
        &mut self,
        method: u16,
        about: &[(u16, &[u8])],
        peer: Option<SocketAddr>,
    ) -> Vec<u8> {
        self.id += 1;
        let mut out = [0; 1024];
        let id = [self.id; 12];
        let mut writer = MessageWriter::new(&mut out, Class::Request, method, &id).unwrap();
        about
            .iter()
            .for_each(|(kind, value)| writer.put(*kind, value).unwrap());
        if let Some(peer) = peer {
            writer.put_xor_address(XOR_PEER_ADDRESS, peer).unwrap();
        }
        let Credentials { username, password } = &self.credentials;
        writer.put(USERNAME, username.as_bytes()).unwrap();
        writer.put(REALM, b"plenum").unwrap();
        writer.put(NONCE, &self.nonce).unwrap();
        let key = Md5::digest(format!("{username}:plenum:{password}"));
        let length = writer.finish(Some(Integrity::Sha1(&key))).unwrap();
        out[..length].to_vec()
    }

    fn write(&mut self, bytes: &[u8]) {
        match &mut self.socket {
            Socket::Udp(socket) => assert_eq!(socket.send(bytes).unwrap(), bytes.len()),
            Socket::Tcp(stream) => stream.write_all(bytes).unwrap(),
        }
    }

    fn read(&mut self) -> Option<Vec<u8>> {
        match &mut self.socket {
            Socket::Udp(socket) => {
                let mut bytes = vec![0; 9100];
                let length = socket.recv(&mut bytes).ok()?;
                bytes.truncate(length);
                Some(bytes)
            }
            Socket::Tcp(stream) => {
                let mut bytes = vec![0; 4];
                stream.read_exact(&mut bytes).unwrap();
                let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
                let rest = if bytes[0] & 0x40 == 0 {
                    length + 16
                } else {
                    length.next_multiple_of(4)
                };
                bytes.resize(4 + rest, 0);
                stream.read_exact(&mut bytes[4..]).unwrap();
                Some(bytes)
            }
        }
    }
}
