//! Synthetic media: RTP payloads made by hand, each stamped so that its receiver can verify it.
//!
//! A payload is what a real encoder would make as far as a forwarder looks into it (payload
//! descriptor, keyframe header, NAL unit types), then a [`Stamp`], then filler the stamp determines.

use std::time::{SystemTime, UNIX_EPOCH};

pub mod captured;
mod payload;
mod stamp;

pub use payload::{Parsed, parse};
pub use stamp::{STAMP_BYTES, Stamp};

/// The codecs a synthetic track can pretend to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// RFC 7587, payload type 111.
    Opus,
    /// RFC 7741, payload type 96.
    Vp8,
    /// RFC 6184 with packetization mode 1, payload type 125.
    H264,
    /// AOMedia, "RTP Payload Format For AV1", payload type 45.
    Av1,
}

impl Codec {
    /// The payload type our own offers give it.
    pub const fn payload_type(self) -> u8 {
        match self {
            Self::Opus => 111,
            Self::Vp8 => 96,
            Self::H264 => 125,
            Self::Av1 => 45,
        }
    }

    /// The codec of a payload type of our own offers.
    pub const fn of(payload_type: u8) -> Option<Self> {
        match payload_type {
            111 => Some(Self::Opus),
            96 => Some(Self::Vp8),
            125 => Some(Self::H264),
            45 => Some(Self::Av1),
            _ => None,
        }
    }

    /// The payload type of its retransmissions (RFC 4588) in our own offers.
    pub const fn rtx_payload_type(self) -> Option<u8> {
        match self {
            Self::Opus => None,
            Self::Vp8 => Some(97),
            Self::H264 => Some(105),
            Self::Av1 => Some(46),
        }
    }

    /// RTP clock ticks between two frames: 20 ms of sound, 1/30 s of pictures.
    pub const fn frame_ticks(self) -> u32 {
        match self {
            Self::Opus => 960,
            Self::Vp8 | Self::H264 | Self::Av1 => 3000,
        }
    }

    /// True for pictures.
    pub const fn is_video(self) -> bool {
        !matches!(self, Self::Opus)
    }
}

/// Microseconds since the epoch, the clock of [`Stamp::sent_us`].
pub fn now_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// One packet of a frame, without its RTP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Descriptor, codec header, stamp, filler.
    pub bytes: Vec<u8>,
    /// The RTP marker: last packet of a picture.
    pub marker: bool,
}

/// What an [`Encoder`] pretends to encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels, written into VP8 keyframes.
    pub width: u16,
    /// Height in pixels, written into VP8 keyframes.
    pub height: u16,
    /// Packets a picture is split into; the last one is a byte larger, as libwebrtc splits.
    pub packets: u8,
    /// Bytes of one payload.
    pub packet_bytes: u16,
    /// Temporal layers, 1 or 2 (VP8 only): every second picture is in the upper one.
    pub temporal_layers: u8,
}

impl Picture {
    /// The lowest of three layers: 320x180.
    pub const LOW: Self = Self {
        width: 320,
        height: 180,
        packets: 3,
        packet_bytes: 300,
        temporal_layers: 1,
    };
    /// The middle of three layers: 640x360.
    pub const MIDDLE: Self = Self {
        width: 640,
        height: 360,
        packets: 3,
        packet_bytes: 700,
        temporal_layers: 1,
    };
    /// The highest of three layers, and the only one without simulcast: 1280x720.
    pub const HIGH: Self = Self {
        width: 1280,
        height: 720,
        packets: 4,
        packet_bytes: 1100,
        temporal_layers: 1,
    };
}

/// Makes the frames of one layer of one track.
#[derive(Clone, Debug)]
pub struct Encoder {
    codec: Codec,
    picture: Picture,
    publisher: u32,
    source: u8,
    layer: u8,
    frames: u32,
    picture_id: u16,
    tl0_index: u8,
}

/// A frame whose packets are being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    number: u32,
    keyframe: bool,
    upper: bool,
    count: u8,
}

impl Encoder {
    /// An encoder whose stamps name `publisher`, its `source`th track and that track's `layer`.
    pub fn new(codec: Codec, picture: Picture, (publisher, source, layer): (u32, u8, u8)) -> Self {
        // Starts near the wrap so that every run crosses it.
        let picture_id = 0x7fff - 20;
        Self {
            codec,
            picture,
            publisher,
            source,
            layer,
            frames: 0,
            picture_id,
            tl0_index: 250,
        }
    }

    /// How many frames were made.
    pub const fn frames(&self) -> u32 {
        self.frames
    }

    /// Makes the next frame, all of it now; sound knows no keyframes.
    pub fn frame(&mut self, keyframe: bool) -> Vec<Payload> {
        let (count, bytes) = match self.codec {
            Codec::Opus => (1, OPUS_BYTES),
            _ => (self.picture.packets.max(1), self.picture.packet_bytes),
        };
        let frame = self.begin(count, keyframe);
        let sent_us = now_us();
        let payload = |index| {
            let is_larger = self.codec.is_video() && index + 1 == count;
            self.packet(&frame, index, (bytes + u16::from(is_larger), sent_us))
        };
        (0..count).map(payload).collect()
    }

    /// Begins the next frame, which will have `count` packets.
    pub fn begin(&mut self, count: u8, keyframe: bool) -> Frame {
        let number = self.frames;
        let upper = !keyframe && self.picture.temporal_layers > 1 && number % 2 == 1;
        if !upper {
            self.tl0_index = self.tl0_index.wrapping_add(1);
        }
        self.frames = number.wrapping_add(1);
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        Frame {
            number,
            keyframe,
            upper,
            count,
        }
    }

    /// Makes one packet of the frame begun last, of this many bytes or as many as its stamp needs,
    /// stamped with when it is sent.
    pub fn packet(&self, frame: &Frame, index: u8, (bytes, sent_us): (u16, u64)) -> Payload {
        let stamp = Stamp {
            publisher: self.publisher,
            source: self.source,
            layer: self.layer,
            frame: frame.number,
            index,
            count: frame.count,
            sent_us,
        };
        let last = index + 1 == frame.count;
        let (wanted, mut bytes) = (usize::from(bytes), self.head(frame, index));
        let filler = wanted.saturating_sub(bytes.len() + STAMP_BYTES);
        stamp.write(filler, &mut bytes);
        payload::close_h264_parameters(self.codec, &mut bytes);
        Payload {
            bytes,
            marker: last && self.codec.is_video(),
        }
    }

    /// What stands before the stamp.
    fn head(&self, frame: &Frame, index: u8) -> Vec<u8> {
        let last = index + 1 == frame.count;
        match self.codec {
            Codec::Opus => payload::opus(),
            Codec::Vp8 => payload::vp8(&payload::Vp8 {
                start: index == 0,
                keyframe: frame.keyframe,
                picture_id: self.picture_id,
                tl0_index: self.tl0_index,
                upper: frame.upper,
                size: (self.picture.width, self.picture.height),
            }),
            Codec::H264 => payload::h264(frame.keyframe, index, last),
            Codec::Av1 => payload::av1(frame.keyframe, index, last),
        }
    }
}

/// What 20 ms of Opus take at about 36 kbit/s.
const OPUS_BYTES: u16 = 90;

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(codec: Codec, keyframe: bool) {
        let mut encoder = Encoder::new(codec, Picture::HIGH, (7, 1, 2));
        let _ = encoder.frame(false);
        let payloads = encoder.frame(keyframe);
        for (index, payload) in payloads.iter().enumerate() {
            let parsed = parse(codec, &payload.bytes);
            let stamp = parsed.stamp.expect("every packet carries its stamp");
            assert_eq!((stamp.publisher, stamp.source, stamp.layer), (7, 1, 2));
            assert_eq!((stamp.frame, usize::from(stamp.index)), (1, index));
            assert_eq!(
                parsed.keyframe,
                keyframe && index == 0,
                "{codec:?} packet {index}"
            );
        }
    }

    #[test]
    fn every_codec_can_be_read_back() {
        for codec in [Codec::Vp8, Codec::H264, Codec::Av1] {
            read_back(codec, true);
            read_back(codec, false);
        }
        read_back(Codec::Opus, false);
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let mut encoder = Encoder::new(Codec::Vp8, Picture::LOW, (1, 0, 0));
        let bytes = encoder.frame(true).remove(1).bytes;
        for position in 6..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 0x40;
            assert!(
                parse(Codec::Vp8, &changed).stamp.is_none(),
                "byte {position}"
            );
        }
    }

    #[test]
    fn truncated_payloads_have_no_stamp() {
        for codec in [Codec::Opus, Codec::Vp8, Codec::H264, Codec::Av1] {
            let mut encoder = Encoder::new(codec, Picture::LOW, (1, 0, 0));
            let bytes = encoder.frame(codec.is_video()).remove(0).bytes;
            for length in 0..bytes.len() {
                assert!(
                    parse(codec, &bytes[..length]).stamp.is_none(),
                    "{codec:?} {length}"
                );
            }
        }
    }

    #[test]
    fn vp8_picture_ids_count_and_wrap() {
        let mut encoder = Encoder::new(Codec::Vp8, Picture::LOW, (1, 0, 0));
        let ids: Vec<u16> = (0..30)
            .filter_map(|_| parse(Codec::Vp8, &encoder.frame(false)[0].bytes).picture_id)
            .collect();
        assert_eq!(ids.len(), 30);
        assert!(ids.windows(2).all(|pair| pair[1] == (pair[0] + 1) & 0x7fff));
        assert!(ids.contains(&0));
    }
}
