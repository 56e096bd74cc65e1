//! `/live/…`: broadcasts as HLS and HTTP-FLV, and how they are.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bridge::hls::{self, Gate as _, Live};
use bridge::{Listing, flv};
use serde::{Deserialize, Serialize};

use super::App;
use super::api::timestamp;
use super::problem::{Problem, problem};
use crate::broadcasts::Broadcasts;
use crate::message::ErrorCode;

/// Broadcasts as HLS.
pub(super) fn hls(broadcasts: &Arc<Broadcasts>) -> Arc<Live> {
    Arc::new(Live {
        registry: broadcasts.bridge().registry(),
        gate: Arc::clone(broadcasts) as Arc<dyn hls::Gate>,
    })
}

pub(super) fn routes(broadcasts: &Arc<Broadcasts>) -> Router<Arc<App>> {
    Router::new()
        .route(STATUS, get(status))
        .merge(hls::routes(hls(broadcasts)).with_state(()))
        .merge(flv::routes(Arc::new(FlvGate(Arc::clone(broadcasts)))).with_state(()))
}

/// Where players' pages ask how a broadcast is.
const STATUS: &str = "/live/{room}/status.json";

/// Whether a path is one of HLS.
pub(super) fn is_hls(path: &str) -> bool {
    Live::is_for(path) && !path.ends_with("/status.json")
}

/// How a broadcast is, for who watches it.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// `none`, `starting`, `live` or `ended`.
    state: &'static str,
    /// Players of all kinds.
    viewers: usize,
    /// When it began (RFC 3339).
    #[serde(skip_serializing_if = "String::is_empty")]
    started_at: String,
}

#[derive(Deserialize)]
struct TokenQuery {
    #[serde(default)]
    token: String,
}

/// `GET /live/{room}/status.json`, for whoever may watch.
async fn status(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    Query(query): Query<TokenQuery>,
) -> Result<Response, Problem> {
    let listing = find(&app.broadcasts, &path);
    let status = match listing
        .as_ref()
        .and_then(|listing| Some((listing, listing.hls.as_ref()?)))
    {
        Some((listing, store)) => {
            if store.is_protected() {
                let admitted = app.broadcasts.admit(&path, &query.token);
                admitted.map_err(|refusal| problem(ErrorCode::Forbidden, refusal.to_string()))?;
            }
            shown(listing, store)
        }
        // A page that waits for a broadcast to begin asks again and again: that is no error.
        None => Status {
            state: "none",
            ..Status::default()
        },
    };
    let headers: [(HeaderName, &str); 2] = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    Ok((headers, Json(status)).into_response())
}

fn shown(listing: &Listing, store: &hls::Broadcast) -> Status {
    let flv = listing.flv.as_ref().map_or(0, |feed| feed.viewers());
    Status {
        state: match listing.ending() {
            Some(_) => "ended",
            None if store.is_ready() => "live",
            None => "starting",
        },
        viewers: store.viewers(Instant::now()) + flv,
        started_at: timestamp(listing.started_at),
    }
}

/// The newest broadcast of a path.
fn find(broadcasts: &Broadcasts, path: &str) -> Option<Arc<Listing>> {
    let room = path.split_once('+').map_or(path, |(room, _)| room);
    let listings = broadcasts.bridge().broadcasts(room).into_iter();
    listings.rev().find(|listing| listing.path() == path)
}

/// Who may watch by HTTP-FLV: who may by HLS.
struct FlvGate(Arc<Broadcasts>);

#[async_trait]
impl flv::Gate for FlvGate {
    async fn open(&self, path: &str, token: Option<&str>) -> Result<flv::Opened, flv::Denied> {
        let listing = find(&self.0, path).ok_or(flv::Denied::NotFound)?;
        let feed = listing.flv.clone().filter(|_| listing.ending().is_none());
        let feed = feed.ok_or(flv::Denied::NotFound)?;
        let is_protected = listing
            .hls
            .as_ref()
            .is_some_and(|store| store.is_protected());
        if is_protected {
            let token = token.ok_or(flv::Denied::NoToken)?;
            self.0
                .admit(path, token)
                .map_err(|_| flv::Denied::Forbidden)?;
        }
        Ok(flv::Opened { feed, seat: None })
    }
}
