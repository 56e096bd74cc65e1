//! The doors: signaling, room API, WHIP, WHEP, pages and metrics over HTTP. All I/O of this crate but
//! the command line's is here and in `http/`.
#![expect(
    clippy::disallowed_methods,
    reason = "clocks, sockets and tasks live here"
)]

mod acme;
mod api;
mod broadcasts;
mod entry;
#[cfg(test)]
pub(crate) mod fixture;
mod gate;
mod listen;
mod live;
mod outgoing;
mod pages;
mod post;
mod problem;
mod recordings;
mod rtmp;
mod signal;
mod test_room;
mod tls;
mod whip;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use sfu::Sfu;

use crate::broadcasts::Broadcasts;
use crate::candidates::is_local;
use crate::config::Config;
use crate::message::ErrorCode;
use crate::metrics::Metrics;
use crate::rooms::Rooms;
use crate::turn_service::TurnService;

pub(crate) use acme::{Acme, certificate_path};
pub(crate) use broadcasts::shown as shown_broadcast;
pub(crate) use entry::{Entry, HEAD_TIMEOUT, Proxies};
pub use entry::{TurnDoor, TurnStream};
pub(crate) use gate::Gate;
pub(crate) use listen::{Listener, Routes};
pub(crate) use net::proxy::LOCAL as PROXY_LOCAL;
pub(crate) use post::{Endpoint, PostError};
use problem::problem;
pub(crate) use recordings::shown as shown_recording;
pub(crate) use rtmp::EncoderSockets;
pub(crate) use tls::{Tls, TlsError};

/// What all routes share.
pub(crate) struct App {
    pub(crate) sfu: Arc<Sfu>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) broadcasts: Arc<Broadcasts>,
    allowed_origins: Vec<String>,
    /// `/metrics` is on `http.addr`, for callers on this machine.
    metrics_here: bool,
    https: bool,
    resources: whip::Resources,
    /// WebSockets that have not said hello, by IP address.
    pending: Mutex<HashMap<IpAddr, u32>>,
    pending_max: u32,
}

/// The two ends of the connection a request came on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// A request's body; an SDP has room in it.
const BODY_BYTES_MAX: usize = 256 << 10;

impl App {
    pub(crate) fn new(
        config: &Config,
        sfu: Arc<Sfu>,
        rooms: Arc<Rooms>,
        (metrics, gate): (Arc<Metrics>, Arc<Gate>),
        broadcasts: Arc<Broadcasts>,
    ) -> Self {
        Self {
            gate,
            broadcasts,
            sfu,
            rooms,
            metrics,
            allowed_origins: config.http.allowed_origins.clone(),
            metrics_here: config.http.admin_addr.is_empty(),
            https: config.http.is_https(),
            resources: whip::Resources::default(),
            pending: Mutex::default(),
            pending_max: config.limits.pending_sockets,
        }
    }

    /// Forgets what is over; call once a second or so.
    pub(crate) fn handle_timeout(&self, now: Instant) {
        self.rooms.handle_timeout(now, unix_time());
        self.gate.forget_idle(now);
        self.resources.forget_gone(&self.rooms);
        self.broadcasts.handle_timeout(now);
    }
}

/// All that answers on `http.addr`.
pub(crate) fn routes(app: Arc<App>) -> Routes {
    let media = Media {
        live: live::hls(&app.broadcasts),
        https: app.https,
    };
    Routes::new(router(app)).with_media(media)
}

/// Players of broadcasts ask twenty times a second each: they are answered past the router, whose ways are longer than
/// the answer.
#[derive(Clone)]
pub(crate) struct Media {
    live: Arc<bridge::hls::Live>,
    https: bool,
}

impl Media {
    /// Whether a request is for it.
    fn is_for(request: &Parts) -> bool {
        request.method == Method::GET && live::is_hls(request.uri.path())
    }

    async fn answer(self, request: Parts) -> Response {
        let started = Instant::now();
        let Parts {
            method,
            uri,
            headers,
            ..
        } = request;
        let mut response = self.live.get(&method, &uri, &headers).await;
        let (status, took) = (response.status().as_u16(), started.elapsed());
        tracing::debug!(%method, route = "live", status, ?took, "request");
        protect(response.headers_mut(), self.https);
        response
    }
}

fn router(app: Arc<App>) -> Router {
    let (api, openapi) = api::routes().split_for_parts();
    let openapi = Arc::new(openapi);
    Router::new()
        .route("/v1/signal", get(signal::open))
        .route(
            "/v1/openapi.json",
            get(move || api::document(Arc::clone(&openapi))),
        )
        .merge(api)
        .merge(whip::routes())
        .merge(live::routes(&app.broadcasts))
        .merge(pages::routes())
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_for_this_machine))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            trace_and_protect,
        ))
        .with_state(app)
}

/// The routes of `http.admin_addr`.
pub(crate) fn admin_routes(app: Arc<App>) -> Routes {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .fallback(nothing_here)
        .with_state(app);
    Routes::new(router)
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.rooms.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    "ready\n".into_response()
}

async fn metrics_for_this_machine(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    request: Request,
) -> Response {
    // Behind a proxy on this machine every caller looks local; a proxy says that it is one.
    let local = ends.remote.ip().to_canonical().is_loopback() && !is_proxied(request.headers());
    if !app.metrics_here || !local {
        return nothing_here().await;
    }
    metrics(State(app)).await
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let turn = app.rooms.turn().map(TurnService::metrics);
    let mut metrics = app.sfu.metrics();
    metrics.extend(turn.unwrap_or_default());
    metrics.extend(app.broadcasts.metrics());
    let text = app.metrics.text(&metrics);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

async fn nothing_here() -> Response {
    problem(ErrorCode::NotFound, "there is nothing here").into_response()
}

async fn wrong_method() -> Response {
    problem(ErrorCode::BadMessage, "this resource has no such method")
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
        .into_response()
}

/// One line at debug for each request, never with its query or headers; and headers for browsers.
async fn trace_and_protect(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    // Routes with the placeholders' names instead of what stands for them: no identity, no room.
    let route = request
        .uri()
        .path()
        .split('/')
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    let started = Instant::now();
    let mut response = next.run(request).await;
    let (status, took) = (response.status().as_u16(), started.elapsed());
    tracing::debug!(%method, ?route, status, ?took, "request");
    protect(response.headers_mut(), app.https);
    response
}

/// Says to browsers what they are not to do with an answer.
fn protect(headers: &mut HeaderMap, https: bool) {
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    if https {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
}

fn is_proxied(headers: &HeaderMap) -> bool {
    headers.contains_key("x-forwarded-for") || headers.contains_key(header::FORWARDED)
}

/// The local address of a request, where the client can have used it: not behind a proxy, and not a
/// private one when the client is outside, because then a NAT has put it there.
fn local_address(ends: Ends, headers: &HeaderMap) -> Option<IpAddr> {
    let [local, remote] = [ends.local, ends.remote].map(|end| end.ip().to_canonical());
    let is_translated = is_local(&local) && !is_local(&remote);
    (!is_proxied(headers) && !is_translated).then_some(local)
}

/// The wall clock in seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(remote: &str, local: &str) -> Option<String> {
        let end = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 1);
        let ends = Ends {
            remote: end(remote),
            local: end(local),
        };
        local_address(ends, &HeaderMap::new()).map(|ip| ip.to_string())
    }

    #[test]
    fn a_client_has_reached_what_it_can_have_used() {
        for (remote, local) in [
            ("203.0.113.20", "203.0.113.9"),
            ("10.0.0.9", "10.0.0.5"),
            ("127.0.0.1", "127.0.0.1"),
            ("10.0.0.9", "203.0.113.9"),
            ("2001:db8::9", "2001:db8::5"),
        ] {
            assert_eq!(reached(remote, local).as_deref(), Some(local), "{remote}");
        }
        // A NAT leads from the public address to a private one.
        assert_eq!(reached("203.0.113.20", "10.0.0.5"), None);
        assert_eq!(reached("::ffff:203.0.113.20", "::ffff:10.0.0.5"), None);
    }

    #[test]
    fn behind_a_proxy_nobody_knows() {
        let ends = Ends {
            remote: SocketAddr::from(([10, 0, 0, 9], 1)),
            local: SocketAddr::from(([10, 0, 0, 5], 1)),
        };
        let headers = HeaderMap::from_iter([(
            "x-forwarded-for".parse().unwrap(),
            HeaderValue::from_static("203.0.113.20"),
        )]);
        assert_eq!(local_address(ends, &headers), None);
    }
}
