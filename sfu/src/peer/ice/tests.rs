//! Tests of the ICE-lite machine on a virtual clock.
#![expect(
    clippy::cast_possible_truncation,
    reason = "lengths of hand-made messages are small"
)]

use std::net::SocketAddr;

use crate::shard::{Protocol, canonical};

use net::stun::{
    BINDING, Class, ERROR_CODE, Integrity, Message, MessageWriter, XOR_MAPPED_ADDRESS,
};

use super::check::{RESPONSE_BYTES_MAX, Request, Role, write_request};
use super::*;

fn credentials(ufrag: &str, pwd: &str) -> Credentials {
    Credentials {
        ufrag: ufrag.to_owned(),
        pwd: pwd.to_owned(),
    }
}

fn tuple(port: u16) -> Path {
    let remote = SocketAddr::from(([192, 0, 2, 1], port));
    Path::new(
        SocketAddr::from(([203, 0, 113, 1], 7800)),
        remote,
        Protocol::Udp,
    )
}

/// A lite agent and the full agent that checks it.
struct Pair {
    ice: IceLite,
    now: Instant,
    username: String,
    password: String,
}

impl Pair {
    fn new() -> Self {
        let mut ice = IceLite::new(credentials("ours1234", "our-password-of-22-chars"));
        ice.set_remote(credentials("them", "their-password-of-22-chars"));
        let username = "ours1234:them".to_owned();
        #[expect(clippy::disallowed_methods, reason = "where the virtual clock starts")]
        let now = Instant::now();
        Self {
            ice,
            now,
            username,
            password: "our-password-of-22-chars".to_owned(),
        }
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }

    fn request(&self, role: Role, use_candidate: bool) -> Vec<u8> {
        let request = Request {
            transaction_id: [7; 12],
            username: &self.username,
            role,
            use_candidate,
        };
        let mut out = [0; 256];
        let length = write_request(&mut out, &request, self.password.as_bytes());
        out[..length].to_vec()
    }

    fn send(&mut self, tuple: Path, bytes: &[u8]) -> (CheckOutcome, Vec<u8>) {
        let mut out = [0; RESPONSE_BYTES_MAX];
        let check = Check::parse(bytes).unwrap();
        let outcome = self.ice.handle_check(self.now, tuple, &check, &mut out);
        (outcome, out[..outcome.reply_len].to_vec())
    }

    fn check(&mut self, tuple: Path) -> CheckOutcome {
        self.send(tuple, &self.request(Role::Controlling(1), false))
            .0
    }

    fn nominate(&mut self, tuple: Path) -> CheckOutcome {
        self.send(tuple, &self.request(Role::Controlling(1), true))
            .0
    }
}

#[test]
fn a_check_validates_and_a_nomination_selects() {
    let mut pair = Pair::new();
    assert_eq!(pair.ice.state(pair.now), IceState::New);
    assert_eq!(
        (pair.ice.send_tuple(), pair.ice.poll_timeout(pair.now)),
        (None, None)
    );
    assert_eq!(
        pair.check(tuple(1)).change,
        Some(IceChange::Validated(tuple(1)))
    );
    assert_eq!(
        (pair.ice.selected(), pair.ice.send_tuple()),
        (None, Some(tuple(1)))
    );
    assert!(pair.ice.is_valid_source(tuple(1)) && !pair.ice.is_valid_source(tuple(2)));
    assert_eq!(
        pair.nominate(tuple(2)).change,
        Some(IceChange::Selected(tuple(2)))
    );
    assert_eq!(
        (pair.ice.selected(), pair.ice.send_tuple()),
        (Some(tuple(2)), Some(tuple(2)))
    );
    assert_eq!(pair.nominate(tuple(2)).change, None);
}

#[test]
fn a_plain_check_never_moves_the_path() {
    let mut pair = Pair::new();
    pair.nominate(tuple(1));
    for port in 2..20 {
        let change = pair.check(tuple(port)).change;
        assert_eq!(change, Some(IceChange::Validated(tuple(port))));
        assert_eq!(pair.ice.selected(), Some(tuple(1)));
    }
    assert_eq!(
        pair.nominate(tuple(19)).change,
        Some(IceChange::Selected(tuple(19)))
    );
    // A nomination that was on its way when the peer moved counts as the latest: it moves back,
    // and the peer's next check moves forward again.
    assert_eq!(
        pair.nominate(tuple(1)).change,
        Some(IceChange::Selected(tuple(1)))
    );
    assert_eq!(
        pair.nominate(tuple(19)).change,
        Some(IceChange::Selected(tuple(19)))
    );
}

#[test]
fn replies_carry_the_mapped_address_and_our_integrity() {
    let mut pair = Pair::new();
    let request = pair.request(Role::Controlling(1), true);
    let (_, reply) = pair.send(tuple(5), &request);
    let reply = Message::parse(&reply).unwrap();
    assert_eq!(
        (reply.class, reply.transaction_id),
        (Class::Success, [7; 12])
    );
    let mapped = reply.attribute(XOR_MAPPED_ADDRESS).unwrap();
    assert_eq!(reply.xor_address(mapped), Some(tuple(5).remote));
    assert!(is_ours(&reply));
}

#[test]
fn a_check_that_proves_nothing_gets_no_reply_and_no_state() {
    let wrong = [
        ("ours1234:them", "wrong-password"),
        ("ours1234:thex", "our-password-of-22-chars"),
        ("ours1234:themm", "our-password-of-22-chars"),
        ("ours1234:", "our-password-of-22-chars"),
        ("ours1234", "our-password-of-22-chars"),
        ("ours123:them", "our-password-of-22-chars"),
        ("them:ours1234", "our-password-of-22-chars"),
        ("", "our-password-of-22-chars"),
    ];
    for (username, password) in wrong {
        let mut pair = Pair::new();
        (pair.username, pair.password) = (username.to_owned(), password.to_owned());
        assert_eq!(
            pair.nominate(tuple(1)),
            CheckOutcome::default(),
            "{username}"
        );
        assert_eq!(pair.ice.state(pair.now), IceState::New);
        assert!(!pair.ice.is_valid_source(tuple(1)));
    }
}

#[test]
fn no_check_is_answered_before_the_peers_credentials_are_known() {
    let mut pair = Pair::new();
    pair.ice = IceLite::new(credentials("ours1234", "our-password-of-22-chars"));
    assert_eq!(pair.nominate(tuple(1)), CheckOutcome::default());
    pair.ice.set_remote(credentials("them", "x"));
    assert!(pair.nominate(tuple(1)).reply_len > 0);
}

#[test]
fn responses_and_indications_are_no_checks() {
    let pair = Pair::new();
    let mut bytes = pair.request(Role::Controlling(1), true);
    let end = bytes.len() - 8; // without the fingerprint, which would no longer fit
    let stated = (end - 20) as u16;
    bytes[2..4].copy_from_slice(&stated.to_be_bytes());
    assert!(Check::parse(&bytes[..end]).is_some());
    for kind in [[1, 1], [0, 0x11]] {
        bytes[0..2].copy_from_slice(&kind);
        assert!(Check::parse(&bytes[..end]).is_none());
    }
}

#[test]
fn a_peer_that_thinks_it_is_controlled_is_told_to_switch() {
    let mut pair = Pair::new();
    let request = pair.request(Role::Controlled(u64::MAX), false);
    let (outcome, reply) = pair.send(tuple(1), &request);
    assert_eq!(outcome.change, None);
    let reply = Message::parse(&reply).unwrap();
    assert_eq!((reply.class, error_code(&reply)), (Class::Error, 487));
    assert!(is_ours(&reply));
    assert!(!pair.ice.is_valid_source(tuple(1)));
}

#[test]
fn at_most_four_tuples_and_the_selected_one_stays() {
    let mut pair = Pair::new();
    pair.nominate(tuple(1));
    for port in 2..=4 {
        assert_eq!(pair.after(1).check(tuple(port)).evicted, None);
    }
    pair.after(1).check(tuple(2)); // now 3 is the one unheard for longest
    assert_eq!(pair.after(1).check(tuple(5)).evicted, Some(tuple(3)));
    assert!(pair.ice.is_valid_source(tuple(1)) && !pair.ice.is_valid_source(tuple(3)));
    for port in 100..200 {
        assert!(pair.after(1).check(tuple(port)).evicted.is_some());
        assert_eq!(pair.ice.tuples.len(), 4);
        assert_eq!(pair.ice.selected(), Some(tuple(1)));
    }
}

#[test]
fn old_credentials_stay_valid_until_the_first_check_with_new_ones() {
    let mut pair = Pair::new();
    pair.nominate(tuple(1));
    pair.ice.restart(
        credentials("new-ours", "new-password"),
        credentials("they", "x"),
    );
    assert_eq!(pair.ice.local().ufrag, "new-ours");
    assert_eq!(pair.ice.selected(), Some(tuple(1)));
    let request = pair.request(Role::Controlling(1), true);
    let (outcome, reply) = pair.send(tuple(1), &request);
    assert!(outcome.reply_len > 0);
    let reply = Message::parse(&reply).unwrap();
    assert!(is_ours(&reply));

    (pair.username, pair.password) = ("new-ours:they".to_owned(), "new-password".to_owned());
    assert_eq!(
        pair.check(tuple(2)).change,
        Some(IceChange::Validated(tuple(2)))
    );
    assert_eq!(
        pair.ice.selected(),
        Some(tuple(1)),
        "media flows on until the nomination"
    );
    assert_eq!(
        pair.nominate(tuple(2)).change,
        Some(IceChange::Selected(tuple(2)))
    );

    (pair.username, pair.password) = (
        "ours1234:them".to_owned(),
        "our-password-of-22-chars".to_owned(),
    );
    assert_eq!(pair.nominate(tuple(1)), CheckOutcome::default());
}

#[test]
fn credentials_of_two_restarts_do_not_mix() {
    let mut pair = Pair::new();
    pair.nominate(tuple(1));
    pair.ice.restart(
        credentials("lost", "lost-password"),
        credentials("they", "x"),
    );
    pair.ice.restart(
        credentials("last", "last-password"),
        credentials("they", "x"),
    );
    assert!(
        pair.check(tuple(1)).reply_len > 0,
        "what the peer proved last"
    );
    (pair.username, pair.password) = ("last:them".to_owned(), "last-password".to_owned());
    assert_eq!(pair.check(tuple(1)), CheckOutcome::default());
    (pair.username, pair.password) = ("last:they".to_owned(), "last-password".to_owned());
    assert!(pair.check(tuple(1)).reply_len > 0);
}

#[test]
fn consent_expires_without_checks_and_lives_by_either_kind_of_proof() {
    let mut pair = Pair::new();
    pair.nominate(tuple(1));
    let started = pair.now;
    let state = |pair: &Pair| pair.ice.state(pair.now);
    let deadline = |pair: &Pair| pair.ice.poll_timeout(pair.now).map(|at| at - started);
    assert_eq!(state(&pair), IceState::Connected);
    assert_eq!(deadline(&pair), Some(Duration::from_secs(5)));
    pair.after(5);
    assert_eq!(state(&pair), IceState::Disconnected);
    assert_eq!(deadline(&pair), Some(Duration::from_secs(30)));
    pair.after(24);
    assert_eq!(state(&pair), IceState::Disconnected);
    pair.ice.note_authenticated(pair.now, tuple(1));
    assert_eq!(state(&pair), IceState::Connected);
    pair.after(29).check(tuple(1));
    assert_eq!(state(&pair), IceState::Connected);
    // Packets on another or an unknown tuple are no consent to sending on this one.
    pair.after(29);
    pair.ice.note_authenticated(pair.now, tuple(2));
    pair.check(tuple(3));
    pair.after(1);
    assert_eq!((state(&pair), deadline(&pair)), (IceState::Failed, None));
    pair.nominate(tuple(3));
    assert_eq!(state(&pair), IceState::Connected);
}

#[test]
fn a_clock_that_reads_earlier_changes_nothing() {
    let mut pair = Pair::new();
    pair.after(10).nominate(tuple(1));
    let earlier = pair.now - Duration::from_secs(8);
    pair.ice.note_authenticated(earlier, tuple(1));
    assert_eq!(pair.ice.state(pair.now), IceState::Connected);
    assert_eq!(pair.ice.state(earlier), IceState::Connected);
}

#[test]
fn a_closed_connection_takes_its_tuple_along() {
    let mut pair = Pair::new();
    let tcp = Path {
        protocol: Protocol::Tcp(4),
        ..tuple(1)
    };
    pair.nominate(tcp);
    assert!(
        !pair.ice.is_valid_source(tuple(1)),
        "the same addresses over UDP are another path"
    );
    pair.check(tuple(2));
    pair.ice.remove_tuple(tcp);
    assert_eq!(
        (pair.ice.selected(), pair.ice.send_tuple()),
        (None, Some(tuple(2)))
    );
}

#[test]
fn unknown_required_attributes_are_refused_with_420() {
    let mut pair = Pair::new();
    let request = pair.request(Role::Controlling(1), true);
    let bytes = with_attribute_before_integrity(&request, 0x7abc, pair.password.as_bytes());
    let (outcome, reply) = pair.send(tuple(1), &bytes);
    assert_eq!(outcome.change, None);
    assert_eq!(error_code(&Message::parse(&reply).unwrap()), 420);
}

fn with_attribute_before_integrity(request: &[u8], kind: u16, key: &[u8]) -> Vec<u8> {
    let request = Message::parse(request).unwrap();
    let mut out = [0; 256];
    let id = &request.transaction_id;
    let mut writer = MessageWriter::new(&mut out, Class::Request, BINDING, id).unwrap();
    for (kind, value) in request.attributes().chain([(kind, &[][..])]) {
        writer.put(kind, value).unwrap();
    }
    let length = writer.finish(Some(Integrity::Sha1(key))).unwrap();
    out[..length].to_vec()
}

fn is_ours(reply: &Message<'_>) -> bool {
    reply.verify(Integrity::Sha1(b"our-password-of-22-chars"))
}

fn error_code(reply: &Message<'_>) -> u16 {
    let value = reply.attribute(ERROR_CODE).unwrap();
    u16::from(value[2]) * 100 + u16::from(value[3])
}

#[test]
fn addresses_have_one_form() {
    let form = |text: &str| canonical(text.parse().unwrap()).to_string();
    assert_eq!(form("[::ffff:192.0.2.1]:5"), "192.0.2.1:5");
    assert_eq!(form("192.0.2.1:5"), "192.0.2.1:5");
    assert_eq!(form("[2001:db8::1]:5"), "[2001:db8::1]:5");
    let labelled = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 5, 77, 3);
    let plain = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 5, 0, 3);
    assert_eq!(canonical(labelled.into()), canonical(plain.into()));
}

#[test]
fn passwords_are_never_printed() {
    let printed = format!("{:?}", Pair::new().ice);
    assert!(printed.contains("ours1234") && !printed.contains("password-of"));
}

#[test]
fn no_truncation_of_a_check_changes_state() {
    let mut pair = Pair::new();
    let request = pair.request(Role::Controlling(1), true);
    for length in 0..request.len() {
        assert!(Check::parse(&request[..length]).is_none());
        let mut bytes = request[..length / 4 * 4].to_vec();
        if bytes.len() >= 20 {
            let stated = (bytes.len() - 20) as u16;
            bytes[2..4].copy_from_slice(&stated.to_be_bytes());
            let Some(check) = Check::parse(&bytes) else {
                continue;
            };
            // Without its fingerprint alone the check is still whole.
            if bytes.len() + 8 < request.len() {
                let outcome = pair
                    .ice
                    .handle_check(pair.now, tuple(1), &check, &mut [0; 128]);
                assert_eq!(outcome, CheckOutcome::default());
            }
        }
    }
    assert_eq!(pair.ice.state(pair.now), IceState::New);
}
