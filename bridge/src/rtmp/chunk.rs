//! Chunks: how messages share one connection (Adobe's RTMP 1.0 §5.3).
//!
//! ```text
//! basic header (1-3 bytes) | message header (11, 7, 3 or 0) | extended timestamp (0 or 4) | data
//! ```
#![warn(clippy::indexing_slicing)]

use bytes::Bytes;
use thiserror::Error;

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its type id, see `message.rs`.
    pub(crate) kind: u8,
    /// The message stream; 0 is the connection itself.
    pub(crate) stream_id: u32,
    /// Milliseconds, which wrap.
    pub(crate) timestamp: u32,
    /// What it says.
    pub(crate) payload: Bytes,
}

/// How much a peer may make us hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Of a chunk, in bytes.
    pub(crate) chunk_size_max: usize,
    /// Of a message, in bytes.
    pub(crate) message_max: usize,
    /// Of all messages that have begun, in bytes.
    pub(crate) held_max: usize,
}

/// Why bytes are no chunks we take.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChunkError {
    /// The size is 0 or over the limit.
    #[error("chunks of {0} bytes are not taken")]
    ChunkSize(u32),
    /// The message is longer than the limit.
    #[error("a message of {0} bytes is not taken")]
    MessageTooLong(usize),
    /// All that has begun together is longer than the limit.
    #[error("unfinished messages take too much memory")]
    HeldTooMuch,
    /// More chunk streams than an encoder needs.
    #[error("there are more than {STREAMS_MAX} chunk streams")]
    TooManyStreams,
    /// A header that repeats what was never said.
    #[error("a chunk continues what did not begin")]
    NoBeginning,
    /// A message begins on a chunk stream before the one there has ended.
    #[error("a message begins within another of the same chunk stream")]
    Interrupted,
}

/// Puts messages together from chunks, however they are interleaved and wherever the bytes are cut.
///
/// Memory grows as bytes come, never by what a header claims.
#[derive(Debug)]
pub(crate) struct ChunkReader {
    limits: Limits,
    chunk_size: usize,
    streams: Vec<Stream>,
    /// The bytes of a header that are there so far.
    header: Vec<u8>,
    /// At most three bytes that were taken for part of a header and come before all others.
    carry: Vec<u8>,
    /// Where data goes that follows a header, and how much of the chunk is missing.
    data: Option<(usize, usize)>,
}

#[derive(Debug, Default)]
struct Stream {
    id: u32,
    timestamp: u32,
    /// What the last header said: a time, or how much later.
    delta: u32,
    is_extended: bool,
    kind: u8,
    length: usize,
    stream_id: u32,
    has_begun: bool,
    partial: Vec<u8>,
}

/// A header that is complete.
struct Header {
    form: u8,
    stream: u32,
    /// Of the whole of it, in bytes.
    length: usize,
    time: u32,
    is_extended: bool,
    /// Length and type of the message.
    message: Option<(usize, u8)>,
    message_stream: Option<u32>,
}

impl ChunkReader {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            chunk_size: CHUNK_SIZE_FIRST,
            streams: Vec::new(),
            header: Vec::new(),
            carry: Vec::new(),
            data: None,
        }
    }

    /// Takes from `bytes` until a message is whole; `None` when they are used up.
    ///
    /// # Errors
    /// The peer breaks the protocol or a limit; nothing that follows can be understood.
    pub(crate) fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<Message>, ChunkError> {
        loop {
            let message = if !self.carry.is_empty() {
                let carry = std::mem::take(&mut self.carry);
                let mut rest = carry.as_slice();
                let message = self.read_some(&mut rest)?;
                self.carry.extend_from_slice(rest);
                message
            } else if !bytes.is_empty() {
                self.read_some(bytes)?
            } else {
                return Ok(None);
            };
            if message.is_some() {
                return Ok(message);
            }
        }
    }

    /// From the next chunk on.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The peer's chunks are so large from the next one on.
    ///
    /// # Errors
    /// No size, or one over the limit.
    pub(crate) fn set_chunk_size(&mut self, size: u32) -> Result<(), ChunkError> {
        let wanted = usize::try_from(size).unwrap_or(usize::MAX);
        if wanted == 0 || wanted > self.limits.chunk_size_max {
            return Err(ChunkError::ChunkSize(size));
        }
        self.chunk_size = wanted;
        Ok(())
    }

    /// The rest of the message that has begun on that chunk stream does not come.
    pub(crate) fn abort(&mut self, chunk_stream: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|s| s.id == chunk_stream) {
            stream.partial = Vec::new();
            stream.has_begun = false;
        }
    }

    /// Bytes of messages that have begun.
    pub(crate) fn held_bytes(&self) -> usize {
        self.streams.iter().map(|stream| stream.partial.len()).sum()
    }

    /// A header, if none has been read, and the data that follows it as far as it is there.
    fn read_some(&mut self, bytes: &mut &[u8]) -> Result<Option<Message>, ChunkError> {
        let Some((index, missing)) = self.data else {
            self.read_header(bytes)?;
            return Ok(match self.data {
                Some((index, 0)) => self.finish(index),
                _ => None,
            });
        };
        let (data, rest) = bytes.split_at(missing.min(bytes.len()));
        *bytes = rest;
        if self.held_bytes() + data.len() > self.limits.held_max {
            return Err(ChunkError::HeldTooMuch);
        }
        let stream = self.streams.get_mut(index).ok_or(ChunkError::NoBeginning)?;
        stream.partial.extend_from_slice(data);
        let missing = missing - data.len();
        self.data = Some((index, missing));
        Ok(if missing == 0 {
            self.finish(index)
        } else {
            None
        })
    }

    /// Ends a chunk, and the message if that was its last.
    fn finish(&mut self, index: usize) -> Option<Message> {
        self.data = None;
        let stream = self.streams.get_mut(index)?;
        if stream.partial.len() < stream.length {
            return None;
        }
        stream.has_begun = false;
        Some(Message {
            kind: stream.kind,
            stream_id: stream.stream_id,
            timestamp: stream.timestamp,
            payload: std::mem::take(&mut stream.partial).into(),
        })
    }

    /// Reads on in a header; what comes next is the data of its chunk stream once it is complete.
    fn read_header(&mut self, bytes: &mut &[u8]) -> Result<(), ChunkError> {
        let begun = self.header.len();
        let (head, _) = bytes.split_at(bytes.len().min(HEADER_MAX));
        self.header.extend_from_slice(head);
        let Some(header) = Header::parse(&self.header, &self.streams) else {
            // So many bytes are never an incomplete header: all there are were taken.
            *bytes = bytes.get(head.len()..).unwrap_or_default();
            return Ok(());
        };
        // What looked like the beginning of an extended timestamp may turn out to be data.
        let data = self.header.get(header.length..begun).unwrap_or_default();
        self.carry = data.to_vec();
        *bytes = bytes
            .get(header.length.saturating_sub(begun)..)
            .unwrap_or_default();
        self.header.clear();
        let index = self.stream(header.stream)?;
        let limits = self.limits;
        let stream = self.streams.get_mut(index).ok_or(ChunkError::NoBeginning)?;
        stream.begin(&header, limits)?;
        let missing = stream.length.saturating_sub(stream.partial.len());
        self.data = Some((index, missing.min(self.chunk_size)));
        Ok(())
    }

    fn stream(&mut self, id: u32) -> Result<usize, ChunkError> {
        if let Some(index) = self.streams.iter().position(|stream| stream.id == id) {
            return Ok(index);
        }
        if self.streams.len() >= STREAMS_MAX {
            return Err(ChunkError::TooManyStreams);
        }
        self.streams.push(Stream {
            id,
            ..Stream::default()
        });
        Ok(self.streams.len() - 1)
    }
}

impl Stream {
    /// Takes in what a header says of the message it begins or continues.
    fn begin(&mut self, header: &Header, limits: Limits) -> Result<(), ChunkError> {
        if self.has_begun {
            // Only a header without fields continues a message.
            return if header.form == 3 {
                Ok(())
            } else {
                Err(ChunkError::Interrupted)
            };
        }
        if let Some((length, kind)) = header.message {
            (self.length, self.kind) = (length, kind);
        } else if self.kind == 0 {
            return Err(ChunkError::NoBeginning);
        }
        if self.length > limits.message_max {
            return Err(ChunkError::MessageTooLong(self.length));
        }
        if let Some(stream_id) = header.message_stream {
            self.stream_id = stream_id;
        }
        self.timestamp = match header.form {
            0 => header.time,
            _ => self.timestamp.wrapping_add(header.time),
        };
        (self.delta, self.is_extended) = (header.time, header.is_extended);
        self.has_begun = true;
        Ok(())
    }
}

impl Header {
    /// `None`: there are too few bytes.
    fn parse(bytes: &[u8], streams: &[Stream]) -> Option<Self> {
        let (&first, rest) = bytes.split_first()?;
        let form = first >> 6;
        let (stream, rest) = match first & 0x3f {
            0 => rest
                .split_first()
                .map(|(&low, rest)| (64 + u32::from(low), rest))?,
            1 => rest
                .split_first_chunk::<2>()
                .map(|(id, rest)| (64 + u32::from(u16::from_le_bytes(*id)), rest))?,
            id => (u32::from(id), rest),
        };
        let known = streams.iter().find(|known| known.id == stream);
        let (fields, rest) = rest.split_at_checked(FIELDS.get(usize::from(form)).copied()?)?;
        let time = fields.first_chunk::<3>().map(|bytes| u24(*bytes));
        let is_extended = match time {
            Some(time) => time == EXTENDED,
            None => known.is_some_and(|known| known.is_extended),
        };
        let (time, rest) = if is_extended {
            extended(rest, known.filter(|_| form == 3))?
        } else {
            (time.or(known.map(|known| known.delta)).unwrap_or(0), rest)
        };
        let message = fields.get(3..7).and_then(|field| {
            let (length, kind) = field.split_first_chunk::<3>()?;
            Some((usize::try_from(u24(*length)).ok()?, *kind.first()?))
        });
        let message_stream = fields.get(7..).and_then(<[u8]>::first_chunk);
        Some(Self {
            form,
            stream,
            length: bytes.len() - rest.len(),
            time,
            is_extended,
            message,
            message_stream: message_stream.map(|id| u32::from_le_bytes(*id)),
        })
    }
}

/// The extended timestamp and what follows it.
///
/// A chunk that continues a message repeats it, but some encoders leave that out: it is data then.
fn extended<'a>(rest: &'a [u8], continued: Option<&Stream>) -> Option<(u32, &'a [u8])> {
    let (time, after) = rest.split_first_chunk::<4>()?;
    let time = u32::from_be_bytes(*time);
    match continued {
        Some(stream) if stream.has_begun && stream.delta != time => Some((stream.delta, rest)),
        _ => Some((time, after)),
    }
}

/// Cuts messages into chunks.
#[derive(Debug)]
pub(crate) struct ChunkWriter {
    chunk_size: usize,
    /// Of each chunk stream: message stream and time of the last message.
    last: Vec<(u8, u32, u32)>,
}

impl ChunkWriter {
    pub(crate) fn new() -> Self {
        Self {
            chunk_size: CHUNK_SIZE_FIRST,
            last: Vec::new(),
        }
    }

    /// Our chunks are so large from the next one on; the peer has been told.
    pub(crate) fn set_chunk_size(&mut self, size: u32) {
        self.chunk_size = usize::try_from(size).unwrap_or(CHUNK_SIZE_FIRST).max(1);
    }

    /// Appends a message on chunk stream 2 to 63. One of 16 MiB or more, which nobody makes, is left out.
    pub(crate) fn write(&mut self, chunk_stream: u8, message: &Message, out: &mut Vec<u8>) {
        let Ok(length) = u32::try_from(message.payload.len()) else {
            return;
        };
        let [0, length @ ..] = length.to_be_bytes() else {
            return;
        };
        let (form, time) = self.form(chunk_stream, message);
        let extended = (time >= EXTENDED).then(|| time.to_be_bytes());
        let [_, field @ ..] = time.min(EXTENDED).to_be_bytes();
        out.push(form << 6 | chunk_stream);
        out.extend_from_slice(&field);
        out.extend_from_slice(&length);
        out.push(message.kind);
        if form == 0 {
            out.extend_from_slice(&message.stream_id.to_le_bytes());
        }
        out.extend_from_slice(extended.as_ref().map_or(&[], |time| time));
        for (place, data) in message.payload.chunks(self.chunk_size).enumerate() {
            if place > 0 {
                out.push(3 << 6 | chunk_stream);
                out.extend_from_slice(extended.as_ref().map_or(&[], |time| time));
            }
            out.extend_from_slice(data);
        }
    }

    /// A whole header with the time, or one with how much later; never the shorter ones, which
    /// implementations understand differently.
    fn form(&mut self, chunk_stream: u8, message: &Message) -> (u8, u32) {
        let now = (chunk_stream, message.stream_id, message.timestamp);
        let Some(last) = self.last.iter_mut().find(|last| last.0 == chunk_stream) else {
            self.last.push(now);
            return (0, message.timestamp);
        };
        let before = std::mem::replace(last, now);
        let later = message.timestamp.wrapping_sub(before.2);
        if before.1 == message.stream_id && later < EXTENDED {
            (1, later)
        } else {
            (0, message.timestamp)
        }
    }
}

fn u24([a, b, c]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}

/// Both sides begin with it.
const CHUNK_SIZE_FIRST: usize = 128;
const EXTENDED: u32 = 0xff_ffff;
// Encoders use three to six.
const STREAMS_MAX: usize = 16;
const FIELDS: [usize; 4] = [11, 7, 3, 0];
const HEADER_MAX: usize = 3 + 11 + 4;

#[cfg(test)]
mod tests;
