//! What one shard tells another about the rooms they share.

use crate::ids::{ParticipantId, Rid, RoomId, TrackId};
use crate::peer::negotiation::NegotiatedCodec;
use crate::publisher::keyframes::Urgency;
use crate::publisher::layer::SenderReport;
use crate::sfu::{Codec, Kind, Publish};

/// One thing a shard tells another. Only shards look inside.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice(pub(crate) News);

impl Notice {
    /// Says that a shard is new: what it said before, and what was said to it, holds no more.
    pub fn restarted() -> Self {
        Self(News::Restarted)
    }
}

/// What a notice says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News {
    /// The sender is new.
    Restarted,
    /// The room is open at the sender.
    Opened {
        room: RoomId,
        /// It answers; otherwise it wants an answer.
        is_answer: bool,
    },
    /// The home shard says which other shard has the room open.
    Introduced { room: RoomId, shard: u16 },
    /// The room is open at the sender no more.
    Closed { room: RoomId },
    /// A track of the sender.
    Track(Box<TrackNews>),
    /// How a track of the sender is at present.
    State {
        track: TrackId,
        state: Box<TrackState>,
    },
    /// A track of the sender ended.
    Unpublished { track: TrackId },
    /// What the sender wants of a track of the receiver; encodings are bits, 0 is nothing. Each such
    /// notice about a track has the next number.
    Wanted {
        track: TrackId,
        encodings: u8,
        number: u32,
    },
    /// What the notice of this number wants of a track of the sender goes out from here on: what comes
    /// after the sequence number that each encoding is at.
    Flows {
        track: TrackId,
        number: u32,
        newest: Vec<Option<u64>>,
    },
    /// Subscribers at the sender need keyframes of a track of the receiver.
    KeyframeWanted {
        track: TrackId,
        encodings: u8,
        urgency: Urgency,
    },
    /// The sender would rather have a track of the receiver in this codec.
    CodecWanted { track: TrackId, codec: Codec },
    /// The clock of one encoding of a track of the sender.
    Clock(ClockNews),
    /// Who makes sound at the sender, 0 to 1; whoever is not listed is silent.
    Levels {
        room: RoomId,
        levels: Vec<(TrackId, f32)>,
    },
    /// Who speaks in the room, as its home shard sees it.
    Speakers(SpeakerNews),
}

/// A track and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TrackNews {
    pub(crate) room: RoomId,
    pub(crate) participant: ParticipantId,
    pub(crate) identity: String,
    pub(crate) id: TrackId,
    pub(crate) kind: Kind,
    pub(crate) publish: Publish,
    /// What it is sent as, with the publisher's payload types.
    pub(crate) codecs: Vec<NegotiatedCodec>,
    /// In the order of its encodings.
    pub(crate) rids: Vec<Rid>,
    pub(crate) state: TrackState,
}

/// What changes about a track.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TrackState {
    pub(crate) muted: bool,
    pub(crate) codec: Option<Codec>,
    /// By encoding.
    pub(crate) layers: Vec<LayerState>,
    /// The encodings by picture size, as `Track::ranks` has them.
    pub(crate) ranks: Vec<u8>,
}

/// One encoding of a track as its own shard sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LayerState {
    pub(crate) live: bool,
    pub(crate) width: u16,
    pub(crate) height: u16,
    pub(crate) bitrate_bps: u64,
}

/// The clock of one encoding: which RTP timestamp is which moment of the publisher's wall clock, and
/// what that is in the server's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ClockNews {
    pub(crate) track: TrackId,
    pub(crate) encoding: u8,
    pub(crate) report: SenderReport,
    /// The server's NTP clock less the publisher's, in 2^-32 s.
    pub(crate) offset: Option<i64>,
}

/// Who has the word and who can be heard.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SpeakerNews {
    pub(crate) room: RoomId,
    pub(crate) dominant: Option<ParticipantId>,
    /// Loudest first.
    pub(crate) loudest: Vec<ParticipantId>,
}
