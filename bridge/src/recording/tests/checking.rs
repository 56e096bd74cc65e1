//! What ffmpeg says of a file.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// One stream of a file.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) codec: String,
    pub(super) start: f64,
    pub(super) packets: usize,
    pub(super) times: Vec<f64>,
}

/// Plays a file to its end: no message may come of it.
pub(super) fn plays(path: &Path) {
    let played = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-i"])
        .arg(path)
        .args(["-f", "null", "-"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&played.stderr);
    assert!(
        played.status.success() && said.is_empty(),
        "{path:?}: {said}"
    );
}

/// How many pictures of each size are in a file.
pub(super) fn sizes(path: &Path) -> Vec<((u64, u64), usize)> {
    let probed = probe(path, "frame=width,height", &["-select_streams", "v"]);
    let mut sizes: Vec<((u64, u64), usize)> = Vec::new();
    for frame in probed["frames"].as_array().unwrap() {
        let size = (
            frame["width"].as_u64().unwrap(),
            frame["height"].as_u64().unwrap(),
        );
        match sizes.last_mut() {
            Some((last, count)) if *last == size => *count += 1,
            _ => sizes.push((size, 1)),
        }
    }
    sizes
}

/// The streams of a file, pictures first.
pub(super) fn streams(path: &Path) -> Vec<Stream> {
    let probed = probe(
        path,
        "stream=index,codec_name,start_time:packet=stream_index,pts_time",
        &[],
    );
    let packets = probed["packets"].as_array().unwrap();
    let stream = |stream: &Value| {
        let own = packets
            .iter()
            .filter(|packet| packet["stream_index"] == stream["index"]);
        let times: Vec<f64> = own.map(|packet| number(&packet["pts_time"])).collect();
        Stream {
            codec: stream["codec_name"].as_str().unwrap().to_owned(),
            start: number(&stream["start_time"]),
            packets: times.len(),
            times,
        }
    };
    probed["streams"]
        .as_array()
        .unwrap()
        .iter()
        .map(stream)
        .collect()
}

/// How long a file says it is, in seconds.
pub(super) fn duration(path: &Path) -> f64 {
    number(&probe(path, "format=duration", &[])["format"]["duration"])
}

/// When it is first loud, in seconds of what is heard.
pub(super) fn first_loud(path: &Path) -> f64 {
    let played = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-map", "0:a", "-af", "aresample=async=1:first_pts=0"])
        .args(["-ac", "1", "-ar", "48000", "-f", "s16le", "-"])
        .output()
        .unwrap();
    let samples = played.stdout.as_chunks::<2>().0.iter();
    let mut samples = samples.map(|bytes| i16::from_le_bytes(*bytes));
    samples.position(|sample| sample > 1_500).unwrap() as f64 / 48_000.0
}

fn probe(path: &Path, entries: &str, options: &[&str]) -> Value {
    let probed = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json", "-show_entries", entries])
        .args(options)
        .arg(path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&probed.stderr);
    assert!(
        probed.status.success() && said.is_empty(),
        "{path:?}: {said}"
    );
    serde_json::from_slice(&probed.stdout).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_str().unwrap().parse().unwrap()
}
