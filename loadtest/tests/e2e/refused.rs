//! Bad tokens, bad messages, bad offers: each gets its clear error, and nobody else notices.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use loadtest::client::PATIENCE;
use loadtest::signal::{Frame, Socket};
use loadtest::token::{Key, seconds_from_now};
use loadtest::{JoinOptions, Participant, PeerOptions, TrackOptions};
use serde_json::{Value, json};

use super::stage::{ROOM, Stage, refusal};

/// Says hello, and returns the error's code and the close code.
async fn hello(stage: &Stage, hello: Value) -> Result<(String, Option<u16>)> {
    let mut socket = Socket::open(stage.addr).await?;
    socket.send(&hello).await?;
    ending(&mut socket).await
}

async fn ending(socket: &mut Socket) -> Result<(String, Option<u16>)> {
    let mut code = String::new();
    loop {
        match socket.next_within(PATIENCE).await? {
            Frame::Closed(close) => return Ok((code, close)),
            frame if frame.kind() == "err" => code = frame.code().unwrap_or_default().to_owned(),
            frame if frame.kind() == "bye" => {}
            other => bail!("instead of an error: {other:?}"),
        }
    }
}

fn with_token(token: &str) -> Value {
    json!({ "t": "hello", "v": [1], "token": token })
}

/// A bad token: what is wrong with it, the token, the code and the close code it must get.
type BadToken = (&'static str, String, &'static str, u16);

/// Tokens that a wrong hand signed, or none.
fn badly_signed(key: &Key) -> Result<Vec<BadToken>> {
    let claims = json!({ "iss": key.id, "sub": "eve", "exp": seconds_from_now(600),
        "video": { "room": ROOM, "roomJoin": true } });
    let good = key.sign(&claims)?;
    let mut parts = good.split('.');
    let (header, body) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    // {"alg":"none","typ":"JWT"}
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let hs512 = jsonwebtoken::encode(
        &jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS512),
        &claims,
        &jsonwebtoken::EncodingKey::from_secret(key.secret.as_bytes()),
    )?;
    let stranger = Key {
        secret: "another secret, as long as need be".to_owned(),
        ..key.clone()
    };
    let mut of_nobody = claims.clone();
    of_nobody["iss"] = json!("nobody");
    let refused = [
        ("unsigned", format!("{header}.{body}.")),
        ("algorithm none", format!("{none}.{body}.")),
        ("another algorithm", hs512),
        ("another secret", stranger.sign(&claims)?),
        ("an unknown key", key.sign(&of_nobody)?),
        ("a mistyped token", good.replacen('e', "f", 1)),
        ("nothing at all", String::new()),
    ];
    Ok(refused
        .into_iter()
        .map(|(what, token)| (what, token, "unauthorized", 4001))
        .collect())
}

/// Rightly signed tokens whose claims are not good enough.
fn badly_claimed(key: &Key) -> Result<Vec<BadToken>> {
    let later = seconds_from_now(600);
    let video = json!({ "room": ROOM, "roomJoin": true });
    let cases = [
        (
            "expired",
            json!({ "sub": "eve", "exp": seconds_from_now(-300), "video": video }),
            "token_expired",
            4001,
        ),
        (
            "not valid yet",
            json!({ "sub": "eve", "exp": later, "nbf": seconds_from_now(300),
            "video": video }),
            "unauthorized",
            4001,
        ),
        (
            "an expiry that is text",
            json!({ "sub": "eve", "exp": "tomorrow", "video": video }),
            "unauthorized",
            4001,
        ),
        (
            "no expiry",
            json!({ "sub": "eve", "video": video }),
            "unauthorized",
            4001,
        ),
        (
            "no name",
            json!({ "exp": later, "video": video }),
            "unauthorized",
            4001,
        ),
        (
            "a mistyped grant",
            json!({ "sub": "eve", "exp": later,
            "video": { "room": ROOM, "roomJoin": "yes" } }),
            "unauthorized",
            4001,
        ),
        (
            "no right to join",
            json!({ "sub": "eve", "exp": later, "video": { "room": ROOM } }),
            "forbidden",
            4003,
        ),
    ];
    let sign = |(what, claims, code, close)| Ok((what, key.sign(&claims)?, code, close));
    cases.into_iter().map(sign).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_are_refused() -> Result<()> {
    let stage = Stage::open().await?;
    let bystanders = stage.bystanders().await?;
    for (what, token, code, close) in badly_signed(&stage.key)?
        .into_iter()
        .chain(badly_claimed(&stage.key)?)
    {
        let (said, closed) = hello(&stage, with_token(&token)).await?;
        ensure!(
            said == code && closed == Some(close),
            "{what}: {said} {closed:?}"
        );
    }
    ensure!(
        bystanders
            .one
            .room
            .read(|room| room.member("eve").is_none())
    );
    bystanders.undisturbed().await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_first_frames_are_refused() -> Result<()> {
    let stage = Stage::open().await?;
    let bystanders = stage.bystanders().await?;
    let token = stage.key.join(ROOM, "eve")?;
    let cases = [
        (
            "broken JSON",
            "{\"t\":\"hel".to_owned(),
            Some("bad_message"),
        ),
        ("no object", "[1,2,3]".to_owned(), Some("bad_message")),
        (
            "no hello",
            json!({ "t": "ping", "ts": 1 }).to_string(),
            None,
        ),
        ("deep nesting", "[".repeat(100_000), Some("bad_message")),
    ];
    for (what, text, code) in cases {
        let mut socket = Socket::open(stage.addr).await?;
        socket.send_text(text).await?;
        let (said, closed) = ending(&mut socket).await?;
        ensure!(
            code.is_none_or(|code| code == said) && closed.is_some(),
            "{what}: {said} {closed:?}"
        );
    }
    let future = json!({ "t": "hello", "v": [9], "token": token });
    let (said, closed) = hello(&stage, future).await?;
    ensure!(
        said == "unsupported_version" && closed == Some(4006),
        "{said} {closed:?}"
    );
    let mut socket = Socket::open(stage.addr).await?;
    let closed = match socket.send_text("x".repeat(2 << 20)).await {
        Ok(()) => ending(&mut socket).await?.1,
        Err(_) => ending(&mut socket)
            .await
            .map(|(_, closed)| closed)
            .unwrap_or_default(),
    };
    ensure!(
        matches!(closed, Some(4013 | 1009) | None),
        "oversized: {closed:?}"
    );
    bystanders.undisturbed().await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_survives_its_own_bad_messages() -> Result<()> {
    let stage = Stage::open().await?;
    let bystanders = stage.bystanders().await?;
    let eve = stage.join_talking("eve").await?;
    let cases = [
        (json!({ "t": "make_coffee" }), "unknown_type"),
        (
            json!({ "t": "subscribe", "set": "all of it" }),
            "bad_message",
        ),
        (
            json!({ "t": "unpublish", "track": "t_ffffffffffff" }),
            "not_found",
        ),
        (json!({ "t": "offer", "sdp": "this is no SDP" }), "bad_sdp"),
        (json!({ "t": "offer", "sdpz": "AAAA" }), "bad_sdp"),
        (
            json!({ "t": "offer", "sdp": many_sections() }),
            "limit_exceeded",
        ),
    ];
    for (message, code) in cases {
        let what = message.to_string().chars().take(80).collect::<String>();
        let said = refusal(eve.request(message).await)?;
        ensure!(
            said == code || code == "bad_sdp" && said == "bad_message",
            "{what}: {said}"
        );
    }
    let others = bystanders.other.own_track(loadtest::Source::Camera)?;
    let foreign = json!({ "t": "track", "track": others, "muted": true });
    let said = refusal(eve.request(foreign).await)?;
    ensure!(
        matches!(said.as_str(), "forbidden" | "not_found"),
        "another's track: {said}"
    );
    eve.hears(bystanders.one.number, 50).await?;
    bystanders.one.hears(eve.number, 50).await?;
    bystanders.undisturbed().await?;
    stage.close().await;
    Ok(())
}

/// An offer of 10,000 sections, small enough for one frame.
fn many_sections() -> String {
    let head = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";
    format!("{head}{}", "m=audio 9 RTP/AVP 0\r\n".repeat(10_000))
}

/// What is wrong with an offer, how it comes to be, the code it must get.
type BadOffer = (&'static str, fn(String) -> String, &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn bad_offers_are_refused() -> Result<()> {
    let stage = Stage::open().await?;
    let bystanders = stage.bystanders().await?;
    let twice = |sdp: String| sdp.replacen("a=mid:1\r\n", "a=mid:0\r\n", 1);
    let unknown = |sdp: String| {
        sdp.replace("VP8/90000", "FOO/90000")
            .replace("H264/90000", "BAR/90000")
            .replace("AV1/90000", "QUX/90000")
            .replace("opus/48000", "baz/48000")
    };
    let keyless = |sdp: String| {
        let kept = sdp
            .lines()
            .filter(|line| !line.starts_with("a=fingerprint"));
        kept.map(|line| format!("{line}\r\n")).collect()
    };
    let cases: [BadOffer; 4] = [
        ("duplicate mids", twice, "bad_sdp"),
        ("unknown codecs", unknown, "codec_unsupported"),
        ("no fingerprint", keyless, "bad_sdp"),
        ("10,000 sections", |_| many_sections(), "limit_exceeded"),
    ];
    for (what, alter, code) in cases {
        let peer = PeerOptions {
            publish: vec![TrackOptions::camera(), TrackOptions::microphone()],
            data_channels: false,
            ..PeerOptions::default()
        };
        let options = JoinOptions {
            peer,
            alter_offer: Some(alter),
            ..JoinOptions::default()
        };
        let token = stage.key.join(ROOM, "eve")?;
        let said = refusal(Participant::join(stage.addr, &token, "eve", options).await)?;
        ensure!(said == code, "{what}: {said}");
    }
    bystanders.undisturbed().await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_without_the_grant_is_refused_for_each_track() -> Result<()> {
    let stage = Stage::open().await?;
    let bob = stage.join_watching("bob").await?;
    let grants = json!({ "canPublishSources": ["microphone"] });
    let token = stage.key.join_with(ROOM, "ann", grants)?;
    // The refused section is not the first: `webrtc` looks for candidates in active sections only.
    let publish = vec![TrackOptions::microphone(), TrackOptions::camera()];
    let options = JoinOptions::publishing(publish);
    let ann = Participant::join(stage.addr, &token, "ann", options).await?;
    ensure!(ann.own.contains_key(&loadtest::Source::Microphone));
    ensure!(
        !ann.own.contains_key(&loadtest::Source::Camera),
        "{:?}",
        ann.own
    );
    super::stage::sees(&bob, &ann, loadtest::Source::Microphone, 50).await?;
    ensure!(bob.room.read(|room| room.track("ann", "camera").is_none()));
    ensure!(bob.peer.media.read(|media| media.receptions.len()) == 1);
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_shown_out() -> Result<()> {
    let stage = Stage::open().await?;
    let mut socket = Socket::open(stage.addr).await?;
    let frame = socket
        .next_within(PATIENCE + Duration::from_secs(5))
        .await?;
    let closed = match frame {
        Frame::Closed(code) => code,
        Frame::Message(_) => ending(&mut socket).await?.1,
    };
    ensure!(closed == Some(4008), "{closed:?}");
    stage.close().await;
    Ok(())
}
