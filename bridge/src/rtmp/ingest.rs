//! An encoder's connection, from its first byte to its last: a pure machine.
#![warn(clippy::indexing_slicing)]

mod commands;
mod tracks;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;

use crate::flv::{AacError, AvcError, TagError};
use crate::media::{AudioConfig, VideoConfig};
use crate::rtmp::amf::{AmfError, Value};
use crate::rtmp::chunk::{ChunkError, ChunkReader, Limits, Message};
use crate::rtmp::handshake::{Handshake, HandshakeError};
use crate::rtmp::key::KeyError;
use crate::rtmp::message::{Outlet, kind, number, status};
use tracks::Tracks;

/// Who asks to publish, and where.
#[derive(Clone, PartialEq, Eq)]
pub struct PublishRequest {
    /// The room.
    pub room: String,
    /// What is to let it in; not checked.
    pub token: Option<String>,
    /// Its address.
    pub peer: SocketAddr,
}

impl fmt::Debug for PublishRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("PublishRequest");
        shown
            .field("room", &self.room)
            .field("has_token", &self.token.is_some());
        shown.finish_non_exhaustive()
    }
}

/// What the encoder is told when it may not publish, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What encoders look at.
    pub code: RefusalCode,
    /// What people look at: why, and what to change.
    pub description: String,
}

/// Codes of `onStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// `NetStream.Publish.Denied`: the token does not let it in.
    Denied,
    /// `NetStream.Publish.BadName`: somebody publishes there, or there is no such place.
    BadName,
    /// `NetStream.Publish.Rejected`: what it sends is not carried.
    Rejected,
}

/// What comes out of a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// To be answered by [`Ingest::accept`] or [`Ingest::refuse`].
    PublishRequested(PublishRequest),
    /// Only after it was accepted.
    Media(Media),
    /// The last: send what is to be sent, and close.
    Ended(Ending),
}

/// What an encoder publishes. Times are the encoder's, in milliseconds, carried on over the wrap of their
/// 32 bits; they are the same clock for sound and pictures, and may jump if the encoder's do.
#[derive(Clone, Debug, PartialEq)]
pub enum Media {
    /// Before the first picture, and before one with other parameters.
    VideoConfig(Arc<VideoConfig>),
    /// A picture, the first being a key picture.
    Video {
        /// When it is decoded.
        dts_ms: i64,
        /// How much later it is shown; not 0 with B-frames.
        composition_ms: i32,
        /// An IDR picture.
        is_key: bool,
        /// As [`crate::media::VideoFrame::data`].
        data: Bytes,
    },
    /// Before the first sound, and before other sound.
    AudioConfig(Arc<AudioConfig>),
    /// An AAC packet.
    Audio {
        /// When it is heard.
        dts_ms: i64,
        /// Without framing.
        data: Bytes,
    },
    /// What the encoder says of itself.
    Metadata(Metadata),
    /// Pictures are shown in another order than they come, which WebRTC cannot carry. Said once;
    /// [`Refusal::b_frames`] says what to change.
    BFrames,
    /// It says that it is done: nobody needs to wait for it to come back.
    Unpublished,
}

/// What an encoder says of itself; all of it may be wrong.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// Its name.
    pub encoder: Option<String>,
    /// In pixels.
    pub width: Option<f64>,
    /// In pixels.
    pub height: Option<f64>,
    /// In pictures a second.
    pub frame_rate: Option<f64>,
    /// In kilobits a second.
    pub video_rate: Option<f64>,
    /// In kilobits a second.
    pub audio_rate: Option<f64>,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The encoder said that it is done.
    Unpublished,
    /// We said no, or no longer.
    Refused(Refusal),
    /// The encoder, or whoever it is, broke the rules.
    Failed(IngestError),
}

/// What ends a connection.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum IngestError {
    /// It is not RTMP.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// Its chunks are not.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// Its commands are not.
    #[error(transparent)]
    Amf(#[from] AmfError),
    /// A command far longer than any.
    #[error("a command of {0} bytes is not taken")]
    CommandTooLong(usize),
    /// It leads to no room.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Commands that do not fit to what was before.
    #[error("\"{0}\" came at the wrong time")]
    OutOfTurn(&'static str),
    /// Players are served elsewhere.
    #[error("streams are not played by RTMP; watch by HLS")]
    Play,
    /// It did not ask to publish in time.
    #[error("nothing was published within {} s", PUBLISH_TIME.as_secs())]
    TooSlow,
    /// It sent a lot before it was let in.
    #[error("more than {EARLY_BYTES_MAX} bytes came before anything was published")]
    TooEarly,
    /// It fell silent.
    #[error("nothing came for {} s", IDLE_TIME.as_secs())]
    Idle,
    /// Not H264 or AAC.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// No H264 we carry.
    #[error(transparent)]
    Avc(#[from] AvcError),
    /// No AAC we carry.
    #[error(transparent)]
    Aac(#[from] AacError),
}

/// What a connection has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngestCounts {
    /// Pictures given out.
    pub pictures: u64,
    /// Sounds given out.
    pub sounds: u64,
    /// Pictures, sounds and metadata dropped because they were broken, or needed one that was broken or missing.
    pub dropped_broken: u64,
    /// Pictures and sounds dropped because nothing had said how to decode them.
    pub dropped_early: u64,
    /// Times that were more than 5 s from the one before.
    pub jumps: u64,
}

/// An encoder's connection.
///
/// After each call of `handle_bytes`, `handle_timeout`, `accept` or `refuse`, drain `poll_transmit` and
/// `poll_event`. After [`Event::Ended`] it takes nothing more.
pub struct Ingest {
    peer: SocketAddr,
    handshake: Option<Handshake>,
    reader: ChunkReader,
    outlet: Outlet,
    state: State,
    events: VecDeque<Event>,
    tracks: Tracks,
    received_bytes: usize,
    deadline: Option<Instant>,
}

enum State {
    /// Until `connect`.
    New,
    /// Until `publish`.
    Connected {
        application: String,
    },
    /// Until the answer.
    Requested,
    Publishing,
    Ended,
}

impl Ingest {
    /// A connection that has just been made. `seed` makes the handshake unlike others.
    pub fn new(now: Instant, peer: SocketAddr, seed: u64) -> Self {
        Self {
            peer,
            handshake: Some(Handshake::server(seed)),
            reader: ChunkReader::new(LIMITS_EARLY),
            outlet: Outlet::new(),
            state: State::New,
            events: VecDeque::new(),
            tracks: Tracks::default(),
            received_bytes: 0,
            deadline: Some(now + PUBLISH_TIME),
        }
    }

    /// Takes in what came.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        if let Err(error) = self.take_in(now, bytes) {
            self.fail(error);
        }
    }

    /// Ends what took too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.fail(match self.state {
                State::Publishing => IngestError::Idle,
                _ => IngestError::TooSlow,
            });
        }
    }

    /// Lets the encoder publish. Does nothing unless it waits for that.
    pub fn accept(&mut self, now: Instant) {
        if !matches!(self.state, State::Requested) {
            return;
        }
        self.state = State::Publishing;
        self.deadline = Some(now + IDLE_TIME);
        self.reader.set_limits(LIMITS);
        self.outlet.control(kind::USER_CONTROL, &[0, 0, 0, 0, 0, 1]);
        let status = status("status", "NetStream.Publish.Start", "publishing");
        self.outlet
            .command(STREAM_ID, "onStatus", 0.0, &[Value::Null, status]);
    }

    /// Tells the encoder why it may not publish, or no longer, and ends.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.tell(refusal.code, &refusal.description);
        self.end(Ending::Refused(refusal));
    }

    /// What is to be sent, in order.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.outlet.take()
    }

    /// What happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// What it has counted.
    pub fn counts(&self) -> IngestCounts {
        self.tracks.counts
    }

    /// Bytes held of what is not yet whole.
    pub(crate) fn held_bytes(&self) -> usize {
        self.reader.held_bytes()
    }

    fn take_in(&mut self, now: Instant, mut bytes: &[u8]) -> Result<(), IngestError> {
        if bytes.is_empty() || matches!(self.state, State::Ended) {
            return Ok(());
        }
        self.received_bytes = self.received_bytes.saturating_add(bytes.len());
        match self.state {
            State::Publishing => self.deadline = Some(now + IDLE_TIME),
            _ if self.received_bytes > EARLY_BYTES_MAX => return Err(IngestError::TooEarly),
            _ => {}
        }
        if let Some(handshake) = &mut self.handshake {
            if !handshake.read(&mut bytes, self.outlet.raw())? {
                return Ok(());
            }
            self.handshake = None;
        }
        self.outlet.count_received(bytes.len());
        while let Some(message) = self.reader.read(&mut bytes)? {
            self.handle_message(&message)?;
            if matches!(self.state, State::Ended) {
                return Ok(());
            }
        }
        self.outlet.acknowledge();
        Ok(())
    }

    fn handle_message(&mut self, message: &Message) -> Result<(), IngestError> {
        match message.kind {
            kind::SET_CHUNK_SIZE => {
                self.reader
                    .set_chunk_size(number(message).unwrap_or_default())?;
            }
            kind::ABORT => self.reader.abort(number(message).unwrap_or_default()),
            kind::COMMAND | kind::COMMAND_AMF3 => self.handle_command(message)?,
            // Not looked at before the key was.
            _ if !matches!(self.state, State::Publishing) => {
                self.outlet.answer(message);
            }
            kind::DATA | kind::DATA_AMF3 | kind::AUDIO | kind::VIDEO | kind::AGGREGATE => {
                let Self { tracks, events, .. } = self;
                tracks.handle_message(message, |media| events.push_back(Event::Media(media)))?;
            }
            _ => {
                self.outlet.answer(message);
            }
        }
        Ok(())
    }

    /// Tells the encoder why, as far as it can be told, and ends.
    fn fail(&mut self, error: IngestError) {
        let code = match error {
            IngestError::Key(_) => RefusalCode::BadName,
            _ => RefusalCode::Rejected,
        };
        if self.handshake.is_none() {
            self.tell(code, &error.to_string());
        }
        self.end(Ending::Failed(error));
    }

    fn tell(&mut self, code: RefusalCode, description: &str) {
        if matches!(self.state, State::Ended) {
            return;
        }
        let status = status("error", code.as_str(), description);
        self.outlet
            .command(STREAM_ID, "onStatus", 0.0, &[Value::Null, status]);
    }

    fn end(&mut self, ending: Ending) {
        if !matches!(self.state, State::Ended) {
            self.state = State::Ended;
            self.deadline = None;
            self.events.push_back(Event::Ended(ending));
        }
    }
}

impl fmt::Debug for Ingest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ingest")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl Refusal {
    /// For whom B-frames cannot be carried.
    pub fn b_frames() -> Self {
        let description = "B-frames are not carried; set them to 0 in the encoder \
            (OBS: max B-frames 0 or tune zerolatency; ffmpeg: -bf 0)";
        Self {
            code: RefusalCode::Rejected,
            description: description.to_owned(),
        }
    }
}

impl RefusalCode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "NetStream.Publish.Denied",
            Self::BadName => "NetStream.Publish.BadName",
            Self::Rejected => "NetStream.Publish.Rejected",
        }
    }
}

const LIMITS: Limits = Limits {
    chunk_size_max: 65_536,
    message_max: 4 << 20,
    held_max: 8 << 20,
};
// What may be claimed before a key is checked is what may be sent.
const LIMITS_EARLY: Limits = Limits {
    held_max: EARLY_BYTES_MAX,
    ..LIMITS
};
/// Of everything before publishing is accepted; of a command at any time.
const EARLY_BYTES_MAX: usize = 65_536;
const PUBLISH_TIME: Duration = Duration::from_secs(10);
const IDLE_TIME: Duration = Duration::from_secs(10);
/// The one message stream there is.
const STREAM_ID: u32 = 1;
