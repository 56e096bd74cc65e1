//! The rules of `[media]` that involve more than one value's type.

use std::net::IpAddr;

use sfu::Discover;

use super::{ConfigError, rule};

pub(super) fn check(media: &sfu::Config) -> Result<(), ConfigError> {
    if !(1..=64).contains(&media.audio_slots_max) {
        return Err(rule("media.audio_slots_max", "must be 1 to 64"));
    }
    if !(1..=128).contains(&media.video_slots_max) {
        return Err(rule("media.video_slots_max", "must be 1 to 128"));
    }
    if !(1..=128).contains(&media.tracks_max) {
        return Err(rule("media.tracks_max", "must be 1 to 128"));
    }
    if media.advertise.iter().any(IpAddr::is_unspecified) {
        return Err(rule(
            "media.advertise",
            "must be addresses that clients can reach",
        ));
    }
    check_discovery(media)
}

fn check_discovery(media: &sfu::Config) -> Result<(), ConfigError> {
    if media.discover != Discover::Off && !media.advertise.is_empty() {
        return Err(rule(
            "media.discover",
            "has no meaning with media.advertise, which says what is to be found out",
        ));
    }
    let server = &media.discover_stun;
    match media.discover {
        Discover::Stun if !is_place(server) => Err(rule(
            "media.discover_stun",
            "must be the host and port of a STUN server, such as stun.example.org:3478",
        )),
        Discover::Off | Discover::Cloud if !server.is_empty() => Err(rule(
            "media.discover_stun",
            "has no meaning without media.discover = \"stun\"",
        )),
        _ => Ok(()),
    }
}

/// `host:port`; whether the name has an address is found out at start.
fn is_place(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    !host.is_empty() && host.is_ascii() && port.parse::<u16>().is_ok_and(|port| port > 0)
}
