//! TURN servers and their credentials: by WHIP's links and by the room API.

use serde_json::Value;
use signaling::Server;
use signaling::config::{Secret, TurnMode};

use crate::client::{ask, bearer, config, server, token, token_of_admin};
use crate::whip::offer;

async fn ice_servers(server: &Server, token: &str) -> (u16, Value) {
    let auth = bearer(token);
    let headers = [("Authorization", auth.as_str())];
    let reply = ask(server, "GET /v1/ice-servers", &headers, "").await;
    (reply.status, reply.json())
}

#[tokio::test]
async fn whoever_is_in_the_room_gets_servers_and_nobody_else() {
    let server = server().await;
    let ann = token("ann");
    assert_eq!(ice_servers(&server, &ann).await.0, 404);
    assert_eq!(ice_servers(&server, "nonsense").await.0, 401);
    let auth = bearer(&ann);
    let headers = [
        ("Authorization", auth.as_str()),
        ("Content-Type", "application/sdp"),
    ];
    let created = ask(&server, "POST /whip/r", &headers, &offer("sendonly")).await;
    let links = created.headers("link");
    let is_complete = |link: &&str| {
        link.starts_with("<turn:")
            && link.contains("; rel=\"ice-server\"; username=\"")
            && link.contains(":ann:")
            && link.ends_with("; credential-type=\"password\"")
    };
    assert!(
        links.len() >= 2 && links.iter().all(is_complete),
        "{links:?}"
    );
    let (status, body) = ice_servers(&server, &ann).await;
    assert_eq!(status, 200);
    let entry = &body["iceServers"][0];
    assert!(entry["urls"][0].as_str().unwrap().starts_with("turn:"));
    assert!(entry["username"].as_str().unwrap().contains(":ann:"));
    let restart = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdefghijkl\r\n";
    let headers = [
        ("Content-Type", "application/trickle-ice-sdpfrag"),
        ("If-Match", "*"),
    ];
    let patch = format!("PATCH {}", created.header("location").unwrap());
    let restarted = ask(&server, &patch, &headers, restart).await;
    assert_eq!(restarted.headers("link").len(), links.len());
}

#[tokio::test]
async fn in_mode_relay_an_administrator_gets_credentials_for_anyone() {
    let admin = token_of_admin("bob");
    let closed = server().await;
    assert_eq!(ice_servers(&closed, &admin).await.0, 404);
    let mut config = config();
    config.turn.mode = TurnMode::Relay;
    config.turn.shared_secret = Secret::new("north");
    let open = Server::start(&config).await.unwrap();
    let (status, body) = ice_servers(&open, &admin).await;
    assert_eq!(status, 200);
    let username = body["iceServers"][0]["username"].as_str().unwrap();
    assert!(
        username.ends_with(":bob") && username.split(':').count() == 2,
        "{username}"
    );
    assert_eq!(
        ice_servers(&open, &token("ann")).await.0,
        404,
        "not an administrator"
    );
}

#[tokio::test]
async fn without_turn_nobody_is_told_of_any() {
    let mut config = config();
    config.turn.mode = TurnMode::Off;
    let server = Server::start(&config).await.unwrap();
    let auth = bearer(&token("ann"));
    let headers = [
        ("Authorization", auth.as_str()),
        ("Content-Type", "application/sdp"),
    ];
    let created = ask(&server, "POST /whip/r", &headers, &offer("sendonly")).await;
    assert_eq!((created.status, created.headers("link").len()), (201, 0));
    assert_eq!(
        ice_servers(&server, &token("ann")).await.1["iceServers"],
        Value::Array(Vec::new())
    );
}
