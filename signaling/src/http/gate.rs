//! Who is let through: tokens verified, failures counted by address, joins by API key.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::http::{HeaderMap, header};

use crate::auth::{Claims, Grants, Keys, VerifyError};
use crate::config::Limits;
use crate::limits::{Buckets, Rate};
use crate::message::{ErrorCode, ErrorReply};
use crate::metrics::Metrics;

/// Verifies tokens and counts attempts.
pub(crate) struct Gate {
    keys: Arc<Keys>,
    metrics: Arc<Metrics>,
    failures: Mutex<Buckets<IpAddr>>,
    joins: Mutex<Buckets<String>>,
}

impl Gate {
    pub(crate) fn new(keys: Arc<Keys>, limits: &Limits, metrics: Arc<Metrics>) -> Self {
        let failures = Rate {
            per_second: limits.failures_per_second,
            burst: limits.failures_burst,
        };
        let joins = Rate {
            per_second: limits.joins_per_second,
            burst: limits.joins_burst,
        };
        Self {
            keys,
            metrics,
            failures: Mutex::new(Buckets::new(failures)),
            joins: Mutex::new(Buckets::new(joins)),
        }
    }

    /// Verifies a token; a failure counts against the address, and what is answered tells nothing
    /// but whether the token is over.
    pub(crate) fn verify(
        &self,
        now: Instant,
        caller: IpAddr,
        token: Option<&str>,
    ) -> Result<Grants, ErrorReply> {
        let verdict = match token {
            Some(token) => self.keys.verify(token, super::unix_time()),
            None => return Err(self.fail(now, caller, ErrorCode::Unauthorized)),
        };
        verdict.map_err(|error| {
            tracing::debug!(%error, "token refused");
            self.fail(now, caller, error.code())
        })
    }

    /// As [`Gate::verify`], with the token of an `Authorization: Bearer` header.
    pub(crate) fn verify_bearer(
        &self,
        now: Instant,
        caller: IpAddr,
        headers: &HeaderMap,
    ) -> Result<Grants, ErrorReply> {
        self.verify(now, caller, bearer(headers))
    }

    /// Makes a token with the key of another one.
    ///
    /// # Errors
    /// There is no such key any more.
    pub(crate) fn sign(&self, key: &str, claims: Claims) -> Result<String, VerifyError> {
        self.keys.sign(key, claims)
    }

    /// Counts a join with a good token.
    pub(crate) fn count_join(&self, now: Instant, grants: &Grants) -> Result<(), ErrorReply> {
        lock(&self.joins)
            .take(now, grants.key.clone())
            .map_err(|wait| {
                self.metrics.refused(ErrorCode::RateLimited);
                ErrorReply::new(ErrorCode::RateLimited, "too many joins with this API key")
                    .retry_after(wait)
            })
    }

    /// Counts a failed attempt; the error to answer with.
    pub(crate) fn fail(&self, now: Instant, caller: IpAddr, code: ErrorCode) -> ErrorReply {
        let error = match lock(&self.failures).take(now, network(caller)) {
            Ok(()) if code == ErrorCode::TokenExpired => ErrorReply::new(code, "the token is over"),
            Ok(()) if code == ErrorCode::Unauthorized => {
                ErrorReply::new(code, "a valid token is needed")
            }
            Ok(()) => ErrorReply::new(code, "refused"),
            Err(wait) => ErrorReply::new(ErrorCode::RateLimited, "too many failed attempts")
                .retry_after(wait),
        };
        self.metrics.refused(error.code);
        error
    }

    pub(crate) fn forget_idle(&self, now: Instant) {
        lock(&self.failures).forget_idle(now);
        lock(&self.joins).forget_idle(now);
    }
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What counts as one caller: an IPv4 address, or the /64 an IPv6 host has to itself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        address => address,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
