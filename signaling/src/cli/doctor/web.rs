//! Where the server's pages are, and HTTP requests to there: one connection for each.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use rustls::pki_types::{CertificateDer, ServerName};

use super::dial::Line;
use crate::http::PROXY_LOCAL;

/// An answer's head and body together are at most this long, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// A head alone.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// An `http` or `https` address, cut up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) is_https: bool,
    /// A name, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Begins with a slash or is empty; none at the end.
    path: String,
}

/// A server at one of its addresses.
#[derive(Clone, Debug)]
pub(super) struct Web {
    pub(super) url: Url,
    pub(super) address: SocketAddr,
    /// The name asked for in TLS, where it is not the URL's host.
    pub(super) name: Option<String>,
    /// Connections begin with a PROXY header.
    pub(super) is_proxied: bool,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: String,
    /// What the server showed, itself first; empty without TLS.
    pub(super) chain: Vec<CertificateDer<'static>>,
}

impl Url {
    /// `None` for what is no such address.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_https = match scheme {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        let path = path.split(['?', '#']).next()?.trim_end_matches('/');
        let (host, port) = split_port(authority)?;
        let usual = if is_https { 443 } else { 80 };
        Some(Self {
            is_https,
            host: host.to_owned(),
            port: port.unwrap_or(usual),
            path: path.to_owned(),
        })
    }

    /// Where a server listens.
    pub(super) fn of(address: SocketAddr, is_https: bool) -> Self {
        Self {
            is_https,
            host: address.ip().to_string(),
            port: address.port(),
            path: String::new(),
        }
    }

    /// Every address of the host.
    pub(super) fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        resolve(&self.host, self.port)
    }

    /// As a URL and a `Host` header have it: the usual port is left out.
    fn authority(&self) -> String {
        let host = match self.host.parse() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => self.host.clone(),
        };
        match (self.is_https, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// Every address of a name, or the address itself.
pub(super) fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no address"));
    }
    Ok(found)
}

/// `host`, `host:port`, `[v6]` and `[v6]:port`.
pub(super) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => authority.split_at_checked(authority.find(':').unwrap_or(authority.len()))?,
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => Some(port.parse().ok()?),
        None if rest.is_empty() => None,
        None => return None,
    };
    (!host.is_empty()).then_some((host, port))
}

impl Web {
    /// Sends a request without a body.
    pub(super) fn get(&self, path: &str) -> io::Result<Reply> {
        self.request("GET", path, &[], "")
    }

    /// Sends a request and reads the answer.
    pub(super) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> io::Result<Reply> {
        let (mut line, chain) = self.connect()?;
        // HTTP/1.0: the answer ends with the connection and comes in one piece.
        let mut head = format!(
            "{method} {}{path} HTTP/1.0\r\nHost: {}\r\nContent-Length: {}\r\n",
            self.url.path,
            self.url.authority(),
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        line.write_all(format!("{head}\r\n{body}").as_bytes())?;
        line.flush()?;
        let mut answer = Vec::new();
        match line.take(ANSWER_BYTES_MAX).read_to_end(&mut answer) {
            Ok(_) => {}
            // A proxy that ends TLS without saying so has still sent everything.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        }
        let reply = Reply::read(&answer).ok_or_else(no_http)?;
        Ok(Reply { chain, ..reply })
    }

    /// Asks for a WebSocket; what is answered, without what would follow.
    pub(super) fn upgrade(&self, path: &str, protocol: &str) -> io::Result<Reply> {
        let (mut line, chain) = self.connect()?;
        let request = format!(
            "GET {}{path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             Sec-WebSocket-Protocol: {protocol}\r\n\r\n",
            self.url.path,
            self.url.authority(),
        );
        line.write_all(request.as_bytes())?;
        line.flush()?;
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") && answer.len() < HEAD_BYTES_MAX {
            match line.read(&mut part)? {
                0 => break,
                length => answer.extend(part.iter().take(length)),
            }
        }
        let reply = Reply::read(&answer).ok_or_else(no_http)?;
        Ok(Reply { chain, ..reply })
    }

    fn connect(&self) -> io::Result<(Line, Vec<CertificateDer<'static>>)> {
        let mut line = Line::connect(self.address)?;
        if self.is_proxied {
            line.write_all(&PROXY_LOCAL)?;
        }
        if !self.url.is_https {
            return Ok((line, Vec::new()));
        }
        line.secure(server_name(self.name())?, b"http/1.1")
    }

    /// What the certificate has to be for.
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.url.host)
    }
}

/// A host as TLS names it.
pub(super) fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidInput, "not a name");
    ServerName::try_from(host.to_owned()).map_err(invalid)
}

fn no_http() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP")
}

impl Reply {
    pub(super) fn read(answer: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(answer);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let (version, rest) = lines.next()?.split_once(' ')?;
        if !version.starts_with("HTTP/1.") {
            return None;
        }
        let status = rest.split(' ').next()?.parse().ok()?;
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Some(Self {
            status,
            headers: lines.filter_map(header).collect(),
            body: body.to_owned(),
            chain: Vec::new(),
        })
    }

    /// The values of all headers of this name, in lower case.
    pub(super) fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let headers = self.headers.iter().filter(move |(known, _)| known == name);
        headers.map(|(_, value)| value.as_str())
    }

    /// What a refusal says, in words (RFC 9457).
    pub(super) fn reason(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        match body["detail"].as_str() {
            Some(detail) => format!("{detail} (status {})", self.status),
            None => format!("status {}", self.status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_cut_up_and_written_again() {
        for (text, host, port, written) in [
            (
                "https://meet.example",
                "meet.example",
                443,
                "https://meet.example",
            ),
            (
                "http://meet.example/",
                "meet.example",
                80,
                "http://meet.example",
            ),
            (
                "http://192.0.2.1:8080/a/?room=b",
                "192.0.2.1",
                8080,
                "http://192.0.2.1:8080/a",
            ),
            (
                "https://[2001:db8::1]/",
                "2001:db8::1",
                443,
                "https://[2001:db8::1]",
            ),
            ("https://[::1]:8443", "::1", 8443, "https://[::1]:8443"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.host.as_str(), url.port), (host, port), "{text}");
            assert_eq!(url.to_string(), written);
        }
        for text in [
            "",
            "meet.example",
            "ftp://meet.example",
            "http://",
            "http://:80",
            "http://a:b",
            "http://a:70000",
            "https://[::1",
            "https://[::1]x",
        ] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }

    #[test]
    fn replies_are_read_with_all_their_headers() {
        let answer = b"HTTP/1.1 201 Created\r\nLink: <a>; rel=\"x\"\r\nLOCATION: /whep/r/1\r\n\
            link: <b>\r\nbroken\r\n\r\nv=0\r\n";
        let reply = Reply::read(answer).unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (201, "v=0\r\n"));
        let links: Vec<&str> = reply.headers("link").collect();
        assert_eq!(links, ["<a>; rel=\"x\"", "<b>"]);
        assert_eq!(reply.headers("location").next(), Some("/whep/r/1"));
        assert_eq!(reply.headers("etag").next(), None);
        for end in 0..answer.len() {
            // A head that is cut off is none; a body that is cut off is the server's affair.
            let is_whole = answer[..end].windows(4).any(|end| end == b"\r\n\r\n");
            assert_eq!(Reply::read(&answer[..end]).is_some(), is_whole, "{end}");
        }
        for answer in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1\r\n\r\n",
            "HTTP/1.1 x\r\n\r\n",
        ] {
            assert!(Reply::read(answer.as_bytes()).is_none(), "{answer:?}");
        }
    }

    #[test]
    fn a_refusal_says_why() {
        let answer = b"HTTP/1.1 401 Unauthorized\r\n\r\n{\"detail\":\"no such key\"}";
        let reply = Reply::read(answer).unwrap();
        assert_eq!(reply.reason(), "no such key (status 401)");
        let answer = b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>";
        assert_eq!(Reply::read(answer).unwrap().reason(), "status 502");
    }
}
