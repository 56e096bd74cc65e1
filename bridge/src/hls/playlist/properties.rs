//! Every playlist of random sources is read by another parser and held against the ones before.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use m3u8_rs::{MediaPlaylist as Parsed, parse_media_playlist_res};
use proptest::prelude::*;

use super::super::publication::{Publication, RenditionId};
use super::super::secrets::Secrets;
use super::super::window::Window;
use super::super::{Packager, Settings};
use super::*;
use crate::media::{AudioCodec, AudioConfig, AudioFrame, VideoCodec, VideoConfig, VideoFrame};

/// 2026-11-22T10:00:00Z.
const ZERO_US: i64 = 1_795_341_600_000_000;

/// The windows of a broadcast, and what its playlists said so far.
struct Shelf {
    settings: Arc<Settings>,
    secrets: Arc<Secrets>,
    windows: BTreeMap<RenditionId, Window>,
    seen: BTreeMap<RenditionId, Seen>,
}

#[derive(Default)]
struct Seen {
    head: Vec<String>,
    media_sequence: u64,
    /// Of whole segments: the number of the discontinuity, the duration and the map.
    segments: BTreeMap<u64, (u64, String, String)>,
    /// The last playlist that a player has.
    text: String,
}

impl Shelf {
    fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            secrets: Arc::new(Secrets::new(&[1; 32])),
            windows: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    fn apply(&mut self, publication: Publication) {
        let (settings, secrets) = (&self.settings, &self.secrets);
        let window = |id: RenditionId, windows: &mut BTreeMap<_, Window>| {
            windows
                .entry(id)
                .or_insert_with(|| Window::new(id, Arc::clone(settings), Arc::clone(secrets)));
        };
        let windows = &mut self.windows;
        let changed = match publication {
            Publication::Map {
                rendition,
                number,
                spec,
                bytes,
            } => {
                window(rendition, windows);
                windows
                    .get_mut(&rendition)
                    .unwrap()
                    .add_map(number, spec, bytes);
                return;
            }
            Publication::Opened { rendition, opening } => {
                windows.get_mut(&rendition).unwrap().open(opening);
                return;
            }
            Publication::Part { rendition, part } => {
                windows.get_mut(&rendition).unwrap().add_part(part);
                rendition
            }
            Publication::Closed {
                rendition,
                duration_us,
            } => {
                windows.get_mut(&rendition).unwrap().close(duration_us);
                rendition
            }
            Publication::Gap {
                rendition,
                opening,
                duration_us,
            } => {
                window(rendition, windows);
                windows
                    .get_mut(&rendition)
                    .unwrap()
                    .gap(opening, duration_us);
                rendition
            }
            Publication::Paused => return windows.values_mut().for_each(Window::pause),
            Publication::Ended => {
                windows
                    .values_mut()
                    .for_each(|window| window.is_ended = true);
                let ids: Vec<RenditionId> = self.windows.keys().copied().collect();
                return ids.into_iter().for_each(|id| self.check(id));
            }
        };
        self.check(changed);
    }

    fn render(&self, id: RenditionId, is_delta: bool) -> String {
        let others: Vec<&Window> = self
            .windows
            .values()
            .filter(|window| window.id != id)
            .collect();
        let playlist = MediaPlaylist {
            window: &self.windows[&id],
            settings: &self.settings,
            others: &others,
            uris: Uris::Plain,
            zero_us: ZERO_US,
            is_delta,
        };
        playlist.render()
    }

    fn check(&mut self, id: RenditionId) {
        if !self.windows[&id].is_ready() {
            return;
        }
        let text = self.render(id, false);
        let delta = self.render(id, true);
        let parsed = parse_media_playlist_res(text.as_bytes()).unwrap();
        let begins_anywhere = self.windows[&id].has_continuations();
        assert_eq!(parsed.independent_segments, !begins_anywhere);
        let reports = text.matches("#EXT-X-RENDITION-REPORT").count();
        let others = self
            .windows
            .values()
            .filter(|window| window.id != id && window.listed().next().is_some());
        assert_eq!(reports, if parsed.end_list { 0 } else { others.count() });
        let seen = self.seen.entry(id).or_default();
        check_constants(seen, &text);
        check_segments(seen, &parsed);
        check_parts(&text);
        check_delta(&seen.text, &delta, &text);
        seen.text = text;
    }
}

fn tags<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    text.lines().filter(|line| line.starts_with(name)).collect()
}

fn check_constants(seen: &mut Seen, text: &str) {
    let names = [
        "#EXT-X-TARGETDURATION",
        "#EXT-X-PART-INF",
        "#EXT-X-SERVER-CONTROL",
        "#EXT-X-VERSION",
    ];
    let head: Vec<String> = names
        .iter()
        .flat_map(|name| tags(text, name))
        .map(str::to_owned)
        .collect();
    assert_eq!(head.len(), names.len());
    if seen.head.is_empty() {
        seen.head.clone_from(&head);
    }
    assert_eq!(seen.head, head);
    assert_eq!(text.contains("PRELOAD-HINT"), !text.contains("ENDLIST"));
}

fn check_segments(seen: &mut Seen, parsed: &Parsed) {
    assert!(parsed.media_sequence >= seen.media_sequence);
    seen.media_sequence = parsed.media_sequence;
    let mut discontinuity = parsed.discontinuity_sequence;
    let mut map = String::new();
    for (msn, segment) in (parsed.media_sequence..).zip(&parsed.segments) {
        // EXTINF rounded must not be over the target duration.
        assert!(segment.duration < 3.5, "{}", segment.duration);
        assert!(segment.program_date_time.is_some());
        assert!(
            segment.uri.ends_with(&format!("-s{msn}.m4s")),
            "{} {msn}",
            segment.uri
        );
        discontinuity += u64::from(segment.discontinuity);
        if let Some(tag) = &segment.map {
            map.clone_from(&tag.uri);
        }
        assert!(!map.is_empty());
        let now = (discontinuity, format!("{}", segment.duration), map.clone());
        let before = seen.segments.entry(msn).or_insert_with(|| now.clone());
        assert_eq!(*before, now, "segment {msn} has changed");
    }
}

fn check_parts(text: &str) {
    let durations = tags(text, "#EXT-X-PART:").into_iter().map(|tag| {
        let value = tag
            .split("DURATION=")
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap();
        value.parse::<f64>().unwrap()
    });
    assert!(
        durations
            .clone()
            .all(|duration| duration <= 0.2 && duration > 0.0)
    );
    // Only the last one of a segment may be shorter than 85 % of the target.
    let mut is_short = false;
    for line in text.lines() {
        if line.starts_with("#EXT-X-PART:") {
            assert!(!is_short, "{text}");
            is_short = !line.contains("DURATION=0.20000");
        } else if line.starts_with("#EXTINF") {
            is_short = false;
        }
    }
}

/// What a player makes of a delta update with the playlist it has must be the whole playlist.
fn check_delta(had: &str, delta: &str, whole: &str) {
    let Some(skip) = tags(delta, "#EXT-X-SKIP").into_iter().next() else {
        assert_eq!(delta, whole);
        return;
    };
    let skipped: usize = skip.split('=').nth(1).unwrap().parse().unwrap();
    assert!(skipped > 0);
    let uris = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect()
    };
    let (had, whole_uris, mut applied) = (uris(had), uris(whole), Vec::new());
    let first = &whole_uris[0];
    let from = had.iter().position(|uri| uri == first).unwrap();
    applied.extend_from_slice(&had[from..from + skipped]);
    applied.extend(uris(delta));
    assert_eq!(applied, whole_uris);
    // From there on it is the same text, but for what is said again of the maps in effect.
    let tail = |text: &str| {
        let from = text.find(&whole_uris[skipped]).unwrap();
        text[from..].to_owned()
    };
    assert_eq!(tail(delta), tail(whole));
    assert!(delta.contains("#EXT-X-MAP"));
}

fn picture(width: u16, at_us: i64, is_key: bool) -> VideoFrame {
    VideoFrame {
        config: Arc::new(VideoConfig {
            codec: VideoCodec::H264,
            width,
            height: 90,
            record: Bytes::from_static(&[
                1, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0, 4, 0x67, 0x42, 0xc0, 0x1f, 1, 0, 4, 0x68, 0xce,
                0x3c, 0x80,
            ]),
            name: "avc1.42c01f".to_owned(),
        }),
        at_us,
        is_key,
        data: Bytes::from_static(&[1; 900]),
    }
}

fn sound(at_us: i64) -> AudioFrame {
    AudioFrame {
        config: Arc::new(AudioConfig {
            codec: AudioCodec::Aac,
            sample_rate: 48_000,
            channels: 2,
            record: Bytes::from_static(&[0x11, 0x90]),
            priming: 2048,
        }),
        at_us,
        samples: 1024,
        data: Bytes::from_static(&[2; 200]),
    }
}

/// Publishes a source for a while: a picture each `interval_us` on two rungs, and what happens meanwhile.
fn run(settings: Settings, interval_us: i64, events: &[(u8, u16)]) {
    let mut packager = Packager::new(&settings, ZERO_US);
    let mut shelf = Shelf::new(settings);
    let (mut sounds, mut width, mut index) = (0i64, 160, 0i64);
    for (event, length) in events {
        let (mut has_pictures, mut has_keys) = (true, true);
        match event {
            0 => has_pictures = false,
            1 => has_keys = false,
            2 => width = if width == 160 { 320 } else { 160 },
            3 => packager.discontinue(),
            4 => packager.pause(),
            _ => {}
        }
        for step in 0..i64::from(*length) {
            let now_us = index * interval_us;
            while sounds * 1024 * 1_000_000 / 48_000 <= now_us {
                packager.push_audio(now_us, sound(sounds * 1024 * 1_000_000 / 48_000));
                sounds += 1;
            }
            let is_key = has_keys && (step == 0 || index % (2_000_000 / interval_us) == 0);
            if has_pictures {
                packager.push_video(now_us, 0, picture(width, now_us, is_key));
                packager.push_video(now_us, 1, picture(80, now_us, is_key));
            }
            packager.advance(now_us);
            while let Some(publication) = packager.poll() {
                shelf.apply(publication);
            }
            index += 1;
        }
    }
    packager.finish();
    while let Some(publication) = packager.poll() {
        shelf.apply(publication);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn playlists_of_any_source_agree_with_each_other(
        interval_us in 20_000i64..120_000,
        events in proptest::collection::vec((0u8..12, 10u16..120), 1..10),
        window_s in 6u64..60,
        holds_picture in any::<bool>(),
        segments_per_key in proptest::option::of(1u32..4),
    ) {
        let settings = Settings {
            dvr_window: std::time::Duration::from_secs(window_s),
            holds_picture,
            segments_per_key,
            ..Settings::default()
        };
        run(settings, interval_us, &events);
    }
}
