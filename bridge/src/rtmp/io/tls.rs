//! Connections to servers, with TLS where the address says so.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::rtmp::push::PushError;
use crate::rtmp::target::Target;

/// A connection, whatever it is made of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Connects; without `tls` the certificates this machine trusts are asked for.
pub(super) async fn connect(
    target: &Target,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Box<dyn Stream>, PushError> {
    let unreachable = |error: io::Error| PushError::Unreachable(error.kind().to_string());
    let connected = timeout(CONNECT_TIME, connect_tcp(target)).await;
    let timed_out = |_| PushError::Unreachable("timed out".to_owned());
    let stream = connected.map_err(timed_out)?.map_err(unreachable)?;
    if !target.is_tls {
        return Ok(Box::new(stream));
    }
    let config = match tls {
        Some(config) => config,
        None => trusted()?,
    };
    let name = ServerName::try_from(target.host.clone());
    let name = name.map_err(|error| PushError::Tls(error.to_string()))?;
    let connecting = TlsConnector::from(config).connect(name, stream);
    match timeout(CONNECT_TIME, connecting).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(PushError::Tls(error.to_string())),
        Err(_) => Err(PushError::Tls("timed out".to_owned())),
    }
}

async fn connect_tcp(target: &Target) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in lookup_host((target.host.as_str(), target.port)).await? {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        // What waits in the kernel cannot be dropped any more.
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        match socket.connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Reads the machine's certificates once.
fn trusted() -> Result<Arc<ClientConfig>, PushError> {
    static TRUSTED: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let trusted = TRUSTED.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("this machine trusts no certificates".to_owned());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        Ok(Arc::new(
            config.with_root_certificates(roots).with_no_client_auth(),
        ))
    });
    trusted.clone().map_err(PushError::Tls)
}

const CONNECT_TIME: Duration = Duration::from_secs(10);
const SEND_BUFFER_BYTES: u32 = 262_144;
