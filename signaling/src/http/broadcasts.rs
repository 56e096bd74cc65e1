//! The room API's broadcasts: begin, show, change, end.
#![allow(unused_qualifications, reason = "the macro for paths writes some")]

use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bridge::{BeginError, BroadcastId, Follow, Listing, PushState, Shown, Spec};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::{bad_body, check_name, moderate, timestamp};
use super::problem::{Problem, ProblemBody, problem};
use super::{App, Ends};
use crate::message::ErrorCode;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list_broadcasts, begin_broadcast))
        .routes(routes!(get_broadcast, change_broadcast, end_broadcast))
        .routes(routes!(add_target))
        .routes(routes!(remove_target))
}

/// What a broadcast is to be. `{}` is a program that follows who speaks, served as HLS.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct NewBroadcast {
    /// Tells several broadcasts of a room apart; 1 to 32 of a-z 0-9 -, or empty for the room's main one.
    name: String,
    /// Whose picture is shown.
    follow: FollowRule,
    /// With `follow: "participant"`: whose, by identity.
    participant: Option<String>,
    /// It is served as HLS at `/live/{room}/index.m3u8`; true unless it is said.
    hls: Option<bool>,
    /// Where it is pushed to by RTMP.
    targets: Vec<NewTarget>,
    /// It is recorded.
    record: bool,
}

/// Whose picture a broadcast shows.
#[derive(Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum FollowRule {
    /// A shared screen if there is one, else who speaks.
    #[default]
    Auto,
    /// Who speaks.
    Speaker,
    /// Shared screens only.
    Screen,
    /// One participant: its shared screen, else its camera.
    Participant,
}

/// Where a broadcast is pushed to.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTarget {
    /// `rtmp://` or `rtmps://`, with the stream key unless that is in `key`.
    url: String,
    /// The stream key. It is never shown.
    #[serde(default)]
    key: Option<String>,
}

/// A change of a running broadcast.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BroadcastChange {
    /// Whose picture is shown from now on.
    follow: FollowRule,
    /// With `follow: "participant"`: whose, by identity.
    #[serde(default)]
    participant: Option<String>,
}

/// A broadcast.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BroadcastView {
    /// Its id.
    id: String,
    /// The room.
    room: String,
    /// Its name; empty for the room's main one.
    name: String,
    /// How it is.
    state: BroadcastState,
    /// Why it ended: `stopped`, `empty`, `room_closed` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    ending: Option<&'static str>,
    /// When it began (RFC 3339).
    started_at: String,
    /// Whose picture is shown.
    follow: FollowRule,
    /// With `follow: "participant"`: whose.
    #[serde(skip_serializing_if = "Option::is_none")]
    participant: Option<String>,
    /// What is shown.
    on_air: OnAir,
    /// As HLS; absent when it is not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    hls: Option<HlsView>,
    /// As HTTP-FLV; absent when it is not served, which takes AAC.
    #[serde(skip_serializing_if = "Option::is_none")]
    flv: Option<FlvView>,
    /// Where it is pushed to.
    targets: Vec<TargetView>,
    /// Its recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    recording: Option<String>,
}

/// How a broadcast is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum BroadcastState {
    /// It began; nothing can be watched yet.
    Starting,
    /// It goes out.
    Live,
    /// Nobody watches; it goes on with the first request.
    Paused,
    /// It is over.
    Ended,
}

/// What a broadcast shows.
#[derive(Serialize, ToSchema)]
struct OnAir {
    /// `picture`, or `card` when there is none to show.
    video: &'static str,
    /// Whose.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    /// Why it is the card: `nobody`; `silent`: nothing comes of the picture, not yet or not any more; or
    /// `codec_vp8`, `codec_vp9`, `codec_av1`: it is in a codec that is not carried, and its publisher was
    /// asked for H264.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// A broadcast as HLS.
#[derive(Serialize, ToSchema)]
struct HlsView {
    /// The multivariant playlist.
    url: String,
    /// Players at present.
    viewers: usize,
}

/// A broadcast as HTTP-FLV.
#[derive(Serialize, ToSchema)]
struct FlvView {
    /// The stream.
    url: String,
    /// Players at present.
    viewers: usize,
}

/// A target.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TargetView {
    /// Its number in the broadcast.
    id: u32,
    /// Where, without the key.
    url: String,
    /// `connecting`, `live`, `waiting`, `failed` or `stopped`.
    state: &'static str,
    /// Why it is not live.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Bytes sent.
    bytes: u64,
    /// Connections that became live.
    connections: u64,
    /// Frames dropped because the target was too slow.
    dropped_frames: u64,
}

/// The broadcasts of a room, oldest first.
#[derive(Serialize, ToSchema)]
struct BroadcastList {
    items: Vec<BroadcastView>,
}

/// A target that was added.
#[derive(Serialize, ToSchema)]
struct AddedTarget {
    /// Its number in the broadcast.
    id: u32,
}

type Params = (String, String);

/// Lists the broadcasts of a room, those that ended in the last minutes included.
#[utoipa::path(get, path = "/v1/rooms/{room}/broadcasts", params(("room" = String, Path)), responses(
    (status = OK, body = BroadcastList),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn list_broadcasts(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path(room): Path<String>,
    headers: HeaderMap,
) -> Result<Json<BroadcastList>, Problem> {
    moderate(&app, ends, &headers, &room)?;
    let listings = app.broadcasts.bridge().broadcasts(&room);
    let items = listings.iter().map(|listing| view(listing)).collect();
    Ok(Json(BroadcastList { items }))
}

/// Begins a broadcast; the room is opened if it is not there.
#[utoipa::path(post, path = "/v1/rooms/{room}/broadcasts", params(("room" = String, Path)),
    request_body = NewBroadcast, responses(
    (status = CREATED, body = BroadcastView),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn begin_broadcast(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path(room): Path<String>,
    headers: HeaderMap,
    body: Result<Json<NewBroadcast>, JsonRejection>,
) -> Result<Response, Problem> {
    moderate(&app, ends, &headers, &room)?;
    check_name(&room)?;
    let Json(wanted) = body.map_err(|error| bad_body(&error))?;
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if wanted.name.len() > 32 || !wanted.name.bytes().all(is_plain) {
        let text = "a broadcast's name is up to 32 of a-z 0-9 -";
        return Err(problem(ErrorCode::BadMessage, text));
    }
    let targets = wanted.targets.into_iter();
    let spec = Spec {
        name: wanted.name,
        follow: follow(wanted.follow, wanted.participant)?,
        is_served: wanted.hls.unwrap_or(true),
        targets: targets.map(|target| (target.url, target.key)).collect(),
        is_recorded: wanted.record,
    };
    if !spec.is_served && spec.targets.is_empty() && !spec.is_recorded {
        let text = "a broadcast without HLS goes nowhere: name targets, or record it";
        return Err(problem(ErrorCode::BadMessage, text));
    }
    let id = app.rooms.open_for_broadcast(Instant::now(), &room)?;
    let begun = app
        .broadcasts
        .bridge()
        .begin(id, &room, spec)
        .map_err(refused)?;
    app.broadcasts.tell_room(Instant::now(), id);
    let location = format!("/v1/rooms/{room}/broadcasts/{}", begun.id);
    let headers = [(header::LOCATION, location)];
    Ok((StatusCode::CREATED, headers, Json(view(&begun))).into_response())
}

/// Shows a broadcast.
#[utoipa::path(get, path = "/v1/rooms/{room}/broadcasts/{id}",
    params(("room" = String, Path), ("id" = String, Path)), responses(
    (status = OK, body = BroadcastView),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn get_broadcast(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path((room, id)): Path<Params>,
    headers: HeaderMap,
) -> Result<Json<BroadcastView>, Problem> {
    moderate(&app, ends, &headers, &room)?;
    Ok(Json(view(&*find(&app, &room, &id)?)))
}

/// Has a broadcast follow someone else.
#[utoipa::path(patch, path = "/v1/rooms/{room}/broadcasts/{id}",
    params(("room" = String, Path), ("id" = String, Path)), request_body = BroadcastChange, responses(
    (status = NO_CONTENT),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn change_broadcast(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path((room, id)): Path<Params>,
    headers: HeaderMap,
    body: Result<Json<BroadcastChange>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    moderate(&app, ends, &headers, &room)?;
    let Json(change) = body.map_err(|error| bad_body(&error))?;
    let listing = find(&app, &room, &id)?;
    let follow = follow(change.follow, change.participant)?;
    match app.broadcasts.bridge().follow(listing.id, follow) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(over()),
    }
}

/// Ends a broadcast. What was broadcast can be watched for some minutes more.
#[utoipa::path(delete, path = "/v1/rooms/{room}/broadcasts/{id}",
    params(("room" = String, Path), ("id" = String, Path)), responses(
    (status = NO_CONTENT),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn end_broadcast(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path((room, id)): Path<Params>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    moderate(&app, ends, &headers, &room)?;
    let listing = find(&app, &room, &id)?;
    match app.broadcasts.bridge().end(listing.id) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(over()),
    }
}

/// Pushes a broadcast to one more target.
#[utoipa::path(post, path = "/v1/rooms/{room}/broadcasts/{id}/targets",
    params(("room" = String, Path), ("id" = String, Path)), request_body = NewTarget, responses(
    (status = CREATED, body = AddedTarget),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn add_target(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path((room, id)): Path<Params>,
    headers: HeaderMap,
    body: Result<Json<NewTarget>, JsonRejection>,
) -> Result<Response, Problem> {
    moderate(&app, ends, &headers, &room)?;
    let Json(target) = body.map_err(|error| bad_body(&error))?;
    let listing = find(&app, &room, &id)?;
    let bridge = app.broadcasts.bridge();
    let added = bridge.add_target(listing.id, &target.url, target.key.as_deref());
    let id = added.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(AddedTarget { id })).into_response())
}

/// Pushes a broadcast to a target no more.
#[utoipa::path(delete, path = "/v1/rooms/{room}/broadcasts/{id}/targets/{target}",
    params(("room" = String, Path), ("id" = String, Path), ("target" = u32, Path)), responses(
    (status = NO_CONTENT),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn remove_target(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path((room, id, target)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    moderate(&app, ends, &headers, &room)?;
    let listing = find(&app, &room, &id)?;
    let number = target.parse().ok();
    let removed =
        number.is_some_and(|number| app.broadcasts.bridge().remove_target(listing.id, number));
    match removed {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(problem(ErrorCode::NotFound, "there is no such target")),
    }
}

fn find(app: &App, room: &str, id: &str) -> Result<Arc<Listing>, Problem> {
    let listing = BroadcastId::parse(id).and_then(|id| app.broadcasts.bridge().find(id));
    let listing = listing.filter(|listing| listing.room == room);
    listing.ok_or_else(|| problem(ErrorCode::NotFound, "there is no such broadcast"))
}

fn over() -> Problem {
    problem(ErrorCode::Conflict, "the broadcast is over")
}

/// What is wrong, in the words and codes of the API.
pub(super) fn refused(error: BeginError) -> Problem {
    let code = match &error {
        BeginError::TooMany | BeginError::TooManyTargets => ErrorCode::LimitExceeded,
        BeginError::NameTaken => ErrorCode::Conflict,
        BeginError::AacUnavailable => ErrorCode::AacUnavailable,
        BeginError::Target(_) => ErrorCode::BadMessage,
        BeginError::NotFound => ErrorCode::NotFound,
        BeginError::NoRecordings => ErrorCode::Conflict,
        BeginError::Recording(_) => ErrorCode::LimitExceeded,
        BeginError::Busy => ErrorCode::RateLimited,
        _ => ErrorCode::Internal,
    };
    problem(code, error.to_string())
}

fn follow(rule: FollowRule, participant: Option<String>) -> Result<Follow, Problem> {
    match (rule, participant) {
        (FollowRule::Participant, Some(identity)) => Ok(Follow::Participant(identity)),
        (FollowRule::Participant, None) => {
            let text = "follow \"participant\" needs a participant";
            Err(problem(ErrorCode::BadMessage, text))
        }
        (_, Some(_)) => {
            let text = "a participant is named with follow \"participant\" only";
            Err(problem(ErrorCode::BadMessage, text))
        }
        (FollowRule::Auto, None) => Ok(Follow::Auto),
        (FollowRule::Speaker, None) => Ok(Follow::Speaker),
        (FollowRule::Screen, None) => Ok(Follow::Screen),
    }
}

fn view(listing: &Listing) -> BroadcastView {
    let (progress, ending) = (listing.progress(), listing.ending());
    let has_begun = listing.hls.as_ref().is_none_or(|store| store.is_ready());
    let state = match &progress {
        _ if ending.is_some() => BroadcastState::Ended,
        Some(progress) if progress.is_paused => BroadcastState::Paused,
        Some(_) if has_begun => BroadcastState::Live,
        _ => BroadcastState::Starting,
    };
    let (follow, participant) = match listing.follow() {
        Follow::Auto => (FollowRule::Auto, None),
        Follow::Speaker => (FollowRule::Speaker, None),
        Follow::Screen => (FollowRule::Screen, None),
        Follow::Participant(identity) => (FollowRule::Participant, Some(identity)),
    };
    let path = listing.path();
    BroadcastView {
        id: listing.id.to_string(),
        room: listing.room.clone(),
        name: listing.name.clone(),
        state,
        ending: ending.map(bridge::Ending::as_str),
        started_at: timestamp(listing.started_at),
        follow,
        participant,
        on_air: on_air(progress.map(|progress| progress.shown)),
        hls: listing.hls.as_ref().map(|store| HlsView {
            url: format!("/live/{path}/index.m3u8"),
            viewers: store.viewers(Instant::now()),
        }),
        flv: listing.flv.as_ref().map(|feed| FlvView {
            url: format!("/live/{path}.flv"),
            viewers: feed.viewers(),
        }),
        targets: listing
            .targets()
            .iter()
            .map(|target| target_view(target))
            .collect(),
        recording: listing.recording.as_ref().map(ToString::to_string),
    }
}

/// A broadcast as the room API shows it.
pub(crate) fn shown(listing: &Listing) -> serde_json::Value {
    serde_json::to_value(view(listing)).unwrap_or_default()
}

fn on_air(shown: Option<Shown>) -> OnAir {
    let card = |identity, reason| OnAir {
        video: "card",
        identity,
        reason: Some(reason),
    };
    match shown {
        Some(Shown::Picture { identity, .. }) => OnAir {
            video: "picture",
            identity: Some(identity),
            reason: None,
        },
        Some(Shown::Codec { identity, codec }) => {
            let reason = match codec {
                sfu::Codec::Vp8 => "codec_vp8",
                sfu::Codec::Vp9 => "codec_vp9",
                sfu::Codec::Av1 => "codec_av1",
                _ => "codec",
            };
            card(Some(identity), reason)
        }
        Some(Shown::Silent { identity }) => card(Some(identity), "silent"),
        Some(Shown::Nobody) | None => card(None, "nobody"),
    }
}

fn target_view(target: &bridge::Target) -> TargetView {
    let state = target.pusher.state().borrow().clone();
    let counts = target.pusher.counts();
    let (state, error) = match state {
        PushState::Connecting => ("connecting", None),
        PushState::Live => ("live", None),
        PushState::Waiting { error, .. } => ("waiting", Some(error.to_string())),
        PushState::Failed(error) => ("failed", Some(error.to_string())),
        PushState::Stopped => ("stopped", None),
    };
    TargetView {
        id: target.id,
        url: target.address.clone(),
        state,
        error,
        bytes: counts.bytes,
        connections: counts.connections,
        dropped_frames: counts.dropped_slow,
    }
}
