//! Signatures by which an application knows that a request comes from this server (Standard Webhooks).

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::{SECRET_BYTES_MIN, Secret};

/// Says that what follows is the secret in base64.
const PREFIX: &str = "whsec_";
/// The least that Standard Webhooks asks of such a secret.
const DECODED_BYTES_MIN: usize = 24;

/// The secrets in force; more than one while they are changed.
pub(crate) struct SigningKeys(Vec<hmac::Key>);

impl SigningKeys {
    /// Secrets that are none are left out; the configuration was checked.
    pub(crate) fn new(secrets: &[Secret]) -> Self {
        let bytes = secrets
            .iter()
            .filter_map(|secret| key_bytes(secret.expose()));
        let keys = bytes.map(|bytes| hmac::Key::new(hmac::HMAC_SHA256, &bytes));
        Self(keys.collect())
    }

    /// `webhook-signature`: one for each secret.
    pub(crate) fn sign(&self, id: &str, at_s: u64, body: &[u8]) -> String {
        let signatures = self.0.iter().map(|key| {
            let mut signed = format!("{id}.{at_s}.").into_bytes();
            signed.extend_from_slice(body);
            format!("v1,{}", STANDARD.encode(hmac::sign(key, &signed)))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

/// The bytes of a secret: those of its base64 after `whsec_`, else its own. `None`: it is too short.
pub(crate) fn key_bytes(secret: &str) -> Option<Vec<u8>> {
    match secret.strip_prefix(PREFIX) {
        Some(encoded) => {
            let bytes = STANDARD.decode(encoded).ok()?;
            (bytes.len() >= DECODED_BYTES_MIN).then_some(bytes)
        }
        None => (secret.len() >= SECRET_BYTES_MIN).then(|| secret.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_of_the_standards_example() {
        let keys = SigningKeys::new(&[Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]);
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(
            keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn while_secrets_change_both_sign() {
        let secrets = [
            "0123456789abcdef0123456789abcdef",
            "fedcba9876543210fedcba9876543210",
        ];
        let signed = |secrets: &[&str]| {
            let secrets: Vec<_> = secrets.iter().map(|text| Secret::new(*text)).collect();
            SigningKeys::new(&secrets).sign("msg_1", 5, b"{}")
        };
        let [one, other] = secrets;
        assert_eq!(
            signed(&secrets),
            format!("{} {}", signed(&[one]), signed(&[other]))
        );
        assert_ne!(signed(&[one]), signed(&[other]));
    }

    #[test]
    fn short_secrets_are_none() {
        for (secret, is_one) in [
            ("0123456789abcdef0123456789abcdef", true),
            ("0123456789abcdef0123456789abcde", false),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa", false),
            (
                "whsec_no base64 at all, but a text that is long enough",
                false,
            ),
            ("", false),
        ] {
            assert_eq!(key_bytes(secret).is_some(), is_one, "{secret}");
        }
    }
}
