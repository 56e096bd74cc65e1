//! Ways for STUN messages: datagrams that are repeated until an answer comes, or a connection.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use net::stun::message_length;

use super::dial::Line;

/// Over what messages go.
#[derive(Debug)]
pub(super) enum Wire {
    Udp(UdpSocket),
    /// Each with its length before it (RFC 4571), as ICE has it over TCP.
    Frames(Line),
    /// One after the other, as TURN has it over TCP and TLS.
    Messages(Line),
}

/// When a datagram is sent again, in milliseconds after the first time (as RFC 8489 §6.2.1, but faster).
const REPEATS_MS: [u64; 5] = [0, 150, 400, 900, 1900];
/// When there will be no answer any more.
const GIVE_UP: Duration = Duration::from_millis(3000);
const MESSAGE_BYTES_MAX: usize = 2048;

impl Wire {
    /// Datagrams from a port of their own.
    ///
    /// # Errors
    /// There is no route.
    pub(super) fn udp(to: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        Ok(Self::Udp(socket))
    }

    /// Our own end.
    pub(super) fn local(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Udp(socket) => socket.local_addr(),
            Self::Frames(line) | Self::Messages(line) => line.local(),
        }
    }

    /// Sends a message until something comes that `read` takes.
    ///
    /// # Errors
    /// Nothing came, or the other side said that nobody is there.
    pub(super) fn ask<T>(
        &mut self,
        message: &[u8],
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<T> {
        if !matches!(self, Self::Udp(_)) {
            self.send(message)?;
            // The connection has a deadline, and a server does not talk without end.
            for _ in 0..ANSWERS_MAX {
                if let Some(answer) = read(&self.receive()?) {
                    return Ok(answer);
                }
            }
            return Err(io::ErrorKind::TimedOut.into());
        }
        let started = Instant::now();
        let ends = REPEATS_MS
            .iter()
            .skip(1)
            .map(|ms| Duration::from_millis(*ms));
        for end in ends.chain([GIVE_UP]) {
            self.send(message)?;
            while let Some(left) = end
                .checked_sub(started.elapsed())
                .filter(|it| !it.is_zero())
            {
                self.wait_at_most(left)?;
                match self.receive() {
                    Ok(answer) => {
                        if let Some(answer) = read(&answer) {
                            return Ok(answer);
                        }
                    }
                    Err(error) if is_pause(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Sends a message that is not answered.
    pub(super) fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(message).map(drop),
            Self::Frames(line) => {
                let length = u16::try_from(message.len()).map_err(io::Error::other)?;
                line.write_all(&[&length.to_be_bytes(), message].concat())?;
                line.flush()
            }
            Self::Messages(line) => {
                line.write_all(message)?;
                line.flush()
            }
        }
    }

    fn wait_at_most(&self, wait: Duration) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.set_read_timeout(Some(wait)),
            Self::Frames(_) | Self::Messages(_) => Ok(()),
        }
    }

    fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let length = match self {
            Self::Udp(socket) => socket.recv(&mut bytes)?,
            Self::Frames(line) => {
                let mut header = [0; 2];
                line.read_exact(&mut header)?;
                let length = usize::from(u16::from_be_bytes(header));
                line.read_exact(bytes.get_mut(..length).ok_or_else(foreign)?)?;
                length
            }
            Self::Messages(line) => {
                let (header, rest) = bytes.split_first_chunk_mut::<4>().ok_or_else(foreign)?;
                line.read_exact(header)?;
                let length = message_length(header).ok_or_else(foreign)?;
                line.read_exact(rest.get_mut(..length - header.len()).ok_or_else(foreign)?)?;
                length
            }
        };
        bytes.truncate(length);
        Ok(bytes)
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// What answers speaks another protocol.
pub(super) fn foreign() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "something else answers there")
}

const ANSWERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers to the third datagram, after one that is something else.
    #[test]
    fn datagrams_are_repeated_and_others_passed_over() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut bytes = [0; 16];
                for _ in 0..2 {
                    server.recv_from(&mut bytes).unwrap();
                }
                let (length, from) = server.recv_from(&mut bytes).unwrap();
                server.send_to(b"other", from).unwrap();
                server.send_to(&bytes[..length], from).unwrap();
            });
            let mut wire = Wire::udp(address).unwrap();
            let read = |answer: &[u8]| (answer != b"other").then(|| answer.to_vec());
            assert_eq!(wire.ask(b"hello", read).unwrap(), b"hello");
        });
    }

    #[test]
    fn nobody_at_a_port_is_noticed() {
        let address = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let mut wire = Wire::udp(address).unwrap();
        let error = wire.ask(b"hello", |_| Some(())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    /// What is asked and answered over a connection whose other end sends `answer`.
    fn asked(wrap: fn(Line) -> Wire, answer: &[u8]) -> (Vec<u8>, io::Result<Vec<u8>>) {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        thread::scope(|scope| {
            let seen = scope.spawn(|| {
                let (mut stream, _) = server.accept().unwrap();
                stream.write_all(answer).unwrap();
                stream.shutdown(std::net::Shutdown::Write).ok();
                let mut seen = Vec::new();
                // A client that leaves with something unread resets the connection.
                stream.read_to_end(&mut seen).ok();
                seen
            });
            let mut wire = wrap(Line::connect(address).unwrap());
            let answer = wire.ask(b"hello", |answer| {
                (answer != b"no").then(|| answer.to_vec())
            });
            drop(wire);
            (seen.join().unwrap(), answer)
        })
    }

    #[test]
    fn connections_carry_frames_or_messages() {
        let (seen, answer) = asked(Wire::Frames, b"\0\x02no\0\x03yes");
        assert_eq!(
            (seen.as_slice(), answer.unwrap().as_slice()),
            (&b"\0\x05hello"[..], &b"yes"[..])
        );
        let message = [&[1, 1, 0, 4, 0x21, 0x12, 0xa4, 0x42][..], &[7; 16]].concat();
        let (seen, answer) = asked(Wire::Messages, &message);
        assert_eq!(
            (seen, answer.unwrap()),
            (b"hello".to_vec(), message.clone())
        );
        for cut in [&b"\0\x09cut"[..], b"\xff\xfflong", b""] {
            assert!(asked(Wire::Frames, cut).1.is_err(), "{cut:?}");
        }
        for cut in [&message[..23], b"HTTP/1.1 400", b"\0\x01\xff\xf0", b""] {
            assert!(asked(Wire::Messages, cut).1.is_err(), "{cut:?}");
        }
    }
}
