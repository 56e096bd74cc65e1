//! A program of this process beside the shards: it hears the tracks of rooms and has tracks in them.
//!
//! To the shards an [`Annex`] is one more shard on which a room is continued, and it speaks their
//! language ([`cascade`](crate::cascade)): it is told which tracks there are, asks for encodings of some,
//! and gets their packets decrypted, once, by reference. What it publishes itself is mirrored by the
//! shards that have subscribers for it. No packet path knows of it: `Sink::Cascade` serves it too.
//!
//! It is a pure machine. `handle_*` takes in what shards say, `poll_*` gives what they are to be told,
//! [`Annex::poll_heard`] what the program should know. Unlike a shard's mirrors it keeps no packets:
//! order, holes and retransmission are its user's business; what a publisher sends again comes late.
//!
//! | part | what |
//! |---|---|
//! | `annex/rooms.rs` | in which rooms it is, and on which shards those are |
//! | `annex/listening.rs` | tracks of others |
//! | `annex/publishing.rs` | its own tracks |

mod listening;
mod publishing;
mod rooms;

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;

use crate::cascade::{News, Notice};
use crate::ids::{ParticipantId, RoomId, TrackId};
use crate::metrics::Metrics;
use crate::sfu::{Codec, Event, Kind, Source};

use listening::Listened;
use publishing::{Outbound, Own};
pub use publishing::{OwnPacket, OwnTrack};
use rooms::Part;

/// A program's place in rooms. See the module.
#[derive(Debug)]
pub struct Annex {
    /// The number under which the shards know it: one more than the last of theirs.
    index: u16,
    rooms: HashMap<RoomId, Part>,
    listened: HashMap<TrackId, Listened>,
    own: HashMap<TrackId, Own>,
    next_track: u64,
    notices: VecDeque<(u16, Notice)>,
    outbound: VecDeque<Outbound>,
    heard: VecDeque<Heard>,
    events: VecDeque<Event>,
    /// What it counts of its own.
    pub(crate) metrics: Metrics,
}

/// A track that can be listened to.
#[derive(Clone, Debug, PartialEq)]
pub struct HeardTrack {
    /// Its id.
    pub id: TrackId,
    /// The room.
    pub room: RoomId,
    /// Who publishes it.
    pub participant: ParticipantId,
    /// The name that participant is known by.
    pub identity: String,
    /// Audio or video.
    pub kind: Kind,
    /// What it shows or plays.
    pub source: Source,
    /// How it is at present.
    pub state: HeardState,
}

/// How a track is at present.
#[derive(Clone, Debug, PartialEq)]
pub struct HeardState {
    /// The publisher stopped it for now.
    pub muted: bool,
    /// The codec last seen, `None` before the first packet.
    pub codec: Option<Codec>,
    /// By encoding.
    pub layers: Vec<HeardLayer>,
    /// The encodings in ascending picture size: `ranks[0]` is the lowest layer's index.
    pub ranks: Vec<u8>,
}

/// One encoding of a track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeardLayer {
    /// Packets of it come in at present.
    pub live: bool,
    /// Picture width in pixels, 0 when unknown.
    pub width: u16,
    /// Picture height in pixels, 0 when unknown.
    pub height: u16,
    /// Bits per second over the last second.
    pub bitrate_bps: u64,
}

/// A decrypted packet.
#[derive(Clone, Debug, PartialEq)]
pub struct HeardPacket {
    /// Its track.
    pub track: TrackId,
    /// The encoding, an index into the layers of its state.
    pub encoding: u8,
    /// What it is coded in; redundant audio (RFC 2198) is unwrapped.
    pub codec: Codec,
    /// Extended sequence number as the publisher sent it.
    pub sequence: u64,
    /// Extended RTP timestamp as the publisher sent it.
    pub timestamp: u64,
    /// The RTP marker bit.
    pub marker: bool,
    /// When it came in, or would have, had it not been late.
    pub arrival: Instant,
    /// Loudness in -dBov (RFC 6464): 0 is loudest, 127 is silence.
    pub audio_level: Option<u8>,
    /// The payload, without padding.
    pub payload: Bytes,
}

/// What the program should know, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A track can be listened to, or is another than it was.
    Track(Box<HeardTrack>),
    /// How a track is at present.
    State {
        /// Which.
        track: TrackId,
        /// How.
        state: Box<HeardState>,
    },
    /// A track ended.
    Ended {
        /// Which.
        track: TrackId,
    },
    /// A packet of a track that was asked for.
    Packet(HeardPacket),
    /// A sender report (RFC 3550 §6.4.1) of an encoding that was asked for.
    Clock {
        /// The track.
        track: TrackId,
        /// The encoding.
        encoding: u8,
        /// The publisher's wall clock as 32.32 bits of NTP time.
        ntp: u64,
        /// The RTP timestamp of the same moment.
        rtp_timestamp: u32,
        /// When it came in.
        arrival: Instant,
    },
    /// Who speaks in a room.
    Speakers {
        /// The room.
        room: RoomId,
        /// Who has the word.
        dominant: Option<ParticipantId>,
        /// Who can be heard, loudest first.
        loudest: Vec<ParticipantId>,
    },
    /// Someone needs a keyframe of an own track.
    KeyframeWanted {
        /// Which.
        track: TrackId,
    },
    /// An own participant was told to leave; its tracks have ended.
    Removed {
        /// Who.
        participant: ParticipantId,
    },
    /// Whether the service lets an own track be heard: it was muted or unmuted.
    Muted {
        /// Which.
        track: TrackId,
        /// Nothing of it is forwarded.
        muted: bool,
    },
    /// A room ended; so did everything in it.
    RoomClosed {
        /// Which.
        room: RoomId,
    },
}

impl Annex {
    /// An annex that is nowhere yet, known to the shards by this number.
    pub fn new(index: u16) -> Self {
        Self {
            index,
            rooms: HashMap::new(),
            listened: HashMap::new(),
            own: HashMap::new(),
            next_track: 0,
            notices: VecDeque::new(),
            outbound: VecDeque::new(),
            heard: VecDeque::new(),
            events: VecDeque::new(),
            metrics: Metrics::default(),
        }
    }

    /// What a shard is to be told: which, and what. In order.
    pub fn poll_notice(&mut self) -> Option<(u16, Notice)> {
        self.notices.pop_front()
    }

    /// What the program should know next.
    pub fn poll_heard(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    /// What the service should know of own tracks next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes in what a shard says, in order.
    pub fn handle_notices(&mut self, from: u16, notices: impl IntoIterator<Item = Notice>) {
        for Notice(news) in notices {
            self.handle_news(from, news);
        }
    }

    fn handle_news(&mut self, from: u16, news: News) {
        match news {
            News::Restarted => self.forget_shard(from),
            News::Opened { room, is_answer } => self.handle_opened(from, room, is_answer),
            News::Introduced { room, shard } => self.ask_part(room, shard),
            News::Closed { room } => self.handle_closed(from, room),
            News::Track(track) => self.note_track(from, *track),
            News::State { track, state } => self.note_state(from, track, *state),
            News::Unpublished { track } => self.note_end(from, track),
            News::Flows { .. } => {}
            News::Clock(clock) => self.note_clock(from, &clock),
            News::Speakers(speakers) => self.note_speakers(from, speakers),
            News::Wanted {
                track,
                encodings,
                number,
            } => self.handle_wanted(from, track, encodings, number),
            News::KeyframeWanted { track, .. } => {
                if self.own.contains_key(&track) {
                    self.heard.push_back(Heard::KeyframeWanted { track });
                }
            }
            // It is nobody's home, and what it sends it sends in one codec.
            News::Levels { .. } | News::CodecWanted { .. } => {}
        }
    }

    fn tell(&mut self, to: u16, news: News) {
        self.notices.push_back((to, Notice(news)));
    }
}
