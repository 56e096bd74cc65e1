//! Where a program is pushed to: `rtmp[s]://host[:port]/application[/...]/key`.
#![warn(clippy::indexing_slicing)]

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// An RTMP server, and the key it gave out. The key is a secret: it is neither shown nor logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub(crate) is_tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) application: String,
    pub(crate) key: String,
}

/// Why an address is none of a target.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetError {
    /// Another scheme.
    #[error("the address of a target begins with rtmp:// or rtmps://")]
    Scheme,
    /// No host, or a port that is none.
    #[error("the address of a target has a host and, if any, a port of 1 to 65535")]
    Host,
    /// Nothing after the host.
    #[error("the address of a target names an application: rtmp://host/application/key")]
    NoApplication,
    /// Only an application.
    #[error("the address of a target ends with a stream key: rtmp://host/application/key")]
    NoKey,
    /// User and password, which are no part of what RTMP servers take.
    #[error("the address of a target has no user name and password: keys follow the application")]
    Credentials,
    /// Longer than any, or with characters that no address has.
    #[error("the address of a target has characters that no address has, or is too long")]
    Malformed,
}

impl Target {
    /// An address and a key apart, as services show them.
    ///
    /// # Errors
    /// They are no target.
    pub fn new(address: &str, key: &str) -> Result<Self, TargetError> {
        let address = address.trim_end_matches('/');
        let (is_tls, rest) = match address.split_once("://") {
            Some(("rtmp", rest)) => (false, rest),
            Some(("rtmps", rest)) => (true, rest),
            _ => return Err(TargetError::Scheme),
        };
        let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_graphic());
        if address.len() + key.len() > LENGTH_MAX || !is_plain(address) || !is_plain(key) {
            return Err(TargetError::Malformed);
        }
        let (authority, application) = rest.split_once('/').ok_or(TargetError::NoApplication)?;
        if authority.contains('@') {
            return Err(TargetError::Credentials);
        }
        let (host, port) = split_port(authority)?;
        if host.is_empty() {
            return Err(TargetError::Host);
        }
        if application.is_empty() {
            return Err(TargetError::NoApplication);
        }
        if key.is_empty() {
            return Err(TargetError::NoKey);
        }
        let port = port.unwrap_or(if is_tls { 443 } else { 1935 });
        let (host, application, key) = (host.to_owned(), application.to_owned(), key.to_owned());
        Ok(Self {
            is_tls,
            host,
            port,
            application,
            key,
        })
    }

    /// The address of the application, which servers want to hear; without the key.
    pub(crate) fn tc_url(&self) -> String {
        let scheme = if self.is_tls { "rtmps" } else { "rtmp" };
        let default = if self.is_tls { 443 } else { 1935 };
        let is_v6 = self.host.contains(':');
        let host = if is_v6 {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        let port = if self.port == default {
            String::new()
        } else {
            format!(":{}", self.port)
        };
        format!("{scheme}://{host}{port}/{}", self.application)
    }
}

impl FromStr for Target {
    type Err = TargetError;

    /// The application is the first part of the path, the key all that follows; keys have slashes and
    /// queries of their own. Where the application has several parts, use [`Target::new`].
    fn from_str(address: &str) -> Result<Self, TargetError> {
        let (scheme, rest) = address.split_once("://").ok_or(TargetError::Scheme)?;
        let (authority, path) = rest.split_once('/').ok_or(TargetError::NoApplication)?;
        let Some((application, key)) = path.split_once('/') else {
            let is_empty = path.is_empty();
            return Err(if is_empty {
                TargetError::NoApplication
            } else {
                TargetError::NoKey
            });
        };
        Self::new(&format!("{scheme}://{authority}/{application}"), key)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.tc_url()).finish()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tc_url())
    }
}

/// Host and port; IPv6 addresses are in brackets.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), TargetError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(TargetError::Host)?;
            (
                host,
                after
                    .strip_prefix(':')
                    .or((!after.is_empty()).then_some("")),
            )
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = port.map(|port| {
        port.parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or(TargetError::Host)
    });
    Ok((host, port.transpose()?))
}

const LENGTH_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(address: &str) -> Result<(bool, String, u16, String, String), TargetError> {
        let target: Target = address.parse()?;
        let Target {
            is_tls,
            host,
            port,
            application,
            key,
        } = target;
        Ok((is_tls, host, port, application, key))
    }

    fn expected(
        tls: bool,
        host: &str,
        port: u16,
        app: &str,
        key: &str,
    ) -> (bool, String, u16, String, String) {
        (tls, host.to_owned(), port, app.to_owned(), key.to_owned())
    }

    #[test]
    fn addresses_of_services_are_read() {
        let youtube = expected(false, "a.rtmp.example", 1935, "live2", "ab12-cd34-ef56");
        assert_eq!(
            parts("rtmp://a.rtmp.example/live2/ab12-cd34-ef56"),
            Ok(youtube)
        );
        let twitch = expected(
            true,
            "ingest.example",
            443,
            "app",
            "live_1_x?bandwidthtest=true",
        );
        assert_eq!(
            parts("rtmps://ingest.example/app/live_1_x?bandwidthtest=true"),
            Ok(twitch)
        );
        let slashes = expected(false, "h", 1936, "rtmp", "FB-1/2?s_bl=1&a=b/c");
        assert_eq!(parts("rtmp://h:1936/rtmp/FB-1/2?s_bl=1&a=b/c"), Ok(slashes));
        let v6 = expected(false, "::1", 1936, "live", "k");
        assert_eq!(parts("rtmp://[::1]:1936/live/k"), Ok(v6));
    }

    #[test]
    fn address_and_key_may_be_apart() {
        let target = Target::new("rtmp://host/app/instance/", "key/with?query").unwrap();
        assert_eq!(
            (target.application.as_str(), target.key.as_str()),
            ("app/instance", "key/with?query")
        );
        assert_eq!(target.tc_url(), "rtmp://host/app/instance");
        assert_eq!(
            Target::new("rtmps://[::1]:444/app", "key")
                .unwrap()
                .tc_url(),
            "rtmps://[::1]:444/app"
        );
    }

    #[test]
    fn what_is_no_target_is_said() {
        for (address, error) in [
            ("http://h/a/k", TargetError::Scheme),
            ("rtmp:h/a/k", TargetError::Scheme),
            ("rtmp:///a/k", TargetError::Host),
            ("rtmp://h:0/a/k", TargetError::Host),
            ("rtmp://h:99999/a/k", TargetError::Host),
            ("rtmp://[::1/a/k", TargetError::Host),
            ("rtmp://[::1]x/a/k", TargetError::Host),
            ("rtmp://h", TargetError::NoApplication),
            ("rtmp://h/", TargetError::NoApplication),
            ("rtmp://h/a", TargetError::NoKey),
            ("rtmp://h/a/", TargetError::NoKey),
            ("rtmp://u:p@h/a/k", TargetError::Credentials),
            ("rtmp://h/a/k\r\n", TargetError::Malformed),
        ] {
            assert_eq!(parts(address), Err(error), "{address}");
        }
    }

    #[test]
    fn the_key_is_not_shown() {
        let target: Target = "rtmp://host/app/secret".parse().unwrap();
        assert!(!format!("{target:?} {target}").contains("secret"));
    }
}
