//! HTTPS with certificates from files, and by ACME.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::pki_types::{CertificateDer, ServerName};
use signaling::{Config, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::*;

/// A folder that goes with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("plenum-http-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Writes a new certificate, which vouches for itself, and its key.
    fn put_certificate(&self) -> CertificateDer<'static> {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(self.file("cert.pem"), own.cert.pem()).unwrap();
        std::fs::write(self.file("key.pem"), own.signing_key.serialize_pem()).unwrap();
        own.cert.der().clone()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

async fn connect(
    server: &Server,
    trusted: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.addr()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// One request on a connection that the server then closes.
async fn answer<S>(mut stream: S, path: &str) -> String
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok();
    answer
}

#[tokio::test]
async fn certificate_files_are_read_again_while_the_server_runs() {
    let folder = Folder::new();
    let first = folder.put_certificate();
    let mut config = config();
    config.http.tls_cert = folder.file("cert.pem");
    config.http.tls_key = folder.file("key.pem");
    let server = Server::start(&config).await.unwrap();
    let old = connect(&server, &first).await.unwrap();
    let second = folder.put_certificate();
    server.reload_certificate();
    assert!(connect(&server, &first).await.is_err());
    let new = connect(&server, &second).await.unwrap();
    for stream in [old, new] {
        let answer = answer(stream, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("strict-transport-security"), "{answer}");
    }
}

/// A server that would get its certificate from an authority which is not there.
fn by_acme(folder: &Folder) -> Config {
    let mut config = config();
    config.http.admin_addr = "127.0.0.1:0".to_owned();
    config.http.acme_domains = vec!["localhost".to_owned()];
    config.http.acme_dir = folder.file("acme");
    config.http.acme_directory_url = "https://127.0.0.1:1/directory".to_owned();
    config.check().unwrap();
    config
}

#[tokio::test]
async fn a_server_without_a_certificate_yet_runs_says_so_and_speaks_no_plain_http() {
    let folder = Folder::new();
    let server = Server::start(&by_acme(&folder)).await.unwrap();
    let any = folder.put_certificate();
    let error = connect(&server, &any).await.err().unwrap().to_string();
    assert!(error.contains("AccessDenied"), "{error}");
    let plain = raw(&server, b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(plain.status, 0, "{plain:?}");
    // The first try fails at once; each look gives it time.
    let failed = "plenum_acme_failures_total 1\n";
    loop {
        let admin = TcpStream::connect(server.admin_addr().unwrap()).await;
        let metrics = answer(admin.unwrap(), "/metrics").await;
        if metrics.contains(failed) {
            assert!(!metrics.contains("plenum_tls_expires"), "{metrics}");
            break;
        }
    }
}

#[tokio::test]
async fn what_keeps_https_from_starting_is_named() {
    let folder = Folder::new();
    std::fs::write(folder.file("acme"), "a file").unwrap();
    let error = Server::start(&by_acme(&folder)).await.err().unwrap();
    assert!(error.to_string().starts_with("http.acme_dir: "), "{error}");

    let mut config = config();
    config.http.tls_cert = folder.file("missing.pem");
    config.http.tls_key = folder.file("missing.pem");
    let error = Server::start(&config).await.err().unwrap().to_string();
    assert!(
        error.starts_with("http.tls_cert: ") && error.contains("missing.pem"),
        "{error}"
    );
}
