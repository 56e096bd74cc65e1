//! What native clients ask for.

use std::time::Instant;

use bytes::Bytes;
use sfu::{Command, DataChannel, ParticipantId, SubscribeChange, TrackId, View};

use super::{Output, Room, data};
use crate::auth::{METADATA_BYTES_MAX, NAME_BYTES_MAX, attributes_bytes};
use crate::limits::Rate;
use crate::message::{
    Bye, ClientMessage, CloseCode, DataHeader, Done, ErrorCode, ErrorReply, LeftReason,
    OfferMessage, ParticipantPatch, Pong, SelfChange, Send, ServerEvent, ServerReply,
    SubscribeMessage, TrackChange, TrackMessage, TrackPatch, Unpublish, Updated, ViewEntry,
    ViewMessage,
};
use crate::session::read_offer;

/// Tracks in one `subscribe` or `view`.
const TRACKS_PER_MESSAGE_MAX: usize = 512;
/// A track's free text, in bytes: there may be thousands of tracks in a snapshot.
const TRACK_META_BYTES_MAX: usize = 4 << 10;
/// The payload of `send`, in bytes.
pub(crate) const SEND_BYTES_MAX: usize = 16 << 10;

impl Room {
    /// Takes in one frame of a native client.
    pub fn handle_text(&mut self, now: Instant, participant: ParticipantId, text: &str) {
        let rate = self.limits.messages;
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        if let Err(wait) = session.messages.take(now, rate) {
            let error = ErrorReply::new(ErrorCode::RateLimited, "too many messages");
            self.reply(participant, ServerReply::Err(error.retry_after(wait)));
            let code = CloseCode::RateLimited;
            self.outputs.push_back(Output::Close { participant, code });
            self.leave(now, participant, LeftReason::Failed);
            return;
        }
        match ClientMessage::parse(text) {
            Ok(message) => self.handle_message(now, participant, message),
            Err(error) => {
                let reply = ErrorReply::new(error.code, error.message).about(error.id);
                self.reply(participant, ServerReply::Err(reply));
            }
        }
    }

    fn handle_message(&mut self, now: Instant, participant: ParticipantId, message: ClientMessage) {
        let id = message.id();
        let outcome = match message {
            ClientMessage::Hello(_) => Err(ErrorReply::new(
                ErrorCode::Conflict,
                "this socket has its session already",
            )),
            // Answered by `answer`, not by `ok`.
            ClientMessage::Offer(offer) => match self.offer(now, participant, offer) {
                Ok(()) => return,
                Err(error) => Err(error),
            },
            // The server is ICE-lite: it learns candidates from the client's checks.
            ClientMessage::Trickle(_) => Ok(()),
            ClientMessage::Unpublish(message) => self.unpublish(participant, &message),
            ClientMessage::Track(message) => self.change_track(participant, message),
            ClientMessage::Subscribe(message) => self.subscribe(participant, message),
            ClientMessage::View(message) => self.view(participant, message),
            ClientMessage::SelfChange(message) => self.change_self(participant, message),
            ClientMessage::Send(message) => self.send(participant, message),
            ClientMessage::Ping(ping) => {
                self.reply(participant, ServerReply::Pong(Pong { ts: ping.ts }));
                Ok(())
            }
            ClientMessage::Leave(_) => {
                self.reply(participant, ServerReply::Bye(Bye { code: None }));
                self.outputs.push_back(Output::Close {
                    participant,
                    code: CloseCode::Normal,
                });
                self.leave(now, participant, LeftReason::Left);
                Ok(())
            }
        };
        match (outcome, id) {
            (Ok(()), Some(id)) => self.reply(participant, ServerReply::Ok(Done { id })),
            (Ok(()), None) => {}
            (Err(error), id) => self.reply(participant, ServerReply::Err(error.about(id))),
        }
    }

    fn offer(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        message: OfferMessage,
    ) -> Result<(), ErrorReply> {
        let rate: Rate = self.limits.offers;
        let session = self.sessions.get_mut(&participant).ok_or_else(no_session)?;
        let id = message.id;
        session.offers.bucket.take(now, rate).map_err(|wait| {
            ErrorReply::new(ErrorCode::RateLimited, "too many offers").retry_after(wait)
        })?;
        if session.offers.last.is_some_and(|last| id <= last) {
            return Err(ErrorReply::new(
                ErrorCode::StaleOffer,
                "the id is not higher than that of an earlier offer",
            ));
        }
        if session.offers.outstanding.is_some() {
            let text = "the offer before is not answered yet";
            return Err(ErrorReply::new(ErrorCode::Conflict, text));
        }
        let offer = read_offer(message, None)?;
        session.offers.last = Some(id);
        session.offers.outstanding = Some(id);
        self.command(Command::Offer { participant, offer });
        Ok(())
    }

    fn unpublish(&mut self, participant: ParticipantId, message: &Unpublish) -> Outcome {
        let track = self.own_track(participant, &message.track)?;
        self.command(Command::Unpublish { participant, track });
        Ok(())
    }

    fn change_track(&mut self, participant: ParticipantId, message: TrackMessage) -> Outcome {
        let track = self.own_track(participant, &message.track)?;
        if message
            .name
            .as_ref()
            .is_some_and(|name| name.len() > NAME_BYTES_MAX)
        {
            return Err(too_large("a track's name is at most 256 bytes"));
        }
        if message
            .meta
            .as_ref()
            .is_some_and(|meta| meta.len() > TRACK_META_BYTES_MAX)
        {
            return Err(too_large("a track's meta is at most 4 KiB"));
        }
        if let Some(muted) = message.muted {
            self.command(Command::Mute {
                participant,
                track,
                muted,
            });
        }
        let patch = TrackPatch {
            muted: message.muted,
            name: message.name,
            meta: message.meta,
            ..TrackPatch::default()
        };
        // Its own doing is no news to the publisher; what others do to its track is.
        self.patch_track(participant, track, patch, Some(participant));
        Ok(())
    }

    /// Applies to the roster what differs, and tells everyone but `except`.
    pub(super) fn patch_track(
        &mut self,
        publisher: ParticipantId,
        id: TrackId,
        mut patch: TrackPatch,
        except: Option<ParticipantId>,
    ) {
        let Some(session) = self.sessions.get_mut(&publisher) else {
            return;
        };
        let Some(track) = session.tracks.get_mut(&id) else {
            return;
        };
        patch.muted = patch.muted.filter(|muted| *muted != track.muted);
        patch.name = patch.name.filter(|name| *name != track.name);
        patch.meta = patch.meta.filter(|meta| *meta != track.meta);
        patch.codec = patch.codec.filter(|codec| Some(*codec) != track.codec);
        let layers_differ = patch
            .layers
            .as_ref()
            .is_some_and(|layers| *layers != track.layers);
        if layers_differ {
            let layers = patch.layers.clone().unwrap_or_default();
            let worth_telling = !differ_in_bitrate_only(&layers, &track.layers);
            track.layers = layers;
            patch.layers = patch.layers.filter(|_| worth_telling);
        } else {
            patch.layers = None;
        }
        track.muted = patch.muted.unwrap_or(track.muted);
        track.codec = patch.codec.or(track.codec);
        if let Some(name) = &patch.name {
            track.name.clone_from(name);
        }
        if let Some(meta) = &patch.meta {
            track.meta.clone_from(meta);
        }
        let hidden = session.grants.hidden;
        if patch != TrackPatch::default() && !hidden {
            let event = ServerEvent::Track(TrackChange {
                track: id.to_string(),
                patch,
            });
            self.tell_all(&event, except);
        }
    }

    fn subscribe(&mut self, participant: ParticipantId, message: SubscribeMessage) -> Outcome {
        let session = self.sessions.get(&participant).ok_or_else(no_session)?;
        if !session.grants.media.subscribe {
            let text = "the token does not allow subscribing";
            return Err(ErrorReply::new(ErrorCode::SubscribeDenied, text));
        }
        let change = match (message.all, message.set) {
            (Some(all), None) => SubscribeChange::All(all),
            (None, Some(set)) if set.len() > TRACKS_PER_MESSAGE_MAX => {
                return Err(ErrorReply::new(
                    ErrorCode::LimitExceeded,
                    "at most 512 tracks at once",
                ));
            }
            (None, Some(set)) => {
                let parsed = set
                    .iter()
                    .map(|(id, wanted)| Some((TrackId::parse(id)?, *wanted)));
                let tracks: Option<Vec<_>> = parsed.collect();
                SubscribeChange::Tracks(tracks.ok_or_else(no_track)?)
            }
            _ => return Err(bad_message("subscribe has either all or set")),
        };
        self.command(Command::Subscribe {
            participant,
            change,
        });
        Ok(())
    }

    fn view(&mut self, participant: ParticipantId, message: ViewMessage) -> Outcome {
        if message.set.len() > TRACKS_PER_MESSAGE_MAX {
            return Err(ErrorReply::new(
                ErrorCode::LimitExceeded,
                "at most 512 tracks at once",
            ));
        }
        for (track, entry) in message.set {
            let track = TrackId::parse(&track).ok_or_else(no_track)?;
            // A track that has just ended is no fault of the client.
            if self.publishers.contains_key(&track) {
                let view = core_view(entry);
                self.command(Command::View {
                    participant,
                    track,
                    view,
                });
            }
        }
        Ok(())
    }

    fn change_self(&mut self, participant: ParticipantId, message: SelfChange) -> Outcome {
        let session = self.sessions.get_mut(&participant).ok_or_else(no_session)?;
        let grants = &mut session.grants;
        let name_only = message.metadata.is_none() && message.attributes.is_none();
        let allowed = grants.update_own_metadata || (grants.guest && name_only);
        if !allowed {
            let text = "the token does not allow changing this";
            return Err(ErrorReply::new(ErrorCode::Forbidden, text));
        }
        if message
            .name
            .as_ref()
            .is_some_and(|name| name.len() > NAME_BYTES_MAX)
        {
            return Err(too_large("a name is at most 256 bytes"));
        }
        if message
            .metadata
            .as_ref()
            .is_some_and(|text| text.len() > METADATA_BYTES_MAX)
        {
            return Err(too_large("metadata is at most 64 KiB"));
        }
        let mut attributes = grants.attributes.clone();
        for (name, value) in message.attributes.iter().flatten() {
            if value.is_empty() {
                attributes.remove(name);
            } else {
                attributes.insert(name.clone(), value.clone());
            }
        }
        if attributes_bytes(&attributes) > METADATA_BYTES_MAX {
            return Err(too_large("attributes are at most 64 KiB in all"));
        }
        let patch = ParticipantPatch {
            attributes: message.attributes.map(|_| attributes.clone()),
            name: message.name,
            metadata: message.metadata,
        };
        grants.attributes = attributes;
        if let Some(name) = &patch.name {
            grants.name.clone_from(name);
        }
        if let Some(metadata) = &patch.metadata {
            grants.metadata.clone_from(metadata);
        }
        let hidden = grants.hidden;
        let event = ServerEvent::Updated(Updated {
            id: participant.to_string(),
            patch,
        });
        if hidden {
            self.tell(participant, event);
        } else {
            self.tell_all(&event, None);
        }
        Ok(())
    }

    fn send(&mut self, participant: ParticipantId, message: Send) -> Outcome {
        let session = self.sessions.get(&participant).ok_or_else(no_session)?;
        if !session.grants.media.publish_data {
            let text = "the token does not allow sending messages";
            return Err(ErrorReply::new(ErrorCode::Forbidden, text));
        }
        let payload = data::payload(message.data, message.data64.as_deref())
            .ok_or_else(|| bad_message("send has either data or data64, which is base64"))?;
        if payload.len() > SEND_BYTES_MAX {
            return Err(too_large("a message is at most 16 KiB; use a data channel"));
        }
        let header = DataHeader {
            to: message.to,
            from: None,
            topic: message.topic,
        };
        data::check_header(&header).map_err(too_large)?;
        self.forward_data(
            participant,
            header,
            DataChannel::Reliable,
            &Bytes::from(payload),
        );
        Ok(())
    }

    fn own_track(&self, participant: ParticipantId, id: &str) -> Result<TrackId, ErrorReply> {
        let session = self.sessions.get(&participant).ok_or_else(no_session)?;
        let track = TrackId::parse(id).ok_or_else(no_track)?;
        session
            .tracks
            .contains_key(&track)
            .then_some(track)
            .ok_or_else(no_track)
    }
}

type Outcome = Result<(), ErrorReply>;

fn core_view(entry: ViewEntry) -> View {
    View {
        width: entry.w,
        height: entry.h,
        fps: entry.fps,
        priority: entry.priority,
        paused: entry.paused,
        layer: entry.layer,
        temporal: entry.temporal,
    }
}

/// Bitrates change every second; telling everyone would be a message per track and second.
fn differ_in_bitrate_only(new: &[crate::message::Layer], old: &[crate::message::Layer]) -> bool {
    let same = |(new, old): (&crate::message::Layer, &crate::message::Layer)| {
        (&new.rid, new.live, new.width, new.height) == (&old.rid, old.live, old.width, old.height)
    };
    new.len() == old.len() && new.iter().zip(old).all(same)
}

fn no_session() -> ErrorReply {
    ErrorReply::new(ErrorCode::NotFound, "the session is over")
}

fn no_track() -> ErrorReply {
    ErrorReply::new(ErrorCode::NotFound, "there is no such track")
}

fn bad_message(text: &str) -> ErrorReply {
    ErrorReply::new(ErrorCode::BadMessage, text)
}

fn too_large(text: &str) -> ErrorReply {
    ErrorReply::new(ErrorCode::TooLarge, text)
}
