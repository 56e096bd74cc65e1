//! Certificates that are replaced under a listener at work.

use super::*;
use crate::http::Entry;
use crate::http::fixture::{Authority, Folder, Issued, Site, request};

/// A listener whose certificate is in files.
struct Server {
    authority: Authority,
    folder: Folder,
    metrics: Arc<Metrics>,
    tls: Tls,
    site: Site,
}

impl Server {
    async fn start(first: impl Fn(&Authority) -> Issued) -> Self {
        let (authority, folder) = (Authority::new(), Folder::new());
        let issued = first(&authority);
        folder.write("cert.pem", &issued.cert);
        folder.write("key.pem", &issued.key);
        let metrics = Arc::new(Metrics::new());
        let (cert, key) = (folder.file("cert.pem"), folder.file("key.pem"));
        let tls = Tls::from_files(&cert, &key, Arc::clone(&metrics)).unwrap();
        let entry = Entry {
            tls: Some(tls.clone()),
            ..Entry::plain(Arc::clone(&metrics))
        };
        Self {
            authority,
            folder,
            metrics,
            tls,
            site: Site::start(entry).await,
        }
    }

    async fn shown(&self) -> CertificateDer<'static> {
        self.site.shown(&self.authority.client(&[ALPN_HTTP])).await
    }

    fn metric(&self, name: &str) -> Option<String> {
        let text = self.metrics.text(&[]);
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().to_owned())
    }
}

const EXPIRES: &str = "plenum_tls_expires_timestamp_seconds";
const FAILURES: &str = "plenum_tls_reload_failures_total";
/// Two moments of 2040.
const UNTIL: [u64; 2] = [2_210_000_000, 2_220_000_000];

#[tokio::test]
async fn new_files_are_shown_to_new_connections_and_old_ones_live_on() {
    let server = Server::start(|authority| authority.issue(UNTIL[0])).await;
    assert_eq!(server.metric(EXPIRES), Some(UNTIL[0].to_string()));
    let client = server.authority.client(&[ALPN_HTTP]);
    let mut old = server.site.connect_tls(&client).await.unwrap();
    assert_eq!(request(&mut old).await.0, 200);
    let first = server.shown().await;

    server.tls.reload_changed();
    assert_eq!(server.shown().await, first, "nothing has changed yet");

    let second = server.authority.issue(UNTIL[1]);
    server.folder.write("cert.pem", &second.cert);
    server.folder.write("key.pem", &second.key);
    server.tls.reload_changed();
    assert_eq!(server.shown().await, second.der());
    assert_eq!(server.metric(EXPIRES), Some(UNTIL[1].to_string()));
    assert_eq!(request(&mut old).await.0, 200, "the old connection goes on");
    assert_eq!(server.metric(FAILURES), Some("0".to_owned()));
}

#[tokio::test]
async fn files_that_cannot_be_used_change_nothing_and_are_counted_once() {
    let server = Server::start(|authority| authority.issue(UNTIL[0])).await;
    let first = server.shown().await;
    let other = server.authority.issue(UNTIL[1]);
    let half = &other.cert[..other.cert.len() / 2];
    for (count, (name, text)) in [
        ("cert.pem", "no certificate at all"),
        ("cert.pem", half),
        ("cert.pem", ""),
        ("cert.pem", &other.cert), // its key is not there yet
        ("key.pem", "no key"),
    ]
    .into_iter()
    .enumerate()
    {
        server.folder.write(name, text);
        for _ in 0..3 {
            server.tls.reload_changed();
        }
        assert_eq!(server.shown().await, first, "{text}");
        assert_eq!(server.metric(FAILURES), Some((count + 1).to_string()));
    }
    assert_eq!(server.metric(EXPIRES), Some(UNTIL[0].to_string()));
    std::fs::remove_file(server.folder.file("key.pem")).unwrap();
    server.tls.reload_changed();
    assert_eq!(server.shown().await, first);
    assert_eq!(server.metric(FAILURES), Some("6".to_owned()));

    // The other half of the pair makes it whole.
    server.folder.write("key.pem", &other.key);
    server.tls.reload_changed();
    assert_eq!(server.shown().await, other.der());
    assert_eq!(server.metric(FAILURES), Some("6".to_owned()));
}

/// The same with line ends added until both files have one length.
fn padded(mut issued: Issued) -> Issued {
    for pem in [&mut issued.cert, &mut issued.key] {
        pem.extend(std::iter::repeat_n('\n', 4096 - pem.len()));
    }
    issued
}

#[tokio::test]
async fn a_file_of_the_same_time_and_length_is_seen_to_be_another_one() {
    let server = Server::start(|authority| padded(authority.issue(UNTIL[0]))).await;
    let second = padded(server.authority.issue(UNTIL[1]));
    // As certificates are put in place by rename, with the time of when they were made.
    for (name, text) in [("cert.pem", &second.cert), ("key.pem", &second.key)] {
        let (path, new) = (server.folder.file(name), server.folder.file("new.pem"));
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        server.folder.write("new.pem", text);
        let file = std::fs::File::open(&new).unwrap();
        file.set_modified(modified).unwrap();
        std::fs::rename(new, path).unwrap();
    }
    server.tls.reload_changed();
    assert_eq!(server.shown().await, second.der());
}

#[tokio::test]
async fn files_are_read_again_on_demand_whether_they_look_changed_or_not() {
    let server = Server::start(|authority| authority.issue(UNTIL[0])).await;
    server.folder.write("cert.pem", "");
    for count in 1..=2 {
        server.tls.reload();
        assert_eq!(server.metric(FAILURES), Some(count.to_string()));
    }
}

#[test]
fn what_is_wrong_with_the_files_is_said_with_their_names() {
    let folder = Folder::new();
    let metrics = Arc::new(Metrics::new());
    let issued = Authority::new().issue(UNTIL[0]);
    folder.write("cert.pem", &issued.cert);
    folder.write("other.pem", &Authority::new().issue(UNTIL[0]).key);
    let read = |key: &str| {
        let error = Tls::from_files(
            &folder.file("cert.pem"),
            &folder.file(key),
            Arc::clone(&metrics),
        );
        error.err().unwrap().to_string()
    };
    let missing = read("missing.pem");
    assert!(missing.contains("missing.pem"), "{missing}");
    let mismatch = read("other.pem");
    assert!(mismatch.contains("do not fit"), "{mismatch}");
    let none = read("cert.pem");
    assert!(none.contains("cert.pem"), "{none}");
    folder.write("cert.pem", "");
    let empty = read("other.pem");
    assert!(empty.contains("cert.pem"), "{empty}");
}
