//! The room API's recordings.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use signaling::{Config, Server};

use crate::broadcasts::quick;
use crate::client::*;
use crate::native::Client;

/// A folder that is gone with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("plenum-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::remove_dir_all(&path).ok();
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Recordings go into this folder.
pub(crate) fn recording(folder: &Folder) -> Config {
    let mut config = quick();
    config.recording.dir = folder.0.to_str().unwrap().to_owned();
    config.recording.min_free_mb = 1;
    config
}

const RECORDINGS: &str = "/v1/rooms/r/recordings";

fn path_of(recording: &Value) -> String {
    format!("{RECORDINGS}/{}", recording["id"].as_str().unwrap())
}

#[tokio::test]
async fn without_a_folder_nothing_is_recorded() {
    let server = Server::start(&quick()).await.unwrap();
    let api = Api::new(&server);
    for (line, body) in [
        (format!("POST {RECORDINGS}"), "{}"),
        (
            "POST /v1/rooms/r/broadcasts".to_owned(),
            r#"{"record":true}"#,
        ),
    ] {
        let refused = api.ask(&line, body).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (409, "conflict"),
            "{line}"
        );
        assert!(refused.body.contains("recording.dir"), "{refused:?}");
    }
    assert_eq!(api.get(RECORDINGS).await["items"], json!([]));
    let id = format!("GET {RECORDINGS}/rec_{}", "0".repeat(32));
    assert_eq!(api.ask(&id, "").await.status, 404);
}

#[tokio::test]
async fn a_program_is_recorded_stopped_downloaded_and_deleted() {
    let folder = Folder::new("program");
    let server = Server::start(&recording(&folder)).await.unwrap();
    let api = Api::new(&server);
    let (mut ann, welcome) = Client::join(&server, "ann").await;
    assert_eq!(welcome["room"]["recording"], false);
    let reply = api.ask(&format!("POST {RECORDINGS}"), "{}").await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let begun = reply.json();
    let path = path_of(&begun);
    assert_eq!(reply.header("location"), Some(path.as_str()));
    ann.hear_of(|told| told["patch"]["recording"] == json!(true))
        .await;

    // It is no broadcast that could be watched, and there is one at a time.
    assert_eq!(
        ask(&server, "GET /live/r/index.m3u8", &[], "").await.status,
        404
    );
    let again = api.ask(&format!("POST {RECORDINGS}"), "{}").await;
    assert_eq!(again.code(), "conflict");
    for line in [format!("GET {path}/files/0"), format!("DELETE {path}")] {
        assert_eq!(api.ask(&line, "").await.code(), "conflict", "{line}");
    }

    eventually(
        async || api.get(&path).await,
        |now| now["durationMs"].as_u64() > Some(1_000),
    )
    .await;
    let stop = format!("POST {path}/stop");
    assert_eq!(api.ask(&stop, "").await.status, 204);
    // As soon as nothing more comes into it there may be another one.
    while api.get(&path).await["state"] == "recording" {}
    let next = api.ask(&format!("POST {RECORDINGS}"), "{}").await;
    assert_eq!(next.status, 201, "{next:?}");
    let stop_next = format!("POST {}/stop", path_of(&next.json()));
    assert_eq!(api.ask(&stop_next, "").await.status, 204);
    ann.hear_of(|told| told["patch"]["recording"] == json!(false))
        .await;
    let ready = eventually(async || api.get(&path).await, |now| now["state"] == "ready").await;
    assert_eq!(api.ask(&stop, "").await.code(), "conflict");
    let size = usize::try_from(ready["files"][0]["bytes"].as_u64().unwrap()).unwrap();

    let (reply, whole) = api.fetch(&format!("{path}/files/0"), None).await;
    assert_eq!((reply.status, whole.len()), (200, size));
    assert_eq!(whole.get(4..8), Some(&b"ftyp"[..]));
    for (range, status, expected) in [
        ("bytes=0-99", 206, whole.get(..100)),
        ("bytes=-8", 206, whole.get(size - 8..)),
        ("bytes=100-", 206, whole.get(100..)),
        ("bytes=99999999-", 416, None),
        ("lines=1-2", 416, None),
    ] {
        let (reply, part) = api.fetch(&format!("{path}/files/0"), Some(range)).await;
        assert_eq!(reply.status, status, "{range}");
        let length = reply
            .header("content-range")
            .unwrap()
            .rsplit_once('/')
            .unwrap()
            .1;
        assert_eq!(length, size.to_string());
        assert!(expected.is_none_or(|expected| expected == part), "{range}");
    }
    assert_eq!(
        api.ask(&format!("GET {path}/files/1"), "").await.status,
        404
    );

    // It outlives its room, and is seen from no other.
    assert_eq!(api.ask("DELETE /v1/rooms/r", "").await.status, 204);
    assert_eq!(api.get(RECORDINGS).await["items"][0]["id"], begun["id"]);
    let foreign = path.replace("/r/", "/other/");
    assert_eq!(api.ask(&format!("GET {foreign}"), "").await.status, 404);
    assert_eq!(api.ask(&format!("DELETE {path}"), "").await.status, 204);
    assert_eq!(api.ask(&format!("GET {path}"), "").await.status, 404);
}

#[tokio::test]
async fn a_broadcast_goes_on_when_its_recording_is_stopped() {
    let folder = Folder::new("beside");
    let server = Server::start(&recording(&folder)).await.unwrap();
    let api = Api::new(&server);
    let begun = api
        .post("/v1/rooms/r/broadcasts", json!({ "record": true }))
        .await;
    let id = begun["recording"].as_str().unwrap();
    let stop = format!("POST {RECORDINGS}/{id}/stop");
    assert_eq!(api.ask(&stop, "").await.status, 204);
    eventually(
        async || api.get(&format!("{RECORDINGS}/{id}")).await,
        |now| now["state"] == "ready" || now["state"] == "failed",
    )
    .await;
    let of = format!("/v1/rooms/r/broadcasts/{}", begun["id"].as_str().unwrap());
    eventually(async || api.get(&of).await, |now| now["state"] == "live").await;
}

#[tokio::test]
async fn a_recording_ends_with_its_room() {
    let folder = Folder::new("closed");
    let server = Server::start(&recording(&folder)).await.unwrap();
    let api = Api::new(&server);
    let path = path_of(&api.post(RECORDINGS, json!({})).await);
    eventually(
        async || api.get(&path).await,
        |now| now["state"] == "recording",
    )
    .await;
    assert_eq!(api.ask("DELETE /v1/rooms/r", "").await.status, 204);
    eventually(async || api.get(&path).await, |now| now["state"] == "ready").await;
}

#[tokio::test]
async fn bad_recordings_are_refused_by_name() {
    let folder = Folder::new("bad");
    let mut config = recording(&folder);
    config.recording.recordings_max = 1;
    let server = Server::start(&config).await.unwrap();
    let api = Api::new(&server);
    let new = format!("POST {RECORDINGS}");
    for (line, body, status) in [
        (new.as_str(), "5", 400),
        (&new, r#"{"what":1}"#, 400),
        (&new, r#"{"track":5}"#, 400),
        (&new, r#"{"track":"nonsense"}"#, 404),
        (&new, r#"{"track":"t_1"}"#, 404),
        ("POST /v1/rooms/a%20b/recordings", "{}", 400),
        ("GET /v1/rooms/r/recordings/..%2f..%2fetc", "", 404),
        ("DELETE /v1/rooms/r/recordings/rec_1", "", 404),
        ("GET /v1/rooms/r/recordings/rec_1/files/..%2f0", "", 404),
    ] {
        let reply = api.ask(line, body).await;
        assert_eq!(reply.status, status, "{line} {body}: {reply:?}");
        reply.code();
    }
    api.post(RECORDINGS, json!({})).await;
    let second = api.ask("POST /v1/rooms/second/recordings", "{}").await;
    assert_eq!(second.code(), "limit_exceeded");
}
