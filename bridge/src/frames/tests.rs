mod codecs;
mod holes;
mod mutations;

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;

/// x264: constrained baseline, level 3.1, 1280x720.
const SPS: [u8; 25] = [
    0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10,
    0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x24, 0x80,
];
/// The same at 640x360.
const SPS_SMALL: [u8; 25] = [
    0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01,
    0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x18, 0x32, 0x48,
];
const PPS: [u8; 5] = [0x68, 0xcb, 0x83, 0xcb, 0x20];
/// The first slice of an IDR picture, and of one that refers to the picture before.
const IDR: [u8; 4] = [0x65, 0x88, 0x84, 0x21];
const INTER: [u8; 4] = [0x41, 0x9a, 0x24, 0x6c];

#[expect(clippy::disallowed_methods, reason = "where the virtual clock starts")]
fn start() -> Instant {
    Instant::now()
}

/// Numbers packets and feeds them, all at the same time unless told otherwise.
struct Feed {
    now: Instant,
    sequence: u64,
    timestamp: u64,
    assembler: Assembler,
}

impl Feed {
    fn new(coding: Coding) -> Self {
        Self {
            now: start(),
            sequence: 1 << 16,
            timestamp: 1 << 32,
            assembler: Assembler::new(coding, HOLE_WAIT),
        }
    }

    fn h264() -> Self {
        Self::new(Coding::Video(VideoCodec::H264))
    }

    /// Feeds the packets of one frame, the last of them with the marker.
    fn frame(&mut self, payloads: &[&[u8]]) -> Vec<Assembled> {
        self.timestamp += 3000;
        let mut frames = Vec::new();
        for (place, payload) in payloads.iter().enumerate() {
            frames.extend(self.packet(payload, place + 1 == payloads.len()));
        }
        frames
    }

    fn packet(&mut self, payload: &[u8], marker: bool) -> Vec<Assembled> {
        self.sequence += 1;
        let packet = Packet {
            sequence: self.sequence,
            timestamp: self.timestamp,
            marker,
            arrival: self.now,
            payload: Bytes::copy_from_slice(payload),
        };
        self.assembler.handle_packet(packet);
        self.drain()
    }

    fn drain(&mut self) -> Vec<Assembled> {
        std::iter::from_fn(|| self.assembler.poll_frame()).collect()
    }

    /// Feeds a frame that must become one.
    fn whole(&mut self, payloads: &[&[u8]]) -> Assembled {
        let mut frames = self.frame(payloads);
        assert_eq!(frames.len(), 1, "{:?}", self.assembler.last_refusal());
        frames.remove(0)
    }

    /// Feeds a frame that must be refused.
    fn refused(&mut self, payloads: &[&[u8]]) -> FrameError {
        let before = self.assembler.drops().refused;
        assert_eq!(self.frame(payloads), []);
        assert_eq!(self.assembler.drops().refused, before + 1);
        self.assembler.last_refusal().unwrap()
    }
}

fn stap_a(units: &[&[u8]]) -> Vec<u8> {
    let mut packet = vec![0x78];
    for unit in units {
        packet.extend_from_slice(&u16::try_from(unit.len()).unwrap().to_be_bytes());
        packet.extend_from_slice(unit);
    }
    packet
}

fn avcc(units: &[&[u8]]) -> Vec<u8> {
    let framed = units.iter().map(|unit| {
        let length = u32::try_from(unit.len()).unwrap().to_be_bytes();
        [&length[..], unit].concat()
    });
    framed.collect::<Vec<_>>().concat()
}
