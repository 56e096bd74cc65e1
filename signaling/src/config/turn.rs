//! `[turn]`: the embedded TURN server.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Network, Secret};

/// `[turn]`: the embedded TURN server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Turn {
    /// First UDP port; media thread `i` has `port + i`. 0 lets the system choose (tests).
    pub port: u16,
    /// Whom allocations may reach.
    pub mode: TurnMode,
    /// What other applications make credentials with in mode `relay`; empty: only this server makes them.
    pub shared_secret: Secret,
    /// Ports of relayed addresses in mode `relay`.
    pub relay_ports: Ports,
    /// Peers allowed in mode `relay` although their address is special or our own.
    pub allow_peers: Vec<Network>,
}

/// Whom TURN allocations may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnMode {
    /// There is no TURN server.
    Off,
    /// This server's media only.
    Sfu,
    /// This server's media for its participants, public addresses for whoever has a credential made with
    /// the shared secret.
    Relay,
}

/// Ports from one to another, written `49160-49999`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ports(RangeInclusive<u16>);

/// A text that names no ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not two ports, such as 49160-49999")]
pub struct PortsError;

impl Ports {
    /// The first and the last.
    pub fn range(&self) -> RangeInclusive<u16> {
        self.0.clone()
    }
}

impl FromStr for Ports {
    type Err = PortsError;

    fn from_str(text: &str) -> Result<Self, PortsError> {
        let (first, last) = text.split_once('-').ok_or(PortsError)?;
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let ports = port(first)
            .zip(port(last))
            .filter(|(first, last)| first <= last);
        ports
            .map(|(first, last)| Self(first..=last))
            .ok_or(PortsError)
    }
}

impl TryFrom<String> for Ports {
    type Error = PortsError;

    fn try_from(text: String) -> Result<Self, PortsError> {
        text.parse()
    }
}

impl From<Ports> for String {
    fn from(ports: Ports) -> Self {
        ports.to_string()
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            port: PORT_DEFAULT,
            mode: TurnMode::Sfu,
            shared_secret: Secret::new(""),
            relay_ports: Ports(49_160..=49_999),
            allow_peers: Vec::new(),
        }
    }
}

impl Turn {
    /// Whether credentials made with the shared secret are taken.
    pub fn is_relay(&self) -> bool {
        self.mode == TurnMode::Relay
    }
}

/// The port of STUN and TURN (RFC 8656 §18).
pub const PORT_DEFAULT: u16 = 3478;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_they_are_read() {
        let ports: Ports = "49160-49999".parse().unwrap();
        assert_eq!(
            (ports.range(), ports.to_string()),
            (49_160..=49_999, "49160-49999".to_owned())
        );
        for text in ["", "1", "2-1", "0-5", "1-65536", "a-b", "1-2-3", "-1-5"] {
            assert_eq!(text.parse::<Ports>(), Err(PortsError), "{text}");
        }
    }
}
