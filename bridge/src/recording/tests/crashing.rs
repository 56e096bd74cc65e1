//! What a crash leaves behind.

use std::fs;
use std::io::Cursor;

use proptest::prelude::*;

use super::super::faststart::Movie;
use super::checking::{plays, streams};
use super::files::mux;
use super::media::{audio, has_ffmpeg, video};
use super::running::{events_until, settings};
use super::*;
use crate::media::{AudioCodec, VideoCodec};
use crate::webm::{self, tests::begun};

/// A room's folder as a killed process leaves it, with the last part cut at `keep` thousandths.
fn leave(scratch: &Scratch, id: u128, parts: &[(Container, u32, Vec<u8>)], keep: usize) {
    let id = RecordingId::mint(id.to_be_bytes());
    let folder = scratch.path().join("room-standup").join(id.as_str());
    fs::create_dir_all(&folder).unwrap();
    let mut listed = Vec::new();
    for (index, (container, priming, bytes)) in parts.iter().enumerate() {
        let name = format!("part-{:04}.{}", index + 1, container.extension());
        let is_last = index + 1 == parts.len();
        let length = if is_last {
            bytes.len() * keep / 1_000
        } else {
            bytes.len()
        };
        fs::write(folder.join(&name), &bytes[..length]).unwrap();
        listed.push(serde_json::json!({
            "name": name, "container": container, "has_video": true, "priming": priming,
        }));
    }
    let sheet = serde_json::json!({
        "recording": {
            "id": id, "spec": spec("standup"), "state": "recording", "started_at_ms": 1,
            "duration_ms": 0, "bytes": 0, "frames_left_out": 0, "files": [], "is_stored": false,
        },
        "parts": listed,
    });
    fs::write(folder.join("recording.json"), sheet.to_string()).unwrap();
}

#[tokio::test]
async fn what_was_written_before_a_crash_is_finished_at_the_next_start() {
    if !has_ffmpeg() {
        return;
    }
    let scratch = Scratch::new();
    let mut pictures = video(VideoCodec::H264, (320, 180), 3, 0);
    pictures.extend(video(VideoCodec::H264, (160, 90), 3, 3_000_000));
    let sound = audio(AudioCodec::Opus, 6, 0);
    let (mp4, _) = mux(&together(&pictures, &sound), None);
    let pictures = video(VideoCodec::Vp8, (320, 180), 6, 0);
    let (webm, _) = mux(&together(&pictures, &sound), None);
    leave(&scratch, 1, &mp4, 600);
    leave(&scratch, 2, &webm, 700);
    leave(&scratch, 3, &mp4[..1], 1);
    let (recordings, mut events) = Recordings::open(settings(&scratch), None).unwrap();
    let is_final = |recording: &Recording| {
        matches!(
            recording.state,
            RecordingState::Ready | RecordingState::Failed
        )
    };
    events_until(&mut events, 3, is_final).await;
    let found = recordings.list("standup");
    assert_eq!(found.len(), 3);
    for recording in &found[..2] {
        assert_eq!(recording.state, RecordingState::Ready);
        assert_eq!(recording.files.len(), 1);
        let folder = scratch
            .path()
            .join("room-standup")
            .join(recording.id.as_str());
        let path = folder.join(&recording.files[0].name);
        plays(&path);
        assert_eq!(fs::metadata(&path).unwrap().len(), recording.bytes);
        let packets = streams(&path)[0].packets;
        assert!((90..=150).contains(&packets), "{packets}");
        // Its description and the file, nothing else.
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    }
    assert_eq!(found[2].state, RecordingState::Failed);
    assert_eq!(found[2].reason, Some(FailReason::NoMedia));
}

#[test]
fn cut_anywhere_whole_fragments_remain() {
    if !has_ffmpeg() {
        return;
    }
    let pictures = video(VideoCodec::H264, (160, 90), 3, 0);
    let sound = audio(AudioCodec::Opus, 3, 0);
    let (mp4, _) = mux(&together(&pictures, &sound), None);
    let pictures = video(VideoCodec::Vp8, (160, 90), 3, 0);
    let (webm, _) = mux(&together(&pictures, &sound), None);
    let scratch = Scratch::new();
    let (mut whole, mut empty) = (0, 0);
    for keep in (1..=10).map(|step| step * 100 - 57) {
        let (container, priming, bytes) = &mp4[0];
        assert_eq!(*container, Container::Mp4);
        let cut = &bytes[..bytes.len() * keep / 1_000];
        let mut movie = Movie::default();
        let mut reader = Cursor::new(cut);
        let added = movie.add(&mut reader, *priming);
        if added.is_err() || movie.is_empty() {
            empty += 1;
            continue;
        }
        whole += 1;
        let mut out = Vec::new();
        movie.write(&mut [reader], &mut out).unwrap();
        let path = scratch.path().join("cut.mp4");
        fs::write(&path, out).unwrap();
        plays(&path);

        let mut cut = Cursor::new(webm[0].2[..webm[0].2.len() * keep / 1_000].to_vec());
        if let Ok(finished) = webm::finish(&mut cut) {
            let length = usize::try_from(finished.bytes).unwrap();
            let path = scratch.path().join("cut.webm");
            fs::write(&path, &cut.into_inner()[..length]).unwrap();
            plays(&path);
        }
    }
    assert!(whole >= 5 && empty >= 1, "{whole} {empty}");
}

proptest! {
    #[test]
    fn garbage_on_the_disk_is_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut movie = Movie::default();
        let _ = movie.add(&mut Cursor::new(&bytes), 0);
        let _ = webm::finish(&mut Cursor::new(bytes.clone()));
        let mut ours = begun();
        ours.extend(&bytes);
        let _ = webm::finish(&mut Cursor::new(ours));
    }
}
