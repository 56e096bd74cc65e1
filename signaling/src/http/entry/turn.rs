//! A connection that turned out to be for TURN, on its way to whoever serves that.

use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::ServerConnection;
use tokio_rustls::server::TlsStream;

use crate::http::Ends;

/// Takes connections for TURN over TLS. It is called on the threads that serve HTTP: it has to hand
/// the connection on without blocking.
pub type TurnDoor = Arc<dyn Fn(TurnStream) + Send + Sync>;

/// A connection over TLS for TURN, past its handshake.
///
/// What had come is in `bytes`, decrypted; none of it is left in `tls`. To go on: read from `stream`
/// with `tls.read_tls`, then process and take the plaintext, as with any connection.
#[derive(Debug)]
pub struct TurnStream {
    /// The socket, non-blocking and without delay (Nagle).
    pub stream: TcpStream,
    /// The state of TLS.
    pub tls: ServerConnection,
    /// What the client has sent so far: one byte at least, and no more than rustls buffers.
    pub bytes: Vec<u8>,
    /// The client, as a PROXY header names it where there is one.
    pub remote: SocketAddr,
    /// The address the client connected to, likewise.
    pub local: SocketAddr,
}

impl TurnStream {
    pub(super) fn new(stream: TlsStream<tokio::net::TcpStream>, ends: Ends) -> io::Result<Self> {
        let (stream, mut tls) = stream.into_inner();
        let bytes = decrypted(&mut tls)?;
        Ok(Self {
            stream: stream.into_std()?,
            tls,
            bytes,
            remote: ends.remote,
            local: ends.local,
        })
    }
}

/// Takes out all that has been received.
fn decrypted(tls: &mut ServerConnection) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        match tls.reader().read_to_end(&mut bytes) {
            // The client has nothing more to say, which is for the new owner to act on.
            Ok(_) => return Ok(bytes),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        tls.process_new_packets()
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        if bytes.len() == before {
            return Ok(bytes);
        }
    }
}
