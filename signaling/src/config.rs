//! The configuration of the whole server: TOML file, then environment, then flags.

mod broadcast;
mod http;
mod media;
mod network;
mod span;
mod tree;
mod turn;
mod webhooks;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use broadcast::{Audio, Broadcast, Playback, RTMP_ADDR, Recording};
pub use http::Http;
pub use network::{Network, NetworkError};
pub use span::Span;
pub use turn::{PORT_DEFAULT as TURN_PORT_DEFAULT, Ports, PortsError, Turn, TurnMode};
pub use webhooks::Webhooks;

/// Every option. `deploy/plenum.toml` lists them all with their defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[http]`
    pub http: Http,
    /// `[media]`
    pub media: sfu::Config,
    /// `[auth]`
    pub auth: Auth,
    /// `[turn]`
    pub turn: Turn,
    /// `[rooms]`
    pub rooms: Rooms,
    /// `[broadcast]`
    pub broadcast: Broadcast,
    /// `[recording]`
    pub recording: Recording,
    /// `[webhooks]`
    pub webhooks: Webhooks,
    /// `[cluster]`
    pub cluster: Cluster,
    /// `[log]`
    pub log: Log,
    /// `[limits]`
    pub limits: Limits,
}

/// `[auth]`: who may mint tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// API key id to secret of 32 bytes or more.
    pub keys: BTreeMap<String, Secret>,
}

/// A secret that cannot be printed by accident.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// `[rooms]`: how rooms come and go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rooms {
    /// A join with a valid token opens the room.
    pub auto_create: bool,
    /// A room nobody has joined yet ends after this time.
    pub empty_timeout: Span,
    /// A room ends this long after the last participant left.
    pub departure_timeout: Span,
    /// Participants of one room, 1 to 100000.
    pub participants_max: u32,
    /// Rooms of this server.
    pub rooms_max: u32,
    /// Video codecs in the order rooms prefer (`vp8`, `h264`, `vp9`, `av1`); empty: the browser's.
    pub codecs: Vec<crate::message::Codec>,
    /// A participant whose WebSocket was lost stays this long, 5s to 2m.
    pub resume_timeout: Span,
}

/// `[cluster]`: nothing to set yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {}

/// `[log]`: what is written to standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, or a filter such as `info,signaling=debug`.
    pub level: String,
}

/// `[limits]`: what callers may do in which time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Signaling messages of one session a second; more end the session.
    pub messages_per_second: u32,
    /// Signaling messages of one session at once.
    pub messages_burst: u32,
    /// Offers of one session a second; more are refused.
    pub offers_per_second: u32,
    /// Offers of one session at once.
    pub offers_burst: u32,
    /// Data channel messages of one session a second; more are dropped.
    pub data_per_second: u32,
    /// Data channel messages of one session at once.
    pub data_burst: u32,
    /// Joins with a valid token a second, by API key.
    pub joins_per_second: u32,
    /// Joins with a valid token at once, by API key.
    pub joins_burst: u32,
    /// Failed or token-less attempts a second, by IP address.
    pub failures_per_second: u32,
    /// Failed or token-less attempts at once, by IP address.
    pub failures_burst: u32,
    /// WebSockets that have not said hello, by IP address.
    pub pending_sockets: u32,
    /// TURN allocations of one participant at a time.
    pub turn_participant_allocations: u32,
    /// TURN allocations of one credential made elsewhere at a time.
    pub turn_credential_allocations: u32,
    /// TURN allocations of all credentials made elsewhere at a time.
    pub turn_node_allocations: u32,
    /// What one of these allocations may carry, both directions together, in kbit/s.
    pub turn_allocation_kbps: u32,
    /// What all of them may carry, in kbit/s; 0: any amount.
    pub turn_node_kbps: u32,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            auto_create: true,
            empty_timeout: Span::from_secs(300),
            departure_timeout: Span::from_secs(20),
            participants_max: 5_000,
            rooms_max: 10_000,
            codecs: Vec::new(),
            resume_timeout: Span::from_secs(30),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages_per_second: 50,
            messages_burst: 200,
            offers_per_second: 5,
            offers_burst: 10,
            data_per_second: 200,
            data_burst: 400,
            joins_per_second: 200,
            joins_burst: 1_000,
            failures_per_second: 10,
            failures_burst: 50,
            pending_sockets: 64,
            turn_participant_allocations: 12,
            turn_credential_allocations: 32,
            turn_node_allocations: 2_000,
            turn_allocation_kbps: 8_000,
            turn_node_kbps: 0,
        }
    }
}

/// Secrets are at least this long.
pub const SECRET_BYTES_MIN: usize = 32;

/// What is wrong with a configuration.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path} is no TOML: {reason}")]
    Syntax {
        /// The file.
        path: String,
        /// Where and why.
        reason: String,
    },
    /// There is no such option.
    #[error("{key} (in {origin}): there is no such option")]
    UnknownKey {
        /// The option's path.
        key: String,
        /// File or environment variable.
        origin: String,
    },
    /// An option has a value it cannot have.
    #[error("{key} (in {origin}): {reason}")]
    BadValue {
        /// The option's path.
        key: String,
        /// File or environment variable.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A rule that involves the value or several of them.
    #[error("{key}: {reason}")]
    Rule {
        /// The option's path.
        key: String,
        /// The rule.
        reason: String,
    },
}

impl Config {
    /// Reads the file, if any, then the environment (`PLENUM_<SECTION>__<KEY>`).
    ///
    /// # Errors
    /// The first option that is unknown or has a value it cannot have, with its path.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut tree = tree::Tree::with_defaults();
        if let Some(path) = file {
            let origin = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
                path: origin.clone(),
                source,
            })?;
            tree.overlay_file(&text, &origin)?;
        }
        for (name, value) in environment {
            tree.overlay_variable(&name, &value)?;
        }
        let config = tree.into_config()?;
        config.check()?;
        Ok(config)
    }

    /// Reads a configuration from TOML text.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let mut tree = tree::Tree::with_defaults();
        tree.overlay_file(text, "text")?;
        let config = tree.into_config()?;
        config.check()?;
        Ok(config)
    }

    /// Checks what involves more than one value's type.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (id, secret) in &self.auth.keys {
            if !is_key_id(id) {
                let reason = "a key id is 1 to 64 letters, digits, '_' and '-'";
                return Err(rule(format!("auth.keys.{id:?}"), reason));
            }
            if secret.expose().len() < SECRET_BYTES_MIN {
                let reason =
                    "a secret is at least 32 bytes long; make one with: openssl rand -hex 32";
                return Err(rule(format!("auth.keys.{id}"), reason));
            }
        }
        self.http.check()?;
        self.broadcast.check(self.http.is_https())?;
        self.recording.check()?;
        self.webhooks.check()?;
        if !(1..=100_000).contains(&self.rooms.participants_max) {
            return Err(rule("rooms.participants_max", "must be 1 to 100000"));
        }
        if !(Span::from_secs(5)..=Span::from_secs(120)).contains(&self.rooms.resume_timeout) {
            return Err(rule("rooms.resume_timeout", "must be 5s to 2m"));
        }
        media::check(&self.media)?;
        self.check_turn()?;
        self.check_limits()
    }

    /// Chromium takes every datagram from the address of a TURN server for TURN, media too.
    fn check_turn(&self) -> Result<(), ConfigError> {
        let media = &self.media;
        let is_chosen = self.turn.port != 0 && media.udp_port != 0;
        if is_chosen && self.turn.port.abs_diff(media.udp_port) <= media.shard_count() {
            let reason =
                "the UDP ports of TURN and media must not meet; both count up, one for each shard";
            return Err(rule("turn.port", reason));
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        let all = [
            ("messages_per_second", limits.messages_per_second),
            ("messages_burst", limits.messages_burst),
            ("offers_per_second", limits.offers_per_second),
            ("offers_burst", limits.offers_burst),
            ("data_per_second", limits.data_per_second),
            ("data_burst", limits.data_burst),
            ("joins_per_second", limits.joins_per_second),
            ("joins_burst", limits.joins_burst),
            ("failures_per_second", limits.failures_per_second),
            ("failures_burst", limits.failures_burst),
            ("pending_sockets", limits.pending_sockets),
            ("turn_allocation_kbps", limits.turn_allocation_kbps),
        ];
        match all.iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(rule(format!("limits.{key}"), "must be at least 1")),
            None => Ok(()),
        }
    }

    /// The base of join links, without a slash at the end. `bound` is the address listened on.
    pub fn public_url(&self, bound: SocketAddr) -> String {
        if !self.http.public_url.is_empty() {
            return self.http.public_url.trim_end_matches('/').to_owned();
        }
        if let Some(domain) = self.http.acme_domains.first() {
            return match bound.port() {
                443 => format!("https://{domain}"),
                port => format!("https://{domain}:{port}"),
            };
        }
        let scheme = if self.http.is_https() {
            "https"
        } else {
            "http"
        };
        let mut addr = bound;
        if addr.ip().is_unspecified() {
            addr.set_ip(
                self.media
                    .advertise
                    .first()
                    .copied()
                    .unwrap_or(IpAddr::from([127, 0, 0, 1])),
            );
        }
        format!("{scheme}://{addr}")
    }

    /// The whole configuration as TOML, secrets left out.
    pub fn to_toml(&self) -> String {
        let mut shown = self.clone();
        for secret in shown.auth.keys.values_mut() {
            *secret = Secret::new("[secret]");
        }
        let others = [
            &mut shown.turn.shared_secret,
            &mut shown.recording.s3_secret_access_key,
        ];
        let others = others.into_iter().chain(&mut shown.webhooks.secrets);
        for secret in others.filter(|one| !one.expose().is_empty()) {
            *secret = Secret::new("[secret]");
        }
        toml::to_string(&shown).unwrap_or_default()
    }
}

/// True for what may name an API key: 1 to 64 letters, digits, `_` and `-`.
pub fn is_key_id(id: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=64).contains(&id.len()) && id.bytes().all(valid)
}

fn rule(key: impl Into<String>, reason: &str) -> ConfigError {
    ConfigError::Rule {
        key: key.into(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;
