use std::process::{Command, Stdio};

use super::drawing::{BACKGROUND, CHROMA, NAME_TONE};
use super::*;

#[test]
fn its_size_is_what_was_asked_for() {
    for size in [(1280, 720), (640, 360), (1920, 1080), (64, 66)] {
        let config = Card::new(size, "", 60).unwrap().config();
        assert_eq!((config.width, config.height), size);
        assert_eq!(&config.name[..9], "avc1.42c0");
    }
    for size in [(1281, 720), (1920, 1082), (62, 64), (0, 0)] {
        assert_eq!(
            Card::new(size, "", 60).unwrap_err(),
            CardError::Size(size.0, size.1)
        );
    }
    assert_eq!(
        Card::new((64, 64), "", 0).unwrap_err(),
        CardError::KeyframeEvery
    );
}

#[test]
fn keyframes_are_small_and_what_follows_is_next_to_nothing() {
    let card = Card::new((1280, 720), "Starts soon", 60).unwrap();
    for index in 0..130 {
        let (is_key, data) = card.frame(index);
        assert_eq!(is_key, index % 60 == 0);
        let bytes_max = if is_key { 60_000 } else { 16 };
        assert!(data.len() <= bytes_max, "{index}: {} bytes", data.len());
    }
    // Keyframes may follow upon each other and are then told apart.
    assert_ne!(card.frame(0).1, card.frame(60).1);
    assert_eq!(card.frame(0).1, card.frame(120).1);
}

#[test]
fn a_decoder_shows_exactly_what_was_drawn() {
    let ffmpeg = Command::new("ffmpeg")
        .arg("-version")
        .stdout(Stdio::null())
        .status();
    if ffmpeg.is_err() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI has ffmpeg");
        eprintln!("skipped: no ffmpeg");
        return;
    }
    for (size, text, keyframe_every, frames) in [
        ((1280, 720), "Back in a minute", 3, 8),
        ((640, 360), "", 1, 3),
        (
            (1920, 1080),
            "A text that is longer: 0123456789, and goes on and on!",
            2,
            3,
        ),
        ((64, 66), "X", 40, 90),
        ((426, 240), "/stage-7: it's on.", 20, 30),
    ] {
        let card = Card::new(size, text, keyframe_every).unwrap();
        let decoded = decode(&card, frames);
        let (width, height) = (usize::from(size.0), usize::from(size.1));
        let frame_bytes = width * height * 3 / 2;
        assert_eq!(
            decoded.len(),
            frame_bytes * frames,
            "{size:?}: number of frames"
        );
        let drawing = Drawing::of_card(size.0, size.1, text);
        for (number, frame) in decoded.chunks(frame_bytes).enumerate() {
            let (luma, chroma) = frame.split_at(width * height);
            let is_drawn = |(place, sample): (usize, &u8)| {
                *sample == drawing.sample(place % width, place / width)
            };
            assert!(
                luma.iter().enumerate().all(is_drawn),
                "{size:?}: frame {number}"
            );
            let (blue, red) = chroma.split_at(width * height / 4);
            assert!(blue.iter().all(|sample| *sample == CHROMA[0]));
            assert!(red.iter().all(|sample| *sample == CHROMA[1]));
            assert_eq!(luma[0], BACKGROUND);
            assert!(luma.contains(&NAME_TONE), "{size:?}: the name is there");
        }
    }
}

/// What ffmpeg makes of a card's first frames; it must have nothing to say about them.
fn decode(card: &Card, frames: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    let record = crate::packing::parse_avcc(&card.config().record).unwrap();
    for index in 0..frames as u64 {
        let (is_key, data) = card.frame(index);
        if is_key {
            for set in record.sequence_sets.iter().chain(&record.picture_sets) {
                stream.extend_from_slice(&[0, 0, 0, 1]);
                stream.extend_from_slice(set);
            }
        }
        stream.extend_from_slice(&[0, 0, 0, 1]);
        stream.extend_from_slice(&data[4..]);
    }
    let unique = format!(
        "plenum-card-{}-{}.h264",
        std::process::id(),
        card.config().width
    );
    let path = std::env::temp_dir().join(unique);
    std::fs::write(&path, stream).unwrap();
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "h264", "-i"])
        .arg(&path)
        .args([
            "-vsync",
            "passthrough",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "yuv420p",
            "-",
        ])
        .output()
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
    output.stdout
}
