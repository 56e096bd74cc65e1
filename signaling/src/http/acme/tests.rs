//! Certificates from an authority in the same process, which looks at a listener of ours.

mod authority;

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::http::Entry;
use crate::http::fixture::{Authority, Folder, NAME, Site, request, until_closed, within};
use crate::http::tls::{ALPN_ACME, ALPN_HTTP};
use authority::{AcmeServer, Trouble};

/// A server that gets its certificates by ACME, and the authority.
struct Setup {
    authority: Arc<Authority>,
    ca: AcmeServer,
    folder: Folder,
    http: Http,
    metrics: Arc<Metrics>,
    tls: Tls,
    site: Site,
}

impl Setup {
    async fn new() -> Self {
        let authority = Arc::new(Authority::new());
        let ca = AcmeServer::start(Arc::clone(&authority)).await;
        let folder = Folder::new();
        let http = Http {
            acme_domains: vec!["Meet.Example".to_owned()],
            acme_email: "ann@example.org".to_owned(),
            acme_dir: folder.file("acme"),
            acme_directory_url: ca.directory_url(),
            ..Http::default()
        };
        let metrics = Arc::new(Metrics::new());
        let tls = Tls::for_acme(Arc::clone(&metrics)).unwrap();
        let entry = Entry {
            tls: Some(tls.clone()),
            ..Entry::plain(Arc::clone(&metrics))
        };
        let site = Site::start(entry).await;
        ca.lead_to(site.addr);
        Self {
            authority,
            ca,
            folder,
            http,
            metrics,
            tls,
            site,
        }
    }

    /// What begins when the server starts, also again.
    fn acme(&self) -> Acme {
        let roots = Some(Arc::new(self.authority.roots()));
        let (tls, metrics) = (self.tls.clone(), Arc::clone(&self.metrics));
        let mut acme = Acme::new(&self.http, roots, tls, metrics).unwrap();
        let polls = RetryPolicy::new().initial_delay(Duration::from_millis(1));
        acme.polls = polls.timeout(Duration::from_secs(20));
        acme
    }

    /// The first second that a shown certificate is not good any more; `None` when none is shown.
    async fn shown_until(&self) -> Option<u64> {
        let client = self.authority.client(&[ALPN_HTTP]);
        match self.site.connect_tls(&client).await {
            Ok(stream) => {
                let chain = stream.get_ref().1.peer_certificates().unwrap();
                Facts::of(&chain[0]).map(|facts| facts.until)
            }
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("AccessDenied"), "{error}");
                None
            }
        }
    }

    fn failures(&self) -> u64 {
        self.metrics.acme_failures.get()
    }
}

/// A moment of 2027, and when certificates of the authority begin and end unless told otherwise.
const NOW: u64 = 1_800_000_000;
const FROM: u64 = 1_700_000_000;
const UNTIL: u64 = 2_210_000_000;

#[tokio::test]
async fn a_certificate_is_ordered_proved_and_shown_and_clients_before_get_an_alert() {
    let setup = Setup::new().await;
    let mut acme = setup.acme();
    assert_eq!(setup.shown_until().await, None);
    assert_eq!(acme.step(Instant::now(), NOW).await, ORDER_PAUSE);
    assert_eq!(setup.failures(), 0);
    assert_eq!(setup.shown_until().await, Some(UNTIL));
    assert_eq!(setup.ca.orders(), [[NAME]]);
    let text = setup.metrics.text(&[]);
    let expires = format!("plenum_tls_expires_timestamp_seconds {UNTIL}\n");
    assert!(text.contains(&expires), "{text}");
    let client = setup.authority.client(&[]);
    let mut stream = setup.site.connect_tls(&client).await.unwrap();
    assert_eq!(request(&mut stream).await.0, 200);
}

#[tokio::test]
async fn a_restart_shows_what_was_kept_and_orders_nothing() {
    let mut setup = Setup::new().await;
    let mut acme = setup.acme();
    acme.step(Instant::now(), NOW).await;
    for name in ["account.json", "certificate.pem"] {
        let path = certificate_path(&setup.http).with_file_name(name);
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }

    setup.tls = Tls::for_acme(Arc::clone(&setup.metrics)).unwrap();
    let entry = Entry {
        tls: Some(setup.tls.clone()),
        ..Entry::plain(Arc::clone(&setup.metrics))
    };
    setup.site = Site::start(entry).await;
    let mut acme = setup.acme();
    assert_eq!(setup.shown_until().await, Some(UNTIL));
    let renewal = UNTIL - (UNTIL - FROM) / 3;
    let wait = acme.step(Instant::now(), NOW).await;
    assert_eq!(wait, Duration::from_secs(renewal - NOW));
    assert_eq!(setup.ca.orders().len(), 1);
}

#[tokio::test]
async fn a_certificate_is_renewed_with_a_third_of_its_time_left_and_connections_live_on() {
    let setup = Setup::new().await;
    let (mut acme, start) = (setup.acme(), Instant::now());
    acme.step(start, NOW).await;
    let client = setup.authority.client(&[]);
    let mut old = setup.site.connect_tls(&client).await.unwrap();
    assert_eq!(request(&mut old).await.0, 200);

    let (later, renewal) = (start + ORDER_PAUSE, UNTIL - (UNTIL - FROM) / 3);
    setup.ca.issue_for(FROM..UNTIL + 1);
    let wait = acme.step(later, renewal - 10).await;
    assert_eq!(wait, Duration::from_secs(10));
    assert_eq!(setup.shown_until().await, Some(UNTIL));
    acme.step(later, renewal).await;
    assert_eq!(setup.shown_until().await, Some(UNTIL + 1));
    assert_eq!(request(&mut old).await.0, 200);
    assert_eq!((setup.ca.orders().len(), setup.failures()), (2, 0));
}

#[tokio::test]
async fn certificates_of_no_length_are_not_ordered_without_a_pause() {
    let setup = Setup::new().await;
    setup.ca.issue_for(FROM..FROM + 1);
    let (mut acme, start) = (setup.acme(), Instant::now());
    acme.step(start, NOW).await;
    let wait = acme.step(start + Duration::from_secs(1), NOW + 1).await;
    assert_eq!(wait, ORDER_PAUSE - Duration::from_secs(1));
    assert_eq!(setup.ca.orders().len(), 1);
    acme.step(start + ORDER_PAUSE, NOW).await;
    assert_eq!(setup.ca.orders().len(), 2);
}

#[tokio::test]
async fn another_name_is_ordered_at_once_and_every_name_is_proved() {
    let mut setup = Setup::new().await;
    setup.acme().step(Instant::now(), NOW).await;
    let names = [NAME, "a.example", "b.example"].map(str::to_owned);
    setup.http.acme_domains = names.to_vec();
    setup.ca.issue_for(FROM..UNTIL + 1);
    let mut acme = setup.acme();
    assert_eq!(
        setup.shown_until().await,
        Some(UNTIL),
        "until there is a better one"
    );
    acme.step(Instant::now(), NOW).await;
    assert_eq!(setup.shown_until().await, Some(UNTIL + 1));
    assert_eq!(setup.ca.orders()[1], names);
    // What one authority has issued is not taken for another's.
    setup.http.acme_directory_url.push_str("?other");
    assert_eq!(setup.acme().current, None);
}

#[tokio::test]
async fn failures_have_a_reason_and_are_tried_again_later_and_later() {
    let mut setup = Setup::new().await;
    let url = setup.http.acme_directory_url.clone();
    let nobody = {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    setup.http.acme_directory_url = format!("https://{nobody}/directory");
    let (mut acme, mut now) = (setup.acme(), Instant::now());
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let pause = acme.step(now, NOW).await;
        let early = acme.step(now + pause - Duration::from_secs(1), NOW).await;
        assert_eq!(early, Duration::from_secs(1), "not before its time");
        pauses.push(pause.as_secs() / 60);
        now += pause;
    }
    assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 360, 360]);
    assert_eq!(setup.failures(), 10);
    let reason = acme.obtain().await.unwrap_err().to_string();
    assert!(reason.contains("cannot reach 127.0.0.1"), "{reason}");
    assert_eq!(
        setup.shown_until().await,
        None,
        "clients still get an alert"
    );

    // Once it is there all is forgotten.
    acme.directory_url = url;
    assert_eq!(acme.step(now, NOW).await, ORDER_PAUSE);
    assert_eq!(acme.retry, RETRY_FIRST);
    assert_eq!(setup.shown_until().await, Some(UNTIL));
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let setup = Setup::new().await;
    let mut acme = setup.acme();
    for (trouble, expected) in [
        (Trouble::ErrorPage, "answers nothing useful: status 502"),
        (Trouble::Endless, "length limit exceeded"),
        (Trouble::Rejected, "not these names"),
    ] {
        setup.ca.trouble(trouble);
        let reason = acme.order().await.unwrap_err().to_string();
        assert!(reason.contains(expected), "{reason}");
    }
    // The name leads elsewhere: nobody there, or somebody who is not asked for it.
    let other = Tls::for_acme(Arc::clone(&setup.metrics)).unwrap();
    let entry = Entry {
        tls: Some(other),
        ..Entry::plain(Arc::clone(&setup.metrics))
    };
    let other = Site::start(entry).await;
    setup.ca.lead_to(other.addr);
    let reason = acme.order().await.unwrap_err().to_string();
    assert!(
        reason.contains("meet.example could not be proved") && reason.contains("AccessDenied"),
        "{reason}"
    );
    // The authority's server is not the one it should be.
    acme.roots = Some(Arc::new(Authority::new().roots()));
    let reason = acme.order().await.unwrap_err().to_string();
    assert!(reason.contains("invalid peer certificate"), "{reason}");
    acme.directory_url = acme.directory_url.replace("https", "http");
    std::fs::remove_file(certificate_path(&setup.http).with_file_name("account.json")).unwrap();
    let reason = acme.order().await.unwrap_err().to_string();
    assert!(reason.contains("is no https:// URL"), "{reason}");
    assert_eq!(setup.shown_until().await, None);
}

#[tokio::test]
async fn an_account_that_is_gone_is_made_again() {
    let setup = Setup::new().await;
    let (mut acme, start) = (setup.acme(), Instant::now());
    acme.account().await.unwrap();
    setup.ca.forget_accounts();
    assert_eq!(acme.step(start, NOW).await, RETRY_FIRST);
    assert_eq!((setup.ca.orders().len(), setup.failures()), (0, 1));
    acme.step(start + RETRY_FIRST, NOW).await;
    assert_eq!(setup.shown_until().await, Some(UNTIL));
}

#[tokio::test]
async fn only_authorities_see_the_proof_and_only_while_it_is_asked_for() {
    let setup = Setup::new().await;
    let acme = setup.acme();
    let asks = setup.authority.client(&[ALPN_ACME]);
    let refused = setup.site.connect_tls(&asks).await.err().unwrap();
    assert!(refused.to_string().contains("AccessDenied"), "{refused}");
    acme.get_ready("MEET.example", &[7; 32]).unwrap();
    // It signs for itself, so that this client does not trust it; but it came.
    let shown = setup.site.connect_tls(&asks).await.err().unwrap();
    assert!(shown.to_string().contains("certificate"), "{shown}");
    assert_eq!(setup.shown_until().await, None);
    setup.tls.forget_challenges();
    let refused = setup.site.connect_tls(&asks).await.err().unwrap();
    assert!(refused.to_string().contains("AccessDenied"), "{refused}");

    // After an order nothing is left of it.
    setup.acme().step(Instant::now(), NOW).await;
    assert_eq!(setup.shown_until().await, Some(UNTIL));
    let refused = setup.site.connect_tls(&asks).await.err().unwrap();
    assert!(refused.to_string().contains("AccessDenied"), "{refused}");

    // Who offers HTTP too is a client.
    let both = setup.authority.client(&[ALPN_ACME, ALPN_HTTP]);
    let mut stream = setup.site.connect_tls(&both).await.unwrap();
    assert_eq!(request(&mut stream).await.0, 200);
    // Who offers something else beside it gets the certificate, and nothing to talk to.
    let odd = setup.authority.client(&[ALPN_ACME, b"h2"]);
    let mut stream = setup.site.connect_tls(&odd).await.unwrap();
    assert_eq!(until_closed(&mut stream).await, b"");
}

#[tokio::test]
async fn it_runs_by_itself_until_the_server_ends() {
    let setup = Setup::new().await;
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(setup.acme().run(stopped));
    within(async { while setup.shown_until().await.is_none() {} }).await;
    stop.send_replace(true);
    within(running).await.unwrap();
}

#[test]
fn a_folder_that_cannot_be_used_is_said_at_once() {
    let folder = Folder::new();
    folder.write("acme", "a file");
    let url = "https://ca.example/directory";
    assert!(Cache::open(&folder.file("acme"), url).is_err());
}

#[tokio::test]
async fn what_is_no_account_or_certificate_is_ordered_anew() {
    let setup = Setup::new().await;
    let path = certificate_path(&setup.http);
    drop(setup.acme());
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nnonsense").unwrap();
    std::fs::write(path.with_file_name("account.json"), "{}").unwrap();
    setup.acme().step(Instant::now(), NOW).await;
    assert_eq!(setup.shown_until().await, Some(UNTIL));
    assert_eq!(setup.failures(), 0);
    assert!(setup.folder.file("acme").len() < path.to_str().unwrap().len());
}

#[test]
fn what_an_authority_says_stays_one_line() {
    let text = in_a_line(&format!("a\nb\u{1b}[31m{}", "x".repeat(1_000)));
    assert!(text.starts_with("a b [31mxx"));
    assert_eq!(text.chars().count(), 500);
}
