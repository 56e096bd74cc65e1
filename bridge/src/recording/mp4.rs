//! A fragmented MP4 file being written: each fragment is appended whole.
//!
//! Keyframes of H264 carry their parameter sets once more. A finished file has a sample entry for each
//! configuration, which is all that Apple's players and ffmpeg need; Chromium reads only the first entry.
#![warn(clippy::indexing_slicing)]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::fmp4::{
    AudioClock, Fragment, InitError, Sample, TrackSpec, VIDEO_TIMESCALE, VideoClock, init_segment,
    parameter_sets,
};
use crate::media::{AudioConfig, AudioFrame, VideoConfig, VideoFrame};

/// Writes fragments of one or two tracks.
#[derive(Debug)]
pub(super) struct Mp4Writer {
    zero_us: i64,
    /// What keyframes begin with.
    parameter_sets: Bytes,
    video: Option<Track<VideoClock>>,
    audio: Option<Track<AudioClock>>,
    sequence: u32,
    /// When the fragment's first frame is.
    begin_us: Option<i64>,
    bytes: usize,
}

#[derive(Debug)]
struct Track<C> {
    id: u32,
    clock: C,
    /// Waits for the next one, which says how long it lasts.
    last: Option<Waiting>,
    /// When the first of them is decoded, and the frames.
    fragment: Option<(u64, Vec<Sample>)>,
}

#[derive(Debug)]
struct Waiting {
    at: u64,
    /// How long it lasts if nothing follows.
    duration: u32,
    is_key: bool,
    data: Bytes,
}

impl Mp4Writer {
    /// Begins a file whose time 0 is `zero_us`; the bytes are its beginning.
    pub(super) fn begin(
        zero_us: i64,
        video: Option<&Arc<VideoConfig>>,
        audio: Option<&Arc<AudioConfig>>,
    ) -> Result<(Self, Bytes), InitError> {
        let mut specs = Vec::new();
        let parameter_sets = video.map(|config| parameter_sets(config));
        let mut id = 0;
        let video = video.map(|config| {
            specs.push(TrackSpec::Video(Arc::clone(config)));
            id += 1;
            Track::new(id, VideoClock::default())
        });
        let audio = audio.map(|config| {
            specs.push(TrackSpec::Audio(Arc::clone(config)));
            id += 1;
            Track::new(id, AudioClock::new(config.sample_rate))
        });
        let init = init_segment(&specs)?;
        let writer = Self {
            zero_us,
            parameter_sets: parameter_sets.unwrap_or_default(),
            video,
            audio,
            sequence: 0,
            begin_us: None,
            bytes: 0,
        };
        Ok((writer, init))
    }

    /// Takes a picture. What comes back is to be appended.
    pub(super) fn push_video(&mut self, frame: &VideoFrame) -> Option<Bytes> {
        let at_us = frame.at_us.saturating_sub(self.zero_us);
        let track = self.video.as_mut()?;
        let at = track.clock.place(at_us)?;
        track.finish_last(Some(at));
        let cut = self.cut(at_us, frame.is_key);
        self.bytes += frame.data.len();
        let data = if frame.is_key && !self.parameter_sets.is_empty() {
            [&self.parameter_sets[..], &frame.data].concat().into()
        } else {
            frame.data.clone()
        };
        let track = self.video.as_mut()?;
        track.last = Some(Waiting {
            at,
            duration: VIDEO_TIMESCALE / 30,
            is_key: frame.is_key,
            data,
        });
        cut
    }

    /// Takes a frame of sound. What comes back is to be appended.
    pub(super) fn push_audio(&mut self, frame: &AudioFrame) -> Option<Bytes> {
        let at_us = frame.at_us.saturating_sub(self.zero_us);
        let track = self.audio.as_mut()?;
        let at = track.clock.place(at_us, frame.samples)?;
        track.finish_last(Some(at));
        let cut = self.cut(at_us, self.video.is_none());
        self.bytes += frame.data.len();
        let track = self.audio.as_mut()?;
        track.last = Some(Waiting {
            at,
            duration: frame.samples,
            is_key: true,
            data: frame.data.clone(),
        });
        cut
    }

    /// Ends the file.
    pub(super) fn finish(&mut self) -> Option<Bytes> {
        if let Some(track) = &mut self.video {
            track.finish_last(None);
        }
        if let Some(track) = &mut self.audio {
            track.finish_last(None);
        }
        self.flush()
    }

    /// Ends the fragments before a frame at which others should begin.
    fn cut(&mut self, at_us: i64, is_seekable: bool) -> Option<Bytes> {
        let begin_us = *self.begin_us.get_or_insert(at_us);
        let long = at_us.saturating_sub(begin_us);
        let is_due = long >= FRAGMENT_US && is_seekable;
        if !is_due && long < FRAGMENT_US_MAX && self.bytes < FRAGMENT_BYTES_MAX {
            return None;
        }
        self.begin_us = Some(at_us);
        self.flush()
    }

    fn flush(&mut self) -> Option<Bytes> {
        self.bytes = 0;
        let video = self.video.as_mut().and_then(Track::take);
        let audio = self.audio.as_mut().and_then(Track::take);
        let mut bytes = BytesMut::new();
        for (id, at, samples) in video.into_iter().chain(audio) {
            self.sequence = self.sequence.wrapping_add(1);
            let mut fragment = Fragment::new(id, self.sequence, at);
            for sample in samples {
                fragment.push(sample);
            }
            if let Some(fragment) = fragment.finish() {
                bytes.extend_from_slice(&fragment);
            }
        }
        (!bytes.is_empty()).then(|| bytes.freeze())
    }
}

impl<C> Track<C> {
    fn new(id: u32, clock: C) -> Self {
        Self {
            id,
            clock,
            last: None,
            fragment: None,
        }
    }

    /// Moves the frame before into the fragment: it lasts until `next`.
    fn finish_last(&mut self, next: Option<u64>) {
        let Some(last) = self.last.take() else {
            return;
        };
        let duration = next.map_or(last.duration, |next| {
            u32::try_from(next.saturating_sub(last.at)).unwrap_or(u32::MAX)
        });
        let fragment = self.fragment.get_or_insert_with(|| (last.at, Vec::new()));
        fragment.1.push(Sample {
            duration,
            is_key: last.is_key,
            data: last.data,
        });
    }

    fn take(&mut self) -> Option<(u32, u64, Vec<Sample>)> {
        let (at, samples) = self.fragment.take()?;
        Some((self.id, at, samples))
    }
}

/// A fragment is lost in a crash.
const FRAGMENT_US: i64 = 1_000_000;
const FRAGMENT_US_MAX: i64 = 2_000_000;
const FRAGMENT_BYTES_MAX: usize = 4 << 20;
