//! What the core tells about the room's participants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use sfu::{
    Event, LayerInfo, Mid, OfferError, ParticipantId, PauseReason, PublishError, Slot, TrackId,
    TrackInfo, TransportState,
};

use super::{Notice, Output, Resumption, Room, deliver};
use crate::message::{
    Answer, Codec, CodecWish, ErrorCode, ErrorReply, Joined, Layer, LeftReason, Need,
    PublishedEntry, PublishedTrack, RestartIce, Roster, ServerEvent, ServerReply, SlotContent,
    Slots, StreamChange, StreamReason, StreamState, Track, TrackPatch, UnpublishedTrack,
};
use crate::session::{Door, Stage, encode};

impl Room {
    /// Takes in one event of the core about this room or one of its participants.
    #[expect(clippy::too_many_lines, reason = "one arm for each event")]
    pub fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Answered {
                participant,
                offer,
                answer,
            } => {
                self.handle_answer(participant, offer, answer);
            }
            Event::IceRestarted {
                participant,
                fragment,
            } => {
                self.outputs.push_back(Output::IceRestarted {
                    participant,
                    fragment,
                });
            }
            Event::TrackPublished {
                participant, track, ..
            } => {
                self.handle_published(participant, track);
            }
            Event::TrackChanged {
                participant, track, ..
            } => {
                // Muted and name are ours to say: a change on its way must not undo a later one.
                let layers = track.layers.into_iter().map(layer).collect();
                let codec = track.codec.map(Into::into);
                let patch = TrackPatch {
                    codec,
                    layers: Some(layers),
                    ..TrackPatch::default()
                };
                self.patch_track(participant, track.id, patch, None);
            }
            Event::TrackUnpublished {
                participant, track, ..
            } => {
                self.handle_unpublished(participant, track);
            }
            Event::SlotsChanged { participant, slots } => self.handle_slots(participant, slots),
            Event::SlotsNeeded {
                participant,
                audio,
                video,
            } => {
                self.tell(participant, ServerEvent::Need(Need { audio, video }));
            }
            Event::SpeakersChanged { levels, .. } => self.handle_speakers(&levels),
            Event::StreamChanged {
                participant,
                track,
                state,
            } => {
                self.tell(participant, ServerEvent::Stream(stream(track, state)));
            }
            Event::CodecWanted {
                participant,
                track,
                codec,
            } => {
                self.handle_codec_wish(participant, track, codec.into());
            }
            Event::DataReceived {
                participant,
                channel,
                message,
            } => {
                self.handle_data(now, participant, channel, &message);
            }
            Event::DataUndelivered {
                participant,
                message,
            } => {
                self.handle_undelivered(participant, &message);
            }
            Event::TransportChanged { participant, state } => {
                self.handle_transport(now, participant, state);
            }
            Event::ParticipantEnded { participant } => self.handle_ended(now, participant),
        }
    }

    fn handle_answer(
        &mut self,
        participant: ParticipantId,
        offer: u32,
        answer: Result<sfu::Answer, OfferError>,
    ) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        let expected = session.offers.outstanding == Some(offer);
        if expected {
            session.offers.outstanding = None;
        }
        if session.door != Door::Native {
            self.outputs.push_back(Output::Answered {
                participant,
                answer,
            });
            return;
        }
        let outcome = answer.map(|answer| {
            for published in &answer.published {
                if let Ok(track) = published.track {
                    session.mids.insert(track, published.mid);
                }
            }
            session.slots = answer.slots.iter().map(slot).collect();
            wire_answer(offer, answer)
        });
        let error = outcome
            .as_ref()
            .err()
            .map(|error| offer_error(error).about(Some(offer)));
        match std::mem::replace(&mut session.stage, Stage::Welcomed) {
            Stage::Welcoming { resume_key, held } => {
                self.welcome(participant, resume_key, Resumption::New, outcome.ok());
                if let Some(error) = error {
                    self.reply(participant, ServerReply::Err(error));
                }
                for event in held {
                    self.tell(participant, event);
                }
            }
            // The client resumed meanwhile and has forgotten this offer.
            Stage::Welcomed if !expected => {}
            Stage::Welcomed => match (outcome, error) {
                (Ok(answer), _) => self.reply(participant, ServerReply::Answer(answer)),
                (Err(_), Some(error)) => self.reply(participant, ServerReply::Err(error)),
                (Err(_), None) => {}
            },
        }
    }

    fn handle_published(&mut self, publisher: ParticipantId, info: TrackInfo) {
        let id = info.id;
        let Some(session) = self.sessions.get_mut(&publisher) else {
            return;
        };
        let newly_publishing = session.tracks.is_empty();
        let track = track(info);
        let notice = Notice::Published(session.publisher(), track.clone());
        session.tracks.insert(id, track);
        self.publishers.insert(id, publisher);
        let own = session.own_track(id);
        let shown = session.participant();
        let (hidden, welcoming) = (session.grants.hidden, session.is_welcoming());
        self.notice(notice);
        // The snapshot of `welcome` has it already when that is still to come.
        if let Some(track) = own.filter(|_| !welcoming) {
            let id = publisher.to_string();
            self.tell(
                publisher,
                ServerEvent::Published(PublishedTrack { id, track }),
            );
        }
        let Some(track) = shown.tracks.iter().find(|track| track.id == id.to_string()) else {
            return;
        };
        if hidden {
            return;
        }
        let published = PublishedTrack {
            id: shown.id.clone(),
            track: track.clone(),
        };
        let published = encode(&ServerEvent::Published(published));
        let joined =
            newly_publishing.then(|| encode(&ServerEvent::Joined(Joined { participant: shown })));
        for other in self
            .sessions
            .values_mut()
            .filter(|other| other.id != publisher)
        {
            let unknown = other.roster == Roster::Publishers && other.known.insert(publisher);
            let json = joined.as_ref().filter(|_| unknown).unwrap_or(&published);
            deliver(&mut self.outputs, other, json);
        }
    }

    fn handle_codec_wish(&mut self, publisher: ParticipantId, id: TrackId, codec: Codec) {
        let Some(session) = self.sessions.get_mut(&publisher) else {
            return;
        };
        session.codec_wishes.insert(id, codec);
        let track = id.to_string();
        self.tell(publisher, ServerEvent::Codec(CodecWish { track, codec }));
    }

    /// Asks again for what was asked of a publisher: after a fresh snapshot earlier events are lost.
    pub(super) fn repeat_codec_wishes(&mut self, publisher: ParticipantId) {
        let session = self.sessions.get(&publisher);
        let wishes = session.map_or_else(BTreeMap::new, |session| session.codec_wishes.clone());
        for (track, codec) in wishes {
            self.handle_codec_wish(publisher, track, codec);
        }
    }

    fn handle_unpublished(&mut self, publisher: ParticipantId, id: TrackId) {
        self.publishers.remove(&id);
        let Some(session) = self.sessions.get_mut(&publisher) else {
            return;
        };
        session.mids.remove(&id);
        session.codec_wishes.remove(&id);
        let Some(ended) = session.tracks.remove(&id) else {
            return;
        };
        let hidden = session.grants.hidden;
        let notice = Notice::Unpublished(session.publisher(), ended);
        self.notice(notice);
        let track = UnpublishedTrack {
            id: publisher.to_string(),
            track: id.to_string(),
        };
        let event = ServerEvent::Unpublished(track);
        if hidden {
            self.tell(publisher, event);
        } else {
            self.tell_all(&event, None);
        }
    }

    fn handle_slots(&mut self, participant: ParticipantId, slots: Vec<Slot>) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        let set: BTreeMap<_, _> = slots.iter().map(slot).collect();
        session.slots.extend(set.clone());
        if !session.is_welcoming() {
            self.tell(participant, ServerEvent::Slots(Slots { set }));
        }
    }

    fn handle_speakers(&mut self, levels: &[(ParticipantId, f32)]) {
        let shown = |id: &ParticipantId| {
            self.sessions
                .get(id)
                .is_some_and(|session| !session.grants.hidden)
        };
        let levels = levels
            .iter()
            .filter(|(id, level)| shown(id) && level.is_finite());
        let levels: Arc<BTreeMap<String, f32>> =
            Arc::new(levels.map(|(id, level)| (id.to_string(), *level)).collect());
        if levels.is_empty() {
            return;
        }
        for session in self.sessions.values() {
            if session.door == Door::Native && session.is_attached() && !session.is_welcoming() {
                let (participant, levels) = (session.id, Arc::clone(&levels));
                self.outputs.push_back(Output::Speakers {
                    participant,
                    levels,
                });
            }
        }
    }

    fn handle_transport(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        state: TransportState,
    ) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        session.transport = Some(state);
        if state != TransportState::Failed {
            return;
        }
        match session.door {
            Door::Native => {
                let reason = "the media connection was lost".to_owned();
                self.tell(participant, ServerEvent::RestartIce(RestartIce { reason }));
            }
            // It has no way to be told, and its encoder starts anew by itself.
            Door::Http | Door::Encoder => self.leave(now, participant, LeftReason::ConnectionLost),
        }
    }

    /// The core ended this participant after a fault of its own: the client may join anew.
    fn handle_ended(&mut self, now: Instant, participant: ParticipantId) {
        let error = ErrorReply::new(ErrorCode::Internal, "the session ended by a fault");
        self.reply(participant, ServerReply::Err(error));
        let code = ErrorCode::Internal.into();
        self.outputs.push_back(Output::Close { participant, code });
        self.forget(now, participant, LeftReason::Failed);
    }
}

fn wire_answer(id: u32, answer: sfu::Answer) -> Answer {
    let published = answer
        .published
        .into_iter()
        .map(|published| PublishedEntry {
            mid: published.mid.to_string(),
            track: published.track.as_ref().ok().map(TrackId::to_string),
            error: published.track.err().map(|error| match error {
                PublishError::Denied => ErrorCode::PublishDenied,
                PublishError::NoSuchSection => ErrorCode::NotFound,
                PublishError::LimitExceeded => ErrorCode::LimitExceeded,
                PublishError::CodecUnsupported => ErrorCode::CodecUnsupported,
                _ => ErrorCode::Internal,
            }),
        });
    Answer {
        id,
        sdp: answer.sdp,
        published: published.collect(),
        slots: answer.slots.iter().map(slot).collect(),
    }
}

/// An error of the core as the client is told.
pub fn offer_error(error: &OfferError) -> ErrorReply {
    let code = match error {
        OfferError::BadSdp(_) => ErrorCode::BadSdp,
        OfferError::LimitExceeded(_) => ErrorCode::LimitExceeded,
        OfferError::CodecUnsupported => ErrorCode::CodecUnsupported,
        OfferError::NoSuchParticipant => ErrorCode::NotFound,
        _ => ErrorCode::Internal,
    };
    ErrorReply::new(code, error.to_string())
}

fn slot(slot: &Slot) -> (String, Option<SlotContent>) {
    let content = slot.track.map(|track| SlotContent {
        track: track.to_string(),
        ts: slot.timestamp,
    });
    (Mid::to_string(&slot.mid), content)
}

fn track(info: TrackInfo) -> Track {
    Track {
        id: info.id.to_string(),
        kind: info.kind.into(),
        source: info.source.into(),
        name: info.name,
        muted: info.muted,
        codec: info.codec.map(Into::into),
        layers: info.layers.into_iter().map(layer).collect(),
        meta: String::new(),
        mid: None,
    }
}

fn layer(info: LayerInfo) -> Layer {
    Layer {
        rid: info.rid.map(|rid| rid.to_string()),
        live: info.live,
        width: info.width,
        height: info.height,
        bitrate: info.bitrate_bps,
    }
}

fn stream(track: TrackId, state: sfu::StreamState) -> StreamChange {
    let track = track.to_string();
    match state {
        sfu::StreamState::Active { layer } => StreamChange {
            track,
            state: StreamState::Active,
            layer: Some(layer),
            reason: None,
        },
        sfu::StreamState::Paused { reason } => {
            let reason = Some(match reason {
                PauseReason::Muted => StreamReason::Muted,
                PauseReason::Bandwidth => StreamReason::Bandwidth,
                PauseReason::Codec => StreamReason::Codec,
                PauseReason::View => StreamReason::View,
            });
            StreamChange {
                track,
                state: StreamState::Paused,
                layer: None,
                reason,
            }
        }
    }
}
