//! The send arena of a shard: datagrams for the kernel, in runs that segmentation offload can take.

use crate::Path;

/// What one `flush` wants sent: a byte arena and the runs in it, in order.
#[derive(Debug, Default)]
pub struct Arena {
    bytes: Vec<u8>,
    used: usize,
    runs: Vec<Run>,
    /// Where datagrams go that are committed now.
    path: Option<Path>,
    /// The last run is one of this path.
    is_begun: bool,
}

/// Consecutive datagrams for one path: all `segment_bytes` long but the last, which may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where to.
    pub path: Path,
    /// First byte in the arena.
    pub start: usize,
    /// Bytes in all.
    pub length: usize,
    /// Bytes of each datagram but the last.
    pub segment_bytes: usize,
    /// How many datagrams.
    pub segments: usize,
    /// Whether a shorter datagram already ended the run.
    closed: bool,
}

/// Bytes an arena holds; what does not fit is sent in the next round.
pub const ARENA_BYTES: usize = 1 << 17;

/// The longest datagram we send or accept: the usual MTU of 1500 less IPv6 and UDP headers, rounded
/// down as libwebrtc does for tunnels.
pub const DATAGRAM_MAX: usize = 1500;

impl Arena {
    /// Makes an arena; the only allocation it ever does.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; ARENA_BYTES],
            used: 0,
            runs: Vec::with_capacity(RUNS_MAX),
            path: None,
            is_begun: false,
        }
    }

    /// Room for one datagram, or `None` when the arena should be sent first.
    #[inline]
    pub fn reserve(&mut self) -> Option<&mut [u8]> {
        self.reserve_bytes(DATAGRAM_MAX)
    }

    /// Room for a datagram of `bytes` bytes, which may exceed `DATAGRAM_MAX`.
    #[inline]
    pub fn reserve_bytes(&mut self, bytes: usize) -> Option<&mut [u8]> {
        if self.runs.len() == self.runs.capacity() {
            return None;
        }
        self.bytes.get_mut(self.used..self.used + bytes)
    }

    /// Lets what is committed from now on go to `path`.
    #[inline]
    pub fn aim(&mut self, path: Path) {
        self.is_begun &= self.path == Some(path);
        self.path = Some(path);
    }

    /// Keeps the first `length` bytes of the reserved room as a datagram, as part of the last run
    /// when it fits that: same path, no longer than its segments, and not after a shorter one.
    #[inline]
    pub fn commit(&mut self, length: usize) {
        let Some(path) = self.path else {
            return; // Nobody said where to.
        };
        let start = self.used;
        self.used += length;
        if self.is_begun
            && let Some(run) = self.runs.last_mut()
            && !run.closed
            && (1..=run.segment_bytes).contains(&length)
            && run.segments < SEGMENTS_MAX
            && run.length + length <= RUN_BYTES_MAX
        {
            run.length += length;
            run.segments += 1;
            run.closed = length < run.segment_bytes;
            return;
        }
        self.is_begun = true;
        self.runs.push(Run {
            path,
            start,
            length,
            segment_bytes: length,
            segments: 1,
            closed: false,
        });
    }

    /// Bytes committed so far.
    #[inline]
    pub fn used(&self) -> usize {
        self.used
    }

    /// The runs to send, in order.
    #[inline]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The bytes of a run.
    #[inline]
    pub fn bytes(&self, run: &Run) -> &[u8] {
        self.bytes
            .get(run.start..run.start + run.length)
            .unwrap_or_default()
    }

    /// Forgets everything that was committed.
    #[inline]
    pub fn clear(&mut self) {
        self.used = 0;
        self.runs.clear();
        self.is_begun = false;
    }
}

/// Runs an arena holds; what does not fit is sent in the next round.
const RUNS_MAX: usize = 1024;
/// The kernel takes at most 64 segments in one UDP_SEGMENT send (`UDP_MAX_SEGMENTS`).
const SEGMENTS_MAX: usize = 64;
/// One send carries at most one IP packet's worth of bytes.
const RUN_BYTES_MAX: usize = 65_000;
