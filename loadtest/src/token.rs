//! Access tokens for tests, minted here so that the server's own minting is not trusted with itself.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

/// An API key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its id, the `iss` of its tokens.
    pub id: String,
    /// Its secret, 32 bytes or more.
    pub secret: String,
}

impl Key {
    /// A token that lets `identity` into `room` with all unset grants allowed, for ten minutes.
    pub fn join(&self, room: &str, identity: &str) -> Result<String> {
        self.join_with(room, identity, json!({}))
    }

    /// The same with more grants, or with some refused.
    pub fn join_with(&self, room: &str, identity: &str, grants: Value) -> Result<String> {
        let mut video = json!({ "room": room, "roomJoin": true });
        if let (Some(video), Value::Object(grants)) = (video.as_object_mut(), grants) {
            video.extend(grants);
        }
        self.sign(&json!({ "sub": identity, "exp": seconds_from_now(600), "video": video }))
    }

    /// A token for the room API.
    pub fn admin(&self, room: &str) -> Result<String> {
        let video = json!({
            "room": room, "roomAdmin": true, "roomList": true, "roomCreate": true,
        });
        self.sign(&json!({ "sub": "admin", "exp": seconds_from_now(600), "video": video }))
    }

    /// Signs any claims, `iss` added when they have none.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        let mut claims = claims.clone();
        if let Some(claims) = claims.as_object_mut() {
            claims.entry("iss").or_insert_with(|| json!(self.id));
        }
        let key = EncodingKey::from_secret(self.secret.as_bytes());
        Ok(encode(&Header::default(), &claims, &key)?)
    }
}

/// Unix time in seconds, `offset` seconds from now.
pub fn seconds_from_now(offset: i64) -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    i64::try_from(now)
        .unwrap_or(i64::MAX)
        .saturating_add(offset)
}
