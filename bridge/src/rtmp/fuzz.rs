//! Plain functions for fuzzing: any bytes, no panic, and memory by what came only.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use super::amf;
use super::chunk::{ChunkReader, Limits};
use super::ingest::{Event, Ingest};

/// Chunks, with sizes and aborts taken from the data.
pub fn rtmp_chunk(bytes: &[u8]) {
    let limits = Limits {
        chunk_size_max: 65_536,
        message_max: 1 << 20,
        held_max: 1 << 20,
    };
    let mut reader = ChunkReader::new(limits);
    let mut rest = bytes;
    while let Ok(Some(message)) = reader.read(&mut rest) {
        let number = message
            .payload
            .first_chunk()
            .map_or(0, |bytes| u32::from_be_bytes(*bytes));
        match message.kind {
            1 => drop(reader.set_chunk_size(number)),
            2 => reader.abort(number),
            _ => {}
        }
        assert!(reader.held_bytes() <= bytes.len());
    }
}

/// The values of a message.
pub fn amf0(bytes: &[u8]) {
    let _ = amf::read_all(bytes);
}

/// A connection after its handshake, let in whenever it asks; the first byte says how the rest is cut.
pub fn ingest(now: Instant, bytes: &[u8]) {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let mut ingest = Ingest::new(now, peer, 1);
    ingest.handle_bytes(now, &[3; 1 + 2 * 1536]);
    let (cut, rest) = bytes
        .split_first()
        .map_or((1, bytes), |(cut, rest)| (*cut, rest));
    for piece in rest.chunks(usize::from(cut).max(1) * 7) {
        ingest.handle_bytes(now, piece);
        while let Some(event) = ingest.poll_event() {
            match event {
                Event::PublishRequested(_) => ingest.accept(now),
                Event::Ended(_) => return,
                Event::Media(_) => {}
            }
        }
        while ingest.poll_transmit().is_some() {}
        assert!(ingest.held_bytes() <= bytes.len());
    }
}
