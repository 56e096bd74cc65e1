//! `POST /v1/test-rooms`: a room in which somebody tries out which ways lead to this server, without
//! being seen in the room of the meeting, or being sent out of it for joining twice.
#![allow(unused_qualifications, reason = "the macro for paths writes some")]

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{Problem, ProblemBody, problem};
use super::{App, Ends, unix_time};
use crate::auth::{Claims, PlenumClaim, RoomClaim, VideoGrant};
use crate::message::ErrorCode;
use crate::rooms::random_key;

/// One participant for each way, and some to spare.
const PARTICIPANTS_MAX: u32 = 16;
/// The room is gone so many seconds after its last participant, or without any.
const TIMEOUT_S: u32 = 15;
/// The token is good this long, in seconds.
const TOKEN_S: u64 = 120;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(open_test_room))
}

/// A room to test the connection in.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TestRoom {
    /// Its name.
    room: String,
    /// A token that lets its holder receive there, any number of times, each time as somebody else.
    token: String,
    /// When the token is over, in milliseconds since 1970.
    expires_at: u64,
}

/// Opens a room of its own for whoever may join some room, to test the connection in by WHEP. Nothing can
/// be published there; it ends soon after it is left.
#[utoipa::path(post, path = "/v1/test-rooms", responses(
    (status = CREATED, body = TestRoom),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn open_test_room(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let now = Instant::now();
    let grants = app.gate.verify_bearer(now, ends.remote.ip(), &headers)?;
    let may_join = |room: &String| grants.may_join(room);
    if !grants.room.as_ref().is_some_and(may_join) {
        let text = "the token does not allow joining a room";
        return Err(problem(ErrorCode::Forbidden, text));
    }
    app.gate.count_join(now, &grants)?;
    let room = format!("test-{}", random_key());
    let settings = RoomClaim {
        max_participants: PARTICIPANTS_MAX,
        empty_timeout: TIMEOUT_S,
        departure_timeout: TIMEOUT_S,
        metadata: String::new(),
    };
    // Never longer than the token it is given for: one that is over opens nothing any more.
    let expires_at_s = grants.expires_at_s.min(unix_time() + TOKEN_S);
    let no = Some(false);
    let claims = Claims {
        exp: expires_at_s,
        video: VideoGrant {
            room: Some(room.clone()),
            room_join: Some(true),
            can_publish: no,
            can_publish_data: no,
            ..VideoGrant::default()
        },
        plenum: Some(PlenumClaim { guest: true }),
        ..Claims::default()
    };
    let gone = |_| problem(ErrorCode::Unauthorized, "the key of the token is gone");
    let token = app.gate.sign(&grants.key, claims).map_err(gone)?;
    app.rooms.put(now, &room, &settings, false)?;
    let headers = [(header::CACHE_CONTROL, "no-store")];
    let expires_at = expires_at_s * 1000;
    let body = Json(TestRoom {
        room,
        token,
        expires_at,
    });
    Ok((StatusCode::CREATED, headers, body).into_response())
}
