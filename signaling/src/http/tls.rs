//! TLS: the certificate that handshakes show, and how it is replaced while connections live on.

mod facts;
mod files;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

use crate::metrics::Metrics;
pub(crate) use facts::Facts;
use files::Files;

/// HTTP/1.1 as ALPN names it (RFC 7301 §6).
pub(crate) const ALPN_HTTP: &[u8] = b"http/1.1";
/// TURN as ALPN names it (RFC 7443 §3).
pub(crate) const ALPN_TURN: &[u8] = b"stun.turn";
/// A handshake in which a certificate authority looks whether a name is ours (RFC 8737 §6.2).
pub(crate) const ALPN_ACME: &[u8] = b"acme-tls/1";

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
    #[error("certificate and key cannot be read: {0}")]
    Malformed(#[from] rustls::pki_types::pem::Error),
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
        let mut tls = Self::new(metrics, &[ALPN_TURN, ALPN_HTTP])?;
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
        let tls = Self::new(metrics, &[ALPN_TURN, ALPN_HTTP])?;
        tls.show(pair(chain, key)?);
        Ok(tls)
    }

    /// Begins without a certificate: until [`Tls::show_pem`] handshakes end with an alert, but for
    /// those of a certificate authority.
    pub(crate) fn for_acme(metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        Self::new(metrics, &[ALPN_TURN, ALPN_HTTP, ALPN_ACME])
    }

    /// The first of `protocols` that the client names is spoken. TURN comes before HTTP: a client that names
    /// both, as coturn's does, means TURN, and browsers name it never.
    fn new(metrics: Arc<Metrics>, protocols: &[&[u8]]) -> Result<Self, TlsError> {
        let shown = Arc::new(Shown::default());
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
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

    /// Shows another certificate from the next handshake on: a key and a chain, in one text. What is
    /// in the certificate; `None` when it cannot be read, though clients may be able to.
    pub(crate) fn show_pem(&self, text: &str) -> Result<Option<Facts>, TlsError> {
        let chain = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes())?;
        Ok(self.show(pair(chain, key)?))
    }

    fn show(&self, pair: CertifiedKey) -> Option<Facts> {
        let facts = pair.end_entity_cert().ok().and_then(Facts::of);
        self.metrics
            .tls_expires(facts.as_ref().map(|facts| facts.until));
        *lock(&self.shown.current) = Some(Arc::new(pair));
        facts
    }

    /// Shows this certificate to an authority that asks whether the name is ours.
    pub(crate) fn answer_challenge(
        &self,
        name: &str,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TlsError> {
        // Not looked at closely, as others are: it has a critical extension nobody else knows.
        let key = provider().key_provider.load_private_key(key)?;
        let answer = Arc::new(CertifiedKey::new(vec![certificate], key));
        lock(&self.shown.challenges).insert(name.to_ascii_lowercase(), answer);
        Ok(())
    }

    /// Forgets the answers for authorities.
    pub(crate) fn forget_challenges(&self) {
        lock(&self.shown.challenges).clear();
    }
}

/// What the handshakes to come are shown.
#[derive(Debug, Default)]
struct Shown {
    current: Mutex<Option<Arc<CertifiedKey>>>,
    /// By name; as many as names are being proved.
    challenges: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // An authority offers this protocol and no other (RFC 8737 §3).
        let is_challenge = hello.alpn().is_some_and(|mut offered| {
            offered.next() == Some(ALPN_ACME) && offered.next().is_none()
        });
        if is_challenge {
            let name = hello.server_name()?.to_ascii_lowercase();
            return lock(&self.challenges).get(&name).cloned();
        }
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

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
