//! The native protocol `plenum.v1`: every message of both directions. This module is the spec.
//!
//! A WebSocket on `GET /v1/signal` with subprotocol `plenum.v1` carries text frames, one JSON object
//! each. The first frame is [`Hello`] with the token and, as a rule, the first SDP offer; the answer
//! is [`Welcome`] or [`ErrorReply`], after which the server closes the socket; only `resume_unknown`
//! leaves it open for another `hello`. From then on:
//!
//! - Every object has `t`, its type. A [`ClientMessage`] that changes state carries `id`, chosen by
//!   the client and increasing; it is answered exactly once, by [`Done`] (`ok`) or [`ErrorReply`]
//!   (`err`) with that id; an `offer` by [`Answer`] or `err`.
//! - A [`ServerEvent`] carries `n`, counting up by one for each session; [`Resume`] names the last one
//!   seen. A [`ServerReply`] has no number and is not repeated after a resume.
//! - Both sides ignore fields they do not know. A client ignores events it does not know; a client
//!   type the server does not know is answered by `err` with code `unknown_type`.
//! - Only the client offers, with one offer outstanding at a time. What it publishes stands in the
//!   offer, bound by mid. What it receives comes in *slots*: `recvonly` sections that the server points
//!   at tracks and announces as [`Slots`] before the first packet, without a new offer.
//! - The token is checked when joining and resuming; its end cuts no session. [`Token`] brings a fresh
//!   one in time, which the client uses from then on.
//! - Nobody has to decode every codec: what cannot be shown is paused with reason `codec`, and the
//!   publisher is asked by [`CodecWish`] to offer again, for VP8.
//! - Fields are camelCase, enum values snake_case, times in milliseconds; ids are opaque strings.
//!
//! The data channels `reliable` and `lossy` carry messages of their own: a `u16` length in network
//! order, that many bytes of JSON ([`DataHeader`]), then the payload; 64 KiB in all.

mod client;
mod error;
pub mod generated;
mod roster;
mod server;

pub use client::{
    ClientMessage, Hello, Leave, OfferMessage, ParseError, Ping, PublishEntry, Resume, Roster, Sdk,
    SelfChange, Send, SubscribeMessage, TrackMessage, Trickle, TrickleCandidate, Unpublish,
    ViewEntry, ViewMessage,
};
pub use error::{CloseCode, ErrorCode};
pub use roster::{
    Joined, Layer, Left, LeftReason, Participant, ParticipantPatch, PublishedTrack, Room,
    RoomChange, RoomPatch, Track, TrackChange, TrackPatch, UnpublishedTrack, Updated,
};
pub use server::{
    Answer, Bye, CodecWish, DataMessage, Done, ErrorReply, GoAway, GoAwayAction, GrantsView,
    IceServer, IceServers, Limits, Need, PingTimes, Pong, PublishedEntry, RestartIce, ServerEvent,
    ServerMessage, ServerReply, SlotContent, Slots, Speakers, StreamChange, StreamReason,
    StreamState, Token, Welcome,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;
use utoipa::ToSchema;

/// The one protocol version there is.
pub const VERSION: u32 = 1;
/// The WebSocket subprotocol of that version.
pub const SUBPROTOCOL: &str = "plenum.v1";
/// The optional parts this server has; `welcome.features` is what of them the client named too.
pub const FEATURES: [&str; 2] = ["slots", "sdpz"];

/// The largest frame a client may send, in bytes.
pub const FRAME_BYTES_MAX: u32 = 256 << 10;

/// Audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

/// What a track shows or plays.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, TS, JsonSchema, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A camera.
    Camera,
    /// A microphone.
    Microphone,
    /// A shared screen, window or tab.
    ScreenShare,
    /// The sound of what is shared.
    ScreenShareAudio,
}

/// The codecs that are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// RFC 6716.
    Opus,
    /// RFC 6386.
    Vp8,
    /// H.264 / AVC.
    H264,
    /// VP9.
    Vp9,
    /// AV1.
    Av1,
}

/// The JSON part at the head of a data channel message.
///
/// A client names receivers in `to` (identities; everyone else in the room when absent), the server
/// puts the sender's identity in `from`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[ts(optional_fields)]
pub struct DataHeader {
    /// Receivers, by identity; from the client only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<String>>,
    /// The sender's identity; from the server only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What the message is about, for the application to choose; at most 128 bytes.
    #[serde(default)]
    #[ts(as = "Option<_>", optional)]
    pub topic: String,
}

impl From<sfu::Kind> for Kind {
    fn from(kind: sfu::Kind) -> Self {
        match kind {
            sfu::Kind::Audio => Self::Audio,
            sfu::Kind::Video => Self::Video,
        }
    }
}

impl From<Source> for sfu::Source {
    fn from(source: Source) -> Self {
        match source {
            Source::Camera => Self::Camera,
            Source::Microphone => Self::Microphone,
            Source::ScreenShare => Self::ScreenShare,
            Source::ScreenShareAudio => Self::ScreenShareAudio,
        }
    }
}

impl From<sfu::Source> for Source {
    fn from(source: sfu::Source) -> Self {
        match source {
            sfu::Source::Camera => Self::Camera,
            sfu::Source::Microphone => Self::Microphone,
            sfu::Source::ScreenShare => Self::ScreenShare,
            sfu::Source::ScreenShareAudio => Self::ScreenShareAudio,
        }
    }
}

impl From<sfu::Codec> for Codec {
    fn from(codec: sfu::Codec) -> Self {
        match codec {
            sfu::Codec::Opus => Self::Opus,
            sfu::Codec::Vp8 => Self::Vp8,
            sfu::Codec::H264 => Self::H264,
            sfu::Codec::Vp9 => Self::Vp9,
            sfu::Codec::Av1 => Self::Av1,
        }
    }
}

impl From<Codec> for sfu::Codec {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::Opus => Self::Opus,
            Codec::Vp8 => Self::Vp8,
            Codec::H264 => Self::H264,
            Codec::Vp9 => Self::Vp9,
            Codec::Av1 => Self::Av1,
        }
    }
}
