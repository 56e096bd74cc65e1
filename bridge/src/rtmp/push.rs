//! A program on its way to one server: the client's side of RTMP, a pure machine.
#![warn(clippy::indexing_slicing)]

mod program;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;

use crate::media::{AudioCodec, AudioConfig, AudioFrame, VideoCodec, VideoFrame};
use crate::rtmp::amf::{AmfError, Value, object};
use crate::rtmp::chunk::{ChunkError, ChunkReader, Limits, Message};
use crate::rtmp::handshake::{Handshake, HandshakeError};
use crate::rtmp::message::{Command, Outlet, kind, number};
use crate::rtmp::target::Target;
use program::Program;

/// What a server takes besides H264 and AAC, by Enhanced RTMP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takes {
    /// Opus.
    pub opus: bool,
    /// VP9.
    pub vp9: bool,
    /// AV1.
    pub av1: bool,
}

/// Why a program cannot be pushed to a target at all.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushRefused {
    /// There is only Opus and the target takes AAC: sending silence would hide it.
    #[error("aac_unavailable: the target takes AAC and this server was built without it")]
    AacUnavailable,
}

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushEvent {
    /// The server takes frames from now on.
    Live,
    /// The last.
    Ended(PushError),
}

/// Why a push ended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushError {
    /// There is no way to the server.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// It does not prove to be who it should be, or speaks no TLS.
    #[error("no secure connection to the server: {0}")]
    Tls(String),
    /// It does not speak RTMP.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// Its chunks are none.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// Its commands are none.
    #[error(transparent)]
    Amf(#[from] AmfError),
    /// It does not know the key, or wants another proof.
    #[error("the server does not accept the key: {0}")]
    Unauthorised(String),
    /// It says no.
    #[error("the server refuses: {0}")]
    Refused(String),
    /// It closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// It did not answer in time.
    #[error("the server did not let us publish within {} s", LIVE_TIME.as_secs())]
    TooSlow,
    /// It does not read what is sent.
    #[error("the server takes no data")]
    Stalled,
}

/// What a push has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushCounts {
    /// Pictures sent.
    pub pictures: u64,
    /// Sounds sent.
    pub sounds: u64,
    /// Frames from before the first key picture.
    pub dropped_early: u64,
    /// Frames in a codec the server does not take.
    pub dropped_codec: u64,
}

/// A connection to a server.
///
/// After each call of a method that takes something in, drain `poll_transmit` and `poll_event`.
pub struct Push {
    target: Target,
    reader: ChunkReader,
    outlet: Outlet,
    state: State,
    events: VecDeque<PushEvent>,
    program: Program,
    deadline: Option<Instant>,
}

enum State {
    Handshaking(Handshake),
    /// `connect` is sent.
    Connecting,
    /// `createStream` is sent.
    Creating,
    /// `publish` is sent on that stream.
    Publishing(u32),
    Live(u32),
    Ended,
}

impl Push {
    /// Begins with a connection that has just been made. With `has_video`, nothing is sent before the
    /// first key picture, or two seconds of sound without one. `seed` makes the handshake unlike others.
    pub fn new(
        now: Instant,
        target: Target,
        (has_video, audio): (bool, Option<Arc<AudioConfig>>),
        takes: Takes,
        seed: u64,
    ) -> Self {
        let mut outlet = Outlet::new();
        let handshake = Handshake::client(seed, outlet.raw());
        Self {
            target,
            reader: ChunkReader::new(LIMITS),
            outlet,
            state: State::Handshaking(handshake),
            events: VecDeque::new(),
            program: Program::new(has_video, audio, takes),
            deadline: Some(now + LIVE_TIME),
        }
    }

    /// Takes in what the server sent.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        if let Err(error) = self.take_in(bytes) {
            self.end(error);
        }
    }

    /// Ends what took too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.end(PushError::TooSlow);
        }
    }

    /// Sends a picture, if the server takes frames by now.
    pub fn send_video(&mut self, frame: &VideoFrame) {
        if let State::Live(stream) = self.state {
            let outlet = &mut self.outlet;
            self.program
                .send_video(frame, |send| outlet.message(send.0, &send.1.on(stream)));
        }
    }

    /// Sends a sound, if the server takes frames by now.
    pub fn send_audio(&mut self, frame: &AudioFrame) {
        if let State::Live(stream) = self.state {
            let outlet = &mut self.outlet;
            self.program
                .send_audio(frame, |send| outlet.message(send.0, &send.1.on(stream)));
        }
    }

    /// Tells the server that nothing more comes.
    pub fn finish(&mut self) {
        if let State::Live(stream) | State::Publishing(stream) = self.state {
            let key = Value::from(self.target.key.as_str());
            self.outlet
                .command(0, "FCUnpublish", 6.0, &[Value::Null, key]);
            let stream = Value::from(f64::from(stream));
            self.outlet
                .command(0, "deleteStream", 7.0, &[Value::Null, stream]);
        }
        self.state = State::Ended;
        self.deadline = None;
    }

    /// What is to be sent, in order.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.outlet.take()
    }

    /// What happened, in order.
    pub fn poll_event(&mut self) -> Option<PushEvent> {
        self.events.pop_front()
    }

    /// When `handle_timeout` is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// What it has counted.
    pub fn counts(&self) -> PushCounts {
        self.program.counts()
    }

    fn take_in(&mut self, mut bytes: &[u8]) -> Result<(), PushError> {
        if let State::Handshaking(handshake) = &mut self.state {
            if !handshake.read(&mut bytes, self.outlet.raw())? {
                return Ok(());
            }
            self.state = State::Connecting;
            self.connect();
        }
        self.outlet.count_received(bytes.len());
        while !matches!(self.state, State::Ended) {
            let Some(message) = self.reader.read(&mut bytes)? else {
                break;
            };
            self.handle_message(&message)?;
        }
        self.outlet.acknowledge();
        Ok(())
    }

    fn handle_message(&mut self, message: &Message) -> Result<(), PushError> {
        match message.kind {
            kind::SET_CHUNK_SIZE => {
                self.reader
                    .set_chunk_size(number(message).unwrap_or_default())?;
            }
            kind::ABORT => self.reader.abort(number(message).unwrap_or_default()),
            kind::COMMAND | kind::COMMAND_AMF3 => self.handle_command(&Command::read(message)?)?,
            _ => {
                self.outlet.answer(message);
            }
        }
        Ok(())
    }

    fn handle_command(&mut self, command: &Command) -> Result<(), PushError> {
        let is_error = command.name == "_error";
        match (command.name.as_str(), &self.state) {
            ("_result", State::Connecting) if command.transaction == CONNECT => self.create(),
            ("_result", State::Creating) if command.transaction == CREATE => self.publish(command),
            ("_error", State::Connecting) => return Err(self.refusal(command)),
            ("_error", State::Creating) if command.transaction == CREATE => {
                return Err(self.refusal(command));
            }
            ("onStatus", _) => return self.handle_status(command),
            ("close", _) => return Err(PushError::Closed),
            _ if is_error && command.transaction == PUBLISH => return Err(self.refusal(command)),
            _ => {}
        }
        Ok(())
    }

    fn handle_status(&mut self, command: &Command) -> Result<(), PushError> {
        let status = command.arguments.first();
        let field = |name| {
            status
                .and_then(|status| status.get(name))
                .and_then(Value::as_str)
        };
        let code = field("code").unwrap_or_default();
        match (&self.state, code) {
            (State::Publishing(stream), "NetStream.Publish.Start") => {
                self.state = State::Live(*stream);
                self.deadline = None;
                self.events.push_back(PushEvent::Live);
                Ok(())
            }
            (_, "NetStream.Unpublish.Success" | "NetConnection.Connect.Closed") => {
                Err(PushError::Closed)
            }
            _ if field("level") == Some("error") => Err(self.refusal(command)),
            _ => Ok(()),
        }
    }

    /// What the server says, without the key should it repeat that.
    fn refusal(&self, command: &Command) -> PushError {
        let status = command.arguments.iter().chain([&command.object]);
        let mut fields = status.filter_map(|value| {
            let field = |name| value.get(name).and_then(Value::as_str);
            let (code, description) = (field("code"), field("description"));
            (code.is_some() || description.is_some())
                .then(|| (code.unwrap_or_default(), description.unwrap_or_default()))
        });
        let (code, description) = fields.next().unwrap_or_default();
        let said = format!("{code} {description}").replace(&self.target.key, "(key)");
        let said: String = said
            .trim()
            .chars()
            .filter(|c| !c.is_control())
            .take(SAID_MAX)
            .collect();
        let lower = said.to_ascii_lowercase();
        let is_about_keys = ["denied", "auth", "403", "401"]
            .iter()
            .any(|word| lower.contains(word));
        if is_about_keys {
            PushError::Unauthorised(said)
        } else {
            PushError::Refused(said)
        }
    }

    fn connect(&mut self) {
        let address = self.target.tc_url();
        let connection = object([
            ("app", self.target.application.as_str().into()),
            ("type", "nonprivate".into()),
            // Some servers look for the name of an encoder they know.
            ("flashVer", "FMLE/3.0 (compatible; Plenum)".into()),
            ("swfUrl", address.as_str().into()),
            ("tcUrl", address.as_str().into()),
        ]);
        self.outlet.command(0, "connect", CONNECT, &[connection]);
    }

    fn create(&mut self) {
        let key = Value::from(self.target.key.as_str());
        self.outlet.set_chunk_size(CHUNK_SIZE);
        self.outlet
            .command(0, "releaseStream", 2.0, &[Value::Null, key.clone()]);
        self.outlet
            .command(0, "FCPublish", 3.0, &[Value::Null, key]);
        self.outlet
            .command(0, "createStream", CREATE, &[Value::Null]);
        self.state = State::Creating;
    }

    fn publish(&mut self, created: &Command) {
        let stream = created
            .arguments
            .first()
            .and_then(Value::as_number)
            .unwrap_or(1.0);
        // Numbers of streams are small; what is none becomes the one everybody uses.
        let stream = (1..=u32::from(u16::MAX))
            .find(|id| f64::from(*id) == stream)
            .unwrap_or(1);
        let key = Value::from(self.target.key.as_str());
        self.outlet.command(
            stream,
            "publish",
            PUBLISH,
            &[Value::Null, key, "live".into()],
        );
        self.state = State::Publishing(stream);
    }

    fn end(&mut self, error: PushError) {
        if !matches!(self.state, State::Ended) {
            self.state = State::Ended;
            self.deadline = None;
            self.events.push_back(PushEvent::Ended(error));
        }
    }
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl Takes {
    /// Whether sound of that kind is taken.
    pub(crate) fn audio(self, codec: AudioCodec) -> bool {
        match codec {
            AudioCodec::Aac => true,
            AudioCodec::Opus => self.opus,
        }
    }

    /// Whether pictures of that kind are taken.
    pub(crate) fn video(self, codec: VideoCodec) -> bool {
        match codec {
            VideoCodec::H264 => true,
            VideoCodec::Vp8 => false,
            VideoCodec::Vp9 => self.vp9,
            VideoCodec::Av1 => self.av1,
        }
    }
}

// What a server says is short, in chunks as large as it likes: they are not collected.
const LIMITS: Limits = Limits {
    chunk_size_max: 1 << 24,
    message_max: 65_536,
    held_max: 262_144,
};
const CHUNK_SIZE: u32 = 65_536;
const LIVE_TIME: Duration = Duration::from_secs(10);
const SAID_MAX: usize = 200;

const CONNECT: f64 = 1.0;
const CREATE: f64 = 4.0;
const PUBLISH: f64 = 5.0;
