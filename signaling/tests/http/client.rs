//! A server on ports of its own, and clients that can misbehave.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use signaling::auth::{self, Claims, PlenumClaim, VideoGrant};
use signaling::config::Secret;
use signaling::{Config, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The secret of the only key.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.http.addr = SocketAddr::from(([127, 0, 0, 1], 0));
    (
        config.media.udp_port,
        config.media.tcp_port,
        config.media.shards,
    ) = (0, 0, 1);
    config.turn.port = 0;
    config
        .auth
        .keys
        .insert("app".to_owned(), Secret::new(SECRET));
    config
}

pub(crate) async fn server() -> Server {
    Server::start(&config()).await.unwrap()
}

pub(crate) fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

pub(crate) fn sign(claims: Claims) -> String {
    auth::sign(&config().auth, "app", claims).unwrap()
}

/// A token to join the room `r`.
pub(crate) fn token(identity: &str) -> String {
    sign(claims(identity))
}

pub(crate) fn claims(identity: &str) -> Claims {
    let video = VideoGrant {
        room: Some("r".to_owned()),
        room_join: Some(true),
        ..VideoGrant::default()
    };
    Claims {
        sub: Some(identity.to_owned()),
        exp: now_s() + 600,
        video,
        ..Claims::default()
    }
}

pub(crate) fn guest_token() -> String {
    let plenum = Some(PlenumClaim { guest: true });
    sign(Claims {
        sub: None,
        plenum,
        ..claims("")
    })
}

/// A token of someone who moderates all rooms and joins none.
pub(crate) fn token_of_admin(identity: &str) -> String {
    let video = VideoGrant {
        room_admin: Some(true),
        ..VideoGrant::default()
    };
    sign(Claims {
        video,
        ..claims(identity)
    })
}

/// A token for the room API.
pub(crate) fn admin_token() -> String {
    let yes = Some(true);
    let video = VideoGrant {
        room_admin: yes,
        room_create: yes,
        room_list: yes,
        ..VideoGrant::default()
    };
    sign(Claims {
        exp: now_s() + 600,
        video,
        ..Claims::default()
    })
}

/// Tokens that have to be refused, each with its code.
pub(crate) fn bad_tokens() -> Vec<(&'static str, String, &'static str)> {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let good = json!({ "iss": "app", "sub": "ann", "exp": now_s() + 600,
        "video": { "room": "r", "roomJoin": true } });
    let signature = token("ann").rsplit_once('.').unwrap().1.to_owned();
    let unsigned = format!("{}.{}.", part(json!({ "alg": "none" })), part(good.clone()));
    let wrong = format!(
        "{}.{}.{signature}",
        part(json!({ "alg": "RS256" })),
        part(good)
    );
    let foreign = {
        let mut keys = config().auth;
        keys.keys.insert(
            "app".to_owned(),
            Secret::new("another secret of 32 bytes or more"),
        );
        auth::sign(&keys, "app", claims("ann")).unwrap()
    };
    vec![
        (
            "expired",
            sign(Claims {
                exp: now_s() - 60,
                ..claims("ann")
            }),
            "token_expired",
        ),
        ("unsigned", unsigned, "unauthorized"),
        ("wrong algorithm", wrong, "unauthorized"),
        ("foreign key", foreign, "unauthorized"),
        ("no token", "nonsense".to_owned(), "unauthorized"),
    ]
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// All values of a header.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let named = lines.filter(|(given, _)| given.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut named = lines.filter(|(given, _)| given.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.trim())
    }

    /// The code of a problem, which has to be in proper form.
    pub(crate) fn code(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        problem["code"].as_str().unwrap().to_owned()
    }
}

/// Sends one request; `headers` in lines.
pub(crate) async fn ask(
    server: &Server,
    line: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    let mut request = format!(
        "{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
        server.addr()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    raw(server, request.as_bytes()).await
}

pub(crate) async fn raw(server: &Server, request: &[u8]) -> Reply {
    let (head, body) = exchange(server, request).await;
    reply(head, String::from_utf8(body).unwrap())
}

/// Fetches something that need not be text.
pub(crate) async fn fetch(
    server: &Server,
    path: &str,
    headers: &[(&str, &str)],
) -> (Reply, Vec<u8>) {
    let mut request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n", server.addr());
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let (head, body) = exchange(server, format!("{request}\r\n").as_bytes()).await;
    (reply(head, String::new()), body)
}

fn reply(head: String, body: String) -> Reply {
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    Reply { status, head, body }
}

async fn exchange(server: &Server, request: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    // A reset after the answer is as good as an end.
    timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes))
        .await
        .unwrap()
        .ok();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let body = end.map(|end| bytes.split_off(end + 4)).unwrap_or_default();
    (String::from_utf8(bytes).unwrap(), body)
}

/// Asks again and again until the answer is as it should be; what it was.
pub(crate) async fn eventually<T: std::fmt::Debug>(
    mut ask: impl AsyncFnMut() -> T,
    is_right: impl Fn(&T) -> bool,
) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let answer = ask().await;
        if is_right(&answer) {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "still {answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The room API, with a token.
pub(crate) struct Api<'a> {
    pub(crate) server: &'a Server,
    auth: String,
}

impl<'a> Api<'a> {
    /// As whoever may do everything.
    pub(crate) fn new(server: &'a Server) -> Self {
        Self::with(server, &admin_token())
    }

    pub(crate) fn with(server: &'a Server, token: &str) -> Self {
        let auth = bearer(token);
        Self { server, auth }
    }

    pub(crate) async fn ask(&self, line: &str, body: &str) -> Reply {
        let headers = [
            ("Authorization", self.auth.as_str()),
            ("Content-Type", "application/json"),
        ];
        ask(self.server, line, &headers, body).await
    }

    /// What is at a path.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let reply = self.ask(&format!("GET {path}"), "").await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    }

    /// Makes something; it.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let reply = self.ask(&format!("POST {path}"), &body.to_string()).await;
        assert_eq!(reply.status, 201, "{path}: {reply:?}");
        reply.json()
    }

    pub(crate) async fn fetch(&self, path: &str, range: Option<&str>) -> (Reply, Vec<u8>) {
        let mut headers = vec![("Authorization", self.auth.as_str())];
        headers.extend(range.map(|range| ("Range", range)));
        fetch(self.server, path, &headers).await
    }
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}
