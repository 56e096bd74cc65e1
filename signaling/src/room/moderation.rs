//! What the room API asks of a room, and its end.

use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sfu::{Command, ParticipantId, TrackId};

use super::{Notice, Output, Outside, Room};
use crate::message::{
    CloseCode, ErrorCode, GoAway, GoAwayAction, LeftReason, Participant, RoomChange, RoomPatch,
    ServerEvent, ServerReply, TrackPatch,
};

/// A room as the room API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoomState {
    /// Its id, new each time the room is opened.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Free text for the application.
    pub metadata: String,
    /// Participants it may have at a time.
    pub max_participants: usize,
    /// Participants in it now.
    pub participants: usize,
    /// Of them, those with a track.
    pub publishers: usize,
}

impl Room {
    /// The room as the room API shows it.
    pub fn state(&self) -> RoomState {
        RoomState {
            id: self.id.to_string(),
            name: self.name.clone(),
            metadata: self.settings.metadata.clone(),
            max_participants: self.settings.participants_max,
            participants: self.sessions.len(),
            publishers: self
                .sessions
                .values()
                .filter(|one| !one.tracks.is_empty())
                .count(),
        }
    }

    /// Whether a track has pictures; `None` when there is no such track.
    pub fn has_pictures(&self, track: TrackId) -> Option<bool> {
        let publisher = self.publishers.get(&track)?;
        let track = self.sessions.get(publisher)?.tracks.get(&track)?;
        Some(track.kind == crate::message::Kind::Video)
    }

    /// Everyone in the room, hidden ones included.
    pub fn participants(&self) -> Vec<Participant> {
        self.sessions
            .values()
            .map(super::Session::participant)
            .collect()
    }

    /// One participant.
    pub fn participant(&self, identity: &str) -> Option<Participant> {
        let id = self.identities.get(identity)?;
        self.sessions.get(id).map(super::Session::participant)
    }

    /// Removes a participant; false when there is none of this identity.
    pub fn remove(&mut self, now: Instant, identity: &str) -> bool {
        let Some(id) = self.identities.get(identity).copied() else {
            return false;
        };
        self.dismiss(now, id, ErrorCode::Removed);
        true
    }

    /// Mutes or unmutes a participant's track; false when there is no such track.
    pub fn mute(&mut self, identity: &str, track: TrackId, muted: bool) -> bool {
        let Some(participant) = self.identities.get(identity).copied() else {
            return false;
        };
        if self.publishers.get(&track) != Some(&participant) {
            return false;
        }
        self.command(Command::Mute {
            participant,
            track,
            muted,
        });
        let patch = TrackPatch {
            muted: Some(muted),
            ..TrackPatch::default()
        };
        self.patch_track(participant, track, patch, None);
        true
    }

    /// Replaces the settings; everyone is told of new metadata.
    pub fn set_settings(&mut self, settings: super::Settings) {
        if settings.metadata != self.settings.metadata {
            let patch = RoomPatch {
                metadata: Some(settings.metadata.clone()),
                ..RoomPatch::default()
            };
            self.tell_all(&ServerEvent::Room(RoomChange { patch }), None);
        }
        self.settings = settings;
    }

    /// Says who else gets the room's media: everyone is told what changed. Meanwhile an empty room stays.
    pub fn set_outside(&mut self, now: Instant, outside: Outside) {
        let before = std::mem::replace(&mut self.outside, outside);
        let changed = |before: bool, is: bool| (before != is).then_some(is);
        let patch = RoomPatch {
            broadcasting: changed(before.broadcasting, outside.broadcasting),
            recording: changed(before.recording, outside.recording),
            ..RoomPatch::default()
        };
        if patch != RoomPatch::default() {
            self.tell_all(&ServerEvent::Room(RoomChange { patch }), None);
        }
        if self.sessions.is_empty() && !outside.keeps_room() && before.keeps_room() {
            self.ends_at = Some(now + self.settings.departure_timeout);
        }
    }

    /// Ends everyone's stay and the room.
    pub fn close(&mut self, now: Instant) {
        for participant in self.all() {
            self.dismiss(now, participant, ErrorCode::RoomClosed);
        }
        self.command(Command::CloseRoom { room: self.id });
        self.notice(Notice::Closed);
    }

    /// Asks everyone to go; `spread_ms` gives each its time.
    pub fn announce_shutdown(&mut self, mut spread_ms: impl FnMut() -> u64) {
        for participant in self.all() {
            let goaway = GoAway {
                action: GoAwayAction::Rejoin,
                after_ms: spread_ms(),
                url: None,
                reason: "the server is going down".to_owned(),
            };
            self.reply(participant, ServerReply::Goaway(goaway));
        }
    }

    /// Says goodbye to everyone as the server ends.
    pub fn shut_down(&mut self, now: Instant) {
        for participant in self.all() {
            let bye = crate::message::Bye {
                code: Some(ErrorCode::ServerShutdown),
            };
            self.reply(participant, ServerReply::Bye(bye));
            self.outputs.push_back(Output::Close {
                participant,
                code: CloseCode::Shutdown,
            });
            self.leave(now, participant, LeftReason::RoomClosed);
        }
    }

    fn all(&self) -> Vec<ParticipantId> {
        self.sessions.keys().copied().collect()
    }
}
