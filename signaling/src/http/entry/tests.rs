//! What becomes of connections by how they begin.

use std::io::{ErrorKind, Read, Write};

use rustls::StreamOwned;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::*;
use crate::http::fixture::{Authority, NAME, Site, request, until_closed, within};

/// The head of a Binding request (RFC 8489 §5).
const STUN: [u8; 20] = [
    0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
];

/// A listener with TLS, and what it hands out to TURN.
struct Port {
    authority: Authority,
    metrics: Arc<Metrics>,
    site: Site,
    turn: mpsc::UnboundedReceiver<TurnStream>,
}

impl Port {
    async fn open(change: impl FnOnce(&mut Entry)) -> Self {
        let (authority, metrics) = (Authority::new(), Arc::new(Metrics::new()));
        let (handed_out, turn) = mpsc::unbounded_channel();
        let mut entry = Entry {
            tls: Some(authority.issue(2_210_000_000).tls(&metrics)),
            turn: Some(Arc::new(move |stream| handed_out.send(stream).unwrap())),
            ..Entry::plain(Arc::clone(&metrics))
        };
        change(&mut entry);
        Self {
            authority,
            metrics,
            site: Site::start(entry).await,
            turn,
        }
    }

    /// Connects with these protocols offered by ALPN.
    async fn client(&self, protocols: &[&[u8]]) -> tokio_rustls::client::TlsStream<TcpStream> {
        let client = self.authority.client(protocols);
        self.site.connect_tls(&client).await.unwrap()
    }

    async fn handed_out(&mut self) -> TurnStream {
        within(self.turn.recv()).await.unwrap()
    }

    fn closed(&self, reason: Closed) -> u64 {
        self.metrics.connections_closed(reason)
    }
}

#[tokio::test]
async fn https_is_served_with_and_without_alpn() {
    let mut port = Port::open(|_| {}).await;
    for protocols in [&[ALPN_HTTP][..], &[b"h2", ALPN_HTTP], &[]] {
        let mut client = port.client(protocols).await;
        let local = client.get_ref().0.local_addr().unwrap().to_string();
        for _ in 0..2 {
            assert_eq!(request(&mut client).await, (200, local.clone()));
        }
    }
    assert!(port.turn.try_recv().is_err());
}

#[tokio::test]
async fn turn_is_told_by_alpn_or_by_its_first_byte_and_handed_out_whole() {
    let mut port = Port::open(|_| {}).await;
    // ALPN counts for more than the byte: 0x16 begins neither STUN nor a request.
    for (protocols, first) in [
        (&[ALPN_TURN][..], 0),
        (&[ALPN_TURN], 0x16),
        (&[], 0),
        (&[], 1),
    ] {
        let mut client = port.client(protocols).await;
        let mut sent = STUN;
        sent[0] = first;
        client.write_all(&sent).await.unwrap();
        client.flush().await.unwrap();
        let turn = port.handed_out().await;
        assert_eq!(turn.bytes, sent);
        assert_eq!(turn.remote, client.get_ref().0.local_addr().unwrap());
        assert_eq!(turn.local, port.site.addr);
        // It does not block: nobody else's connection waits for this one.
        let nothing_yet = (&turn.stream).read(&mut [0]).unwrap_err();
        assert_eq!(nothing_yet.kind(), ErrorKind::WouldBlock);
        let rest = serve_in_thread(turn, STUN.len(), 2);
        client.write_all(b"ok").await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(until_closed(&mut client).await, b"answer");
        assert_eq!(rest.join().unwrap()[STUN.len()..], *b"ok");
    }
}

/// Goes on with a connection as its new owner: takes this many bytes more, answers, and closes.
fn serve_in_thread(turn: TurnStream, had: usize, more: usize) -> std::thread::JoinHandle<Vec<u8>> {
    assert_eq!(turn.bytes.len(), had);
    std::thread::spawn(move || {
        turn.stream.set_nonblocking(false).unwrap();
        let mut bytes = turn.bytes;
        let mut stream = StreamOwned::new(turn.tls, turn.stream);
        bytes.resize(had + more, 0);
        stream.read_exact(&mut bytes[had..]).unwrap();
        stream.write_all(b"answer").unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        bytes
    })
}

#[tokio::test]
async fn no_byte_is_lost_that_comes_with_the_end_of_the_handshake() {
    let mut port = Port::open(|_| {}).await;
    // Up to 64 KiB leave a client in the same breath as its last handshake message, in records of
    // 16 KiB. What has not arrived when the connection is handed out is read by its new owner.
    for length in [1, 20, 4_096, 16_384, 16_385, 50_000, 65_000] {
        let sent: Vec<u8> = (0..length).map(|n: u32| (n % 251) as u8).collect();
        let client = port.authority.client(&[]);
        let name = ServerName::try_from(NAME).unwrap();
        let connecting = client.connect_with(name, port.site.connect().await, |session| {
            session.writer().write_all(&sent).unwrap();
        });
        let mut client = within(connecting).await.unwrap();
        client.flush().await.unwrap();
        let mut turn = port.handed_out().await;
        let had = turn.bytes.len();
        assert!(had > 0);
        let left = turn.tls.process_new_packets().unwrap();
        assert_eq!(left.plaintext_bytes_to_read(), 0);
        let server = serve_in_thread(turn, had, sent.len() - had);
        assert_eq!(until_closed(&mut client).await, b"answer");
        assert!(server.join().unwrap() == sent, "{length} bytes");
    }
}

#[tokio::test]
async fn turn_that_nobody_serves_is_closed_and_counted() {
    let port = Port::open(|entry| entry.turn = None).await;
    for protocols in [&[ALPN_TURN][..], &[]] {
        let mut client = port.client(protocols).await;
        client.write_all(&STUN).await.unwrap();
        assert_eq!(until_closed(&mut client).await, b"");
    }
    assert_eq!(port.closed(Closed::NoTurn), 2);
    assert_eq!(request(&mut port.client(&[ALPN_HTTP]).await).await.0, 200);
}

#[tokio::test]
async fn garbage_gets_an_alert_or_an_error_and_concerns_nobody_else() {
    let mut port = Port::open(|_| {}).await;
    // No TLS: a fatal alert (RFC 8446 §6) and the end.
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &STUN, &[0xff; 64]] {
        let mut client = port.site.connect().await;
        client.write_all(bytes).await.unwrap();
        let answer = until_closed(&mut client).await;
        assert!(
            matches!(answer[..], [0x15, 3, _, 0, 2, 2, _]),
            "{bytes:02x?} was answered with {answer:02x?}"
        );
    }
    assert_eq!(port.closed(Closed::Handshake), 3);
    // A protocol nobody speaks here: the alert that says so.
    let client = port.authority.client(&[b"h2", b"acme-tls/1"]);
    let error = port
        .site
        .connect_tls(&client)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    // Neither STUN nor HTTP within TLS: HTTP says that it is none.
    for first in [2, 0x16, 0x40, 0x80, 0xff] {
        let mut client = port.client(&[]).await;
        client.write_all(&[first; 24]).await.unwrap();
        let answer = until_closed(&mut client).await;
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{answer:02x?}");
    }
    assert!(port.turn.try_recv().is_err());
}

#[tokio::test]
async fn clients_that_say_nothing_are_closed_and_counted() {
    let port = Port::open(|entry| entry.within = Duration::from_secs(2)).await;
    let begins_with = async |bytes: &[u8]| {
        let mut client = port.site.connect().await;
        client.write_all(bytes).await.unwrap();
        until_closed(&mut client).await
    };
    let shakes_hands = async |protocols: &[&[u8]]| {
        let mut client = port.client(protocols).await;
        until_closed(&mut client).await
    };
    // Nothing at all; half a record; a handshake and then nothing, whether it is for TURN or not.
    let (nothing, half, turn, unnamed) = tokio::join!(
        begins_with(b""),
        begins_with(&[0x16, 3, 1, 2]),
        shakes_hands(&[ALPN_TURN]),
        shakes_hands(&[]),
    );
    assert!([nothing, half, turn, unnamed].iter().all(Vec::is_empty));
    assert_eq!(port.closed(Closed::Silent), 4);
}

#[tokio::test]
async fn a_proxy_header_comes_before_tls_and_names_the_client_of_turn() {
    let proxies = || Some(Proxies(Arc::new(["127.0.0.0/8".parse().unwrap()])));
    let mut port = Port::open(|entry| entry.proxies = proxies()).await;
    let header =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x0a\xd4\x31\x01\xbb";
    for first in [b'G', 0] {
        let mut socket = port.site.connect().await;
        socket.write_all(header).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let connecting = port.authority.client(&[]).connect(name, socket);
        let mut client = within(connecting).await.unwrap();
        if first == b'G' {
            assert_eq!(request(&mut client).await, (200, "192.0.2.7:54321".into()));
        } else {
            client.write_all(&STUN).await.unwrap();
            client.flush().await.unwrap();
            let turn = port.handed_out().await;
            assert_eq!(turn.remote.to_string(), "192.0.2.7:54321");
            assert_eq!(turn.local.to_string(), "198.51.100.10:443");
        }
    }
    // TLS without the header, and a header within TLS, are none.
    let client = port.authority.client(&[]);
    assert!(port.site.connect_tls(&client).await.is_err());
    assert_eq!(port.closed(Closed::ProxyHeader), 1);
}
