//! Posts over loopback.

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::response::Redirect;
use axum::routing::{any, post};
use rcgen::KeyPair;

use super::*;
use crate::http::Entry;
use crate::http::fixture::{Authority, Issued, Site};
use crate::metrics::Metrics;

const LATER: u64 = 4_000_000_000;

async fn site(entry: Entry) -> Site {
    let echo = |headers: HeaderMap, body: String| async move {
        let is_right = body == "{}"
            && headers["content-type"] == "application/json"
            && headers["webhook-id"] == "msg_1";
        if is_right {
            StatusCode::NO_CONTENT
        } else {
            StatusCode::BAD_REQUEST
        }
    };
    let routes = Router::new()
        .route("/hook", post(echo))
        .route("/elsewhere", any(|| async { Redirect::temporary("/hook") }))
        .route(
            "/broken",
            any(|| async { StatusCode::INTERNAL_SERVER_ERROR }),
        );
    Site::serve(entry, routes).await
}

async fn posted(endpoint: &Endpoint) -> Result<(), PostError> {
    let headers = [("webhook-id", "msg_1".to_owned())];
    endpoint.post(&headers, Bytes::from_static(b"{}")).await
}

#[test]
fn addresses_are_of_http_and_name_nobody() {
    for (url, place) in [
        ("http://127.0.0.1:9/a?b=c", Some(("127.0.0.1", 9, false))),
        (
            "https://app.example/hooks",
            Some(("app.example", 443, true)),
        ),
        ("http://[::1]/", Some(("::1", 80, false))),
        ("https://user:secret@app.example/", None),
        ("ftp://app.example/", None),
        ("app.example/hooks", None),
        ("/hooks", None),
        ("https://", None),
        ("", None),
    ] {
        let parsed = Endpoint::parse(url);
        let parsed = parsed
            .as_ref()
            .map(|to| (to.host.as_str(), to.port, to.is_tls));
        assert_eq!(parsed, place, "{url}");
    }
}

#[tokio::test]
async fn only_a_status_of_success_is_a_success() {
    let site = site(Entry::plain(Arc::new(Metrics::new()))).await;
    let at = |path: &str| Endpoint::parse(&format!("http://{}{path}", site.addr)).unwrap();
    posted(&at("/hook")).await.unwrap();
    for (path, expected) in [("/elsewhere", 307), ("/broken", 500), ("/none", 404)] {
        match posted(&at(path)).await {
            Err(PostError::Status(status)) => assert_eq!(status, expected, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let nobody = Endpoint::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
    assert!(matches!(
        posted(&nobody).await,
        Err(PostError::Unreachable(..))
    ));
}

#[tokio::test]
async fn over_tls_the_server_has_to_be_who_it_should() {
    let (authority, other) = (Authority::new(), Authority::new());
    let metrics = Arc::new(Metrics::new());
    let mut entry = Entry::plain(Arc::clone(&metrics));
    let key = KeyPair::generate().unwrap();
    let issued = Issued {
        cert: authority.sign(&["127.0.0.1".to_owned()], 0..LATER, &key),
        key: key.serialize_pem(),
    };
    entry.tls = Some(issued.tls(&metrics));
    let site = site(entry).await;
    let trusting = |authority: &Authority| {
        let mut endpoint = Endpoint::parse(&format!("https://{}/hook", site.addr)).unwrap();
        endpoint.tls = OnceCell::new_with(connector(Arc::new(authority.roots())).ok());
        endpoint
    };
    posted(&trusting(&authority)).await.unwrap();
    let refused = posted(&trusting(&other)).await;
    assert!(
        matches!(refused, Err(PostError::Unreachable(..))),
        "{refused:?}"
    );
}
