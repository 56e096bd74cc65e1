//! The `[media]` section of the configuration: ports, shards, addresses, limits.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Where and how media is received and sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// First UDP port; shard `i` listens on `udp_port + i`. `0` lets the system choose (tests).
    pub udp_port: u16,
    /// Port of the ICE-TCP listener (RFC 6544, passive). `0` lets the system choose (tests).
    pub tcp_port: u16,
    /// Connections of `tcp_port` begin with a header of the PROXY protocol, version 2.
    pub tcp_proxy_protocol: bool,
    /// Proxies that may say whom they speak for; empty means whoever connects.
    pub tcp_proxy_from: Vec<IpNet>,
    /// Media threads, one UDP port each; `0` means one per core.
    pub shards: u16,
    /// Addresses offered to clients, in order of preference; empty means every address of this
    /// machine, loopback included.
    pub advertise: Vec<IpAddr>,
    /// Whom the service asks for this machine's public address before it starts us; with `advertise` only
    /// `Off`.
    pub discover: Discover,
    /// With `Discover::Stun`, who is asked: `host:port`.
    pub discover_stun: String,
    /// Receive slots of one kind a participant may have: audio, 1 to 64.
    pub audio_slots_max: u16,
    /// Receive slots of one kind a participant may have: video, 1 to 128.
    pub video_slots_max: u16,
    /// Tracks one participant may publish at a time, 1 to 128.
    pub tracks_max: u16,
    /// Participants of one room on one shard before the room is continued on another one; 0: any number.
    pub room_participants_per_shard: u32,
    /// Kernel buffer of each media socket and direction, in bytes.
    pub socket_buffer_bytes: usize,
}

/// Who knows the public address of a machine behind a NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discover {
    /// Nobody is asked.
    Off,
    /// A STUN server.
    Stun,
    /// The metadata service of AWS, Google Cloud or Azure.
    Cloud,
}

impl Config {
    /// How many media threads there will be.
    pub fn shard_count(&self) -> u16 {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        match self.shards {
            0 => u16::try_from(cores).unwrap_or(SHARDS_MAX).min(SHARDS_MAX),
            shards => shards,
        }
    }
}

/// A ufrag names its shard with two hex digits; the number after the last shard's is the annex's.
pub(crate) const SHARDS_MAX: u16 = 255;

impl Default for Config {
    fn default() -> Self {
        Self {
            udp_port: 7800,
            tcp_port: 7800,
            tcp_proxy_protocol: false,
            tcp_proxy_from: Vec::new(),
            shards: 0,
            advertise: Vec::new(),
            discover: Discover::Off,
            discover_stun: String::new(),
            audio_slots_max: 16,
            video_slots_max: 48,
            tracks_max: 32,
            room_participants_per_shard: 200,
            socket_buffer_bytes: 4 << 20,
        }
    }
}
