//! Rooms on virtual time: what every message and event of the core leads to.

mod data;
mod endings;
mod joining;
mod notices;
mod offers;
mod refusals;
mod resuming;
mod tokens;
mod tracks;

use serde_json::{Value, json};
use sfu::{
    DataChannel, Event, Kind, MediaGrants, Mid, OfferError, PauseReason, Published, Slot, Source,
    StreamState, SubscribeChange, TrackInfo, TransportState, Wants,
};

use super::*;
use crate::auth::{Grants, RoomClaim};
use crate::limits::Rate;

/// A room, what it sent to each client, and what it told the core.
struct House {
    now: Instant,
    room: Room,
    next: u64,
    commands: Vec<Command>,
    closed: Vec<(ParticipantId, CloseCode)>,
    frames: Vec<(ParticipantId, Value)>,
    answers: Vec<ParticipantId>,
    gone: Vec<ParticipantId>,
    notices: Vec<Notice>,
}

fn limits() -> SessionLimits {
    SessionLimits {
        messages: Rate {
            per_second: 50,
            burst: 200,
        },
        offers: Rate {
            per_second: 5,
            burst: 10,
        },
        data: Rate {
            per_second: 200,
            burst: 400,
        },
        resume_timeout: Duration::from_secs(30),
        told: crate::message::Limits {
            audio_slots: 16,
            video_slots: 48,
            tracks: 32,
            frame_bytes: 1,
            data_bytes: 1,
            send_bytes: 1,
        },
    }
}

fn grants() -> Grants {
    Grants {
        key: "app".to_owned(),
        identity: None,
        name: String::new(),
        metadata: String::new(),
        attributes: BTreeMap::new(),
        room: Some("r".to_owned()),
        room_join: true,
        room_admin: false,
        room_create: false,
        room_list: false,
        hidden: false,
        guest: false,
        update_own_metadata: false,
        media: MediaGrants::default(),
        room_config: RoomClaim::default(),
        expires_at_s: u64::MAX,
    }
}

fn core_offer(id: u32) -> sfu::Offer {
    sfu::Offer {
        id,
        sdp: "v=0".to_owned(),
        publish: Vec::new(),
        publish_unnamed: false,
        local_address: None,
    }
}

fn track_info(id: TrackId, source: Source) -> TrackInfo {
    TrackInfo {
        id,
        kind: Kind::Video,
        source,
        name: String::new(),
        muted: false,
        codec: None,
        layers: Vec::new(),
    }
}

fn track_id(number: u64) -> TrackId {
    TrackId::new(0, number)
}

impl House {
    #[expect(
        clippy::disallowed_methods,
        reason = "virtual time starts at some moment"
    )]
    fn new() -> Self {
        let now = Instant::now();
        let settings = Settings {
            metadata: "about".to_owned(),
            participants_max: 3,
            empty_timeout: Duration::from_secs(300),
            departure_timeout: Duration::from_secs(20),
        };
        let room = Room::new(
            now,
            RoomId::new(0, 1),
            "r".to_owned(),
            settings,
            Arc::new(limits()),
        );
        Self {
            now,
            room,
            next: 0,
            commands: Vec::new(),
            closed: Vec::new(),
            frames: Vec::new(),
            answers: Vec::new(),
            gone: Vec::new(),
            notices: Vec::new(),
        }
    }

    fn admission(&mut self, identity: &str) -> Admission {
        self.next += 1;
        Admission {
            participant: ParticipantId::new(0, self.next),
            door: Door::Native,
            identity: identity.to_owned(),
            grants: grants(),
            wants: Wants::All,
            roster: Roster::All,
            features: vec!["slots".to_owned()],
            offer: None,
            reached: None,
            ice_servers: Vec::new(),
            resume_key: format!("key-{}", self.next),
        }
    }

    fn admit(&mut self, admission: Admission) -> ParticipantId {
        let id = admission.participant;
        self.room.join(self.now, admission).unwrap();
        self.drain();
        id
    }

    fn join(&mut self, identity: &str) -> ParticipantId {
        let admission = self.admission(identity);
        self.admit(admission)
    }

    fn drain(&mut self) {
        while let Some(output) = self.room.poll_output() {
            match output {
                Output::Command(command) => self.commands.push(command),
                Output::Message { participant, text } => {
                    self.frames
                        .push((participant, serde_json::from_str(&text).unwrap()));
                }
                Output::Speakers {
                    participant,
                    levels,
                } => {
                    self.frames
                        .push((participant, json!({ "t": "speakers", "levels": *levels })));
                }
                Output::Notice(notice) => self.notices.push(notice),
                Output::Close { participant, code } => self.closed.push((participant, code)),
                Output::Answered { participant, .. } | Output::IceRestarted { participant, .. } => {
                    self.answers.push(participant);
                }
                Output::Gone { participant } => self.gone.push(participant),
            }
        }
    }

    /// What a client was sent since last asked.
    fn heard(&mut self, by: ParticipantId) -> Vec<Value> {
        self.drain();
        let (heard, rest) = self.frames.drain(..).partition(|(to, _)| *to == by);
        self.frames = rest;
        let heard: Vec<(ParticipantId, Value)> = heard;
        heard.into_iter().map(|(_, frame)| frame).collect()
    }

    fn heard_one(&mut self, by: ParticipantId) -> Value {
        let mut heard = self.heard(by);
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard.remove(0)
    }

    fn types(&mut self, by: ParticipantId) -> Vec<String> {
        self.heard(by)
            .iter()
            .map(|frame| frame["t"].as_str().unwrap().to_owned())
            .collect()
    }

    fn say(&mut self, who: ParticipantId, message: &Value) {
        self.room.handle_text(self.now, who, &message.to_string());
        self.drain();
    }

    /// Says something that is refused; the code.
    fn refused(&mut self, who: ParticipantId, message: &Value) -> String {
        self.heard(who);
        self.say(who, message);
        let error = self.heard_one(who);
        assert_eq!(error["t"], "err", "{error}");
        assert_eq!(error["id"], message["id"], "{error}");
        error["code"].as_str().unwrap().to_owned()
    }

    fn event(&mut self, event: Event) {
        self.room.handle_event(self.now, event);
        self.drain();
    }

    fn publish(&mut self, participant: ParticipantId, number: u64) -> TrackId {
        let track = track_info(track_id(number), Source::Camera);
        self.event(Event::TrackPublished {
            room: self.room.id(),
            participant,
            track,
        });
        track_id(number)
    }

    fn take_commands(&mut self) -> Vec<Command> {
        self.drain();
        std::mem::take(&mut self.commands)
    }

    fn resume(&mut self, who: ParticipantId, key: &str, n: u64, next: &str) -> Result<(), String> {
        let resume = Resume {
            session: who.to_string(),
            key: key.to_owned(),
            n,
        };
        let outcome = self.room.resume(&resume, next.to_owned());
        self.drain();
        outcome.map_err(|error| error.code.to_string())
    }
}
