//! A broadcast with made-up frames behind a real server on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bridge::hls::{
    Broadcast, Clock, Gate, Live, Packager, Refusal, Registry, Settings, Viewer, Wake, routes,
};
use bridge::media::{AudioCodec, AudioConfig, AudioFrame, VideoCodec, VideoConfig, VideoFrame};
use bytes::Bytes;
use tokio::net::TcpListener;

use crate::client::{Answer, get};

pub(crate) const ROOM: &str = "room 1";
/// 2026-11-22T10:00:00Z.
pub(crate) const BEGAN_US: i64 = 1_795_341_600_000_000;

/// A served broadcast and the packager that feeds it.
pub(crate) struct Stage {
    pub(crate) addr: SocketAddr,
    pub(crate) broadcast: Arc<Broadcast>,
    pub(crate) packager: Packager,
    configs: [Arc<VideoConfig>; 2],
    sound: Arc<AudioConfig>,
    /// Pictures shown so far, 30 a second.
    shown: i64,
    sounded: i64,
    rungs: u8,
}

/// Lets everyone in under the name that is their token, but for some tokens.
struct Names;

impl Gate for Names {
    fn admit(&self, room: &str, token: &str) -> Result<Viewer, Refusal> {
        assert_eq!(room, ROOM);
        match token {
            "" => Err(Refusal::Unauthorized("a token is needed".to_owned())),
            "stranger" => Err(Refusal::Forbidden("not for this room".to_owned())),
            "late" => Ok(Viewer {
                user: "late".to_owned(),
                expires_at_s: 1,
            }),
            user => Ok(Viewer {
                user: user.to_owned(),
                expires_at_s: u64::try_from(BEGAN_US / 1_000_000).unwrap() + 600,
            }),
        }
    }
}

/// Serves what is in a registry.
pub(crate) async fn serve(registry: &Arc<Registry>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let live = Arc::new(Live {
        registry: Arc::clone(registry),
        gate: Arc::new(Names),
    });
    tokio::spawn(async move { axum::serve(listener, routes(live)).await });
    addr
}

pub(crate) fn broadcast(settings: &Settings, wake: Option<Wake>) -> Arc<Broadcast> {
    let clock = Clock {
        zero: Instant::now(),
        unix_us: BEGAN_US,
    };
    Arc::new(Broadcast::new(settings.clone(), &[7; 32], clock, wake))
}

impl Stage {
    pub(crate) async fn new(settings: Settings) -> Self {
        Self::with(settings, None).await
    }

    pub(crate) async fn with(settings: Settings, wake: Option<Wake>) -> Self {
        let registry = Arc::new(Registry::default());
        let broadcast = broadcast(&settings, wake);
        registry.insert(ROOM.to_owned(), Arc::clone(&broadcast));
        let video = |width, height| {
            Arc::new(VideoConfig {
                codec: VideoCodec::H264,
                width,
                height,
                record: Bytes::from_static(&[
                    1, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0, 4, 0x67, 0x42, 0xc0, 0x1f, 1, 0, 4, 0x68,
                    0xce, 0x3c, 0x80,
                ]),
                name: "avc1.42c01f".to_owned(),
            })
        };
        Self {
            addr: serve(&registry).await,
            broadcast,
            packager: Packager::new(&settings, BEGAN_US),
            configs: [video(1280, 720), video(640, 360)],
            sound: Arc::new(AudioConfig {
                codec: AudioCodec::Opus,
                sample_rate: 48_000,
                channels: 2,
                record: Bytes::from_static(&[0, 2, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0]),
                priming: 312,
            }),
            shown: 0,
            sounded: 0,
            rungs: 2,
        }
    }

    /// Shows pictures on two rungs and lets sound be heard for a while, as fast as can be.
    pub(crate) fn play(&mut self, millis: i64) {
        let until = self.shown + millis * 30 / 1000;
        while self.shown < until {
            let at_us = self.shown * 1_000_000 / 30;
            while self.sounded * 20_000 <= at_us {
                let frame = AudioFrame {
                    config: Arc::clone(&self.sound),
                    at_us: self.sounded * 20_000,
                    samples: 960,
                    data: Bytes::from(vec![0x5a; 100]),
                };
                self.packager.push_audio(at_us, frame);
                self.sounded += 1;
            }
            for rung in 0..self.rungs {
                let frame = VideoFrame {
                    config: Arc::clone(&self.configs[usize::from(rung)]),
                    at_us,
                    is_key: self.shown % 60 == 0,
                    data: Bytes::from(vec![0xa5; 4000 >> rung]),
                };
                self.packager.push_video(at_us, rung, frame);
            }
            self.packager.advance(at_us);
            self.publish();
            self.shown += 1;
        }
    }

    /// The top rung comes in another size from now on.
    pub(crate) fn resize(&mut self, width: u16) {
        let mut config = (*self.configs[0]).clone();
        config.width = width;
        self.configs[0] = Arc::new(config);
    }

    pub(crate) fn finish(&mut self) {
        self.packager.finish();
        self.publish();
    }

    pub(crate) fn publish(&mut self) {
        self.broadcast
            .publish(std::iter::from_fn(|| self.packager.poll()));
    }

    /// The path of something below the room.
    pub(crate) fn path(&self, below: &str) -> String {
        format!("/live/room%201/{below}")
    }

    pub(crate) async fn get(&self, below: &str) -> Answer {
        get(self.addr, &self.path(below)).await
    }

    /// The URIs of the media playlists by their names, with what is asked for in `query`.
    pub(crate) async fn playlists(&self, query: &str) -> Vec<String> {
        let index = self.get(&format!("index.m3u8{query}")).await;
        assert_eq!(index.status, 200, "{}", index.text());
        uris(index.text())
    }

    /// The URI of one media playlist.
    pub(crate) async fn playlist_uri(&self, name: &str, query: &str) -> String {
        let uris = self.playlists(query).await;
        uris.into_iter().find(|uri| uri.contains(name)).unwrap()
    }
}

/// All URIs in a playlist.
pub(crate) fn uris(text: &str) -> Vec<String> {
    let quoted = |line: &str| {
        let rest = line.split("URI=\"").nth(1)?;
        rest.split('"').next().map(str::to_owned)
    };
    let uri = |line: &str| match line.starts_with('#') {
        true => quoted(line),
        false => Some(line.to_owned()),
    };
    text.lines().filter_map(uri).collect()
}

/// A URI in a playlist, against the playlist's own.
pub(crate) fn join(playlist: &str, uri: &str) -> String {
    let folder = playlist.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/{uri}")
}

/// The value of an attribute or tag in a playlist.
pub(crate) fn value<'t>(text: &'t str, name: &str) -> &'t str {
    let rest = text
        .split(name)
        .nth(1)
        .unwrap_or_else(|| panic!("{name} in {text}"));
    rest.split([',', '\n', '"']).next().unwrap()
}
