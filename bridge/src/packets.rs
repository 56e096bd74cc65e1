//! Packets as the bridge takes them from a room: decrypted, numbered without wrap-around.

use std::time::Instant;

use bytes::Bytes;
use sfu::annex::HeardPacket;

/// A decrypted RTP packet of one encoding of a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The sequence number, extended: it never wraps.
    pub sequence: u64,
    /// The RTP timestamp in ticks of the track's clock, extended: it never wraps.
    pub timestamp: u64,
    /// The marker bit: of video, the last packet of a picture.
    pub marker: bool,
    /// When it came.
    pub arrival: Instant,
    /// What follows the RTP header, without padding. Empty: padding only.
    pub payload: Bytes,
}

impl From<&HeardPacket> for Packet {
    fn from(heard: &HeardPacket) -> Self {
        Self {
            sequence: heard.sequence,
            timestamp: heard.timestamp,
            marker: heard.marker,
            arrival: heard.arrival,
            payload: heard.payload.clone(),
        }
    }
}
