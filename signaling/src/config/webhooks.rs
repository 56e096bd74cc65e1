//! `[webhooks]`: where an application is told what happens.

use serde::{Deserialize, Serialize};

use super::{ConfigError, Secret, rule};
use crate::http::Endpoint;
use crate::webhooks::{EventKind, key_bytes};

/// `[webhooks]`: events posted to an application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhooks {
    /// Where to, an `https://` or `http://` URL; empty: nowhere.
    pub url: String,
    /// What requests are signed with: 32 bytes or more, or `whsec_` and base64; two while they change.
    pub secrets: Vec<Secret>,
    /// Which events; empty: all.
    pub events: Vec<EventKind>,
}

/// More than one only while they are changed.
const SECRETS_MAX: usize = 2;

impl Webhooks {
    /// Checks what is more than a value's type.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let are_secrets = |secret: &Secret| key_bytes(secret.expose()).is_some();
        if !self.secrets.iter().all(are_secrets) {
            let reason = "a secret is 32 bytes or more, or whsec_ and base64 of 24 or more; make one with: \
                echo whsec_$(openssl rand -base64 32)";
            return Err(rule("webhooks.secrets", reason));
        }
        if self.secrets.len() > SECRETS_MAX {
            return Err(rule(
                "webhooks.secrets",
                "must be one, or two while they change",
            ));
        }
        if self.url.is_empty() {
            return Ok(());
        }
        if Endpoint::parse(&self.url).is_none() {
            let reason = "must be an https:// or http:// URL without user and password";
            return Err(rule("webhooks.url", reason));
        }
        if self.secrets.is_empty() {
            let reason = "a secret is needed: without, anyone could send what looks like an event";
            return Err(rule("webhooks.secrets", reason));
        }
        Ok(())
    }
}
