//! TLS: the certificate that handshakes show, and how it is replaced while connections live on.

mod files;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use crate::metrics::Metrics;
use files::Files;

/// HTTP/1.1 as ALPN names it (RFC 7301 §6).
pub(crate) const ALPN_HTTP: &[u8] = b"http/1.1";
/// TURN as ALPN names it (RFC 7443 §3).
pub(crate) const ALPN_TURN: &[u8] = b"stun.turn";

/// How this server speaks TLS.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
    files: Option<Arc<Files>>,
    metrics: Arc<Metrics>,
}

/// Why certificate and key cannot be used.
#[derive(Debug, Error)]
pub(crate) enum TlsError {
    #[error("cannot read {0}: {1}")]
    Unreadable(String, rustls::pki_types::pem::Error),
    #[error("certificate and key do not fit: {0}")]
    Unfit(#[from] rustls::Error),
}

impl Tls {
    /// Reads PEM files, and will again when they change.
    pub(crate) fn from_files(
        cert: &str,
        key: &str,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TlsError> {
        let files = Files::new(cert, key);
        let pair = files.read()?;
        let mut tls = Self::new(metrics)?;
        tls.show(pair);
        tls.files = Some(Arc::new(files));
        Ok(tls)
    }

    /// Takes a chain and its key.
    pub(crate) fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TlsError> {
        let tls = Self::new(metrics)?;
        tls.show(pair(chain, key)?);
        Ok(tls)
    }

    fn new(metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let shown = Arc::new(Shown::default());
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![ALPN_HTTP.to_vec(), ALPN_TURN.to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            shown,
            files: None,
            metrics,
        })
    }

    pub(crate) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// Reads the files again if they are others than when they were read last.
    pub(crate) fn reload_changed(&self) {
        if self
            .files
            .as_ref()
            .is_some_and(|files| files.have_changed())
        {
            self.reload();
        }
    }

    /// Reads the files, if it has any, again. Whatever is wrong with them, the certificate in force
    /// stays; connections stay in any case.
    pub(crate) fn reload(&self) {
        let Some(files) = &self.files else { return };
        match files.read() {
            Ok(pair) => {
                self.show(pair);
                tracing::info!("certificate read again");
            }
            Err(error) => {
                self.metrics.tls_reload_failures.inc();
                tracing::warn!(%error, "http.tls_cert: the certificate stays as it is");
            }
        }
    }

    /// Shows another certificate from the next handshake on.
    fn show(&self, pair: CertifiedKey) {
        let until = pair.end_entity_cert().ok().and_then(valid_until);
        self.metrics.tls_expires(until);
        *lock(&self.shown.current) = Some(Arc::new(pair));
    }
}

/// The certificate of the handshakes to come.
#[derive(Debug, Default)]
struct Shown {
    current: Mutex<Option<Arc<CertifiedKey>>>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        lock(&self.current).clone()
    }
}

/// A chain with its key, which has to be the one in the first certificate.
fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, TlsError> {
    Ok(CertifiedKey::from_der(chain, key, &provider())?)
}

/// The last second of a certificate, since 1970; `None` when it cannot be read.
fn valid_until(certificate: &CertificateDer<'_>) -> Option<u64> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let validity = certificate.tbs_certificate().validity();
    Some(validity.not_after.to_unix_duration().as_secs())
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
