//! A live broadcast out of nothing, in real time, to try players on:
//! `cargo run -p plenum-bridge --example hls_rig -- --port 8090 [--aac] [--rungs 2] [--encrypt]`
//!
//! ffmpeg makes ten seconds of pictures with sound, which are shown again and again. Every other time
//! there is only one picture a second with `--still`, another size with `--resize`, none with `--leave`.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a tool for people: it has a clock and sockets, and stops where something is wrong"
)]

#[path = "../tests/hls/ffmpeg.rs"]
mod ffmpeg;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bridge::hls::{
    Broadcast, Clock, Gate, Live, Packager, Refusal, Registry, Settings, Viewer, routes,
};
use ffmpeg::{Track, encode};

const ROOM: &str = "rig";
const LOOP_US: i64 = 10_000_000;

struct NoGate;

impl Gate for NoGate {
    fn admit(&self, _: &str, _: &str) -> Result<Viewer, Refusal> {
        Err(Refusal::Forbidden("this rig is public".to_owned()))
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let number = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u16>().ok()
    };
    let settings = Settings {
        segments_per_key: has("--encrypt").then_some(5),
        ..Settings::default()
    };
    let odd = ["--still", "--resize", "--leave"].map(&has);
    let rungs = number("--rungs").unwrap_or(1).max(u16::from(odd[1]) * 2);
    let tracks = tracks(rungs, has("--aac"));
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let clock = Clock {
        zero: Instant::now(),
        unix_us: i64::try_from(unix.as_micros()).unwrap(),
    };
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(&unix.as_nanos().to_be_bytes());
    let packager = Packager::new(&settings, clock.unix_us);
    let broadcast = Arc::new(Broadcast::new(settings, &seed, clock, None));
    let registry = Arc::new(Registry::default());
    registry.insert(ROOM.to_owned(), Arc::clone(&broadcast));
    let port = number("--port").unwrap_or(8090);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await;
    println!("http://127.0.0.1:{port}/live/{ROOM}/index.m3u8");
    let gate = Arc::new(NoGate);
    tokio::spawn(play(packager, broadcast, tracks, (clock, odd)));
    let routes = routes(Arc::new(Live { registry, gate }));
    axum::serve(listener.unwrap(), routes).await.unwrap();
}

/// Pictures of each rung, and sound.
fn tracks(rungs: u16, is_aac: bool) -> Vec<Track> {
    let sizes = ["1280x720", "640x360", "320x180"];
    let mut tracks = Vec::new();
    for size in sizes.iter().take(usize::from(rungs)) {
        let source = format!("testsrc2=size={size}:rate=30:duration=10");
        let h264 = "-c:v libx264 -profile:v baseline -preset ultrafast -tune zerolatency -bf 0 \
                    -g 60 -keyint_min 60 -sc_threshold 0 -pix_fmt yuv420p";
        let mut arguments = vec!["-f", "lavfi", "-i", &source];
        arguments.extend(h264.split_whitespace());
        tracks.extend(encode(size, &arguments));
    }
    let codec = if is_aac { "aac" } else { "libopus" };
    let sound = [
        "-f",
        "lavfi",
        "-i",
        "sine=sample_rate=48000:duration=10",
        "-ac",
        "2",
    ];
    tracks.extend(encode("sound", &[&sound[..], &["-c:a", codec]].concat()));
    tracks
}

/// Shows the tracks again and again; `odd` says what is odd with every other time.
async fn play(
    mut packager: Packager,
    broadcast: Arc<Broadcast>,
    tracks: Vec<Track>,
    (clock, [is_still, is_resized, is_left]): (Clock, [bool; 3]),
) {
    let mut order = Vec::new();
    for (track, frames) in tracks.iter().enumerate() {
        let times: Vec<i64> = match frames {
            Track::Video(frames) => frames.iter().map(|frame| frame.at_us).collect(),
            Track::Audio(frames) => frames.iter().map(|frame| frame.at_us).collect(),
        };
        let times = times
            .into_iter()
            .filter(|at_us| *at_us < LOOP_US)
            .enumerate();
        order.extend(times.map(|(index, at_us)| (at_us, track, index)));
    }
    order.sort_unstable();
    for round in 0.. {
        for (at_us, track, index) in &order {
            let is_odd = round % 2 == 1;
            let is_shown = match is_resized {
                true => *track == usize::from(is_odd),
                false => !is_odd || !(is_left || is_still && index % 30 != 0),
            };
            let at_us = at_us + round * LOOP_US;
            let due = clock.zero + Duration::from_micros(u64::try_from(at_us).unwrap());
            tokio::time::sleep_until(due.into()).await;
            let now_us = i64::try_from(clock.zero.elapsed().as_micros()).unwrap();
            match &tracks[*track] {
                Track::Video(_) if !is_shown => {}
                Track::Video(frames) => {
                    let mut frame = frames[*index].clone();
                    frame.at_us = at_us;
                    let rung = if is_resized { 0 } else { *track };
                    packager.push_video(now_us, u8::try_from(rung).unwrap(), frame);
                }
                Track::Audio(frames) => {
                    let mut frame = frames[*index].clone();
                    frame.at_us = at_us;
                    packager.push_audio(now_us, frame);
                }
            }
            packager.advance(now_us);
            broadcast.publish(std::iter::from_fn(|| packager.poll()));
        }
        println!(
            "{} watching, {:?}",
            broadcast.viewers(Instant::now()),
            packager.counts()
        );
    }
}
