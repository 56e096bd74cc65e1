//! The room API's recordings: begin, list, stop, download, delete.
#![allow(unused_qualifications, reason = "the macro for paths writes some")]

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bridge::recording::{
    Container, DeleteError, FailReason, ReadError, Recording, RecordingId, RecordingState,
    Recordings,
};
use bridge::{Follow, Spec};
use serde::{Deserialize, Serialize};
use sfu::TrackId;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::{bad_body, check_name, moderate, timestamp};
use super::broadcasts::refused;
use super::problem::{Problem, ProblemBody, problem};
use super::{App, Ends};
use crate::message::ErrorCode;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list_recordings, begin_recording))
        .routes(routes!(get_recording, delete_recording))
        .routes(routes!(stop_recording))
        .routes(routes!(download))
}

/// What is to be recorded. `{}` is the room's program, which follows who speaks.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct NewRecording {
    /// One track instead of the program, by id.
    track: Option<String>,
}

/// The recordings of a room, oldest first.
#[derive(Serialize, ToSchema)]
struct RecordingList {
    items: Vec<RecordingView>,
}

/// A recording.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RecordingView {
    /// Its id.
    id: String,
    /// The room.
    room: String,
    /// The track's id; absent when it is the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    track: Option<String>,
    /// `starting`, `recording`, `finishing`, `ready` or `failed`.
    #[schema(value_type = String)]
    state: RecordingState,
    /// Why it failed: `disk_full`, `too_slow`, `io`, `no_media` or `internal`. What had been written can be
    /// downloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    reason: Option<FailReason>,
    /// When it began (RFC 3339).
    started_at: String,
    /// How long it is so far, in milliseconds of media.
    duration_ms: u64,
    /// What it takes of the disk, or of the store, so far.
    bytes: u64,
    /// Frames that no file could hold together with the others.
    dropped_frames: u64,
    /// What can be downloaded, in order; usually one file.
    files: Vec<FileView>,
    /// All files are in the store and no longer on the disk.
    stored: bool,
}

/// A file of a recording.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FileView {
    /// Where it can be downloaded.
    url: String,
    /// `mp4` or `webm`.
    #[schema(value_type = String)]
    container: Container,
    /// Its media type.
    media_type: &'static str,
    /// Its size.
    bytes: u64,
}

impl From<&Recording> for RecordingView {
    fn from(recording: &Recording) -> Self {
        let (id, room) = (&recording.id, &recording.spec.room);
        let files = recording.files.iter().enumerate();
        let files = files.map(|(number, file)| FileView {
            url: format!("/v1/rooms/{room}/recordings/{id}/files/{number}"),
            container: file.container,
            media_type: file.media_type(),
            bytes: file.bytes,
        });
        Self {
            id: id.to_string(),
            room: room.clone(),
            track: recording.spec.track.clone(),
            state: recording.state,
            reason: recording.reason,
            started_at: timestamp(UNIX_EPOCH + Duration::from_millis(recording.started_at_ms)),
            duration_ms: recording.duration_ms,
            bytes: recording.bytes,
            dropped_frames: recording.frames_left_out,
            files: files.collect(),
            stored: recording.is_stored,
        }
    }
}

/// Lists the recordings of a room, also when the room itself is gone.
#[utoipa::path(get, path = "/v1/rooms/{room}/recordings", params(("room" = String, Path)), responses(
    (status = OK, body = RecordingList),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn list_recordings(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path(room): Path<String>,
    headers: HeaderMap,
) -> Result<Json<RecordingList>, Problem> {
    moderate(&app, ends, &headers, &room)?;
    let recordings = app.broadcasts.bridge().recordings();
    let known = recordings.map(|recordings| recordings.list(&room));
    let items = known.unwrap_or_default();
    let items = items.iter().map(RecordingView::from).collect();
    Ok(Json(RecordingList { items }))
}

/// Begins a recording of the room's program or of one track.
#[utoipa::path(post, path = "/v1/rooms/{room}/recordings", params(("room" = String, Path)),
    request_body = NewRecording, responses(
    (status = CREATED, body = RecordingView),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn begin_recording(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path(room): Path<String>,
    headers: HeaderMap,
    body: Result<Json<NewRecording>, JsonRejection>,
) -> Result<Response, Problem> {
    moderate(&app, ends, &headers, &room)?;
    check_name(&room)?;
    let Json(wanted) = body.map_err(|error| bad_body(&error))?;
    let bridge = app.broadcasts.bridge();
    let now = Instant::now();
    let id = match wanted.track {
        Some(track) => {
            let no_track = || problem(ErrorCode::NotFound, "there is no such track");
            let id = TrackId::parse(&track).ok_or_else(no_track)?;
            let (place, has_video) = app.rooms.track(&room, id).ok_or_else(no_track)?;
            let begun = bridge.record_track(place, &room, (id, has_video));
            let recording = begun.map_err(refused)?;
            app.broadcasts.tell_room(now, place);
            recording
        }
        None => {
            let place = app.rooms.open_for_broadcast(now, &room)?;
            let begun = bridge.begin(place, &room, program_only());
            let recording = begun.map_err(refused)?.recording.clone();
            app.broadcasts.tell_room(now, place);
            recording.ok_or_else(|| problem(ErrorCode::Internal, "the recording has no id"))?
        }
    };
    let location = format!("/v1/rooms/{room}/recordings/{id}");
    let headers = [(header::LOCATION, location)];
    let recording = RecordingView::from(&find(&app, &room, id.as_str())?.1);
    Ok((StatusCode::CREATED, headers, Json(recording)).into_response())
}

/// A broadcast that goes nowhere but to disk; its name keeps clear of those that people choose.
fn program_only() -> Spec {
    Spec {
        name: "_recording".to_owned(),
        follow: Follow::Auto,
        is_served: false,
        targets: Vec::new(),
        is_recorded: true,
    }
}

/// Shows a recording.
#[utoipa::path(get, path = "/v1/rooms/{room}/recordings/{id}",
    params(("room" = String, Path), ("id" = String, Path)), responses(
    (status = OK, body = RecordingView),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn get_recording(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path((room, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<RecordingView>, Problem> {
    moderate(&app, ends, &headers, &room)?;
    Ok(Json(RecordingView::from(&find(&app, &room, &id)?.1)))
}

/// Stops a recording; its file is ready a moment later.
#[utoipa::path(post, path = "/v1/rooms/{room}/recordings/{id}/stop",
    params(("room" = String, Path), ("id" = String, Path)), responses(
    (status = NO_CONTENT),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn stop_recording(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path((room, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    moderate(&app, ends, &headers, &room)?;
    let (recordings, recording) = find(&app, &room, &id)?;
    let bridge = app.broadcasts.bridge();
    // One that is all there is to its broadcast ends with it.
    let listings = bridge.broadcasts(&room);
    let alone = listings.iter().find(|listing| {
        let is_it = listing.recording.as_ref() == Some(&recording.id);
        is_it && listing.hls.is_none() && listing.targets().is_empty()
    });
    let is_stopped = recordings.stop(&recording.id);
    if let Some(listing) = alone {
        bridge.end(listing.id);
    }
    match is_stopped {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(problem(ErrorCode::Conflict, "the recording is over")),
    }
}

/// Deletes a recording that is over, here and in the store.
#[utoipa::path(delete, path = "/v1/rooms/{room}/recordings/{id}",
    params(("room" = String, Path), ("id" = String, Path)), responses(
    (status = NO_CONTENT),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn delete_recording(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path((room, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    moderate(&app, ends, &headers, &room)?;
    let (recordings, recording) = find(&app, &room, &id)?;
    match recordings.delete(&recording.id).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(DeleteError::Unknown) => Err(no_recording()),
        Err(DeleteError::Busy) => {
            let text = "the recording is not finished: stop it first";
            Err(problem(ErrorCode::Conflict, text))
        }
        Err(error) => Err(problem(ErrorCode::Internal, error.to_string())),
    }
}

/// Downloads a file of a recording that is over; ranges are served.
#[utoipa::path(get, path = "/v1/rooms/{room}/recordings/{id}/files/{file}",
    params(("room" = String, Path), ("id" = String, Path), ("file" = usize, Path)), responses(
    (status = OK, content_type = "video/mp4"),
    (status = PARTIAL_CONTENT, content_type = "video/mp4"),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn download(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path((room, id, file)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    moderate(&app, ends, &headers, &room)?;
    let (recordings, recording) = find(&app, &room, &id)?;
    if !matches!(
        recording.state,
        RecordingState::Ready | RecordingState::Failed
    ) {
        let text = "the recording is not finished: stop it first";
        return Err(problem(ErrorCode::Conflict, text));
    }
    let number: usize = file.parse().map_err(|_| no_recording())?;
    let known = recording.files.get(number).ok_or_else(no_recording)?;
    let (size, name, kind) = (known.bytes, known.name.clone(), known.media_type());
    let wanted = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let range = match wanted.map(|text| byte_range(text, size)) {
        Some(Some(range)) => Some(range),
        Some(None) => return Ok(unsatisfiable(size)),
        None => None,
    };
    let reading = recordings.read(&recording.id, number, range.clone()).await;
    let reading = reading.map_err(|error| match error {
        ReadError::Unknown => no_recording(),
        error => problem(ErrorCode::Internal, error.to_string()),
    })?;
    let length = range.as_ref().map_or(size, |range| range.end - range.start);
    let mut response = Body::from_stream(reading.stream).into_response();
    let fields = response.headers_mut();
    let disposition = format!("attachment; filename=\"{id}-{name}\"");
    for (field, value) in [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CACHE_CONTROL, "private, no-store".to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
    ] {
        if let Ok(value) = value.parse() {
            fields.insert(field, value);
        }
    }
    if let Some(Range { start, end }) = range {
        let value = format!("bytes {start}-{}/{size}", end.saturating_sub(1));
        if let Ok(value) = value.parse() {
            fields.insert(header::CONTENT_RANGE, value);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// A recording as the API shows it.
pub(crate) fn shown(recording: &Recording) -> serde_json::Value {
    serde_json::to_value(RecordingView::from(recording)).unwrap_or_default()
}

fn unsatisfiable(size: u64) -> Response {
    let error = problem(ErrorCode::BadMessage, "there is no such range");
    let mut response = error
        .with_status(StatusCode::RANGE_NOT_SATISFIABLE)
        .into_response();
    if let Ok(value) = format!("bytes */{size}").parse() {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}

/// The one range that is asked for (RFC 9110 §14.1.2), within a file of this size.
fn byte_range(text: &str, size: u64) -> Option<Range<u64>> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (from.trim(), to.trim()) {
        ("", last) => (size.saturating_sub(last.parse().ok()?), size),
        (first, "") => (first.parse().ok()?, size),
        (first, last) => {
            let last: u64 = last.parse().ok()?;
            (first.parse().ok()?, last.checked_add(1)?.min(size))
        }
    };
    (start < end).then_some(start..end)
}

fn find<'a>(app: &'a App, room: &str, id: &str) -> Result<(&'a Recordings, Recording), Problem> {
    let recordings = app
        .broadcasts
        .bridge()
        .recordings()
        .ok_or_else(no_recording)?;
    let recording = RecordingId::parse(id).and_then(|id| recordings.get(&id));
    let recording = recording.filter(|recording| recording.spec.room == room);
    Ok((recordings, recording.ok_or_else(no_recording)?))
}

fn no_recording() -> Problem {
    problem(ErrorCode::NotFound, "there is no such recording")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_file_and_nonsense_is_none() {
        for (text, expected) in [
            ("bytes=0-", Some(0..100)),
            ("bytes=10-19", Some(10..20)),
            ("bytes=90-500", Some(90..100)),
            ("bytes=-30", Some(70..100)),
            ("bytes=-500", Some(0..100)),
            ("bytes=100-", None),
            ("bytes=20-10", None),
            ("bytes=-0", None),
            ("bytes=a-b", None),
            ("bytes=0-18446744073709551615", None),
            ("lines=0-1", None),
            ("", None),
        ] {
            assert_eq!(byte_range(text, 100), expected, "{text}");
        }
    }
}
