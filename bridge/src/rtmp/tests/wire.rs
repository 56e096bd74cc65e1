//! A push and an ingest with a wire between them, and an encoder that says whatever it is told to.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::flv::avc;
use crate::media::{AudioCodec, AudioConfig, AudioFrame, VideoConfig, VideoFrame};
use crate::rtmp::amf::{Value, object};
use crate::rtmp::chunk::Message;
use crate::rtmp::ingest::{Ending, Event, Ingest, Media, Refusal};
use crate::rtmp::message::Outlet;
use crate::rtmp::push::{Push, PushEvent, Takes};

/// What the server says to a request.
pub(super) enum Answer {
    Accept,
    Refuse(Refusal),
}

/// A push and an ingest.
pub(super) struct Wire {
    pub(super) now: Instant,
    pub(super) push: Push,
    pub(super) ingest: Ingest,
    pub(super) push_events: Vec<PushEvent>,
    pub(super) ingest_events: Vec<Event>,
    /// Everything the push has sent.
    pub(super) recorded: Vec<u8>,
    answer: Answer,
    cuts: Vec<usize>,
    cut: usize,
}

impl Wire {
    /// Bytes go in pieces of these sizes, over and over.
    pub(super) fn new(has_video: bool, answer: Answer, cuts: Vec<usize>) -> Self {
        let now = Instant::now();
        let target = "rtmp://host/live/room?token=secret".parse().unwrap();
        let audio = Some(audio_config());
        Self {
            now,
            push: Push::new(now, target, (has_video, audio), Takes::default(), 1),
            ingest: Ingest::new(now, ([127, 0, 0, 1], 1).into(), 2),
            push_events: Vec::new(),
            ingest_events: Vec::new(),
            recorded: Vec::new(),
            answer,
            cuts,
            cut: 0,
        }
    }

    /// Passes bytes on until neither side has any.
    pub(super) fn settle(&mut self) {
        loop {
            let to_server = self.push.poll_transmit().unwrap_or_default();
            let to_client = self.ingest.poll_transmit().unwrap_or_default();
            if to_server.is_empty() && to_client.is_empty() {
                return;
            }
            self.recorded.extend_from_slice(&to_server);
            let (mut to_server, mut to_client) = (to_server.as_ref(), to_client.as_ref());
            while !to_server.is_empty() {
                let piece = self.piece(&mut to_server);
                self.ingest.handle_bytes(self.now, piece);
                self.drain_ingest();
            }
            while !to_client.is_empty() {
                let piece = self.piece(&mut to_client);
                self.push.handle_bytes(piece);
                self.push_events
                    .extend(std::iter::from_fn(|| self.push.poll_event()));
            }
        }
    }

    pub(super) fn media(&self) -> Vec<Media> {
        media(&self.ingest_events)
    }

    fn piece<'a>(&mut self, bytes: &mut &'a [u8]) -> &'a [u8] {
        let size = self.cuts[self.cut % self.cuts.len()].clamp(1, bytes.len());
        self.cut += 1;
        let (piece, rest) = bytes.split_at(size);
        *bytes = rest;
        piece
    }

    fn drain_ingest(&mut self) {
        while let Some(event) = self.ingest.poll_event() {
            if matches!(event, Event::PublishRequested(_)) {
                match &self.answer {
                    Answer::Accept => self.ingest.accept(self.now),
                    Answer::Refuse(refusal) => self.ingest.refuse(refusal.clone()),
                }
            }
            self.ingest_events.push(event);
        }
    }
}

/// An ingest with somebody at the other end who says what a test wants.
pub(super) struct Encoder {
    pub(super) now: Instant,
    pub(super) ingest: Ingest,
    pub(super) outlet: Outlet,
    pub(super) events: Vec<Event>,
    /// What the server said, after its part of the handshake.
    pub(super) heard: Vec<u8>,
}

impl Encoder {
    /// After the handshake.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let mut ingest = Ingest::new(now, ([127, 0, 0, 1], 1).into(), 2);
        ingest.handle_bytes(now, &[3; 1 + 2 * 1536]);
        assert_eq!(ingest.poll_transmit().unwrap().len(), 1 + 2 * 1536);
        Self {
            now,
            ingest,
            outlet: Outlet::new(),
            events: Vec::new(),
            heard: Vec::new(),
        }
    }

    /// After its key was accepted.
    pub(super) fn publishing() -> Self {
        let mut encoder = Self::new();
        encoder.command("connect", 1.0, &[object([("app", "live".into())])]);
        encoder.command("createStream", 2.0, &[Value::Null]);
        encoder.command(
            "publish",
            3.0,
            &[Value::Null, "room?token=t".into(), "live".into()],
        );
        assert!(matches!(
            encoder.events.pop(),
            Some(Event::PublishRequested(_))
        ));
        encoder.ingest.accept(encoder.now);
        encoder.drain();
        encoder
    }

    pub(super) fn command(&mut self, name: &str, transaction: f64, values: &[Value]) {
        self.outlet.command(0, name, transaction, values);
        self.send_outlet();
    }

    pub(super) fn control(&mut self, kind: u8, payload: &[u8]) {
        self.outlet.control(kind, payload);
        self.send_outlet();
    }

    pub(super) fn message(&mut self, kind: u8, timestamp: u32, payload: &[u8]) {
        let payload = Bytes::copy_from_slice(payload);
        self.outlet.message(
            6,
            &Message {
                kind,
                stream_id: 1,
                timestamp,
                payload,
            },
        );
        self.send_outlet();
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.ingest.handle_bytes(self.now, bytes);
        self.drain();
    }

    pub(super) fn ending(&self) -> Option<&Ending> {
        match self.events.last() {
            Some(Event::Ended(ending)) => Some(ending),
            _ => None,
        }
    }

    pub(super) fn media(&self) -> Vec<Media> {
        media(&self.events)
    }

    /// Whether the server has said that.
    pub(super) fn has_heard(&self, text: &str) -> bool {
        self.heard
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    }

    pub(super) fn drain(&mut self) {
        self.events
            .extend(std::iter::from_fn(|| self.ingest.poll_event()));
        while let Some(bytes) = self.ingest.poll_transmit() {
            self.heard.extend_from_slice(&bytes);
        }
    }

    fn send_outlet(&mut self) {
        let bytes = self.outlet.take().unwrap();
        self.bytes(&bytes);
    }
}

fn media(events: &[Event]) -> Vec<Media> {
    let media = events.iter().filter_map(|event| match event {
        Event::Media(media) => Some(media.clone()),
        _ => None,
    });
    media.collect()
}

pub(super) fn video_config() -> Arc<VideoConfig> {
    Arc::new(avc::config(&avc::tests::RECORD).unwrap().0)
}

pub(super) fn audio_config() -> Arc<AudioConfig> {
    let (codec, record) = (AudioCodec::Aac, Bytes::from_static(&[0x11, 0x90]));
    Arc::new(AudioConfig {
        codec,
        sample_rate: 48_000,
        channels: 2,
        record,
        priming: 0,
    })
}

/// One slice of that many bytes.
pub(super) fn picture(at_us: i64, is_key: bool, length: usize) -> VideoFrame {
    VideoFrame {
        config: video_config(),
        at_us,
        is_key,
        data: slice(is_key, length),
    }
}

pub(super) fn slice(is_key: bool, length: usize) -> Bytes {
    let size = u32::try_from(length).unwrap().to_be_bytes();
    let mut data = [size.as_slice(), &vec![0x77; length]].concat();
    data[4] = if is_key { 0x65 } else { 0x41 };
    data.into()
}

pub(super) fn sound(at_us: i64) -> AudioFrame {
    let data = Bytes::from_static(&[0x21, 0x10, 4, 5]);
    AudioFrame {
        config: audio_config(),
        at_us,
        samples: 1024,
        data,
    }
}
