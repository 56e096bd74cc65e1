//! The bytes of files.

use std::fs::{self, File};
use std::io::Cursor;

use mp4_atom::{Any, DecodeMaybe};

use super::super::faststart::Movie;
use super::super::muxer::{Muxer, Output};
use super::checking::{duration, first_loud, plays, sizes, streams};
use super::media::{audio, has_ffmpeg, video};
use super::*;
use crate::media::{AudioCodec, VideoCodec};
use crate::webm;

/// The parts that frames become.
pub(super) fn mux(
    frames: &[Frame],
    wanted: Option<Container>,
) -> (Vec<(Container, u32, Vec<u8>)>, u64) {
    let mut muxer = Muxer::new(true, true, wanted);
    let mut outputs = Vec::new();
    for frame in frames {
        muxer.push(frame.clone(), &mut outputs);
    }
    muxer.finish(&mut outputs);
    let mut parts: Vec<(Container, u32, Vec<u8>)> = Vec::new();
    for output in outputs {
        match output {
            Output::Begin(part) => {
                parts.push((part.container, part.priming, part.bytes.to_vec()));
            }
            Output::Append(bytes) => parts.last_mut().unwrap().2.extend(bytes),
        }
    }
    (parts, muxer.left_out())
}

/// One file out of parts of MP4.
fn remux(parts: &[(Container, u32, Vec<u8>)]) -> Vec<u8> {
    let mut movie = Movie::default();
    let mut readers: Vec<_> = parts.iter().map(|part| Cursor::new(&part.2)).collect();
    for (reader, part) in readers.iter_mut().zip(parts) {
        assert!(movie.add(reader, part.1).unwrap());
    }
    let mut out = Vec::new();
    let remuxed = movie.write(&mut readers, &mut out).unwrap();
    assert_eq!(usize::try_from(remuxed.bytes).unwrap(), out.len());
    out
}

fn kinds(file: &[u8]) -> Vec<&'static str> {
    let mut cursor = Cursor::new(file);
    let mut kinds = Vec::new();
    while let Some(atom) = Any::decode_maybe(&mut cursor).unwrap() {
        kinds.push(match atom {
            Any::Ftyp(_) => "ftyp",
            Any::Moov(_) => "moov",
            Any::Moof(_) => "moof",
            Any::Mdat(_) => "mdat",
            _ => "other",
        });
    }
    kinds
}

/// What browsers of all kinds send, with what they are recorded as.
fn codecs() -> Vec<(VideoCodec, AudioCodec, Option<Container>)> {
    let mut codecs = vec![
        (VideoCodec::H264, AudioCodec::Opus, None),
        (VideoCodec::Vp9, AudioCodec::Opus, Some(Container::Mp4)),
        (VideoCodec::Av1, AudioCodec::Opus, Some(Container::Mp4)),
        (VideoCodec::Vp8, AudioCodec::Opus, None),
        (VideoCodec::Vp9, AudioCodec::Opus, None),
        (VideoCodec::Av1, AudioCodec::Opus, None),
    ];
    if cfg!(feature = "aac-fdk") {
        codecs.push((VideoCodec::H264, AudioCodec::Aac, None));
    }
    codecs
}

#[test]
fn every_codec_plays_while_recorded_and_after() {
    if !has_ffmpeg() {
        return;
    }
    let scratch = Scratch::new();
    for (index, (codec, sound, wanted)) in codecs().into_iter().enumerate() {
        let pictures = video(codec, (320, 180), 3, 10_000_000);
        let sound = audio(sound, 3, 10_000_000);
        let (parts, left_out) = mux(&together(&pictures, &sound), wanted);
        assert_eq!((parts.len(), left_out), (1, 0), "{codec:?}");
        let (container, _, bytes) = &parts[0];
        let name = format!("{index}.{}", container.extension());
        let during = scratch.path().join(format!("during-{name}"));
        fs::write(&during, bytes).unwrap();
        plays(&during);
        let after = scratch.path().join(format!("after-{name}"));
        match container {
            Container::Mp4 => {
                let file = remux(&parts);
                assert_eq!(kinds(&file), ["ftyp", "moov", "mdat"]);
                fs::write(&after, file).unwrap();
            }
            Container::WebM => {
                fs::write(&after, bytes).unwrap();
                let mut file = File::options().read(true).write(true).open(&after).unwrap();
                let finished = webm::finish(&mut file).unwrap();
                let again = webm::finish(&mut file).unwrap();
                assert_eq!(finished, again);
                assert_eq!(file.metadata().unwrap().len(), finished.bytes);
            }
        }
        plays(&after);
        for path in [&during, &after] {
            let streams = streams(path);
            assert_eq!(streams.len(), 2);
            assert_eq!(streams[0].packets, pictures.len(), "{path:?}");
            assert_eq!(streams[1].packets, sound.len(), "{path:?}");
        }
        assert!((duration(&after) - 3.0).abs() < 0.1, "{}", duration(&after));
        assert_eq!(sizes(&after), [((320, 180), 90)]);
    }
}

#[test]
fn what_begins_later_is_seen_and_heard_later() {
    if !has_ffmpeg() {
        return;
    }
    let scratch = Scratch::new();
    let mut sounds = vec![AudioCodec::Opus];
    if cfg!(feature = "aac-fdk") {
        sounds.push(AudioCodec::Aac);
    }
    for (codec, sound) in [VideoCodec::H264, VideoCodec::Vp8]
        .into_iter()
        .flat_map(|codec| sounds.iter().map(move |sound| (codec, *sound)))
    {
        if codec == VideoCodec::Vp8 && sound == AudioCodec::Aac {
            continue;
        }
        for (video_us, audio_us) in [(0, 700_000), (700_000, 0), (0, 0)] {
            let pictures = video(codec, (160, 90), 2, 5_000_000 + video_us);
            let sound = audio(sound, 2, 5_000_000 + audio_us);
            let (parts, _) = mux(&together(&pictures, &sound), None);
            let path = scratch.path().join("file.bin");
            match parts[0].0 {
                Container::Mp4 => fs::write(&path, remux(&parts)).unwrap(),
                Container::WebM => {
                    fs::write(&path, &parts[0].2).unwrap();
                    let mut file = File::options().read(true).write(true).open(&path).unwrap();
                    webm::finish(&mut file).unwrap();
                }
            }
            plays(&path);
            let streams = streams(&path);
            // 440 Hz passes the threshold within 0.1 ms; the codecs need up to 2 ms to get going.
            let heard = first_loud(&path);
            let seen = streams[0].start;
            let expected = (audio_us - video_us) as f64 / 1e6;
            let late = heard - seen - expected;
            assert!(
                (-0.001..0.004).contains(&late),
                "{codec:?} {expected}: {late}"
            );
        }
    }
}

#[test]
fn another_size_is_another_part_and_the_same_file() {
    if !has_ffmpeg() {
        return;
    }
    let scratch = Scratch::new();
    let mut pictures = video(VideoCodec::H264, (320, 180), 2, 0);
    pictures.extend(video(VideoCodec::H264, (640, 360), 2, 2_000_000));
    pictures.extend(video(VideoCodec::H264, (320, 180), 2, 4_000_000));
    let sound = audio(AudioCodec::Opus, 6, 0);
    let (parts, left_out) = mux(&together(&pictures, &sound), None);
    assert_eq!((parts.len(), left_out), (3, 0));
    for (index, part) in parts.iter().enumerate() {
        let path = scratch.path().join(format!("{index}.mp4"));
        fs::write(&path, &part.2).unwrap();
        plays(&path);
    }
    let path = scratch.path().join("all.mp4");
    fs::write(&path, remux(&parts)).unwrap();
    plays(&path);
    let expected = [((320, 180), 60), ((640, 360), 60), ((320, 180), 60)];
    assert_eq!(sizes(&path), expected);
    let streams = streams(&path);
    assert_eq!(streams[0].packets, 180);
    assert_eq!(streams[1].packets, sound.len());
    for pair in streams[0].times.windows(2) {
        assert!((pair[1] - pair[0] - 1.0 / 30.0).abs() < 0.001, "{pair:?}");
    }
    for pair in streams[1].times.windows(2) {
        assert!((pair[1] - pair[0] - 0.02).abs() < 0.001, "{pair:?}");
    }
}

#[test]
fn webm_says_all_in_its_keyframes() {
    if !has_ffmpeg() {
        return;
    }
    let scratch = Scratch::new();
    let mut pictures = video(VideoCodec::Vp8, (320, 180), 2, 0);
    pictures.extend(video(VideoCodec::Vp8, (640, 360), 2, 2_000_000));
    let (parts, _) = mux(&together(&pictures, &audio(AudioCodec::Opus, 4, 0)), None);
    assert_eq!(parts.len(), 1);
    let path = scratch.path().join("all.webm");
    fs::write(&path, &parts[0].2).unwrap();
    plays(&path);
    assert_eq!(sizes(&path), [((320, 180), 60), ((640, 360), 60)]);
}

#[test]
fn another_codec_is_another_file() {
    if !has_ffmpeg() {
        return;
    }
    let mut pictures = video(VideoCodec::H264, (320, 180), 1, 0);
    pictures.extend(video(VideoCodec::Vp8, (320, 180), 1, 1_000_000));
    let (parts, left_out) = mux(&together(&pictures, &audio(AudioCodec::Opus, 2, 0)), None);
    let containers: Vec<_> = parts.iter().map(|part| part.0).collect();
    assert_eq!(containers, [Container::Mp4, Container::WebM]);
    assert_eq!(left_out, 0);
}

#[test]
fn sound_alone_is_recorded_after_two_seconds_and_pictures_begin_another_part() {
    if !has_ffmpeg() {
        return;
    }
    let scratch = Scratch::new();
    let pictures = video(VideoCodec::H264, (320, 180), 2, 4_000_000);
    let sound = audio(AudioCodec::Opus, 6, 0);
    let (parts, left_out) = mux(&together(&pictures, &sound), Some(Container::Mp4));
    assert_eq!((parts.len(), left_out), (2, 0));
    let path = scratch.path().join("all.mp4");
    fs::write(&path, remux(&parts)).unwrap();
    plays(&path);
    let streams = streams(&path);
    let find = |codec: &str| streams.iter().find(|stream| stream.codec == codec).unwrap();
    assert_eq!(find("h264").packets, 60);
    assert!((find("h264").start - 4.0).abs() < 0.001);
    assert_eq!(find("opus").packets, sound.len());
}

#[test]
fn sound_that_comes_late_waits_for_a_keyframe() {
    if !has_ffmpeg() {
        return;
    }
    let pictures = video(VideoCodec::H264, (320, 180), 6, 0);
    let sound = audio(AudioCodec::Opus, 2, 3_500_000);
    let (parts, left_out) = mux(&together(&pictures, &sound), None);
    assert_eq!((parts.len(), left_out), (2, 0));
    let path_of_both = remux(&parts);
    assert_eq!(kinds(&path_of_both), ["ftyp", "moov", "mdat"]);
}

#[test]
fn aac_beside_vp8_is_left_out_and_counted() {
    if !has_ffmpeg() || !cfg!(feature = "aac-fdk") {
        return;
    }
    let pictures = video(VideoCodec::Vp8, (320, 180), 2, 0);
    let sound = audio(AudioCodec::Aac, 2, 0);
    let (parts, left_out) = mux(&together(&pictures, &sound), None);
    assert_eq!(parts.len(), 1);
    assert_eq!(left_out, u64::try_from(sound.len()).unwrap());
}

#[test]
fn pictures_before_the_first_keyframe_are_not_recorded() {
    if !has_ffmpeg() {
        return;
    }
    let pictures = video(VideoCodec::H264, (320, 180), 2, 0);
    let sound = audio(AudioCodec::Opus, 2, 0);
    let scratch = Scratch::new();
    let (parts, _) = mux(&together(&pictures[7..], &sound[5..]), None);
    let path = scratch.path().join("file.mp4");
    fs::write(&path, remux(&parts)).unwrap();
    plays(&path);
    let streams = streams(&path);
    assert_eq!(streams[0].packets, 30);
}
