//! Answers: media with ranges, playlists with gzip, problems, and what caches and other origins may do.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;

use super::{Refusal, SessionRefused, Text};

/// How a request wants its answer.
#[derive(Debug)]
pub(super) struct Asked {
    is_head: bool,
    takes_gzip: bool,
    range: Option<String>,
}

/// How long who may keep an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cache {
    /// The newest playlist.
    Live,
    /// A playlist that has the part that was asked for: right for all who ask the same.
    Reached,
    /// It changes no more.
    Ended,
    /// It is one viewer's.
    Private,
    /// Media: never anything else under that name.
    Immutable,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Problem {
    NotFound,
    Method,
    Query,
    TooFar,
    NotYet,
    Refused(Refusal),
    Session(SessionRefused),
    Unsigned,
    Expired,
    Range { bytes: usize },
}

/// An answer has no more of them, with those that the server adds: it would have to make room twice.
const HEADERS: usize = 12;

const PLAYLIST: &str = "application/vnd.apple.mpegurl";

impl Asked {
    pub(super) fn new(method: &Method, headers: &HeaderMap) -> Self {
        let text = |name| {
            headers
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
        };
        Self {
            is_head: method == Method::HEAD,
            takes_gzip: text(header::ACCEPT_ENCODING).is_some_and(takes_gzip),
            range: text(header::RANGE).map(str::to_owned),
        }
    }

    /// A playlist, compressed if that is understood.
    pub(super) fn playlist(&self, text: &Text, cache: Cache) -> Response {
        let bytes = if self.takes_gzip {
            text.gzip()
        } else {
            text.plain.clone()
        };
        let mut response = self.whole(PLAYLIST, cache, vec![bytes]);
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        if self.takes_gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    /// A segment, part or initialisation segment, or the range of it that is asked for (RFC 9110 §14).
    pub(super) fn media(&self, pieces: Vec<Bytes>) -> Result<Response, Problem> {
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        let range = self
            .range
            .as_deref()
            .and_then(|range| parse_range(range, bytes));
        let Some(range) = range else {
            let mut response = self.whole("video/mp4", Cache::Immutable, pieces);
            let accepts = HeaderValue::from_static("bytes");
            response
                .headers_mut()
                .insert(header::ACCEPT_RANGES, accepts);
            return Ok(response);
        };
        let (from, to) = range.map_err(|()| Problem::Range { bytes })?;
        let mut response = self.whole("video/mp4", Cache::Immutable, cut(pieces, from, to));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let content = format!("bytes {from}-{to}/{bytes}");
        if let Ok(content) = HeaderValue::from_str(&content) {
            response
                .headers_mut()
                .insert(header::CONTENT_RANGE, content);
        }
        Ok(response)
    }

    pub(super) fn key(&self, bytes: Bytes) -> Response {
        self.whole("application/octet-stream", Cache::Private, vec![bytes])
    }

    fn whole(&self, kind: &'static str, cache: Cache, pieces: Vec<Bytes>) -> Response {
        let length: usize = pieces.iter().map(Bytes::len).sum();
        let body = match <[Bytes; 1]>::try_from(pieces) {
            _ if self.is_head => Body::empty(),
            // Written together with the head.
            Ok([bytes]) => Body::from(bytes),
            Err(pieces) => {
                let pieces = pieces.into_iter().map(Ok::<_, std::convert::Infallible>);
                Body::from_stream(stream::iter(pieces))
            }
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        *headers = HeaderMap::with_capacity(HEADERS);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static(cache.control()),
        );
        share(headers);
        response
    }
}

impl Cache {
    fn control(self) -> &'static str {
        match self {
            Self::Live => "public, max-age=1",
            Self::Reached => "public, max-age=6",
            Self::Ended => "public, max-age=3600",
            Self::Private => "private, no-store",
            Self::Immutable => "public, max-age=86400, immutable",
        }
    }
}

impl Problem {
    /// RFC 9457.
    pub(super) fn respond(self) -> Response {
        let (status, code, detail) = self.tell();
        let title = status.canonical_reason().unwrap_or("Error");
        let body = serde_json::json!({
            "type": "about:blank",
            "title": title,
            "status": status.as_u16(),
            "detail": detail,
            "code": code,
        });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        match self {
            Self::Method => {
                let methods = HeaderValue::from_static("GET, HEAD, OPTIONS");
                headers.insert(header::ALLOW, methods);
            }
            Self::Range { bytes } => {
                if let Ok(range) = HeaderValue::from_str(&format!("bytes */{bytes}")) {
                    headers.insert(header::CONTENT_RANGE, range);
                }
            }
            _ => {}
        }
        share(headers);
        response
    }

    fn tell(&self) -> (StatusCode, &'static str, String) {
        let (status, code, detail) = match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "there is nothing here"),
            Self::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                "bad_message",
                "this resource has no such method",
            ),
            Self::Query => (
                StatusCode::BAD_REQUEST,
                "bad_message",
                "the query makes no sense",
            ),
            Self::TooFar => (
                StatusCode::BAD_REQUEST,
                "bad_message",
                "that is too far in the future",
            ),
            Self::NotYet => (
                StatusCode::SERVICE_UNAVAILABLE,
                "not_ready",
                "there is no media yet",
            ),
            Self::Refused(Refusal::Unauthorized(detail)) => {
                return (StatusCode::UNAUTHORIZED, "unauthorized", detail.clone());
            }
            Self::Refused(Refusal::Forbidden(detail)) => {
                return (StatusCode::FORBIDDEN, "forbidden", detail.clone());
            }
            Self::Session(SessionRefused::UserLimit) => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_sessions",
                "this user watches with as many players as allowed",
            ),
            Self::Session(SessionRefused::Full) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "full",
                "as many are watching as can be",
            ),
            Self::Unsigned => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "the signature is not that of this address",
            ),
            Self::Expired => (
                StatusCode::FORBIDDEN,
                "expired",
                "the signature is no longer good",
            ),
            Self::Range { .. } => (
                StatusCode::RANGE_NOT_SATISFIABLE,
                "range",
                "there are not as many bytes",
            ),
        };
        (status, code, detail.to_owned())
    }
}

/// The answer to a browser that asks before it fetches from another origin.
pub(super) fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Range, Content-Type"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
        (header::ALLOW, "GET, HEAD, OPTIONS"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    share(headers);
    response
}

/// Players are on any origin.
fn share(headers: &mut HeaderMap) {
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Age, Content-Length, Content-Range, Date, Retry-After"),
    );
}

/// RFC 9110 §12.5.3: gzip is named, or everything is, and not with a weight of zero.
fn takes_gzip(accepts: &str) -> bool {
    accepts.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight
            .trim()
            .strip_prefix("q=")
            .and_then(|weight| weight.parse::<f32>().ok())
            == Some(0.0);
        matches!(name.trim(), "gzip" | "*") && !refused
    })
}

/// The first and last byte of a range. `None`: no range that is understood, so all is sent.
fn parse_range(range: &str, bytes: usize) -> Option<Result<(usize, usize), ()>> {
    let range = range.strip_prefix("bytes=")?;
    let (from, to) = range.split_once('-')?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if range.contains(',') || !is_number(from) || !is_number(to) {
        return None;
    }
    // A number with more digits than that is past any end.
    let number = |text: &str| text.parse::<usize>().unwrap_or(usize::MAX);
    Some(match (from.is_empty(), to.is_empty()) {
        (true, true) => return None,
        (true, false) => match number(to) {
            0 => Err(()),
            _ if bytes == 0 => Err(()),
            last => Ok((bytes.saturating_sub(last), bytes - 1)),
        },
        (false, _) => {
            let from = number(from);
            let to = if to.is_empty() {
                usize::MAX
            } else {
                number(to)
            };
            match bytes.checked_sub(1) {
                Some(end) if from <= end && from <= to => Ok((from, to.min(end))),
                Some(_) if from > to => return None,
                _ => Err(()),
            }
        }
    })
}

/// The bytes from one place to another, both included.
fn cut(pieces: Vec<Bytes>, from: usize, to: usize) -> Vec<Bytes> {
    let mut at = 0;
    let mut cut = Vec::new();
    for piece in pieces {
        let (begin, end) = (
            from.saturating_sub(at),
            (to + 1).saturating_sub(at).min(piece.len()),
        );
        if begin < end {
            cut.push(piece.slice(begin..end));
        }
        at += piece.len();
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        assert_eq!(parse_range("bytes=0-0", 10), Some(Ok((0, 0))));
        assert_eq!(parse_range("bytes=2-", 10), Some(Ok((2, 9))));
        assert_eq!(parse_range("bytes=-3", 10), Some(Ok((7, 9))));
        assert_eq!(parse_range("bytes=-30", 10), Some(Ok((0, 9))));
        assert_eq!(
            parse_range("bytes=0-9007199254740991", 10),
            Some(Ok((0, 9)))
        );
        assert_eq!(parse_range("bytes=10-", 10), Some(Err(())));
        assert_eq!(
            parse_range("bytes=99999999999999999999-", 10),
            Some(Err(()))
        );
        assert_eq!(parse_range("bytes=-0", 10), Some(Err(())));
        for other in [
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=a-b",
            "bytes=3-1",
            "bytes=-",
        ] {
            assert_eq!(parse_range(other, 10), None, "{other}");
        }
    }

    #[test]
    fn a_range_goes_over_pieces() {
        let pieces = || {
            vec![
                Bytes::from_static(b"abc"),
                Bytes::from_static(b"def"),
                Bytes::from_static(b"g"),
            ]
        };
        for from in 0..7 {
            for to in from..7 {
                assert_eq!(cut(pieces(), from, to).concat(), b"abcdefg"[from..=to]);
            }
        }
    }

    #[test]
    fn gzip_must_be_named() {
        assert!(takes_gzip("deflate, gzip;q=0.5"));
        assert!(takes_gzip("*"));
        assert!(!takes_gzip("gzip;q=0, br"));
        assert!(!takes_gzip("identity"));
    }
}
