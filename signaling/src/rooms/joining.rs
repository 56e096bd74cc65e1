//! How a participant gets into a room, and back into its session.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use sfu::{Answer, Codec, Offer, OfferError, ParticipantId, RoomConfig, RoomId, Wants};
use tokio::sync::oneshot;

use super::cell::{Cell, Occupied};
use super::outbox::Outbox;
use super::random::{random_key, random_suffix};
use super::{Pending, Rooms, Seat};
use crate::auth::{Grants, RoomClaim};
use crate::message::{ErrorCode, ErrorReply, Resume, Roster};
use crate::room::{Room, Settings};
use crate::session::{Admission, Door};
use crate::webhooks::EventKind;

/// What a participant asks to be let in with.
pub struct JoinRequest {
    /// The room's name; the caller has checked that the token is about it.
    pub room: String,
    /// What the token allows.
    pub grants: Grants,
    /// The display name typed before joining.
    pub name: Option<String>,
    /// What it receives without asking.
    pub wants: Wants,
    /// Whom it is told about.
    pub roster: Roster,
    /// The features in common.
    pub features: Vec<String>,
    /// Its first offer.
    pub offer: Option<Offer>,
    /// The address of ours that it spoke to, where that is known.
    pub reached: Option<IpAddr>,
}

impl Rooms {
    /// Lets a native client in; what it is told goes to `outbox`.
    ///
    /// # Errors
    /// `room_not_found`, `room_full`, `limit_exceeded`, `server_shutdown`.
    pub fn join_native(
        &self,
        now: Instant,
        request: JoinRequest,
        outbox: Arc<Outbox>,
    ) -> Result<Seat, ErrorReply> {
        let (cell, participant) =
            self.join(now, request, Door::Native, |occupied, participant| {
                occupied.sockets.insert(participant, Arc::clone(&outbox));
            })?;
        Ok(Seat {
            participant,
            cell,
            outbox,
        })
    }

    /// Lets a WHIP or WHEP client in; the answer to its offer follows.
    ///
    /// # Errors
    /// As [`Rooms::join_native`].
    pub fn join_http(
        &self,
        now: Instant,
        request: JoinRequest,
    ) -> Result<(ParticipantId, Pending<Result<Answer, OfferError>>), ErrorReply> {
        let (sender, receiver) = oneshot::channel();
        let (_, participant) = self.join(now, request, Door::Http, |occupied, participant| {
            occupied.answers.insert(participant, sender);
        })?;
        Ok((participant, receiver))
    }

    /// Lets an encoder in, which publishes through the bridge.
    ///
    /// # Errors
    /// As [`Rooms::join_native`].
    pub fn join_encoder(
        &self,
        now: Instant,
        request: JoinRequest,
    ) -> Result<(ParticipantId, RoomId), ErrorReply> {
        let (cell, participant) = self.join(now, request, Door::Encoder, |_, _| {})?;
        let room = cell.lock().room.id();
        Ok((participant, room))
    }

    fn join(
        &self,
        now: Instant,
        request: JoinRequest,
        door: Door,
        register: impl FnOnce(&mut Occupied, ParticipantId),
    ) -> Result<(Arc<Cell>, ParticipantId), ErrorReply> {
        let cell = self.cell_to_join(now, &request.room, &request.grants.room_config)?;
        let mut occupied = cell.lock();
        if occupied.closed {
            // It ended in this very moment; the client's next try opens it anew.
            return Err(ErrorReply::new(
                ErrorCode::RoomClosed,
                "the room was just ended",
            ));
        }
        let participant = match door {
            Door::Native | Door::Http => self.sfu.next_participant(occupied.room.id()),
            Door::Encoder => self.sfu.next_annexed(),
        };
        register(&mut occupied, participant);
        self.directory()
            .by_participant
            .insert(participant, Arc::clone(&cell));
        let outcome = occupied.room.join(
            now,
            self.with_ice_servers(admission(participant, door, request)),
        );
        if outcome.is_err() {
            occupied.forget(participant);
            self.directory().by_participant.remove(&participant);
        } else {
            self.metrics.joins.inc();
            let room = occupied.room.id();
            tracing::info!(%room, %participant, ?door, "joined");
        }
        self.carry_out(&mut occupied);
        drop(occupied);
        outcome.map(|()| (cell, participant))
    }

    /// Continues a session on a new socket.
    ///
    /// # Errors
    /// `resume_unknown` also where the token is about another identity or room.
    pub fn resume(
        &self,
        resume: &Resume,
        grants: &Grants,
        outbox: Arc<Outbox>,
    ) -> Result<Seat, ErrorReply> {
        let unknown =
            || ErrorReply::new(ErrorCode::ResumeUnknown, "this session cannot be resumed");
        let participant = ParticipantId::parse(&resume.session).ok_or_else(unknown)?;
        let cell = self.directory().by_participant.get(&participant).cloned();
        let cell = cell.ok_or_else(unknown)?;
        let mut occupied = cell.lock();
        let identity = occupied.room.identity_of(participant).ok_or_else(unknown)?;
        let same = grants.identity.as_deref().is_none_or(|own| own == identity);
        if !same || !grants.may_join(occupied.room.name()) {
            return Err(unknown());
        }
        // The new socket counts from before `welcome` on, the old one only if the key is right.
        let old = occupied.sockets.insert(participant, Arc::clone(&outbox));
        if let Err(error) = occupied.room.resume(resume, random_key()) {
            match old {
                Some(old) => occupied.sockets.insert(participant, old),
                None => occupied.sockets.remove(&participant),
            };
            return Err(error);
        }
        occupied.room.follow_token(participant, grants);
        if let Some(old) = old {
            old.close(crate::message::CloseCode::Normal);
        }
        self.carry_out(&mut occupied);
        drop(occupied);
        Ok(Seat {
            participant,
            cell,
            outbox,
        })
    }

    fn with_ice_servers(&self, mut admission: Admission) -> Admission {
        if let Some(turn) = self
            .turn
            .as_ref()
            .filter(|_| admission.door != Door::Encoder)
        {
            let (who, reached) = (admission.participant, admission.reached);
            let now_s = crate::http::unix_time();
            admission.ice_servers = turn.ice_servers(who, &admission.identity, reached, now_s);
        }
        admission
    }

    pub(super) fn cell_to_join(
        &self,
        now: Instant,
        name: &str,
        claim: &RoomClaim,
    ) -> Result<Arc<Cell>, ErrorReply> {
        if self.is_draining() {
            return Err(ErrorReply::new(
                ErrorCode::ServerShutdown,
                "the server is going down",
            ));
        }
        if self.auto_create {
            return self.open(now, name, claim).map(|(cell, _)| cell);
        }
        let missing = || ErrorReply::new(ErrorCode::RoomNotFound, "there is no such room");
        self.cell(name).ok_or_else(missing)
    }

    /// Finds a room or opens it; true when it was opened.
    pub(super) fn open(
        &self,
        now: Instant,
        name: &str,
        claim: &RoomClaim,
    ) -> Result<(Arc<Cell>, bool), ErrorReply> {
        self.open_with(now, name, claim, self.core.clone())
    }

    /// What a room is opened with that is to be broadcast: browsers are asked for the codec that goes
    /// everywhere unchanged.
    pub(super) fn for_broadcast(&self) -> RoomConfig {
        let mut codecs = self.core.codecs.clone();
        codecs.retain(|codec| *codec != Codec::H264);
        codecs.insert(0, Codec::H264);
        RoomConfig { codecs }
    }

    pub(super) fn open_with(
        &self,
        now: Instant,
        name: &str,
        claim: &RoomClaim,
        core: RoomConfig,
    ) -> Result<(Arc<Cell>, bool), ErrorReply> {
        let mut directory = self.directory();
        if directory.draining {
            return Err(ErrorReply::new(
                ErrorCode::ServerShutdown,
                "the server is going down",
            ));
        }
        if let Some(cell) = directory.by_name.get(name) {
            return Ok((Arc::clone(cell), false));
        }
        if directory.by_name.len() >= self.rooms_max {
            let text = "the server has as many rooms as it may";
            return Err(ErrorReply::new(ErrorCode::LimitExceeded, text));
        }
        let id = self.sfu.create_room(core);
        let settings = self.settings(claim);
        let room = Room::new(now, id, name.to_owned(), settings, Arc::clone(&self.limits));
        let cell = Arc::new(Cell::new(room));
        directory.by_name.insert(name.to_owned(), Arc::clone(&cell));
        directory.by_id.insert(id, Arc::clone(&cell));
        tracing::info!(room = %id, "room opened");
        if let Some(webhooks) = &self.webhooks {
            let metadata = &claim.metadata;
            webhooks.tell(
                EventKind::RoomStarted,
                name,
                || json!({ "room": { "id": id.to_string(), "name": name, "metadata": metadata } }),
            );
        }
        Ok((cell, true))
    }

    pub(super) fn settings(&self, claim: &RoomClaim) -> Settings {
        let or_default = |seconds: u32, default| match seconds {
            0 => default,
            seconds => Duration::from_secs(u64::from(seconds)),
        };
        let wanted = usize::try_from(claim.max_participants).unwrap_or(usize::MAX);
        let most = self.defaults.participants_max;
        Settings {
            metadata: claim.metadata.clone(),
            participants_max: if wanted == 0 { most } else { wanted.min(most) },
            empty_timeout: or_default(claim.empty_timeout, self.defaults.empty_timeout),
            departure_timeout: or_default(claim.departure_timeout, self.defaults.departure_timeout),
        }
    }
}

fn admission(participant: ParticipantId, door: Door, request: JoinRequest) -> Admission {
    let mut grants = request.grants;
    if let Some(name) = request
        .name
        .filter(|_| grants.guest || grants.update_own_metadata)
    {
        grants.name = name;
    }
    let identity = grants
        .identity
        .clone()
        .unwrap_or_else(|| format!("guest-{}", random_suffix()));
    Admission {
        participant,
        door,
        identity,
        wants: if grants.media.subscribe {
            request.wants
        } else {
            Wants::Nothing
        },
        grants,
        roster: request.roster,
        features: request.features,
        offer: request.offer,
        reached: request.reached,
        ice_servers: Vec::new(),
        resume_key: random_key(),
    }
}
