//! A proxy in front that says whom it speaks for (PROXY protocol, version 2).

use signaling::{Config, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::*;

/// A header in which a proxy speaks for an IPv4 client.
fn header(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(client);
    header.extend([127, 0, 0, 1, 0xd4, 0x31, 0x01, 0xbb]);
    header
}

/// A header in which it speaks for itself: a health check.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0";

fn behind_proxies(networks: &[&str]) -> Config {
    let mut config = config();
    config.http.proxy_protocol = true;
    let networks = networks.iter().map(|network| network.parse().unwrap());
    config.http.proxy_from = networks.collect();
    config.limits.failures_burst = 2;
    config.limits.failures_per_second = 1;
    config
}

fn request(before: &[u8], line: &str) -> Vec<u8> {
    let request = format!("{line} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    [before, request.as_bytes()].concat()
}

#[tokio::test]
async fn the_client_a_proxy_names_is_who_is_limited_and_let_through() {
    let server = Server::start(&behind_proxies(&["127.0.0.0/8"]))
        .await
        .unwrap();
    let mut ann = Vec::new();
    for _ in 0..3 {
        let request = request(&header([192, 0, 2, 7]), "GET /v1/rooms");
        ann.push(raw(&server, &request).await.status);
    }
    assert_eq!(ann, [401, 401, 429]);
    let bob = request(&header([192, 0, 2, 8]), "GET /v1/rooms");
    assert_eq!(raw(&server, &bob).await.status, 401);
    // What is for this machine only is not for a client elsewhere, but for the proxy on this machine.
    let metrics = request(&header([192, 0, 2, 8]), "GET /metrics");
    assert_eq!(raw(&server, &metrics).await.status, 404);
    let own = raw(&server, &request(LOCAL, "GET /metrics")).await;
    assert_eq!(own.status, 200);
}

#[tokio::test]
async fn a_header_may_come_in_pieces() {
    let server = Server::start(&behind_proxies(&[])).await.unwrap();
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let whole = request(&header([192, 0, 2, 7]), "GET /healthz");
    for piece in whole.chunks(1) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn connections_without_a_header_or_from_elsewhere_are_closed_and_counted() {
    let server = Server::start(&behind_proxies(&[])).await.unwrap();
    for bytes in [&b""[..], b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n"] {
        let answer = raw(&server, &request(bytes, "GET /healthz")).await;
        assert_eq!((answer.status, answer.head.as_str()), (0, ""), "{answer:?}");
    }
    let metrics = raw(&server, &request(LOCAL, "GET /metrics")).await.body;
    let counted = "plenum_connections_closed_total{reason=\"proxy_header\"} 2";
    assert!(metrics.contains(counted), "{metrics}");

    let mut config = behind_proxies(&["192.0.2.0/24", "::1"]);
    config.http.admin_addr = "127.0.0.1:0".to_owned();
    let server = Server::start(&config).await.unwrap();
    let answer = raw(&server, &request(&header([192, 0, 2, 7]), "GET /healthz")).await;
    assert_eq!((answer.status, answer.head.as_str()), (0, ""), "{answer:?}");
    // The admin address is for the operator's network and asks for no header.
    let mut stream = TcpStream::connect(server.admin_addr().unwrap())
        .await
        .unwrap();
    stream
        .write_all(&request(b"", "GET /metrics"))
        .await
        .unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).await.unwrap();
    let counted = "plenum_connections_closed_total{reason=\"proxy_peer\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}
