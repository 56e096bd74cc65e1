//! What is in a certificate, as far as we need to know.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// When a certificate is good, and for which names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Its first second, since 1970.
    pub(crate) from: u64,
    /// Its last second, since 1970.
    pub(crate) until: u64,
    /// DNS names in lower case.
    pub(crate) names: Vec<String>,
}

impl Facts {
    /// `None` when the certificate cannot be read.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(certificate).ok()?;
        let certificate = certificate.tbs_certificate();
        let validity = certificate.validity();
        let names = certificate.get_extension::<SubjectAltName>().ok()?;
        let names = names.map_or_else(Vec::new, |(_, names)| names.0);
        let names = names.into_iter().filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
            _ => None,
        });
        Some(Self {
            from: validity.not_before.to_unix_duration().as_secs(),
            until: validity.not_after.to_unix_duration().as_secs(),
            names: names.collect(),
        })
    }

    /// The facts of the first certificate of a chain.
    pub(crate) fn of_pem(chain: &str) -> Option<Self> {
        let certificate = CertificateDer::from_pem_slice(chain.as_bytes()).ok()?;
        Self::of(&certificate)
    }

    /// True when it is for all these names, in lower case.
    pub(crate) fn cover(&self, names: &[String]) -> bool {
        names.iter().all(|name| self.names.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn a_certificate_tells_its_dates_and_names() {
        let names = ["Meet.example".to_owned(), "192.0.2.7".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2056, 1, 1); // another encoding from 2050 on
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let facts = Facts::of(certificate.der()).unwrap();
        assert_eq!(facts.from, 1_767_225_600);
        assert_eq!(facts.until, 2_713_910_400);
        assert_eq!(facts.names, ["meet.example"]);
        assert!(facts.cover(&["meet.example".to_owned()]));
        assert!(!facts.cover(&["meet.example".to_owned(), "example".to_owned()]));
        assert!(facts.cover(&[]));

        let der = certificate.der().to_vec();
        for end in 0..der.len() {
            assert_eq!(Facts::of(&der[..end].into()), None);
        }
    }

    #[test]
    fn a_certificate_without_names_has_none() {
        let params = CertificateParams::new([]).unwrap();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(Facts::of(certificate.der()).unwrap().names, [""; 0]);
    }
}
