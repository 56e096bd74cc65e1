//! Rooms to test the connection in.

use signaling::auth::{Claims, VideoGrant};

use crate::client::*;
use crate::whip::offer;

async fn open(server: &signaling::Server, token: &str) -> Reply {
    let auth = bearer(token);
    let headers = [("Authorization", auth.as_str())];
    ask(server, "POST /v1/test-rooms", &headers, "").await
}

#[tokio::test]
async fn whoever_may_join_a_room_can_receive_in_one_of_its_own() {
    let mut config = config();
    config.rooms.auto_create = false;
    let server = signaling::Server::start(&config).await.unwrap();
    let opened = open(&server, &token("ann")).await;
    assert_eq!(opened.status, 201, "{opened:?}");
    let opened = opened.json();
    let room = opened["room"].as_str().unwrap();
    assert!(opened["expiresAt"].as_u64().unwrap() <= (now_s() + 120) * 1000);
    let auth = bearer(opened["token"].as_str().unwrap());
    let headers = [
        ("Authorization", auth.as_str()),
        ("Content-Type", "application/sdp"),
    ];
    // Side by side, each as somebody else.
    for _ in 0..2 {
        let path = format!("POST /whep/{room}");
        let created = ask(&server, &path, &headers, &offer("recvonly")).await;
        assert_eq!(created.status, 201, "{created:?}");
    }
    let state = server.rooms().get(room).unwrap();
    assert_eq!(state.participants, 2);
    let publish = format!("POST /whip/{room}");
    let refused = ask(&server, &publish, &headers, &offer("sendonly")).await;
    assert_eq!(refused.code(), "publish_denied");
    let elsewhere = ask(&server, "POST /whep/r", &headers, &offer("recvonly")).await;
    assert_eq!(elsewhere.code(), "forbidden");
    server.shutdown().await;
}

#[tokio::test]
async fn it_lasts_no_longer_than_the_token_it_is_for() {
    let server = server().await;
    let short = sign(Claims {
        exp: now_s() + 30,
        ..claims("ann")
    });
    let first = open(&server, &short).await.json();
    let second = open(&server, first["token"].as_str().unwrap()).await.json();
    for opened in [first, second] {
        assert!(opened["expiresAt"].as_u64().unwrap() <= (now_s() + 30) * 1000);
    }
    server.shutdown().await;
}

#[tokio::test]
async fn nobody_else_gets_one() {
    let server = server().await;
    assert_eq!(
        ask(&server, "POST /v1/test-rooms", &[], "").await.status,
        401
    );
    for (_, token, code) in bad_tokens() {
        assert_eq!(open(&server, &token).await.code(), code);
    }
    let admin = open(&server, &admin_token()).await;
    assert_eq!(admin.code(), "forbidden");
    let video = VideoGrant {
        room: Some("r".to_owned()),
        ..VideoGrant::default()
    };
    let outsider = sign(Claims {
        video,
        ..claims("ann")
    });
    assert_eq!(open(&server, &outsider).await.code(), "forbidden");
    assert!(server.rooms().list().is_empty());
    server.shutdown().await;
}
