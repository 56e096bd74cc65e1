use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;

use crate::hls::{Broadcast, Clock, Packager, Settings};
use crate::media::{AudioCodec, AudioConfig, AudioFrame, VideoCodec, VideoConfig, VideoFrame};

/// A broadcast and what feeds it.
struct Stage {
    broadcast: Broadcast,
    packager: Packager,
    /// Of each picture.
    width: u16,
    bytes: usize,
}

impl Stage {
    #[expect(
        clippy::disallowed_methods,
        reason = "a broadcast began at some instant"
    )]
    fn new() -> Self {
        let clock = Clock {
            zero: Instant::now(),
            unix_us: 0,
        };
        Self {
            broadcast: Broadcast::new(Settings::default(), &[7; 32], clock, None),
            packager: Packager::new(&Settings::default(), 0),
            width: 640,
            bytes: 6,
        }
    }

    /// Sound from one moment to another, in milliseconds, and a picture with each piece of it if wanted.
    fn play(&mut self, from_ms: i64, until_ms: i64, has_pictures: bool) {
        for at_ms in (from_ms..until_ms).step_by(20) {
            let at_us = at_ms * 1000;
            let sound = AudioConfig {
                codec: AudioCodec::Opus,
                sample_rate: 48_000,
                channels: 2,
                record: Bytes::from_static(&[0, 2, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0]),
                priming: 312,
            };
            let sound = AudioFrame {
                config: Arc::new(sound),
                at_us,
                samples: 960,
                data: Bytes::from_static(&[0xfc, 0xff, 0xfe]),
            };
            self.packager.push_audio(at_us, sound);
            if has_pictures {
                let picture = VideoConfig {
                    codec: VideoCodec::H264,
                    width: self.width,
                    height: 360,
                    record: Bytes::from_static(&[
                        1, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0, 4, 0x67, 0x42, 0xc0, 0x1f, 1, 0, 4,
                        0x68, 0xce, 0x3c, 0x80,
                    ]),
                    name: "avc1.42c01f".to_owned(),
                };
                let picture = VideoFrame {
                    config: Arc::new(picture),
                    at_us,
                    is_key: at_ms % 2000 == 0 || at_ms == from_ms,
                    data: self.picture(),
                };
                self.packager.push_video(at_us, 0, picture);
            }
            self.packager.advance(at_us);
            self.broadcast
                .publish(std::iter::from_fn(|| self.packager.poll()));
        }
    }

    fn picture(&self) -> Bytes {
        let payload = u32::try_from(self.bytes - 4).unwrap();
        let mut picture = payload.to_be_bytes().to_vec();
        picture.push(0x65);
        picture.resize(self.bytes, 1);
        picture.into()
    }

    fn bandwidth(&self) -> u64 {
        let entry = self.entry().unwrap();
        let (_, after) = entry.split_once("STREAM-INF:BANDWIDTH=").unwrap();
        after.split_once(',').unwrap().0.parse().unwrap()
    }

    /// The multivariant playlist, if it is not to be waited for.
    fn entry(&self) -> Option<String> {
        let uri = |resource: super::Resource| resource.to_string();
        self.broadcast.multivariant(&uri).now_or_never()
    }
}

#[test]
fn pictures_that_are_about_to_begin_are_waited_for() {
    let mut stage = Stage::new();
    assert_eq!(stage.entry(), None);
    stage.play(0, 4_000, false);
    let alone = stage.entry().unwrap();
    assert!(!alone.contains("RESOLUTION"), "{alone}");
    stage.play(4_000, 5_000, true);
    assert_eq!(stage.entry(), None);
    stage.play(5_000, 7_000, true);
    let both = stage.entry().unwrap();
    assert!(both.contains("RESOLUTION=640x360"), "{both}");
    assert!(both.contains("TYPE=AUDIO"), "{both}");
    // After a pause nothing of what was is listed, and nothing is left out.
    stage.packager.pause();
    stage.play(20_000, 22_020, true);
    stage.play(22_020, 22_980, false);
    let entry = stage.entry();
    assert!(entry.is_none_or(|entry| entry.contains("RESOLUTION") && entry.contains("TYPE=AUDIO")));
    stage.play(22_980, 27_000, true);
    assert!(stage.entry().is_some());
}

#[test]
fn a_source_that_changes_as_it_begins_is_not_begun_with() {
    let mut stage = Stage::new();
    stage.play(0, 60, true);
    stage.width = 1280;
    stage.play(60, 1_900, true);
    assert_eq!(stage.entry(), None);
    stage.play(1_900, 2_100, true);
    let entry = stage.entry().unwrap();
    assert!(entry.contains("RESOLUTION=1280x360"), "{entry}");
    // What is over is what there is.
    let mut stage = Stage::new();
    stage.play(0, 60, true);
    stage.packager.finish();
    stage.play(60, 80, true);
    assert!(stage.entry().is_some());
}

#[test]
fn parts_are_listed_of_three_segments_with_the_open_one() {
    let mut stage = Stage::new();
    stage.play(0, 13_000, true);
    let playlist = stage.broadcast.playlist(
        super::RenditionId::Video(0),
        crate::hls::window::Ask::default(),
        None,
    );
    let Some(crate::hls::broadcast::Answer::Text { text, .. }) = playlist.now_or_never() else {
        panic!("it is there");
    };
    let text = String::from_utf8_lossy(&text.plain).into_owned();
    let with_parts = text.split("#EXT-X-PROGRAM-DATE-TIME").skip(1);
    let with_parts: Vec<bool> = with_parts.map(|of| of.contains("#EXT-X-PART:")).collect();
    let (whole, parts) = (with_parts.len() - 3, [true; 3]);
    assert!(whole >= 3, "{text}");
    assert_eq!(with_parts[whole..], parts, "{text}");
    assert!(!with_parts[..whole].contains(&true), "{text}");
}

#[test]
fn the_bandwidth_is_that_of_the_densest_segment_that_is_listed() {
    let mut stage = Stage::new();
    stage.bytes = 5_000;
    stage.play(0, 7_000, true);
    let dense = stage.bandwidth();
    assert!(dense > 2_000_000, "{dense}");
    // A smaller picture takes less, but what is listed has to be loaded all the same.
    (stage.width, stage.bytes) = (320, 500);
    stage.play(8_000, 13_000, true);
    assert_eq!(stage.bandwidth(), dense);
    stage.play(13_000, 25_000, true);
    let sparse = stage.bandwidth();
    assert!(sparse < dense / 5, "{sparse} after {dense}");
}
