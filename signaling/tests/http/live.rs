//! What players ask for.

use serde_json::json;
use signaling::Server;
use signaling::auth::Claims;
use signaling::config::Playback;

use crate::broadcasts::quick;
use crate::client::*;

#[tokio::test]
async fn how_a_broadcast_is_can_be_asked_before_during_and_after() {
    let server = Server::start(&quick()).await.unwrap();
    let api = Api::new(&server);
    let status = async |path: &str| {
        let reply = ask(&server, &format!("GET /live/{path}/status.json"), &[], "").await;
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        reply.json()
    };
    assert_eq!(status("r").await, json!({ "state": "none", "viewers": 0 }));
    api.post("/v1/rooms/r/broadcasts", json!({})).await;
    // Nothing could be watched a moment ago.
    let first = status("r").await;
    assert!(
        first["state"] == "starting" || first["state"] == "live",
        "{first}"
    );
    assert!(first["startedAt"].as_str().unwrap().ends_with('Z'));
    eventually(async || status("r").await, |now| now["state"] == "live").await;
    assert_eq!(status("r+other").await["state"], "none");
    let player = ask(&server, "GET /live/r/index.m3u8", &[], "").await;
    assert_eq!(player.status, 200);
    assert_eq!(status("r").await["viewers"], 1);
    assert_eq!(api.ask("DELETE /v1/rooms/r", "").await.status, 204);
    eventually(async || status("r").await, |now| now["state"] == "ended").await;
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_missing() {
    let server = Server::start(&quick()).await.unwrap();
    Api::new(&server)
        .post("/v1/rooms/r/broadcasts", json!({}))
        .await;
    for path in [
        "/live/none/index.m3u8",
        "/live/none.flv",
        "/live/r/none.m3u8",
        "/live/r/..%2f..%2fetc%2fpasswd",
        "/live/..%2fr/index.m3u8",
    ] {
        let reply = ask(&server, &format!("GET {path}"), &[], "").await;
        assert_eq!(reply.status, 404, "{path}: {reply:?}");
    }
}

#[tokio::test]
async fn protected_broadcasts_are_for_those_with_a_token_of_the_room() {
    let mut config = quick();
    config.broadcast.playback = Playback::Token;
    config.broadcast.sessions_per_user = 1;
    let server = Server::start(&config).await.unwrap();
    Api::new(&server)
        .post("/v1/rooms/r/broadcasts", json!({}))
        .await;
    let good = token("ann");
    let foreign = {
        let mut claims = claims("ann");
        claims.video.room = Some("other".to_owned());
        sign(claims)
    };
    let deaf = {
        let mut claims = claims("ann");
        claims.video.can_subscribe = Some(false);
        sign(claims)
    };
    let expired = sign(Claims {
        exp: now_s() - 60,
        ..claims("ann")
    });
    for file in ["r/index.m3u8", "r/status.json"] {
        for query in [
            "",
            "?token=nonsense",
            &format!("?token={expired}"),
            &format!("?token={foreign}"),
            &format!("?token={deaf}"),
        ] {
            let reply = ask(&server, &format!("GET /live/{file}{query}"), &[], "").await;
            assert!(
                matches!(reply.status, 401 | 403),
                "{file}{query}: {reply:?}"
            );
        }
    }
    let index = ask(
        &server,
        &format!("GET /live/r/index.m3u8?token={good}"),
        &[],
        "",
    )
    .await;
    assert_eq!(index.status, 200, "{index:?}");
    assert!(!index.body.contains(&good), "the token is in no URI");
    let media = index
        .body
        .lines()
        .find(|line| line.contains(".m3u8") && !line.starts_with('#'))
        .unwrap();
    let reply = ask(&server, &format!("GET /live/r/{media}"), &[], "").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let (unsigned, _) = media.split_once('?').unwrap();
    let reply = ask(&server, &format!("GET /live/r/{unsigned}"), &[], "").await;
    assert_eq!(reply.status, 403, "{reply:?}");

    // One session for each user.
    let again = ask(
        &server,
        &format!("GET /live/r/index.m3u8?token={good}"),
        &[],
        "",
    )
    .await;
    assert_eq!(again.status, 429, "{again:?}");
    let other = token("bob");
    let reply = ask(
        &server,
        &format!("GET /live/r/index.m3u8?token={other}"),
        &[],
        "",
    )
    .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    if cfg!(feature = "aac-fdk") {
        let reply = ask(&server, "GET /live/r.flv", &[], "").await;
        assert!(matches!(reply.status, 401 | 403), "{reply:?}");
    }
}
