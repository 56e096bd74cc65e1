//! The sockets of RTMP: a listener for encoders, pushers to other servers.
#![expect(clippy::disallowed_methods, reason = "I/O lives here")]

mod connection;
mod counts;
mod pusher;
mod tls;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::rtmp::failures::{Failures, network};
use crate::rtmp::ingest::{Media, PublishRequest, Refusal};
use connection::Connection;

pub use counts::Counts;
pub use pusher::{PushSettings, PushState, Pusher, PusherCounts};

/// What the service decides about encoders.
#[async_trait]
pub trait Doors: Send + Sync + 'static {
    /// Checks a key before anything of media is looked at. Only one encoder may have it at a time: who
    /// comes second is refused with [`crate::rtmp::RefusalCode::BadName`].
    ///
    /// # Errors
    /// The encoder may not publish; [`crate::rtmp::RefusalCode::Denied`] counts against its address.
    async fn admit(&self, request: PublishRequest) -> Result<Admitted, Refusal>;
}

/// An encoder that may publish.
#[derive(Debug)]
pub struct Admitted {
    /// Where its media go. When it is full the encoder has to wait; when the receiver is dropped its
    /// connection ends. Dropped when the connection has ended.
    pub media: mpsc::Sender<Media>,
    /// Ends the connection with words for the encoder, for instance because of its B-frames.
    pub end: Option<oneshot::Receiver<Refusal>>,
}

/// How many encoders there may be.
#[derive(Clone, Copy, Debug)]
pub struct ListenerSettings {
    /// Connections in all.
    pub connections_max: usize,
    /// Connections from one IPv4 address or IPv6 network of 64 bits.
    pub connections_per_source_max: usize,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            connections_max: 256,
            connections_per_source_max: 32,
        }
    }
}

/// Takes encoders in.
pub struct Listener {
    doors: Arc<dyn Doors>,
    settings: ListenerSettings,
    counts: Arc<Counts>,
    sources: Mutex<Sources>,
}

#[derive(Debug, Default)]
struct Sources {
    connections: HashMap<IpAddr, usize>,
    total: usize,
    failures: Failures,
}

/// A connection's place among those there may be.
struct Seat {
    listener: Arc<Listener>,
    source: IpAddr,
}

impl Listener {
    /// Encoders are admitted by `doors`.
    pub fn new(doors: Arc<dyn Doors>, settings: ListenerSettings) -> Self {
        let (counts, sources) = (Arc::default(), Mutex::default());
        Self {
            doors,
            settings,
            counts,
            sources,
        }
    }

    /// What it has counted.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Serves a socket, with TLS if there is something to accept it with. Never returns; when it is dropped
    /// its connections end.
    pub async fn serve(self: Arc<Self>, socket: TcpListener, tls: Option<TlsAcceptor>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = socket.accept() => match accepted {
                    Ok((stream, peer)) => self.take(&mut connections, stream, peer, tls.as_ref()),
                    Err(error) => self.pause(&error).await,
                },
                Some(ended) = connections.join_next() => {
                    let is_panic = ended.is_err_and(|error| error.is_panic());
                    self.counts.panics.fetch_add(u64::from(is_panic), Ordering::Relaxed);
                }
            }
        }
    }

    /// Serves one connection, for instance of a TLS session that was accepted elsewhere, to its end. One for
    /// which there is no place is closed at once.
    pub async fn serve_stream<S>(self: Arc<Self>, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        if let Some(seat) = self.seat(peer.ip()) {
            Connection::new(&seat.listener, stream, peer).run().await;
        }
    }

    fn take(
        self: &Arc<Self>,
        connections: &mut JoinSet<()>,
        stream: TcpStream,
        peer: SocketAddr,
        tls: Option<&TlsAcceptor>,
    ) {
        let Some(seat) = self.seat(peer.ip()) else {
            return;
        };
        let tls = tls.cloned();
        connections.spawn(async move {
            // Answers to commands are small and waited for.
            let _ = stream.set_nodelay(true);
            let listener = &seat.listener;
            let Some(tls) = tls else {
                return Connection::new(listener, stream, peer).run().await;
            };
            match tokio::time::timeout(TLS_TIME, tls.accept(stream)).await {
                Ok(Ok(stream)) => Connection::new(listener, stream, peer).run().await,
                Ok(Err(_)) | Err(_) => {
                    listener.counts.ended_tls.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }

    fn seat(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let source = network(address);
        let mut sources = self.sources();
        let counts = &self.counts;
        if !sources.failures.may_try(Instant::now(), source) {
            counts.refused_failures.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let from_source = sources.connections.get(&source).copied().unwrap_or(0);
        let is_full = sources.total >= self.settings.connections_max
            || from_source >= self.settings.connections_per_source_max;
        if is_full {
            counts.refused_full.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        sources.total += 1;
        sources.connections.insert(source, from_source + 1);
        counts.connections.fetch_add(1, Ordering::Relaxed);
        Some(Seat {
            listener: Arc::clone(self),
            source,
        })
    }

    /// A key was wrong.
    fn count_failure(&self, peer: SocketAddr) {
        self.sources().failures.count(Instant::now(), peer.ip());
    }

    /// Without descriptors `accept` fails at once, again and again.
    async fn pause(&self, error: &io::Error) {
        warn!(%error, "no connection of an encoder can be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut sources = self.listener.sources();
        sources.total = sources.total.saturating_sub(1);
        if let Some(count) = sources.connections.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                sources.connections.remove(&self.source);
            }
        }
        drop(sources);
        self.listener
            .counts
            .connections
            .fetch_sub(1, Ordering::Relaxed);
        debug!("an encoder's connection has ended");
    }
}

/// Something to make the handshakes of two connections differ with.
fn seed() -> u64 {
    let mut seed = [0; 8];
    // Without randomness they do not differ; nothing rests on it.
    let _ = getrandom::fill(&mut seed);
    u64::from_ne_bytes(seed)
}

const TLS_TIME: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
