//! WebM (RFC 9559, RFC 8794): VP8, VP9 and AV1 with Opus.
//!
//! [`WebmWriter`] makes bytes that only ever are appended: what was written so far plays. [`finish()`] makes
//! of it a file that can be seeked in; it reads what is there, and so does the same after a crash.
//! The writer is ours: all it needs is a dozen elements, known sizes and places to patch, and the crates
//! there are either bring a model of all of Matroska or C++ code.

mod ebml;
mod finish;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::media::{AudioCodec, AudioConfig, AudioFrame, VideoCodec, VideoConfig, VideoFrame};
use ebml::{element, float, uint};

pub use finish::{FinishError, Finished, finish};

/// Writes clusters: each holds whole frames and is appended at once.
#[derive(Debug)]
pub struct WebmWriter {
    zero_us: i64,
    has_video: bool,
    /// Nanoseconds of sound that come before what is heard.
    codec_delay_ns: u64,
    blocks: Vec<Block>,
    bytes: usize,
}

#[derive(Debug)]
struct Block {
    track: u8,
    at_ms: i64,
    is_key: bool,
    data: Bytes,
}

impl WebmWriter {
    /// Begins a file whose time 0 is `zero_us`; the bytes are its beginning.
    ///
    /// `None`: WebM carries one of the codecs not, or there is nothing to carry.
    pub fn begin(
        zero_us: i64,
        video: Option<&Arc<VideoConfig>>,
        audio: Option<&Arc<AudioConfig>>,
    ) -> Option<(Self, Bytes)> {
        if video.is_none() && audio.is_none() {
            return None;
        }
        let mut tracks = Vec::new();
        if let Some(video) = video {
            tracks.extend(video_track(video)?);
        }
        let codec_delay_ns =
            audio.map_or(0, |audio| u64::from(audio.priming) * 1_000_000_000 / 48_000);
        if let Some(audio) = audio {
            tracks.extend(audio_track(audio, codec_delay_ns)?);
        }
        let mut bytes = BytesMut::new();
        bytes.put_slice(&head());
        bytes.put_slice(&element(TRACKS, &tracks));
        let writer = Self {
            zero_us,
            has_video: video.is_some(),
            codec_delay_ns,
            blocks: Vec::new(),
            bytes: 0,
        };
        Some((writer, bytes.freeze()))
    }

    /// Takes a picture. What comes back is to be appended.
    pub fn push_video(&mut self, frame: &VideoFrame) -> Option<Bytes> {
        let at_ms = to_ms(frame.at_us.saturating_sub(self.zero_us));
        let cluster = self.cut(at_ms, frame.is_key);
        self.push(VIDEO, at_ms, frame.is_key, &frame.data);
        cluster
    }

    /// Takes a frame of sound. What comes back is to be appended.
    pub fn push_audio(&mut self, frame: &AudioFrame) -> Option<Bytes> {
        let at_us = frame.at_us.saturating_sub(self.zero_us);
        // RFC 9559 §5.1.4.1.25: the delay is subtracted by who plays it.
        let delay_us = i64::try_from(self.codec_delay_ns / 1_000).unwrap_or(0);
        let at_ms = to_ms(at_us.saturating_add(delay_us));
        let cluster = self.cut(at_ms, !self.has_video);
        self.push(AUDIO, at_ms, true, &frame.data);
        cluster
    }

    /// Ends the cluster.
    pub fn flush(&mut self) -> Option<Bytes> {
        let first_ms = self.blocks.iter().map(|block| block.at_ms).min()?;
        self.blocks.sort_by_key(|block| block.at_ms);
        let mut body = Vec::with_capacity(self.bytes + self.blocks.len() * 16 + 16);
        body.extend(element(
            TIMESTAMP,
            &uint(u64::try_from(first_ms).unwrap_or(0)),
        ));
        for block in self.blocks.drain(..) {
            let Ok(offset) = i16::try_from(block.at_ms - first_ms) else {
                continue;
            };
            let flags = if block.is_key { KEY } else { 0 };
            body.extend(SIMPLE_BLOCK);
            body.extend(ebml::size(block.data.len() + 4));
            body.push(0x80 | block.track);
            body.extend(offset.to_be_bytes());
            body.push(flags);
            body.extend_from_slice(&block.data);
        }
        self.bytes = 0;
        Some(element(CLUSTER, &body).into())
    }

    /// Ends the cluster before a frame at which another one should begin.
    fn cut(&mut self, at_ms: i64, is_seekable: bool) -> Option<Bytes> {
        let first_ms = self.blocks.first()?.at_ms;
        let long = at_ms.saturating_sub(first_ms).abs();
        let is_due = long >= CLUSTER_MS && is_seekable;
        let is_overdue = long >= CLUSTER_MS_MAX || self.bytes >= CLUSTER_BYTES_MAX;
        (is_due || is_overdue).then(|| self.flush()).flatten()
    }

    fn push(&mut self, track: u8, at_ms: i64, is_key: bool, data: &Bytes) {
        if at_ms < 0 {
            return;
        }
        self.bytes += data.len();
        self.blocks.push(Block {
            track,
            at_ms,
            is_key,
            data: data.clone(),
        });
    }
}

/// All before the tracks, with room for what is known at the end only.
fn head() -> Vec<u8> {
    let ebml: Vec<u8> = [
        element(&[0x42, 0x86], &uint(1)),
        element(&[0x42, 0xf7], &uint(1)),
        element(&[0x42, 0xf2], &uint(4)),
        element(&[0x42, 0xf3], &uint(8)),
        element(&[0x42, 0x82], b"webm"),
        element(&[0x42, 0x87], &uint(4)),
        element(&[0x42, 0x85], &uint(2)),
    ]
    .concat();
    let about: Vec<u8> = [
        ebml::void(DURATION_BYTES),
        element(&[0x2a, 0xd7, 0xb1], &uint(TIMESTAMP_SCALE_NS)),
        element(&[0x4d, 0x80], b"Plenum"),
        element(&[0x57, 0x41], b"Plenum"),
    ]
    .concat();
    let mut head = element(EBML, &ebml);
    head.extend(SEGMENT);
    head.extend(SIZE_UNKNOWN);
    head.extend(ebml::void(SEEK_HEAD_BYTES));
    head.extend(element(INFO, &about));
    head
}

fn video_track(config: &VideoConfig) -> Option<Vec<u8>> {
    let codec: &[u8] = match config.codec {
        VideoCodec::Vp8 => b"V_VP8",
        VideoCodec::Vp9 => b"V_VP9",
        VideoCodec::Av1 => b"V_AV1",
        VideoCodec::H264 => return None,
    };
    let size = [
        element(&[0xb0], &uint(config.width.into())),
        element(&[0xba], &uint(config.height.into())),
    ];
    let mut track = track(VIDEO, 1, codec);
    if config.codec == VideoCodec::Av1 {
        track.extend(element(CODEC_PRIVATE, &config.record));
    }
    track.extend(element(&[0xe0], &size.concat()));
    Some(element(TRACK_ENTRY, &track))
}

fn audio_track(config: &AudioConfig, codec_delay_ns: u64) -> Option<Vec<u8>> {
    if config.codec != AudioCodec::Opus {
        return None;
    }
    let sound = [
        element(&[0xb5], &float(f64::from(config.sample_rate))),
        element(&[0x9f], &uint(config.channels.into())),
    ];
    let mut track = track(AUDIO, 2, b"A_OPUS");
    track.extend(element(CODEC_PRIVATE, &opus_head(config)));
    track.extend(element(&[0x56, 0xaa], &uint(codec_delay_ns)));
    track.extend(element(&[0x56, 0xbb], &uint(SEEK_PRE_ROLL_NS)));
    track.extend(element(&[0xe1], &sound.concat()));
    Some(element(TRACK_ENTRY, &track))
}

fn track(number: u8, kind: u64, codec: &[u8]) -> Vec<u8> {
    [
        element(&[0xd7], &uint(number.into())),
        element(&[0x73, 0xc5], &uint(number.into())),
        element(&[0x83], &uint(kind)),
        element(&[0x9c], &uint(0)),
        element(&[0x86], codec),
    ]
    .concat()
}

/// RFC 7845 §5.1, of one or two channels.
fn opus_head(config: &AudioConfig) -> Vec<u8> {
    let mut head = b"OpusHead\x01".to_vec();
    head.push(config.channels);
    let pre_skip = u16::try_from(config.priming).unwrap_or(u16::MAX);
    head.extend(pre_skip.to_le_bytes());
    head.extend(config.sample_rate.to_le_bytes());
    head.extend([0, 0, 0]);
    head
}

fn to_ms(us: i64) -> i64 {
    us.saturating_add(500).div_euclid(1_000)
}

const VIDEO: u8 = 1;
const AUDIO: u8 = 2;
const KEY: u8 = 0x80;
/// Times are milliseconds.
const TIMESTAMP_SCALE_NS: u64 = 1_000_000;
/// 80 ms (RFC 7845 §4.6).
const SEEK_PRE_ROLL_NS: u64 = 80_000_000;
/// A cluster is lost in a crash; one a second is little overhead.
const CLUSTER_MS: i64 = 1_000;
const CLUSTER_MS_MAX: i64 = 2_000;
const CLUSTER_BYTES_MAX: usize = 4 << 20;

const EBML: &[u8] = &[0x1a, 0x45, 0xdf, 0xa3];
const SEGMENT: &[u8] = &[0x18, 0x53, 0x80, 0x67];
const INFO: &[u8] = &[0x15, 0x49, 0xa9, 0x66];
const TRACKS: &[u8] = &[0x16, 0x54, 0xae, 0x6b];
const TRACK_ENTRY: &[u8] = &[0xae];
const CODEC_PRIVATE: &[u8] = &[0x63, 0xa2];
const CLUSTER: &[u8] = &[0x1f, 0x43, 0xb6, 0x75];
const TIMESTAMP: &[u8] = &[0xe7];
const SIMPLE_BLOCK: &[u8] = &[0xa3];
const DURATION: &[u8] = &[0x44, 0x89];
const SEEK_HEAD: &[u8] = &[0x11, 0x4d, 0x9b, 0x74];
const CUES: &[u8] = &[0x1c, 0x53, 0xbb, 0x6b];
/// Of eight bytes, so that the real one fits in its place.
const SIZE_UNKNOWN: [u8; 8] = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
/// An id of two bytes, a size of one, eight of the value.
const DURATION_BYTES: usize = 11;
/// Room for three places.
const SEEK_HEAD_BYTES: usize = 96;
