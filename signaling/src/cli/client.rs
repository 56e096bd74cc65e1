//! A client of the room API, for the command line: one request on one connection.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use serde_json::Value;

use super::{choose_key, unix_time};
use crate::auth::{self, Claims, VideoGrant};
use crate::config::Config;
use crate::http::{PROXY_LOCAL, certificate_path};

const TIMEOUT: Duration = Duration::from_secs(10);
/// More than any part of a list.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// The running server that a configuration describes.
pub(super) struct Client<'a> {
    config: &'a Config,
    token: String,
}

impl<'a> Client<'a> {
    /// With a token it makes for itself.
    pub(super) fn new(config: &'a Config) -> Result<Self> {
        let yes = Some(true);
        let video = VideoGrant {
            room_admin: yes,
            room_create: yes,
            room_list: yes,
            ..VideoGrant::default()
        };
        let claims = Claims {
            exp: unix_time()? + 60,
            video,
            ..Claims::default()
        };
        let token = auth::sign(&config.auth, choose_key(config, None)?, claims)?;
        Ok(Self { config, token })
    }

    /// Sends a request; the JSON answered, or the problem's text as an error.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(Value::to_string).unwrap_or_default();
        // HTTP/1.0: the answer ends with the connection and comes in one piece.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.config.http.addr,
            self.token,
            body.len()
        );
        let answer = self.exchange(&request)?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .context("the answer is cut off")?;
        let status: u16 = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .context("the answer is no HTTP")?;
        let body: Value = serde_json::from_str(body).unwrap_or(Value::Null);
        if !(200..300).contains(&status) {
            bail!(
                "{} (status {status})",
                body["detail"].as_str().unwrap_or("refused")
            );
        }
        Ok(body)
    }

    fn exchange(&self, request: &str) -> Result<String> {
        let mut address = self.config.http.addr;
        if address.ip().is_unspecified() {
            address.set_ip(IpAddr::from([127, 0, 0, 1]));
        }
        let mut stream = connect(address)?;
        let mut answer = String::new();
        if self.config.http.proxy_protocol {
            stream.write_all(&PROXY_LOCAL)?;
        }
        if !self.config.http.is_https() {
            stream.write_all(request.as_bytes())?;
            stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        } else {
            let name = ServerName::from(address.ip());
            let session = ClientConnection::new(Arc::new(self.tls()?), name)?;
            let mut stream = StreamOwned::new(session, stream);
            stream.write_all(request.as_bytes())?;
            stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        }
        Ok(answer)
    }

    fn tls(&self) -> Result<ClientConfig> {
        let http = &self.config.http;
        let (option, path) = match http.tls_cert.as_str() {
            "" => ("http.acme_dir", certificate_path(http)),
            path => ("http.tls_cert", path.into()),
        };
        let own = CertificateDer::from_pem_file(&path)
            .map_err(|error| anyhow::anyhow!("{option}: cannot read {path:?}: {error}"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Ok(ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned { own, provider }))
            .with_no_client_auth())
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)
        .with_context(|| format!("no server answers on {address}; is it running?"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Takes exactly the certificate of the configuration, whatever names it is made for.
#[derive(Debug)]
struct Pinned {
    own: CertificateDer<'static>,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.own {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General(
            "the server has another certificate than the configuration".into(),
        ))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Checks that a name can stand in a path as it is.
pub(super) fn in_path(name: &str) -> Result<&str> {
    ensure!(
        auth::is_name(name),
        "{name:?} cannot be a name: 1 to 128 of A-Z a-z 0-9 . _ ~ : @ -"
    );
    Ok(name)
}
