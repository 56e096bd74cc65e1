//! What browsers send: frames in the payload formats of four codecs, each packet stamped with what it is.
//!
//! The stamp stands where coded data would, so that whoever receives a packet can tell exactly which
//! one it is and that not a byte of it changed.

use sfu::Codec;

/// What one packet carries, read back from its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Stamp {
    /// The section it was published on: browser number and mid.
    pub(crate) source: u16,
    /// Its simulcast layer, 0 is the lowest.
    pub(crate) encoding: u8,
    pub(crate) temporal: u8,
    pub(crate) frame: u32,
    /// Which packet of the frame, of how many.
    pub(crate) packet: u8,
    pub(crate) packets: u8,
    pub(crate) keyframe: bool,
    /// Extended sequence number it was published under.
    pub(crate) sequence: u32,
}

const STAMP_BYTES: usize = 20;

impl Stamp {
    fn write(&self, out: &mut Vec<u8>, filler_bytes: usize) {
        out.extend(b"PLNM");
        out.extend(self.source.to_be_bytes());
        out.extend([self.encoding, self.temporal]);
        out.extend(self.frame.to_be_bytes());
        out.extend([self.packet, self.packets, u8::from(self.keyframe), 0]);
        out.extend(self.sequence.to_be_bytes());
        out.extend((0..filler_bytes).map(|at| self.filler(at)));
    }

    fn read(bytes: &[u8]) -> Self {
        assert_eq!(&bytes[..4], b"PLNM", "stamp of {bytes:02x?}");
        let number =
            |at| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let stamp = Self {
            source: u16::from_be_bytes([bytes[4], bytes[5]]),
            encoding: bytes[6],
            temporal: bytes[7],
            frame: number(8),
            packet: bytes[12],
            packets: bytes[13],
            keyframe: bytes[14] == 1,
            sequence: number(16),
        };
        let filler = bytes[STAMP_BYTES..].iter().enumerate();
        for (at, byte) in filler {
            assert_eq!(*byte, stamp.filler(at), "byte {at} of {stamp:?}");
        }
        stamp
    }

    fn filler(&self, at: usize) -> u8 {
        (self.sequence as usize * 31 + at * 7 + usize::from(self.packet)) as u8
    }
}

/// The picture numbers of a VP8 payload descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vp8Numbers {
    pub(crate) picture_id: u16,
    pub(crate) tl0: u8,
}

/// Reads a payload back.
pub(crate) fn read_payload(codec: Codec, payload: &[u8]) -> (Stamp, Option<Vp8Numbers>) {
    match codec {
        Codec::Vp8 => {
            assert_eq!(payload[0] & 0x80, 0x80, "extended VP8 descriptor");
            assert_eq!(payload[1], 0xf0, "all VP8 fields");
            let id = u16::from_be_bytes([payload[2] & 0x7f, payload[3]]);
            let numbers = Vp8Numbers {
                picture_id: id,
                tl0: payload[4],
            };
            let mut data = &payload[6..];
            if payload[0] & 0x10 != 0 {
                data = &data[if data[0] & 1 == 0 { 10 } else { 3 }..];
            }
            (Stamp::read(data), Some(numbers))
        }
        Codec::H264 => {
            let start = match (payload[0] & 31, payload[1] & 0x80) {
                (28, 0x80) => 3,
                _ => 2,
            };
            (Stamp::read(&payload[start..]), None)
        }
        Codec::Vp9 => {
            let start = if payload[0] & 2 != 0 { 10 } else { 5 };
            (Stamp::read(&payload[start..]), None)
        }
        Codec::Opus => (Stamp::read(&payload[1..]), None),
        Codec::Av1 => panic!("AV1 is not simulated"),
    }
}

/// One packet's payload, ready for a header.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Vec<u8>,
    pub(crate) marker: bool,
    pub(crate) stamp: Stamp,
}

/// An encoder of one layer.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    pub(crate) codec: Codec,
    pub(crate) source: u16,
    pub(crate) encoding: u8,
    pub(crate) width: u16,
    pub(crate) height: u16,
    /// 1 to 3 temporal layers (VP8 and VP9).
    pub(crate) temporal_layers: u8,
    pub(crate) wants_keyframe: bool,
    /// Payload sizes of the packets of each frame, over and over, for measurements; empty: our own.
    pub(crate) sizes: Vec<Vec<usize>>,
    pub(crate) frame: u32,
    picture_id: u16,
    tl0: u8,
    sequence: u32,
}

impl Encoder {
    pub(crate) fn new(codec: Codec, source: u16, encoding: u8, start: u16) -> Self {
        let scale = 2u16.pow(u32::from(encoding));
        Self {
            codec,
            source,
            encoding,
            width: 320 * scale,
            height: 180 * scale,
            temporal_layers: 1,
            wants_keyframe: true,
            sizes: Vec::new(),
            frame: 0,
            picture_id: start.wrapping_mul(7) & 0x7fff,
            tl0: start as u8,
            sequence: u32::from(start & 0x7fff),
        }
    }

    /// Encodes the next picture or 20 ms of sound.
    pub(crate) fn encode(&mut self) -> Vec<Payload> {
        let keyframe = self.codec == Codec::Opus || std::mem::take(&mut self.wants_keyframe);
        let packets = match (self.codec, keyframe) {
            (Codec::Opus, _) => 1,
            _ if !self.sizes.is_empty() => self.sizes_now().len() as u8,
            (_, true) => 4 + 2 * self.encoding,
            (_, false) => 1 + self.encoding + u8::from(self.frame.is_multiple_of(5)),
        };
        let temporal = if keyframe { 0 } else { self.temporal() };
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        self.tl0 = self.tl0.wrapping_add(u8::from(temporal == 0));
        let payloads = (0..packets)
            .map(|packet| {
                let stamp = Stamp {
                    source: self.source,
                    encoding: self.encoding,
                    temporal,
                    frame: self.frame,
                    packet,
                    packets,
                    keyframe,
                    sequence: self.sequence,
                };
                self.sequence += 1;
                self.payload(stamp)
            })
            .collect();
        self.frame += 1;
        payloads
    }

    /// The given sizes of the present frame's packets.
    fn sizes_now(&self) -> &[usize] {
        let count = self.sizes.len().max(1);
        self.sizes
            .get(self.frame as usize % count)
            .map_or(&[], Vec::as_slice)
    }

    fn temporal(&self) -> u8 {
        match (self.temporal_layers, self.frame % 4) {
            (2, 1 | 3) | (3, 2) => 1,
            (3, 1 | 3) => 2,
            _ => 0,
        }
    }

    fn payload(&self, stamp: Stamp) -> Payload {
        let mut bytes = Vec::new();
        let (first, last) = (stamp.packet == 0, stamp.packet + 1 == stamp.packets);
        match self.codec {
            Codec::Vp8 => self.begin_vp8(&mut bytes, &stamp, first),
            Codec::H264 => {
                let unit = if stamp.keyframe { 5 } else { 1 };
                if stamp.packets == 1 {
                    bytes.extend([0x60 | unit, 0x80]);
                } else {
                    let marks = u8::from(first) << 7 | u8::from(last) << 6;
                    bytes.extend([0x7c, marks | unit]);
                    bytes.extend(first.then_some(0x80));
                }
            }
            Codec::Vp9 => self.begin_vp9(&mut bytes, &stamp, (first, last)),
            Codec::Opus => bytes.push(0x78),
            Codec::Av1 => panic!("AV1 is not simulated"),
        }
        let filler = match self.sizes_now().get(usize::from(stamp.packet)) {
            Some(length) => length.saturating_sub(bytes.len() + STAMP_BYTES),
            // As libwebrtc does it, the last packet of a frame is larger by one byte.
            None if self.codec == Codec::Opus => 60,
            None => 300 + usize::from(last),
        };
        stamp.write(&mut bytes, filler);
        Payload {
            bytes,
            marker: last && self.codec != Codec::Opus,
            stamp,
        }
    }

    fn begin_vp8(&self, bytes: &mut Vec<u8>, stamp: &Stamp, first: bool) {
        let [high, low] = self.picture_id.to_be_bytes();
        let is_sync = stamp.temporal > 0 && self.frame % 4 != 3;
        let layer = stamp.temporal << 6 | u8::from(is_sync) << 5 | 3;
        bytes.extend([0x80 | u8::from(first) << 4, 0xf0, high | 0x80, low]);
        bytes.extend([self.tl0, layer]);
        if first {
            bytes.extend([0x10 | u8::from(!stamp.keyframe), 0, 0]);
            if stamp.keyframe {
                bytes.extend([0x9d, 0x01, 0x2a]);
                bytes.extend(self.width.to_le_bytes());
                bytes.extend(self.height.to_le_bytes());
            }
        }
    }

    fn begin_vp9(&self, bytes: &mut Vec<u8>, stamp: &Stamp, (first, last): (bool, bool)) {
        let [high, low] = self.picture_id.to_be_bytes();
        let has_structure = first && stamp.keyframe;
        let flags = u8::from(!stamp.keyframe) << 6
            | u8::from(first) << 3
            | u8::from(last) << 2
            | u8::from(has_structure) << 1;
        let layer = stamp.temporal << 5 | 0x10;
        bytes.extend([0xa0 | flags, high | 0x80, low, layer, self.tl0]);
        if has_structure {
            bytes.push(0x10);
            bytes.extend(self.width.to_be_bytes());
            bytes.extend(self.height.to_be_bytes());
        }
    }
}
