//! Asks a STUN server where we come from (RFC 8489 §3).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use net::stun::{BINDING, Class, Message, MessageWriter, TransactionId, XOR_MAPPED_ADDRESS};

use super::DiscoveryError;

/// How often a request is sent, and how long each time its answer is waited for.
const TRIES: usize = 4;
const WAIT: Duration = Duration::from_millis(500);
/// Datagrams looked at after each request.
const ANSWERS_MAX: usize = 8;
/// RFC 8489 §5: a header without attributes.
const REQUEST_BYTES: usize = 20;
const ANSWER_BYTES_MAX: usize = 1500;

/// Our public address of each IP version in which the server can be reached.
pub(super) fn ask(server: &str) -> Result<Vec<IpAddr>, DiscoveryError> {
    let failed = |source| DiscoveryError::Stun {
        server: server.to_owned(),
        source,
    };
    let places: Vec<SocketAddr> = server.to_socket_addrs().map_err(failed)?.collect();
    let v4 = places.iter().find(|place| place.is_ipv4());
    let v6 = places.iter().find(|place| place.is_ipv6());
    let mut found = Vec::new();
    let mut last = io::ErrorKind::NotFound.into();
    for place in v4.into_iter().chain(v6) {
        match ask_at(*place) {
            Ok(ip) => found.push(ip),
            Err(error) => last = error,
        }
    }
    if found.is_empty() {
        return Err(failed(last));
    }
    Ok(found)
}

fn ask_at(server: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(WAIT))?;
    let mut id = TransactionId::default();
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let request = write(&id).ok_or_else(|| io::Error::other("no request"))?;
    let mut answer = [0; ANSWER_BYTES_MAX];
    for _ in 0..TRIES {
        socket.send(&request)?;
        for _ in 0..ANSWERS_MAX {
            match socket.recv(&mut answer) {
                Ok(length) => {
                    if let Some(ip) = answer.get(..length).and_then(|answer| read(answer, &id)) {
                        return Ok(ip);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn write(id: &TransactionId) -> Option<[u8; REQUEST_BYTES]> {
    let mut request = [0; REQUEST_BYTES];
    MessageWriter::new(&mut request, Class::Request, BINDING, id)?.finish(None)?;
    Some(request)
}

/// The address in the answer to this request.
fn read(answer: &[u8], id: &TransactionId) -> Option<IpAddr> {
    let message = Message::parse(answer)?;
    let is_answer = message.class == Class::Success
        && message.method == BINDING
        && message.transaction_id == *id;
    let value = message
        .attribute(XOR_MAPPED_ADDRESS)
        .filter(|_| is_answer)?;
    let ip = message.xor_address(value)?.ip().to_canonical();
    (!ip.is_unspecified() && !ip.is_multicast()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn answer(id: &TransactionId, mapped: &str) -> Vec<u8> {
        let mut bytes = vec![0; 128];
        let mut writer = MessageWriter::new(&mut bytes, Class::Success, BINDING, id).unwrap();
        let mapped = SocketAddr::new(mapped.parse().unwrap(), 4000);
        writer.put_xor_address(XOR_MAPPED_ADDRESS, mapped).unwrap();
        let length = writer.finish_with_fingerprint(None).unwrap();
        bytes.truncate(length);
        bytes
    }

    #[test]
    fn only_the_answer_to_our_own_request_counts() {
        let id = [3; 12];
        let good = answer(&id, "203.0.113.9");
        assert_eq!(read(&good, &id), "203.0.113.9".parse().ok());
        assert_eq!(
            read(&answer(&id, "2001:db8::9"), &id),
            "2001:db8::9".parse().ok()
        );
        assert_eq!(read(&good, &[4; 12]), None);
        for nobody in ["0.0.0.0", "::", "224.0.0.1"] {
            assert_eq!(read(&answer(&id, nobody), &id), None, "{nobody}");
        }
        assert_eq!(read(&write(&id).unwrap(), &id), None);
        for end in 0..good.len() {
            assert_eq!(read(&good[..end], &id), None, "{end}");
        }
    }

    #[test]
    fn a_request_that_is_lost_is_sent_again() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let place = server.local_addr().unwrap().to_string();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut request = [0; 64];
                server.recv_from(&mut request).unwrap();
                let (length, from) = server.recv_from(&mut request).unwrap();
                let id = Message::parse(&request[..length]).unwrap().transaction_id;
                server.send_to(b"something else", from).unwrap();
                server.send_to(&answer(&id, "203.0.113.9"), from).unwrap();
            });
            assert_eq!(
                ask(&place).unwrap(),
                ["203.0.113.9".parse::<IpAddr>().unwrap()]
            );
        });
    }

    #[test]
    fn nobody_there_is_an_error_that_names_the_server() {
        let place = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let error = ask(&place.to_string()).unwrap_err().to_string();
        assert!(error.contains(&place.to_string()), "{error}");
    }
}
