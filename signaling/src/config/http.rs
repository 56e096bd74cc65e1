//! `[http]`: what is listened on, and how.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Network, rule};

/// `[http]`: where signaling, the room API and the pages are served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address and port to listen on; port 0 lets the system choose.
    pub addr: SocketAddr,
    /// Certificate chain (PEM file); with `tls_key` the server speaks HTTPS.
    pub tls_cert: String,
    /// Private key (PEM file).
    pub tls_key: String,
    /// Address and port for `/metrics` alone; empty: on `addr`, for loopback callers.
    pub admin_addr: String,
    /// Base of join links; empty: scheme and address of this server.
    pub public_url: String,
    /// Origins besides the server's own whose pages may open `/v1/signal`; `*` means any.
    pub allowed_origins: Vec<String>,
    /// Connections to `addr` begin with a PROXY protocol header (version 2) that names the client.
    pub proxy_protocol: bool,
    /// The proxies that may name a client; connections from elsewhere are closed. Empty: anyone may.
    pub proxy_from: Vec<Network>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tls_cert: String::new(),
            tls_key: String::new(),
            admin_addr: String::new(),
            public_url: String::new(),
            allowed_origins: Vec::new(),
            proxy_protocol: false,
            proxy_from: Vec::new(),
        }
    }
}

impl Http {
    /// Whether this server speaks HTTPS itself.
    pub fn speaks_tls(&self) -> bool {
        !self.tls_cert.is_empty()
    }

    /// Checks what involves more than one value's type.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.tls_cert.is_empty() != self.tls_key.is_empty() {
            return Err(rule(
                "http.tls_cert",
                "set both http.tls_cert and http.tls_key, or neither",
            ));
        }
        if !self.admin_addr.is_empty() && self.admin_addr.parse::<SocketAddr>().is_err() {
            return Err(rule(
                "http.admin_addr",
                "not an address and port, such as 127.0.0.1:9090",
            ));
        }
        if !self.proxy_from.is_empty() && !self.proxy_protocol {
            return Err(rule(
                "http.proxy_from",
                "has no meaning without http.proxy_protocol = true",
            ));
        }
        Ok(())
    }
}
