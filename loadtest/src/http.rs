//! A small HTTP/1.1 client without TLS: one request, one connection, bounded reply.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The largest reply taken.
const REPLY_MAX: u64 = 4 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);

/// An `http` URL, cut up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Host and port.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

impl Url {
    /// Cuts a URL up.
    pub fn parse(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("http://").with_context(|| {
            format!("{text} does not begin with http:// (there is no TLS here)")
        })?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if has_port { "" } else { ":80" };
        Ok(Self {
            authority: format!("{authority}{port}"),
            path: path.to_owned(),
        })
    }

    /// What a `Location` beside this URL means (RFC 9110 §10.2.2).
    pub fn join(&self, location: &str) -> Result<Self> {
        if location.contains("://") {
            return Self::parse(location);
        }
        let path = if location.starts_with('/') {
            location.to_owned()
        } else {
            let folder = self.path.rfind('/').map_or(0, |at| at + 1);
            format!("{}{location}", self.path.get(..folder).unwrap_or("/"))
        };
        Ok(Self {
            path,
            ..self.clone()
        })
    }

    /// Where its host is; IPv4 first, as bots speak it.
    pub async fn resolve(&self) -> Result<SocketAddr> {
        let found = tokio::net::lookup_host(&self.authority).await?;
        let found: Vec<SocketAddr> = found.collect();
        let first = found.iter().find(|addr| addr.is_ipv4()).or(found.first());
        first
            .copied()
            .with_context(|| format!("{} has no address", self.authority))
    }
}

/// A reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Header names in lower case, with their values.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

impl Reply {
    /// The first header of this (lower case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is not.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Request {
    /// A request without body.
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// With a bearer token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With a body of this type.
    #[must_use]
    pub fn body(self, kind: &str, body: impl Into<String>) -> Self {
        let mut request = self.header("content-type", kind);
        request.body = body.into();
        request
    }

    /// Sends it and reads the whole reply.
    pub async fn send(self, server: SocketAddr) -> Result<Reply> {
        tokio::time::timeout(TIMEOUT, self.exchange(server))
            .await
            .context("no reply in time")?
    }

    async fn exchange(self, server: SocketAddr) -> Result<Reply> {
        let mut stream = TcpStream::connect(server).await?;
        let mut text = format!(
            "{} {} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\ncontent-length: {}\r\n",
            self.method,
            self.path,
            self.body.len()
        );
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.push_str(&self.body);
        // A server may refuse before it has read everything; its reply counts all the same.
        let _ = stream.write_all(text.as_bytes()).await;
        let mut bytes = Vec::new();
        let read = (&mut stream).take(REPLY_MAX).read_to_end(&mut bytes).await;
        ensure!(
            read.is_ok() || !bytes.is_empty(),
            "the connection broke before a reply"
        );
        parse(&bytes)
    }
}

fn parse(bytes: &[u8]) -> Result<Reply> {
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .context("no end of head")?;
    let (head, body) = bytes.split_at(end);
    let head = std::str::from_utf8(head)?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .context("no status line")?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = body.get(4..).unwrap_or_default();
    let chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value.eq_ignore_ascii_case("chunked"));
    let body = if chunked {
        unchunk(body)?
    } else {
        body.to_vec()
    };
    Ok(Reply {
        status: status.parse()?,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest
            .windows(2)
            .position(|two| two == b"\r\n")
            .context("no chunk size")?;
        let (size, tail) = rest.split_at(end);
        let size = usize::from_str_radix(std::str::from_utf8(size)?.trim(), 16)?;
        if size == 0 {
            return Ok(body);
        }
        let tail = tail.get(2..).unwrap_or_default();
        body.extend_from_slice(tail.get(..size).context("a chunk is cut short")?);
        rest = tail.get(size + 2..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_cut_up_and_locations_joined() {
        let url = Url::parse("http://host/whep/room").unwrap();
        assert_eq!((&*url.authority, &*url.path), ("host:80", "/whep/room"));
        assert_eq!(url.join("/x/1").unwrap().path, "/x/1");
        assert_eq!(url.join("1").unwrap().path, "/whep/1");
        let other = url.join("http://other:81/y").unwrap();
        assert_eq!((&*other.authority, &*other.path), ("other:81", "/y"));
        assert_eq!(
            Url::parse("http://[::1]:8080").unwrap().authority,
            "[::1]:8080"
        );
        assert!(Url::parse("https://host").is_err());
    }

    #[test]
    fn replies_are_read_plain_and_chunked() {
        let reply = parse(b"HTTP/1.1 201 Created\r\nLocation: /x\r\n\r\nv=0").unwrap();
        assert_eq!((reply.status, reply.header("location")), (201, Some("/x")));
        assert_eq!(reply.body, "v=0");
        let chunked =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap().body, "abc");
        assert!(parse(b"HTTP/1.1 200").is_err());
    }
}
