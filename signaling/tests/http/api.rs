//! The room API, the pages and what watches over the server.

use serde_json::json;
use signaling::Server;
use signaling::auth::{Claims, VideoGrant};

use crate::client::*;

#[tokio::test]
async fn rooms_are_opened_listed_shown_and_ended() {
    let server = server().await;
    let admin = bearer(&admin_token());
    let auth = [
        ("Authorization", admin.as_str()),
        ("Content-Type", "application/json"),
    ];
    let opened = ask(&server, "PUT /v1/rooms/b", &auth, r#"{"metadata":"m"}"#).await;
    assert_eq!(
        (opened.status, &opened.json()["metadata"]),
        (201, &json!("m"))
    );
    assert_eq!(
        ask(&server, "PUT /v1/rooms/b", &auth, "{}").await.status,
        200
    );
    let only_new = [auth[0], auth[1], ("If-None-Match", "*")];
    assert_eq!(
        ask(&server, "PUT /v1/rooms/b", &only_new, "{}")
            .await
            .status,
        412
    );
    ask(&server, "PUT /v1/rooms/a", &auth, "{}").await;
    let page = ask(&server, "GET /v1/rooms?limit=1", &auth, "")
        .await
        .json();
    assert_eq!(
        (&page["items"][0]["name"], &page["nextCursor"]),
        (&json!("a"), &json!("a"))
    );
    let page = ask(&server, "GET /v1/rooms?limit=1&cursor=a", &auth, "")
        .await
        .json();
    assert_eq!(
        (&page["items"][0]["name"], page.get("nextCursor")),
        (&json!("b"), None)
    );
    assert_eq!(
        ask(&server, "GET /v1/rooms/a", &auth, "").await.json()["participants"],
        0
    );
    assert_eq!(
        ask(&server, "DELETE /v1/rooms/a", &auth, "").await.status,
        204
    );
    assert_eq!(
        ask(&server, "DELETE /v1/rooms/a", &auth, "").await.code(),
        "room_not_found"
    );
    assert_eq!(ask(&server, "GET /v1/rooms/a", &auth, "").await.status, 404);
}

#[tokio::test]
async fn bad_requests_get_typed_problems() {
    let server = server().await;
    let admin = bearer(&admin_token());
    let auth = [
        ("Authorization", admin.as_str()),
        ("Content-Type", "application/json"),
    ];
    for (line, body, status, code) in [
        ("PUT /v1/rooms/a", "{", 400, "bad_message"),
        ("PUT /v1/rooms/a", "5", 400, "bad_message"),
        (
            "PUT /v1/rooms/a",
            r#"{"maxParticipants":-1}"#,
            400,
            "bad_message",
        ),
        ("PUT /v1/rooms/a", r#"{"colour":1}"#, 400, "bad_message"),
        ("PUT /v1/rooms/a%20b", "{}", 400, "bad_message"),
        ("PUT /v1/rooms/..%2f..", "{}", 400, "bad_message"),
        ("GET /v1/rooms?limit=0", "", 400, "bad_message"),
        ("GET /v1/rooms?limit=x", "", 400, "bad_message"),
        ("GET /v1/rooms/none/participants", "", 404, "room_not_found"),
        ("GET /v1/rooms/none/participants/x", "", 404, "not_found"),
        (
            "PATCH /v1/rooms/r/participants/a/tracks/t_1",
            r#"{"muted":true}"#,
            404,
            "not_found",
        ),
        (
            "PATCH /v1/rooms/r/participants/a/tracks/t_1",
            "{}",
            400,
            "bad_message",
        ),
        ("POST /v1/rooms", "{}", 405, "bad_message"),
        ("GET /v2/rooms", "", 404, "not_found"),
    ] {
        let reply = ask(&server, line, &auth, body).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (status, code),
            "{line} {body}"
        );
    }
    let large = format!(r#"{{"metadata":"{}"}}"#, "x".repeat(300 << 10));
    let reply = ask(&server, "PUT /v1/rooms/a", &auth, &large).await;
    assert_eq!((reply.status, reply.code().as_str()), (413, "too_large"));
}

#[tokio::test]
async fn only_those_may_who_are_allowed_to() {
    let server = server().await;
    for (name, token, code) in bad_tokens() {
        let auth = bearer(&token);
        let reply = ask(&server, "GET /v1/rooms", &[("Authorization", &auth)], "").await;
        assert_eq!((reply.status, reply.code().as_str()), (401, code), "{name}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    }
    assert_eq!(ask(&server, "GET /v1/rooms", &[], "").await.status, 401);
    let participant = bearer(&token("ann"));
    let moderator = {
        let video = VideoGrant {
            room: Some("r".to_owned()),
            room_admin: Some(true),
            ..VideoGrant::default()
        };
        bearer(&sign(Claims {
            exp: now_s() + 60,
            video,
            ..Claims::default()
        }))
    };
    for (line, auth, status) in [
        ("GET /v1/rooms", &participant, 403),
        ("GET /v1/rooms/r", &participant, 403),
        ("GET /v1/rooms/r/participants", &participant, 403),
        ("DELETE /v1/rooms/r", &participant, 403),
        ("DELETE /v1/rooms/r/participants/ann", &participant, 403),
        ("GET /v1/rooms", &moderator, 403),
        ("GET /v1/rooms/other/participants", &moderator, 403),
        ("DELETE /v1/rooms/other", &moderator, 403),
        ("GET /v1/rooms/r/participants", &moderator, 404),
    ] {
        let reply = ask(&server, line, &[("Authorization", auth)], "").await;
        assert_eq!(reply.status, status, "{line}");
    }
    let headers = [
        ("Authorization", moderator.as_str()),
        ("Content-Type", "application/json"),
    ];
    assert_eq!(
        ask(&server, "PUT /v1/rooms/r", &headers, "{}").await.status,
        403
    );
}

#[tokio::test]
async fn the_api_describes_itself() {
    let server = server().await;
    let document = ask(&server, "GET /v1/openapi.json", &[], "").await.json();
    for path in [
        "/v1/rooms",
        "/v1/rooms/{room}",
        "/v1/rooms/{room}/participants/{identity}",
        "/v1/rooms/{room}/broadcasts",
        "/v1/rooms/{room}/broadcasts/{id}",
        "/v1/rooms/{room}/broadcasts/{id}/targets",
        "/v1/rooms/{room}/broadcasts/{id}/targets/{target}",
        "/v1/rooms/{room}/recordings",
        "/v1/rooms/{room}/recordings/{id}",
        "/v1/rooms/{room}/recordings/{id}/stop",
        "/v1/rooms/{room}/recordings/{id}/files/{file}",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    assert!(document["components"]["schemas"]["Participant"].is_object());
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
}

#[tokio::test]
async fn metrics_are_for_this_machine_or_the_admin_address() {
    let server = server().await;
    let metrics = ask(&server, "GET /metrics", &[], "").await;
    assert_eq!(metrics.status, 200);
    assert!(
        metrics.body.contains("plenum_joins_total 0"),
        "{}",
        metrics.body
    );
    assert!(
        metrics
            .body
            .lines()
            .any(|line| line.starts_with("# HELP plenum_"))
    );
    let proxied = ask(
        &server,
        "GET /metrics",
        &[("X-Forwarded-For", "192.0.2.1")],
        "",
    )
    .await;
    assert_eq!(proxied.status, 404);

    let mut config = config();
    config.http.admin_addr = "127.0.0.1:0".to_owned();
    let server = Server::start(&config).await.unwrap();
    assert_eq!(ask(&server, "GET /metrics", &[], "").await.status, 404);
    assert!(server.admin_addr().is_some());
}

#[tokio::test]
async fn pages_are_served_or_say_how_to_get_them() {
    let server = server().await;
    for path in ["/", "/?room=r&token=t", "/watch/r", "/stats"] {
        let page = ask(&server, &format!("GET {path}"), &[], "").await;
        assert_eq!(page.status, 200, "{path}");
        assert!(
            page.header("content-type")
                .unwrap()
                .starts_with("text/html")
        );
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    }
    for path in [
        "/assets/..%2f..%2fCargo.toml",
        "/assets/../../Cargo.toml",
        "/%2e%2e%2fpackage.json",
        "/none",
    ] {
        assert_eq!(
            ask(&server, &format!("GET {path}"), &[], "").await.status,
            404,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let server = server().await;
    let started = std::time::Instant::now();
    let reply = raw(&server, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    assert!(reply.status != 200, "{reply:?}");
    assert!(started.elapsed() < std::time::Duration::from_secs(15));
}

#[tokio::test]
async fn every_metric_is_declared_once() {
    let server = server().await;
    let metrics = ask(&server, "GET /metrics", &[], "").await;
    let declared: Vec<&str> = metrics
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    for name in [
        "plenum_rooms",
        "plenum_shard_rooms",
        "plenum_turn_allocations",
        "plenum_broadcasts",
        "plenum_broadcast_viewers",
        "plenum_broadcast_targets",
        "plenum_track_recordings",
        "plenum_bridge_packets_total",
        "plenum_rtmp_connections",
        "plenum_rtmp_refused_total",
    ] {
        assert!(declared.contains(&name), "{name}");
    }
    let mut names = declared.clone();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), declared.len(), "{declared:?}");
}
