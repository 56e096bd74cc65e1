//! The program of a room, or single tracks, recorded.
//!
//! | file | what happens |
//! |---|---|
//! | `recording/muxer.rs` | which container, when another part begins; frames become bytes to append |
//! | `recording/mp4.rs`, `webm.rs` | the bytes: fragments, clusters; whatever is written plays |
//! | `recording/faststart.rs` | parts of fragmented MP4 become one file with its index in front |
//! | `recording/io.rs` | I/O: a thread for each recording, its files, what is told about it |
//! | `recording/io/store.rs` | I/O: finished files go to a store that speaks the protocol of S3 |
//!
//! A part is a working file. H264, VP9 and AV1 with a new decoder configuration begin another one, because
//! a fragmented file announces all configurations at its beginning; once finished, all parts of MP4 with the
//! same codecs are one file with several sample entries. VP8, VP9 and AV1 in WebM say all in their
//! keyframes. A change of codec is a second file of the same recording.

mod faststart;
mod io;
mod mp4;
mod muxer;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::media::{AudioFrame, VideoFrame};

#[cfg(feature = "s3")]
pub use io::S3Settings;
pub use io::{
    DeleteError, ReadError, Reading, Recorder, RecordingSettings, Recordings, StartError, Store,
    StoreError,
};

/// What is recorded: one frame of the program, or of a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A picture.
    Video(VideoFrame),
    /// Sound. WebM holds Opus only: with VP8, AAC is left out.
    Audio(AudioFrame),
}

impl Frame {
    fn at_us(&self) -> i64 {
        match self {
            Self::Video(frame) => frame.at_us,
            Self::Audio(frame) => frame.at_us,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Video(frame) => frame.data.len(),
            Self::Audio(frame) => frame.data.len(),
        }
    }
}

/// Names a recording; made by us, and safe in paths and URLs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordingId(String);

impl RecordingId {
    /// From 16 random bytes.
    fn mint(random: [u8; 16]) -> Self {
        Self(format!("rec_{:032x}", u128::from_be_bytes(random)))
    }

    /// Reads one that came from outside. `None`: none of ours looks like it.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("rec_")?;
        let is_ours = digits.len() == 32
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_ours.then(|| Self(text.to_owned()))
    }

    /// As it is written in paths and URLs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RecordingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    /// H264, VP9, AV1 with AAC or Opus.
    Mp4,
    /// VP8, VP9, AV1 with Opus.
    WebM,
}

impl Container {
    fn extension(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::WebM => "webm",
        }
    }
}

/// What is to be recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingSpec {
    /// The room's name.
    pub room: String,
    /// The track; `None` is the program.
    pub track: Option<String>,
    /// Pictures are to come: the file begins with both, if they come within two seconds.
    pub has_video: bool,
    /// Sound is to come.
    pub has_audio: bool,
    /// Which format where there is a choice, that is for VP9 and AV1 with Opus, and for Opus alone.
    pub container: Option<Container>,
}

/// How far a recording is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingState {
    /// No frame was written yet.
    Starting,
    /// Frames are written.
    Recording,
    /// Nothing more comes; its files are made what they should be.
    Finishing,
    /// Its files can be read.
    Ready,
    /// It ended for [`Recording::reason`]. What had been written can be read.
    Failed,
}

impl RecordingState {
    /// Something may still come into it.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Starting | Self::Recording)
    }
}

/// Why a recording failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailReason {
    /// The disk is full, or fuller than [`RecordingSettings::min_free_mb`] allows.
    DiskFull,
    /// The disk is slower than what is recorded.
    TooSlow,
    /// The disk or the file system fails.
    Io,
    /// It ended before any frame came.
    NoMedia,
    /// A bug of ours.
    Internal,
}

/// What is known of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Its name.
    pub id: RecordingId,
    /// What it is of.
    pub spec: RecordingSpec,
    /// How far it is.
    pub state: RecordingState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<FailReason>,
    /// When it was started, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// How long it is so far, in milliseconds of media.
    pub duration_ms: u64,
    /// What it takes of the disk, or of the store, so far.
    pub bytes: u64,
    /// Frames that could not be recorded, because no container holds them together with the others.
    pub frames_left_out: u64,
    /// What can be read, in order; usually one file.
    pub files: Vec<RecordedFile>,
    /// All files are in the store and no longer on the disk.
    pub is_stored: bool,
}

/// A file of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFile {
    /// Its name, made by us.
    pub name: String,
    /// Its format.
    pub container: Container,
    /// Whether there are pictures in it.
    pub has_video: bool,
    /// Its size.
    pub bytes: u64,
}

impl RecordedFile {
    /// Its media type.
    pub fn media_type(&self) -> &'static str {
        match (self.container, self.has_video) {
            (Container::Mp4, true) => "video/mp4",
            (Container::Mp4, false) => "audio/mp4",
            (Container::WebM, true) => "video/webm",
            (Container::WebM, false) => "audio/webm",
        }
    }
}
