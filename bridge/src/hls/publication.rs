//! What a packager gives out and a broadcast keeps: segments and their parts, rendition by rendition.

use bytes::Bytes;

use crate::fmp4::TrackSpec;

/// One media playlist of a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RenditionId {
    /// Pictures of one simulcast layer; 0 is the largest.
    Video(u8),
    /// The sound.
    Audio,
}

/// How many simulcast layers a broadcast takes; browsers send three at most.
pub const RUNGS_MAX: u8 = 4;

/// How a segment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Its media sequence number; the same border has the same number in all renditions.
    pub msn: u64,
    /// When its first frame is shown, in microseconds of the broadcast.
    pub start_us: i64,
    /// It does not continue the segment before.
    pub is_discontinuity: bool,
    /// How many discontinuities the broadcast had, this one included.
    pub discontinuities: u64,
    /// It begins between two keyframes: its source sends them too seldom.
    pub is_continuation: bool,
    /// The number of its initialisation segment.
    pub map: u32,
}

/// A part of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// How long it is said to be, in microseconds: its place on the grid of the segment.
    pub duration_us: i64,
    /// A decoder can begin in it.
    pub is_independent: bool,
    /// How many frames are in it.
    pub frame_count: u32,
    /// The fragment.
    pub bytes: Bytes,
}

/// What happened to a rendition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publication {
    /// There is another initialisation segment; numbers count from 1.
    Map {
        /// Whose.
        rendition: RenditionId,
        /// Its number.
        number: u32,
        /// What it describes.
        spec: TrackSpec,
        /// The initialisation segment.
        bytes: Bytes,
    },
    /// A segment begins; its first part follows.
    Opened {
        /// Whose.
        rendition: RenditionId,
        /// How it begins.
        opening: Opening,
    },
    /// The open segment has one more part.
    Part {
        /// Whose.
        rendition: RenditionId,
        /// The part.
        part: Part,
    },
    /// The open segment is whole.
    Closed {
        /// Whose.
        rendition: RenditionId,
        /// How long it is, in microseconds.
        duration_us: i64,
    },
    /// There is no media for a segment that the other renditions have.
    Gap {
        /// Whose.
        rendition: RenditionId,
        /// Where it would be.
        opening: Opening,
        /// How long it would be, in microseconds.
        duration_us: i64,
    },
    /// Nothing more comes until somebody watches; what was given out is stale.
    Paused,
    /// Nothing more comes.
    Ended,
}

impl RenditionId {
    /// How many there can be.
    pub(crate) const COUNT: usize = RUNGS_MAX as usize + 1;

    /// Where it stands among all that there can be.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Video(rung) => usize::from(rung.min(RUNGS_MAX - 1)),
            Self::Audio => usize::from(RUNGS_MAX),
        }
    }
}
