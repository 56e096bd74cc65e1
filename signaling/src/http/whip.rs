//! WHIP (RFC 9725) and WHEP: publish or receive with plain HTTP.
//!
//! A resource's URL holds 256 random bits and is all that is needed to change or end it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{options, patch, post};
use axum::{Extension, Router};
use bytes::Bytes;
use sfu::{ParticipantId, Wants};
use tokio::time::timeout;

use super::problem::{Problem, problem};
use super::{App, Ends, local_address};
use crate::auth::{Grants, is_name};
use crate::message::{ErrorCode, IceServer, Roster};
use crate::room::offer_error;
use crate::rooms::{JoinRequest, Rooms, random_key};
use crate::session::local_offer;

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// The core answers at once; without an answer for this long something is wrong.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The resources there are.
#[derive(Default)]
pub(super) struct Resources(Mutex<HashMap<String, Resource>>);

/// One WHIP or WHEP session.
#[derive(Clone)]
struct Resource {
    participant: ParticipantId,
    /// Names the ICE session, so that fragments for an earlier one are told apart.
    etag: String,
}

impl Resources {
    pub(super) fn forget_gone(&self, rooms: &Rooms) {
        self.lock()
            .retain(|_, resource| rooms.has_participant(resource.participant));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Resource>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn routes() -> Router<Arc<App>> {
    let whip = Router::new()
        .route("/whip/{room}", post(publish).options(describe))
        .route(
            "/whip/{room}/{id}",
            patch(change).delete(end).options(describe),
        );
    // A POST to `/whep/{room}/{identity}` opens, PATCH and DELETE are about `/whep/{room}/{id}`.
    let whep = Router::new()
        .route("/whep/{room}", post(receive_program).options(describe))
        .route(
            "/whep/{room}/{id}",
            post(receive_participant)
                .patch(change)
                .delete(end)
                .options(describe),
        );
    whip.merge(whep)
        .route("/whip", options(describe))
        .layer(middleware::from_fn(allow_any_origin))
}

/// Any page may use WHIP and WHEP: its token is what counts, and there are no cookies.
async fn allow_any_origin(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        "Location, ETag, Link, Accept-Patch, Retry-After",
    );
    response
}

/// `OPTIONS`, also for browsers that ask before they post.
async fn describe() -> Response {
    let headers = [
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "OPTIONS, POST, PATCH, DELETE",
        ),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Content-Type, If-Match",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
        (HeaderName::from_static("accept-post"), SDP),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

type Body = Result<Bytes, BytesRejection>;

async fn publish(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path(room): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let grants = admit(&app, ends, &headers, &room)?;
    if !grants.media.publish {
        return Err(problem(
            ErrorCode::PublishDenied,
            "the token does not allow publishing",
        ));
    }
    let sdp = read(&headers, body, SDP)?;
    open(
        &app,
        Start {
            door: "whip",
            room,
            grants,
            wants: Wants::Nothing,
            sdp,
        },
        ends,
        &headers,
    )
    .await
}

async fn receive_program(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path(room): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let grants = admit(&app, ends, &headers, &room)?;
    receive(&app, ends, &headers, (room, grants, Wants::Program), body).await
}

async fn receive_participant(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path((room, identity)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let grants = admit(&app, ends, &headers, &room)?;
    if !is_name(&identity) {
        return Err(problem(ErrorCode::NotFound, "there is no such participant"));
    }
    receive(
        &app,
        ends,
        &headers,
        (room, grants, Wants::Participant(identity)),
        body,
    )
    .await
}

async fn receive(
    app: &App,
    ends: Ends,
    headers: &HeaderMap,
    (room, grants, wants): (String, Grants, Wants),
    body: Body,
) -> Result<Response, Problem> {
    if !grants.media.subscribe {
        return Err(problem(
            ErrorCode::SubscribeDenied,
            "the token does not allow subscribing",
        ));
    }
    let sdp = read(headers, body, SDP)?;
    open(
        app,
        Start {
            door: "whep",
            room,
            grants,
            wants,
            sdp,
        },
        ends,
        headers,
    )
    .await
}

/// What a session starts with.
struct Start {
    door: &'static str,
    room: String,
    grants: Grants,
    wants: Wants,
    sdp: String,
}

async fn open(
    app: &App,
    start: Start,
    ends: Ends,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let now = Instant::now();
    app.gate.count_join(now, &start.grants)?;
    let publishes = start.door == "whip";
    let offer = local_offer(start.sdp, publishes, local_address(ends, headers));
    let request = JoinRequest {
        room: start.room.clone(),
        grants: start.grants,
        name: None,
        wants: start.wants,
        roster: Roster::Publishers,
        features: Vec::new(),
        offer: Some(offer),
        reached: local_address(ends, headers),
    };
    let (participant, answer) = app.rooms.join_http(now, request)?;
    let leaving = LeaveOnDrop {
        app,
        participant,
        armed: true,
    };
    let answer = match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(Ok(answer))) => answer,
        Ok(Ok(Err(error))) => return Err(offer_error(&error).into()),
        Ok(Err(_)) => {
            return Err(problem(
                ErrorCode::Removed,
                "the session was ended meanwhile",
            ));
        }
        Err(_) => {
            return Err(problem(
                ErrorCode::Internal,
                "no answer from the media core",
            ));
        }
    };
    leaving.disarm();
    let id = random_key();
    let etag = new_etag();
    let response_headers = [
        (header::CONTENT_TYPE, SDP.to_owned()),
        (
            header::LOCATION,
            format!("/{}/{}/{id}", start.door, start.room),
        ),
        (header::ETAG, etag.clone()),
        (HeaderName::from_static("accept-patch"), FRAGMENT.to_owned()),
    ];
    app.resources
        .lock()
        .insert(id, Resource { participant, etag });
    let response = (StatusCode::CREATED, response_headers, answer.sdp).into_response();
    Ok(with_ice_servers(app, participant, response))
}

/// Names the TURN servers, with credentials that are good for some minutes.
fn with_ice_servers(app: &App, participant: ParticipantId, mut response: Response) -> Response {
    let servers = app.rooms.ice_servers_of(participant);
    for link in servers.iter().flat_map(ice_server_links) {
        response.headers_mut().append(header::LINK, link);
    }
    response
}

/// One link for each address (RFC 9725 §4.6).
fn ice_server_links(server: &IceServer) -> Vec<HeaderValue> {
    let (name, password) = (&server.username, &server.credential);
    let links = server.urls.iter().map(|url| {
        format!(
            "<{url}>; rel=\"ice-server\"; username=\"{name}\"; credential=\"{password}\"; \
             credential-type=\"password\""
        )
    });
    // Names are made of what a header may hold: `is_name` sees to that.
    links
        .filter_map(|link| HeaderValue::from_str(&link).ok())
        .collect()
}

/// Ends the stay of a client that did not wait for its answer, or got none.
struct LeaveOnDrop<'a> {
    app: &'a App,
    participant: ParticipantId,
    armed: bool,
}

impl LeaveOnDrop<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for LeaveOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.app.rooms.leave(Instant::now(), self.participant);
        }
    }
}

/// Trickle (`If-Match` with the session's ETag), or an ICE restart (`If-Match: *`).
async fn change(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path((_, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let fragment = read(&headers, body, FRAGMENT)?;
    let Some(resource) = app.resources.lock().get(&id).cloned() else {
        return Err(no_resource(&app, ends));
    };
    let matched = headers
        .get(header::IF_MATCH)
        .and_then(|value| value.to_str().ok());
    match matched {
        // RFC 9725 §4.3.1: without it the server cannot know which ICE session is meant.
        None => {
            let error = problem(ErrorCode::BadMessage, "If-Match is needed");
            Err(error.with_status(StatusCode::PRECONDITION_REQUIRED))
        }
        Some("*") => restart(&app, &id, resource, &fragment).await,
        // Candidates of the client are learned from its checks; there is nothing to do.
        Some(etag) if etag == resource.etag => Ok(StatusCode::NO_CONTENT.into_response()),
        Some(_) => {
            let error = problem(ErrorCode::Conflict, "this is not the present ICE session");
            Err(error.with_status(StatusCode::PRECONDITION_FAILED))
        }
    }
}

async fn restart(
    app: &App,
    id: &str,
    resource: Resource,
    fragment: &str,
) -> Result<Response, Problem> {
    let missing = || {
        problem(
            ErrorCode::BadSdp,
            "the fragment has no ice-ufrag and ice-pwd",
        )
    };
    let ufrag = attribute(fragment, "a=ice-ufrag:", 4..=256).ok_or_else(missing)?;
    let pwd = attribute(fragment, "a=ice-pwd:", 22..=256).ok_or_else(missing)?;
    let gone = || problem(ErrorCode::NotFound, "there is no such session");
    let restarted = app
        .rooms
        .restart_ice(resource.participant, ufrag, pwd)
        .ok_or_else(gone)?;
    let Ok(Ok(answer)) = timeout(ANSWER_TIMEOUT, restarted).await else {
        return Err(problem(
            ErrorCode::Internal,
            "no answer from the media core",
        ));
    };
    let unconnected = || problem(ErrorCode::Conflict, "the session has no transport");
    let answer = answer.ok_or_else(unconnected)?;
    let etag = new_etag();
    if let Some(resource) = app.resources.lock().get_mut(id) {
        resource.etag.clone_from(&etag);
    }
    let headers = [
        (header::CONTENT_TYPE, FRAGMENT.to_owned()),
        (header::ETAG, etag),
    ];
    let response = (StatusCode::OK, headers, answer).into_response();
    Ok(with_ice_servers(app, resource.participant, response))
}

async fn end(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path((_, id)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let resource = app.resources.lock().remove(&id);
    match resource.filter(|resource| app.rooms.leave(Instant::now(), resource.participant)) {
        Some(_) => Ok(StatusCode::OK),
        None => Err(no_resource(&app, ends)),
    }
}

/// Guessing resources counts as a failed attempt.
fn no_resource(app: &App, ends: Ends) -> Problem {
    let error = app
        .gate
        .fail(Instant::now(), ends.remote.ip(), ErrorCode::NotFound);
    match error.code {
        ErrorCode::RateLimited => error.into(),
        _ => problem(ErrorCode::NotFound, "there is no such session"),
    }
}

fn admit(app: &App, ends: Ends, headers: &HeaderMap, room: &str) -> Result<Grants, Problem> {
    let now = Instant::now();
    let grants = app.gate.verify_bearer(now, ends.remote.ip(), headers)?;
    if !grants.may_join(room) {
        return Err(problem(
            ErrorCode::Forbidden,
            "the token is not about this room",
        ));
    }
    Ok(grants)
}

fn read(headers: &HeaderMap, body: Body, kind: &str) -> Result<String, Problem> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let given = given
        .and_then(|given| given.split(';').next())
        .map(str::trim);
    if !given.is_some_and(|given| given.eq_ignore_ascii_case(kind)) {
        let error = problem(ErrorCode::BadMessage, format!("the content type is {kind}"));
        return Err(error.with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let too_large = |_| problem(ErrorCode::TooLarge, "a body is at most 256 KiB");
    let body = body.map_err(too_large)?;
    String::from_utf8(body.to_vec())
        .map_err(|_| problem(ErrorCode::BadSdp, "the body is not UTF-8"))
}

/// The value of an attribute line; RFC 8839 §5.4 gives the lengths.
fn attribute(
    fragment: &str,
    name: &str,
    length: std::ops::RangeInclusive<usize>,
) -> Option<String> {
    let value = fragment
        .lines()
        .find_map(|line| line.strip_prefix(name))?
        .trim_end();
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    (length.contains(&value.len()) && value.bytes().all(valid)).then(|| value.to_owned())
}

fn new_etag() -> String {
    format!("\"{}\"", random_key())
}
