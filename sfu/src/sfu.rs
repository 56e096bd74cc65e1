//! The control API of the media core: what can be told to it and what it tells back.
//!
//! Everything here is plain data. [`Sfu`](crate::Sfu) carries a [`Command`] to the shard its ids name
//! and hands back that shard's [`Event`]s in order.

use std::net::IpAddr;

use bytes::Bytes;

use crate::ids::{Mid, ParticipantId, Rid, RoomId, TrackId};

/// What the outside asks of a shard.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Opens a room; its id comes from [`Sfu::create_room`](crate::Sfu::create_room).
    CreateRoom {
        /// The new room.
        room: RoomId,
        /// Its media settings.
        config: RoomConfig,
    },
    /// Ends a room and everyone's stay in it; no event follows for its participants.
    CloseRoom {
        /// The room to end.
        room: RoomId,
    },
    /// Adds a participant, who sends and receives nothing before its first offer.
    Join {
        /// The room to enter.
        room: RoomId,
        /// The new participant, from [`Sfu::next_participant`](crate::Sfu::next_participant).
        participant: ParticipantId,
        /// What this participant may and wants to do.
        options: JoinOptions,
    },
    /// Ends a participant's stay and everything it published; `TrackUnpublished` follows for each track.
    Leave {
        /// Who leaves.
        participant: ParticipantId,
    },
    /// An SDP offer of a participant; `Answered` follows exactly once.
    Offer {
        /// Who offers.
        participant: ParticipantId,
        /// The offer.
        offer: Offer,
    },
    /// New remote ICE credentials without an offer (WHIP and WHEP PATCH, RFC 9725 §4.3.2);
    /// `IceRestarted` follows.
    RestartIce {
        /// Whose transport restarts.
        participant: ParticipantId,
        /// The client's new user fragment.
        ufrag: String,
        /// The client's new password.
        pwd: String,
    },
    /// Ends one track of a participant; `TrackUnpublished` follows when it was its own.
    Unpublish {
        /// Who published it.
        participant: ParticipantId,
        /// The track to end.
        track: TrackId,
    },
    /// Stops or resumes forwarding a track at its publisher's wish.
    Mute {
        /// Who published it.
        participant: ParticipantId,
        /// The track.
        track: TrackId,
        /// True: nothing of it is forwarded.
        muted: bool,
    },
    /// Says which tracks a participant wants to receive.
    Subscribe {
        /// Who subscribes.
        participant: ParticipantId,
        /// The change.
        change: SubscribeChange,
    },
    /// Says how large, how important, and in which layer a subscribed track is shown.
    View {
        /// Who looks.
        participant: ParticipantId,
        /// At which track.
        track: TrackId,
        /// How.
        view: View,
    },
    /// Replaces what a participant may do, effective at once.
    SetGrants {
        /// Whose grants.
        participant: ParticipantId,
        /// The new grants.
        grants: MediaGrants,
    },
    /// Sends one message over the data channels of participants of a room.
    ///
    /// Who has no open data channel gets it as [`Event::DataUndelivered`].
    SendData {
        /// The room.
        room: RoomId,
        /// To whom; every participant of the room but `except` when `None`.
        to: Option<Vec<ParticipantId>>,
        /// Who gets no copy: the sender.
        except: Option<ParticipantId>,
        /// Over which channel.
        channel: DataChannel,
        /// The whole message as it stands on the wire.
        message: Bytes,
    },
}

/// What a shard tells the outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The answer to one [`Command::Offer`].
    Answered {
        /// Who offered.
        participant: ParticipantId,
        /// The offer's id.
        offer: u32,
        /// The answer, or why there is none; after an error the session is as it was before.
        answer: Result<Answer, OfferError>,
    },
    /// The answer to one [`Command::RestartIce`].
    IceRestarted {
        /// Whose transport.
        participant: ParticipantId,
        /// The server's new credentials and candidates as lines for an SDP fragment (RFC 8840),
        /// or `None` when the participant has no transport yet.
        fragment: Option<String>,
    },
    /// A participant's track can be subscribed to.
    TrackPublished {
        /// The room.
        room: RoomId,
        /// Who published it.
        participant: ParticipantId,
        /// What it is.
        track: TrackInfo,
    },
    /// A track's codec or layers became known or changed.
    TrackChanged {
        /// The room.
        room: RoomId,
        /// Who published it.
        participant: ParticipantId,
        /// What it is now.
        track: TrackInfo,
    },
    /// A track ended.
    TrackUnpublished {
        /// The room.
        room: RoomId,
        /// Who published it.
        participant: ParticipantId,
        /// The track.
        track: TrackId,
    },
    /// Receive slots of a participant carry other tracks now; sent before the first new packet.
    SlotsChanged {
        /// Whose slots.
        participant: ParticipantId,
        /// Only the changed ones.
        slots: Vec<Slot>,
    },
    /// A participant wants more tracks than it has slots for: it should offer this many in all.
    SlotsNeeded {
        /// Who needs slots.
        participant: ParticipantId,
        /// Audio slots in all.
        audio: u16,
        /// Video slots in all.
        video: u16,
    },
    /// Who speaks, loudest first; at most 5 a second, only when it changed.
    SpeakersChanged {
        /// The room.
        room: RoomId,
        /// Participants and their levels, 0 (silent) to 1; those who fell silent appear once with 0.
        levels: Vec<(ParticipantId, f32)>,
    },
    /// What a participant receives of a track changed.
    StreamChanged {
        /// The subscriber.
        participant: ParticipantId,
        /// The track it receives.
        track: TrackId,
        /// The new state.
        state: StreamState,
    },
    /// Some subscriber cannot decode what a publisher sends but could decode this codec, which the
    /// publisher offered too: it should offer again. Told once for a track; answers prefer the codec
    /// from now on.
    CodecWanted {
        /// Who publishes the track.
        participant: ParticipantId,
        /// The track.
        track: TrackId,
        /// The codec it should be sent in.
        codec: Codec,
    },
    /// A message came in over a participant's data channel.
    DataReceived {
        /// Who sent it.
        participant: ParticipantId,
        /// Over which channel.
        channel: DataChannel,
        /// The whole message as it stood on the wire; at most 64 KiB.
        message: Bytes,
    },
    /// A [`Command::SendData`] message for a participant without an open data channel.
    DataUndelivered {
        /// For whom.
        participant: ParticipantId,
        /// The whole message.
        message: Bytes,
    },
    /// A participant's transport changed its state.
    TransportChanged {
        /// Whose transport.
        participant: ParticipantId,
        /// The new state.
        state: TransportState,
    },
    /// A participant had to be ended by the core (a panic in its packet handling or in its room, for
    /// one); it is gone, as after `Leave`.
    ParticipantEnded {
        /// Who.
        participant: ParticipantId,
    },
}

/// Media settings of a room.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RoomConfig {
    /// Video codecs in the order the room prefers; empty means the offer's own order.
    pub codecs: Vec<Codec>,
}

/// What a participant may and wants to do from its first moment.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinOptions {
    /// The name other participants know it by; unique in the room.
    pub identity: String,
    /// What it may do.
    pub grants: MediaGrants,
    /// Which tracks it receives without asking.
    pub wants: Wants,
}

/// Which tracks a participant receives without asking for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Every track of the others.
    All,
    /// Only what `Subscribe` names.
    Nothing,
    /// The room's program, on one audio and one video slot: the screen share if there is one, else
    /// the dominant speaker's, else the latest publisher's video, with that participant's audio.
    Program,
    /// One participant's tracks, on one audio and one video slot, by identity.
    Participant(String),
}

/// What a participant may do with media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaGrants {
    /// May publish tracks.
    pub publish: bool,
    /// The sources it may publish; empty means all.
    pub publish_sources: Vec<Source>,
    /// May receive tracks.
    pub subscribe: bool,
    /// May send over data channels.
    pub publish_data: bool,
}

impl Default for MediaGrants {
    fn default() -> Self {
        Self {
            publish: true,
            publish_sources: Vec::new(),
            subscribe: true,
            publish_data: true,
        }
    }
}

/// An SDP offer with what its sending sections publish.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Echoed in `Answered`.
    pub id: u32,
    /// The SDP (RFC 8866, RFC 9429).
    pub sdp: String,
    /// One entry for each section that publishes. A sending section without an entry is published
    /// as camera or microphone when `publish_unnamed` is set, and otherwise answered without sending.
    pub publish: Vec<Publish>,
    /// WHIP has no publish list: everything sent is published.
    pub publish_unnamed: bool,
    /// The local address the request came in on; its candidate is listed first.
    pub local_address: Option<IpAddr>,
}

/// One section of an offer as the track it publishes.
#[derive(Clone, Debug, PartialEq)]
pub struct Publish {
    /// The section.
    pub mid: Mid,
    /// What it shows or plays.
    pub source: Source,
    /// The publisher's name for it.
    pub name: String,
    /// Starts muted.
    pub muted: bool,
    /// The size of the largest layer, 0 when unknown.
    pub width: u16,
    /// The size of the largest layer, 0 when unknown.
    pub height: u16,
    /// The codec to send it in, where the room prefers no other.
    pub codec: Option<Codec>,
    /// Sound is sent in two channels, whatever the SDP says.
    pub stereo: bool,
    /// Next to nothing is sent while it is silent, whatever the SDP says.
    pub dtx: bool,
}

/// The answer to an offer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The SDP.
    pub sdp: String,
    /// One entry for each entry of the offer's publish list, and for what was published unnamed.
    pub published: Vec<Published>,
    /// What every receive slot of the participant carries now.
    pub slots: Vec<Slot>,
}

/// What became of one section that wants to publish.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The section.
    pub mid: Mid,
    /// The track, or why there is none.
    pub track: Result<TrackId, PublishError>,
}

/// A receive slot and what it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The slot's section.
    pub mid: Mid,
    /// The track it carries.
    pub track: Option<TrackId>,
    /// The RTP timestamp below which frames still belong to the slot's previous track.
    pub timestamp: Option<u32>,
}

/// A published track as others may know it.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackInfo {
    /// Its id.
    pub id: TrackId,
    /// Audio or video.
    pub kind: Kind,
    /// What it shows or plays.
    pub source: Source,
    /// The publisher's name for it.
    pub name: String,
    /// The publisher stopped it for now.
    pub muted: bool,
    /// The codec last seen, `None` before the first packet.
    pub codec: Option<Codec>,
    /// Its layers, lowest first.
    pub layers: Vec<LayerInfo>,
}

/// One simulcast layer of a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerInfo {
    /// Its rid; `None` for a track without simulcast.
    pub rid: Option<Rid>,
    /// Packets of it arrive at present.
    pub live: bool,
    /// Picture size, 0 when unknown.
    pub width: u16,
    /// Picture size, 0 when unknown.
    pub height: u16,
    /// Bits per second over the last second.
    pub bitrate_bps: u64,
}

/// Audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

/// What a track shows or plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A camera.
    Camera,
    /// A microphone.
    Microphone,
    /// A shared screen, window or tab.
    ScreenShare,
    /// The sound of what is shared.
    ScreenShareAudio,
}

/// The codecs that are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// RFC 6716, RFC 7587.
    Opus,
    /// RFC 6386, RFC 7741.
    Vp8,
    /// RFC 6184.
    H264,
    /// RFC 9628.
    Vp9,
    /// The AV1 RTP payload format of AOMedia.
    Av1,
}

/// A change of what a participant wants to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscribeChange {
    /// All tracks, present and future, or none.
    All(bool),
    /// These tracks; kept for tracks that appear under the id later.
    Tracks(Vec<(TrackId, bool)>),
}

/// How a subscribed track is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct View {
    /// Pixels on screen; 0 means no limit.
    pub width: u16,
    /// Pixels on screen; 0 means no limit.
    pub height: u16,
    /// Frames a second that are enough; 0 means no limit.
    pub fps: u8,
    /// 0 to 255, higher is served first; 0 means the default of its source.
    pub priority: u8,
    /// Not shown: nothing of it is forwarded.
    pub paused: bool,
    /// At most this layer, by index from the lowest; `None` means no limit.
    pub layer: Option<u8>,
    /// At most this temporal layer; `None` means no limit.
    pub temporal: Option<u8>,
}

/// What a subscriber receives of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// This layer is being forwarded.
    Active {
        /// Index from the lowest.
        layer: u8,
    },
    /// Nothing is being forwarded.
    Paused {
        /// Why.
        reason: PauseReason,
    },
}

/// Why nothing of a subscribed track is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseReason {
    /// The publisher muted it.
    Muted,
    /// The path to the subscriber does not carry it.
    Bandwidth,
    /// The subscriber can decode none of the publisher's codecs.
    Codec,
    /// The subscriber asked for it.
    View,
}

/// The two channels every native client opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataChannel {
    /// Label `reliable`: ordered, retransmitted.
    Reliable,
    /// Label `lossy`: unordered, sent once.
    Lossy,
}

/// How far a transport has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportState {
    /// An answer was given; no valid connectivity check yet.
    Connecting,
    /// ICE and DTLS are up.
    Connected,
    /// No consent for 5 s; it may come back.
    Disconnected,
    /// No consent for 30 s, or DTLS failed: the client must restart ICE or rejoin.
    Failed,
}

/// Why an offer got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// The SDP cannot be parsed or breaks a rule; the text says which.
    #[error("the offer is not usable: {0}")]
    BadSdp(String),
    /// Too many sections, candidates, codecs or extensions; the text says which.
    #[error("the offer exceeds a limit: {0}")]
    LimitExceeded(String),
    /// No section has a codec in common with the server.
    #[error("no codec in common")]
    CodecUnsupported,
    /// The participant is not (or no longer) in the room.
    #[error("the participant is not in a room")]
    NoSuchParticipant,
}

/// Why one section was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The grants do not allow it.
    #[error("publishing this source is not allowed")]
    Denied,
    /// There is no such sending section.
    #[error("the offer has no sending section with this mid")]
    NoSuchSection,
    /// Too many tracks.
    #[error("too many tracks")]
    LimitExceeded,
    /// No codec in common.
    #[error("no codec in common")]
    CodecUnsupported,
}
