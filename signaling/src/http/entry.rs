//! What a connection goes through before HTTP sees it: a PROXY header where one is due, and TLS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::proxy::{self, Parsed};
use super::{Ends, Tls};
use crate::config::{Http, Network};
use crate::metrics::{Closed, Metrics};

/// PROXY header and TLS handshake, and then a request's head, have this long.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// What a listener asks of its connections.
#[derive(Clone)]
pub(crate) struct Entry {
    /// HTTPS instead of HTTP.
    pub(crate) tls: Option<Tls>,
    /// Connections begin with a PROXY header.
    pub(crate) proxies: Option<Proxies>,
    pub(crate) metrics: Arc<Metrics>,
    /// Time for all of it.
    pub(crate) within: Duration,
}

/// Who may say, in a PROXY header, whom it speaks for.
#[derive(Clone, Debug)]
pub(crate) struct Proxies(Arc<[Network]>);

/// A connection that made it.
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
            metrics,
            within: HEAD_TIMEOUT,
        }
    }

    /// Takes a connection in; what does not belong here is counted and closed.
    pub(crate) async fn admit(&self, stream: TcpStream, remote: SocketAddr) -> Option<Entered> {
        stream.set_nodelay(true).ok();
        let local = stream.local_addr().ok()?;
        let admitted = timeout(self.within, self.enter(stream, Ends { remote, local })).await;
        match admitted.unwrap_or(Err(Closed::Silent)) {
            Ok(entered) => Some(entered),
            Err(reason) => {
                self.metrics.connection_closed(reason);
                None
            }
        }
    }

    async fn enter(&self, mut stream: TcpStream, mut ends: Ends) -> Result<Entered, Closed> {
        if let Some(proxies) = &self.proxies {
            if !proxies.include(ends.remote.ip()) {
                return Err(Closed::ProxyPeer);
            }
            ends = read_header(&mut stream, ends).await?;
        }
        let Some(tls) = &self.tls else {
            return Ok(Entered::Http(stream, ends));
        };
        match tls.acceptor().accept(stream).await {
            Ok(stream) => Ok(Entered::Https(Box::new(stream), ends)),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Closed::Silent),
            Err(_) => Err(Closed::Handshake),
        }
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
