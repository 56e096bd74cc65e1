//! What tests of connections need: a certificate authority, clients that trust it, a listener, and a
//! folder for files.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Ends, Entry, Listener, Tls};
use crate::metrics::Metrics;

/// The name that the certificates are for.
pub(crate) const NAME: &str = "meet.example";
/// Far longer than anything here takes; what it bounds is a test that would hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// Signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub(crate) struct Issued {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for [`NAME`] that is good until this second since 1970.
    pub(crate) fn issue(&self, until: u64) -> Issued {
        let key = KeyPair::generate().unwrap();
        Issued {
            cert: self.sign(&[NAME.to_owned()], 0..until, &key),
            key: key.serialize_pem(),
        }
    }

    /// A certificate for somebody's key, as PEM.
    pub(crate) fn sign(
        &self,
        names: &[String],
        valid: std::ops::Range<u64>,
        key: &impl PublicKeyData,
    ) -> String {
        let mut params = CertificateParams::new(names).unwrap();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(valid.start);
        params.not_after = epoch + Duration::from_secs(valid.end);
        params.signed_by(key, &self.0).unwrap().pem()
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    /// A client that trusts this authority and offers these protocols.
    pub(crate) fn client(&self, protocols: &[&[u8]]) -> TlsConnector {
        let mut config = ClientConfig::builder_with_provider(super::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|&name| name.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}

impl Issued {
    pub(crate) fn tls(&self, metrics: &Arc<Metrics>) -> Tls {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        Tls::from_der(vec![self.der()], key, Arc::clone(metrics)).unwrap()
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()
    }
}

/// A listener on loopback, served until it is dropped.
pub(crate) struct Site {
    pub(crate) addr: SocketAddr,
    _stop: watch::Sender<bool>,
}

impl Site {
    /// Answers every request with the remote address.
    pub(crate) async fn start(entry: Entry) -> Self {
        let remote = |Extension(ends): Extension<Ends>| async move { ends.remote.to_string() };
        Self::serve(entry, Router::new().route("/", get(remote))).await
    }

    pub(crate) async fn serve(entry: Entry, routes: Router) -> Self {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let (addr, (stop, stopped)) = (listener.address(), watch::channel(false));
        tokio::spawn(listener.serve(super::Routes::new(routes), entry, stopped));
        Self { addr, _stop: stop }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub(crate) async fn connect_tls(
        &self,
        client: &TlsConnector,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(NAME).unwrap();
        within(client.connect(name, self.connect().await)).await
    }

    /// The certificate that a new handshake shows.
    pub(crate) async fn shown(&self, client: &TlsConnector) -> CertificateDer<'static> {
        let stream = self.connect_tls(client).await.unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        chain[0].clone().into_owned()
    }
}

/// Sends a request on a connection that stays open; the status and what was answered.
pub(crate) async fn request<S>(stream: &mut S) -> (u16, String)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = b"GET / HTTP/1.1\r\nHost: meet.example\r\n\r\n";
    stream.write_all(request).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(within(stream.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(answer).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    within(stream.read_exact(&mut body)).await.unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, String::from_utf8(body).unwrap())
}

/// What the other side sends until it closes, however it does.
pub(crate) async fn until_closed<S: AsyncRead + Unpin>(stream: &mut S) -> Vec<u8> {
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await.ok();
    bytes
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("nothing happens")
}

/// A folder that goes with its owner.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("plenum-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The path of a file in it, as an option has it.
    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
