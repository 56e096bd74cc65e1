//! What requests of ours to other servers have in common.

use std::io;
use std::sync::Arc;

use axum::http::{HeaderValue, Request, Uri, header};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::tls::{ALPN_HTTP, provider};

/// Speaks HTTP over TLS with servers that these vouch for.
///
/// # Errors
/// The cryptography lacks something.
pub(super) fn connector(roots: Arc<RootCertStore>) -> Result<TlsConnector, rustls::Error> {
    let config = ClientConfig::builder_with_provider(provider());
    let config = config.with_safe_default_protocol_versions()?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![ALPN_HTTP.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Whom this machine trusts.
///
/// # Errors
/// Nobody.
pub(super) async fn system_roots() -> io::Result<RootCertStore> {
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await?;
    let mut roots = RootCertStore::empty();
    // Some of a system's are malformed; the others serve.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(io::Error::other("this machine trusts no certificates"));
    }
    Ok(roots)
}

/// The form a request has when it goes to the server itself (RFC 9112 §3.2.1), once only.
pub(super) fn for_origin<B>(request: &mut Request<B>) {
    let authority = request.uri().authority().map(ToString::to_string);
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    let host = authority.and_then(|host| HeaderValue::try_from(host).ok());
    let headers = request.headers_mut();
    headers.extend(host.map(|host| (header::HOST, host)));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// An error with what caused it.
pub(super) fn detail(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}
