//! What an application is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use signaling::config::Secret;
use signaling::webhooks::EventKind;
use signaling::{Config, Server};
use tokio::net::TcpListener;

use crate::client::*;
use crate::encoders::{Encoder, rtmp};
use crate::native::Client;
use crate::recordings::{Folder, recording};

const SECRETS: [&str; 2] = [
    "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "the next secret, which is as long as it has to be",
];

/// An application that notes what it is told, and has moods.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Noted>>);

#[derive(Default)]
struct Noted {
    moods: VecDeque<Mood>,
    requests: Vec<Request>,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    /// It is answered with this status.
    Answers(u16),
    /// It is not answered.
    Stalls,
}

#[derive(Clone, Debug)]
struct Request {
    id: String,
    timestamp: u64,
    signatures: String,
    body: String,
}

impl Receiver {
    /// Its address in a configuration; requests meet these moods first and are taken then.
    async fn start(moods: &[Mood], mut config: Config) -> (Self, Config) {
        let receiver = Self::default();
        receiver.0.lock().unwrap().moods = moods.iter().copied().collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        config.webhooks.url = format!("http://{}/hook", listener.local_addr().unwrap());
        config.webhooks.secrets = SECRETS.map(Secret::new).to_vec();
        let routes = Router::new()
            .route("/hook", post(take))
            .with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (receiver, config)
    }

    fn requests(&self) -> Vec<Request> {
        self.0.lock().unwrap().requests.clone()
    }

    /// Waits for an event of this kind; all bodies until then.
    async fn told(&self, kind: &str) -> Vec<Value> {
        let bodies = async || {
            let requests = self.requests().into_iter();
            requests
                .map(|one| serde_json::from_str(&one.body).unwrap())
                .collect::<Vec<Value>>()
        };
        eventually(bodies, |all| all.iter().any(|one| one["type"] == kind)).await
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> StatusCode {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let mood = {
        let mut noted = receiver.0.lock().unwrap();
        noted.requests.push(Request {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp").parse().unwrap(),
            signatures: header("webhook-signature"),
            body,
        });
        noted.moods.pop_front().unwrap_or(Mood::Answers(204))
    };
    match mood {
        Mood::Answers(status) => StatusCode::from_u16(status).unwrap(),
        Mood::Stalls => std::future::pending().await,
    }
}

impl Request {
    fn is_signed(&self) -> bool {
        let keys = [
            STANDARD.decode(&SECRETS[0][6..]).unwrap(),
            SECRETS[1].into(),
        ];
        let signed = format!("{}.{}.{}", self.id, self.timestamp, self.body);
        let sign = |key: &Vec<u8>| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            format!(
                "v1,{}",
                STANDARD.encode(hmac::sign(&key, signed.as_bytes()))
            )
        };
        self.signatures == keys.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

fn kinds(told: &[Value]) -> Vec<&str> {
    told.iter()
        .map(|one| one["type"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn what_happens_in_a_room_is_told_signed_and_in_order() {
    let (receiver, config) = Receiver::start(&[], config()).await;
    let server = Server::start(&config).await.unwrap();
    let api = Api::new(&server);
    let opened = api.ask("PUT /v1/rooms/r", r#"{"metadata":"about"}"#).await;
    assert_eq!(opened.status, 201);
    let (mut ann, _) = Client::join(&server, "ann").await;
    let (_bob, _) = Client::join(&server, "bob").await;
    ann.say(&json!({ "t": "leave" })).await;
    ann.last_words().await;
    assert_eq!(api.ask("DELETE /v1/rooms/r", "").await.status, 204);
    let told = receiver.told("room_finished").await;
    let expected = [
        "room_started",
        "participant_joined",
        "participant_joined",
        "participant_left",
        "participant_left",
        "room_finished",
    ];
    assert_eq!(kinds(&told), expected, "{told:?}");
    let room = opened.json();
    for (before, one) in told.iter().zip(told.iter().skip(1)) {
        assert_eq!(
            before["seq"].as_u64().unwrap() + 1,
            one["seq"].as_u64().unwrap()
        );
    }
    for one in &told {
        assert_eq!(
            (&one["data"]["room"]["id"], &one["data"]["room"]["name"]),
            (&room["id"], &json!("r"))
        );
        assert!(one["timestamp"].as_str().unwrap().ends_with('Z'), "{one}");
    }
    assert_eq!(told[0]["data"]["room"]["metadata"], "about");
    assert_eq!(told[1]["data"]["participant"]["identity"], "ann");
    assert_eq!(
        (&told[3]["data"]["reason"], &told[4]["data"]["reason"]),
        (&json!("left"), &json!("room_closed"))
    );
    let requests = receiver.requests();
    assert!(requests.iter().all(Request::is_signed));
    assert!(
        requests
            .iter()
            .all(|one| one.timestamp.abs_diff(now_s()) < 60)
    );
    assert!(requests.iter().all(|one| one.id.starts_with("msg_")));
    let metrics = ask(&server, "GET /metrics", &[], "").await.body;
    assert!(
        metrics.contains("plenum_webhooks_delivered_total 6"),
        "{metrics}"
    );
}

#[tokio::test]
async fn what_is_not_taken_is_sent_again_and_the_next_waits() {
    for mood in [Mood::Answers(500), Mood::Stalls] {
        let (receiver, config) = Receiver::start(&[mood], config()).await;
        let server = Server::start(&config).await.unwrap();
        Client::join(&server, "ann").await;
        let told = receiver.told("participant_joined").await;
        assert_eq!(
            kinds(&told),
            ["room_started", "room_started", "participant_joined"]
        );
        let requests = receiver.requests();
        assert_eq!(
            (&requests[0].id, &requests[0].body),
            (&requests[1].id, &requests[1].body)
        );
        assert!(requests[1].timestamp >= requests[0].timestamp + 4);
        assert!(requests.iter().all(Request::is_signed));
    }
}

#[tokio::test]
async fn broadcasts_and_recordings_are_told_to_who_asks_for_them() {
    let folder = Folder::new("told");
    let (receiver, mut config) = Receiver::start(&[], recording(&folder)).await;
    config.webhooks.events = vec![
        EventKind::BroadcastStarted,
        EventKind::BroadcastUpdated,
        EventKind::BroadcastEnded,
        EventKind::RecordingStarted,
        EventKind::RecordingReady,
    ];
    let server = Server::start(&config).await.unwrap();
    let api = Api::new(&server);
    let begun = api
        .post("/v1/rooms/r/broadcasts", json!({ "record": true }))
        .await;
    let key = format!("r?token={}", token("obs"));
    let mut encoder = Encoder::publish(rtmp(&server), &key).await.unwrap();
    // It goes on air.
    eventually(
        async || {
            encoder.send().await;
            receiver.told("broadcast_updated").await
        },
        |told| {
            told.iter()
                .any(|one| one["data"]["broadcast"]["onAir"]["identity"] == "obs")
        },
    )
    .await;
    let of = format!(
        "DELETE /v1/rooms/r/broadcasts/{}",
        begun["id"].as_str().unwrap()
    );
    assert_eq!(api.ask(&of, "").await.status, 204);
    let ended = receiver.told("broadcast_ended").await;
    let told = receiver.told("recording_ready").await;
    let of_kind = |kind: &str| {
        let mut all = told.iter().filter(|one| one["type"] == kind);
        let one = all.next().unwrap();
        assert!(all.next().is_none(), "{kind} twice: {told:?}");
        one["data"].clone()
    };
    assert_eq!(of_kind("broadcast_started")["broadcast"]["id"], begun["id"]);
    assert_eq!(
        of_kind("recording_started")["recording"]["id"],
        begun["recording"]
    );
    let ready = of_kind("recording_ready");
    assert_eq!(
        (
            &ready["room"]["name"],
            ready["recording"]["files"][0]["bytes"].is_u64()
        ),
        (&json!("r"), true)
    );
    let last = ended
        .iter()
        .find(|one| one["type"] == "broadcast_ended")
        .unwrap();
    assert_eq!(last["data"]["broadcast"]["ending"], "stopped");
    assert!(
        kinds(&told)
            .iter()
            .all(|kind| !kind.starts_with("room") && !kind.starts_with("track"))
    );
}

#[tokio::test]
async fn tracks_are_told_and_the_end_of_the_server_is_told_still() {
    let (receiver, mut config) = Receiver::start(&[], crate::broadcasts::quick()).await;
    config.webhooks.events = vec![
        EventKind::TrackPublished,
        EventKind::TrackUnpublished,
        EventKind::ParticipantLeft,
        EventKind::RoomFinished,
    ];
    let server = Server::start(&config).await.unwrap();
    let key = format!("r?token={}", token("obs"));
    let mut encoder = Encoder::publish(rtmp(&server), &key).await.unwrap();
    encoder.send().await;
    let published = receiver.told("track_published").await;
    let data = &published[0]["data"];
    assert_eq!(
        (&data["participant"]["identity"], &data["track"]["kind"]),
        (&json!("obs"), &json!("video"))
    );
    server.shutdown().await;
    let told = receiver.told("room_finished").await;
    assert_eq!(
        kinds(&told),
        [
            "track_published",
            "track_unpublished",
            "participant_left",
            "room_finished"
        ]
    );
    assert_eq!(told[1]["data"]["track"]["id"], data["track"]["id"]);
}
