//! What the server sends.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;
use utoipa::ToSchema;

use super::{
    Codec, ErrorCode, Joined, Left, Participant, PublishedTrack, Room, RoomChange, Source,
    TrackChange, UnpublishedTrack, Updated,
};

/// Any message of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(untagged)]
pub enum ServerMessage {
    /// A numbered event.
    Event {
        /// Its number, one more than that of the event before.
        n: u64,
        /// The event.
        #[serde(flatten)]
        event: ServerEvent,
    },
    /// A reply, or a notice that is not repeated after a resume.
    Reply(ServerReply),
}

/// What happened, numbered and repeated after a resume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum ServerEvent {
    /// More slots are needed: offer this many in all.
    Need(Need),
    /// Slots carry other tracks from now on.
    Slots(Slots),
    /// Someone joined.
    Joined(Joined),
    /// Someone left.
    Left(Left),
    /// Someone's name, metadata or attributes changed.
    Updated(Updated),
    /// Someone published a track, possibly oneself.
    Published(PublishedTrack),
    /// A track ended.
    Unpublished(UnpublishedTrack),
    /// A track changed.
    Track(TrackChange),
    /// What one receives of a track changed.
    Stream(StreamChange),
    /// One's own track should be sent in another codec: some cannot decode the present one. Offer
    /// again; the answer puts that codec first. Told once for a track.
    Codec(CodecWish),
    /// The room changed.
    Room(RoomChange),
    /// A message for a participant without a data channel.
    Data(DataMessage),
    /// What one may do changed.
    Grants(GrantsView),
    /// Offer with new ICE credentials, please.
    RestartIce(RestartIce),
}

/// Answers to requests, and notices of which only the latest counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum ServerReply {
    /// Answers `hello`.
    Welcome(Box<Welcome>),
    /// Answers `offer`.
    Answer(Answer),
    /// A request was carried out.
    Ok(Done),
    /// A request was refused, or the session cannot go on.
    Err(ErrorReply),
    /// Answers `ping`.
    Pong(Pong),
    /// Who speaks; at most 5 a second.
    Speakers(Speakers),
    /// A fresh token with the same grants, for the next resume or join; sent before the one in use
    /// ends, which cuts no session.
    Token(Token),
    /// Fresh TURN credentials.
    IceServers(IceServers),
    /// The server asks to reconnect or to go.
    Goaway(GoAway),
    /// The session is over.
    Bye(Bye),
}

/// Answers `hello`.
///
/// In a resumed session without `resync` the lists are empty and the missed events follow; otherwise
/// this is a snapshot that replaces everything the client knew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct Welcome {
    /// The chosen version.
    pub v: u32,
    /// The session, for `hello.resume`.
    pub session: String,
    /// The key for the next resume; a new one comes with each `welcome`.
    pub resume_key: String,
    /// An earlier session goes on.
    pub resumed: bool,
    /// An earlier session goes on but too many events were missed: this is a fresh snapshot.
    pub resync: bool,
    /// What of `hello.features` the server has too.
    pub features: Vec<String>,
    /// The room.
    pub room: Room,
    /// Oneself.
    #[serde(rename = "self")]
    pub myself: Participant,
    /// What one may do.
    pub grants: GrantsView,
    /// The others.
    pub participants: Vec<Participant>,
    /// What each slot carries, by mid.
    pub slots: BTreeMap<String, Option<SlotContent>>,
    /// TURN servers for `RTCPeerConnection`; may be empty.
    pub ice_servers: Vec<IceServer>,
    /// Limits of this server.
    pub limits: Limits,
    /// How often to ping.
    pub ping: PingTimes,
    /// Answers `hello.offer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// The number of the last event before this message.
    pub n: u64,
}

/// What a slot carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[ts(optional_fields)]
pub struct SlotContent {
    /// The track.
    pub track: String,
    /// Frames with an RTP timestamp before this one (serial number arithmetic) are still of the
    /// slot's earlier track; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts: Option<u32>,
}

/// An entry for `RTCConfiguration.iceServers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IceServer {
    /// STUN and TURN addresses.
    pub urls: Vec<String>,
    /// TURN user name.
    pub username: String,
    /// TURN password.
    pub credential: String,
    /// When the credentials end, in ms since 1970.
    pub expires_at: u64,
}

/// Limits a client should keep to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Audio slots in all.
    pub audio_slots: u16,
    /// Video slots in all.
    pub video_slots: u16,
    /// Tracks published at a time.
    pub tracks: u16,
    /// Bytes of one frame.
    pub frame_bytes: u32,
    /// Bytes of one data channel message, its header included.
    pub data_bytes: u32,
    /// Bytes of the payload of `send`.
    pub send_bytes: u32,
}

/// How often to ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PingTimes {
    /// Ping this often.
    pub interval_ms: u32,
    /// Without `pong` for this long the socket is dead.
    pub timeout_ms: u32,
}

/// Answers an offer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS, JsonSchema)]
pub struct Answer {
    /// The offer's id.
    pub id: u32,
    /// The SDP, with all of the server's candidates.
    pub sdp: String,
    /// What became of each entry of `offer.publish`.
    pub published: Vec<PublishedEntry>,
    /// What every slot carries now, by mid.
    pub slots: BTreeMap<String, Option<SlotContent>>,
}

/// What became of one section that wanted to publish: a track or an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[ts(optional_fields)]
pub struct PublishedEntry {
    /// The section.
    pub mid: String,
    /// The track it became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track: Option<String>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorCode>,
}

/// More slots are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
pub struct Need {
    /// Audio slots in all.
    pub audio: u16,
    /// Video slots in all.
    pub video: u16,
}

/// Slots carry other tracks from now on; only the changed ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
pub struct Slots {
    /// Mid to content.
    pub set: BTreeMap<String, Option<SlotContent>>,
}

/// What one receives of a track changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[ts(optional_fields)]
pub struct StreamChange {
    /// The track.
    pub track: String,
    /// Whether anything of it comes.
    pub state: StreamState,
    /// The layer that comes, by index from the lowest; when active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u8>,
    /// Why nothing comes; when paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<StreamReason>,
}

/// Whether anything of a track comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamState {
    /// It comes.
    Active,
    /// Nothing comes.
    Paused,
}

/// Why nothing of a track comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamReason {
    /// The path does not carry it.
    Bandwidth,
    /// The publisher muted it.
    Muted,
    /// No codec in common with the publisher.
    Codec,
    /// One's own view has it paused.
    View,
}

/// One's own track should be sent in another codec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
pub struct CodecWish {
    /// The track.
    pub track: String,
    /// The codec, one of those its section was offered with.
    pub codec: Codec,
}

/// A message of a participant that did not come over a data channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[ts(optional_fields)]
pub struct DataMessage {
    /// The sender's identity.
    pub from: String,
    /// What it is about.
    pub topic: String,
    /// The payload, where it is UTF-8. Either this or `data64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The payload as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data64: Option<String>,
}

/// What one may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantsView {
    /// Publish tracks.
    pub can_publish: bool,
    /// Of these sources only; empty means all.
    pub can_publish_sources: Vec<Source>,
    /// Receive tracks.
    pub can_subscribe: bool,
    /// Send messages.
    pub can_publish_data: bool,
    /// Change one's own metadata and attributes.
    pub can_update_own_metadata: bool,
    /// Moderate the room through the room API.
    pub room_admin: bool,
}

/// Offer with new ICE credentials, please.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
pub struct RestartIce {
    /// Why, for people.
    pub reason: String,
}

/// A request was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
pub struct Done {
    /// The request.
    pub id: u32,
}

/// A request was refused, or the session cannot go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct ErrorReply {
    /// The request; absent when the error is not about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// What is wrong; stable.
    pub code: ErrorCode,
    /// The same for people.
    pub message: String,
    /// Try again after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The versions the server speaks; with `unsupported_version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supported: Option<Vec<u32>>,
}

/// Answers `ping`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS, JsonSchema)]
pub struct Pong {
    /// The client's time, echoed.
    pub ts: f64,
}

/// Who speaks; only what changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS, JsonSchema)]
pub struct Speakers {
    /// Participant id to level, 0 (silent now) to 1.
    pub levels: BTreeMap<String, f32>,
}

/// A fresh token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
pub struct Token {
    /// The token.
    pub token: String,
}

/// Fresh TURN credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IceServers {
    /// The servers.
    pub ice_servers: Vec<IceServer>,
}

/// The server asks to reconnect or to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct GoAway {
    /// What to do.
    pub action: GoAwayAction,
    /// When.
    pub after_ms: u64,
    /// Where to go instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Why, for people.
    pub reason: String,
}

/// What to do on `goaway`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GoAwayAction {
    /// Open a new socket and resume.
    Resume,
    /// Join anew.
    Rejoin,
    /// Do not come back.
    Stop,
}

/// The session is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[ts(optional_fields)]
pub struct Bye {
    /// Why; absent after `leave`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
}
