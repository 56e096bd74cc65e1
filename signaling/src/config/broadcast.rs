//! `[broadcast]` and `[recording]`: rooms as live broadcasts, encoders into rooms, recordings.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Secret, Span, rule};

/// `[broadcast]`: live broadcasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Broadcast {
    /// Address and port encoders publish to with RTMP; empty: no such listener.
    pub rtmp_addr: String,
    /// The same over TLS (RTMPS), with the certificate of `[http]`; empty: no such listener.
    pub rtmps_addr: String,
    /// An encoder whose connection is lost keeps its place in the room this long; one that says it is done does not.
    pub publish_grace: Span,
    /// Who may fetch `/live/…`.
    pub playback: Playback,
    /// Sessions that one user may watch at a time where playback needs a token.
    pub sessions_per_user: u32,
    /// Broadcasts of this server at a time.
    pub broadcasts_max: u32,
    /// A broadcast ends when nobody has published for this long.
    pub empty_timeout: Span,
    /// Encodings of a publisher that HLS carries as rungs at most, 1 to 8.
    pub rungs_max: u32,
    /// What pictures HLS may carry: `h264` plays everywhere, `vp9` and `av1` in browsers.
    pub codecs: Vec<crate::message::Codec>,
    /// What HLS has its sound in.
    pub audio: Audio,
    /// Low-Latency HLS: parts, blocking reload, preload hints.
    pub low_latency: bool,
    /// Length of a segment, 1s to 10s; publishers are asked for keyframes as often.
    pub segment: Span,
    /// Length of a part, 100ms to 1s.
    pub part: Span,
    /// Viewers can go back this far; 0s: the last segments only.
    pub dvr: Span,
    /// Memory for the segments of one rung, in MiB; the oldest go when it is full.
    pub memory_mb: u32,
    /// HLS stops when nobody has watched for this long, until somebody does; 0s: never.
    pub idle_timeout: Span,
    /// Segments are encrypted (AES-128), with a new key after so many; 0: they are not.
    pub key_rotation: u32,
}

/// Who may fetch `/live/…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Playback {
    /// Anyone, once a broadcast was started.
    Public,
    /// Whoever has a token.
    Token,
}

/// What HLS has its sound in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audio {
    /// AAC if this build has it, else Opus.
    Auto,
    /// AAC.
    Aac,
    /// Opus.
    Opus,
}

/// `[recording]`: recordings of programs and tracks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recording {
    /// Folder to record into; empty: nothing can be recorded.
    pub dir: String,
    /// Recordings stop before there is less space than this on its disk, in MiB.
    pub min_free_mb: u32,
    /// A recording ends after this time.
    pub max_duration: Span,
    /// Recordings at a time.
    pub recordings_max: u32,
    /// Bucket of an S3-compatible store where finished recordings go; empty: they stay in `dir`.
    pub s3_bucket: String,
    /// The store's URL; empty: Amazon's.
    pub s3_endpoint: String,
    /// The store's region.
    pub s3_region: String,
    /// Who we are there.
    pub s3_access_key_id: String,
    /// And its secret.
    pub s3_secret_access_key: Secret,
    /// What the names of objects begin with.
    pub s3_prefix: String,
}

impl Default for Broadcast {
    fn default() -> Self {
        Self {
            rtmp_addr: RTMP_ADDR.to_owned(),
            rtmps_addr: String::new(),
            publish_grace: Span::from_secs(10),
            playback: Playback::Public,
            sessions_per_user: 3,
            broadcasts_max: 100,
            empty_timeout: Span::from_secs(300),
            rungs_max: 3,
            codecs: vec![crate::message::Codec::H264],
            audio: Audio::Auto,
            low_latency: true,
            segment: Span::from_secs(2),
            part: Span::from_millis(200),
            dvr: Span::from_secs(0),
            memory_mb: 64,
            idle_timeout: Span::from_secs(0),
            key_rotation: 0,
        }
    }
}

impl Default for Recording {
    fn default() -> Self {
        Self {
            dir: String::new(),
            min_free_mb: 512,
            max_duration: Span::from_secs(12 * 3600),
            recordings_max: 50,
            s3_bucket: String::new(),
            s3_endpoint: String::new(),
            s3_region: "us-east-1".to_owned(),
            s3_access_key_id: String::new(),
            s3_secret_access_key: Secret::default(),
            s3_prefix: String::new(),
        }
    }
}

/// Where encoders publish to, unless it is said.
pub const RTMP_ADDR: &str = "127.0.0.1:1935";

impl Broadcast {
    /// Where encoders publish to; `None`: nowhere.
    pub fn rtmp(&self) -> Option<SocketAddr> {
        self.rtmp_addr.parse().ok()
    }

    /// Where encoders publish to over TLS; `None`: nowhere.
    pub fn rtmps(&self) -> Option<SocketAddr> {
        self.rtmps_addr.parse().ok()
    }

    /// Checks what is more than a value's type.
    pub(super) fn check(&self, is_https: bool) -> Result<(), ConfigError> {
        let addresses = [
            ("broadcast.rtmp_addr", &self.rtmp_addr),
            ("broadcast.rtmps_addr", &self.rtmps_addr),
        ];
        for (key, address) in addresses {
            if !address.is_empty() && address.parse::<SocketAddr>().is_err() {
                return Err(rule(key, "not an address and port, such as 0.0.0.0:1935"));
            }
        }
        if !self.rtmps_addr.is_empty() && !is_https {
            let reason = "needs a certificate: set http.tls_cert or http.acme_domains";
            return Err(rule("broadcast.rtmps_addr", reason));
        }
        let within = |span: Span, from_ms, to_s| {
            (Span::from_millis(from_ms)..=Span::from_secs(to_s)).contains(&span)
        };
        let rules = [
            (
                within(self.segment, 1_000, 10),
                "segment",
                "must be 1s to 10s",
            ),
            (within(self.part, 100, 1), "part", "must be 100ms to 1s"),
            (within(self.dvr, 0, 6 * 3600), "dvr", "must be 0s to 6h"),
            (
                (1..=8).contains(&self.rungs_max),
                "rungs_max",
                "must be 1 to 8",
            ),
            (self.memory_mb >= 8, "memory_mb", "must be at least 8"),
            (!self.codecs.is_empty(), "codecs", "must name a codec"),
        ];
        match rules.iter().find(|(holds, ..)| !holds) {
            Some((_, key, reason)) => Err(rule(format!("broadcast.{key}"), reason)),
            None => Ok(()),
        }
    }
}

impl Recording {
    /// Checks what is more than a value's type.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.max_duration < Span::from_secs(1) {
            return Err(rule("recording.max_duration", "must be at least 1s"));
        }
        if self.s3_bucket.is_empty() {
            return Ok(());
        }
        let needed = [
            (
                "recording.dir",
                self.dir.is_empty(),
                "what is recorded is kept here first",
            ),
            (
                "recording.s3_region",
                self.s3_region.is_empty(),
                "a store has a region",
            ),
        ];
        match needed.iter().find(|(_, is_missing, _)| *is_missing) {
            Some((key, _, reason)) => Err(rule(*key, reason)),
            None => Ok(()),
        }
    }
}
