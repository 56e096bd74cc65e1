//! ffmpeg and ffprobe read what we serve.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge::hls::{Packager, Playback, Registry, Settings};
use tokio::process::Command;

use crate::client::get;
use crate::ffmpeg::{Track, encode};
use crate::stage::{BEGAN_US, broadcast, join, serve, uris};

const PICTURES: [&str; 4] = [
    "-f",
    "lavfi",
    "-i",
    "testsrc2=size=320x180:rate=30:duration=8",
];
const SOUND: [&str; 4] = ["-f", "lavfi", "-i", "sine=sample_rate=48000:duration=8"];
const H264: [&str; 14] = [
    "-c:v",
    "libx264",
    "-profile:v",
    "baseline",
    "-preset",
    "ultrafast",
    "-tune",
    "zerolatency",
    "-bf",
    "0",
    "-g",
    "60",
    "-pix_fmt",
    "yuv420p",
];
const OPUS: [&str; 6] = ["-c:a", "libopus", "-ac", "2", "-b:a", "64k"];
const AAC: [&str; 4] = ["-c:a", "aac", "-ac", "2"];

/// The tools are there; where they are not, a test has nothing to say, but in CI they must be.
fn is_there() -> bool {
    let found = std::process::Command::new("ffmpeg")
        .arg("-version")
        .output()
        .is_ok();
    assert!(
        found || std::env::var_os("CI").is_none(),
        "ffmpeg is missing"
    );
    if !found {
        eprintln!("skipped: ffmpeg is not installed");
    }
    found
}

fn arguments<'a>(groups: &[&[&'a str]]) -> Vec<&'a str> {
    groups.concat()
}

/// Frames of all tracks in the order of their times.
fn interleave(tracks: &[Track]) -> Vec<(i64, usize, usize)> {
    let mut order = Vec::new();
    for (track, frames) in tracks.iter().enumerate() {
        let times: Vec<i64> = match frames {
            Track::Video(frames) => frames.iter().map(|frame| frame.at_us).collect(),
            Track::Audio(frames) => frames.iter().map(|frame| frame.at_us).collect(),
        };
        order.extend(
            times
                .into_iter()
                .enumerate()
                .map(|(index, at_us)| (at_us, track, index)),
        );
    }
    order.sort_unstable();
    order
}

fn push(packager: &mut Packager, now_us: i64, tracks: &[Track], track: usize, index: usize) {
    match &tracks[track] {
        Track::Video(frames) => {
            packager.push_video(now_us, u8::try_from(track).unwrap(), frames[index].clone())
        }
        Track::Audio(frames) => packager.push_audio(now_us, frames[index].clone()),
    }
}

/// Publishes all at once; the URL of the ended broadcast.
async fn publish(tracks: &[Track], settings: Settings) -> String {
    let registry = Arc::new(Registry::default());
    let broadcast = broadcast(&settings, None);
    registry.insert("room 1".to_owned(), Arc::clone(&broadcast));
    let mut packager = Packager::new(&settings, BEGAN_US);
    for (at_us, track, index) in interleave(tracks) {
        push(&mut packager, at_us, tracks, track, index);
        packager.advance(at_us);
    }
    packager.finish();
    broadcast.publish(std::iter::from_fn(|| packager.poll()));
    let addr = serve(&registry).await;
    format!("http://{addr}/live/room%201/index.m3u8?token=ann")
}

/// Decodes all of it; nothing may be wrong.
async fn decode(url: &str) {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i", url, "-map", "0", "-f", "null", "-"])
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(Duration::from_secs(40), output)
        .await
        .unwrap()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    // It reads the map again with each reload of a playlist.
    let mut wrong = errors
        .lines()
        .filter(|line| !line.contains("duplicated MOOV"));
    assert_eq!(wrong.next(), None, "{errors}");
    assert!(output.status.success());
}

/// The packets of a stream: their decode times in seconds.
async fn packets(url: &str, stream: &str) -> Vec<f64> {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            stream,
            "-show_entries",
            "packet=dts_time",
        ])
        .args(["-of", "csv=p=0", url])
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(Duration::from_secs(40), output)
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let times = text.lines().map(|line| line.trim_end_matches(','));
    times.filter_map(|time| time.parse().ok()).collect()
}

async fn check_steps(url: &str, stream: &str, count: usize, step_s: f64) {
    let times = packets(url, stream).await;
    assert_eq!(times.len(), count, "{stream}");
    for pair in times.windows(2) {
        let apart_s = pair[1] - pair[0];
        assert!((apart_s - step_s).abs() < 0.002, "{stream}: {pair:?}");
    }
}

fn count(track: &Track) -> usize {
    match track {
        Track::Video(frames) => frames.len(),
        Track::Audio(frames) => frames.len(),
    }
}

fn recording() -> Settings {
    Settings {
        dvr_window: Duration::from_secs(60),
        ..Settings::default()
    }
}

#[tokio::test]
async fn h264_and_aac_play_without_a_hole() {
    if !is_there() {
        return;
    }
    let tracks = encode("aac", &arguments(&[&PICTURES, &SOUND, &H264, &AAC]));
    let url = publish(&tracks, recording()).await;
    decode(&url).await;
    assert_eq!(count(&tracks[0]), 240);
    check_steps(&url, "v:0", 240, 1.0 / 30.0).await;
    let sounds = packets(&url, "a:0").await;
    assert!(sounds.len() + 2 >= count(&tracks[1]), "{}", sounds.len());
}

#[tokio::test]
async fn h264_and_opus_play_encrypted_and_signed() {
    if !is_there() {
        return;
    }
    let tracks = encode("opus", &arguments(&[&PICTURES, &SOUND, &H264, &OPUS]));
    let settings = Settings {
        playback: Playback::Token,
        sessions_per_user_max: 10,
        segments_per_key: Some(2),
        ..recording()
    };
    let url = publish(&tracks, settings).await;
    decode(&url).await;
    check_steps(&url, "v:0", 240, 1.0 / 30.0).await;
}

#[tokio::test]
async fn vp9_and_av1_play() {
    if !is_there() {
        return;
    }
    let vp9 = [
        "-c:v",
        "libvpx-vp9",
        "-deadline",
        "realtime",
        "-cpu-used",
        "8",
        "-lag-in-frames",
        "0",
        "-g",
        "30",
    ];
    let av1 = [
        "-c:v",
        "libaom-av1",
        "-usage",
        "realtime",
        "-cpu-used",
        "8",
        "-lag-in-frames",
        "0",
        "-g",
        "30",
    ];
    let small = [
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=160x90:rate=15:duration=6",
        "-pix_fmt",
        "yuv420p",
    ];
    for (name, codec) in [("vp9", &vp9), ("av1", &av1)] {
        let tracks = encode(name, &arguments(&[&small, codec]));
        let url = publish(&tracks, recording()).await;
        decode(&url).await;
        check_steps(&url, "v:0", 90, 1.0 / 15.0).await;
    }
}

#[tokio::test]
async fn each_stretch_between_changes_of_size_is_a_recording() {
    if !is_there() {
        return;
    }
    let large = encode("large", &arguments(&[&PICTURES, &H264]));
    let scaled = ["-vf", "scale=160:90"];
    let small = encode("small", &arguments(&[&PICTURES, &scaled, &H264]));
    let (Track::Video(mut frames), Track::Video(later)) = (large[0].clone(), small[0].clone())
    else {
        panic!("pictures");
    };
    frames.truncate(100);
    frames.extend(later.into_iter().map(|mut frame| {
        frame.at_us += 100 * 1_000_000 / 30;
        frame
    }));
    let url = publish(&[Track::Video(frames)], recording()).await;
    // ffmpeg skips every initialisation segment but the first, so each stretch is played by itself.
    let (addr, _) = url
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap();
    let addr = addr.parse().unwrap();
    let index = get(addr, "/live/room%201/index.m3u8").await;
    let playlist = join("/live/room%201/index.m3u8", &uris(index.text())[0]);
    let text = get(addr, &playlist).await.text().to_owned();
    let mut stretches: Vec<Vec<u8>> = Vec::new();
    for line in text.lines().filter(|line| !line.contains("-PART")) {
        for uri in uris(line) {
            let bytes = get(addr, &join(&playlist, &uri)).await.body;
            if line.contains("EXT-X-MAP") {
                stretches.push(Vec::new());
            }
            stretches.last_mut().unwrap().extend(bytes);
        }
    }
    let mut counts = Vec::new();
    for (number, bytes) in stretches.iter().enumerate() {
        let name = format!("plenum-hls-{}-stretch-{number}.mp4", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, bytes).unwrap();
        decode(file.to_str().unwrap()).await;
        counts.push(packets(file.to_str().unwrap(), "v:0").await.len());
        std::fs::remove_file(&file).unwrap();
    }
    assert_eq!(counts, [100, 240]);
}

/// In real time: what a player sees that joins a live broadcast and stays to its end.
#[tokio::test]
async fn a_live_broadcast_plays_to_its_end() {
    if !is_there() {
        return;
    }
    let tracks = encode("live", &arguments(&[&PICTURES, &SOUND, &H264, &OPUS]));
    let settings = Settings::default();
    let registry = Arc::new(Registry::default());
    let broadcast = broadcast(&settings, None);
    registry.insert("room 1".to_owned(), Arc::clone(&broadcast));
    let addr = serve(&registry).await;
    let mut packager = Packager::new(&settings, BEGAN_US);
    let url = format!("http://{addr}/live/room%201/index.m3u8");
    let player = tokio::spawn(async move { decode(&url).await });
    let began = Instant::now();
    for (at_us, track, index) in interleave(&tracks) {
        let due = began + Duration::from_micros(u64::try_from(at_us).unwrap());
        tokio::time::sleep_until(due.into()).await;
        let now_us = i64::try_from(began.elapsed().as_micros()).unwrap();
        push(&mut packager, now_us, &tracks, track, index);
        packager.advance(now_us);
        broadcast.publish(std::iter::from_fn(|| packager.poll()));
    }
    packager.finish();
    broadcast.publish(std::iter::from_fn(|| packager.poll()));
    player.await.unwrap();
    assert_eq!(packager.counts().misplaced, 0);
}
