//! The native door.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use signaling::auth::{self, Claims, RoomClaim};
use signaling::config::Secret;
use signaling::{Config, Server};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::client::*;
use crate::whip::offer;

/// A native client.
pub(crate) struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

async fn connect(server: &Server, headers: &[(&str, &str)]) -> Result<Client, Error> {
    let mut request = format!("ws://{}/v1/signal", server.addr())
        .into_client_request()
        .unwrap();
    for (name, value) in headers {
        let name: http_name::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    connect_async(request)
        .await
        .map(|(socket, _)| Client(socket))
}

use tokio_tungstenite::tungstenite::http::header as http_name;

const PROTOCOL: (&str, &str) = ("sec-websocket-protocol", "plenum.v1");

impl Client {
    async fn new(server: &Server) -> Self {
        connect(server, &[PROTOCOL]).await.unwrap()
    }

    /// Joins the room `r`; the client and its `welcome`.
    pub(crate) async fn join(server: &Server, identity: &str) -> (Self, Value) {
        let mut client = Self::new(server).await;
        client
            .say(&json!({ "t": "hello", "v": [1], "token": token(identity) }))
            .await;
        let welcome = client.hear().await;
        assert_eq!(welcome["t"], "welcome", "{welcome}");
        (client, welcome)
    }

    pub(crate) async fn say(&mut self, message: &Value) {
        self.text(&message.to_string()).await;
    }

    async fn text(&mut self, text: &str) {
        // A server that has closed already is found out by what it said.
        self.0.send(Message::text(text)).await.ok();
    }

    async fn frame(&mut self) -> Option<Message> {
        loop {
            let next = timeout(Duration::from_secs(20), self.0.next())
                .await
                .unwrap();
            match next?.ok()? {
                Message::Ping(_) | Message::Pong(_) => {}
                frame => return Some(frame),
            }
        }
    }

    pub(crate) async fn hear(&mut self) -> Value {
        match self.frame().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("no text: {other:?}"),
        }
    }

    /// The next message like this, past others.
    pub(crate) async fn hear_of(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let heard = self.hear().await;
            if is_it(&heard) {
                return heard;
            }
        }
    }

    /// What comes before the close, and its code.
    pub(crate) async fn last_words(&mut self) -> (Vec<Value>, u16) {
        let mut words = Vec::new();
        loop {
            match self.frame().await {
                Some(Message::Text(text)) => words.push(serde_json::from_str(&text).unwrap()),
                Some(Message::Close(Some(frame))) => return (words, frame.code.into()),
                other => panic!("after {words:?}: {other:?}"),
            }
        }
    }

    /// Works as ever.
    async fn is_well(&mut self) {
        self.say(&json!({ "t": "ping", "ts": 7 })).await;
        assert_eq!(self.hear().await, json!({ "t": "pong", "ts": 7.0 }));
    }
}

#[tokio::test]
async fn two_meet_talk_and_leave() {
    let server = server().await;
    let (mut ann, welcome) = Client::join(&server, "ann").await;
    assert_eq!(welcome["v"], 1);
    let (mut bob, _) = Client::join(&server, "bob").await;
    assert_eq!(ann.hear().await["p"]["identity"], "bob");
    bob.say(&json!({ "t": "send", "id": 1, "topic": "chat", "data": "hello" }))
        .await;
    assert_eq!(bob.hear().await, json!({ "t": "ok", "id": 1 }));
    let data = ann.hear().await;
    assert_eq!(
        (&data["from"], &data["data"]),
        (&json!("bob"), &json!("hello"))
    );
    bob.say(&json!({ "t": "leave" })).await;
    assert_eq!(bob.last_words().await, (vec![json!({ "t": "bye" })], 4000));
    assert_eq!(ann.hear().await["reason"], "left");
}

#[tokio::test]
async fn a_publisher_says_how_its_sound_is_sent_and_what_it_is() {
    let server = server().await;
    let (mut bob, _) = Client::join(&server, "bob").await;
    let entry = json!({ "mid": "0", "source": "microphone", "stereo": true, "dtx": true });
    let offer = json!({ "id": 1, "sdp": offer("sendonly"), "publish": [entry] });
    let mut ann = Client::new(&server).await;
    ann.say(&json!({ "t": "hello", "v": [1], "token": token("ann"), "offer": offer }))
        .await;
    let answer = ann.hear().await["answer"].clone();
    let track = answer["published"][0]["track"].clone();
    let is_shaped = |sdp: &Value| {
        let sdp = sdp.as_str().unwrap();
        sdp.contains(";stereo=1") && sdp.contains(";usedtx=1")
    };
    assert!(is_shaped(&answer["sdp"]), "{answer}");
    // A later offer does not name it again.
    ann.say(&json!({ "t": "offer", "id": 2, "sdp": offer["sdp"] }))
        .await;
    let answer = loop {
        let heard = ann.hear().await;
        if heard["t"] == "answer" {
            break heard;
        }
    };
    assert!(is_shaped(&answer["sdp"]), "{answer}");
    let meta = r#"{"seat":3}"#;
    ann.say(&json!({ "t": "track", "id": 3, "track": track, "meta": meta }))
        .await;
    let told = loop {
        let heard = bob.hear().await;
        if heard["t"] == "track" && heard["patch"].get("meta").is_some() {
            break heard;
        }
    };
    assert_eq!(
        (&told["track"], &told["patch"]["meta"]),
        (&track, &json!(meta))
    );
}

#[tokio::test]
async fn a_guest_link_serves_any_number() {
    let server = server().await;
    let mut identities = std::collections::HashSet::new();
    for name in ["Ann", "Bob"] {
        let mut guest = Client::new(&server).await;
        let token = guest_token();
        guest
            .say(&json!({ "t": "hello", "v": [1], "token": token, "name": name }))
            .await;
        let welcome = guest.hear().await;
        assert_eq!(welcome["self"]["name"], name);
        let identity = welcome["self"]["identity"].as_str().unwrap().to_owned();
        assert!(identity.starts_with("guest-"));
        identities.insert(identity);
    }
    assert_eq!(identities.len(), 2);
}

#[tokio::test]
async fn bad_tokens_are_refused_and_nobody_is_disturbed() {
    let server = server().await;
    let (mut ann, _) = Client::join(&server, "witness").await;
    for (name, token, code) in bad_tokens() {
        let mut client = Client::new(&server).await;
        client
            .say(&json!({ "t": "hello", "v": [1], "token": token }))
            .await;
        let (words, close) = client.last_words().await;
        assert_eq!((&words[0]["code"], close), (&json!(code), 4001), "{name}");
    }
    let mut client = Client::new(&server).await;
    client.say(&json!({ "t": "hello", "v": [1] })).await;
    assert_eq!(client.last_words().await.1, 4001);
    let mut client = Client::new(&server).await;
    let no_room = sign(Claims {
        video: Default::default(),
        ..claims("ann")
    });
    client
        .say(&json!({ "t": "hello", "v": [1], "token": no_room }))
        .await;
    let (words, close) = client.last_words().await;
    assert_eq!((&words[0]["code"], close), (&json!("forbidden"), 4003));
    ann.is_well().await;
}

#[tokio::test]
async fn the_first_message_is_a_sound_hello() {
    let server = server().await;
    for (text, code, close) in [
        ("{".to_owned(), "bad_message", 4006),
        (r#"{"t":"ping","ts":1}"#.to_owned(), "bad_message", 4006),
        (r#"{"t":"nonsense"}"#.to_owned(), "unknown_type", 4006),
        (
            json!({ "t": "hello", "v": [2], "token": token("a") }).to_string(),
            "unsupported_version",
            4006,
        ),
        (
            json!({ "t": "hello", "v": "1", "token": token("a") }).to_string(),
            "bad_message",
            4006,
        ),
        (
            json!({ "t": "hello", "v": [1], "token": token("a"), "name": "x".repeat(257) })
                .to_string(),
            "too_large",
            4013,
        ),
    ] {
        let mut client = Client::new(&server).await;
        client.text(&text).await;
        let (words, closed) = client.last_words().await;
        assert_eq!((&words[0]["code"], closed), (&json!(code), close), "{text}");
    }
    let mut silent = Client::new(&server).await;
    let (words, close) = silent.last_words().await;
    assert_eq!((&words[0]["code"], close), (&json!("idle"), 4008));
}

#[tokio::test]
async fn bad_messages_leave_the_session_standing() {
    let server = server().await;
    let (mut ann, _) = Client::join(&server, "ann").await;
    for (text, code) in [
        ("{\"t\":", "bad_message"),
        ("\u{0}", "bad_message"),
        (r#"{"t":"allow","id":3}"#, "unknown_type"),
    ] {
        ann.text(text).await;
        assert_eq!(ann.hear().await["code"], code);
    }
    ann.say(&json!({ "t": "offer", "id": 1, "sdp": "nonsense" }))
        .await;
    let error = ann.hear().await;
    assert_eq!(
        (&error["code"], &error["id"]),
        (&json!("bad_sdp"), &json!(1))
    );
    ann.is_well().await;
}

#[tokio::test]
async fn oversized_and_binary_frames_end_their_own_socket_only() {
    let server = server().await;
    let (mut bob, _) = Client::join(&server, "bob").await;
    let (mut ann, _) = Client::join(&server, "ann").await;
    bob.hear().await;
    let fits = json!({ "t": "ping", "ts": 1, "pad": "x".repeat((256 << 10) - 40) }).to_string();
    ann.text(&fits).await;
    assert_eq!(ann.hear().await["t"], "pong");
    ann.text(&"x".repeat((256 << 10) + 1)).await;
    let (words, close) = ann.last_words().await;
    assert_eq!((&words[0]["code"], close), (&json!("too_large"), 4013));
    let (mut carol, _) = Client::join(&server, "carol").await;
    bob.hear().await;
    carol.0.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(carol.last_words().await.1, 1003);
    let mut flood = Client::new(&server).await;
    flood.text(&"x".repeat(8 << 20)).await;
    assert!(!matches!(flood.frame().await, Some(Message::Binary(_))));
    bob.is_well().await;
}

#[tokio::test]
async fn a_flood_of_messages_ends_its_session() {
    let server = server().await;
    let (mut ann, _) = Client::join(&server, "ann").await;
    for _ in 0..400 {
        ann.text(r#"{"t":"view","set":{}}"#).await;
    }
    let (words, close) = ann.last_words().await;
    assert_eq!((&words[0]["code"], close), (&json!("rate_limited"), 4029));
}

#[tokio::test]
async fn a_lost_socket_is_resumed() {
    let server = server().await;
    let (ann, welcome) = Client::join(&server, "ann").await;
    drop(ann);
    let (mut bob, _) = Client::join(&server, "bob").await;
    let resume = |key: &str| {
        let resume = json!({ "session": welcome["session"], "key": key, "n": welcome["n"] });
        json!({ "t": "hello", "v": [1], "token": token("ann"), "resume": resume })
    };
    let mut back = Client::new(&server).await;
    back.say(&resume("wrong")).await;
    assert_eq!(back.hear().await["code"], "resume_unknown");
    back.say(&resume(welcome["resumeKey"].as_str().unwrap()))
        .await;
    let again = back.hear().await;
    assert_eq!(
        (&again["t"], &again["resumed"]),
        (&json!("welcome"), &json!(true))
    );
    assert_ne!(again["resumeKey"], welcome["resumeKey"]);
    assert_eq!(back.hear().await["p"]["identity"], "bob");
    back.is_well().await;
    // A token of somebody else does not help with a stolen key.
    let mut thief = Client::new(&server).await;
    let stolen = json!({ "session": again["session"], "key": again["resumeKey"], "n": 0 });
    let hello = json!({ "t": "hello", "v": [1], "token": token("bob"), "resume": stolen });
    thief.say(&hello).await;
    assert_eq!(thief.hear().await["code"], "resume_unknown");
    back.is_well().await;
    bob.is_well().await;
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_its_end_cuts_no_session() {
    let mut config = config();
    // The old token is tried until it is over.
    config.limits.failures_burst = 100_000;
    let server = Server::start(&config).await.unwrap();
    // Past its end, but within the 30 s that clocks may differ: good for about 2 s more.
    let ending = sign(Claims {
        exp: now_s() - 28,
        ..claims("ann")
    });
    let mut ann = Client::new(&server).await;
    ann.say(&json!({ "t": "hello", "v": [1], "token": ending }))
        .await;
    let welcome = ann.hear().await;
    let renewed = ann.hear().await;
    assert_eq!(
        (&welcome["t"], &renewed["t"]),
        (&json!("welcome"), &json!("token"))
    );
    assert_eq!(
        renewed.get("n"),
        None,
        "only the latest counts: it is no event"
    );
    let fresh = renewed["token"].as_str().unwrap();
    let grants = auth::verify(&config.auth, fresh, now_s() + 590).unwrap();
    assert!(grants.identity.as_deref() == Some("ann") && grants.may_join("r"));
    let resume = |token: &str, key: &Value| {
        let resume = json!({ "session": welcome["session"], "key": key, "n": welcome["n"] });
        json!({ "t": "hello", "v": [1], "token": token, "resume": resume })
    };
    // The old token is looked at before the key: it tells when it is over.
    let refusal = loop {
        let mut late = Client::new(&server).await;
        late.say(&resume(&ending, &json!("wrong"))).await;
        let error = late.hear().await;
        if error["code"] != "resume_unknown" {
            break error;
        }
    };
    assert_eq!(refusal["code"], "token_expired");
    ann.is_well().await;
    drop(ann);
    let mut back = Client::new(&server).await;
    back.say(&resume(fresh, &welcome["resumeKey"])).await;
    assert_eq!(back.hear().await["resumed"], true);
}

#[tokio::test]
async fn other_keys_count_at_once_and_sessions_go_on() {
    let server = server().await;
    let (mut ann, welcome) = Client::join(&server, "ann").await;
    let mut next = Config::default().auth;
    let secret = Secret::new("another secret of 32 bytes or more");
    next.keys.insert("next".to_owned(), secret);
    server.replace_keys(next.clone());
    let resume = json!({ "session": welcome["session"], "key": welcome["resumeKey"], "n": 0 });
    let mut refused = Client::new(&server).await;
    let hello = json!({ "t": "hello", "v": [1], "token": token("ann"), "resume": resume });
    refused.say(&hello).await;
    assert_eq!(refused.last_words().await.1, 4001);
    let mut bob = Client::new(&server).await;
    let signed = auth::sign(&next, "next", claims("bob")).unwrap();
    bob.say(&json!({ "t": "hello", "v": [1], "token": signed }))
        .await;
    assert_eq!(bob.hear().await["t"], "welcome");
    assert_eq!(ann.hear().await["t"], "joined");
    ann.is_well().await;
}

#[tokio::test]
async fn the_same_identity_joins_once() {
    let server = server().await;
    let (mut first, _) = Client::join(&server, "ann").await;
    let (mut second, _) = Client::join(&server, "ann").await;
    let (words, close) = first.last_words().await;
    assert_eq!(
        (&words[0]["code"], close),
        (&json!("duplicate_identity"), 4009)
    );
    second.is_well().await;
}

#[tokio::test]
async fn foreign_pages_and_other_protocols_do_not_get_in() {
    let server = server().await;
    let refusal = |outcome: Result<Client, Error>| match outcome {
        Err(Error::Http(response)) => response.status().as_u16(),
        _ => 0,
    };
    let foreign = connect(&server, &[PROTOCOL, ("origin", "https://evil.example")]).await;
    assert_eq!(refusal(foreign), 403);
    let own = format!("http://{}", server.addr());
    assert!(
        connect(&server, &[PROTOCOL, ("origin", &own)])
            .await
            .is_ok()
    );
    let other = connect(&server, &[("sec-websocket-protocol", "chat")]).await;
    assert_eq!(refusal(other), 400);
    assert_eq!(ask(&server, "GET /v1/signal", &[], "").await.status, 426);
    let authorization = bearer(&token("ann"));
    let mut client = connect(&server, &[PROTOCOL, ("authorization", &authorization)])
        .await
        .unwrap();
    client.say(&json!({ "t": "hello", "v": [1] })).await;
    assert_eq!(client.hear().await["t"], "welcome");
}

#[tokio::test]
async fn too_many_silent_sockets_of_one_address_are_refused() {
    let mut config = config();
    config.limits.pending_sockets = 2;
    let server = Server::start(&config).await.unwrap();
    let (_one, _two) = (Client::new(&server).await, Client::new(&server).await);
    assert!(connect(&server, &[PROTOCOL]).await.is_err());
}

#[tokio::test]
async fn failed_attempts_are_limited_and_good_tokens_still_work() {
    let mut config = config();
    (
        config.limits.failures_per_second,
        config.limits.failures_burst,
    ) = (1, 3);
    let server = Server::start(&config).await.unwrap();
    let mut codes = Vec::new();
    for _ in 0..5 {
        let reply = ask(
            &server,
            "GET /v1/rooms",
            &[("Authorization", "Bearer x")],
            "",
        )
        .await;
        codes.push((reply.status, reply.header("retry-after").is_some()));
    }
    assert_eq!(codes[0], (401, false));
    assert!(codes.contains(&(429, true)), "{codes:?}");
    Client::join(&server, "ann").await;
}

#[tokio::test]
async fn a_token_sets_up_the_room_that_its_join_opens() {
    let server = server().await;
    let small = Claims {
        room_config: Some(RoomClaim {
            max_participants: 1,
            metadata: "a small room".to_owned(),
            ..RoomClaim::default()
        }),
        ..claims("ann")
    };
    let mut ann = Client::new(&server).await;
    ann.say(&json!({ "t": "hello", "v": [1], "token": sign(small) }))
        .await;
    assert_eq!(ann.hear().await["room"]["metadata"], "a small room");
    let mut bob = Client::new(&server).await;
    bob.say(&json!({ "t": "hello", "v": [1], "token": token("bob") }))
        .await;
    let (words, close) = bob.last_words().await;
    assert_eq!((&words[0]["code"], close), (&json!("room_full"), 4004));
    ann.is_well().await;
}

#[tokio::test]
async fn a_server_that_opens_no_rooms_by_itself_says_so() {
    let mut config = config();
    config.rooms.auto_create = false;
    let server = Server::start(&config).await.unwrap();
    let mut early = Client::new(&server).await;
    let hello = json!({ "t": "hello", "v": [1], "token": token("ann") });
    early.say(&hello).await;
    let (words, close) = early.last_words().await;
    assert_eq!((&words[0]["code"], close), (&json!("room_not_found"), 4004));
    let admin = bearer(&admin_token());
    let headers = [
        ("Authorization", admin.as_str()),
        ("Content-Type", "application/json"),
    ];
    ask(&server, "PUT /v1/rooms/r", &headers, "{}").await;
    Client::join(&server, "ann").await;
}

#[tokio::test]
async fn joins_are_limited_by_api_key() {
    let mut config = config();
    (config.limits.joins_per_second, config.limits.joins_burst) = (1, 1);
    let server = Server::start(&config).await.unwrap();
    let (mut ann, _) = Client::join(&server, "ann").await;
    let mut bob = Client::new(&server).await;
    bob.say(&json!({ "t": "hello", "v": [1], "token": token("bob") }))
        .await;
    let (words, close) = bob.last_words().await;
    assert_eq!((&words[0]["code"], close), (&json!("rate_limited"), 4029));
    assert!(words[0]["retryAfterMs"].as_u64().unwrap() > 0);
    ann.is_well().await;
}

#[tokio::test]
async fn going_down_says_goodbye() {
    let server = server().await;
    let (mut ann, _) = Client::join(&server, "ann").await;
    assert_eq!(ask(&server, "GET /readyz", &[], "").await.status, 200);
    server.drain(Duration::from_millis(100));
    assert_eq!(ask(&server, "GET /readyz", &[], "").await.status, 503);
    assert_eq!(ask(&server, "GET /healthz", &[], "").await.status, 200);
    assert_eq!(ann.hear().await["action"], "rejoin");
    let mut late = Client::new(&server).await;
    late.say(&json!({ "t": "hello", "v": [1], "token": token("bob") }))
        .await;
    let (words, close) = late.last_words().await;
    assert_eq!(
        (&words[0]["code"], close),
        (&json!("server_shutdown"), 4050)
    );
    let (end, (words, close)) = tokio::join!(server.shutdown(), ann.last_words());
    let () = end;
    assert_eq!(
        (&words[0]["code"], close),
        (&json!("server_shutdown"), 4050)
    );
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off_and_can_come_back() {
    let mut config = config();
    config.limits.messages_burst = 10_000;
    let server = Server::start(&config).await.unwrap();
    let (mut slow, welcome) = Client::join(&server, "slow").await;
    let (mut chatty, _) = Client::join(&server, "chatty").await;
    slow.hear().await;
    let text = "x".repeat(16 << 10);
    for id in 0..1_000 {
        chatty
            .say(&json!({ "t": "send", "id": id, "to": ["slow"], "data": text }))
            .await;
        assert_eq!(chatty.hear().await["t"], "ok");
    }
    // It reads at last: what was in the pipe, then the end of this socket.
    let end = loop {
        match slow.frame().await {
            Some(Message::Text(_)) => {}
            end => break end,
        }
    };
    if let Some(Message::Close(Some(frame))) = end {
        assert_eq!(u16::from(frame.code), 4030);
    }
    let resume = json!({ "session": welcome["session"], "key": welcome["resumeKey"], "n": 1 });
    let mut back = Client::new(&server).await;
    let hello = json!({ "t": "hello", "v": [1], "token": token("slow"), "resume": resume });
    back.say(&hello).await;
    let again = back.hear().await;
    assert_eq!(
        (&again["resumed"], &again["resync"]),
        (&json!(true), &json!(true))
    );
    chatty.is_well().await;
}
