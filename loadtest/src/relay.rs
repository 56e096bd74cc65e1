//! A UDP middlebox between one peer and the server, which a test tells what to do to the path.
//!
//! It passes datagrams on unchanged, and beside that can repeat, damage, lose or record them. The
//! server sees the relay's address as the peer's.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::client::Alteration;

/// The most datagrams that are recorded.
const RECORDED_MAX: usize = 2_000;

/// What the relay does to datagrams on their way from the peer to the server.
#[derive(Debug, Default)]
pub struct Mischief {
    /// Sends after each SRTP or SRTCP datagram a copy with its last byte changed.
    pub damage: AtomicBool,
    /// Sends after each SRTP or SRTCP datagram a copy of it.
    pub repeat: AtomicBool,
    /// Passes nothing on, in either direction.
    pub cut: AtomicBool,
    /// Keeps SRTP and SRTCP datagrams.
    pub record: AtomicBool,
    /// Keeps SRTP and SRTCP datagrams instead of passing them on.
    pub steal: AtomicBool,
    /// Damaged or repeated copies that were sent.
    pub copies: AtomicU64,
    recorded: Mutex<Vec<Vec<u8>>>,
}

impl Mischief {
    /// The recorded datagrams.
    pub fn recorded(&self) -> Vec<Vec<u8>> {
        self.recorded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The recorded datagrams, which are then forgotten.
    pub fn take_recorded(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.recorded.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A UDP middlebox.
pub struct Relay {
    /// What it does.
    pub mischief: Arc<Mischief>,
    /// Where the peer sends to.
    pub address: SocketAddr,
    server_side: Arc<UdpSocket>,
    target: Arc<Mutex<Option<SocketAddr>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Relay {
    /// Opens it; where it sends to is learned from the answer that passes its [`Self::alteration`].
    pub async fn open() -> Result<Self> {
        let peer_side = Arc::new(UdpSocket::bind(("127.0.0.1", 0)).await?);
        let server_side = Arc::new(UdpSocket::bind(("127.0.0.1", 0)).await?);
        let address = peer_side.local_addr()?;
        let mischief = Arc::new(Mischief::default());
        let target = Arc::new(Mutex::new(None));
        let peer = Arc::new(Mutex::new(None));
        let up = Path {
            from: peer_side.clone(),
            to: server_side.clone(),
            source: peer.clone(),
            target: target.clone(),
            mischief: mischief.clone(),
        };
        let down = Path {
            from: server_side.clone(),
            to: peer_side,
            source: Arc::default(),
            target: peer,
            mischief: mischief.clone(),
        };
        let tasks = vec![
            tokio::spawn(up.carry(true)),
            tokio::spawn(down.carry(false)),
        ];
        Ok(Self {
            mischief,
            address,
            server_side,
            target,
            tasks,
        })
    }

    /// Replaces the candidates of an answer by the relay's address, and notes the first.
    pub fn alteration(&self) -> Alteration {
        let (target, address) = (self.target.clone(), self.address);
        Alteration(Arc::new(move |sdp| {
            let candidate = udp_candidate(sdp);
            *target.lock().unwrap_or_else(PoisonError::into_inner) = candidate;
            through(sdp, address)
        }))
    }

    /// The server's media address.
    pub fn server(&self) -> Result<SocketAddr> {
        let target = *self.target.lock().unwrap_or_else(PoisonError::into_inner);
        target.context("no answer passed yet")
    }

    /// Sends a datagram to the server from the address the peer is known by.
    pub async fn inject(&self, datagram: &[u8]) -> Result<()> {
        self.server_side.send_to(datagram, self.server()?).await?;
        Ok(())
    }
}

/// The first UDP IPv4 candidate of an SDP.
pub fn udp_candidate(sdp: &str) -> Option<SocketAddr> {
    sdp.lines()
        .filter_map(|line| line.strip_prefix("a=candidate:"))
        .find_map(|candidate| {
            let mut words = candidate.split_whitespace().skip(2);
            let udp = words.next()?.eq_ignore_ascii_case("udp");
            let (_, address, port) = (words.next()?, words.next()?, words.next()?);
            let address = SocketAddr::new(address.parse().ok()?, port.parse().ok()?);
            (udp && address.is_ipv4()).then_some(address)
        })
}

/// An SDP with one candidate, `address`, where its own candidates began.
fn through(sdp: &str, address: SocketAddr) -> String {
    let mut written = false;
    let mut out = String::new();
    for line in sdp.lines() {
        if !line.starts_with("a=candidate:") {
            out.push_str(line);
            out.push_str("\r\n");
        } else if !written {
            written = true;
            out.push_str(&format!(
                "a=candidate:1 1 udp 2130706431 {} {} typ host\r\n",
                address.ip(),
                address.port()
            ));
        }
    }
    out
}

struct Path {
    from: Arc<UdpSocket>,
    to: Arc<UdpSocket>,
    source: Arc<Mutex<Option<SocketAddr>>>,
    target: Arc<Mutex<Option<SocketAddr>>>,
    mischief: Arc<Mischief>,
}

impl Path {
    async fn carry(self, disturb: bool) {
        let mut buffer = vec![0; 2048];
        while let Ok((length, source)) = self.from.recv_from(&mut buffer).await {
            *self.source.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
            let target = *self.target.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(datagram) = buffer.get(..length) else {
                continue;
            };
            let Some(target) = target else { continue };
            if self.mischief.cut.load(Ordering::Relaxed) {
                continue;
            }
            // SRTP and SRTCP by the first byte (RFC 7983).
            let media = datagram
                .first()
                .is_some_and(|first| (128..192).contains(first));
            let stolen = disturb && media && self.mischief.steal.load(Ordering::Relaxed);
            if !stolen {
                let _ = self.to.send_to(datagram, target).await;
            }
            if disturb && media {
                self.disturb(datagram, target).await;
            }
        }
    }

    async fn disturb(&self, datagram: &[u8], target: SocketAddr) {
        let told = |what: &AtomicBool| what.load(Ordering::Relaxed);
        if told(&self.mischief.record) || told(&self.mischief.steal) {
            let recorded = &self.mischief.recorded;
            let mut recorded = recorded.lock().unwrap_or_else(PoisonError::into_inner);
            if recorded.len() < RECORDED_MAX {
                recorded.push(datagram.to_vec());
            }
        }
        if told(&self.mischief.repeat) {
            let _ = self.to.send_to(datagram, target).await;
            self.mischief.copies.fetch_add(1, Ordering::Relaxed);
        }
        if told(&self.mischief.damage) {
            let mut copy = datagram.to_vec();
            if let Some(last) = copy.last_mut() {
                *last ^= 1;
            }
            // A number of its own, so that the replay window cannot be what refuses it.
            if let Some(sequence) = copy.get_mut(2) {
                *sequence ^= 0x01;
            }
            let _ = self.to.send_to(&copy, target).await;
            self.mischief.copies.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_replaced_once() {
        let sdp = "v=0\r\na=candidate:1 1 tcp 9 127.0.0.1 1 typ host tcptype passive\r\n\
                   a=candidate:2 1 UDP 9 127.0.0.1 7800 typ host\r\na=mid:0\r\n";
        assert_eq!(udp_candidate(sdp), "127.0.0.1:7800".parse().ok());
        let altered = through(sdp, "127.0.0.1:9".parse().unwrap());
        assert_eq!(altered.matches("a=candidate").count(), 1);
        assert!(altered.ends_with("a=mid:0\r\n"));
    }
}
