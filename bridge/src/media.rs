//! Whole frames with what a decoder must know: what flows between all parts of the bridge.
//!
//! Times are microseconds on the timeline of one broadcast: the server's monotonic clock since the
//! broadcast began. Nothing here has B-frames: the order of decoding is the order of showing.

use std::sync::Arc;

use bytes::Bytes;

/// How pictures are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// ITU-T H.264.
    H264,
    /// RFC 6386.
    Vp8,
    /// VP9.
    Vp9,
    /// AV1.
    Av1,
}

/// How sound is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AudioCodec {
    /// RFC 6716; always at 48 kHz.
    Opus,
    /// AAC-LC (ISO/IEC 14496-3).
    Aac,
}

/// What a decoder must know before the first frame; another one means another initialisation segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoConfig {
    /// The codec.
    pub codec: VideoCodec,
    /// Picture width after cropping, in pixels.
    pub width: u16,
    /// Picture height after cropping, in pixels.
    pub height: u16,
    /// The body of the sample entry's configuration box without its header: `avcC`
    /// (ISO/IEC 14496-15 §5.3.3.1), `vpcC` with its version and flags (VP codec ISO media binding),
    /// `av1C` (AV1 ISOBMFF §2.3).
    pub record: Bytes,
    /// The codec's name as in RFC 6381: `avc1.42c01f`, `vp09.00.10.08`, `av01.0.04M.08`.
    pub name: String,
}

/// What a decoder must know before the first frame of sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioConfig {
    /// The codec.
    pub codec: AudioCodec,
    /// Samples a second.
    pub sample_rate: u32,
    /// Channels: 2, always, in what the bridge makes itself.
    pub channels: u8,
    /// AAC: the AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1). Opus: the body of the `dOps` box
    /// (Encapsulation of Opus in ISOBMFF §4.3.2).
    pub record: Bytes,
    /// Samples the decoder gives before the first one that was put in. Frame times have it subtracted.
    pub priming: u32,
}

/// A whole picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoFrame {
    /// What it is coded with; the same `Arc` as that of the frame before while nothing changes.
    pub config: Arc<VideoConfig>,
    /// When it is shown. Strictly later than the frame before of the same stream.
    pub at_us: i64,
    /// A decoder can begin here.
    pub is_key: bool,
    /// H264: NAL units, each after its length as 4 bytes, parameter sets and delimiters left out.
    /// VP8 and VP9: the frame. AV1: low-overhead OBUs without temporal delimiters.
    pub data: Bytes,
}

/// A whole frame of sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioFrame {
    /// What it is coded with.
    pub config: Arc<AudioConfig>,
    /// When its first sample is heard.
    pub at_us: i64,
    /// How long it is, in samples at the config's rate: 960 for Opus of 20 ms, 1024 for AAC.
    pub samples: u32,
    /// The packet, without any framing.
    pub data: Bytes,
}

impl AudioFrame {
    /// How long it sounds, in microseconds.
    pub fn duration_us(&self) -> i64 {
        i64::from(self.samples) * 1_000_000 / i64::from(self.config.sample_rate.max(1))
    }
}
