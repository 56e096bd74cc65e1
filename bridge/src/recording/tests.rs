//! Recordings, checked by ffmpeg: what was written plays without a message.
//!
//! The pictures come from ffmpeg as well. Where it is missing these tests pass with a message, but not
//! where `CI` is set.

mod checking;
mod crashing;
mod files;
pub(crate) mod media;
mod running;
#[cfg(feature = "s3")]
mod storing;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use super::*;

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("plenum-recording-{}-{count}", process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn spec(room: &str) -> RecordingSpec {
    RecordingSpec {
        room: room.to_owned(),
        track: None,
        has_video: true,
        has_audio: true,
        container: None,
    }
}

/// Both kinds in the order of their times, as they come.
fn together(video: &[VideoFrame], audio: &[AudioFrame]) -> Vec<Frame> {
    let video = video.iter().cloned().map(Frame::Video);
    let audio = audio.iter().cloned().map(Frame::Audio);
    let mut frames: Vec<_> = video.chain(audio).collect();
    frames.sort_by_key(Frame::at_us);
    frames
}
