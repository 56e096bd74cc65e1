//! How Chromium cuts video into packets: the payload sizes of captured streams, to be sent again.
//!
//! Taken from Chromium 156 on loopback, one sender and one receiver in a page: a canvas of 640x360 with
//! a moving face-like shape before a still, slightly noisy background, 30 frames/s,
//! `maxBitrate` 1,000,000. The sizes are those of the RTP payloads (datagram less RTP header,
//! extensions and the 16-byte tag of AES-GCM), read off the clear RTP headers on the wire: 240 frames
//! in a row without a keyframe, and the largest keyframe of the run. All packets of a frame left within
//! a millisecond or two of each other, so a frame is sent as one burst here too.
//!
//! VP8 and H264 split a frame into equal parts of which the last few are a byte larger; AV1 makes the
//! last one smaller. Where a header extension rides on the last packet of a frame (video timing), its
//! payload is 16 bytes shorter.

use super::Codec;

/// The frames of one captured stream, as payload sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// Frames that are no keyframes, in order.
    pub frames: Vec<Vec<u16>>,
    /// A keyframe.
    pub keyframe: Vec<u16>,
}

impl Captured {
    /// The captured stream of a video codec, brought to this bit rate (of payloads, at 30 frames/s).
    pub fn stream(codec: Codec, bitrate_bps: u64) -> Self {
        let captured = Self::parse(match codec {
            Codec::Opus | Codec::Vp8 => include_str!("captured/vp8.txt"),
            Codec::H264 => include_str!("captured/h264.txt"),
            Codec::Av1 => include_str!("captured/av1.txt"),
        });
        captured.scaled(codec, bitrate_bps)
    }

    /// Reads `keyframe` and its sizes, then frames: `1054*3+1055` is three packets and a larger one.
    fn parse(text: &str) -> Self {
        let frame = |word: &str| -> Vec<u16> {
            let run = |part: &str| {
                let (size, count) = part.split_once('*').unwrap_or((part, "1"));
                let (size, count) = (size.parse().ok(), count.parse().ok());
                std::iter::repeat_n(size.unwrap_or(MTU), count.unwrap_or(1))
            };
            word.split('+').flat_map(run).collect()
        };
        let mut words = text
            .split_whitespace()
            .skip_while(|word| *word != "keyframe");
        let keyframe = words.nth(1).map(frame).unwrap_or_default();
        Self {
            frames: words.map(frame).collect(),
            keyframe,
        }
    }

    /// Bits per second of the payloads of delta frames at 30 frames/s.
    fn bitrate_bps(&self) -> u64 {
        let bytes: u64 = self
            .frames
            .iter()
            .flatten()
            .map(|size| u64::from(*size))
            .sum();
        bytes * 8 * FRAMES_PER_SECOND / (self.frames.len() as u64).max(1)
    }

    /// As captured when the rate is within 1 %; else every frame grown or shrunk and split anew.
    fn scaled(self, codec: Codec, wanted_bps: u64) -> Self {
        let captured_bps = self.bitrate_bps().max(1);
        if captured_bps.abs_diff(wanted_bps) * 100 <= captured_bps {
            return self;
        }
        let scale = |frame: &Vec<u16>| {
            let bytes: u64 = frame.iter().map(|size| u64::from(*size)).sum();
            split(
                codec,
                (bytes * wanted_bps / captured_bps).max(FRAME_BYTES_MIN),
            )
        };
        Self {
            frames: self.frames.iter().map(scale).collect(),
            keyframe: scale(&self.keyframe),
        }
    }
}

/// Splits a frame as libwebrtc does.
fn split(codec: Codec, bytes: u64) -> Vec<u16> {
    let count = bytes.div_ceil(u64::from(MTU)).clamp(1, u64::from(u8::MAX));
    let (size, rest) = (bytes / count, bytes % count);
    let sizes: Vec<u64> = if codec == Codec::Av1 {
        let size = bytes.div_ceil(count);
        let before = count - 1;
        std::iter::repeat_n(size, usize::try_from(before).unwrap_or(0))
            .chain([bytes - size * before])
            .collect()
    } else {
        (0..count)
            .map(|index| size + u64::from(index >= count - rest))
            .collect()
    };
    sizes
        .into_iter()
        .map(|size| u16::try_from(size).unwrap_or(MTU).min(MTU))
        .collect()
}

/// The largest payload in the captures: a packet of 1192 bytes with its 24 bytes of header.
const MTU: u16 = 1168;
const FRAMES_PER_SECOND: u64 = 30;
/// Room for the descriptors and the stamp.
const FRAME_BYTES_MIN: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const CODECS: [Codec; 3] = [Codec::Vp8, Codec::H264, Codec::Av1];

    #[test]
    fn every_capture_is_whole() {
        for codec in CODECS {
            let captured = Captured::stream(codec, 1_000_000);
            assert_eq!(captured.frames.len(), 240, "{codec:?}");
            assert!(captured.keyframe.len() > 4, "{codec:?}");
            let sizes = captured.frames.iter().chain([&captured.keyframe]).flatten();
            assert!(
                sizes.clone().all(|size| (1..=MTU).contains(size)),
                "{codec:?}"
            );
        }
    }

    #[test]
    fn streams_have_the_rate_that_was_asked_for() {
        for codec in CODECS {
            for wanted in [150_000, 500_000, 1_000_000, 2_500_000] {
                let rate = Captured::stream(codec, wanted).bitrate_bps();
                assert!(
                    rate.abs_diff(wanted) * 50 < wanted,
                    "{codec:?} {wanted}: {rate}"
                );
            }
        }
    }

    #[test]
    fn frames_are_split_as_captured_ones_are() {
        assert_eq!(split(Codec::Vp8, 1065 * 3 + 1066), [1065, 1065, 1065, 1066]);
        assert_eq!(
            split(Codec::H264, 1010 + 1011 * 4),
            [1010, 1011, 1011, 1011, 1011]
        );
        assert_eq!(split(Codec::Av1, 1135 * 2 + 1133), [1135, 1135, 1133]);
    }
}
