//! Sessions of the doctor's own: each a WHEP session in a room nobody else is in.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use net::stun::TransactionId;
use thiserror::Error;

use super::answer::{Answer, Ours, TurnServer, write_offer};
use super::web::Web;
use crate::auth::{self, Claims, VideoGrant};
use crate::config::Config;
use crate::rooms::random_key;

/// Tokens are good this long, in seconds.
const TOKEN_S: u64 = 120;

/// Makes sessions.
#[derive(Debug)]
pub(super) struct Visitor<'a> {
    config: &'a Config,
    key: &'a str,
    web: &'a Web,
    now_s: u64,
}

/// A session, until it is closed.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) ours: Ours,
    pub(super) answer: Answer,
    pub(super) turn: Vec<TurnServer>,
    room: String,
    token: String,
    location: Option<String>,
}

/// Why there is no session.
#[derive(Debug, Error)]
pub(super) enum SessionError {
    #[error("{0}")]
    Unreachable(#[from] io::Error),
    /// The server does not take the token.
    #[error("the server refuses the key {key:?}: {reason}")]
    Key { key: String, reason: String },
    #[error("the server refuses a WHEP session: {0}")]
    Refused(String),
    #[error("the server's answer names no ICE credentials")]
    Answer,
    #[error("{0}")]
    Here(String),
}

impl<'a> Visitor<'a> {
    pub(super) fn new(config: &'a Config, key: &'a str, web: &'a Web, now_s: u64) -> Self {
        Self {
            config,
            key,
            web,
            now_s,
        }
    }

    /// Opens one.
    pub(super) fn open(&self) -> Result<Session, SessionError> {
        let here = |error: anyhow::Error| SessionError::Here(error.to_string());
        let room = format!("doctor-{}", random_key());
        let token = self.token(&room).map_err(here)?;
        let ours = draw_ours().map_err(here)?;
        let offer = write_offer(&ours);
        let bearer = format!("Bearer {token}");
        let path = format!("/whep/{room}");
        let join = || {
            let headers = [
                ("Authorization", bearer.as_str()),
                ("Content-Type", "application/sdp"),
            ];
            self.web.request("POST", &path, &headers, &offer)
        };
        let mut reply = join()?;
        if reply.status == 404 && self.open_room(&room, &bearer)? {
            reply = join()?;
        }
        match reply.status {
            201 => {}
            401 => {
                return Err(SessionError::Key {
                    key: self.key.to_owned(),
                    reason: reply.reason(),
                });
            }
            _ => return Err(SessionError::Refused(reply.reason())),
        }
        let answer = Answer::read(&reply.body).ok_or(SessionError::Answer)?;
        Ok(Session {
            ours,
            answer,
            turn: reply.headers("link").filter_map(TurnServer::read).collect(),
            location: reply.headers("location").next().map(str::to_owned),
            room,
            token,
        })
    }

    /// For servers where joining opens no room.
    fn open_room(&self, room: &str, bearer: &str) -> io::Result<bool> {
        let headers = [
            ("Authorization", bearer),
            ("Content-Type", "application/json"),
        ];
        let path = format!("/v1/rooms/{room}");
        let reply = self.web.request("PUT", &path, &headers, "{}")?;
        Ok(matches!(reply.status, 200 | 201))
    }

    /// Ends a session and its room. What cannot be ended ends by itself within a minute.
    pub(super) fn close(&self, session: &Session) {
        if let Some(location) = &session.location {
            self.web.request("DELETE", location, &[], "").ok();
        }
        let bearer = format!("Bearer {}", session.token);
        let path = format!("/v1/rooms/{}", session.room);
        let headers = [("Authorization", bearer.as_str())];
        self.web.request("DELETE", &path, &headers, "").ok();
    }

    fn token(&self, room: &str) -> Result<String> {
        let yes = Some(true);
        let claims = Claims {
            sub: Some("doctor".to_owned()),
            exp: self.now_s + TOKEN_S,
            video: VideoGrant {
                room: Some(room.to_owned()),
                room_join: yes,
                room_create: yes,
                can_publish: Some(false),
                ..VideoGrant::default()
            },
            ..Claims::default()
        };
        Ok(auth::sign(&self.config.auth, self.key, claims)?)
    }
}

fn draw_ours() -> Result<Ours> {
    let mut hash = [0; 32];
    getrandom::fill(&mut hash).context("the system gives no randomness")?;
    let hex: Vec<String> = hash.iter().map(|byte| format!("{byte:02X}")).collect();
    let (ufrag, pwd) = (letters(&hash, 8), letters(&hash, 32));
    Ok(Ours {
        ufrag,
        pwd,
        fingerprint: hex.join(":"),
    })
}

/// Nothing depends on these being secret: who guesses them can only answer our checks.
fn letters(random: &[u8], count: usize) -> String {
    let letter = |byte: &u8| char::from(b'a' + byte % 26);
    random.iter().take(count).map(letter).collect()
}

/// Transaction ids that nobody else uses.
#[derive(Debug)]
pub(super) struct Ids {
    start: [u8; 8],
    next: AtomicU32,
}

impl Ids {
    pub(super) fn new() -> Result<Self> {
        let mut start = [0; 8];
        getrandom::fill(&mut start).context("the system gives no randomness")?;
        let next = AtomicU32::new(0);
        Ok(Self { start, next })
    }

    pub(super) fn draw(&self) -> TransactionId {
        let mut id = [0; 12];
        let (start, number) = id.split_at_mut(8);
        start.copy_from_slice(&self.start);
        number.copy_from_slice(&self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_offer_is_made_of_has_the_form_it_must_have() {
        let ours = draw_ours().unwrap();
        // RFC 8839 §5.4 gives the lengths.
        assert_eq!((ours.ufrag.len(), ours.pwd.len()), (8, 32));
        assert_eq!(ours.fingerprint.split(':').count(), 32);
        assert_ne!(ours.fingerprint, draw_ours().unwrap().fingerprint);
    }

    #[test]
    fn no_transaction_id_comes_twice() {
        let ids = Ids::new().unwrap();
        let (first, second) = (ids.draw(), ids.draw());
        assert_eq!(first[..8], second[..8]);
        assert_ne!(first, second);
    }
}
