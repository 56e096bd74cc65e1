//! How the authority finds out whether a name is somebody's: RFC 8737, section 3.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_cert::der::Decode;

use crate::http::fixture::within;
use crate::http::tls::{ALPN_ACME, Facts, provider};

/// Looks whether the name's holder, at this address, shows the digest.
pub(super) async fn look(addr: Option<SocketAddr>, name: &str, shown: &[u8]) -> Result<(), String> {
    let addr = addr.ok_or("no such name")?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_ACME.to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(addr)
        .await
        .map_err(|error| error.to_string())?;
    let server = ServerName::try_from(name.to_owned()).unwrap();
    let stream = within(connector.connect(server, stream)).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let session = stream.get_ref().1;
    if session.alpn_protocol() != Some(ALPN_ACME) {
        return Err("another protocol was agreed on".to_owned());
    }
    let certificate = &session.peer_certificates().unwrap()[0];
    let is_for_name = Facts::of(certificate).unwrap().names == [name];
    let certificate = x509_cert::Certificate::from_der(certificate).unwrap();
    let extensions = certificate.tbs_certificate().extensions().unwrap();
    let identifier = extensions
        .iter()
        .find(|extension| extension.extn_id.to_string() == "1.3.6.1.5.5.7.1.31");
    let is_shown = identifier.is_some_and(|extension| {
        extension.critical && extension.extn_value.as_bytes() == [&[4, 32], shown].concat()
    });
    match is_for_name && is_shown {
        true => Ok(()),
        false => Err("another certificate is shown".to_owned()),
    }
}

/// Takes any certificate: an authority looks at what is in it.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
