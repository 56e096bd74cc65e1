//! What a participant knows of its room, kept up to date from the server's messages.

use std::collections::BTreeMap;

use serde_json::Value;

/// Messages of a type this client does not look into are kept, up to this many.
const OTHERS_MAX: usize = 200;

/// Another participant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Member {
    /// Its identity.
    pub identity: String,
    /// Its display name.
    pub name: String,
}

/// A track somebody published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Track {
    /// The id of who published it.
    pub participant: String,
    /// `audio` or `video`.
    pub kind: String,
    /// `camera`, `microphone`, `screen_share`.
    pub source: String,
    /// The publisher muted it.
    pub muted: bool,
    /// The codec, once known.
    pub codec: Option<String>,
    /// How many layers are live.
    pub live_layers: usize,
}

/// A message of another participant that came over signaling.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// Who sent it.
    pub from: String,
    /// About what.
    pub topic: String,
    /// The text.
    pub data: String,
}

/// What a participant knows of its room.
#[derive(Clone, Debug, Default)]
pub struct Room {
    /// The session's id, its participant id in the room.
    pub session: String,
    /// The key that resumes the session.
    pub resume_key: String,
    /// The number of the last event seen.
    pub n: u64,
    /// Events that did not count up by one.
    pub number_gaps: u64,
    /// The last welcome said the session goes on.
    pub resumed: bool,
    /// The last welcome said events were lost.
    pub resync: bool,
    /// Others by id.
    pub members: BTreeMap<String, Member>,
    /// Everybody's tracks by id.
    pub tracks: BTreeMap<String, Track>,
    /// What each receive slot carries, by mid.
    pub slots: BTreeMap<String, Option<String>>,
    /// State, layer and reason of each subscribed track, as last said.
    pub streams: BTreeMap<String, (String, Option<u64>, Option<String>)>,
    /// How loud each participant is, by id, 0 to 1.
    pub speakers: BTreeMap<String, f64>,
    /// The slots the server asked for, audio and video.
    pub needed: Option<(u64, u64)>,
    /// Messages that came over signaling.
    pub notes: Vec<Note>,
    /// The code of a `bye`; empty when it had none.
    pub bye: Option<String>,
    /// The socket is closed, with the code when there was one.
    pub closed: Option<Option<u16>>,
    /// Requests of the server to restart ICE.
    pub ice_restarts_asked: u64,
    /// Messages of other types.
    pub others: Vec<Value>,
}

impl Room {
    /// The id of a participant.
    pub fn member(&self, identity: &str) -> Option<&String> {
        self.members
            .iter()
            .find(|(_, member)| member.identity == identity)
            .map(|(id, _)| id)
    }

    /// The id and state of a track, by its publisher's identity and its source.
    pub fn track(&self, identity: &str, source: &str) -> Option<(&String, &Track)> {
        let publisher = self.member(identity)?;
        self.tracks
            .iter()
            .find(|(_, track)| track.participant == *publisher && track.source == source)
    }

    /// The slot that carries a track.
    pub fn slot_of(&self, track: &str) -> Option<&String> {
        let found = self
            .slots
            .iter()
            .find(|(_, carried)| carried.as_deref() == Some(track));
        found.map(|(mid, _)| mid)
    }

    /// Takes a server message in.
    pub fn apply(&mut self, message: &Value) {
        if let Some(n) = message["n"].as_u64().filter(|_| message["t"] != "welcome") {
            self.number_gaps += u64::from(n != self.n + 1);
            self.n = n;
        }
        match text(&message["t"]).as_str() {
            "welcome" => self.welcome(message),
            "answer" => self.set_slots(&message["slots"]),
            "slots" => self.set_slots(&message["set"]),
            "need" => {
                let number = |key: &str| message[key].as_u64().unwrap_or_default();
                self.needed = Some((number("audio"), number("video")));
            }
            "joined" => self.add_member(&message["p"]),
            "left" => {
                let id = text(&message["id"]);
                self.members.remove(&id);
                self.tracks.retain(|_, track| track.participant != id);
            }
            "published" => self.add_track(&text(&message["id"]), &message["track"]),
            "unpublished" => {
                self.tracks.remove(&text(&message["track"]));
            }
            "track" => {
                if let Some(track) = self.tracks.get_mut(&text(&message["track"])) {
                    track.patch(&message["patch"]);
                }
            }
            "stream" => {
                let state = (
                    text(&message["state"]),
                    message["layer"].as_u64(),
                    message["reason"].as_str().map(str::to_owned),
                );
                self.streams.insert(text(&message["track"]), state);
            }
            "speakers" => {
                for (id, level) in message["levels"].as_object().into_iter().flatten() {
                    self.speakers
                        .insert(id.clone(), level.as_f64().unwrap_or_default());
                }
            }
            "data" => self.notes.push(Note {
                from: text(&message["from"]),
                topic: text(&message["topic"]),
                data: text(&message["data"]),
            }),
            "bye" => self.bye = Some(text(&message["code"])),
            "restart_ice" => self.ice_restarts_asked += 1,
            "ok" | "pong" => {}
            _ if self.others.len() < OTHERS_MAX => self.others.push(message.clone()),
            _ => {}
        }
    }

    fn welcome(&mut self, message: &Value) {
        self.session = text(&message["session"]);
        self.resume_key = text(&message["resumeKey"]);
        self.resumed = message["resumed"].as_bool().unwrap_or_default();
        self.resync = message["resync"].as_bool().unwrap_or_default();
        if !self.resumed || self.resync {
            self.members.clear();
            self.tracks.clear();
            for member in message["participants"].as_array().into_iter().flatten() {
                self.add_member(member);
            }
            self.n = message["n"].as_u64().unwrap_or_default();
        }
        self.set_slots(&message["slots"]);
        self.set_slots(&message["answer"]["slots"]);
    }

    fn add_member(&mut self, member: &Value) {
        let id = text(&member["id"]);
        let known = Member {
            identity: text(&member["identity"]),
            name: text(&member["name"]),
        };
        self.members.insert(id.clone(), known);
        for track in member["tracks"].as_array().into_iter().flatten() {
            self.add_track(&id, track);
        }
    }

    fn add_track(&mut self, participant: &str, track: &Value) {
        let mut known = Track {
            participant: participant.to_owned(),
            kind: text(&track["kind"]),
            source: text(&track["source"]),
            ..Track::default()
        };
        known.patch(track);
        self.tracks.insert(text(&track["id"]), known);
    }

    fn set_slots(&mut self, set: &Value) {
        for (mid, content) in set.as_object().into_iter().flatten() {
            let track = content["track"].as_str().map(str::to_owned);
            self.slots.insert(mid.clone(), track);
        }
    }
}

impl Track {
    fn patch(&mut self, patch: &Value) {
        if let Some(muted) = patch["muted"].as_bool() {
            self.muted = muted;
        }
        if let Some(codec) = patch["codec"].as_str() {
            self.codec = Some(codec.to_owned());
        }
        if let Some(layers) = patch["layers"].as_array() {
            self.live_layers = layers.iter().filter(|layer| layer["live"] == true).count();
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_room_follows_its_events() {
        let mut room = Room::default();
        let track = json!({ "id": "t_1", "kind": "video", "source": "camera", "muted": false,
            "layers": [{ "live": true }] });
        let bob = json!({ "id": "p_2", "identity": "bob", "name": "Bob", "tracks": [track] });
        room.apply(
            &json!({ "t": "welcome", "session": "p_1", "resumeKey": "k", "n": 4,
            "participants": [bob], "slots": {}, "answer": { "slots": { "3": null } } }),
        );
        assert_eq!(
            room.track("bob", "camera").map(|(id, _)| id.as_str()),
            Some("t_1")
        );
        room.apply(&json!({ "t": "slots", "n": 5, "set": { "3": { "track": "t_1" } } }));
        assert_eq!(room.slot_of("t_1").map(String::as_str), Some("3"));
        room.apply(&json!({ "t": "track", "n": 6, "track": "t_1", "patch": { "muted": true } }));
        assert!(room.tracks["t_1"].muted);
        room.apply(&json!({ "t": "left", "n": 8, "id": "p_2", "reason": "left" }));
        assert!(room.tracks.is_empty());
        assert_eq!((room.n, room.number_gaps), (8, 1));
    }
}
