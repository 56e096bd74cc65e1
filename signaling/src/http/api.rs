//! The room API: rooms, participants, broadcasts and recordings for applications and administrators.
#![allow(unused_qualifications, reason = "the macro for paths writes some")]

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use sfu::TrackId;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::{IntoParams, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{Problem, ProblemBody, problem};
use super::{App, Ends, local_address, unix_time};
use crate::auth::{Grants, METADATA_BYTES_MAX, RoomClaim, is_name};
use crate::message::{ErrorCode, IceServer, Participant};
use crate::room::RoomState;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Plenum room API",
        description = "Rooms, participants, broadcasts and recordings. Every request carries \
            `Authorization: Bearer` with a token signed by an API key: `roomAdmin` for a room, its \
            participants, broadcasts and recordings, `roomList` to list rooms, `roomCreate` to open \
            and end them.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    modifiers(&BearerToken),
    security(("token" = []))
)]
struct Document;

struct BearerToken;

impl utoipa::Modify for BearerToken {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        openapi
            .components
            .get_or_insert_default()
            .add_security_scheme("token", scheme);
    }
}

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(list_rooms))
        .routes(routes!(get_room, put_room, delete_room))
        .routes(routes!(list_participants))
        .routes(routes!(get_participant, remove_participant))
        .routes(routes!(change_track))
        .routes(routes!(get_ice_servers))
        .merge(super::broadcasts::routes())
        .merge(super::recordings::routes())
        .merge(super::test_room::routes())
}

/// `GET /v1/openapi.json`
pub(super) async fn document(openapi: Arc<utoipa::openapi::OpenApi>) -> Response {
    let text = openapi.to_json().unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// Which part of a list is wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Page {
    /// Items at most, 1 to 200.
    #[serde(default = "page_items_max")]
    limit: usize,
    /// `nextCursor` of the part before.
    #[serde(default)]
    cursor: Option<String>,
}

fn page_items_max() -> usize {
    200
}

/// A part of the rooms, by name.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RoomPage {
    items: Vec<RoomState>,
    /// For the next part; absent in the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A part of the participants, by identity.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ParticipantPage {
    items: Vec<Participant>,
    /// For the next part; absent in the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Settings of a room; what is left out or 0 is the server's default.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RoomSettings {
    /// Participants at a time.
    max_participants: u32,
    /// Seconds the room stays while nobody has joined yet.
    empty_timeout: u32,
    /// Seconds the room stays after the last participant left.
    departure_timeout: u32,
    /// Free text for the application; at most 64 KiB.
    metadata: String,
    /// It is going to be broadcast: H264 is negotiated first, from when it is opened.
    broadcast: bool,
}

/// Entries for `RTCConfiguration.iceServers`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct IceServerList {
    /// The servers; none where this server has no TURN.
    ice_servers: Vec<IceServer>,
}

/// A change of a track.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TrackSettings {
    /// Nothing of it is forwarded.
    muted: bool,
}

/// Lists rooms by name.
#[utoipa::path(get, path = "/v1/rooms", params(Page), responses(
    (status = OK, body = RoomPage),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn list_rooms(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    headers: HeaderMap,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<RoomPage>, Problem> {
    let grants = verify(&app, ends, &headers)?;
    let sees_all = grants.room_admin && grants.room.is_none();
    if !grants.room_list && !sees_all {
        return Err(problem(
            ErrorCode::Forbidden,
            "the token does not allow listing rooms",
        ));
    }
    let (items, next_cursor) = part(app.rooms.list(), page, |room| &room.name)?;
    Ok(Json(RoomPage { items, next_cursor }))
}

/// Shows a room.
#[utoipa::path(get, path = "/v1/rooms/{room}", params(("room" = String, Path)), responses(
    (status = OK, body = RoomState),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn get_room(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path(room): Path<String>,
    headers: HeaderMap,
) -> Result<Json<RoomState>, Problem> {
    let grants = verify(&app, ends, &headers)?;
    if !grants.room_list && !grants.may_moderate(&room) {
        return Err(problem(
            ErrorCode::Forbidden,
            "the token does not allow seeing this room",
        ));
    }
    app.rooms.get(&room).map(Json).ok_or_else(no_room)
}

/// Opens a room, or replaces its settings.
#[utoipa::path(put, path = "/v1/rooms/{room}", params(("room" = String, Path)),
    request_body = RoomSettings, responses(
    (status = CREATED, body = RoomState, description = "the room was opened"),
    (status = OK, body = RoomState, description = "its settings were replaced"),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn put_room(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path(room): Path<String>,
    headers: HeaderMap,
    body: Result<Json<RoomSettings>, JsonRejection>,
) -> Result<Response, Problem> {
    let grants = verify(&app, ends, &headers)?;
    if !grants.room_create {
        return Err(problem(
            ErrorCode::Forbidden,
            "the token does not allow opening rooms",
        ));
    }
    check_name(&room)?;
    let Json(settings) = body.map_err(|error| bad_body(&error))?;
    if settings.metadata.len() > METADATA_BYTES_MAX {
        return Err(problem(ErrorCode::TooLarge, "metadata is at most 64 KiB"));
    }
    let exists = app.rooms.get(&room).is_some();
    if exists
        && headers
            .get(header::IF_NONE_MATCH)
            .is_some_and(|value| value == "*")
    {
        let error = problem(ErrorCode::Conflict, "the room is open already");
        return Err(error.with_status(StatusCode::PRECONDITION_FAILED));
    }
    let claim = RoomClaim {
        max_participants: settings.max_participants,
        empty_timeout: settings.empty_timeout,
        departure_timeout: settings.departure_timeout,
        metadata: settings.metadata,
    };
    let now = Instant::now();
    let (state, opened) = app.rooms.put(now, &room, &claim, settings.broadcast)?;
    let status = if opened {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(state)).into_response())
}

/// Ends a room and everyone's stay in it.
#[utoipa::path(delete, path = "/v1/rooms/{room}", params(("room" = String, Path)), responses(
    (status = NO_CONTENT),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn delete_room(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path(room): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let grants = verify(&app, ends, &headers)?;
    if !grants.room_create && !grants.may_moderate(&room) {
        return Err(problem(
            ErrorCode::Forbidden,
            "the token does not allow ending this room",
        ));
    }
    match app.rooms.delete(Instant::now(), &room) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_room()),
    }
}

/// Lists the participants of a room by identity, hidden ones included.
#[utoipa::path(get, path = "/v1/rooms/{room}/participants",
    params(("room" = String, Path), Page), responses(
    (status = OK, body = ParticipantPage),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn list_participants(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path(room): Path<String>,
    headers: HeaderMap,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<ParticipantPage>, Problem> {
    moderate(&app, ends, &headers, &room)?;
    let mut participants = app.rooms.participants(&room).ok_or_else(no_room)?;
    participants.sort_by(|one, other| one.identity.cmp(&other.identity));
    let (items, next_cursor) = part(participants, page, |one| &one.identity)?;
    Ok(Json(ParticipantPage { items, next_cursor }))
}

/// Shows a participant.
#[utoipa::path(get, path = "/v1/rooms/{room}/participants/{identity}",
    params(("room" = String, Path), ("identity" = String, Path)), responses(
    (status = OK, body = Participant),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn get_participant(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path((room, identity)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Participant>, Problem> {
    moderate(&app, ends, &headers, &room)?;
    app.rooms
        .participant(&room, &identity)
        .map(Json)
        .ok_or_else(no_participant)
}

/// Removes a participant. Its token stays good: it can come back.
#[utoipa::path(delete, path = "/v1/rooms/{room}/participants/{identity}",
    params(("room" = String, Path), ("identity" = String, Path)), responses(
    (status = NO_CONTENT),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn remove_participant(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path((room, identity)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    moderate(&app, ends, &headers, &room)?;
    match app.rooms.remove(Instant::now(), &room, &identity) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_participant()),
    }
}

/// Mutes or unmutes a track of a participant.
#[utoipa::path(patch, path = "/v1/rooms/{room}/participants/{identity}/tracks/{track}",
    params(("room" = String, Path), ("identity" = String, Path), ("track" = String, Path)),
    request_body = TrackSettings, responses(
    (status = NO_CONTENT),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn change_track(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path((room, identity, track)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Result<Json<TrackSettings>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    moderate(&app, ends, &headers, &room)?;
    let Json(settings) = body.map_err(|error| bad_body(&error))?;
    let track = TrackId::parse(&track);
    match track.is_some_and(|track| app.rooms.mute(&room, &identity, track, settings.muted)) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(problem(ErrorCode::NotFound, "there is no such track")),
    }
}

/// Makes TURN credentials: for the token's participant while it is in the room, to reach this server's media;
/// in mode `relay` also for whoever an administrator's token names, to reach any public address.
#[utoipa::path(get, path = "/v1/ice-servers", responses(
    (status = OK, body = IceServerList),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn get_ice_servers(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let grants = verify(&app, ends, &headers)?;
    let when = (local_address(ends, &headers), unix_time());
    let identity = grants.identity.as_deref();
    let own = grants
        .room
        .as_deref()
        .filter(|room| grants.may_join(room))
        .zip(identity)
        .and_then(|(room, identity)| app.rooms.ice_servers(room, identity, when));
    let shared = || {
        let label = identity.filter(|_| grants.room_admin)?;
        app.rooms.shared_ice_servers(label, when)
    };
    let text = "the token's participant is in no room now";
    let ice_servers = own
        .or_else(shared)
        .ok_or_else(|| problem(ErrorCode::NotFound, text))?;
    let headers = [(header::CACHE_CONTROL, "no-store")];
    Ok((headers, Json(IceServerList { ice_servers })).into_response())
}

fn verify(app: &App, ends: Ends, headers: &HeaderMap) -> Result<Grants, Problem> {
    Ok(app
        .gate
        .verify_bearer(Instant::now(), ends.remote.ip(), headers)?)
}

pub(super) fn moderate(
    app: &App,
    ends: Ends,
    headers: &HeaderMap,
    room: &str,
) -> Result<(), Problem> {
    let grants = verify(app, ends, headers)?;
    let text = "the token does not allow moderating this room";
    grants
        .may_moderate(room)
        .then_some(())
        .ok_or_else(|| problem(ErrorCode::Forbidden, text))
}

/// Checks that a room may be opened under this name.
pub(super) fn check_name(room: &str) -> Result<(), Problem> {
    let text = "a room's name is 1 to 128 of A-Z a-z 0-9 . _ ~ : @ -";
    is_name(room)
        .then_some(())
        .ok_or_else(|| problem(ErrorCode::BadMessage, text))
}

/// The wanted part of a list that is sorted by `key`, and the cursor of the next part.
fn part<T>(
    items: Vec<T>,
    page: Result<Query<Page>, QueryRejection>,
    key: impl Fn(&T) -> &String,
) -> Result<(Vec<T>, Option<String>), Problem> {
    let text = "limit is 1 to 200, cursor is nextCursor of the part before";
    let Query(page) = page.map_err(|_| problem(ErrorCode::BadMessage, text))?;
    if !(1..=page_items_max()).contains(&page.limit) {
        return Err(problem(ErrorCode::BadMessage, text));
    }
    let after = |item: &T| page.cursor.as_ref().is_none_or(|cursor| key(item) > cursor);
    let mut rest = items.into_iter().filter(after);
    let items: Vec<T> = rest.by_ref().take(page.limit).collect();
    let last = rest
        .next()
        .and_then(|_| items.last())
        .map(|item| key(item).clone());
    Ok((items, last))
}

pub(super) fn bad_body(error: &JsonRejection) -> Problem {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => problem(ErrorCode::TooLarge, "a body is at most 256 KiB"),
        _ => problem(ErrorCode::BadMessage, error.body_text()),
    }
}

/// A moment as RFC 3339 has it, to the second.
pub(super) fn timestamp(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at).replace_nanosecond(0);
    let text = at.ok().and_then(|at| at.format(&Rfc3339).ok());
    text.unwrap_or_default()
}

fn no_room() -> Problem {
    problem(ErrorCode::RoomNotFound, "there is no such room")
}

fn no_participant() -> Problem {
    problem(ErrorCode::NotFound, "there is no such participant")
}
