//! Encoders that publish into rooms over RTMP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bridge::card::Card;
use bridge::media::VideoFrame;
use bridge::rtmp::{Push, PushError, PushEvent, Takes, Target};
use serde_json::json;
use signaling::Server;
use signaling::config::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::broadcasts::quick;
use crate::client::*;
use crate::native::Client;

/// An encoder without sound.
pub(crate) struct Encoder {
    push: Push,
    stream: TcpStream,
    card: Card,
    sent: u64,
}

impl Encoder {
    /// Publishes with this stream key.
    pub(crate) async fn publish(at: SocketAddr, key: &str) -> Result<Self, PushError> {
        let target = Target::new(&format!("rtmp://{at}/live"), key).unwrap();
        let push = Push::new(Instant::now(), target, (true, None), Takes::default(), 7);
        let stream = TcpStream::connect(at).await.unwrap();
        let card = Card::new((320, 180), "test", 10).unwrap();
        let mut encoder = Self {
            push,
            stream,
            card,
            sent: 0,
        };
        match encoder.until_told().await {
            PushEvent::Live => Ok(encoder),
            PushEvent::Ended(error) => Err(error),
        }
    }

    async fn flush(&mut self) {
        while let Some(bytes) = self.push.poll_transmit() {
            // A server that has closed already has said why.
            self.stream.write_all(&bytes).await.ok();
        }
    }

    async fn until_told(&mut self) -> PushEvent {
        let mut buffer = vec![0; 4096];
        loop {
            self.flush().await;
            if let Some(event) = self.push.poll_event() {
                return event;
            }
            let read = timeout(Duration::from_secs(20), self.stream.read(&mut buffer))
                .await
                .unwrap();
            match read {
                Ok(0) | Err(_) => return PushEvent::Ended(PushError::Closed),
                Ok(count) => self.push.handle_bytes(buffer.get(..count).unwrap()),
            }
        }
    }

    /// Sends a second of pictures.
    pub(crate) async fn send(&mut self) {
        for _ in 0..10 {
            let (is_key, data) = self.card.frame(self.sent);
            let at_us = i64::try_from(self.sent).unwrap() * 100_000;
            self.sent += 1;
            let config = self.card.config();
            self.push.send_video(&VideoFrame {
                config,
                at_us,
                is_key,
                data,
            });
        }
        self.flush().await;
    }
}

pub(crate) fn rtmp(server: &Server) -> SocketAddr {
    *server.rtmp_addrs().first().unwrap()
}

#[tokio::test]
async fn an_encoder_is_a_participant_that_publishes_and_leaves() {
    let mut config = quick();
    config.broadcast.publish_grace = Span::from_millis(200);
    let server = Server::start(&config).await.unwrap();
    let (mut ann, _) = Client::join(&server, "ann").await;
    let key = format!("r?token={}", token("obs"));
    let mut encoder = Encoder::publish(rtmp(&server), &key).await.unwrap();
    ann.hear_of(|told| told["t"] == "joined" && told["p"]["identity"] == "obs")
        .await;
    encoder.send().await;
    let published = ann.hear_of(|told| told["t"] == "published").await;
    let track = &published["track"];
    assert_eq!(
        (&track["kind"], &track["codec"]),
        (&json!("video"), &json!("h264")),
        "{published}"
    );
    drop(encoder);
    ann.hear_of(|told| told["t"] == "left").await;
}

#[tokio::test]
async fn an_encoder_that_comes_back_in_time_has_its_place_still() {
    let server = Server::start(&quick()).await.unwrap();
    let api = Api::new(&server);
    let key = format!("r?token={}", token("obs"));
    let who = async || api.get("/v1/rooms/r/participants/obs").await;
    let mut encoder = Encoder::publish(rtmp(&server), &key).await.unwrap();
    encoder.send().await;
    let first = eventually(who, |who| who["tracks"][0]["kind"] == "video").await;
    drop(encoder);
    let mut encoder = eventually(
        async || {
            Encoder::publish(rtmp(&server), &key)
                .await
                .ok()
                .map(|encoder| Box::new(Some(encoder)))
        },
        Option::is_some,
    )
    .await
    .and_then(|encoder| *encoder)
    .unwrap();
    encoder.send().await;
    let again = who().await;
    assert_eq!(
        (&again["id"], &again["tracks"][0]["id"]),
        (&first["id"], &first["tracks"][0]["id"])
    );
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

#[tokio::test]
async fn one_publishes_with_an_identity_and_others_beside_it() {
    let server = Server::start(&quick()).await.unwrap();
    let key = |identity: &str| format!("r?token={}", token(identity));
    let _first = Encoder::publish(rtmp(&server), &key("obs")).await.unwrap();
    let _other = Encoder::publish(rtmp(&server), &key("other"))
        .await
        .unwrap();
    let second = Encoder::publish(rtmp(&server), &key("obs")).await;
    let error = second.unwrap_err().to_string();
    assert!(
        error.contains("publishes with this token's identity already"),
        "{error}"
    );
    let everyone = Api::new(&server).get("/v1/rooms/r/participants").await;
    let everyone = everyone["items"].as_array().unwrap();
    let names: Vec<_> = everyone.iter().map(|one| &one["identity"]).collect();
    assert_eq!(names, ["obs", "other"]);
}

#[tokio::test]
async fn who_may_not_publish_is_refused_before_any_media() {
    let server = Server::start(&quick()).await.unwrap();
    let mute = {
        let mut claims = claims("ann");
        claims.video.can_publish = Some(false);
        sign(claims)
    };
    let mut tokens: Vec<_> = bad_tokens()
        .into_iter()
        .map(|(name, token, _)| (name, token))
        .collect();
    tokens.push(("not for publishing", mute));
    for (name, token) in tokens {
        let refused = Encoder::publish(rtmp(&server), &format!("r?token={token}")).await;
        let error = refused.expect_err(name);
        assert!(
            matches!(error, PushError::Unauthorised(_)),
            "{name}: {error}"
        );
        assert!(!error.to_string().contains(&token), "{name}: {error}");
    }
    let good = token("ann");
    for key in [
        "r".to_owned(),
        format!("other?token={good}"),
        format!("..?token={good}"),
    ] {
        let refused = Encoder::publish(rtmp(&server), &key).await;
        assert!(refused.is_err(), "{key}");
    }
    assert_eq!(
        Api::new(&server).ask("GET /v1/rooms/r", "").await.status,
        404
    );
}

#[tokio::test]
async fn an_encoder_that_is_removed_is_cut_off() {
    let server = Server::start(&quick()).await.unwrap();
    let api = Api::new(&server);
    let key = format!("r?token={}", token("obs"));
    let mut encoder = Encoder::publish(rtmp(&server), &key).await.unwrap();
    encoder.send().await;
    eventually(
        async || api.get("/v1/rooms/r/participants/obs").await,
        |who| who["tracks"][0]["kind"] == "video",
    )
    .await;
    let removed = api.ask("DELETE /v1/rooms/r/participants/obs", "").await;
    assert_eq!(removed.status, 204);
    let PushEvent::Ended(error) = encoder.until_told().await else {
        panic!("it is live again");
    };
    assert!(
        error.to_string().contains("removed from the room"),
        "{error}"
    );
}

#[tokio::test]
async fn what_an_encoder_publishes_is_on_air() {
    let server = Server::start(&quick()).await.unwrap();
    let api = Api::new(&server);
    let begun = api.post("/v1/rooms/r/broadcasts", json!({})).await;
    let of = format!("/v1/rooms/r/broadcasts/{}", begun["id"].as_str().unwrap());
    let key = format!("r?token={}", token("obs"));
    let mut encoder = Encoder::publish(rtmp(&server), &key).await.unwrap();
    let on_air = eventually(
        async || {
            encoder.send().await;
            api.get(&of).await["onAir"].clone()
        },
        |on_air| on_air["video"] == "picture",
    )
    .await;
    assert_eq!(on_air["identity"], "obs");
}
