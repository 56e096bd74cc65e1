//! HTTPS to the authority: one request on one connection, bounded in time and size.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::uri::Scheme;
use axum::http::{Request, Uri};
use bytes::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::RootCertStore;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use serde::de::IgnoredAny;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::AcmeError;
use crate::http::outgoing::{connector, detail, for_origin, system_roots};

/// One request and its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A chain of certificates is the longest answer there is.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Asks an ACME server.
#[derive(Clone)]
pub(crate) struct Client(TlsConnector);

/// Why there is no answer.
#[derive(Debug, Error)]
enum RequestError {
    #[error("{0} is no https:// URL")]
    Url(Uri),
    #[error("{0}")]
    Name(#[from] InvalidDnsNameError),
    #[error("cannot reach {0} at port {1}: {2}")]
    Unreachable(String, u16, std::io::Error),
    #[error("{0} at port {1} answers nothing useful: {2}")]
    Failed(String, u16, String),
    #[error("{0} at port {1} does not answer in time")]
    TimedOut(String, u16),
}

impl Client {
    /// Trusts servers that these vouch for; `None`: those that this machine trusts.
    pub(crate) async fn new(roots: Option<Arc<RootCertStore>>) -> Result<Self, AcmeError> {
        let roots = match roots {
            Some(roots) => roots,
            // Read for each order: a certificate store that was missing may have come.
            None => Arc::new(system_roots().await.map_err(|_| AcmeError::NoAuthorities)?),
        };
        let connector = connector(roots).map_err(super::TlsError::from)?;
        Ok(Self(connector))
    }

    async fn ask(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<BytesResponse, RequestError> {
        let uri = request.uri();
        let host = uri.host().filter(|_| uri.scheme() == Some(&Scheme::HTTPS));
        let Some(host) = host.map(|host| host.trim_matches(['[', ']']).to_owned()) else {
            return Err(RequestError::Url(uri.clone()));
        };
        let place = (host, uri.port_u16().unwrap_or(443));
        let answer = timeout(REQUEST_TIMEOUT, self.exchange(&place, request)).await;
        answer.unwrap_or_else(|_| Err(RequestError::TimedOut(place.0, place.1)))
    }

    async fn exchange(
        &self,
        (host, port): &(String, u16),
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Result<BytesResponse, RequestError> {
        let unreachable = |error| RequestError::Unreachable(host.clone(), *port, error);
        let name = ServerName::try_from(host.clone())?;
        let stream = TcpStream::connect((host.as_str(), *port)).await;
        let stream = self.0.connect(name, stream.map_err(unreachable)?).await;
        let stream = TokioIo::new(stream.map_err(unreachable)?);

        let failed = |reason| RequestError::Failed(host.clone(), *port, reason);
        for_origin(&mut request);
        let connected = http1::handshake(stream).await;
        let (mut requests, connection) = connected.map_err(|error| failed(detail(&error)))?;
        // It ends with the answer's body, or when both are dropped.
        tokio::spawn(connection);
        let answer = requests.send_request(request).await;
        let (head, body) = answer.map_err(|error| failed(detail(&error)))?.into_parts();
        let body = axum::body::to_bytes(Body::new(body), ANSWER_BYTES_MAX).await;
        let body = body.map_err(|error| failed(detail(&error)))?;
        // The authority says what is wrong in JSON (RFC 8555 §6.7); what stands before it may not.
        let is_json = || serde_json::from_slice::<IgnoredAny>(&body).is_ok();
        if !head.status.is_success() && !is_json() {
            return Err(failed(format!("status {}", head.status)));
        }
        Ok(BytesResponse {
            parts: head,
            body: Box::new(body),
        })
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let answer = client.ask(request).await;
            answer.map_err(|error| instant_acme::Error::Other(Box::new(error)))
        })
    }
}
