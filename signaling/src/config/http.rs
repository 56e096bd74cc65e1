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
    /// Names to get a certificate for by ACME, proved on `addr`, which has to be reachable on port 443
    /// (TLS-ALPN-01); with any the server speaks HTTPS. Setting them agrees to the terms of service
    /// of the authority.
    pub acme_domains: Vec<String>,
    /// Where the authority may write to; may be empty.
    pub acme_email: String,
    /// Folder for account and certificate; the server writes there.
    pub acme_dir: String,
    /// The authority's directory, an `https://` URL.
    pub acme_directory_url: String,
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
            acme_domains: Vec::new(),
            acme_email: String::new(),
            acme_dir: String::new(),
            acme_directory_url: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            admin_addr: String::new(),
            public_url: String::new(),
            allowed_origins: Vec::new(),
            proxy_protocol: false,
            proxy_from: Vec::new(),
        }
    }
}

/// What one certificate may name at most, as the largest authority has it.
const ACME_DOMAINS_MAX: usize = 100;

impl Http {
    /// True when `addr` speaks HTTPS, with a certificate from files or by ACME.
    pub fn is_https(&self) -> bool {
        !self.tls_cert.is_empty() || !self.acme_domains.is_empty()
    }

    /// Checks what involves more than one value's type.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.tls_cert.is_empty() != self.tls_key.is_empty() {
            return Err(rule(
                "http.tls_cert",
                "set both http.tls_cert and http.tls_key, or neither",
            ));
        }
        if !self.acme_domains.is_empty() {
            self.check_acme()?;
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

    fn check_acme(&self) -> Result<(), ConfigError> {
        if !self.tls_cert.is_empty() {
            return Err(rule(
                "http.acme_domains",
                "set either http.tls_cert and http.tls_key, or http.acme_domains",
            ));
        }
        if let Some(domain) = self.acme_domains.iter().find(|domain| !is_domain(domain)) {
            let reason = format!("{domain:?} is no name a certificate can be proved for here");
            return Err(rule("http.acme_domains", &reason));
        }
        if self.acme_domains.len() > ACME_DOMAINS_MAX {
            return Err(rule("http.acme_domains", "must be 100 names or fewer"));
        }
        let email = &self.acme_email;
        let is_address = email.split_once('@').is_some_and(|(to, at)| {
            !to.is_empty() && is_domain(at) && to.bytes().all(|byte| byte.is_ascii_graphic())
        });
        if !(email.is_empty() || is_address) {
            return Err(rule("http.acme_email", "not an e-mail address"));
        }
        if self.acme_dir.is_empty() {
            return Err(rule(
                "http.acme_dir",
                "a folder is needed: authorities limit how often they issue",
            ));
        }
        let is_url = self
            .acme_directory_url
            .strip_prefix("https://")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic()));
        if !is_url {
            return Err(rule("http.acme_directory_url", "must be an https:// URL"));
        }
        Ok(())
    }
}

/// True for a DNS name as certificates have it: letters, digits and hyphens, no wildcard, no address.
fn is_domain(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    name.len() <= 253
        && name.split('.').all(is_label)
        && !name.rsplit('.').next().is_some_and(is_number)
}
