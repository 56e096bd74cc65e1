//! A certificate as clients see it: its names, its dates, and who vouches for it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::report::{Check, Status};
use super::web::server_name;

/// A certificate that ends sooner than this is to be seen to.
const RENEWAL_S: u64 = 14 * DAY_S;
const DAY_S: u64 = 24 * 3600;
/// More are counted only.
const NAMES_SHOWN: usize = 4;

const CHAIN: &str = "certificate chain";
const NO_AUTHORITIES: &str = "this machine knows no authorities to judge it by";
/// How to get a certificate that clients trust.
const GET_ONE: &str =
    "get a certificate from an authority and name its files in http.tls_cert and http.tls_key";

/// The authorities this machine trusts; most clients trust the same.
pub(super) fn authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Looks at all of a chain, its own certificate first. `host`: where clients go.
pub(super) fn examine(
    chain: &[CertificateDer<'static>],
    host: &str,
    now_s: u64,
    roots: &RootCertStore,
) -> Vec<Check> {
    let Some(own) = chain.first() else {
        return vec![Check::fail("certificate", "the server shows none", GET_ONE)];
    };
    let Ok(certificate) = Certificate::from_der(own) else {
        return vec![Check::fail("certificate", "it cannot be read", GET_ONE)];
    };
    vec![
        names(own, &certificate, host),
        dates(&certificate, now_s),
        issuer(&certificate, now_s, chain, roots),
    ]
}

/// What a client would say of it; `None`: nothing, it takes it.
pub(super) fn complaint(checks: &[Check]) -> Option<&Check> {
    let is_refused = |check: &&Check| match check.status {
        Status::Ok => false,
        Status::Warn => check.what == CHAIN && check.detail != NO_AUTHORITIES,
        Status::Fail => true,
    };
    checks.iter().find(is_refused)
}

fn names(own: &CertificateDer<'_>, certificate: &Certificate, host: &str) -> Check {
    let what = "certificate names";
    let all = alternative_names(certificate);
    let mut shown = all
        .iter()
        .take(NAMES_SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if all.len() > NAMES_SHOWN {
        shown.push_str(&format!(" and {} more", all.len() - NAMES_SHOWN));
    }
    let fits = || {
        let name = server_name(host).ok()?;
        verify_server_name(&ParsedCertificate::try_from(own).ok()?, &name).ok()
    };
    if fits().is_some() {
        return Check::ok(what, shown);
    }
    let detail = format!("it is for {shown}, not for {host}");
    let fix = format!(
        "clients go to {host}: get a certificate for that, or set http.public_url to a name it is for"
    );
    Check::fail(what, detail, fix)
}

fn alternative_names(certificate: &Certificate) -> Vec<String> {
    let extension = certificate
        .tbs_certificate()
        .get_extension::<SubjectAltName>();
    let names = extension.ok().flatten().map(|(_, names)| names.0);
    let name = |name| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        GeneralName::IpAddress(bytes) => match *bytes.as_bytes() {
            [a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d).to_string()),
            ref bytes => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        },
        _ => None,
    };
    let names: Vec<String> = names.into_iter().flatten().filter_map(name).collect();
    if names.is_empty() {
        return vec!["nobody".to_owned()];
    }
    names
}

fn dates(certificate: &Certificate, now_s: u64) -> Check {
    let what = "certificate dates";
    let validity = certificate.tbs_certificate().validity();
    let second = |time: &x509_cert::time::Time| time.to_unix_duration().as_secs();
    let (from_s, until_s) = (second(&validity.not_before), second(&validity.not_after));
    let (from, until) = (
        validity.not_before.to_date_time(),
        validity.not_after.to_date_time(),
    );
    let renew = "renew it; the server reads the new files by itself within ten seconds";
    if now_s < from_s {
        let detail = format!("it is not good before {from}");
        return Check::fail(what, detail, "wait, or set this machine's clock");
    }
    let Some(left_s) = until_s.checked_sub(now_s) else {
        return Check::fail(what, format!("it was good until {until}"), renew);
    };
    let detail = format!("good until {until}, {} days more", left_s / DAY_S);
    if left_s < RENEWAL_S {
        return Check::warn(what, detail, renew);
    }
    Check::ok(what, detail)
}

fn issuer(
    certificate: &Certificate,
    now_s: u64,
    chain: &[CertificateDer<'_>],
    roots: &RootCertStore,
) -> Check {
    let what = CHAIN;
    let certificate = certificate.tbs_certificate();
    if certificate.issuer() == certificate.subject() {
        let detail = "it vouches for itself: browsers warn, and TURN over TLS is refused";
        return Check::warn(what, detail, GET_ONE);
    }
    if roots.is_empty() {
        let fix = "install the package ca-certificates here";
        return Check::warn(what, NO_AUTHORITIES, fix);
    }
    // Whether it is good today was asked before.
    let validity = certificate.validity();
    let [from, until] = [validity.not_before, validity.not_after].map(|it| it.to_unix_duration());
    let when = Duration::from_secs(now_s).min(until).max(from);
    let error = match signed(chain, UnixTime::since_unix_epoch(when), roots) {
        Ok(()) => return Check::ok(what, format!("from {}", certificate.issuer())),
        Err(error) => error,
    };
    let is_unknown = matches!(
        error,
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)
    );
    match (is_unknown, chain.len() == 1) {
        (true, true) => Check::fail(
            what,
            format!(
                "the certificate of its issuer, {}, is missing",
                certificate.issuer()
            ),
            "put the whole chain into http.tls_cert, as certbot does in fullchain.pem",
        ),
        (true, false) => Check::warn(
            what,
            format!(
                "its issuer, {}, is unknown to this machine",
                certificate.issuer()
            ),
            "make sure that all clients trust this authority, or get a certificate from a public one",
        ),
        (false, _) => Check::fail(what, error.to_string(), GET_ONE),
    }
}

/// Whether an authority vouches for it.
fn signed(
    chain: &[CertificateDer<'_>],
    when: UnixTime,
    roots: &RootCertStore,
) -> Result<(), rustls::Error> {
    let missing = || rustls::Error::NoCertificatesPresented;
    let (own, issuers) = chain.split_first().ok_or_else(missing)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let algorithms = provider.signature_verification_algorithms.all;
    let parsed = ParsedCertificate::try_from(own)?;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, issuers, when, algorithms)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;

    const START_S: u64 = 1_767_225_600; // 2026-01-01
    const END_S: u64 = START_S + 90 * DAY_S;

    fn params(names: &[&str]) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 1);
        params
    }

    fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new([]).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn issued(names: &[&str], by: &CertifiedIssuer<'static, KeyPair>) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        params(names).signed_by(&key, by).unwrap().der().clone()
    }

    fn statuses(checks: &[Check]) -> Vec<Status> {
        checks.iter().map(|check| check.status).collect()
    }

    fn roots_of(authority: &CertifiedIssuer<'static, KeyPair>) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        roots
    }

    #[test]
    fn a_good_certificate_is_good() {
        let authority = authority("Authority");
        let chain = [issued(&["meet.example", "192.0.2.1"], &authority)];
        for host in ["meet.example", "192.0.2.1"] {
            let checks = examine(&chain, host, START_S + 1, &roots_of(&authority));
            assert_eq!(statuses(&checks), [Status::Ok; 3], "{checks:?}");
            assert_eq!(checks[0].detail, "meet.example, 192.0.2.1");
            assert_eq!(
                checks[1].detail,
                "good until 2026-04-01T00:00:00Z, 89 days more"
            );
            assert_eq!(complaint(&checks), None);
        }
    }

    #[test]
    fn it_has_to_be_for_the_host_clients_go_to() {
        let authority = authority("Authority");
        let chain = [issued(&["a.example", "b.example"], &authority)];
        let checks = examine(&chain, "meet.example", START_S, &roots_of(&authority));
        assert_eq!(statuses(&checks), [Status::Fail, Status::Ok, Status::Ok]);
        assert!(
            checks[0]
                .detail
                .contains("a.example, b.example, not for meet.example")
        );
        assert_eq!(complaint(&checks), Some(&checks[0]));
    }

    #[test]
    fn its_dates_are_looked_at_by_the_day() {
        let authority = authority("Authority");
        let chain = [issued(&["meet.example"], &authority)];
        let status =
            |now_s| examine(&chain, "meet.example", now_s, &roots_of(&authority))[1].status;
        assert_eq!(status(START_S - 1), Status::Fail);
        assert_eq!(status(START_S), Status::Ok);
        assert_eq!(status(END_S - 14 * DAY_S), Status::Ok);
        assert_eq!(status(END_S - 14 * DAY_S + 1), Status::Warn);
        assert_eq!(status(END_S), Status::Warn);
        assert_eq!(status(END_S + 1), Status::Fail);
        // One that is about to end is taken all the same.
        let checks = examine(&chain, "meet.example", END_S, &roots_of(&authority));
        assert_eq!(complaint(&checks), None);
        // One that is over may still come from an authority.
        let checks = examine(&chain, "meet.example", END_S + 1, &roots_of(&authority));
        assert_eq!(checks[2].status, Status::Ok);
    }

    #[test]
    fn who_vouches_for_it_matters() {
        let (known, other) = (authority("Known"), authority("Other"));
        let roots = roots_of(&known);
        let issuer = |chain: &[CertificateDer<'static>], roots: &RootCertStore| {
            examine(chain, "meet.example", START_S, roots).remove(2)
        };
        let own = params(&["meet.example"])
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap();
        let found = issuer(&[own.der().clone()], &roots);
        assert_eq!(found.status, Status::Warn);
        assert!(found.detail.contains("itself"), "{found:?}");
        assert!(complaint(&[found]).is_some());

        let foreign = issued(&["meet.example"], &other);
        let found = issuer(std::slice::from_ref(&foreign), &roots);
        assert_eq!(found.status, Status::Fail);
        assert!(found.fix.unwrap().contains("whole chain"));
        let found = issuer(&[foreign.clone(), other.der().clone()], &roots);
        assert_eq!(found.status, Status::Warn);
        assert!(found.detail.contains("Other"), "{found:?}");
        let found = issuer(&[foreign], &RootCertStore::empty());
        assert!(complaint(std::slice::from_ref(&found)).is_none());
        assert!(found.fix.unwrap().contains("ca-certificates"));
    }

    #[test]
    fn what_is_no_certificate_is_said_to_be_none() {
        let roots = RootCertStore::empty();
        assert_eq!(
            statuses(&examine(&[], "a", START_S, &roots)),
            [Status::Fail]
        );
        let broken = [CertificateDer::from(vec![0x30, 3, 1, 2, 3])];
        assert_eq!(
            statuses(&examine(&broken, "a", START_S, &roots)),
            [Status::Fail]
        );
    }
}
