//! Frames become what is appended to files.

use std::sync::Arc;

use bytes::Bytes;

use super::mp4::Mp4Writer;
use super::{Container, Frame};
use crate::media::{AudioCodec, AudioConfig, VideoCodec, VideoConfig};
use crate::webm::WebmWriter;

/// Decides on files and writes them.
#[derive(Debug)]
pub(super) struct Muxer {
    has_video: bool,
    has_audio: bool,
    wanted: Option<Container>,
    /// Time 0 of all files.
    zero_us: Option<i64>,
    /// Until it is known what the next part holds.
    held: Vec<Frame>,
    held_bytes: usize,
    part: Option<Part>,
    left_out: u64,
    end_us: i64,
}

/// What is to be done with files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Another file begins with these bytes; nothing more comes for the one before.
    Begin(Beginning),
    /// These bytes are whole frames.
    Append(Bytes),
}

/// How a part begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    pub(super) container: Container,
    pub(super) has_video: bool,
    /// The encoder's delay of its sound, in samples.
    pub(super) priming: u32,
    pub(super) bytes: Bytes,
}

#[derive(Debug)]
struct Part {
    writer: Writer,
    container: Container,
    video: Option<Arc<VideoConfig>>,
    audio: Option<Arc<AudioConfig>>,
    needs_key: bool,
}

#[derive(Debug)]
enum Writer {
    Mp4(Box<Mp4Writer>),
    WebM(WebmWriter),
}

impl Muxer {
    /// For what is announced; `wanted` decides where there is a choice.
    pub(super) fn new(has_video: bool, has_audio: bool, wanted: Option<Container>) -> Self {
        Self {
            has_video,
            has_audio,
            wanted,
            zero_us: None,
            held: Vec::new(),
            held_bytes: 0,
            part: None,
            left_out: 0,
            end_us: 0,
        }
    }

    /// Frames that no file could hold.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// How much time the files cover.
    pub(super) fn duration_us(&self) -> i64 {
        self.zero_us
            .map_or(0, |zero_us| self.end_us.saturating_sub(zero_us).max(0))
    }

    /// Takes the next frame in.
    pub(super) fn push(&mut self, frame: Frame, out: &mut Vec<Output>) {
        let Some(part) = &mut self.part else {
            self.hold(frame);
            if self.is_begun() {
                self.begin(out);
            }
            return;
        };
        let fits = self.held.is_empty() && part.fits(&frame);
        let is_video = matches!(&frame, Frame::Video(_));
        let is_key = matches!(&frame, Frame::Video(frame) if frame.is_key);
        if fits || (is_video && !is_key) {
            self.write(&frame, out);
            return;
        }
        // Sound that needs another part waits for the picture that can begin it.
        self.hold(frame);
        if is_key || part_is_blind(self.part.as_ref()) || self.is_overdue(SWITCH_US_MAX) {
            self.begin(out);
        }
    }

    /// Ends the last file.
    pub(super) fn finish(&mut self, out: &mut Vec<Output>) {
        if !self.held.is_empty() {
            self.begin(out);
        }
        if let Some(part) = &mut self.part {
            out.extend(part.writer.finish().map(Output::Append));
        }
        self.part = None;
    }

    fn hold(&mut self, frame: Frame) {
        let is_useless = matches!(&frame, Frame::Video(frame) if !frame.is_key)
            && self.part.is_none()
            && !self.held.iter().any(|held| matches!(held, Frame::Video(_)));
        if is_useless {
            return;
        }
        self.held_bytes += frame.bytes();
        self.held.push(frame);
    }

    /// Whether all that was announced has come, or will not be waited for any longer.
    fn is_begun(&self) -> bool {
        let has = |wanted: fn(&Frame) -> bool| self.held.iter().any(wanted);
        let has_video = !self.has_video || has(|frame| matches!(frame, Frame::Video(_)));
        let has_audio = !self.has_audio || has(|frame| matches!(frame, Frame::Audio(_)));
        !self.held.is_empty() && (has_video && has_audio || self.is_overdue(BEGIN_US_MAX))
    }

    fn is_overdue(&self, us_max: i64) -> bool {
        let times = || self.held.iter().map(Frame::at_us);
        let (first, last) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
        last.saturating_sub(first) >= us_max || self.held_bytes >= HELD_BYTES_MAX
    }

    /// Begins a part that fits what is held, and what there was so far.
    fn begin(&mut self, out: &mut Vec<Output>) {
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        let before = self.part.take();
        let (mut video, mut audio) = (None, None);
        for frame in &held {
            match frame {
                Frame::Video(frame) => video = Some(Arc::clone(&frame.config)),
                Frame::Audio(frame) => audio = Some(Arc::clone(&frame.config)),
            }
        }
        if let Some(mut part) = before {
            out.extend(part.writer.finish().map(Output::Append));
            video = video.or(part.video);
            audio = audio.or(part.audio);
        }
        let earliest_us = held.iter().map(Frame::at_us).min().unwrap_or(0);
        let zero_us = *self.zero_us.get_or_insert(earliest_us);
        if let Some((part, beginning)) = Part::begin(zero_us, (video, audio), self.wanted) {
            out.push(Output::Begin(beginning));
            self.part = Some(part);
        }
        for frame in held {
            self.write(&frame, out);
        }
    }

    fn write(&mut self, frame: &Frame, out: &mut Vec<Output>) {
        let written = self.part.as_mut().and_then(|part| part.write(frame));
        let Some(bytes) = written else {
            self.left_out += 1;
            return;
        };
        let length_us = match frame {
            Frame::Video(_) => 0,
            Frame::Audio(frame) => frame.duration_us(),
        };
        let end_us = frame.at_us().saturating_add(length_us);
        self.end_us = self.end_us.max(end_us);
        out.extend(bytes.map(Output::Append));
    }
}

impl Part {
    fn begin(
        zero_us: i64,
        (video, audio): (Option<Arc<VideoConfig>>, Option<Arc<AudioConfig>>),
        wanted: Option<Container>,
    ) -> Option<(Self, Beginning)> {
        let container = choose(video.as_deref(), audio.as_deref(), wanted);
        let is_carried = |audio: &Arc<AudioConfig>| {
            container == Container::Mp4 || audio.codec == AudioCodec::Opus
        };
        let audio = audio.filter(is_carried);
        let (writer, bytes) = match container {
            Container::Mp4 => {
                let begun = Mp4Writer::begin(zero_us, video.as_ref(), audio.as_ref());
                let (writer, bytes) = begun.ok()?;
                (Writer::Mp4(Box::new(writer)), bytes)
            }
            Container::WebM => {
                let begun = WebmWriter::begin(zero_us, video.as_ref(), audio.as_ref());
                let (writer, bytes) = begun?;
                (Writer::WebM(writer), bytes)
            }
        };
        let beginning = Beginning {
            container,
            has_video: video.is_some(),
            priming: audio.as_ref().map_or(0, |audio| audio.priming),
            bytes,
        };
        let part = Self {
            writer,
            container,
            video,
            audio,
            needs_key: true,
        };
        Some((part, beginning))
    }

    /// Whether a frame can go on in this part.
    fn fits(&self, frame: &Frame) -> bool {
        match frame {
            Frame::Video(frame) => self.video.as_ref().is_some_and(|video| {
                Arc::ptr_eq(video, &frame.config)
                    || *video == frame.config
                    || (self.container == Container::WebM && video.codec == frame.config.codec)
            }),
            Frame::Audio(frame) => match &self.audio {
                Some(audio) => Arc::ptr_eq(audio, &frame.config) || *audio == frame.config,
                // AAC next to VP8 is left out; another part would not help.
                None => self.has_vp8() && frame.config.codec == AudioCodec::Aac,
            },
        }
    }

    fn has_vp8(&self) -> bool {
        let mut video = self.video.iter();
        video.any(|video| video.codec == VideoCodec::Vp8)
    }

    /// `None`: it cannot be written.
    fn write(&mut self, frame: &Frame) -> Option<Option<Bytes>> {
        if !self.fits(frame) {
            return None;
        }
        match frame {
            Frame::Video(frame) => {
                if self.needs_key && !frame.is_key {
                    return None;
                }
                self.needs_key = false;
                Some(match &mut self.writer {
                    Writer::Mp4(writer) => writer.push_video(frame),
                    Writer::WebM(writer) => writer.push_video(frame),
                })
            }
            Frame::Audio(frame) => {
                self.audio.as_ref()?;
                Some(match &mut self.writer {
                    Writer::Mp4(writer) => writer.push_audio(frame),
                    Writer::WebM(writer) => writer.push_audio(frame),
                })
            }
        }
    }
}

impl Writer {
    fn finish(&mut self) -> Option<Bytes> {
        match self {
            Self::Mp4(writer) => writer.finish(),
            Self::WebM(writer) => writer.flush(),
        }
    }
}

fn part_is_blind(part: Option<&Part>) -> bool {
    part.is_some_and(|part| part.video.is_none())
}

fn choose(
    video: Option<&VideoConfig>,
    audio: Option<&AudioConfig>,
    wanted: Option<Container>,
) -> Container {
    let has_aac = audio.is_some_and(|audio| audio.codec == AudioCodec::Aac);
    match video.map(|video| video.codec) {
        Some(VideoCodec::Vp8) => Container::WebM,
        Some(VideoCodec::H264) => Container::Mp4,
        _ if has_aac => Container::Mp4,
        _ => wanted.unwrap_or(Container::WebM),
    }
}

/// So long a recording waits for the other kind of media.
const BEGIN_US_MAX: i64 = 2_000_000;
/// So long sound waits for a keyframe.
const SWITCH_US_MAX: i64 = 3_000_000;
const HELD_BYTES_MAX: usize = 8 << 20;
