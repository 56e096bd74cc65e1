//! The meeting, viewer and statistics pages, embedded at build time.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use rust_embed::RustEmbed;

use super::App;

#[derive(RustEmbed)]
#[folder = "../web-demo/dist"]
struct Dist;

const NOT_BUILT: &str = "<!doctype html><title>Plenum</title><p>The pages are not part of this \
    build. Build them with <code>make web</code>, then build the server again.";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(|| async { page("index.html") }))
        .route("/watch/{room}", get(|| async { page("watch.html") }))
        .route("/stats", get(|| async { page("stats.html") }))
        .route("/connectivity", get(|| async { page("connectivity.html") }))
        .route("/assets/{*path}", get(asset))
        .route("/{file}", get(root_file))
}

/// A page of its own, or the one page that shows them all.
fn page(name: &str) -> Response {
    let Some(file) = Dist::get(name).or_else(|| Dist::get("index.html")) else {
        return (StatusCode::OK, Html(NOT_BUILT)).into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_FRAME_OPTIONS, "SAMEORIGIN"),
    ];
    (headers, file.data).into_response()
}

/// Files whose name carries a hash of their content.
async fn asset(Path(path): Path<String>) -> Response {
    file(
        &format!("assets/{path}"),
        "public, max-age=31536000, immutable",
    )
    .await
}

async fn root_file(Path(name): Path<String>) -> Response {
    file(&name, "no-cache").await
}

async fn file(name: &str, cache: &'static str) -> Response {
    // A look-up by name, not in the file system: there is no way out of the folder. (In builds for
    // development the files are read from disk; the embedding crate keeps those inside, too.)
    let Some(file) = Dist::get(name) else {
        return super::nothing_here().await;
    };
    let headers = [
        (header::CONTENT_TYPE, content_type(name)),
        (header::CACHE_CONTROL, cache),
    ];
    (headers, file.data).into_response()
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("webp") => "image/webp",
        Some("woff2") => "font/woff2",
        Some("wasm") => "application/wasm",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
