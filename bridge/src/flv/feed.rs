//! A program as FLV for any number of players: each tag is made once, each player has a bounded queue.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::flv::write::{self, AUDIO, SCRIPT, VIDEO};
use crate::media::{AudioConfig, AudioFrame, VideoConfig, VideoFrame};
use crate::rtmp::queue::{Queue, QueueLimits, Queued};

/// A program that players may join at any time; they begin with the last key picture.
#[derive(Debug)]
pub struct FlvFeed {
    has_video: bool,
    has_audio: bool,
    program: Mutex<Program>,
}

#[derive(Debug, Default)]
struct Program {
    video: Option<Said<VideoConfig>>,
    audio: Option<Said<AudioConfig>>,
    /// What came since the last key picture, with that.
    group: Vec<Tag>,
    group_bytes: usize,
    viewers: Vec<Weak<Waiting>>,
    has_ended: bool,
}

/// Parameters, and the body of the tag that says them.
#[derive(Debug)]
struct Said<C> {
    config: Arc<C>,
    body: Bytes,
}

#[derive(Clone, Debug)]
struct Tag {
    kind: u8,
    at_us: i64,
    picture: Option<bool>,
    /// What has to be said before it.
    config: Bytes,
    bytes: Bytes,
}

/// What one player has not read.
#[derive(Debug)]
struct Waiting {
    tags: Mutex<Tags>,
    filled: Notify,
}

#[derive(Debug)]
struct Tags {
    queue: Queue<Tag>,
    has_ended: bool,
    /// Tags pushed since it last read.
    unread: u32,
}

/// A player's place: gives the file piece by piece.
#[derive(Debug)]
pub(crate) struct Viewer {
    waiting: Arc<Waiting>,
    head: Option<Bytes>,
    said_video: Bytes,
    said_audio: Bytes,
}

impl FlvFeed {
    /// A program with pictures, sound, or both, which players are told at once.
    pub fn new(has_video: bool, has_audio: bool) -> Self {
        Self {
            has_video,
            has_audio,
            program: Mutex::default(),
        }
    }

    /// Takes a picture of the program. Never waits.
    pub fn send_video(&self, frame: &VideoFrame) {
        let mut program = self.program();
        let is_said = program
            .video
            .as_ref()
            .is_some_and(|said| said.config == frame.config);
        if !is_said {
            let body = write::video_config(&frame.config);
            program.video = Some(Said {
                config: Arc::clone(&frame.config),
                body,
            });
        }
        let config = program
            .video
            .as_ref()
            .map(|said| said.body.clone())
            .unwrap_or_default();
        let body = write::video_frame(frame);
        program.send(Tag::new(
            VIDEO,
            frame.at_us,
            Some(frame.is_key),
            config,
            &body,
        ));
    }

    /// Takes a sound of the program. Never waits.
    pub fn send_audio(&self, frame: &AudioFrame) {
        let mut program = self.program();
        let is_said = program
            .audio
            .as_ref()
            .is_some_and(|said| said.config == frame.config);
        if !is_said {
            let body = write::audio_config(&frame.config);
            program.audio = Some(Said {
                config: Arc::clone(&frame.config),
                body,
            });
        }
        let config = program
            .audio
            .as_ref()
            .map(|said| said.body.clone())
            .unwrap_or_default();
        let body = write::audio_frame(frame.config.codec, &frame.data);
        program.send(Tag::new(AUDIO, frame.at_us, None, config, &body));
    }

    /// The program is over: players get what waits for them, and the end.
    pub fn end(&self) {
        let mut program = self.program();
        program.has_ended = true;
        for viewer in program
            .viewers
            .drain(..)
            .filter_map(|viewer| viewer.upgrade())
        {
            viewer.tags().has_ended = true;
            viewer.filled.notify_one();
        }
    }

    /// How many players there are.
    pub fn viewers(&self) -> usize {
        self.program()
            .viewers
            .iter()
            .filter(|viewer| viewer.strong_count() > 0)
            .count()
    }

    /// A player more. `None`: the program is over or there are too many.
    pub(crate) fn join(&self) -> Option<Viewer> {
        let mut program = self.program();
        program.viewers.retain(|viewer| viewer.strong_count() > 0);
        if program.has_ended || program.viewers.len() >= VIEWERS_MAX {
            return None;
        }
        let mut queue = Queue::new(LIMITS);
        program
            .group
            .iter()
            .cloned()
            .for_each(|tag| queue.push(tag));
        let tags = Mutex::new(Tags {
            queue,
            has_ended: false,
            unread: 0,
        });
        let waiting = Arc::new(Waiting {
            tags,
            filled: Notify::new(),
        });
        program.viewers.push(Arc::downgrade(&waiting));
        let video = program.video.as_ref().map(|said| said.config.as_ref());
        let audio = program.audio.as_ref().map(|said| said.config.as_ref());
        let header = write::file_header(self.has_video, self.has_audio);
        // At 0 wherever the program is: later ones are taken for a track of text, by ffmpeg for one.
        let metadata = write::tag(SCRIPT, 0, &write::metadata(video, audio));
        let head = Some([header.as_slice(), &metadata].concat().into());
        let (said_video, said_audio) = (Bytes::new(), Bytes::new());
        Some(Viewer {
            waiting,
            head,
            said_video,
            said_audio,
        })
    }

    fn program(&self) -> MutexGuard<'_, Program> {
        self.program.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Program {
    fn send(&mut self, tag: Tag) {
        self.viewers
            .retain(|viewer| viewer.upgrade().is_some_and(|viewer| viewer.push(&tag)));
        self.keep(tag);
    }

    /// Keeps what a player who joins now needs first, unless that has become too much.
    fn keep(&mut self, tag: Tag) {
        if tag.picture == Some(true) {
            self.group.clear();
            self.group_bytes = 0;
        } else if self.group.is_empty() {
            return;
        }
        self.group_bytes += tag.bytes();
        let span_us = self
            .group
            .first()
            .map_or(0, |first| tag.at_us.saturating_sub(first.at_us));
        if span_us > GROUP_US_MAX || self.group_bytes > GROUP_BYTES_MAX {
            self.group.clear();
        } else {
            self.group.push(tag);
        }
    }
}

impl Waiting {
    /// Whether the player is still there.
    fn push(&self, tag: &Tag) -> bool {
        let mut tags = self.tags();
        tags.unread += 1;
        if tags.unread > UNREAD_MAX {
            tags.queue.clear();
            tags.has_ended = true;
        } else {
            tags.queue.push(tag.clone());
        }
        self.filled.notify_one();
        !tags.has_ended
    }

    fn tags(&self) -> MutexGuard<'_, Tags> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Viewer {
    /// The next piece of the file; `None` at its end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        loop {
            let (tag, has_ended) = {
                let mut tags = self.waiting.tags();
                tags.unread = 0;
                (tags.queue.pop(), tags.has_ended)
            };
            match tag {
                Some(tag) => return Some(self.piece(tag)),
                None if has_ended => return None,
                None => self.waiting.filled.notified().await,
            }
        }
    }

    /// A tag, after its parameters if they are new to this player.
    fn piece(&mut self, tag: Tag) -> Bytes {
        let said = if tag.kind == VIDEO {
            &mut self.said_video
        } else {
            &mut self.said_audio
        };
        if *said == tag.config {
            return tag.bytes;
        }
        *said = tag.config;
        [
            write::tag(tag.kind, time_ms(tag.at_us), said).as_slice(),
            &tag.bytes,
        ]
        .concat()
        .into()
    }
}

impl Tag {
    fn new(kind: u8, at_us: i64, picture: Option<bool>, config: Bytes, body: &[u8]) -> Self {
        let bytes = write::tag(kind, time_ms(at_us), body).into();
        Self {
            kind,
            at_us,
            picture,
            config,
            bytes,
        }
    }
}

impl Queued for Tag {
    fn at_us(&self) -> i64 {
        self.at_us
    }

    fn bytes(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }

    fn picture(&self) -> Option<bool> {
        self.picture
    }
}

/// As tags have it: wraps after 49.7 days.
fn time_ms(at_us: i64) -> u32 {
    u32::try_from(at_us.div_euclid(1000).rem_euclid(1 << 32)).unwrap_or(0)
}

// A program has a key picture every two seconds.
const GROUP_US_MAX: i64 = 6_000_000;
const GROUP_BYTES_MAX: usize = 8 << 20;
// More than a group, or nobody could join.
const LIMITS: QueueLimits = QueueLimits {
    span_us: 10_000_000,
    bytes: 16 << 20,
};
const VIEWERS_MAX: usize = 4096;
// Half a minute of pictures and sound that nobody read.
const UNREAD_MAX: u32 = 3000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flv::{AUDIO_TAG, AudioBody, VIDEO_TAG, VideoBody, take_tag};
    use crate::media::{AudioCodec, VideoCodec};

    fn picture(record: &'static [u8], at_ms: i64, is_key: bool) -> VideoFrame {
        let (codec, name) = (VideoCodec::H264, String::new());
        let record = Bytes::from_static(record);
        let config = Arc::new(VideoConfig {
            codec,
            width: 2,
            height: 2,
            record,
            name,
        });
        let data = Bytes::copy_from_slice(&at_ms.to_be_bytes());
        VideoFrame {
            config,
            at_us: at_ms * 1000,
            is_key,
            data,
        }
    }

    fn sound(at_ms: i64) -> AudioFrame {
        let (codec, record) = (AudioCodec::Aac, Bytes::from_static(&[0x11, 0x90]));
        let config = AudioConfig {
            codec,
            sample_rate: 48_000,
            channels: 2,
            record,
            priming: 0,
        };
        let data = Bytes::from_static(b"aac");
        AudioFrame {
            config: Arc::new(config),
            at_us: at_ms * 1000,
            samples: 1024,
            data,
        }
    }

    /// What a player has to read now: kinds, times and whether parameters.
    async fn read(viewer: &mut Viewer) -> Vec<(u8, u32, bool)> {
        let mut tags = Vec::new();
        while viewer.head.is_some() || !is_empty(viewer) {
            let mut piece = viewer.next().await.unwrap();
            if piece.starts_with(b"FLV") {
                piece = piece.slice(13..);
            }
            while let Some((kind, time, body)) = take_tag(&mut piece) {
                let is_config = match kind {
                    VIDEO_TAG => matches!(VideoBody::read(&body), Ok(VideoBody::Config(_))),
                    AUDIO_TAG => matches!(AudioBody::read(&body), Ok(AudioBody::Config(_))),
                    _ => false,
                };
                tags.push((kind, time, is_config));
            }
            assert!(piece.is_empty());
        }
        tags
    }

    fn is_empty(viewer: &Viewer) -> bool {
        let mut tags = viewer.waiting.tags();
        let tag = tags.queue.pop();
        let is_empty = tag.is_none();
        if let Some(tag) = tag {
            // Back to its place.
            let rest: Vec<_> = std::iter::from_fn(|| tags.queue.pop()).collect();
            tags.queue.push(tag);
            rest.into_iter().for_each(|tag| tags.queue.push(tag));
        }
        is_empty
    }

    #[tokio::test]
    async fn who_joins_begins_with_the_last_key_picture() {
        let feed = FlvFeed::new(true, true);
        feed.send_video(&picture(b"a", 0, true));
        feed.send_video(&picture(b"a", 2000, true));
        feed.send_audio(&sound(2010));
        feed.send_video(&picture(b"a", 2040, false));
        let mut viewer = feed.join().unwrap();
        feed.send_video(&picture(b"a", 2080, false));
        feed.send_video(&picture(b"b", 4000, true));
        assert_eq!(
            read(&mut viewer).await,
            [
                (18, 0, false),
                (9, 2000, true),
                (9, 2000, false),
                (8, 2010, true),
                (8, 2010, false),
                (9, 2040, false),
                (9, 2080, false),
                (9, 4000, true),
                (9, 4000, false),
            ]
        );
        assert_eq!(feed.viewers(), 1);
        feed.end();
        assert_eq!(viewer.next().await, None);
        assert!(feed.join().is_none());
    }

    #[tokio::test]
    async fn a_slow_player_goes_on_at_a_key_picture_and_a_dead_one_is_left() {
        let feed = FlvFeed::new(true, false);
        let mut viewer = feed.join().unwrap();
        for at in 0..600 {
            feed.send_video(&picture(b"a", at * 40, at % 50 == 0));
        }
        let tags = read(&mut viewer).await;
        assert_eq!(tags[..2], [(18, 0, false), (9, 20_000, true)]);
        assert!(tags.len() < 260);
        for at in 600..4000 {
            feed.send_video(&picture(b"a", at * 40, at % 50 == 0));
        }
        assert_eq!(feed.viewers(), 0);
        assert_eq!(viewer.next().await, None);
    }

    #[test]
    fn a_group_that_never_ends_is_not_kept() {
        let feed = FlvFeed::new(true, false);
        for at in 0..2000 {
            feed.send_video(&picture(b"a", at * 40, at == 0));
        }
        assert!(feed.program().group.is_empty());
    }

    #[test]
    fn times_wrap_at_32_bits() {
        assert_eq!(time_ms(((1 << 32) + 5) * 1000), 5);
        assert_eq!(time_ms(-1), u32::MAX);
    }
}
