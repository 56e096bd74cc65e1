//! The native door: a WebSocket and what is said before a session stands behind it.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, rejection};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::time::{interval, timeout};

use super::gate::bearer;
use super::problem::problem;
use super::{App, Ends, local_address};
use crate::auth::{Grants, NAME_BYTES_MAX};
use crate::message::{
    ClientMessage, CloseCode, ErrorCode, ErrorReply, FEATURES, FRAME_BYTES_MAX, Hello, SUBPROTOCOL,
    ServerReply, VERSION,
};
use crate::rooms::{Frame, JoinRequest, Outbox, Seat};
use crate::session::{encode_reply, read_offer};

/// `hello` has to come within this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// The server pings this often; a client in a hidden tab cannot be relied on to.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Without any frame for this long the socket is dead.
const IDLE_TIMEOUT: Duration = Duration::from_secs(25);
/// A frame the client does not take for this long means that it does not read.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the other side of a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// What a socket's buffers start with, and are written out at: an idle one holds no more.
const SOCKET_BUFFER_BYTES: usize = 4096;

/// `GET /v1/signal`
pub(super) async fn open(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, rejection::WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        let error = problem(
            ErrorCode::BadMessage,
            "this is a WebSocket: connect with one",
        );
        return error
            .with_status(StatusCode::UPGRADE_REQUIRED)
            .into_response();
    };
    if !is_origin_allowed(&headers, &app.allowed_origins) {
        return problem(ErrorCode::Forbidden, "this origin is not allowed").into_response();
    }
    let upgrade = upgrade.protocols([SUBPROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        let text = "the subprotocol plenum.v1 is needed";
        return problem(ErrorCode::UnsupportedVersion, text).into_response();
    }
    let caller = ends.remote.ip().to_canonical();
    let Some(pending) = Pending::count(&app, caller) else {
        return problem(ErrorCode::RateLimited, "too many open connections").into_response();
    };
    let token = bearer(&headers).map(str::to_owned);
    let reached = local_address(ends, &headers);
    // Frames somewhat over our own limit are still read, so that they get their error.
    let frame_bytes_max = 2 * frame_bytes_max();
    upgrade
        .max_message_size(frame_bytes_max)
        .max_frame_size(frame_bytes_max)
        .read_buffer_size(SOCKET_BUFFER_BYTES)
        .write_buffer_size(SOCKET_BUFFER_BYTES)
        .on_upgrade(move |socket| async move {
            app.metrics.sockets.inc();
            Door {
                app: &app,
                socket,
                caller,
                reached,
                token,
            }
            .serve(pending)
            .await;
            app.metrics.sockets.dec();
        })
}

fn frame_bytes_max() -> usize {
    usize::try_from(FRAME_BYTES_MAX).unwrap_or(usize::MAX)
}

/// A page may connect to the server it came from, and to others that name its origin. Programs send
/// no `Origin`. There are no cookies, so this only keeps other sites from using a visitor's address.
fn is_origin_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let origin_host = origin.split_once("://").map(|(_, host)| host);
    let same = host.is_some() && origin_host == host;
    same || allowed
        .iter()
        .any(|one| one == "*" || one.trim_end_matches('/') == origin)
}

/// A WebSocket that has not said hello, counted by address as long as this lives.
struct Pending {
    app: Arc<App>,
    caller: IpAddr,
}

impl Pending {
    fn count(app: &Arc<App>, caller: IpAddr) -> Option<Self> {
        let mut pending = app.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let count = pending.entry(caller).or_default();
        if *count >= app.pending_max {
            return None;
        }
        *count += 1;
        Some(Self {
            app: Arc::clone(app),
            caller,
        })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut pending = self
            .app
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = pending.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                pending.remove(&self.caller);
            }
        }
    }
}

struct Door<'a> {
    app: &'a App,
    socket: WebSocket,
    caller: IpAddr,
    /// The address of ours it came to.
    reached: Option<IpAddr>,
    /// From an `Authorization` header.
    token: Option<String>,
}

/// What came of waiting for a frame.
enum Heard {
    Text(String),
    /// A ping or pong.
    Sign,
    Refused(CloseCode),
    Gone,
}

impl Door<'_> {
    async fn serve(mut self, pending: Pending) {
        let admitted = timeout(HELLO_TIMEOUT, self.admit()).await;
        drop(pending);
        match admitted {
            Ok(Some((seat, outbox))) => {
                let code = self.converse(&seat, &outbox).await;
                self.app.rooms.detach(Instant::now(), &seat);
                self.close(code).await;
            }
            Ok(None) => {}
            Err(_) => {
                self.app
                    .gate
                    .fail(Instant::now(), self.caller, ErrorCode::Idle);
                let text = "no hello within 5 s";
                self.say(ErrorReply::new(ErrorCode::Idle, text)).await;
                self.close(Some(CloseCode::HelloTimeout)).await;
            }
        }
    }

    /// Reads `hello` until one is good; only a failed resume leaves another try.
    async fn admit(&mut self) -> Option<(Seat, Arc<Outbox>)> {
        loop {
            let text = match self.hear().await {
                Heard::Text(text) => text,
                Heard::Sign => continue,
                Heard::Refused(code) => {
                    self.refuse_frame(code).await;
                    return None;
                }
                Heard::Gone => return None,
            };
            let outbox = Arc::new(Outbox::default());
            let error = match self.hello(&text, &outbox) {
                Ok(seat) => return Some((seat, outbox)),
                Err(error) => error,
            };
            let code = error.code;
            self.say(error).await;
            if code != ErrorCode::ResumeUnknown {
                self.close(Some(code.into())).await;
                return None;
            }
        }
    }

    fn hello(&self, text: &str, outbox: &Arc<Outbox>) -> Result<Seat, ErrorReply> {
        let now = Instant::now();
        let refuse = |code, text: &str| {
            // Counted as a failed attempt, but answered with its own error.
            let failed = self.app.gate.fail(now, self.caller, code);
            let limited = failed.code == ErrorCode::RateLimited;
            if limited {
                failed
            } else {
                ErrorReply::new(code, text)
            }
        };
        let hello = match ClientMessage::parse(text) {
            Ok(ClientMessage::Hello(hello)) => *hello,
            Ok(_) => return Err(refuse(ErrorCode::BadMessage, "the first message is hello")),
            Err(error) => return Err(refuse(error.code, &error.message).about(error.id)),
        };
        tracing::debug!(sdk = ?hello.sdk, "hello");
        if !hello.v.contains(&VERSION) {
            let mut error = refuse(ErrorCode::UnsupportedVersion, "no version in common");
            error.supported = Some(vec![VERSION]);
            return Err(error);
        }
        let token = hello.token.as_deref().or(self.token.as_deref());
        let grants = self.app.gate.verify(now, self.caller, token)?;
        if let Some(resume) = &hello.resume {
            let resumed = self.app.rooms.resume(resume, &grants, Arc::clone(outbox));
            return resumed.map_err(|error| refuse(error.code, &error.message));
        }
        self.app.gate.count_join(now, &grants)?;
        let request = JoinRequest {
            reached: self.reached,
            ..join_request(hello, grants)?
        };
        self.app
            .rooms
            .join_native(now, request, Arc::clone(outbox))
            .inspect_err(|error| {
                self.app.metrics.refused(error.code);
            })
    }

    /// Carries frames both ways until one side ends it; the code to close with, if it is ours.
    async fn converse(&mut self, seat: &Seat, outbox: &Outbox) -> Option<CloseCode> {
        let mut pings = interval(PING_INTERVAL);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                frame = outbox.next() => match frame {
                    Frame::Text(text) => {
                        if !self.send(Message::text(text)).await {
                            return None;
                        }
                    }
                    Frame::Close(code) => return Some(code),
                },
                frame = self.hear() => match frame {
                    Heard::Text(text) => {
                        heard = Instant::now();
                        self.app.rooms.handle_text(heard, seat, &text);
                    }
                    Heard::Sign => heard = Instant::now(),
                    Heard::Refused(code) => {
                        self.refuse_frame(code).await;
                        return None;
                    }
                    Heard::Gone => return None,
                },
                _ = pings.tick() => {
                    if heard.elapsed() > IDLE_TIMEOUT {
                        return Some(CloseCode::Idle);
                    }
                    if !self.send(Message::Ping(bytes::Bytes::new())).await {
                        return None;
                    }
                }
            }
        }
    }

    async fn hear(&mut self) -> Heard {
        match self.socket.recv().await {
            Some(Ok(Message::Text(text))) if text.len() > frame_bytes_max() => {
                Heard::Refused(CloseCode::TooLarge)
            }
            Some(Ok(Message::Text(text))) => Heard::Text(text.to_string()),
            Some(Ok(Message::Binary(_))) => Heard::Refused(CloseCode::Unacceptable),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Heard::Sign,
            Some(Ok(Message::Close(_))) | None => Heard::Gone,
            // What is left of the connection may still take the reason. The library's own error type
            // is not ours to name; its text tells the limit from broken frames and bad UTF-8.
            Some(Err(error)) if error.to_string().contains("Space limit exceeded") => {
                Heard::Refused(CloseCode::TooLarge)
            }
            Some(Err(_)) => Heard::Refused(CloseCode::Unacceptable),
        }
    }

    async fn refuse_frame(&mut self, code: CloseCode) {
        let error = match code {
            CloseCode::TooLarge => {
                ErrorReply::new(ErrorCode::TooLarge, "a frame is at most 256 KiB")
            }
            _ => ErrorReply::new(ErrorCode::BadMessage, "frames are text in UTF-8"),
        };
        self.say(error).await;
        self.close(Some(code)).await;
    }

    async fn say(&mut self, error: ErrorReply) -> bool {
        self.send(Message::text(encode_reply(&ServerReply::Err(error))))
            .await
    }

    async fn send(&mut self, message: Message) -> bool {
        matches!(
            timeout(SEND_TIMEOUT, self.socket.send(message)).await,
            Ok(Ok(()))
        )
    }

    /// Says why and waits a little for the other side, so that the reason is not lost with the rest.
    async fn close(&mut self, code: Option<CloseCode>) {
        let Some(code) = code else { return };
        let frame = CloseFrame {
            code: code.number(),
            reason: "".into(),
        };
        if self.send(Message::Close(Some(frame))).await {
            timeout(CLOSE_TIMEOUT, async {
                while let Some(Ok(_)) = self.socket.recv().await {}
            })
            .await
            .ok();
        }
    }
}

fn join_request(hello: Hello, grants: Grants) -> Result<JoinRequest, ErrorReply> {
    let room = grants.room.clone().filter(|room| grants.may_join(room));
    let text = "the token does not allow joining a room";
    let room = room.ok_or_else(|| ErrorReply::new(ErrorCode::Forbidden, text))?;
    if hello
        .name
        .as_ref()
        .is_some_and(|name| name.len() > NAME_BYTES_MAX)
    {
        return Err(ErrorReply::new(
            ErrorCode::TooLarge,
            "a name is at most 256 bytes",
        ));
    }
    let features = FEATURES
        .iter()
        .filter(|ours| hello.features.iter().any(|one| one == **ours));
    Ok(JoinRequest {
        room,
        grants,
        name: hello.name,
        wants: if hello.auto_subscribe {
            sfu::Wants::All
        } else {
            sfu::Wants::Nothing
        },
        roster: hello.roster,
        features: features.map(|feature| (*feature).to_owned()).collect(),
        offer: hello
            .offer
            .map(|offer| read_offer(offer, None))
            .transpose()?,
        reached: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_connect_to_their_own_server_and_to_those_that_name_them() {
        let headers = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "meet.example:8443".parse().unwrap());
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            headers
        };
        assert!(is_origin_allowed(&HeaderMap::new(), &[]));
        assert!(is_origin_allowed(
            &headers("https://meet.example:8443"),
            &[]
        ));
        for foreign in [
            "https://meet.example",
            "https://evil.example",
            "null",
            "https://meet.example:8443.evil",
        ] {
            assert!(!is_origin_allowed(&headers(foreign), &[]), "{foreign}");
        }
        let allowed = ["https://app.example/".to_owned()];
        assert!(is_origin_allowed(&headers("https://app.example"), &allowed));
        assert!(!is_origin_allowed(&headers("http://app.example"), &allowed));
        assert!(is_origin_allowed(
            &headers("https://any.example"),
            &["*".to_owned()]
        ));
    }
}
