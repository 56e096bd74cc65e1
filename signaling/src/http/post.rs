//! One POST on one connection, bounded in time and size; redirects are not followed.

use std::time::Duration;

use axum::body::Body;
use axum::http::uri::Scheme;
use axum::http::{Request, StatusCode, Uri, header};
use bytes::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::outgoing::{connector, detail, for_origin, system_roots};

/// One request and its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Where requests go to.
pub(crate) struct Endpoint {
    uri: Uri,
    host: String,
    port: u16,
    is_tls: bool,
    /// Made for the first request.
    tls: OnceCell<TlsConnector>,
}

/// Why a request was not taken.
#[derive(Debug, Error)]
pub(crate) enum PostError {
    #[error("{0} cannot be reached: {1}")]
    Unreachable(String, String),
    #[error("no answer within {} s", REQUEST_TIMEOUT.as_secs())]
    TimedOut,
    #[error("status {0}")]
    Status(StatusCode),
    #[error("the request was ended")]
    Ended,
}

impl Endpoint {
    /// `None` when it is no `http://` or `https://` address, or has a user in it.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let is_http = is_tls || uri.scheme() == Some(&Scheme::HTTP);
        let is_plain = !uri.authority()?.as_str().contains('@');
        let host = uri.host()?.trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        (is_http && is_plain && !host.is_empty()).then(|| Self {
            uri,
            host,
            port,
            is_tls,
            tls: OnceCell::new(),
        })
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// It was not answered with a status of 2xx in time.
    pub(crate) async fn post(
        &self,
        headers: &[(&'static str, String)],
        body: Bytes,
    ) -> Result<(), PostError> {
        let mut request = Request::post(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::USER_AGENT,
                concat!("plenum/", env!("CARGO_PKG_VERSION")),
            );
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Body::from(body));
        let mut request = request.map_err(|error| self.unreachable(&error))?;
        for_origin(&mut request);
        let exchange = timeout(REQUEST_TIMEOUT, self.exchange(request));
        let status = exchange.await.unwrap_or(Err(PostError::TimedOut))?;
        match status.is_success() {
            true => Ok(()),
            false => Err(PostError::Status(status)),
        }
    }

    async fn exchange(&self, request: Request<Body>) -> Result<StatusCode, PostError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| self.unreachable(&error))?;
        if !self.is_tls {
            return self.ask(stream, request).await;
        }
        let name = ServerName::try_from(self.host.clone());
        let name = name.map_err(|error| self.unreachable(&error))?;
        let connector = self.tls.get_or_try_init(|| self.connector()).await?;
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|error| self.unreachable(&error))?;
        self.ask(stream, request).await
    }

    /// The status is all that is wanted: the connection ends with it.
    async fn ask<S>(&self, stream: S, request: Request<Body>) -> Result<StatusCode, PostError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connected = http1::handshake(TokioIo::new(stream)).await;
        let (mut requests, connection) = connected.map_err(|error| self.unreachable(&error))?;
        let ask = async {
            let answer = requests.send_request(request).await;
            answer.map(|answer| answer.status())
        };
        let mut connection = std::pin::pin!(connection);
        let mut ask = std::pin::pin!(ask);
        let answer = tokio::select! {
            answer = &mut ask => answer,
            // It may have ended with the answer.
            _ = &mut connection => ask.await,
        };
        answer.map_err(|error| self.unreachable(&error))
    }

    async fn connector(&self) -> Result<TlsConnector, PostError> {
        let roots = system_roots()
            .await
            .map_err(|error| self.unreachable(&error))?;
        connector(roots.into()).map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> PostError {
        PostError::Unreachable(format!("{}:{}", self.host, self.port), detail(error))
    }
}

#[cfg(test)]
mod tests;
