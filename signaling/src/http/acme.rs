//! Certificates by ACME (RFC 8555): ordered from an authority, proved in a TLS handshake on our own
//! port (TLS-ALPN-01, RFC 8737), kept in a folder, and renewed in good time.

mod cache;
mod client;

use std::sync::Arc;
use std::time::{Duration, Instant};

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivatePkcs8KeyDer;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::tls::{Facts, TlsError};
use super::{Tls, unix_time};
use crate::config::Http;
use crate::metrics::Metrics;
use cache::Cache;
pub(crate) use cache::certificate_path;
use client::Client;

/// After a failure; twice as long after each further one. The largest authority forgives five failed
/// proofs of a name in an hour, and this makes five.
const RETRY_FIRST: Duration = Duration::from_secs(120);
const RETRY_MAX: Duration = Duration::from_secs(6 * 3600);
/// However short-lived they are, certificates are not ordered more often.
const ORDER_PAUSE: Duration = Duration::from_secs(3600);
/// How often the wall clock is looked at, which may be set or may have stood still.
const LOOK: Duration = Duration::from_secs(3600);
/// All of an order together.
const ORDER_TIMEOUT: Duration = Duration::from_secs(600);

/// Keeps a [`Tls`] supplied with certificates.
pub(crate) struct Acme {
    /// In lower case.
    domains: Vec<String>,
    email: String,
    directory_url: String,
    cache: Cache,
    /// Who vouches for the authority's server; `None`: whom this machine trusts.
    roots: Option<Arc<RootCertStore>>,
    /// How often an order is looked at while the authority works on it.
    polls: RetryPolicy,
    tls: Tls,
    metrics: Arc<Metrics>,
    /// The certificate in force.
    current: Option<Facts>,
    /// No order before.
    not_before: Option<Instant>,
    retry: Duration,
}

/// Why there is no new certificate.
#[derive(Debug, Error)]
pub(crate) enum AcmeError {
    #[error(
        "no authorities are known on this machine: install ca-certificates, or set SSL_CERT_FILE"
    )]
    NoAuthorities,
    #[error(transparent)]
    Protocol(#[from] instant_acme::Error),
    #[error("{domain} could not be proved: {reason}")]
    Unproved { domain: String, reason: String },
    #[error("the authority refuses the order and does not say why")]
    Refused,
    #[error("the authority offers no TLS-ALPN-01 for {0}")]
    NoChallenge(String),
    #[error("cannot make a key or a certificate: {0}")]
    Key(#[from] rcgen::Error),
    #[error("what was issued cannot be used: {0}")]
    Unusable(#[from] TlsError),
    #[error("what was issued is not for all the names")]
    OtherNames,
    #[error("http.acme_dir: {0}")]
    Folder(#[from] std::io::Error),
    #[error("the authority takes too long")]
    TimedOut,
}

impl Acme {
    /// Shows the certificate in the folder, if there is one, and gets ready to order the next.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub(crate) fn new(
        http: &Http,
        roots: Option<Arc<RootCertStore>>,
        tls: Tls,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let cache = Cache::open(&http.acme_dir, &http.acme_directory_url)?;
        let domains = http
            .acme_domains
            .iter()
            .map(|name| name.to_ascii_lowercase());
        let polls = RetryPolicy::new().timeout(Duration::from_secs(120));
        let mut acme = Self {
            domains: domains.collect(),
            email: http.acme_email.clone(),
            directory_url: http.acme_directory_url.clone(),
            cache,
            roots,
            polls,
            tls,
            metrics,
            current: None,
            not_before: None,
            retry: RETRY_FIRST,
        };
        if let Some(text) = acme.cache.certificate() {
            match acme.tls.show_pem(&text) {
                Ok(facts) => acme.current = facts,
                Err(error) => tracing::warn!(%error, "http.acme_dir: another one is ordered"),
            }
        }
        Ok(acme)
    }

    /// Orders whatever is due, until the server ends.
    pub(crate) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let work = async {
            loop {
                let wait = self.step(Instant::now(), unix_time()).await;
                sleep(wait.min(LOOK)).await;
            }
        };
        tokio::select! {
            () = work => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    }

    /// Orders a certificate if one is due. How long there is nothing to do.
    async fn step(&mut self, now: Instant, unix_time: u64) -> Duration {
        let pause = self
            .not_before
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let due = self.current.as_ref().map_or(0, |facts| self.renewal(facts));
        let wait = pause.max(Duration::from_secs(due.saturating_sub(unix_time)));
        if !wait.is_zero() {
            return wait;
        }
        let pause = match self.order().await {
            Ok(()) => {
                self.retry = RETRY_FIRST;
                tracing::info!(domains = ?self.domains, "a new certificate by ACME");
                ORDER_PAUSE
            }
            Err(error) => {
                let pause = self.retry;
                self.retry = (pause * 2).min(RETRY_MAX);
                self.metrics.acme_failures.inc();
                let error = in_a_line(&error.to_string());
                tracing::warn!(error, retry_in = ?pause, "no new certificate by ACME");
                pause
            }
        };
        self.not_before = now.checked_add(pause);
        pause
    }

    /// When a certificate is renewed, in seconds since 1970: with a third of its time left, or at
    /// once when it is not for all the names.
    fn renewal(&self, facts: &Facts) -> u64 {
        if facts.cover(&self.domains) {
            facts.until - facts.until.saturating_sub(facts.from) / 3
        } else {
            0
        }
    }

    /// Gets a certificate, shows it and keeps it.
    async fn order(&mut self) -> Result<(), AcmeError> {
        let issued = timeout(ORDER_TIMEOUT, self.obtain()).await;
        self.tls.forget_challenges();
        let issued = issued.unwrap_or(Err(AcmeError::TimedOut))?;
        let facts = Facts::of_pem(&issued).filter(|facts| facts.cover(&self.domains));
        let facts = facts.ok_or(AcmeError::OtherNames)?;
        self.tls.show_pem(&issued)?;
        self.current = Some(facts);
        // It is in force all the same if it cannot be kept.
        Ok(self.cache.keep_certificate(&issued)?)
    }

    /// A key and its chain, as PEM.
    async fn obtain(&self) -> Result<String, AcmeError> {
        let account = self.account().await?;
        let identifiers: Vec<_> = self.domains.iter().cloned().map(Identifier::Dns).collect();
        let mut order = match account.new_order(&NewOrder::new(&identifiers)).await {
            Err(error) if is_account_gone(&error) => {
                self.cache.forget_account()?;
                return Err(error.into());
            }
            order => order?,
        };
        self.prove(&mut order).await?;
        let outcome = order.poll_ready(&self.polls).await;
        if !matches!(outcome, Ok(OrderStatus::Ready)) {
            // The reason stands at the name, if anywhere.
            return Err(match (unproved(&mut order).await, outcome) {
                (Some(reason), _) => reason,
                (None, Err(error)) => error.into(),
                (None, Ok(_)) => AcmeError::Refused,
            });
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&self.polls).await?;
        Ok(format!("{key}{chain}"))
    }

    /// The account in the folder, else a new one.
    async fn account(&self) -> Result<Account, AcmeError> {
        let client = Client::new(self.roots.clone()).await?;
        let builder = Account::builder_with_http(Box::new(client));
        if let Some(credentials) = self.cache.account() {
            return Ok(builder.from_credentials(credentials).await?);
        }
        let contact = format!("mailto:{}", self.email);
        let contact: &[&str] = if self.email.is_empty() {
            &[]
        } else {
            &[&contact]
        };
        let new = NewAccount {
            contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let created = builder.create(&new, self.directory_url.clone(), None).await;
        let (account, credentials) = created?;
        self.cache.keep_account(&credentials)?;
        Ok(account)
    }

    /// Gets ready to answer for every name that is not proved yet, and says so.
    async fn prove(&self, order: &mut Order) -> Result<(), AcmeError> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let domain = authorization.identifier().to_string();
            let challenge = authorization.challenge(ChallengeType::TlsAlpn01);
            let mut challenge = challenge.ok_or_else(|| AcmeError::NoChallenge(domain.clone()))?;
            self.get_ready(&domain, challenge.key_authorization().digest().as_ref())?;
            challenge.set_ready().await?;
        }
        Ok(())
    }

    /// Answers for a name with the certificate of RFC 8737 §3.
    fn get_ready(&self, domain: &str, digest: &[u8]) -> Result<(), AcmeError> {
        let mut params = CertificateParams::new([domain.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.der().clone();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok(self.tls.answer_challenge(domain, certificate, key.into())?)
    }
}

/// What the authority says is wrong with a name of an order.
async fn unproved(order: &mut Order) -> Option<AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let domain = authorization.identifier().to_string();
        let state = authorization.refresh().await.ok()?;
        if let Some(problem) = state
            .challenges
            .iter()
            .find_map(|challenge| challenge.error.as_ref())
        {
            let reason = problem.to_string();
            return Some(AcmeError::Unproved { domain, reason });
        }
    }
    None
}

/// What an authority says may be long, and more than text.
fn in_a_line(text: &str) -> String {
    const CHARACTERS_MAX: usize = 500;
    let characters = text.chars().take(CHARACTERS_MAX);
    characters
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}

/// True when the authority does not know the account any more (RFC 8555 §6.7).
fn is_account_gone(error: &instant_acme::Error) -> bool {
    const GONE: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
    matches!(error, instant_acme::Error::Api(problem) if problem.r#type.as_deref() == Some(GONE))
}

#[cfg(test)]
mod tests;
