//! Recordings in a store that speaks the protocol of S3, as far as it is used.

use std::collections::{BTreeMap, VecDeque};
use std::future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::media::{audio, has_ffmpeg, large, video};
use super::running::{delete, events_until, read, settings};
use super::*;
use crate::media::{AudioCodec, VideoCodec};

/// What goes wrong with the next requests that change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// 503.
    Refused,
    /// No answer, ever.
    Stalled,
}

#[derive(Clone, Default)]
struct Bucket(Arc<Mutex<Contents>>);

#[derive(Default)]
struct Contents {
    objects: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    faults: VecDeque<Fault>,
    requests: Vec<String>,
}

impl Bucket {
    /// Serves it on loopback. Where it is.
    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        endpoint
    }

    fn fail(&self, faults: &[Fault]) {
        self.0.lock().unwrap().faults.extend(faults);
    }

    fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap().objects.keys().cloned().collect()
    }

    fn count(&self, what: &str) -> usize {
        let contents = self.0.lock().unwrap();
        let requests = contents.requests.iter();
        requests.filter(|request| request.contains(what)).count()
    }
}

async fn answer(State(bucket): State<Bucket>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let signed = parts.headers[header::AUTHORIZATION].to_str().unwrap();
    assert!(signed.starts_with("AWS4-HMAC-SHA256 Credential=us/"));
    let body = to_bytes(body, 64 << 20).await.unwrap_or_default();
    let path = parts
        .uri
        .path()
        .trim_start_matches("/recordings")
        .to_owned();
    let key = path.trim_start_matches('/').to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let fault = {
        let mut contents = bucket.0.lock().unwrap();
        contents
            .requests
            .push(format!("{} {key}?{query}", parts.method));
        match parts.method {
            Method::PUT | Method::POST => contents.faults.pop_front().unwrap_or(Fault::None),
            _ => Fault::None,
        }
    };
    match fault {
        Fault::None => {}
        Fault::Refused => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Fault::Stalled => future::pending().await,
    }
    let mut contents = bucket.0.lock().unwrap();
    match parts.method {
        Method::GET if query.contains("list-type") => list(&contents),
        Method::GET | Method::HEAD => object(contents.objects.get(&key), &parts.headers),
        Method::DELETE => {
            contents.objects.remove(&key);
            StatusCode::NO_CONTENT.into_response()
        }
        Method::PUT | Method::POST => contents.change(&parts.method, (key, &query), body.to_vec()),
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

impl Contents {
    fn change(&mut self, method: &Method, (key, query): (String, &str), body: Vec<u8>) -> Response {
        let is_put = method == Method::PUT;
        let tag = [(header::ETAG, "\"tag\"")].into_response();
        if query.contains("uploads") {
            let id = format!("upload{}", self.uploads.len());
            self.uploads.insert(id.clone(), BTreeMap::new());
            return xml(
                "InitiateMultipartUploadResult",
                &format!("<UploadId>{id}</UploadId>"),
            );
        }
        if !query.contains("uploadId") {
            self.objects.insert(key, body);
            return tag;
        }
        let id = value(query, "uploadId");
        if is_put {
            let number = value(query, "partNumber").parse().unwrap();
            self.uploads.get_mut(&id).unwrap().insert(number, body);
            return tag;
        }
        let parts = self.uploads.remove(&id).unwrap();
        let whole = parts.into_values().collect::<Vec<_>>().concat();
        self.objects.insert(key, whole);
        xml("CompleteMultipartUploadResult", "<ETag>tag</ETag>")
    }
}

fn xml(name: &str, body: &str) -> Response {
    format!("<{name}>{body}</{name}>").into_response()
}

fn object(object: Option<&Vec<u8>>, headers: &HeaderMap) -> Response {
    let Some(object) = object else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let modified = (header::LAST_MODIFIED, "Thu, 26 Nov 2026 20:00:00 GMT");
    let Some(range) = headers.get(header::RANGE) else {
        return ([modified, (header::ETAG, "\"tag\"")], object.clone()).into_response();
    };
    let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
    let (begin, end) = range.split_once('-').unwrap();
    let (begin, end): (usize, usize) = (begin.parse().unwrap(), end.parse().unwrap());
    let end = end.min(object.len() - 1);
    let said = format!("bytes {begin}-{end}/{}", object.len());
    Response::builder()
        .status(StatusCode::PARTIAL_CONTENT)
        .header(header::CONTENT_RANGE, said)
        .header(modified.0, modified.1)
        .header(header::ETAG, "\"tag\"")
        .body(Body::from(object[begin..=end].to_vec()))
        .unwrap()
}

fn list(contents: &Contents) -> Response {
    let entry = |(key, object): (&String, &Vec<u8>)| {
        let size = object.len();
        format!(
            "<Contents><Key>{key}</Key><Size>{size}</Size>\
             <LastModified>2026-11-26T20:00:00.000Z</LastModified><ETag>tag</ETag></Contents>"
        )
    };
    let entries: String = contents.objects.iter().map(entry).collect();
    xml("ListBucketResult", &entries)
}

fn value(query: &str, name: &str) -> String {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).unwrap().1.to_owned()
}

/// A store that is asked again soon.
fn store(endpoint: String) -> Store {
    let settings = S3Settings::new(
        "recordings".to_owned(),
        "us".to_owned(),
        "secret".to_owned(),
    );
    Store::s3(&S3Settings {
        endpoint: Some(endpoint),
        prefix: "/node/".to_owned(),
        timeout: Duration::from_secs(2),
        pause: Duration::from_millis(10),
        ..settings
    })
    .unwrap()
}

fn is_stored(recording: &Recording) -> bool {
    recording.is_stored
}

fn record(recordings: &Recordings, frames: &[Frame]) -> RecordingId {
    let (id, recorder) = recordings.start(spec("stand up")).unwrap();
    for frame in frames {
        recorder.offer(frame.clone());
    }
    id
}

async fn ready(events: &mut mpsc::Receiver<Recording>) {
    events_until(events, 1, |recording| {
        recording.state == RecordingState::Ready
    })
    .await;
}

#[tokio::test]
async fn a_finished_recording_goes_to_the_store_in_spite_of_failures() {
    if !has_ffmpeg() {
        return;
    }
    let scratch = Scratch::new();
    let bucket = Bucket::default();
    bucket.fail(&[Fault::Refused, Fault::Stalled, Fault::None, Fault::Refused]);
    let store = store(bucket.serve().await);
    let opened = Recordings::open(settings(&scratch), Some(store.clone()));
    let (recordings, mut events) = opened.unwrap();
    let pictures = video(VideoCodec::Vp8, (320, 180), 2, 0);
    let frames = together(&pictures, &audio(AudioCodec::Opus, 2, 0));
    let id = record(&recordings, &frames);
    events_until(&mut events, 1, is_stored).await;

    let file = format!("node/room-stand_20up/{id}/recording.webm");
    let sheet = format!("node/room-stand_20up/{id}/recording.json");
    assert_eq!(bucket.keys(), [sheet.clone(), file.clone()]);
    let listed = store.list("").await.unwrap();
    assert_eq!(listed, [&sheet["node/".len()..], &file["node/".len()..]]);
    let whole = bucket.0.lock().unwrap().objects[&file].clone();
    assert_eq!(read(&recordings, &id, None).await, whole);
    assert_eq!(
        read(&recordings, &id, Some(7..1_007)).await,
        whole[7..1_007]
    );

    delete(&recordings, &id).await;
    assert!(bucket.keys().is_empty());
    assert!(recordings.list("stand up").is_empty());
}

#[tokio::test]
async fn a_large_file_goes_in_parts_of_which_each_may_fail() {
    if !has_ffmpeg() {
        return;
    }
    let scratch = Scratch::new();
    let bucket = Bucket::default();
    // The beginning, the first part, the second.
    bucket.fail(&[Fault::None, Fault::None, Fault::Refused, Fault::Stalled]);
    let store = store(bucket.serve().await);
    let (recordings, mut events) = Recordings::open(settings(&scratch), Some(store)).unwrap();
    let pictures = large(video(VideoCodec::H264, (320, 180), 10, 0));
    let frames = together(&pictures, &audio(AudioCodec::Opus, 10, 0));
    let id = record(&recordings, &frames);
    events_until(&mut events, 1, is_stored).await;
    let recording = recordings.get(&id).unwrap();
    assert!(recording.bytes > 9_000_000, "{}", recording.bytes);
    let whole = read(&recordings, &id, None).await;
    assert_eq!(u64::try_from(whole.len()).unwrap(), recording.bytes);
    assert!(whole[4..].starts_with(b"ftyp"));
    assert!(bucket.count("partNumber=2") >= 2);
    assert!(bucket.0.lock().unwrap().uploads.is_empty());
    let folder = scratch.path().join("room-stand_20up").join(id.as_str());
    let path = folder.join("recording.mp4");
    while path.exists() {
        // It goes once all is told.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_could_not_be_stored_stays_here_until_the_next_start() {
    if !has_ffmpeg() {
        return;
    }
    let scratch = Scratch::new();
    // Nobody listens there.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let opened = Recordings::open(settings(&scratch), Some(store(endpoint)));
    let (recordings, mut events) = opened.unwrap();
    let pictures = video(VideoCodec::H264, (320, 180), 2, 0);
    let frames = together(&pictures, &audio(AudioCodec::Opus, 2, 0));
    let id = record(&recordings, &frames);
    ready(&mut events).await;
    let whole = read(&recordings, &id, None).await;
    assert!(!recordings.get(&id).unwrap().is_stored);

    let bucket = Bucket::default();
    let store = store(bucket.serve().await);
    let (again, mut events) = Recordings::open(settings(&scratch), Some(store)).unwrap();
    events_until(&mut events, 1, is_stored).await;
    assert_eq!(bucket.keys().len(), 2);
    assert_eq!(read(&again, &id, None).await, whole);
}
