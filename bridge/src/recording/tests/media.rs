//! Frames to record.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::audio::{AudioEncoder, TICK_SAMPLES};
use crate::media::{AudioCodec, AudioFrame, VideoCodec, VideoConfig, VideoFrame};

/// Whether there is an ffmpeg; without one, a test that needs it has nothing to do.
pub(crate) fn has_ffmpeg() -> bool {
    let version = Command::new("ffmpeg")
        .arg("-version")
        .stdout(Stdio::null())
        .status();
    let has = version.is_ok_and(|status| status.success());
    assert!(has || std::env::var_os("CI").is_none(), "no ffmpeg");
    if !has {
        eprintln!("not tried: there is no ffmpeg");
    }
    has
}

/// A moving picture of this size, 30 frames a second, a keyframe each second, from `start_us` on.
pub(super) fn video(
    codec: VideoCodec,
    (width, height): (u16, u16),
    seconds: u32,
    start_us: i64,
) -> Vec<VideoFrame> {
    let (options, format) = match codec {
        VideoCodec::H264 => (
            "-c:v libx264 -profile:v baseline -preset ultrafast -x264-params aud=1:scenecut=0 -bf 0",
            "h264",
        ),
        VideoCodec::Vp8 => ("-c:v libvpx -deadline realtime -lag-in-frames 0", "ivf"),
        VideoCodec::Vp9 => (
            "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -lag-in-frames 0",
            "ivf",
        ),
        VideoCodec::Av1 => (
            "-c:v libaom-av1 -usage realtime -cpu-used 8 -lag-in-frames 0",
            "ivf",
        ),
    };
    let source = format!("testsrc=size={width}x{height}:rate=30:duration={seconds}");
    let made = made(&source, options, format);
    let (record, frames) = match codec {
        VideoCodec::H264 => h264(&made),
        VideoCodec::Vp8 => (Bytes::new(), ivf(&made)),
        VideoCodec::Vp9 => (Bytes::from_static(VPCC), ivf(&made)),
        VideoCodec::Av1 => av1(&made),
    };
    let config = Arc::new(VideoConfig {
        codec,
        width,
        height,
        record,
        name: String::new(),
    });
    let frame = |(index, data): (i64, Bytes)| VideoFrame {
        config: Arc::clone(&config),
        at_us: start_us + index * 1_000_000 / 30,
        is_key: index % 30 == 0,
        data,
    };
    (0..).zip(frames).map(frame).collect()
}

/// What ffmpeg makes of a source; made once.
fn made(source: &str, options: &str, format: &str) -> Arc<Vec<u8>> {
    static MADE: Mutex<BTreeMap<String, Arc<Vec<u8>>>> = Mutex::new(BTreeMap::new());
    let mut all = MADE.lock().unwrap();
    let one = all.entry(format!("{source} {options}")).or_insert_with(|| {
        let made = Command::new("ffmpeg")
            .args(["-v", "error", "-f", "lavfi", "-i", source])
            .args(["-pix_fmt", "yuv420p"])
            .args(options.split(' '))
            .args(["-g", "30", "-keyint_min", "30", "-threads", "1"])
            .args(["-f", format, "-"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
        Arc::new(made.stdout)
    });
    Arc::clone(one)
}

/// The same pictures of H264 with 30 kB of filler data each (ITU-T H.264 §7.3.2.7).
pub(super) fn large(mut frames: Vec<VideoFrame>) -> Vec<VideoFrame> {
    for frame in &mut frames {
        let mut data = frame.data.to_vec();
        data.extend(30_001_u32.to_be_bytes());
        data.push(12);
        data.extend(vec![0xff; 29_999]);
        data.push(0x80);
        frame.data = data.into();
    }
    frames
}

/// A tone for so long, from `start_us` on.
pub(super) fn audio(codec: AudioCodec, seconds: u32, start_us: i64) -> Vec<AudioFrame> {
    let mut encoder = AudioEncoder::new(codec, start_us, None).unwrap();
    let mut frames = Vec::new();
    for tick in 0..seconds * 50 {
        let mut samples = [[0.0; 2]; TICK_SAMPLES];
        for (index, sample) in (0..).zip(&mut samples) {
            let seconds = f64::from(tick * 960 + index) / 48_000.0;
            let value = 0.3 * (TAU * 440.0 * seconds).sin();
            #[expect(clippy::cast_possible_truncation, reason = "a sample")]
            let value = value as f32;
            *sample = [value; 2];
        }
        frames.extend(encoder.encode(&samples).unwrap());
    }
    frames
}

/// The configuration and the access units of a byte stream with delimiters.
fn h264(stream: &[u8]) -> (Bytes, Vec<Bytes>) {
    let (mut sps, mut pps) = (&[][..], &[][..]);
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for nal in nals(stream) {
        match nal[0] & 0x1f {
            9 => frames.push(Vec::new()),
            7 => sps = nal,
            8 => pps = nal,
            1 | 5 => {
                let frame = frames.last_mut().unwrap();
                frame.extend(u32::try_from(nal.len()).unwrap().to_be_bytes());
                frame.extend(nal);
            }
            _ => {}
        }
    }
    let length = |nal: &[u8]| u16::try_from(nal.len()).unwrap().to_be_bytes();
    let record = [
        &[1, sps[1], sps[2], sps[3], 0xff, 0xe1],
        &length(sps)[..],
        sps,
        &[1],
        &length(pps),
        pps,
    ];
    let frames = frames.into_iter().map(Bytes::from).collect();
    (record.concat().into(), frames)
}

fn nals(stream: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = stream
        .windows(3)
        .enumerate()
        .filter(|(_, bytes)| *bytes == [0, 0, 1])
        .map(|(at, _)| at + 3)
        .collect();
    let ends = starts[1..].iter().map(|start| start - 3);
    let ends = ends.chain([stream.len()]);
    let nal = |(start, end): (&usize, usize)| {
        let nal = &stream[*start..end];
        let zeros = nal.iter().rev().take_while(|byte| **byte == 0).count();
        &nal[..nal.len() - zeros]
    };
    starts.iter().zip(ends).map(nal).collect()
}

/// The frames of an IVF file.
fn ivf(stream: &[u8]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut rest = &stream[32..];
    while let Some(size) = rest.first_chunk::<4>() {
        let end = 12 + usize::try_from(u32::from_le_bytes(*size)).unwrap();
        frames.push(Bytes::copy_from_slice(&rest[12..end]));
        rest = &rest[end..];
    }
    frames
}

/// The configuration and the frames of an IVF file, without temporal delimiters.
fn av1(stream: &[u8]) -> (Bytes, Vec<Bytes>) {
    let frames: Vec<Bytes> = ivf(stream)
        .into_iter()
        .map(|frame| match frame.strip_prefix(&[0x12, 0]) {
            Some(rest) => frame.slice_ref(rest),
            None => frame,
        })
        .collect();
    // A sequence header shorter than 128 bytes, with its size.
    let first = &frames[0];
    assert_eq!(first[0], 0x0a);
    let header = &first[..2 + usize::from(first[1])];
    let record = [&[0x81, 0x00, 0x0c, 0x00], header].concat();
    (record.into(), frames)
}

/// Profile 0, level 1, 8 bits, 4:2:0.
const VPCC: &[u8] = &[1, 0, 0, 0, 0, 10, 0x82, 2, 2, 2, 0, 0];
