//! The doctor's visits to servers in this process, with real packets on loopback.

use std::net::{IpAddr, SocketAddr};

use crate::config::{Secret, TurnMode};
use crate::http::fixture::{Folder, within};
use crate::{Config, Server};

use super::examination::Examination;
use super::report::{Check, Status};
use super::web::Url;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn config() -> Config {
    let mut config = Config::default();
    config.http.addr = SocketAddr::from(([127, 0, 0, 1], 0));
    (config.media.udp_port, config.media.tcp_port) = (0, 0);
    config.turn.port = 0;
    config.media.shards = 2;
    config.media.advertise = vec![IpAddr::from([127, 0, 0, 1])];
    let key = Secret::new(SECRET);
    config.auth.keys.insert("app".to_owned(), key);
    config
}

/// What a visit finds, with this configuration.
async fn visit(config: &Config, url: Option<String>) -> Vec<Check> {
    let config = config.clone();
    let look = move || {
        let mut examination = Examination::new(&config).unwrap();
        match url {
            None => examination.look_from_here(None).unwrap(),
            Some(url) => {
                let url = Url::parse(&url).unwrap();
                examination.look_from_outside(url, None);
            }
        }
        examination.report.checks().to_vec()
    };
    within(tokio::task::spawn_blocking(look)).await.unwrap()
}

/// Starts a server and visits it; `change` adapts what the doctor believes.
async fn visited(mut config: Config, change: impl FnOnce(&mut Config)) -> Vec<Check> {
    let server = Server::start(&config).await.unwrap();
    config.http.addr = server.addr();
    change(&mut config);
    let checks = visit(&config, None).await;
    server.shutdown().await;
    checks
}

fn find<'a>(checks: &'a [Check], kind: &str) -> Vec<&'a Check> {
    let is_it = |check: &&Check| check.what == kind || check.what.starts_with(&format!("{kind} "));
    checks.iter().filter(is_it).collect()
}

fn statuses(checks: &[Check], kind: &str) -> Vec<Status> {
    find(checks, kind)
        .iter()
        .map(|check| check.status)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_a_healthy_server_is_proved() {
    let checks = visited(config(), |_| {}).await;
    assert!(
        checks.iter().all(|check| check.status != Status::Fail),
        "{checks:#?}"
    );
    for (kind, count) in [
        ("server", 1),
        ("WebSocket", 1),
        ("sessions", 1),
        ("UDP", 2),
        ("TCP", 1),
        ("TURN/UDP", 2),
        ("TURN/TCP", 1),
        ("clock", 1),
    ] {
        assert_eq!(
            statuses(&checks, kind),
            vec![Status::Ok; count],
            "{kind} {checks:#?}"
        );
    }
    assert!(
        find(&checks, "sessions")[0]
            .detail
            .contains("2 media threads")
    );
    assert!(
        find(&checks, "TURN/UDP")[0]
            .detail
            .contains("relays media of 127.0.0.1:")
    );
    // What may be meant so is a warning.
    for kind in ["addresses", "public address", "TURN/TLS"] {
        assert_eq!(statuses(&checks, kind), [Status::Warn], "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_proved_with_its_certificate() {
    let folder = Folder::new();
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    folder.write("cert.pem", &own.cert.pem());
    folder.write("key.pem", &own.signing_key.serialize_pem());
    let mut config = config();
    config.http.tls_cert = folder.file("cert.pem");
    config.http.tls_key = folder.file("key.pem");
    let checks = visited(config, |_| {}).await;
    assert!(
        checks.iter().all(|check| check.status != Status::Fail),
        "{checks:#?}"
    );
    assert_eq!(statuses(&checks, "certificate names"), [Status::Ok]);
    assert_eq!(statuses(&checks, "certificate dates"), [Status::Ok]);
    assert_eq!(statuses(&checks, "certificate chain"), [Status::Warn]);
    // It relays, but no browser would use it; and the port is not that of HTTPS.
    let turn = find(&checks, "TURN/TLS");
    assert_eq!(turn.len(), 1, "{checks:#?}");
    assert!(turn[0].detail.contains("relays media"), "{turn:?}");
    assert!(
        turn[0].detail.contains("refuse the certificate"),
        "{turn:?}"
    );
    assert_eq!(statuses(&checks, "port of TURN/TLS"), [Status::Warn]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_can_be_visited_where_its_clients_go() {
    let mut config = config();
    let server = Server::start(&config).await.unwrap();
    // Nothing of this is looked at.
    config.http.addr = SocketAddr::from(([127, 0, 0, 9], 9));
    let url = format!("http://localhost:{}", server.addr().port());
    let checks = visit(&config, Some(url)).await;
    server.shutdown().await;
    assert_eq!(
        statuses(&checks, "UDP"),
        [Status::Ok, Status::Ok],
        "{checks:#?}"
    );
    assert_eq!(statuses(&checks, "TURN/TCP"), [Status::Ok], "{checks:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_than_the_servers_is_told() {
    let checks = visited(config(), |config| {
        let other = Secret::new(SECRET.replace('0', "f"));
        config.auth.keys.insert("app".to_owned(), other);
    })
    .await;
    let [sessions] = find(&checks, "sessions").try_into().unwrap();
    assert_eq!(sessions.status, Status::Fail);
    assert!(
        sessions.fix.as_deref().unwrap().contains("SIGHUP"),
        "{sessions:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_that_do_not_open_by_joining_are_opened() {
    let mut config = config();
    config.rooms.auto_create = false;
    let checks = visited(config, |_| {}).await;
    assert_eq!(
        statuses(&checks, "UDP"),
        [Status::Ok, Status::Ok],
        "{checks:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_is_sent_where_one_is_due() {
    let mut config = config();
    config.http.proxy_protocol = true;
    let checks = visited(config, |_| {}).await;
    assert_eq!(statuses(&checks, "server"), [Status::Ok], "{checks:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_turn_server_is_a_warning() {
    let mut config = config();
    config.turn.mode = TurnMode::Off;
    let checks = visited(config, |_| {}).await;
    assert_eq!(statuses(&checks, "TURN"), [Status::Warn]);
    assert!(find(&checks, "TURN/UDP").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_rooms_of_the_doctor_are_gone_afterwards() {
    let mut config = config();
    let server = Server::start(&config).await.unwrap();
    config.http.addr = server.addr();
    visit(&config, None).await;
    assert!(server.rooms().list().is_empty());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_its_ports_are_looked_at() {
    let mut config = config();
    let taken = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    config.http.addr = free.local_addr().unwrap();
    config.media.udp_port = taken.local_addr().unwrap().port();
    config.media.shards = 1;
    drop(free);
    let checks = visit(&config, None).await;
    assert_eq!(statuses(&checks, "server"), [Status::Warn], "{checks:#?}");
    assert_eq!(statuses(&checks, "UDP port"), [Status::Fail]);
    assert_eq!(statuses(&checks, "TCP port"), [Status::Ok]);
}

#[tokio::test(flavor = "multi_thread")]
async fn something_else_on_the_port_is_no_server() {
    let mut config = config();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    config.http.addr = other.local_addr().unwrap();
    let answer = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = other.accept().unwrap();
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).unwrap() > 0);
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n<html>").unwrap();
    });
    let checks = visit(&config, None).await;
    answer.join().unwrap();
    assert_eq!(statuses(&checks, "server"), [Status::Fail]);
    assert!(checks[0].detail.contains("something else"), "{checks:?}");
}
