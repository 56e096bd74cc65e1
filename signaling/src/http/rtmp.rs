//! The sockets encoders publish to.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::Tls;
use crate::StartError;
use crate::broadcasts::Broadcasts;
use crate::config::{self, Config};

/// Where encoders come in.
pub(crate) struct EncoderSockets(Vec<(TcpListener, Option<TlsAcceptor>)>);

impl EncoderSockets {
    /// Opens what the configuration names.
    ///
    /// # Errors
    /// A chosen address cannot be had.
    pub(crate) async fn open(config: &Config, tls: Option<&Tls>) -> Result<Self, StartError> {
        let mut sockets = Vec::new();
        let (plain, encrypted) = (&config.broadcast.rtmp_addr, &config.broadcast.rtmps_addr);
        if !plain.is_empty() {
            match bind("broadcast.rtmp_addr", plain).await {
                Ok(socket) => sockets.push((socket, None)),
                // Whoever has not chosen it may have no use for it.
                Err(error) if plain == config::RTMP_ADDR => {
                    tracing::warn!("{error}; encoders cannot publish")
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(tls) = tls.filter(|_| !encrypted.is_empty()) {
            let socket = bind("broadcast.rtmps_addr", encrypted).await?;
            sockets.push((socket, Some(tls.acceptor().clone())));
        }
        Ok(Self(sockets))
    }

    /// Where they are.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let sockets = self.0.iter();
        sockets
            .filter_map(|(socket, _)| socket.local_addr().ok())
            .collect()
    }

    /// Takes encoders in, in tasks of their own.
    pub(crate) fn serve(self, tasks: &mut JoinSet<()>, broadcasts: &Broadcasts) {
        for (socket, tls) in self.0 {
            tasks.spawn(broadcasts.listener().serve(socket, tls));
        }
    }
}

async fn bind(key: &'static str, address: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen {
            key,
            address: address.to_owned(),
            source,
        })
}
