use super::*;

/// Two ends joined by queues, with virtual time.
struct Pair {
    now: Instant,
    ends: [End; 2],
}

struct End {
    dtls: Dtls,
    inbox: VecDeque<Vec<u8>>,
    keys: Option<SrtpKeying>,
    is_connected: bool,
    is_closed: bool,
    received: Vec<Vec<u8>>,
    error: Option<DtlsError>,
}

#[expect(clippy::disallowed_methods, reason = "a test needs some first instant")]
fn start() -> Instant {
    Instant::now()
}

impl Pair {
    /// The first end is the client; each expects the fingerprint given for the other.
    fn new(certificates: [&Certificate; 2], expected: [&Fingerprint; 2]) -> Self {
        let now = start();
        let roles = [DtlsRole::Active, DtlsRole::Passive];
        let end = |i: usize| End {
            dtls: Dtls::new(now, certificates[i], roles[i], expected[i].clone(), None),
            inbox: VecDeque::new(),
            keys: None,
            is_connected: false,
            is_closed: false,
            received: Vec::new(),
            error: None,
        };
        Self {
            now,
            ends: [end(0), end(1)],
        }
    }

    /// Lets both ends talk for `time`; `pass` decides how many copies of a datagram arrive.
    fn run(&mut self, time: Duration, mut pass: impl FnMut(usize, &[u8]) -> usize) {
        let end = self.now + time;
        while self.now < end {
            for i in 0..2 {
                self.drain(i, &mut pass);
                while let Some(datagram) = self.ends[i].inbox.pop_front() {
                    let result = self.ends[i].dtls.handle_datagram(self.now, &datagram);
                    self.ends[i].error = self.ends[i].error.take().or(result.err());
                    self.drain(i, &mut pass);
                }
            }
            self.now += Duration::from_millis(10);
            for i in 0..2 {
                if self.ends[i]
                    .dtls
                    .poll_timeout()
                    .is_some_and(|at| at <= self.now)
                {
                    let result = self.ends[i].dtls.handle_timeout(self.now);
                    self.ends[i].error = self.ends[i].error.take().or(result.err());
                }
            }
        }
    }

    fn drain(&mut self, i: usize, pass: &mut impl FnMut(usize, &[u8]) -> usize) {
        let mut buf = [0; 2048];
        loop {
            match self.ends[i].dtls.poll(&mut buf) {
                DtlsOutput::Transmit(length) => {
                    for _ in 0..pass(i, &buf[..length]) {
                        self.ends[1 - i].inbox.push_back(buf[..length].to_vec());
                    }
                }
                DtlsOutput::Keys(keys) => self.ends[i].keys = Some(keys),
                DtlsOutput::Connected => self.ends[i].is_connected = true,
                DtlsOutput::Data(length) => self.ends[i].received.push(buf[..length].to_vec()),
                DtlsOutput::Closed => self.ends[i].is_closed = true,
                DtlsOutput::Nothing => return,
            }
        }
    }

    fn assert_connected(&self) {
        let [client, server] = &self.ends;
        assert!(client.is_connected && server.is_connected);
        let (ours, theirs) = (client.keys.as_ref().unwrap(), server.keys.as_ref().unwrap());
        assert_eq!(ours.profile, SrtpProfile::AeadAes256Gcm);
        assert_eq!((ours.local_key.len(), ours.local_salt.len()), (32, 12));
        assert_eq!(
            (&ours.local_key, &ours.local_salt),
            (&theirs.remote_key, &theirs.remote_salt)
        );
        assert_eq!(
            (&ours.remote_key, &ours.remote_salt),
            (&theirs.local_key, &theirs.local_salt)
        );
        assert_ne!(ours.local_key, ours.remote_key);
    }
}

fn pair() -> Pair {
    let (client, server) = (Certificate::generate(), Certificate::generate());
    Pair::new(
        [&client, &server],
        [server.fingerprint(), client.fingerprint()],
    )
}

const SHORT: Duration = Duration::from_millis(200);

#[test]
fn both_roles_agree_on_gcm_keys_and_carry_data() {
    let mut pair = pair();
    pair.run(SHORT, |_, _| 1);
    pair.assert_connected();
    pair.ends[0].dtls.send(b"to the server").unwrap();
    pair.ends[1].dtls.send(b"to the client").unwrap();
    pair.run(SHORT, |_, _| 1);
    assert_eq!(pair.ends[1].received, [b"to the server"]);
    assert_eq!(pair.ends[0].received, [b"to the client"]);
    assert_eq!(pair.ends[0].dtls.poll_timeout(), None);
}

#[test]
fn a_lossy_and_duplicating_path_only_delays_the_handshake() {
    for seed in 0..8_u32 {
        let mut pair = pair();
        let mut count = seed;
        pair.run(Duration::from_secs(9), |_, _| {
            count = count.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match count >> 24 {
                0..80 => 0,
                80..160 => 2,
                _ => 1,
            }
        });
        pair.assert_connected();
    }
}

/// Cuts the one handshake message of a datagram in two records, as Chromium and Firefox do with a
/// ClientHello that carries a post-quantum key share.
fn fragment(datagram: &[u8]) -> [Vec<u8>; 2] {
    let (record, body) = datagram.split_at(13);
    let (header, message) = body.split_at(12);
    let cut = message.len() / 2;
    let part = |number: u8, offset: usize, bytes: &[u8]| {
        let mut out = record.to_vec();
        out[10] = number; // the record's sequence number
        out[11..13].copy_from_slice(&u16::try_from(12 + bytes.len()).unwrap().to_be_bytes());
        out.extend_from_slice(&header[..6]);
        out.extend_from_slice(&u32::try_from(offset).unwrap().to_be_bytes()[1..]);
        out.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes()[1..]);
        out.extend_from_slice(bytes);
        out
    };
    [part(0, 0, &message[..cut]), part(1, cut, &message[cut..])]
}

#[test]
fn a_client_hello_in_two_datagrams_is_put_together() {
    for reversed in [false, true] {
        let server = Certificate::generate();
        let client = Certificate::generate();
        let now = start();
        let mut buf = [0; 2048];
        let role = DtlsRole::Active;
        let mut first = Dtls::new(now, &client, role, server.fingerprint().clone(), None);
        let DtlsOutput::Transmit(length) = first.poll(&mut buf) else {
            panic!("the client speaks first");
        };
        let mut parts = fragment(&buf[..length]);
        if reversed {
            parts.reverse();
        }
        let role = DtlsRole::Passive;
        let mut second = Dtls::new(now, &server, role, client.fingerprint().clone(), None);
        second.handle_datagram(now, &parts[0]).unwrap();
        assert_eq!(second.poll(&mut buf), DtlsOutput::Nothing);
        second.handle_datagram(now, &parts[1]).unwrap();
        let DtlsOutput::Transmit(length) = second.poll(&mut buf) else {
            panic!("the server answers the whole message");
        };
        // A handshake record with a ServerHello: no cookie round trip.
        assert_eq!((buf[0], buf[13]), (22, 2));
        assert!(length <= 1200);
    }
}

#[test]
fn a_wrong_fingerprint_yields_an_error_and_nothing_else() {
    let (client, server, other) = (
        Certificate::generate(),
        Certificate::generate(),
        Certificate::generate(),
    );
    let mut pair = Pair::new(
        [&client, &server],
        [server.fingerprint(), other.fingerprint()],
    );
    pair.run(Duration::from_secs(5), |_, _| 1);
    let end = &mut pair.ends[1];
    assert_eq!(end.error, Some(DtlsError::WrongFingerprint));
    assert!(end.keys.is_none() && !end.is_connected && end.received.is_empty());
    let now = pair.now;
    assert_eq!(
        end.dtls.handle_timeout(now),
        Err(DtlsError::WrongFingerprint)
    );
    assert_eq!(end.dtls.send(b"x"), Err(DtlsSendError::NotOpen));
    assert_eq!(end.dtls.poll_timeout(), None);
    // The client never gets the server's last flight.
    assert!(!pair.ends[0].is_connected && pair.ends[0].keys.is_none());

    let mut pair = Pair::new(
        [&client, &server],
        [other.fingerprint(), client.fingerprint()],
    );
    pair.run(Duration::from_secs(5), |_, _| 1);
    assert_eq!(pair.ends[0].error, Some(DtlsError::WrongFingerprint));
    assert!(pair.ends[0].keys.is_none() && !pair.ends[0].is_connected);
}

#[test]
fn a_handshake_that_is_never_answered_ends_after_ten_seconds() {
    let mut pair = pair();
    pair.run(Duration::from_millis(9_500), |_, _| 0);
    assert_eq!(pair.ends[0].error, None);
    pair.run(Duration::from_secs(2), |_, _| 0);
    assert_eq!(pair.ends[0].error, Some(DtlsError::Timeout));
}

#[test]
fn garbage_and_truncations_neither_panic_nor_end_a_handshake() {
    let mut pair = pair();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    pair.run(SHORT, |_, datagram| {
        seen.push(datagram.to_vec());
        1
    });
    pair.assert_connected();
    let certificate = Certificate::generate();
    let now = pair.now;
    let mut buf = [0; 2048];
    for datagram in &seen {
        let fingerprint = certificate.fingerprint().clone();
        let mut fresh = Dtls::new(now, &certificate, DtlsRole::Passive, fingerprint, None);
        for end in 0..datagram.len() {
            let _ = fresh.handle_datagram(now, &datagram[..end]);
            let _ = pair.ends[0].dtls.handle_datagram(now, &datagram[..end]);
            let _ = pair.ends[1].dtls.handle_datagram(now, &datagram[..end]);
        }
        for at in 0..datagram.len() {
            let mut changed = datagram.clone();
            changed[at] ^= 0x55;
            let _ = fresh.handle_datagram(now, &changed);
            while fresh.poll(&mut buf) != DtlsOutput::Nothing {}
        }
    }
    pair.run(SHORT, |_, _| 1);
    pair.ends[0].dtls.send(b"still there").unwrap();
    pair.run(SHORT, |_, _| 1);
    assert_eq!(pair.ends[1].received, [b"still there"]);
}

#[test]
fn sending_is_bounded_and_needs_an_open_connection() {
    let mut pair = pair();
    assert_eq!(
        pair.ends[0].dtls.send(b"early"),
        Err(DtlsSendError::NotOpen)
    );
    pair.run(SHORT, |_, _| 1);
    let long = [0; RECORD_BYTES_MAX + 1];
    assert_eq!(pair.ends[0].dtls.send(&long), Err(DtlsSendError::TooLong));
    let message = [1; RECORD_BYTES_MAX];
    let results: Vec<_> = (0..100).map(|_| pair.ends[0].dtls.send(&message)).collect();
    assert_eq!(results.iter().filter(|it| it.is_ok()).count(), OUTBOUND_MAX);
    assert_eq!(results.last(), Some(&Err(DtlsSendError::Full)));
    pair.run(SHORT, |_, _| 1);
    assert_eq!(pair.ends[0].dtls.send(&message), Ok(()));
}

#[test]
fn fingerprints_read_what_they_write_and_nothing_else() {
    for algorithm in [
        HashAlgorithm::Sha256,
        HashAlgorithm::Sha384,
        HashAlgorithm::Sha512,
    ] {
        let fingerprint = Fingerprint::of(algorithm, b"a certificate");
        let text = fingerprint.to_string();
        assert_eq!(Fingerprint::parse(&text), Some(fingerprint.clone()));
        assert_eq!(Fingerprint::parse(&text.to_lowercase()), Some(fingerprint));
        for end in 0..text.len() {
            assert_eq!(Fingerprint::parse(&text[..end]), None);
        }
        assert_eq!(Fingerprint::parse(&text.replacen(':', "-", 1)), None);
    }
    assert_eq!(
        Fingerprint::parse(&format!("md5 {}", "AA:".repeat(15) + "AA")),
        None
    );
    let signed = format!("sha-256 +A:{}", "AA:".repeat(30) + "AA");
    assert_eq!(Fingerprint::parse(&signed), None);
    assert_eq!(
        Fingerprint::parse(&format!("sha-256 {}", "é".repeat(47))),
        None
    );
}
