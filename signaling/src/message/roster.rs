//! Who is in a room and what they publish, and how that changes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;
use utoipa::ToSchema;

use super::{Codec, Kind, Source};

/// A room as its participants see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// Its id, new each time the room is opened.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Free text of the application.
    pub metadata: String,
    /// How many are in it, oneself and those without a track included.
    pub participants: u32,
    /// Its program goes out to people who are not in it.
    #[serde(default)]
    pub broadcasting: bool,
    /// What is said and shown is recorded.
    #[serde(default)]
    pub recording: bool,
}

/// A participant as the others see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS, JsonSchema, ToSchema)]
pub struct Participant {
    /// The id of this stay.
    pub id: String,
    /// The name the application knows it by, unique in the room.
    pub identity: String,
    /// The name to show; may be empty.
    pub name: String,
    /// Free text.
    pub metadata: String,
    /// Named values.
    pub attributes: BTreeMap<String, String>,
    /// What it publishes.
    pub tracks: Vec<Track>,
}

/// A published track.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS, JsonSchema, ToSchema)]
#[ts(optional_fields)]
pub struct Track {
    /// Its id.
    pub id: String,
    /// Audio or video.
    pub kind: Kind,
    /// What it shows or plays.
    pub source: Source,
    /// The publisher's name for it.
    pub name: String,
    /// Stopped for now.
    pub muted: bool,
    /// The codec last seen; absent before the first packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<Codec>,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// Free text of the publisher's application.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[ts(as = "Option<_>", optional)]
    pub meta: String,
    /// The section it is published in; in one's own tracks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
}

/// One simulcast layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema, ToSchema)]
#[ts(optional_fields)]
pub struct Layer {
    /// Its rid; absent for a track without simulcast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    /// Packets of it arrive at present.
    pub live: bool,
    /// Picture width, 0 when unknown.
    pub width: u16,
    /// Picture height, 0 when unknown.
    pub height: u16,
    /// Bits per second over the last second.
    pub bitrate: u64,
}

/// Someone joined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS, JsonSchema)]
pub struct Joined {
    /// Who.
    #[serde(rename = "p")]
    pub participant: Participant,
}

/// Someone left, and its tracks with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
pub struct Left {
    /// Who.
    pub id: String,
    /// Why.
    pub reason: LeftReason,
}

/// Why a participant left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeftReason {
    /// It wanted to.
    Left,
    /// It joined again elsewhere.
    DuplicateIdentity,
    /// An administrator removed it.
    Removed,
    /// Its connection was lost and not resumed in time.
    ConnectionLost,
    /// The server had to end it.
    Failed,
    /// The room was ended.
    RoomClosed,
}

/// Someone changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
pub struct Updated {
    /// Who.
    pub id: String,
    /// The changed fields.
    pub patch: ParticipantPatch,
}

/// The changed fields of a participant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[ts(optional_fields)]
pub struct ParticipantPatch {
    /// The new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The new metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// All attributes as they are now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<BTreeMap<String, String>>,
}

/// A track was published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS, JsonSchema)]
pub struct PublishedTrack {
    /// Who published it.
    pub id: String,
    /// The track.
    pub track: Track,
}

/// A track ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
pub struct UnpublishedTrack {
    /// Who published it.
    pub id: String,
    /// The track.
    pub track: String,
}

/// A track changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS, JsonSchema)]
pub struct TrackChange {
    /// The track.
    pub track: String,
    /// The changed fields.
    pub patch: TrackPatch,
}

/// The changed fields of a track.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, TS, JsonSchema)]
#[ts(optional_fields)]
pub struct TrackPatch {
    /// Muted or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<bool>,
    /// The new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The new free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<String>,
    /// The codec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<Codec>,
    /// All layers as they are now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<Layer>>,
}

/// The room changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
pub struct RoomChange {
    /// The changed fields.
    pub patch: RoomPatch,
}

/// The changed fields of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS, JsonSchema)]
#[ts(optional_fields)]
pub struct RoomPatch {
    /// How many are in it now; told to those whose roster is `publishers`, at most once a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participants: Option<u32>,
    /// The new metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// Its program goes out to people who are not in it, from now on or no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broadcasting: Option<bool>,
    /// What is said and shown is recorded, from now on or no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<bool>,
}
