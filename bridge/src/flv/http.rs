//! HTTP-FLV: a program as a file that does not end, for players that take it.

use std::any::Any;
use std::convert::Infallible;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;

use crate::flv::feed::FlvFeed;
use crate::rtmp::query_token;

/// What the service decides about players.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Finds the program of a room for somebody with that token.
    ///
    /// # Errors
    /// There is none, or not for them.
    async fn open(&self, room: &str, token: Option<&str>) -> Result<Opened, Denied>;
}

/// A program somebody may watch.
pub struct Opened {
    /// The program.
    pub feed: Arc<FlvFeed>,
    /// Dropped when they are gone: what is counted of them may hang on it.
    pub seat: Option<Box<dyn Any + Send>>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("feed", &self.feed)
            .finish_non_exhaustive()
    }
}

/// Why somebody may not watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// 404: the room has no program.
    NotFound,
    /// 401: a token is wanted.
    NoToken,
    /// 403: the token does not let them in.
    Forbidden,
    /// 503: too many watch.
    Full,
}

/// `GET /live/{room}.flv?token=…`
pub fn routes(gate: Arc<dyn Gate>) -> Router {
    // The router knows no ends of path segments: others are not found below.
    Router::new()
        .route("/live/{room}", get(watch))
        .with_state(gate)
}

async fn watch(
    State(gate): State<Arc<dyn Gate>>,
    method: Method,
    Path(file): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(room) = file.strip_suffix(".flv").filter(|room| !room.is_empty()) else {
        return Denied::NotFound.into_response();
    };
    let token = query.as_deref().and_then(query_token);
    let Opened { feed, seat } = match gate.open(room, token.as_deref()).await {
        Ok(opened) => opened,
        Err(denied) => return denied.into_response(),
    };
    let headers = [
        (header::CONTENT_TYPE, "video/x-flv"),
        (header::CACHE_CONTROL, "no-store"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        // A proxy that collects it would only add delay.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    if method == Method::HEAD {
        return headers.into_response();
    }
    let Some(viewer) = feed.join() else {
        return Denied::Full.into_response();
    };
    let pieces = stream::unfold((viewer, seat), async |(mut viewer, seat)| {
        let piece = viewer.next().await?;
        Some((Ok::<_, Infallible>(piece), (viewer, seat)))
    });
    (headers, Body::from_stream(pieces)).into_response()
}

impl IntoResponse for Denied {
    /// A problem as in RFC 9457.
    fn into_response(self) -> Response {
        let (status, title) = match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "this room has no broadcast"),
            Self::NoToken => (StatusCode::UNAUTHORIZED, "a token is needed to watch"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "this token does not allow watching"),
            Self::Full => (StatusCode::SERVICE_UNAVAILABLE, "too many are watching"),
        };
        let body = format!(r#"{{"title":"{title}","status":{}}}"#, status.as_u16());
        let headers = [
            (header::CONTENT_TYPE, "application/problem+json"),
            (header::CACHE_CONTROL, "no-store"),
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        ];
        (status, headers, body).into_response()
    }
}
