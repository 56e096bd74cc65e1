//! The API keys in force: verified with, signed with, replaced as a whole.

use std::sync::{Arc, PoisonError, RwLock};

use super::{Claims, Grants, VerifyError};
use crate::config::Auth;

/// The API keys in force.
#[derive(Debug)]
pub struct Keys(RwLock<Arc<Auth>>);

impl Keys {
    /// Takes the keys of a configuration.
    pub fn new(auth: Auth) -> Self {
        Self(RwLock::new(Arc::new(auth)))
    }

    /// Puts others in force. Sessions go on; tokens of a key that is gone are refused from now on.
    pub fn replace(&self, auth: Auth) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *keys = Arc::new(auth);
    }

    /// Verifies a token; see [`super::verify`].
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify(&self, token: &str, now_s: u64) -> Result<Grants, VerifyError> {
        super::verify(&self.now(), token, now_s)
    }

    /// Makes a token with the key `id`.
    ///
    /// # Errors
    /// There is no such key any more.
    pub fn sign(&self, id: &str, claims: Claims) -> Result<String, VerifyError> {
        super::sign(&self.now(), id, claims)
    }

    fn now(&self) -> Arc<Auth> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&keys)
    }
}
