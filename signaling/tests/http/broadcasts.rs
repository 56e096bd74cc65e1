//! The room API's broadcasts.

use clap::Parser;
use serde_json::{Value, json};
use signaling::auth::{Claims, VideoGrant};
use signaling::cli::{self, Cli};
use signaling::config::Span;
use signaling::{Config, Server};

use crate::client::*;
use crate::native::Client;
use crate::recordings::{Folder, recording};

const HAS_AAC: bool = cfg!(feature = "aac-fdk");

/// Short segments, so that a broadcast can be watched soon.
pub(crate) fn quick() -> Config {
    let mut config = config();
    config.broadcast.rtmp_addr = "127.0.0.1:0".to_owned();
    config.broadcast.segment = Span::from_secs(1);
    config.broadcast.part = Span::from_millis(100);
    config
}

/// A token of someone who moderates one room.
pub(crate) fn moderator(room: &str) -> String {
    let video = VideoGrant {
        room: Some(room.to_owned()),
        room_admin: Some(true),
        ..VideoGrant::default()
    };
    sign(Claims {
        exp: now_s() + 600,
        video,
        ..Claims::default()
    })
}

fn is_broadcasting(told: &Value, is: bool) -> bool {
    told["t"] == "room" && told["patch"]["broadcasting"] == json!(is)
}

#[tokio::test]
async fn a_broadcast_is_begun_shown_changed_and_ended() {
    let server = Server::start(&quick()).await.unwrap();
    let api = Api::with(&server, &moderator("r"));
    let reply = api.ask("POST /v1/rooms/r/broadcasts", "{}").await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let begun = reply.json();
    let id = begun["id"].as_str().unwrap();
    let path = format!("/v1/rooms/r/broadcasts/{id}");
    assert_eq!(reply.header("location"), Some(path.as_str()));
    let expected = [
        ("room", json!("r")),
        ("name", json!("")),
        ("follow", json!("auto")),
        ("onAir", json!({ "video": "card", "reason": "nobody" })),
        ("hls", json!({ "url": "/live/r/index.m3u8", "viewers": 0 })),
        ("targets", json!([])),
    ];
    for (field, value) in expected {
        assert_eq!(begun[field], value, "{begun}");
    }
    let flv = &begun["flv"]["url"];
    assert_eq!(flv.as_str(), HAS_AAC.then_some("/live/r.flv"), "{begun}");
    assert!(begun.get("participant").is_none() && begun.get("recording").is_none());

    // The room was not there: it was opened for it.
    assert_eq!(api.get("/v1/rooms/r").await["participants"], 0);
    eventually(
        async || api.get(&path).await,
        |shown| shown["state"] == "live",
    )
    .await;
    let change = r#"{"follow":"participant","participant":"ann"}"#;
    let changed = api.ask(&format!("PATCH {path}"), change).await;
    assert_eq!(changed.status, 204, "{changed:?}");
    let shown = api.get(&path).await;
    assert_eq!(shown["follow"], "participant");
    assert_eq!(shown["participant"], "ann");

    assert_eq!(api.ask(&format!("DELETE {path}"), "").await.status, 204);
    let ended = eventually(
        async || api.get("/v1/rooms/r/broadcasts").await,
        |list| list["items"][0]["state"] == "ended",
    )
    .await;
    assert_eq!(ended["items"][0]["ending"], "stopped", "{ended}");
    for line in ["DELETE", "PATCH"] {
        let over = api
            .ask(&format!("{line} {path}"), r#"{"follow":"auto"}"#)
            .await;
        assert_eq!((over.status, over.code().as_str()), (409, "conflict"));
    }
    let targets = format!("POST {path}/targets");
    let over = api
        .ask(&targets, r#"{"url":"rtmp://127.0.0.1:9/a/k"}"#)
        .await;
    assert!(over.status >= 400, "{over:?}");
}

#[tokio::test]
async fn several_of_a_room_have_names_of_their_own() {
    let server = Server::start(&quick()).await.unwrap();
    let api = Api::new(&server);
    let main = api.post("/v1/rooms/r/broadcasts", json!({})).await;
    let named = json!({ "name": "screen-2", "follow": "screen" });
    let second = api.post("/v1/rooms/r/broadcasts", named.clone()).await;
    assert_eq!(second["hls"]["url"], "/live/r+screen-2/index.m3u8");
    for body in [json!({}), named.clone()] {
        let taken = api
            .ask("POST /v1/rooms/r/broadcasts", &body.to_string())
            .await;
        assert_eq!((taken.status, taken.code().as_str()), (409, "conflict"));
    }
    // The same name in another room is another's.
    api.post("/v1/rooms/other/broadcasts", named).await;
    let list = api.get("/v1/rooms/r/broadcasts").await;
    let ids: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["id"])
        .collect();
    assert_eq!(ids, [&main["id"], &second["id"]]);
    let foreign = format!(
        "GET /v1/rooms/other/broadcasts/{}",
        main["id"].as_str().unwrap()
    );
    assert_eq!(api.ask(&foreign, "").await.status, 404);
}

#[tokio::test]
async fn bad_broadcasts_are_refused_by_name() {
    let server = Server::start(&quick()).await.unwrap();
    let api = Api::new(&server);
    let begun = api.post("/v1/rooms/r/broadcasts", json!({})).await;
    let of = format!("/v1/rooms/r/broadcasts/{}", begun["id"].as_str().unwrap());
    let new = "POST /v1/rooms/x/broadcasts".to_owned();
    let (patch, targets) = (format!("PATCH {of}"), format!("POST {of}/targets"));
    for (line, body) in [
        (&new, ""),
        (&new, "5"),
        (&new, r#"{"colour":1}"#),
        (&new, r#"{"name":"A b"}"#),
        (&new, r#"{"name":"_recording"}"#),
        (&new, r#"{"name":"a-name-of-more-than-thirty-two-letters"}"#),
        (&new, r#"{"follow":"nobody"}"#),
        (&new, r#"{"follow":"participant"}"#),
        (&new, r#"{"follow":"auto","participant":"ann"}"#),
        (&new, r#"{"hls":false}"#),
        (&new, r#"{"targets":[{"url":"http://host/app/key"}]}"#),
        (&new, r#"{"targets":[{"url":"rtmp://host/app"}]}"#),
        (
            &new,
            r#"{"targets":[{"url":"rtmp://user:secret@host/app/key"}]}"#,
        ),
        (&new, r#"{"targets":[{"key":"k"}]}"#),
        (&patch, "{}"),
        (&patch, r#"{"follow":"participant"}"#),
        (&patch, r#"{"follow":"screen","participant":"ann"}"#),
        (&targets, "{}"),
        (&targets, r#"{"url":"rtmp://host"}"#),
        (&targets, r#"{"url":"rtmp://host/app","key":"a b"}"#),
        (&"POST /v1/rooms/a%20b/broadcasts".to_owned(), "{}"),
        (&"POST /v1/rooms/r+x/broadcasts".to_owned(), "{}"),
    ] {
        let refused = api.ask(line, body).await;
        let said = (refused.status, refused.code());
        assert_eq!(said, (400, "bad_message".to_owned()), "{line} {body}");
    }
    assert_eq!(api.get("/v1/rooms/x/broadcasts").await["items"], json!([]));
    for line in [
        "GET /v1/rooms/r/broadcasts/b_0000000000000001",
        "GET /v1/rooms/r/broadcasts/..%2f..",
        "DELETE /v1/rooms/r/broadcasts/nonsense",
        &format!("DELETE {of}/targets/1"),
        &format!("DELETE {of}/targets/x"),
    ] {
        let refused = api.ask(line, "").await;
        let said = (refused.status, refused.code());
        assert_eq!(said, (404, "not_found".to_owned()), "{line}");
    }
}

#[tokio::test]
async fn only_the_rooms_moderator_may_broadcast() {
    let server = Server::start(&quick()).await.unwrap();
    let begun = Api::new(&server)
        .post("/v1/rooms/r/broadcasts", json!({}))
        .await;
    let of = format!("/v1/rooms/r/broadcasts/{}", begun["id"].as_str().unwrap());
    let lines = [
        "GET /v1/rooms/r/broadcasts".to_owned(),
        "POST /v1/rooms/r/broadcasts".to_owned(),
        format!("GET {of}"),
        format!("PATCH {of}"),
        format!("DELETE {of}"),
        format!("POST {of}/targets"),
        format!("DELETE {of}/targets/1"),
        "GET /v1/rooms/r/recordings".to_owned(),
        "POST /v1/rooms/r/recordings".to_owned(),
    ];
    for (who, token, status) in [
        ("a participant", token("ann"), 403),
        ("another room's moderator", moderator("other"), 403),
        ("nobody", "nonsense".to_owned(), 401),
    ] {
        let api = Api::with(&server, &token);
        for line in &lines {
            assert_eq!(api.ask(line, "{}").await.status, status, "{who}: {line}");
        }
    }
}

#[tokio::test]
async fn as_many_run_as_may_and_have_as_many_targets() {
    let mut config = quick();
    config.broadcast.broadcasts_max = 2;
    let server = Server::start(&config).await.unwrap();
    let api = Api::new(&server);
    let target = |n: usize| json!({ "url": format!("rtmp://127.0.0.1:9/live/secret-{n}") });
    let nine: Vec<_> = (0..9).map(target).collect();
    let reply = api
        .ask(
            "POST /v1/rooms/r/broadcasts",
            &json!({ "targets": nine }).to_string(),
        )
        .await;
    assert_eq!(reply.code(), "limit_exceeded");
    let reply = api
        .ask(
            "POST /v1/rooms/r/broadcasts",
            &json!({ "targets": [target(0)] }).to_string(),
        )
        .await;
    if HAS_AAC {
        assert_eq!(reply.status, 201, "{reply:?}");
        let begun = reply.json();
        let of = format!("/v1/rooms/r/broadcasts/{}", begun["id"].as_str().unwrap());
        // Nobody listens there; the key is shown nowhere.
        let shown = eventually(
            async || api.get(&of).await,
            |shown| shown["targets"][0]["state"] == "waiting",
        )
        .await;
        let text = shown.to_string();
        assert!(
            !text.contains("secret") && text.contains("cannot be reached"),
            "{text}"
        );
        for n in 2..=8 {
            let added = api.post(&format!("{of}/targets"), target(n)).await;
            assert_eq!(added["id"], n);
        }
        let ninth = api
            .ask(&format!("POST {of}/targets"), &target(9).to_string())
            .await;
        assert_eq!(ninth.code(), "limit_exceeded");
        let removed = api.ask(&format!("DELETE {of}/targets/3"), "").await;
        assert_eq!(removed.status, 204);
        assert_eq!(api.get(&of).await["targets"].as_array().unwrap().len(), 7);
    } else {
        // Never sent silent.
        assert_eq!(reply.code(), "aac_unavailable");
        api.post("/v1/rooms/r/broadcasts", json!({})).await;
    }
    api.post("/v1/rooms/second/broadcasts", json!({})).await;
    let third = api.ask("POST /v1/rooms/third/broadcasts", "{}").await;
    assert_eq!(third.code(), "limit_exceeded");
}

#[tokio::test]
async fn a_room_is_told_and_stays_while_it_is_broadcast() {
    let mut config = quick();
    config.rooms.departure_timeout = Span::from_secs(0);
    let server = Server::start(&config).await.unwrap();
    let api = Api::new(&server);
    let (mut ann, welcome) = Client::join(&server, "ann").await;
    assert_eq!(welcome["room"]["broadcasting"], false);
    let begun = api.post("/v1/rooms/r/broadcasts", json!({})).await;
    ann.hear_of(|told| is_broadcasting(told, true)).await;
    let (mut bob, welcome) = Client::join(&server, "bob").await;
    assert_eq!(welcome["room"]["broadcasting"], true);
    let room = api.get("/v1/rooms/r").await["id"].clone();

    for client in [&mut ann, &mut bob] {
        client.say(&json!({ "t": "leave" })).await;
    }
    eventually(
        async || api.get("/v1/rooms/r").await,
        |room| room["participants"] == 0,
    )
    .await;
    // When one that became empty later is over, this one would be, had nothing kept it.
    let witness = api.ask("PUT /v1/rooms/w", r#"{"emptyTimeout":1}"#).await;
    assert_eq!(witness.status, 201);
    eventually(
        async || api.ask("GET /v1/rooms/w", "").await.status,
        |status| *status == 404,
    )
    .await;
    let (mut ann, _) = Client::join(&server, "ann").await;
    assert_eq!(api.get("/v1/rooms/r").await["id"], room);
    let of = format!(
        "DELETE /v1/rooms/r/broadcasts/{}",
        begun["id"].as_str().unwrap()
    );
    assert_eq!(api.ask(&of, "").await.status, 204);
    ann.hear_of(|told| is_broadcasting(told, false)).await;
    ann.say(&json!({ "t": "leave" })).await;
    eventually(
        async || api.ask("GET /v1/rooms/r", "").await.status,
        |status| *status == 404,
    )
    .await;
}

#[tokio::test]
async fn a_broadcast_without_publishers_ends_after_a_while() {
    let mut config = quick();
    config.broadcast.empty_timeout = Span::from_secs(1);
    config.rooms.departure_timeout = Span::from_secs(0);
    let server = Server::start(&config).await.unwrap();
    let api = Api::new(&server);
    api.post("/v1/rooms/r/broadcasts", json!({})).await;
    let ended = eventually(
        async || api.get("/v1/rooms/r/broadcasts").await["items"][0].clone(),
        |one| one["state"] == "ended",
    )
    .await;
    assert_eq!(ended["ending"], "empty");
    // Its name is free again.
    api.post("/v1/rooms/r/broadcasts", json!({})).await;
}

#[tokio::test]
async fn a_broadcast_ends_with_its_room_and_its_playlists_say_so() {
    let server = Server::start(&quick()).await.unwrap();
    let api = Api::new(&server);
    let begun = api.post("/v1/rooms/r/broadcasts", json!({})).await;
    // Held until there is something to play.
    let index = ask(&server, "GET /live/r/index.m3u8", &[], "").await;
    assert_eq!(index.status, 200, "{index:?}");
    let media = index
        .body
        .lines()
        .find(|line| line.contains(".m3u8") && !line.starts_with('#'));
    let media = format!("GET /live/r/{}", media.unwrap());
    let running = ask(&server, &media, &[], "").await;
    assert!(
        running.body.contains("#EXTINF") || running.body.contains("#EXT-X-PART"),
        "{running:?}"
    );
    assert!(!running.body.contains("#EXT-X-ENDLIST"));

    assert_eq!(api.ask("DELETE /v1/rooms/r", "").await.status, 204);
    eventually(
        async || ask(&server, &media, &[], "").await.body,
        |playlist| playlist.contains("#EXT-X-ENDLIST"),
    )
    .await;
    let of = format!("/v1/rooms/r/broadcasts/{}", begun["id"].as_str().unwrap());
    assert_eq!(api.get(&of).await["ending"], "room_closed");
}

#[tokio::test]
async fn the_command_line_begins_and_ends_them() {
    let folder = Folder::new("cli");
    let mut config = recording(&folder);
    let server = Server::start(&config).await.unwrap();
    config.http.addr = server.addr();
    let file = folder.path().join("plenum.toml");
    std::fs::write(
        &file,
        format!(
            "[http]\naddr = \"{}\"\n[auth.keys]\napp = \"{SECRET}\"\n",
            server.addr()
        ),
    )
    .unwrap();
    let run = async |words: &str| {
        let mut line: Vec<_> = ["plenum", "broadcast"].map(str::to_owned).to_vec();
        line.extend(words.split(' ').map(str::to_owned));
        line.extend(["--config".to_owned(), file.to_str().unwrap().to_owned()]);
        let cli = Cli::try_parse_from(line).unwrap();
        let run = tokio::task::spawn_blocking(move || cli::run(cli));
        run.await.unwrap().map_err(|error| cli::explain(&error))
    };
    let api = Api::new(&server);
    let states = async || {
        let list = api.get("/v1/rooms/r/broadcasts").await;
        let all = list["items"].as_array().unwrap().iter();
        all.map(|one| one["state"] == "ended").collect::<Vec<_>>()
    };
    assert_eq!(run("ls r").await, Ok(()));
    assert_eq!(
        run("stop r").await.unwrap_err(),
        "the room has no broadcast"
    );
    run("start r --participant ann --record").await.unwrap();
    let begun = api.get("/v1/rooms/r/broadcasts").await["items"][0].clone();
    assert_eq!(
        (&begun["follow"], &begun["participant"]),
        (&json!("participant"), &json!("ann"))
    );
    assert!(begun["recording"].is_string());
    assert!(
        run("start r")
            .await
            .unwrap_err()
            .contains("of this name already")
    );
    run("start r --name two --json").await.unwrap();
    assert!(run("stop r").await.unwrap_err().contains("--all"));
    assert!(run("stop r b_0000000000000001").await.is_err());
    let stop = format!("stop r {}", begun["id"].as_str().unwrap());
    run(&stop).await.unwrap();
    eventually(states, |ended| *ended == [true, false]).await;
    assert_eq!(run("ls r --json").await, Ok(()));
    run("stop r --all").await.unwrap();
    eventually(states, |ended| *ended == [true, true]).await;
    assert!(run("start a/b").await.is_err());
}
