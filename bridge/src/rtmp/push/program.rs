//! Frames as messages: times from 0 at the first key picture, parameters before what needs them.

use std::sync::Arc;

use bytes::Bytes;

use crate::flv::write;
use crate::media::{AudioConfig, AudioFrame, VideoConfig, VideoFrame};
use crate::rtmp::amf::Value;
use crate::rtmp::chunk::Message;
use crate::rtmp::message::{AUDIO_CHUNKS, DATA_CHUNKS, VIDEO_CHUNKS, kind};
use crate::rtmp::push::{PushCounts, Takes};

/// What one connection has said of the program.
#[derive(Debug)]
pub(super) struct Program {
    has_video: bool,
    takes: Takes,
    counts: PushCounts,
    /// When the connection's time is 0.
    begins_us: Option<i64>,
    first_sound_us: Option<i64>,
    video: Option<Arc<VideoConfig>>,
    /// Known before it is said.
    audio: Option<Arc<AudioConfig>>,
    has_said_audio: bool,
    video_ms: i64,
    audio_ms: i64,
}

/// A message without the stream it is sent on.
pub(super) struct Unsent {
    kind: u8,
    time_ms: i64,
    payload: Bytes,
}

impl Program {
    pub(super) fn new(has_video: bool, audio: Option<Arc<AudioConfig>>, takes: Takes) -> Self {
        Self {
            has_video,
            takes,
            counts: PushCounts::default(),
            begins_us: None,
            first_sound_us: None,
            video: None,
            audio,
            has_said_audio: false,
            video_ms: 0,
            audio_ms: 0,
        }
    }

    pub(super) fn counts(&self) -> PushCounts {
        self.counts
    }

    pub(super) fn send_video(&mut self, frame: &VideoFrame, mut send: impl FnMut((u8, Unsent))) {
        if !self.takes.video(frame.config.codec) {
            self.counts.dropped_codec += 1;
            return;
        }
        let is_early = self
            .begins_us
            .is_some_and(|begins_us| frame.at_us < begins_us);
        if is_early || (self.video.is_none() && !frame.is_key) {
            self.counts.dropped_early += 1;
            return;
        }
        let begins_us = *self.begins_us.get_or_insert(frame.at_us);
        self.video_ms = self.video_ms.max((frame.at_us - begins_us) / 1000);
        let time_ms = self.video_ms;
        let is_new = self.video.as_ref().is_none_or(|said| *said != frame.config);
        if is_new {
            self.video = Some(Arc::clone(&frame.config));
            send(self.metadata(time_ms));
            let payload = write::video_config(&frame.config);
            send((
                VIDEO_CHUNKS,
                Unsent {
                    kind: kind::VIDEO,
                    time_ms,
                    payload,
                },
            ));
            self.say_audio(time_ms, &mut send);
        }
        let payload = write::video_frame(frame);
        send((
            VIDEO_CHUNKS,
            Unsent {
                kind: kind::VIDEO,
                time_ms,
                payload,
            },
        ));
        self.counts.pictures += 1;
    }

    pub(super) fn send_audio(&mut self, frame: &AudioFrame, mut send: impl FnMut((u8, Unsent))) {
        if !self.takes.audio(frame.config.codec) {
            self.counts.dropped_codec += 1;
            return;
        }
        let Some(begins_us) = self
            .begins_us
            .or_else(|| self.begin_with_sound(frame.at_us))
        else {
            self.counts.dropped_early += 1;
            return;
        };
        if frame.at_us < begins_us {
            self.counts.dropped_early += 1;
            return;
        }
        self.audio_ms = self.audio_ms.max((frame.at_us - begins_us) / 1000);
        let time_ms = self.audio_ms;
        let is_new = self
            .audio
            .as_ref()
            .is_none_or(|known| *known != frame.config);
        if is_new {
            self.audio = Some(Arc::clone(&frame.config));
            self.has_said_audio = false;
        }
        if !self.has_said_audio {
            send(self.metadata(time_ms));
            self.say_audio(time_ms, &mut send);
        }
        let payload = write::audio_frame(frame.config.codec, &frame.data);
        send((
            AUDIO_CHUNKS,
            Unsent {
                kind: kind::AUDIO,
                time_ms,
                payload,
            },
        ));
        self.counts.sounds += 1;
    }

    /// When sound begins alone: at once if there are no pictures, else when they have not come for long.
    fn begin_with_sound(&mut self, at_us: i64) -> Option<i64> {
        let first_us = *self.first_sound_us.get_or_insert(at_us);
        let may_begin = !self.has_video || at_us - first_us >= PICTURE_TIME_US;
        self.begins_us = may_begin.then_some(at_us);
        self.begins_us
    }

    fn say_audio(&mut self, time_ms: i64, send: &mut impl FnMut((u8, Unsent))) {
        let taken = self
            .audio
            .as_ref()
            .filter(|audio| self.takes.audio(audio.codec));
        if let (Some(audio), false) = (taken, self.has_said_audio) {
            let payload = write::audio_config(audio);
            send((
                AUDIO_CHUNKS,
                Unsent {
                    kind: kind::AUDIO,
                    time_ms,
                    payload,
                },
            ));
            self.has_said_audio = true;
        }
    }

    fn metadata(&self, time_ms: i64) -> (u8, Unsent) {
        let mut payload = Vec::new();
        Value::from("@setDataFrame").write(&mut payload);
        payload.extend(write::metadata(
            self.video.as_deref(),
            self.audio.as_deref(),
        ));
        (
            DATA_CHUNKS,
            Unsent {
                kind: kind::DATA,
                time_ms,
                payload: payload.into(),
            },
        )
    }
}

impl Unsent {
    /// On that stream.
    pub(super) fn on(self, stream_id: u32) -> Message {
        // Times wrap after 49.7 days.
        let timestamp = u32::try_from(self.time_ms.rem_euclid(1 << 32)).unwrap_or(0);
        Message {
            kind: self.kind,
            stream_id,
            timestamp,
            payload: self.payload,
        }
    }
}

const PICTURE_TIME_US: i64 = 2_000_000;
