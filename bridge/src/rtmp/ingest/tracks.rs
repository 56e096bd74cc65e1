//! What is published: pictures, sound and metadata out of messages.
#![warn(clippy::indexing_slicing)]

use std::sync::Arc;

use bytes::Bytes;

use crate::flv::{AudioBody, AvcError, VideoBody, aac, avc, take_tag};
use crate::media::AudioConfig;
use crate::rtmp::amf::{self, Value};
use crate::rtmp::chunk::Message;
use crate::rtmp::ingest::{IngestCounts, IngestError, Media, Metadata};
use crate::rtmp::message::{body, kind};

/// The pictures and the sound of one encoder.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    pub(super) counts: IngestCounts,
    clock: Clock,
    video: Option<Video>,
    audio: Option<Arc<AudioConfig>>,
    /// Broken pictures since the last good key picture.
    broken: u32,
}

#[derive(Debug)]
struct Video {
    /// As it came, to tell whether another one is the same.
    record: Bytes,
    length_size: usize,
    needs_key: bool,
    /// The latest time a picture is shown.
    shown_ms: i64,
    has_b_frames: bool,
}

impl Tracks {
    /// Gives out what a message holds.
    ///
    /// # Errors
    /// It is not carried, or too much of it is broken.
    pub(super) fn handle_message(
        &mut self,
        message: &Message,
        mut give: impl FnMut(Media),
    ) -> Result<(), IngestError> {
        match message.kind {
            kind::AGGREGATE => self.handle_aggregate(message, give),
            kind::DATA | kind::DATA_AMF3 => {
                self.handle_data(message, give);
                Ok(())
            }
            kind => self.handle_tag((kind, message.timestamp, &message.payload), &mut give),
        }
    }

    /// What cannot be read is left: nothing rests on it.
    fn handle_data(&mut self, message: &Message, mut give: impl FnMut(Media)) {
        let body = body(message);
        let values = (body.len() <= DATA_MAX).then(|| amf::read_all(body));
        match values {
            Some(Ok(values)) => metadata(&values)
                .into_iter()
                .for_each(|said| give(Media::Metadata(said))),
            Some(Err(_)) | None => self.counts.dropped_broken += 1,
        }
    }

    /// Tags of several messages in one; their times count from that of the first (§7.1.6).
    fn handle_aggregate(
        &mut self,
        message: &Message,
        mut give: impl FnMut(Media),
    ) -> Result<(), IngestError> {
        let mut tags = message.payload.clone();
        let mut first = None;
        while let Some((kind, time, body)) = take_tag(&mut tags) {
            let since_first = time.wrapping_sub(*first.get_or_insert(time));
            let time = message.timestamp.wrapping_add(since_first);
            self.handle_tag((kind, time, &body), &mut give)?;
        }
        Ok(())
    }

    fn handle_tag(
        &mut self,
        (kind, time, body): (u8, u32, &Bytes),
        give: &mut impl FnMut(Media),
    ) -> Result<(), IngestError> {
        // An empty message is a sign of life.
        if body.is_empty() {
            return Ok(());
        }
        match kind {
            kind::VIDEO => match VideoBody::read(body)? {
                VideoBody::Config(record) => self.configure_video(record, give),
                VideoBody::Picture {
                    composition_ms,
                    data,
                } => {
                    let dts_ms = self.at(time);
                    self.handle_picture(dts_ms, composition_ms, &data, give)
                }
                VideoBody::Nothing => Ok(()),
            },
            kind::AUDIO => match AudioBody::read(body)? {
                AudioBody::Config(record) => self.configure_audio(&record, give),
                AudioBody::Packet(data) => {
                    let dts_ms = self.at(time);
                    self.handle_sound(dts_ms, data, give);
                    Ok(())
                }
                AudioBody::Nothing => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn configure_video(
        &mut self,
        record: Bytes,
        give: &mut impl FnMut(Media),
    ) -> Result<(), IngestError> {
        if self
            .video
            .as_ref()
            .is_some_and(|video| video.record == record)
        {
            return Ok(());
        }
        let (config, length_size) = avc::config(&record)?;
        let before = self.video.take();
        give(Media::VideoConfig(Arc::new(config)));
        self.video = Some(Video {
            record,
            length_size,
            needs_key: true,
            shown_ms: i64::MIN,
            has_b_frames: before.is_some_and(|video| video.has_b_frames),
        });
        Ok(())
    }

    fn handle_picture(
        &mut self,
        dts_ms: i64,
        composition_ms: i32,
        data: &Bytes,
        give: &mut impl FnMut(Media),
    ) -> Result<(), IngestError> {
        let Some(video) = &mut self.video else {
            self.counts.dropped_early += 1;
            return Ok(());
        };
        let picture = match avc::picture(data, video.length_size) {
            Ok(Some(picture)) => picture,
            Ok(None) => return Ok(()),
            Err(error) => return self.handle_broken(error),
        };
        if picture.is_key {
            (video.needs_key, self.broken) = (false, 0);
        }
        if video.needs_key {
            self.counts.dropped_broken += 1;
            return Ok(());
        }
        let shown_ms = dts_ms.saturating_add(i64::from(composition_ms));
        let is_reordered = shown_ms < video.shown_ms && video.shown_ms - shown_ms < JUMP_MS;
        if is_reordered && !video.has_b_frames {
            video.has_b_frames = true;
            give(Media::BFrames);
        }
        video.shown_ms = shown_ms;
        self.counts.pictures += 1;
        let avc::Picture { is_key, data } = picture;
        give(Media::Video {
            dts_ms,
            composition_ms,
            is_key,
            data,
        });
        Ok(())
    }

    /// Drops a picture and those that need it; ends what never gets better.
    fn handle_broken(&mut self, error: AvcError) -> Result<(), IngestError> {
        self.counts.dropped_broken += 1;
        self.broken += 1;
        if let Some(video) = &mut self.video {
            video.needs_key = true;
        }
        if self.broken > BROKEN_MAX {
            Err(error.into())
        } else {
            Ok(())
        }
    }

    fn configure_audio(
        &mut self,
        record: &Bytes,
        give: &mut impl FnMut(Media),
    ) -> Result<(), IngestError> {
        if self
            .audio
            .as_ref()
            .is_some_and(|audio| audio.record == record)
        {
            return Ok(());
        }
        let config = Arc::new(aac::config(record)?);
        self.audio = Some(Arc::clone(&config));
        give(Media::AudioConfig(config));
        Ok(())
    }

    fn handle_sound(&mut self, dts_ms: i64, data: Bytes, give: &mut impl FnMut(Media)) {
        if self.audio.is_none() {
            self.counts.dropped_early += 1;
        } else if data.is_empty() || data.len() > SOUND_MAX {
            self.counts.dropped_broken += 1;
        } else {
            self.counts.sounds += 1;
            give(Media::Audio { dts_ms, data });
        }
    }

    fn at(&mut self, time: u32) -> i64 {
        let before = self.clock.last;
        let at = self.clock.extend(time);
        let is_jump = before.is_some_and(|before| (at - before).abs() > JUMP_MS);
        self.counts.jumps += u64::from(is_jump);
        at
    }
}

/// Carries 32-bit times on over their wrap, 49.7 days after 0: each is taken to be near the one before.
#[derive(Debug, Default)]
struct Clock {
    last: Option<i64>,
}

impl Clock {
    fn extend(&mut self, time: u32) -> i64 {
        let at = match self.last {
            None => i64::from(time),
            Some(last) => {
                let low = u32::try_from(last.rem_euclid(1 << 32)).unwrap_or(0);
                last + i64::from(time.wrapping_sub(low).cast_signed())
            }
        };
        self.last = Some(at);
        at
    }
}

/// `None`: it is not about the stream.
fn metadata(values: &[Value]) -> Option<Metadata> {
    let mut values = values.iter();
    let mut name = values.next().and_then(Value::as_str);
    if name == Some("@setDataFrame") {
        name = values.next().and_then(Value::as_str);
    }
    let properties = values.next().filter(|_| name == Some("onMetaData"))?;
    let number = |name| {
        let number = properties.get(name).and_then(Value::as_number);
        number.filter(|number| number.is_finite() && *number >= 0.0)
    };
    let encoder = properties.get("encoder").and_then(Value::as_str);
    Some(Metadata {
        encoder: encoder.map(|name| name.chars().take(ENCODER_MAX).collect()),
        width: number("width"),
        height: number("height"),
        frame_rate: number("framerate"),
        video_rate: number("videodatarate"),
        audio_rate: number("audiodatarate"),
    })
}

// More than a second of pictures without a good key picture among them.
const BROKEN_MAX: u32 = 60;
const JUMP_MS: i64 = 5000;
// An AAC packet has at most 6144 bits a channel (ISO/IEC 14496-3 §4.5.3.1), and there are eight.
const SOUND_MAX: usize = 6144;
const ENCODER_MAX: usize = 128;
// Far longer than any.
const DATA_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_on_over_the_wrap_and_back() {
        let mut clock = Clock::default();
        let wrap = 1_i64 << 32;
        assert_eq!(clock.extend(u32::MAX - 10), wrap - 11);
        assert_eq!(clock.extend(20), wrap + 20);
        assert_eq!(clock.extend(u32::MAX), wrap - 1);
        assert_eq!(clock.extend(40), wrap + 40);
    }
}
