//! Tokens: a JWT, verified strictly, becomes [`Grants`]; the same claims are minted by the command line.
//!
//! HS256 with LiveKit's claim set, so that its server SDKs mint tokens for us; ours stand under
//! `plenum`. The algorithm is fixed, never taken from the token; of its header only `kid` counts.

mod keys;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::Auth;
use crate::message::{GrantsView, Source};

pub use keys::Keys;

/// The claims of a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// API key id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Identity; absent in guest tokens only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The token is over at this second since 1970.
    pub exp: u64,
    /// The token counts from this second on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Free text others see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// Named values others see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<BTreeMap<String, String>>,
    /// What is allowed.
    #[serde(default)]
    pub video: VideoGrant,
    /// Settings of the room, should this join open it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_config: Option<RoomClaim>,
    /// Our additions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plenum: Option<PlenumClaim>,
}

/// LiveKit's `video` object, field for field; unset `can_publish`, `can_subscribe` and
/// `can_publish_data` mean allowed, all else unset means refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VideoGrant {
    /// The room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// May join it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_join: Option<bool>,
    /// May publish tracks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can_publish: Option<bool>,
    /// May publish these sources only; empty means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can_publish_sources: Option<Vec<Source>>,
    /// May receive tracks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can_subscribe: Option<bool>,
    /// May send messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can_publish_data: Option<bool>,
    /// May change its own name, metadata and attributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can_update_own_metadata: Option<bool>,
    /// Is not shown to others; publishes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<bool>,
    /// May moderate `room`, or every room when that is unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_admin: Option<bool>,
    /// May open and delete rooms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_create: Option<bool>,
    /// May list rooms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_list: Option<bool>,
}

/// Settings of a room that a join opens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RoomClaim {
    /// Participants; 0 means the server's limit.
    pub max_participants: u32,
    /// Seconds a room nobody joined stays; 0 means the server's.
    pub empty_timeout: u32,
    /// Seconds a room stays after the last left; 0 means the server's.
    pub departure_timeout: u32,
    /// Free text.
    pub metadata: String,
}

/// Our additions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlenumClaim {
    /// Whoever joins without `sub` gets a fresh identity, and picks its name.
    #[serde(skip_serializing_if = "is_false")]
    pub guest: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

/// What a verified token allows.
#[derive(Clone, Debug, PartialEq)]
pub struct Grants {
    /// The API key that signed it.
    pub key: String,
    /// The token's identity; `None` for a guest, who gets one at the join.
    pub identity: Option<String>,
    /// Display name; may be empty.
    pub name: String,
    /// Free text.
    pub metadata: String,
    /// Named values.
    pub attributes: BTreeMap<String, String>,
    /// The room it is about.
    pub room: Option<String>,
    /// May join `room`.
    pub room_join: bool,
    /// May moderate `room`, or every room when that is unset.
    pub room_admin: bool,
    /// May open and delete rooms.
    pub room_create: bool,
    /// May list rooms.
    pub room_list: bool,
    /// Is not shown to others.
    pub hidden: bool,
    /// May pick its own name.
    pub guest: bool,
    /// May change its own name, metadata and attributes.
    pub update_own_metadata: bool,
    /// What it may do with media.
    pub media: sfu::MediaGrants,
    /// Settings of a room that its join opens.
    pub room_config: RoomClaim,
    /// The token is over at this second since 1970.
    pub expires_at_s: u64,
}

impl Grants {
    /// True when this token lets its holder moderate that room.
    pub fn may_moderate(&self, room: &str) -> bool {
        self.room_admin && self.room.as_deref().is_none_or(|own| own == room)
    }

    /// True when this token lets its holder join that room.
    pub fn may_join(&self, room: &str) -> bool {
        self.room_join && self.room.as_deref() == Some(room)
    }

    /// The claims of a token that allows the same until `expires_at_s`.
    ///
    /// A guest's has no identity and name either: its next join gets a fresh one and says the other.
    pub fn claims(&self, identity: &str, expires_at_s: u64) -> Claims {
        let video = VideoGrant {
            room: self.room.clone(),
            room_join: Some(self.room_join),
            can_publish: Some(self.media.publish),
            can_publish_sources: Some(self.view().can_publish_sources),
            can_subscribe: Some(self.media.subscribe),
            can_publish_data: Some(self.media.publish_data),
            can_update_own_metadata: Some(self.update_own_metadata),
            hidden: Some(self.hidden),
            room_admin: Some(self.room_admin),
            room_create: Some(self.room_create),
            room_list: Some(self.room_list),
        };
        let is_nameless = self.guest && self.identity.is_none();
        Claims {
            sub: (!is_nameless).then(|| identity.to_owned()),
            exp: expires_at_s,
            name: (!is_nameless).then(|| self.name.clone()),
            metadata: Some(self.metadata.clone()),
            attributes: Some(self.attributes.clone()),
            video,
            room_config: Some(self.room_config.clone()),
            plenum: self.guest.then_some(PlenumClaim { guest: true }),
            ..Claims::default()
        }
    }

    /// Takes over what another token of the same participant allows; what others see of it stays.
    /// True: its own view of its grants is another than before.
    pub fn follow(&mut self, other: &Self) -> bool {
        let before = self.view();
        self.key.clone_from(&other.key);
        self.room_admin = other.room_admin;
        self.room_create = other.room_create;
        self.room_list = other.room_list;
        self.update_own_metadata = other.update_own_metadata;
        self.media = other.media.clone();
        // Whoever was seen cannot vanish, and the other way round.
        self.media.publish &= !self.hidden;
        self.room_config.clone_from(&other.room_config);
        self.expires_at_s = other.expires_at_s;
        self.view() != before
    }

    /// As the client is told.
    pub fn view(&self) -> GrantsView {
        GrantsView {
            can_publish: self.media.publish,
            can_publish_sources: self
                .media
                .publish_sources
                .iter()
                .map(|s| (*s).into())
                .collect(),
            can_subscribe: self.media.subscribe,
            can_publish_data: self.media.publish_data,
            can_update_own_metadata: self.update_own_metadata,
            room_admin: self.room_admin,
        }
    }
}

/// Why a token is refused. What goes over the wire is only [`VerifyError::code`] and one constant
/// text for it; the rest is for `plenum token verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Not three parts of base64url, too long, or its header is no header.
    #[error("this is no JWT")]
    Malformed,
    /// `alg` is not HS256, or the header demands an extension (`crit`).
    #[error("the token's algorithm is not HS256, or its header asks for an extension")]
    Algorithm,
    /// `iss` (or `kid`) names no key of this server.
    #[error("no API key of this server goes by the name in iss")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the signature does not match the key")]
    Signature,
    /// A claim is missing or of the wrong type.
    #[error("a claim is missing or of the wrong type (exp must be there, times must be integers)")]
    Claims,
    /// `exp` is past.
    #[error("the token is over")]
    Expired,
    /// `nbf` is to come.
    #[error("the token does not count yet")]
    NotYet,
    /// It would be good for too long.
    #[error("the token is good for more than 24 h from now")]
    LifetimeTooLong,
    /// Joining is allowed, but there is no `sub`, and it is no guest token either.
    #[error("the token names no identity (sub), and is no guest token")]
    NoIdentity,
    /// The identity or the room's name has characters it cannot have.
    #[error("identity and room are 1 to 128 of A-Z a-z 0-9 . _ ~ : @ -")]
    BadName,
    /// Name, metadata or attributes are too long.
    #[error("name (256 bytes), metadata (64 KiB) or attributes (64 KiB) are too long")]
    TooLong,
}

impl VerifyError {
    /// What the other side is told.
    pub fn code(self) -> crate::message::ErrorCode {
        match self {
            Self::Expired => crate::message::ErrorCode::TokenExpired,
            _ => crate::message::ErrorCode::Unauthorized,
        }
    }
}

/// Clocks may differ by this much, in seconds.
const LEEWAY_S: u64 = 30;
/// No token is good for longer, in seconds.
pub const LIFETIME_MAX_S: u64 = 24 * 3600;
/// Metadata and attributes may be 64 KiB each; base64 and the rest add to it.
const TOKEN_BYTES_MAX: usize = 192 << 10;
/// Display names, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// Metadata, and attributes in all, in bytes.
pub const METADATA_BYTES_MAX: usize = 64 << 10;

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

/// Verifies a token. `now_s` is the wall clock in seconds since 1970.
///
/// # Errors
/// Why it is refused; claims are looked at only after the signature was found good.
pub fn verify(keys: &Auth, token: &str, now_s: u64) -> Result<Grants, VerifyError> {
    let header = parse_header(token)?;
    if header.alg != "HS256" || header.crit.is_some() {
        return Err(VerifyError::Algorithm);
    }
    let issuer = peek_issuer(token)?;
    let key = header
        .kid
        .as_ref()
        .or(issuer.as_ref())
        .ok_or(VerifyError::UnknownKey)?;
    if issuer.as_ref() != Some(key) {
        return Err(VerifyError::UnknownKey);
    }
    let secret = keys.keys.get(key).ok_or(VerifyError::UnknownKey)?;
    let claims = decode(token, secret.expose().as_bytes())?;
    check_times(&claims, now_s)?;
    into_grants(key.clone(), claims)
}

fn parse_header(token: &str) -> Result<Header, VerifyError> {
    if token.len() > TOKEN_BYTES_MAX || token.split('.').count() != 3 {
        return Err(VerifyError::Malformed);
    }
    let part = token.split('.').next().unwrap_or_default();
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| VerifyError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| VerifyError::Malformed)
}

/// The issuer before it is known to be true: it only chooses the key to check with.
fn peek_issuer(token: &str) -> Result<Option<String>, VerifyError> {
    #[derive(Deserialize)]
    struct Issuer {
        #[serde(default)]
        iss: Option<String>,
    }
    let part = token.split('.').nth(1).unwrap_or_default();
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| VerifyError::Malformed)?;
    serde_json::from_slice(&bytes)
        .map(|Issuer { iss }| iss)
        .map_err(|_| VerifyError::Malformed)
}

/// Checks the signature, and only then the types of the claims.
fn decode(token: &str, secret: &[u8]) -> Result<Claims, VerifyError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(VerifyError::Malformed)?;
    let key = DecodingKey::from_secret(secret);
    let algorithm = Algorithm::HS256;
    match jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key, algorithm) {
        Ok(true) => {}
        Ok(false) | Err(_) => return Err(VerifyError::Signature),
    }
    let part = token.split('.').nth(1).unwrap_or_default();
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| VerifyError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| VerifyError::Claims)
}

fn check_times(claims: &Claims, now_s: u64) -> Result<(), VerifyError> {
    if claims.exp.saturating_add(LEEWAY_S) < now_s {
        return Err(VerifyError::Expired);
    }
    if claims
        .nbf
        .is_some_and(|nbf| nbf > now_s.saturating_add(LEEWAY_S))
    {
        return Err(VerifyError::NotYet);
    }
    if claims.exp > now_s.saturating_add(LIFETIME_MAX_S + LEEWAY_S) {
        return Err(VerifyError::LifetimeTooLong);
    }
    Ok(())
}

fn into_grants(key: String, claims: Claims) -> Result<Grants, VerifyError> {
    let video = claims.video;
    let guest = claims.plenum.is_some_and(|plenum| plenum.guest);
    let identity = claims.sub.filter(|sub| !sub.is_empty());
    // Tokens for the room API alone need no identity; LiveKit's server SDKs put none in.
    if identity.is_none() && !guest && video.room_join == Some(true) {
        return Err(VerifyError::NoIdentity);
    }
    if [&identity, &video.room]
        .into_iter()
        .flatten()
        .any(|name| !is_name(name))
    {
        return Err(VerifyError::BadName);
    }
    let (name, metadata) = (
        claims.name.unwrap_or_default(),
        claims.metadata.unwrap_or_default(),
    );
    let attributes = claims.attributes.unwrap_or_default();
    let room_config = claims.room_config.unwrap_or_default();
    let too_long = name.len() > NAME_BYTES_MAX
        || metadata.len().max(room_config.metadata.len()) > METADATA_BYTES_MAX
        || attributes_bytes(&attributes) > METADATA_BYTES_MAX;
    if too_long {
        return Err(VerifyError::TooLong);
    }
    let hidden = video.hidden.unwrap_or(false);
    let sources = video.can_publish_sources.unwrap_or_default();
    Ok(Grants {
        key,
        identity,
        name,
        metadata,
        attributes,
        room: video.room,
        room_join: video.room_join.unwrap_or(false),
        room_admin: video.room_admin.unwrap_or(false),
        room_create: video.room_create.unwrap_or(false),
        room_list: video.room_list.unwrap_or(false),
        hidden,
        guest,
        update_own_metadata: video.can_update_own_metadata.unwrap_or(false),
        media: sfu::MediaGrants {
            publish: video.can_publish.unwrap_or(true) && !hidden,
            publish_sources: sources.into_iter().map(Into::into).collect(),
            subscribe: video.can_subscribe.unwrap_or(true),
            publish_data: video.can_publish_data.unwrap_or(true),
        },
        room_config,
        expires_at_s: claims.exp,
    })
}

/// Bytes of all names and values.
pub fn attributes_bytes(attributes: &BTreeMap<String, String>) -> usize {
    attributes
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum()
}

/// True for what may name a room or an identity: 1 to 128 of `A-Z a-z 0-9 . _ ~ : @ -`.
pub fn is_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._~:@-".contains(&byte);
    (1..=128).contains(&name.len()) && name.bytes().all(valid)
}

/// Makes a token of these claims with the key `id`.
///
/// # Errors
/// The server has no key of this id, or the token would be too long to be taken.
pub fn sign(keys: &Auth, id: &str, mut claims: Claims) -> Result<String, VerifyError> {
    let secret = keys.keys.get(id).ok_or(VerifyError::UnknownKey)?;
    claims.iss = Some(id.to_owned());
    let header = jsonwebtoken::Header::new(Algorithm::HS256);
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    let token = jsonwebtoken::encode(&header, &claims, &key).map_err(|_| VerifyError::Claims)?;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(VerifyError::TooLong);
    }
    Ok(token)
}

#[cfg(test)]
mod tests;
