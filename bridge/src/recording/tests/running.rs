//! Recordings as the service runs them.

use std::time::Duration;

use futures_util::TryStreamExt;
use tokio::sync::mpsc;

use super::checking::plays;
use super::media::{audio, has_ffmpeg, large, video};
use super::*;
use crate::media::{AudioCodec, VideoCodec};

/// Without a reserve, for the disk of whoever runs the tests may be full.
pub(super) fn settings(scratch: &Scratch) -> RecordingSettings {
    RecordingSettings {
        min_free_mb: 0,
        ..RecordingSettings::new(scratch.path().to_owned())
    }
}

/// Takes events until so many are as wanted; all that came.
pub(super) async fn events_until(
    events: &mut mpsc::Receiver<Recording>,
    count: usize,
    is_wanted: impl Fn(&Recording) -> bool,
) -> Vec<Recording> {
    let mut seen: Vec<Recording> = Vec::new();
    let wait = async {
        while seen.iter().filter(|recording| is_wanted(recording)).count() < count {
            seen.push(events.recv().await.unwrap());
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
    assert!(waited.is_ok(), "only {seen:?}");
    seen
}

pub(super) fn is_final(recording: &Recording) -> bool {
    matches!(
        recording.state,
        RecordingState::Ready | RecordingState::Failed
    )
}

#[tokio::test]
async fn a_recording_starts_stops_is_listed_read_and_deleted() {
    if !has_ffmpeg() {
        return;
    }
    let scratch = Scratch::new();
    let (recordings, mut events) = Recordings::open(settings(&scratch), None).unwrap();
    let (id, recorder) = recordings.start(spec("standup")).unwrap();
    let pictures = video(VideoCodec::H264, (320, 180), 3, 0);
    for frame in together(&pictures, &audio(AudioCodec::Opus, 3, 0)) {
        assert!(recorder.offer(frame));
    }
    assert!(matches!(
        recordings.delete(&id).await,
        Err(DeleteError::Busy)
    ));
    assert!(recordings.stop(&id));
    let seen = events_until(&mut events, 1, is_final).await;
    let states: Vec<_> = seen.iter().map(|recording| recording.state).collect();
    let expected = [
        RecordingState::Starting,
        RecordingState::Recording,
        RecordingState::Finishing,
        RecordingState::Ready,
    ];
    assert_eq!(states, expected);
    assert!(!recorder.offer(Frame::Video(pictures[0].clone())));

    let listed = recordings.list("standup");
    assert_eq!(listed, [recordings.get(&id).unwrap()]);
    assert_eq!(recordings.list("other"), []);
    let recording = &listed[0];
    assert!(
        (2_950..3_100).contains(&recording.duration_ms),
        "{recording:?}"
    );
    assert_eq!(recording.files[0].media_type(), "video/mp4");
    let folder = scratch.path().join("room-standup").join(id.as_str());
    let path = folder.join("recording.mp4");
    plays(&path);
    let whole = fs::read(&path).unwrap();
    assert_eq!(u64::try_from(whole.len()).unwrap(), recording.bytes);
    assert_eq!(read(&recordings, &id, None).await, whole);
    assert_eq!(
        read(&recordings, &id, Some(10..90_000)).await,
        whole[10..90_000.min(whole.len())]
    );
    let beyond = recordings.read(&id, 0, Some(u64::MAX - 1..u64::MAX)).await;
    assert!(matches!(beyond, Err(ReadError::Range(_))));
    assert!(matches!(
        recordings.read(&id, 1, None).await,
        Err(ReadError::Unknown)
    ));

    // The list survives a restart.
    let (again, _) = Recordings::open(settings(&scratch), None).unwrap();
    assert_eq!(again.list("standup"), listed);
    delete(&recordings, &id).await;
    assert!(!folder.exists());
}

/// Deletes a recording that is finished, or about to be.
pub(super) async fn delete(recordings: &Recordings, id: &RecordingId) {
    while matches!(recordings.delete(id).await, Err(DeleteError::Busy)) {
        // What works on it has told the end and is about to be gone.
        tokio::task::yield_now().await;
    }
    assert!(recordings.get(id).is_none());
    let again = recordings.delete(id).await;
    assert!(matches!(again, Err(DeleteError::Unknown)));
}

pub(super) async fn read(
    recordings: &Recordings,
    id: &RecordingId,
    range: Option<std::ops::Range<u64>>,
) -> Vec<u8> {
    let reading = recordings.read(id, 0, range).await.unwrap();
    let pieces: Vec<bytes::Bytes> = reading.stream.try_collect().await.unwrap();
    pieces.concat()
}

#[tokio::test]
async fn a_recording_that_is_long_enough_ends() {
    if !has_ffmpeg() {
        return;
    }
    let scratch = Scratch::new();
    let short = RecordingSettings {
        max_duration: Duration::from_secs(1),
        ..settings(&scratch)
    };
    let (recordings, mut events) = Recordings::open(short, None).unwrap();
    let (_, recorder) = recordings.start(spec("standup")).unwrap();
    let pictures = video(VideoCodec::H264, (320, 180), 3, 0);
    for frame in together(&pictures, &audio(AudioCodec::Opus, 3, 0)) {
        // From then on nothing is taken.
        recorder.offer(frame);
    }
    let seen = events_until(&mut events, 1, is_final).await;
    let last = seen.last().unwrap();
    assert_eq!(last.state, RecordingState::Ready, "{last:?}");
    assert!(recorder.has_ended());
    assert!(last.duration_ms >= 1_000, "{last:?}");
}

#[tokio::test]
async fn without_media_a_recording_fails_by_name() {
    let scratch = Scratch::new();
    let (recordings, mut events) = Recordings::open(settings(&scratch), None).unwrap();
    let (id, recorder) = recordings.start(spec("standup")).unwrap();
    drop(recorder);
    events_until(&mut events, 1, is_final).await;
    let failed = recordings.get(&id).unwrap();
    assert_eq!(failed.reason, Some(FailReason::NoMedia));
    assert!(failed.files.is_empty());
}

#[tokio::test]
async fn only_so_many_run_and_a_full_disk_is_refused() {
    let scratch = Scratch::new();
    let one = RecordingSettings {
        running_max: 1,
        ..settings(&scratch)
    };
    let (recordings, mut events) = Recordings::open(one, None).unwrap();
    let recorder = recordings.start(spec("standup")).unwrap();
    let second = recordings.start(spec("standup"));
    assert!(matches!(second, Err(StartError::TooMany)));
    drop(recorder);
    events_until(&mut events, 1, is_final).await;

    let greedy = RecordingSettings {
        min_free_mb: u64::MAX,
        ..settings(&scratch)
    };
    let other = Scratch::new();
    let greedy = RecordingSettings {
        dir: other.path().to_owned(),
        ..greedy
    };
    let (recordings, _events) = Recordings::open(greedy, None).unwrap();
    assert!(matches!(
        recordings.start(spec("standup")),
        Err(StartError::DiskFull)
    ));
}

#[tokio::test]
async fn names_from_outside_reach_nothing() {
    let scratch = Scratch::new();
    let (recordings, mut events) = Recordings::open(settings(&scratch), None).unwrap();
    for text in [
        "",
        "rec_",
        "../rec_00000000000000000000000000000000",
        "rec_0000000000000000000000000000000G",
    ] {
        assert_eq!(RecordingId::parse(text), None);
    }
    let id = RecordingId::mint([7; 16]);
    assert_eq!(RecordingId::parse(id.as_str()), Some(id.clone()));
    assert!(!recordings.stop(&id));
    assert!(matches!(
        recordings.read(&id, 0, None).await,
        Err(ReadError::Unknown)
    ));
    let (id, recorder) = recordings.start(spec("../../etc")).unwrap();
    let folder = scratch.path().join("room-_2e_2e_2f_2e_2e_2fetc");
    assert!(folder.join(id.as_str()).exists());
    drop(recorder);
    events_until(&mut events, 1, is_final).await;
}

/// A disk of two megabytes, where we may mount one.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(path: &'a Path) -> Option<Self> {
        let mount = process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(path)
            .stderr(process::Stdio::null())
            .status();
        mount
            .is_ok_and(|status| status.success())
            .then(|| Self(path))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = process::Command::new("umount").arg(self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_ends_the_recording_and_keeps_what_was_written() {
    if !has_ffmpeg() {
        return;
    }
    let scratch = Scratch::new();
    let Some(_disk) = SmallDisk::mount(scratch.path()) else {
        eprintln!("not tried: nothing can be mounted here");
        return;
    };
    let (recordings, mut events) = Recordings::open(settings(&scratch), None).unwrap();
    let (id, recorder) = recordings.start(spec("standup")).unwrap();
    let pictures = large(video(VideoCodec::H264, (640, 360), 4, 0));
    for frame in together(&pictures, &audio(AudioCodec::Opus, 4, 0)) {
        recorder.offer(frame);
    }
    events_until(&mut events, 1, is_final).await;
    let failed = recordings.get(&id).unwrap();
    assert_eq!(failed.state, RecordingState::Failed);
    assert_eq!(failed.reason, Some(FailReason::DiskFull));
    assert_eq!(failed.files.len(), 1);
    let folder = scratch.path().join("room-standup").join(id.as_str());
    plays(&folder.join(&failed.files[0].name));
}
