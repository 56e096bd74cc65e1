//! What configuration is accepted, and how faults are named.

use super::*;

const SHIPPED: &str = include_str!("../../../deploy/plenum.toml");
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut tree = tree::Tree::with_defaults();
    tree.overlay_file(text, "plenum.toml")?;
    for (name, value) in environment {
        tree.overlay_variable(name, value)?;
    }
    let config = tree.into_config()?;
    config.check().map(|()| config)
}

fn fault(text: &str, environment: &[(&str, &str)]) -> String {
    load(text, environment).unwrap_err().to_string()
}

#[test]
fn the_shipped_file_lists_every_option_with_its_default() {
    assert_eq!(Config::from_toml(SHIPPED).unwrap(), Config::default());
    let shipped: toml::Table = SHIPPED.parse().unwrap();
    let defaults = toml::Table::try_from(Config::default()).unwrap();
    fn same_keys(path: &str, shipped: &toml::Table, defaults: &toml::Table) {
        let names = |table: &toml::Table| table.keys().cloned().collect::<Vec<_>>();
        let (mut ours, mut theirs) = (names(shipped), names(defaults));
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "[{path}]");
        for (key, value) in defaults {
            if let toml::Value::Table(inner) = value {
                same_keys(
                    &format!("{path}.{key}"),
                    shipped[key].as_table().unwrap(),
                    inner,
                );
            }
        }
    }
    same_keys("", &shipped, &defaults);
}

#[test]
fn a_short_production_file_is_complete() {
    let text = format!(
        "[http]\naddr = \"0.0.0.0:80\"\n[media]\nudp_port = 9000\ntcp_port = 9000\n\
         [auth.keys]\nprod = \"{SECRET}\"\n"
    );
    let config = load(&text, &[]).unwrap();
    assert_eq!(config.http.addr.port(), 80);
    assert_eq!(config.media.udp_port, 9000);
    assert_eq!(config.auth.keys["prod"].expose(), SECRET);
}

#[test]
fn faults_of_broadcasts_and_recordings_are_named() {
    for (text, expected) in [
        (
            "[broadcast]\nrtmp_addr = \"1935\"",
            "broadcast.rtmp_addr: not an address",
        ),
        (
            "[broadcast]\nrtmps_addr = \"0.0.0.0:1936\"",
            "broadcast.rtmps_addr: needs a certificate",
        ),
        (
            "[broadcast]\nsegment = \"20s\"",
            "broadcast.segment: must be 1s to 10s",
        ),
        (
            "[broadcast]\npart = \"50ms\"",
            "broadcast.part: must be 100ms to 1s",
        ),
        (
            "[broadcast]\nrungs_max = 9",
            "broadcast.rungs_max: must be 1 to 8",
        ),
        (
            "[broadcast]\ncodecs = []",
            "broadcast.codecs: must name a codec",
        ),
        (
            "[recording]\nmax_duration = \"0s\"",
            "recording.max_duration: must be at least 1s",
        ),
        (
            "[recording]\ns3_bucket = \"b\"",
            "recording.dir: what is recorded is kept here first",
        ),
        (
            "[webhooks]\nurl = \"https://app.example/hook\"",
            "webhooks.secrets: a secret is needed",
        ),
        (
            "[webhooks]\nsecrets = [\"short\"]",
            "webhooks.secrets: a secret is 32 bytes or more",
        ),
        (
            "[webhooks]\nurl = \"https://me:pass@app.example/\"",
            "webhooks.url: must be an https:// or http:// URL",
        ),
        (
            "[webhooks]\nevents = [\"room_began\"]",
            "webhooks.events (in plenum.toml): unknown variant `room_began`",
        ),
    ] {
        let fault = fault(text, &[]);
        assert!(fault.starts_with(expected), "{fault}");
    }
}

#[test]
fn what_is_left_out_is_off_and_secrets_are_not_shown() {
    let off = load("[broadcast]\nrtmp_addr = \"\"", &[]).unwrap();
    assert_eq!((off.broadcast.rtmp(), off.broadcast.rtmps()), (None, None));
    let secret = load("[recording]\ns3_secret_access_key = \"hush\"", &[]).unwrap();
    assert!(!secret.to_toml().contains("hush"));
    let hooks = format!(
        "[webhooks]\nurl = \"http://app.example\"\nsecrets = [\"{SECRET}\"]\nevents = [\"room_started\"]"
    );
    assert!(!load(&hooks, &[]).unwrap().to_toml().contains(SECRET));
}

#[test]
fn unknown_keys_and_bad_values_name_their_path() {
    for (text, expected) in [
        ("[http]\nadress = 1", "http.adress"),
        ("[htp]\naddr = 1", "htp"),
        ("[auth]\nkey = 1", "auth.key"),
        ("port = 1", "port"),
        ("http = 5", "http"),
        ("[http]\naddr = \"nonsense\"", "http.addr"),
        ("[http]\naddr = 80", "http.addr"),
        ("[media]\nudp_port = 70000", "media.udp_port"),
        ("[media]\nadvertise = [\"example.com\"]", "media.advertise"),
        (
            "[rooms]\nempty_timeout = \"5 minutes\"",
            "rooms.empty_timeout",
        ),
        ("[rooms]\nresume_timeout = \"1s\"", "rooms.resume_timeout"),
        ("[rooms]\ncodecs = [\"theora\"]", "rooms.codecs"),
        ("[limits]\nmessages_burst = 0", "limits.messages_burst"),
        ("[auth.keys]\nshort = \"abc\"", "auth.keys.short"),
        ("[auth.keys]\n\"a/b\" = \"x\"", "auth.keys."),
        ("[auth.keys]\nx = 5", "auth.keys.x"),
        ("[http]\ntls_cert = \"a.pem\"", "http.tls_cert"),
        ("[http]\nadmin_addr = \"9090\"", "http.admin_addr"),
        ("[http]\nproxy_from = [\"10.0.0.0/8\"]", "http.proxy_from"),
        (
            "[http]\nproxy_protocol = true\nproxy_from = [\"10.0.0.1/8\"]",
            "http.proxy_from",
        ),
        ("[http]\nacme_domains = [\"a.example\"]", "http.acme_dir"),
        ("[turn]\nport = 7800", "turn.port"),
        ("[turn]\nport = 7801\n[media]\nshards = 2", "turn.port"),
        ("[turn]\nrelay_ports = \"1\"", "turn.relay_ports"),
        ("[turn]\nallow_peers = [\"10.0.0.1/8\"]", "turn.allow_peers"),
        ("[media]\ndiscover = \"router\"", "media.discover"),
        ("[media]\ndiscover = \"stun\"", "media.discover_stun"),
        (
            "[media]\ndiscover_stun = \"a.example:1\"",
            "media.discover_stun",
        ),
        (
            "[media]\ndiscover = \"cloud\"\ndiscover_stun = \"a.example:1\"",
            "media.discover_stun",
        ),
        (
            "[media]\ndiscover = \"cloud\"\nadvertise = [\"192.0.2.1\"]",
            "media.discover",
        ),
        ("[http", "plenum.toml"),
    ] {
        let message = fault(text, &[]);
        assert!(message.contains(expected), "{text:?} gave {message:?}");
        assert!(
            !message.contains("abc"),
            "the secret is not repeated: {message:?}"
        );
    }
}

#[test]
fn a_certificate_by_acme_needs_names_that_can_be_proved_and_a_folder() {
    let acme = |domains: &str, more: &str| {
        let text = format!("[http]\nacme_domains = [{domains}]\nacme_dir = \"acme\"\n{more}");
        load(&text, &[]).map_err(|error| error.to_string())
    };
    let config = acme(
        "\"meet.example\", \"xn--bcher-kva.example\", \"plenum\"",
        "",
    )
    .unwrap();
    assert!(config.http.is_https());
    for domain in [
        "",
        "*.example",
        "meet..example",
        "meet.example.",
        "-meet.example",
        "meet_1.example",
        "bücher.example",
        "192.0.2.7",
        "2001:db8::1",
        "meet.example:443",
        &format!("{}.example", "a".repeat(64)),
    ] {
        let error = acme(&format!("{domain:?}"), "").unwrap_err();
        assert!(error.contains("http.acme_domains"), "{domain}: {error}");
    }
    for (more, expected) in [
        ("tls_cert = \"a\"\ntls_key = \"b\"", "http.acme_domains"),
        ("acme_email = \"ann\"", "http.acme_email"),
        ("acme_email = \"a b@example.org\"", "http.acme_email"),
        ("acme_email = \"@example.org\"", "http.acme_email"),
        (
            "acme_directory_url = \"http://ca.example/directory\"",
            "http.acme_directory_url",
        ),
        ("acme_directory_url = \"\"", "http.acme_directory_url"),
    ] {
        let error = acme("\"meet.example\"", more).unwrap_err();
        assert!(error.contains(expected), "{more}: {error}");
    }
    let many = vec!["\"a.example\""; 101].join(", ");
    assert!(acme(&many, "").unwrap_err().contains("100 names"));
    acme("\"a.example\"", "acme_email = \"ann@example.org\"").unwrap();
}

#[test]
fn a_stun_server_is_a_host_and_a_port() {
    let with = |server: &str| {
        let text = format!("[media]\ndiscover = \"stun\"\ndiscover_stun = {server:?}");
        load(&text, &[])
    };
    for server in [
        "stun.example.org:3478",
        "192.0.2.1:3478",
        "[2001:db8::1]:3478",
    ] {
        assert_eq!(with(server).unwrap().media.discover, sfu::Discover::Stun);
    }
    for server in [
        "",
        "stun.example.org",
        ":3478",
        "a:0",
        "a:70000",
        "\u{fc}.example:1",
    ] {
        let error = with(server).unwrap_err().to_string();
        assert!(error.contains("media.discover_stun"), "{server}: {error}");
    }
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = load(
        "[http]\naddr = \"127.0.0.1:1\"",
        &[
            ("PLENUM_HTTP__ADDR", "127.0.0.1:2"),
            ("PLENUM_MEDIA__SHARDS", "3"),
            ("PLENUM_MEDIA__ADVERTISE", "192.0.2.1, 2001:db8::1"),
            ("PLENUM_ROOMS__AUTO_CREATE", "false"),
            ("PLENUM_AUTH__KEYS__Prod", SECRET),
            ("PLENUM_OTHER", "ignored"),
            ("HOME", "/"),
        ],
    )
    .unwrap();
    assert_eq!(config.http.addr.port(), 2);
    assert_eq!(config.media.shards, 3);
    assert_eq!(config.media.advertise.len(), 2);
    assert!(!config.rooms.auto_create);
    assert!(config.auth.keys.contains_key("Prod"));
}

#[test]
fn faults_in_the_environment_name_key_and_variable() {
    for (name, value, key) in [
        ("PLENUM_HTTP__PORT", "1", "http.port"),
        ("PLENUM_MEDIA__SHARDS", "many", "media.shards"),
        ("PLENUM_MEDIA__SHARDS", "1\nudp_port = 2", "media.shards"),
        ("PLENUM_ROOMS__AUTO_CREATE", "1", "rooms.auto_create"),
    ] {
        let message = fault("", &[(name, value)]);
        assert!(message.contains(key) && message.contains(name), "{message}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let text = format!("[turn]\nshared_secret = \"{SECRET}\"\n[auth.keys]\nk = \"{SECRET}\"\n");
    let config = load(&text, &[]).unwrap();
    assert!(!format!("{config:?}{}", config.to_toml()).contains(SECRET));
}

#[test]
fn join_links_start_with_what_clients_can_reach() {
    let mut config = Config::default();
    let bound: SocketAddr = "0.0.0.0:8080".parse().unwrap();
    assert_eq!(config.public_url(bound), "http://127.0.0.1:8080");
    config.media.advertise = vec!["192.0.2.7".parse().unwrap()];
    assert_eq!(config.public_url(bound), "http://192.0.2.7:8080");
    config.http.acme_domains = vec!["meet.example".to_owned(), "example".to_owned()];
    assert_eq!(config.public_url(bound), "https://meet.example:8080");
    let standard = "0.0.0.0:443".parse().unwrap();
    assert_eq!(config.public_url(standard), "https://meet.example");
    config.http.public_url = "https://meet.example/".to_owned();
    assert_eq!(config.public_url(bound), "https://meet.example");
}
