//! Other people's programs, and what they make.

use std::ffi::OsStr;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bridge::media::{AudioCodec, AudioConfig, AudioFrame, VideoCodec, VideoConfig, VideoFrame};
use bytes::Bytes;
use tokio::process::{Child, Command};

/// Whether a test that needs these programs can run: in CI they have to be there.
pub(crate) fn has(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there =
        |program: &str| std::env::split_paths(&path).any(|dir| dir.join(program).exists());
    let missing: Vec<_> = programs
        .iter()
        .filter(|program| !is_there(program))
        .collect();
    if !missing.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "{missing:?} are missing");
        eprintln!("skipped: {missing:?} are missing");
    }
    missing.is_empty()
}

/// Starts a program that dies with the test.
pub(crate) fn start(program: &str, arguments: &[impl AsRef<OsStr>]) -> Child {
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Runs a program to its end: whether it was content, and what it said, errors after the rest.
pub(crate) async fn run(program: &str, arguments: &[impl AsRef<OsStr>]) -> (bool, String) {
    let output = bounded(start(program, arguments).wait_with_output())
        .await
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// No test hangs.
pub(crate) async fn bounded<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(40), future)
        .await
        .expect("it ends")
}

/// Words as arguments.
pub(crate) fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// A test picture and a tone.
pub(crate) const SOURCES: &str =
    "-v error -f lavfi -i testsrc2=size=320x240:rate=25 -f lavfi -i sine=r=44100";

/// Four seconds of pictures (a key picture each second) and of sound, made once.
pub(crate) async fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    if let Some(sample) = SAMPLE.get() {
        return sample;
    }
    let make = async |options: &str| {
        let arguments = format!("{SOURCES} {options} -t 4 -");
        let output = start("ffmpeg", &words(&arguments)).wait_with_output();
        bounded(output).await.unwrap().stdout
    };
    let h264 = "-map 0:v -c:v libx264 -profile:v baseline -preset ultrafast -tune zerolatency -threads 1 -g 25 -f h264";
    let pictures = make(h264).await;
    let pictures = pictures_of(&pictures);
    assert_eq!(pictures.len(), 100);
    let sounds = make("-map 1:a -c:a aac -ar 44100 -ac 1 -f adts").await;
    SAMPLE.get_or_init(|| Sample {
        video: pictures,
        audio: sounds_of(&sounds),
    })
}

pub(crate) struct Sample {
    pub(crate) video: Vec<VideoFrame>,
    pub(crate) audio: Vec<AudioFrame>,
}

impl Sample {
    /// Its frames over and over, in order of time, each as a call.
    pub(crate) fn repeated(
        &self,
    ) -> impl Iterator<Item = (Option<VideoFrame>, Option<AudioFrame>)> {
        // Each goes on where it ended: the last sound is not over when the last picture is.
        let sounds = self.audio.iter().cycle().zip(0..);
        let mut sounds = sounds
            .map(|(frame, place)| AudioFrame {
                at_us: sound_us(place),
                ..frame.clone()
            })
            .peekable();
        let pictures = self.video.iter().cycle().zip(0..);
        pictures
            .map(|(frame, place)| VideoFrame {
                at_us: place * 40_000,
                ..frame.clone()
            })
            .flat_map(move |picture| {
                let before =
                    std::iter::from_fn(|| sounds.next_if(|sound| sound.at_us < picture.at_us));
                let mut calls: Vec<_> = before.map(|sound| (None, Some(sound))).collect();
                calls.push((Some(picture), None));
                calls
            })
    }
}

fn sound_us(place: i64) -> i64 {
    place * 1024 * 1_000_000 / 44_100
}

/// Out of a byte stream (H.264 annex B) whose pictures have one slice each.
fn pictures_of(stream: &[u8]) -> Vec<VideoFrame> {
    let mut starts: Vec<usize> = Vec::new();
    for (place, window) in stream.windows(3).enumerate() {
        if window == [0, 0, 1] {
            starts.push(place + 3);
        }
    }
    let ends = starts
        .iter()
        .skip(1)
        .map(|start| start - 3)
        .chain([stream.len()]);
    let units: Vec<&[u8]> = starts
        .iter()
        .zip(ends)
        .map(|(start, end)| {
            let unit = &stream[*start..end];
            &unit[..unit
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1)]
        })
        .collect();
    let of_kind = |kind| *units.iter().find(|unit| unit[0] & 0x1f == kind).unwrap();
    let (sps, pps) = (of_kind(7), of_kind(8));
    let sized = |unit: &[u8]| [&u16::try_from(unit.len()).unwrap().to_be_bytes(), unit].concat();
    let head = [1, sps[1], sps[2], sps[3], 0xff, 0xe1];
    let record = [head.as_slice(), &sized(sps), &[1], &sized(pps)]
        .concat()
        .into();
    let name = format!("avc1.{:02x}{:02x}{:02x}", sps[1], sps[2], sps[3]);
    let codec = VideoCodec::H264;
    let config = Arc::new(VideoConfig {
        codec,
        width: 320,
        height: 240,
        record,
        name,
    });
    let slices = units.iter().filter(|unit| matches!(unit[0] & 0x1f, 1 | 5));
    let frames = slices.zip(0..).map(|(slice, place)| {
        let size = u32::try_from(slice.len()).unwrap().to_be_bytes();
        let data = [&size, *slice].concat().into();
        let is_key = slice[0] & 0x1f == 5;
        VideoFrame {
            config: Arc::clone(&config),
            at_us: place * 40_000,
            is_key,
            data,
        }
    });
    frames.collect()
}

/// Out of ADTS (ISO/IEC 14496-3 §1.A.2) without checksums.
fn sounds_of(mut stream: &[u8]) -> Vec<AudioFrame> {
    let (codec, record) = (AudioCodec::Aac, Bytes::from_static(&[0x12, 0x08]));
    let config = AudioConfig {
        codec,
        sample_rate: 44_100,
        channels: 1,
        record,
        priming: 1024,
    };
    let config = Arc::new(config);
    let mut frames = Vec::new();
    while let [_, _, _, high, middle, low, _, ..] = stream {
        let length =
            usize::from(*high & 3) << 11 | usize::from(*middle) << 3 | usize::from(*low >> 5);
        let at_us = sound_us(i64::try_from(frames.len()).unwrap());
        let data = Bytes::copy_from_slice(&stream[7..length]);
        frames.push(AudioFrame {
            config: Arc::clone(&config),
            at_us,
            samples: 1024,
            data,
        });
        stream = &stream[length..];
    }
    frames
}
