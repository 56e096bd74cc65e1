//! A program is pushed to nginx, to our own listener, and to servers that are slow or not who they say.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge::media::{AudioCodec, AudioConfig, VideoFrame};
use bridge::rtmp::{
    Event, Ingest, ListenerSettings, Media, PushError, PushRefused, PushSettings, PushState,
    Pusher, Takes,
};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::ingest::certificate;
use crate::programs::{bounded, has, run, sample, start, words};
use crate::service::Service;

fn settings(url: &str, audio: Option<Arc<AudioConfig>>) -> PushSettings {
    let target = url.parse().unwrap();
    PushSettings {
        target,
        takes: Takes::default(),
        has_video: true,
        audio,
        tls: None,
    }
}

async fn reaches(pusher: &Pusher, wanted: impl FnMut(&PushState) -> bool) -> PushState {
    bounded(pusher.state().wait_for(wanted))
        .await
        .unwrap()
        .clone()
}

fn is_live(state: &PushState) -> bool {
    *state == PushState::Live
}

/// Sends the sample over and over at its own pace, for ever.
async fn play(pusher: &Pusher) {
    let mut pace = tokio::time::interval(Duration::from_millis(40));
    for (picture, sound) in sample().await.repeated() {
        if let Some(sound) = sound {
            pusher.send_audio(&sound);
        }
        if let Some(picture) = picture {
            pusher.send_video(&picture);
            pace.tick().await;
        }
    }
}

/// nginx with its RTMP module, in a folder of its own.
struct Nginx {
    folder: PathBuf,
    port: u16,
}

const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

impl Nginx {
    async fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("plenum-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let config = format!(
            "load_module {MODULE}; daemon off; master_process off; pid nginx.pid;
            error_log error.log warn; events {{ worker_connections 64; }}
            rtmp {{ server {{ listen 127.0.0.1:{port};
                application live {{ live on; wait_key on; wait_video on; }} }} }}"
        );
        std::fs::write(folder.join("nginx.conf"), config).unwrap();
        Self { folder, port }
    }

    fn start(&self) -> Child {
        let folder = format!("{}/", self.folder.display());
        start(
            "nginx",
            &["-p", &folder, "-c", "nginx.conf", "-e", "error.log"],
        )
    }

    fn url(&self) -> String {
        format!("rtmp://127.0.0.1:{}/live/key", self.port)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn has_nginx() -> bool {
    has(&["ffmpeg", "ffprobe", "nginx"])
        && (Path::new(MODULE).exists() || has(&["nginx RTMP module"]))
}

/// What a player finds there, of the first pictures and the sound.
async fn probe(url: &str) -> String {
    let options = "-v error -analyzeduration 1000000 -read_intervals %+#40 -show_entries \
        stream=codec_name,width,height,sample_rate,channels:packet=codec_type,flags -of csv";
    let arguments: Vec<_> = words(options).into_iter().chain([url]).collect();
    let (is_content, said) = run("ffprobe", &arguments).await;
    assert!(is_content, "{said}");
    said
}

#[tokio::test]
async fn nginx_is_pushed_to_killed_and_resumed_at_a_key_picture() {
    if !has_nginx() {
        return;
    }
    let server = Nginx::new("push").await;
    let mut nginx = server.start();
    let audio = Some(Arc::clone(&sample().await.audio[0].config));
    let pusher = Pusher::start(settings(&server.url(), audio)).unwrap();
    let test = async {
        for round in 1..=2 {
            reaches(&pusher, is_live).await;
            let said = probe(&server.url()).await;
            assert!(said.contains("stream,h264,320,240"), "{said}");
            assert!(said.contains("stream,aac,44100,1"), "{said}");
            let first = said.lines().find(|line| line.starts_with("packet,video"));
            assert!(
                first.is_some_and(|line| line.starts_with("packet,video,K")),
                "{said}"
            );
            assert_eq!(pusher.counts().connections, round);
            nginx.kill().await.unwrap();
            reaches(&pusher, |state| matches!(state, PushState::Waiting { .. })).await;
            nginx = server.start();
        }
        let decoded = async {
            reaches(&pusher, is_live).await;
            let url = server.url();
            let options = [
                "-v",
                "error",
                "-analyzeduration",
                "1000000",
                "-i",
                &url,
                "-t",
                "1",
                "-f",
                "null",
                "-",
            ];
            run("ffmpeg", &options).await
        };
        assert_eq!(decoded.await, (true, String::new()));
    };
    tokio::select! {
        () = test => {}
        () = play(&pusher) => {}
    }
    bounded(pusher.stop()).await;
    nginx.kill().await.unwrap();
}

#[tokio::test]
async fn three_targets_at_once_and_an_end() {
    if !has(&["ffmpeg"]) {
        return;
    }
    let mut service = Service::start(ListenerSettings::default(), None).await;
    let sample = sample().await;
    let (mut pushers, mut guests) = (Vec::new(), Vec::new());
    for room in ["a", "b", "c"] {
        let audio = Some(Arc::clone(&sample.audio[0].config));
        let pusher = Pusher::start(settings(&service.url(room, "good"), audio)).unwrap();
        reaches(&pusher, is_live).await;
        guests.push(tokio::spawn(service.guest().await.all()));
        pushers.push(pusher);
    }
    for pusher in &pushers {
        sample
            .video
            .iter()
            .for_each(|frame| pusher.send_video(frame));
        sample
            .audio
            .iter()
            .for_each(|frame| pusher.send_audio(frame));
    }
    let sounds = u64::try_from(sample.audio.len()).unwrap();
    for pusher in &pushers {
        let all_sent = async {
            while pusher.counts().pictures < 100 || pusher.counts().sounds < sounds {
                tokio::task::yield_now().await;
            }
        };
        bounded(all_sent).await;
    }
    for (pusher, guest) in pushers.into_iter().zip(guests) {
        let state = pusher.state();
        bounded(pusher.stop()).await;
        assert_eq!(*state.borrow(), PushState::Stopped);
        let media = guest.await.unwrap();
        let pictures = media
            .iter()
            .filter(|media| matches!(media, Media::Video { .. }))
            .count();
        let sounds = media
            .iter()
            .filter(|media| matches!(media, Media::Audio { .. }))
            .count();
        assert_eq!((pictures, sounds), (100, sample.audio.len()));
    }
    assert_eq!(
        service.count("plenum_rtmp_ended_total", Some("unpublished")),
        3
    );
}

#[tokio::test]
async fn wrong_keys_are_given_up_in_the_end() {
    let service = Service::start(ListenerSettings::default(), None).await;
    let pusher = Pusher::start(settings(&service.url("a", "bad"), None)).unwrap();
    let state = reaches(&pusher, |state| matches!(state, PushState::Waiting { .. })).await;
    assert!(matches!(
        state,
        PushState::Waiting {
            error: PushError::Unauthorised(_),
            ..
        }
    ));
    assert!(!format!("{state:?} {pusher:?}").contains("token=bad"));
}

#[tokio::test]
async fn opus_to_a_target_without_it_is_refused_at_once() {
    let codec = AudioCodec::Opus;
    let record = bytes::Bytes::from_static(&[0, 2, 0, 0, 0, 0, 0xbb, 0x80, 0, 0, 0]);
    let config = AudioConfig {
        codec,
        sample_rate: 48_000,
        channels: 2,
        record,
        priming: 0,
    };
    let refused = Pusher::start(settings(
        "rtmp://127.0.0.1:9/live/k",
        Some(Arc::new(config)),
    ));
    assert_eq!(refused.unwrap_err(), PushRefused::AacUnavailable);
}

#[tokio::test]
async fn tls_is_checked_against_the_name() {
    let (server, certificate) = certificate(&["localhost".to_owned()]);
    let tls = TlsAcceptor::from(server);
    let service = Service::start(ListenerSettings::default(), Some(tls)).await;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Arc::new(client);
    let url = |host: &str| {
        format!(
            "rtmps://{host}:{}/live/a?token=good",
            service.address.port()
        )
    };
    let start = |host: &str, tls| {
        Pusher::start(PushSettings {
            tls,
            ..settings(&url(host), None)
        })
        .unwrap()
    };
    let is_tls_error = |state: &PushState| {
        matches!(
            state,
            PushState::Waiting {
                error: PushError::Tls(_),
                ..
            }
        )
    };
    let pusher = start("localhost", Some(Arc::clone(&client)));
    reaches(&pusher, is_live).await;
    reaches(&start("127.0.0.1", Some(client)), is_tls_error).await;
    // Nobody vouches for it.
    reaches(&start("localhost", None), is_tls_error).await;
}

/// A server that lets everybody in and reads only when it is told to; gives what it read.
async fn lazy_server(socket: TcpListener, may_read: Arc<Notify>) -> Vec<Media> {
    let (mut stream, peer) = socket.accept().await.unwrap();
    let mut ingest = Ingest::new(Instant::now(), peer, 1);
    let (mut media, mut buffer) = (Vec::new(), vec![0; 65_536]);
    loop {
        let length = stream.read(&mut buffer).await.unwrap_or(0);
        ingest.handle_bytes(Instant::now(), &buffer[..length]);
        let (mut is_asked, mut is_over) = (false, length == 0);
        while let Some(event) = ingest.poll_event() {
            match event {
                Event::PublishRequested(_) => is_asked = true,
                Event::Media(event) => media.push(event),
                Event::Ended(_) => is_over = true,
            }
        }
        if is_asked {
            ingest.accept(Instant::now());
        }
        send(&mut ingest, &mut stream).await;
        if is_asked {
            may_read.notified().await;
        }
        if is_over {
            return media;
        }
    }
}

async fn send(ingest: &mut Ingest, stream: &mut TcpStream) {
    while let Some(bytes) = ingest.poll_transmit() {
        let _ = stream.write_all(&bytes).await;
    }
}

#[tokio::test]
async fn a_slow_server_gets_less_and_can_decode_it() {
    if !has(&["ffmpeg"]) {
        return;
    }
    let config = &sample().await.video[0].config;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rtmp://{}/live/a?token=good", socket.local_addr().unwrap());
    let may_read = Arc::new(Notify::new());
    let server = tokio::spawn(lazy_server(socket, Arc::clone(&may_read)));
    let pusher = Pusher::start(settings(&url, None)).unwrap();
    reaches(&pusher, is_live).await;
    // A group has ten pictures of 100 kB, which say their number.
    let picture = |number: u32| {
        let is_key = number.is_multiple_of(10);
        let mut data = vec![0x55; 100_000];
        data[..4].copy_from_slice(&(100_000_u32 - 4).to_be_bytes());
        data[4] = if is_key { 0x65 } else { 0x41 };
        data[5..9].copy_from_slice(&number.to_be_bytes());
        let at_us = i64::from(number) * 40_000;
        VideoFrame {
            config: Arc::clone(config),
            at_us,
            is_key,
            data: data.into(),
        }
    };
    // Nothing of this waits; what is more than the queue takes is dropped.
    for number in 0..600 {
        pusher.send_video(&picture(number));
        tokio::task::yield_now().await;
    }
    let dropped = pusher.counts().dropped_slow;
    assert!(dropped > 400, "{dropped}");
    may_read.notify_one();
    let all_sent = async {
        while pusher.counts().pictures + pusher.counts().dropped_slow < 600 {
            tokio::task::yield_now().await;
        }
    };
    bounded(all_sent).await;
    bounded(pusher.stop()).await;
    let media = bounded(server).await.unwrap();
    let mut last = None;
    for event in &media {
        let Media::Video { is_key, data, .. } = event else {
            continue;
        };
        let number = u32::from_be_bytes(data[5..9].try_into().unwrap());
        assert!(
            *is_key || last == Some(number - 1),
            "{number} after {last:?}"
        );
        last = Some(number);
    }
    assert_eq!(last, Some(599));
}
