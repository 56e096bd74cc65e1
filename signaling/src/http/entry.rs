//! What a connection goes through before HTTP sees it: a PROXY header where one is due, TLS, and the
//! question whether it is for HTTP at all. HTTPS and TURN over TLS share a port.

mod turn;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use net::proxy::{self, Parsed};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::tls::{ALPN_ACME, ALPN_HTTP, ALPN_TURN};
use super::{Ends, Tls};
use crate::config::{Http, Network};
use crate::metrics::{Closed, Metrics};

pub use turn::{TurnDoor, TurnStream};

/// PROXY header, TLS handshake and first byte, and then a request's head, have this long.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// What a listener asks of its connections.
#[derive(Clone)]
pub(crate) struct Entry {
    /// HTTPS instead of HTTP.
    pub(crate) tls: Option<Tls>,
    /// Connections begin with a PROXY header.
    pub(crate) proxies: Option<Proxies>,
    /// Takes the connections that turn out to be for TURN; without it they are closed.
    pub(crate) turn: Option<TurnDoor>,
    pub(crate) metrics: Arc<Metrics>,
    /// Time for all of it.
    pub(crate) within: Duration,
}

/// Who may say, in a PROXY header, whom it speaks for.
#[derive(Clone, Debug)]
pub(crate) struct Proxies(Arc<[Network]>);

/// A connection that made it to HTTP.
pub(crate) enum Entered {
    Http(TcpStream, Ends),
    Https(Box<TlsStream<TcpStream>>, Ends),
}

impl Entry {
    /// Plain HTTP, from whoever connects.
    pub(crate) fn plain(metrics: Arc<Metrics>) -> Self {
        Self {
            tls: None,
            proxies: None,
            turn: None,
            metrics,
            within: HEAD_TIMEOUT,
        }
    }

    /// Takes a connection in and returns it if it is for HTTP. One for TURN goes its own way; what
    /// does not belong here is counted and closed.
    pub(crate) async fn admit(&self, stream: TcpStream, remote: SocketAddr) -> Option<Entered> {
        stream.set_nodelay(true).ok();
        let local = stream.local_addr().ok()?;
        let admitted = timeout(self.within, self.enter(stream, Ends { remote, local })).await;
        admitted
            .unwrap_or(Err(Closed::Silent))
            .unwrap_or_else(|reason| {
                self.metrics.connection_closed(reason);
                None
            })
    }

    async fn enter(
        &self,
        mut stream: TcpStream,
        mut ends: Ends,
    ) -> Result<Option<Entered>, Closed> {
        if let Some(proxies) = &self.proxies {
            if !proxies.include(ends.remote.ip()) {
                return Err(Closed::ProxyPeer);
            }
            ends = read_header(&mut stream, ends).await?;
        }
        let Some(tls) = &self.tls else {
            return Ok(Some(Entered::Http(stream, ends)));
        };
        let accepted = tls.acceptor().accept(stream).await;
        let mut stream = accepted.map_err(|error| closed_by(&error))?;
        if stream.get_ref().1.alpn_protocol() == Some(ALPN_ACME) {
            // The authority has seen in the handshake what it came for.
            stream.shutdown().await.ok();
            return Ok(None);
        }
        if !is_turn(&mut stream).await? {
            return Ok(Some(Entered::Https(Box::new(stream), ends)));
        }
        let turn = self.turn.as_ref().ok_or(Closed::NoTurn)?;
        let stream = TurnStream::new(stream, ends);
        turn(stream.map_err(|error| closed_by(&error))?);
        Ok(None)
    }
}

/// Whether a connection is for TURN: ALPN says so (RFC 7443), and where a client does not use it, the
/// first byte does. A STUN message begins with 0 or 1 (RFC 8489 §5), a request with a letter; channel
/// data never comes first. Waits for that byte except where ALPN says HTTP; it stays to be read.
async fn is_turn(stream: &mut TlsStream<TcpStream>) -> Result<bool, Closed> {
    let protocol = stream.get_ref().1.alpn_protocol();
    if protocol == Some(ALPN_HTTP) {
        return Ok(false);
    }
    let is_named = protocol == Some(ALPN_TURN);
    let decrypted = stream.fill_buf().await;
    match decrypted.map_err(|error| closed_by(&error))?.first() {
        Some(first) => Ok(is_named || *first <= 1),
        None => Err(Closed::Silent),
    }
}

/// What went wrong with a connection: its client left, or spoke no TLS that we speak.
fn closed_by(error: &io::Error) -> Closed {
    match error.kind() {
        io::ErrorKind::InvalidData => Closed::Handshake,
        _ => Closed::Silent,
    }
}

impl Proxies {
    /// `None` when no PROXY headers are expected.
    pub(crate) fn from_config(http: &Http) -> Option<Self> {
        http.proxy_protocol
            .then(|| Self(http.proxy_from.clone().into()))
    }

    fn include(&self, address: IpAddr) -> bool {
        self.0.is_empty() || self.0.iter().any(|network| network.contains(address))
    }
}

/// Reads a PROXY header and not a byte behind it; the ends it names, else those of the socket.
async fn read_header<S>(stream: &mut S, socket: Ends) -> Result<Ends, Closed>
where
    S: AsyncRead + Unpin,
{
    let mut header = Vec::new();
    loop {
        match proxy::parse(&header) {
            Parsed::Incomplete { missing } => {
                let mut rest = (&mut *stream).take(missing as u64);
                match rest.read_buf(&mut header).await {
                    Ok(0) | Err(_) => return Err(Closed::Silent),
                    Ok(_) => {}
                }
            }
            Parsed::Header {
                source,
                destination,
                ..
            } => {
                return Ok(Ends {
                    remote: source.unwrap_or(socket.remote),
                    local: destination.unwrap_or(socket.local),
                });
            }
            Parsed::Invalid => return Err(Closed::ProxyHeader),
        }
    }
}

#[cfg(test)]
mod tests;
