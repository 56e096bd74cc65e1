//! What an application is told, and how it is written down.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::room::Notice;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A room was opened.
    RoomStarted,
    /// A room has ended.
    RoomFinished,
    /// Someone came into a room.
    ParticipantJoined,
    /// Someone left a room.
    ParticipantLeft,
    /// Someone publishes a track.
    TrackPublished,
    /// Someone publishes a track no more.
    TrackUnpublished,
    /// A broadcast began.
    BroadcastStarted,
    /// Something of a broadcast is different: what is on air, whom it follows, how a target is.
    BroadcastUpdated,
    /// A broadcast has ended.
    BroadcastEnded,
    /// A recording began.
    RecordingStarted,
    /// A recording can be downloaded.
    RecordingReady,
    /// A recording failed.
    RecordingFailed,
}

impl EventKind {
    /// As it is written in `type` and in `webhooks.events`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoomStarted => "room_started",
            Self::RoomFinished => "room_finished",
            Self::ParticipantJoined => "participant_joined",
            Self::ParticipantLeft => "participant_left",
            Self::TrackPublished => "track_published",
            Self::TrackUnpublished => "track_unpublished",
            Self::BroadcastStarted => "broadcast_started",
            Self::BroadcastUpdated => "broadcast_updated",
            Self::BroadcastEnded => "broadcast_ended",
            Self::RecordingStarted => "recording_started",
            Self::RecordingReady => "recording_ready",
            Self::RecordingFailed => "recording_failed",
        }
    }
}

/// The kind of what a room tells.
pub(crate) fn kind_of(notice: &Notice) -> EventKind {
    match notice {
        Notice::Joined(_) => EventKind::ParticipantJoined,
        Notice::Left(..) => EventKind::ParticipantLeft,
        Notice::Published(..) => EventKind::TrackPublished,
        Notice::Unpublished(..) => EventKind::TrackUnpublished,
        Notice::Closed => EventKind::RoomFinished,
    }
}

/// What a room tells, with the room it is about.
pub(crate) fn data_of(notice: &Notice, room: Value) -> Value {
    match notice {
        Notice::Joined(participant) => json!({ "room": room, "participant": participant }),
        Notice::Left(participant, reason) => {
            json!({ "room": room, "participant": participant, "reason": reason })
        }
        Notice::Published(publisher, track) | Notice::Unpublished(publisher, track) => {
            let publisher = json!({ "id": publisher.id, "identity": publisher.identity });
            json!({ "room": room, "participant": publisher, "track": track })
        }
        Notice::Closed => json!({ "room": room }),
    }
}

/// The body of a request. `timestamp` is when it happened (RFC 3339).
pub(crate) fn body(kind: EventKind, timestamp: &str, data: &Value, seq: u64) -> String {
    let body = json!({
        "type": kind.as_str(),
        "timestamp": timestamp,
        "data": data,
        "seq": seq,
    });
    body.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_written_as_they_are_configured() {
        let kinds = [
            EventKind::RoomStarted,
            EventKind::RoomFinished,
            EventKind::ParticipantJoined,
            EventKind::ParticipantLeft,
            EventKind::TrackPublished,
            EventKind::TrackUnpublished,
            EventKind::BroadcastStarted,
            EventKind::BroadcastUpdated,
            EventKind::BroadcastEnded,
            EventKind::RecordingStarted,
            EventKind::RecordingReady,
            EventKind::RecordingFailed,
        ];
        for kind in kinds {
            assert_eq!(json!(kind), json!(kind.as_str()));
        }
    }
}
