//! What a client sends.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Codec, ErrorCode, Source};

/// Any message of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum ClientMessage {
    /// The first frame; answered by `welcome` or `err`.
    Hello(Box<Hello>),
    /// Publishes, adds slots, or restarts ICE; answered by `answer` or `err`.
    Offer(OfferMessage),
    /// A candidate of the client; optional, the server learns them from its checks. Not answered.
    Trickle(Trickle),
    /// Ends a track of one's own; answered by `ok`.
    Unpublish(Unpublish),
    /// Mutes, unmutes or describes a track of one's own; answered by `ok`.
    Track(TrackMessage),
    /// Chooses which tracks to receive; answered by `ok`, then `slots`.
    Subscribe(SubscribeMessage),
    /// Says how tracks are shown; not answered, the last one wins.
    View(ViewMessage),
    /// Changes one's own name, metadata or attributes; answered by `ok`.
    #[serde(rename = "self")]
    SelfChange(SelfChange),
    /// Sends a message to participants; answered by `ok` when it carries an id.
    Send(Send),
    /// Asks for `pong`.
    Ping(Ping),
    /// Ends the session; answered by `bye`.
    Leave(Leave),
}

impl ClientMessage {
    /// Reads one frame, in two steps so that an unknown type is told from a malformed message.
    ///
    /// # Errors
    /// `bad_message` with the reason and, where it could be read, the request's id; `unknown_type`.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let envelope: Envelope = serde_json::from_str(text).map_err(|error| {
            ParseError::new(
                None,
                ErrorCode::BadMessage,
                format!("not a message: {error}"),
            )
        })?;
        if !TYPES.contains(&&*envelope.t) {
            let message = "there is no message of this type".to_owned();
            return Err(ParseError::new(
                envelope.id,
                ErrorCode::UnknownType,
                message,
            ));
        }
        serde_json::from_str(text).map_err(|error| {
            let message = format!("malformed {}: {error}", envelope.t);
            ParseError::new(envelope.id, ErrorCode::BadMessage, message)
        })
    }

    /// The request's id, where the type has one.
    pub fn id(&self) -> Option<u32> {
        match self {
            Self::Offer(message) => Some(message.id),
            Self::Unpublish(message) => Some(message.id),
            Self::Track(message) => Some(message.id),
            Self::Subscribe(message) => Some(message.id),
            Self::SelfChange(message) => Some(message.id),
            Self::Send(message) => message.id,
            Self::Hello(_) | Self::Trickle(_) | Self::View(_) | Self::Ping(_) | Self::Leave(_) => {
                None
            }
        }
    }
}

const TYPES: [&str; 11] = [
    "hello",
    "offer",
    "trickle",
    "unpublish",
    "track",
    "subscribe",
    "view",
    "self",
    "send",
    "ping",
    "leave",
];

#[derive(Deserialize)]
struct Envelope {
    t: String,
    #[serde(default, deserialize_with = "lenient_id")]
    id: Option<u32>,
}

/// An id that is no u32 must not hide which message it was; the second step names the fault.
fn lenient_id<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Option<u32>, D::Error> {
    let value = serde_json::Value::deserialize(source)?;
    Ok(value.as_u64().and_then(|id| u32::try_from(id).ok()))
}

/// Why a frame is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// The id of the request, where it could be read.
    pub id: Option<u32>,
    /// `bad_message` or `unknown_type`.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

impl ParseError {
    fn new(id: Option<u32>, code: ErrorCode, message: String) -> Self {
        Self { id, code, message }
    }
}

/// The first frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct Hello {
    /// The protocol versions the client speaks; the server takes the highest it knows.
    pub v: Vec<u32>,
    /// The token; may be left out where an `Authorization: Bearer` header carried it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What the client is, for the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdk: Option<Sdk>,
    /// The optional parts the client knows: `slots`, `sdpz`.
    #[serde(default)]
    #[ts(as = "Option<_>", optional)]
    pub features: Vec<String>,
    /// The display name typed before joining; counts for guests, and for whom the token lets change
    /// its own metadata. At most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Continues an earlier session instead of starting a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
    /// The first offer, so that media starts after one round trip; answered in `welcome.answer`, or by
    /// an `err` with its id right after `welcome`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<OfferMessage>,
    /// Receive every track of the others without asking; true when absent.
    #[serde(default = "yes")]
    #[ts(as = "Option<_>", optional)]
    pub auto_subscribe: bool,
    /// Whom `participants`, `joined` and `left` tell about.
    #[serde(default)]
    #[ts(as = "Option<_>", optional)]
    pub roster: Roster,
}

fn yes() -> bool {
    true
}

/// What the client is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[ts(optional_fields)]
pub struct Sdk {
    /// `plenum-js`, for one.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Browser and system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

/// Whom the roster lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Roster {
    /// Everyone.
    #[default]
    All,
    /// Only participants with a track.
    Publishers,
}

/// Continues a session after its socket was lost, within 30 s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
pub struct Resume {
    /// `welcome.session`.
    pub session: String,
    /// `welcome.resumeKey`; good for one resume, which brings the next.
    pub key: String,
    /// The number of the last event seen.
    pub n: u64,
}

/// An SDP offer and what its sections publish.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct OfferMessage {
    /// The offer's id, higher than that of every offer before; the answer echoes it.
    pub id: u32,
    /// The SDP. Either this or `sdpz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdp: Option<String>,
    /// The SDP as base64 of its raw deflate form (RFC 1951); at most 1 MiB when inflated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdpz: Option<String>,
    /// One entry for each section that publishes a track.
    #[serde(default)]
    #[ts(as = "Option<_>", optional)]
    pub publish: Vec<PublishEntry>,
    /// The offer carries new ICE credentials on purpose; for the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ice_restart: Option<bool>,
}

/// One section of an offer as the track it publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublishEntry {
    /// The section; 1 to 16 visible ASCII characters.
    pub mid: String,
    /// What the track shows or plays.
    pub source: Source,
    /// The track's name; at most 256 bytes.
    #[serde(default)]
    #[ts(as = "Option<_>", optional)]
    pub name: String,
    /// Starts muted.
    #[serde(default)]
    #[ts(as = "Option<_>", optional)]
    pub muted: bool,
    /// Width of the largest layer, 0 when unknown.
    #[serde(default)]
    #[ts(as = "Option<_>", optional)]
    pub width: u16,
    /// Height of the largest layer, 0 when unknown.
    #[serde(default)]
    #[ts(as = "Option<_>", optional)]
    pub height: u16,
    /// The codec to answer first, where the room prefers no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub codec: Option<Codec>,
    /// Sound in two channels: the answer says so, no SDP has to be edited.
    #[serde(default, skip_serializing_if = "is_false")]
    #[ts(as = "Option<_>", optional)]
    pub stereo: bool,
    /// Next to nothing is sent in silence: the answer says so (Opus' `usedtx`).
    #[serde(default, skip_serializing_if = "is_false")]
    #[ts(as = "Option<_>", optional)]
    pub dtx: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

/// A candidate of the client, or null for the end of candidates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
pub struct Trickle {
    /// As `RTCIceCandidate.toJSON()` has it.
    pub candidate: Option<TrickleCandidate>,
}

/// The parts of `RTCIceCandidateInit` that are looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct TrickleCandidate {
    /// The candidate line.
    pub candidate: String,
    /// Its section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdp_mid: Option<String>,
}

/// Ends a track of one's own; its section becomes inactive in the next offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
pub struct Unpublish {
    /// Request id.
    pub id: u32,
    /// The track.
    pub track: String,
}

/// Changes a track of one's own. Which layers it has is seen in its packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[ts(optional_fields)]
pub struct TrackMessage {
    /// Request id.
    pub id: u32,
    /// The track.
    pub track: String,
    /// Stops or resumes it for everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<bool>,
    /// Renames it; at most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Free text for the others' applications; at most 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<String>,
}

/// Chooses which tracks to receive: exactly one of `all` and `set`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[ts(optional_fields)]
pub struct SubscribeMessage {
    /// Request id.
    pub id: u32,
    /// Every track, present and future, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// Track id to wanted or not; at most 512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<BTreeMap<String, bool>>,
}

/// How tracks are shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
pub struct ViewMessage {
    /// Track id to view; at most 512.
    pub set: BTreeMap<String, ViewEntry>,
}

/// How one track is shown. Replaces the track's earlier view as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(default)]
#[ts(optional_fields)]
pub struct ViewEntry {
    /// Pixels on screen; 0 means no limit.
    #[ts(as = "Option<_>", optional)]
    pub w: u16,
    /// Pixels on screen; 0 means no limit.
    #[ts(as = "Option<_>", optional)]
    pub h: u16,
    /// Frames a second that are enough; 0 means no limit.
    #[ts(as = "Option<_>", optional)]
    pub fps: u8,
    /// 1 to 255, higher is served first; 0 means the default of the track's source.
    #[ts(as = "Option<_>", optional)]
    pub priority: u8,
    /// Not shown: nothing of it is sent.
    #[ts(as = "Option<_>", optional)]
    pub paused: bool,
    /// At most this layer, by index from the lowest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<u8>,
    /// At most this temporal layer, by index from the lowest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temporal: Option<u8>,
}

/// Changes what others see of oneself; guests may change their name, all else needs the grant
/// `canUpdateOwnMetadata`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[ts(optional_fields)]
pub struct SelfChange {
    /// Request id.
    pub id: u32,
    /// Display name; at most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Free text; at most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// Merged into one's attributes, an empty value removes one; 64 KiB in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<BTreeMap<String, String>>,
}

/// A message to participants, for clients without a data channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[ts(optional_fields)]
pub struct Send {
    /// Request id; without one there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Receivers, by identity; everyone else in the room when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<String>>,
    /// What it is about; at most 128 bytes.
    #[serde(default)]
    #[ts(as = "Option<_>", optional)]
    pub topic: String,
    /// The payload as text, at most 16 KiB. Either this or `data64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The payload as base64 of at most 16 KiB of bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data64: Option<String>,
}

/// Asks for `pong`, to measure the round trip.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS, JsonSchema)]
#[ts(optional_fields)]
pub struct Ping {
    /// The client's time, echoed.
    pub ts: f64,
    /// The round trip last measured, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt: Option<f64>,
}

/// Ends the session at once; it cannot be resumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
pub struct Leave {}
