//! Keeps `sdk/src/generated` equal to `message.rs`, and the fixture readable by both sides.
//!
//! `PLENUM_WRITE_GENERATED=1` writes the files instead of comparing them.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::PathBuf;

use signaling::message::{ClientMessage, ServerMessage, generated};

fn sdk_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../sdk/src/generated")
        .join(name)
}

fn keep_equal(name: &str, text: &str) {
    let path = sdk_file(name);
    if std::env::var_os("PLENUM_WRITE_GENERATED").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == text,
        "{name} differs from message.rs; renew it with \
         PLENUM_WRITE_GENERATED=1 cargo test -p plenum-signaling --test generated"
    );
}

#[test]
fn typescript_types_are_those_of_message_rs() {
    keep_equal("protocol.ts", &generated::typescript());
}

#[test]
fn the_json_schema_is_that_of_message_rs() {
    keep_equal("protocol.schema.json", &generated::schema());
}

#[derive(serde::Deserialize)]
struct Fixture {
    direction: String,
    name: String,
    json: serde_json::Value,
}

fn fixtures() -> Vec<Fixture> {
    serde_json::from_str(include_str!("messages.json")).unwrap()
}

#[test]
fn every_fixture_survives_a_round_trip() {
    for Fixture {
        direction,
        name,
        json,
    } in fixtures()
    {
        let text = json.to_string();
        let back = match direction.as_str() {
            "client" => serde_json::to_value(ClientMessage::parse(&text).expect(&name)),
            "server" => {
                serde_json::to_value(serde_json::from_str::<ServerMessage>(&text).expect(&name))
            }
            other => panic!("{name}: no direction {other}"),
        };
        assert_eq!(back.unwrap(), json, "{name}");
    }
}

#[test]
fn the_fixture_has_every_type() {
    let seen: std::collections::HashSet<(String, String)> = fixtures()
        .into_iter()
        .map(|fixture| {
            (
                fixture.direction,
                fixture.json["t"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let schema: serde_json::Value = serde_json::from_str(&generated::schema()).unwrap();
    let defs = &schema["$defs"];
    for (direction, variants) in [
        ("client", &defs["ClientMessage"]["oneOf"]),
        ("server", &defs["ServerMessage"]["anyOf"][0]["oneOf"]),
        ("server", &defs["ServerReply"]["oneOf"]),
    ] {
        for variant in variants.as_array().unwrap() {
            let t = variant["properties"]["t"]["const"].as_str().unwrap();
            assert!(
                seen.contains(&(direction.to_owned(), t.to_owned())),
                "no fixture for {t}"
            );
        }
    }
}
