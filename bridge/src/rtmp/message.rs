//! Messages: protocol control, commands and media (Adobe's RTMP 1.0 §5.4, §6, §7).
#![warn(clippy::indexing_slicing)]

use bytes::Bytes;

use crate::rtmp::amf::{self, AmfError, Value};
use crate::rtmp::chunk::{ChunkWriter, Message};

/// Type ids of messages.
pub(crate) mod kind {
    pub(crate) const SET_CHUNK_SIZE: u8 = 1;
    pub(crate) const ABORT: u8 = 2;
    pub(crate) const ACKNOWLEDGEMENT: u8 = 3;
    pub(crate) const USER_CONTROL: u8 = 4;
    pub(crate) const WINDOW_SIZE: u8 = 5;
    pub(crate) const PEER_BANDWIDTH: u8 = 6;
    pub(crate) const AUDIO: u8 = 8;
    pub(crate) const VIDEO: u8 = 9;
    pub(crate) const DATA_AMF3: u8 = 15;
    pub(crate) const COMMAND_AMF3: u8 = 17;
    pub(crate) const DATA: u8 = 18;
    pub(crate) const COMMAND: u8 = 20;
    pub(crate) const AGGREGATE: u8 = 22;
}

/// A command with its arguments: `name, transaction, object, arguments…`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Command {
    pub(crate) name: String,
    /// What an answer is to repeat; 0: none is wanted.
    pub(crate) transaction: f64,
    pub(crate) object: Value,
    pub(crate) arguments: Vec<Value>,
}

/// The side of a connection both machines share: chunks out, acknowledgements, pings.
#[derive(Debug)]
pub(crate) struct Outlet {
    writer: ChunkWriter,
    out: Vec<u8>,
    received: u64,
    acknowledged: u64,
    /// How many bytes the peer may send before it wants an acknowledgement.
    window: u64,
}

impl Command {
    /// # Errors
    /// It is no AMF0. What is missing reads as empty, 0 or null.
    pub(crate) fn read(message: &Message) -> Result<Self, AmfError> {
        let mut values = amf::read_all(body(message))?.into_iter();
        let name = values.next();
        let transaction = values.next();
        Ok(Self {
            name: name
                .as_ref()
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            transaction: transaction
                .as_ref()
                .and_then(Value::as_number)
                .unwrap_or_default(),
            object: values.next().unwrap_or(Value::Null),
            arguments: values.collect(),
        })
    }

    /// Its argument at that place, if it is a string.
    pub(crate) fn string(&self, place: usize) -> Option<&str> {
        self.arguments.get(place).and_then(Value::as_str)
    }
}

/// What is AMF0 in a message: those of type AMF3 have a 0 before it that says so.
pub(crate) fn body(message: &Message) -> &[u8] {
    match (message.kind, message.payload.split_first()) {
        (kind::COMMAND_AMF3 | kind::DATA_AMF3, Some((0, rest))) => rest,
        _ => &message.payload,
    }
}

/// The number a control message begins with.
pub(crate) fn number(message: &Message) -> Option<u32> {
    message
        .payload
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes))
}

impl Outlet {
    pub(crate) fn new() -> Self {
        Self {
            writer: ChunkWriter::new(),
            out: Vec::new(),
            received: 0,
            acknowledged: 0,
            window: u64::from(WINDOW_BYTES),
        }
    }

    /// What is to be sent, once.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| std::mem::take(&mut self.out).into())
    }

    /// Where bytes go that are no chunks.
    pub(crate) fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// So many bytes came: acknowledges them if it is time to.
    pub(crate) fn count_received(&mut self, bytes: usize) {
        self.received += u64::try_from(bytes).unwrap_or(0);
    }

    /// Tells the peer how much came, if it waits for that. At most once for what came at a time.
    pub(crate) fn acknowledge(&mut self) {
        if self.received - self.acknowledged >= self.window {
            self.acknowledged = self.received;
            // The sequence number wraps (§5.4.3).
            let [_, _, _, _, sequence @ ..] = self.received.to_be_bytes();
            self.control(kind::ACKNOWLEDGEMENT, &sequence);
        }
    }

    /// Answers what every peer may ask for; whether the message was of that kind.
    pub(crate) fn answer(&mut self, message: &Message) -> bool {
        match message.kind {
            kind::WINDOW_SIZE => {
                self.window = number(message).map_or(self.window, u64::from).max(1);
            }
            kind::PEER_BANDWIDTH => {
                // A wish for smaller windows of what we send; ours says nothing new (§5.4.5).
                let size = number(message).unwrap_or(WINDOW_BYTES);
                self.control(kind::WINDOW_SIZE, &size.to_be_bytes());
            }
            kind::USER_CONTROL => {
                if let Some(&[0, PING, a, b, c, d]) = message.payload.first_chunk() {
                    self.control(kind::USER_CONTROL, &[0, PONG, a, b, c, d]);
                }
            }
            kind::ACKNOWLEDGEMENT => {}
            _ => return false,
        }
        true
    }

    /// Tells the peer of our chunks' size and cuts by it from now on.
    pub(crate) fn set_chunk_size(&mut self, size: u32) {
        self.control(kind::SET_CHUNK_SIZE, &size.to_be_bytes());
        self.writer.set_chunk_size(size);
    }

    pub(crate) fn control(&mut self, kind: u8, payload: &[u8]) {
        self.message(
            CONTROL,
            &Message {
                kind,
                stream_id: 0,
                timestamp: 0,
                payload: Bytes::copy_from_slice(payload),
            },
        );
    }

    /// Sends a command, or an answer to one, on that message stream.
    pub(crate) fn command(
        &mut self,
        stream_id: u32,
        name: &str,
        transaction: f64,
        values: &[Value],
    ) {
        let mut payload = Vec::new();
        Value::from(name).write(&mut payload);
        Value::from(transaction).write(&mut payload);
        values.iter().for_each(|value| value.write(&mut payload));
        let chunk_stream = if stream_id == 0 {
            COMMANDS
        } else {
            STREAM_COMMANDS
        };
        self.message(
            chunk_stream,
            &Message {
                kind: kind::COMMAND,
                stream_id,
                timestamp: 0,
                payload: payload.into(),
            },
        );
    }

    pub(crate) fn message(&mut self, chunk_stream: u8, message: &Message) {
        self.writer.write(chunk_stream, message, &mut self.out);
    }
}

/// An object as `onStatus` and answers to `connect` carry it.
pub(crate) fn status(level: &str, code: &str, description: &str) -> Value {
    amf::object([
        ("level", level.into()),
        ("code", code.into()),
        ("description", description.into()),
    ])
}

/// Chunk streams, as other programs use them.
const CONTROL: u8 = 2;
const COMMANDS: u8 = 3;
const STREAM_COMMANDS: u8 = 8;
/// Of metadata.
pub(crate) const DATA_CHUNKS: u8 = 5;
/// Of sound.
pub(crate) const AUDIO_CHUNKS: u8 = 4;
/// Of pictures.
pub(crate) const VIDEO_CHUNKS: u8 = 6;

/// Bytes between acknowledgements, as other servers have it.
pub(crate) const WINDOW_BYTES: u32 = 2_500_000;
const PING: u8 = 6;
const PONG: u8 = 7;
