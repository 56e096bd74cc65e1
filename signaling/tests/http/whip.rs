//! WHIP and WHEP as far as HTTP goes; media is proved elsewhere with real clients.

use signaling::auth::{Claims, VideoGrant};

use crate::client::*;

/// An offer with one Opus section, as an encoder makes it.
const OFFER: &str = "v=0\r\n\
    o=- 4611731400430051336 2 IN IP4 127.0.0.1\r\n\
    s=-\r\n\
    t=0 0\r\n\
    a=group:BUNDLE 0\r\n\
    a=msid-semantic: WMS stream\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
    c=IN IP4 0.0.0.0\r\n\
    a=rtcp:9 IN IP4 0.0.0.0\r\n\
    a=ice-ufrag:Rmuj\r\n\
    a=ice-pwd:cvO0n0Jm7xzCA4vQlPbXWhoL\r\n\
    a=ice-options:trickle\r\n\
    a=fingerprint:sha-256 7B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08\r\n\
    a=setup:actpass\r\n\
    a=mid:0\r\n\
    a=DIRECTION\r\n\
    a=rtcp-mux\r\n\
    a=rtpmap:111 opus/48000/2\r\n\
    a=fmtp:111 minptime=10;useinbandfec=1\r\n\
    a=ssrc:3570614608 cname:4TOk42mSjXCkVIa6\r\n";

/// The same in this direction.
pub(crate) fn offer(direction: &str) -> String {
    OFFER.replace("DIRECTION", direction)
}

#[tokio::test]
async fn an_encoder_publishes_restarts_and_ends() {
    let server = server().await;
    let auth = bearer(&token("encoder"));
    let headers = [
        ("Authorization", auth.as_str()),
        ("Content-Type", "application/sdp"),
    ];
    let created = ask(&server, "POST /whip/r", &headers, &offer("sendonly")).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(created.header("content-type"), Some("application/sdp"));
    assert_eq!(created.header("access-control-allow-origin"), Some("*"));
    assert!(created.body.starts_with("v=0"));
    let location = created.header("location").unwrap();
    assert!(location.starts_with("/whip/r/"), "{location}");
    let etag = created.header("etag").unwrap();

    let patch = format!("PATCH {location}");
    let kind = ("Content-Type", "application/trickle-ice-sdpfrag");
    let candidate = "a=candidate:1 1 udp 1 192.0.2.1 5000 typ host\r\n";
    assert_eq!(
        ask(&server, &patch, &[kind, ("If-Match", etag)], candidate)
            .await
            .status,
        204
    );
    assert_eq!(ask(&server, &patch, &[kind], candidate).await.status, 428);
    let other = ask(
        &server,
        &patch,
        &[kind, ("If-Match", "\"other\"")],
        candidate,
    )
    .await;
    assert_eq!(other.status, 412);
    let empty = ask(&server, &patch, &[kind, ("If-Match", "*")], candidate).await;
    assert_eq!((empty.status, empty.code().as_str()), (400, "bad_sdp"));
    let restart = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdefghijkl\r\n";
    let restarted = ask(&server, &patch, &[kind, ("If-Match", "*")], restart).await;
    assert_eq!(restarted.status, 200, "{restarted:?}");
    assert!(restarted.body.contains("a=ice-ufrag:"));
    assert_ne!(restarted.header("etag").unwrap(), etag);
    assert_eq!(
        ask(&server, &patch, &[kind, ("If-Match", etag)], candidate)
            .await
            .status,
        412
    );

    let delete = format!("DELETE {location}");
    assert_eq!(ask(&server, &delete, &[], "").await.status, 200);
    assert_eq!(ask(&server, &delete, &[], "").await.code(), "not_found");
    assert_eq!(
        ask(&server, &patch, &[kind, ("If-Match", "*")], restart)
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn viewers_receive_the_program_or_one_participant() {
    let server = server().await;
    for (path, identity) in [("/whep/r", "viewer"), ("/whep/r/encoder", "other")] {
        let auth = bearer(&token(identity));
        let headers = [
            ("Authorization", auth.as_str()),
            ("Content-Type", "application/sdp"),
        ];
        let line = format!("POST {path}");
        let created = ask(&server, &line, &headers, &offer("recvonly")).await;
        assert_eq!(created.status, 201, "{created:?}");
        let location = created.header("location").unwrap();
        assert!(location.starts_with("/whep/r/"), "{location}");
        assert_eq!(
            ask(&server, &format!("DELETE {location}"), &[], "")
                .await
                .status,
            200
        );
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_reason() {
    let server = server().await;
    let join = bearer(&token("ann"));
    let grant = |publish, subscribe| {
        let video = VideoGrant {
            can_publish: Some(publish),
            can_subscribe: Some(subscribe),
            ..claims("x").video
        };
        bearer(&sign(Claims {
            video,
            ..claims("ann")
        }))
    };
    let (watcher, speaker) = (grant(false, true), grant(true, false));
    let sdp = "application/sdp";
    let good = offer("sendonly");
    let large = format!("v=0\r\n{}", "a=x\r\n".repeat(60_000));
    for (line, auth, kind, body, status, code) in [
        (
            "POST /whip/r",
            "Bearer x",
            sdp,
            good.as_str(),
            401,
            "unauthorized",
        ),
        ("POST /whip/other", &join, sdp, &good, 403, "forbidden"),
        ("POST /whip/r", &watcher, sdp, &good, 403, "publish_denied"),
        (
            "POST /whep/r",
            &speaker,
            sdp,
            &good,
            403,
            "subscribe_denied",
        ),
        (
            "POST /whip/r",
            &join,
            "text/plain",
            &good,
            415,
            "bad_message",
        ),
        ("POST /whip/r", &join, sdp, "nonsense", 400, "bad_sdp"),
        ("POST /whip/r", &join, sdp, &large, 413, "too_large"),
        ("POST /whep/r/a%20b", &join, sdp, &good, 404, "not_found"),
        ("DELETE /whip/r/guessed", &join, sdp, "", 404, "not_found"),
    ] {
        let headers = [("Authorization", auth), ("Content-Type", kind)];
        let reply = ask(&server, line, &headers, body).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (status, code),
            "{line}"
        );
    }
    assert!(
        server
            .rooms()
            .participants("r")
            .is_none_or(|room| room.is_empty()),
        "nobody stays"
    );
}

#[tokio::test]
async fn browsers_may_ask_before_they_post() {
    let server = server().await;
    for path in ["/whip/r", "/whep/r", "/whep/r/ann", "/whip/r/x"] {
        let reply = ask(
            &server,
            &format!("OPTIONS {path}"),
            &[("Origin", "https://a.example")],
            "",
        )
        .await;
        assert_eq!(reply.status, 204, "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        assert!(
            reply
                .header("access-control-allow-methods")
                .unwrap()
                .contains("PATCH")
        );
        assert_eq!(reply.header("accept-post"), Some("application/sdp"));
    }
}
