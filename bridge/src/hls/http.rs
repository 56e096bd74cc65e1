//! The routes of live broadcasts: `/live/{room}/index.m3u8` and what is named in it.
//!
//! Names are looked up in tables; no request reaches a file. Playlists are held until they have what is
//! asked for (RFC 8216bis §6.2.5.2), the announced part until it exists.
#![expect(clippy::disallowed_methods, reason = "I/O lives here")]

#[doc(hidden)]
pub mod fuzz;
mod query;
mod respond;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use tokio::time::timeout;

use super::broadcast::{Answer, Broadcast, Text};
use super::name::Resource;
use super::playlist::Signing;
use super::publication::RenditionId;
use super::sessions::{Gate, Refusal, SessionRefused};
use super::window::Ask;
use super::{Playback, Registry};
use query::Query;
use respond::{Asked, Cache, Problem};

/// What the routes need.
pub struct Live {
    /// Where broadcasts are found.
    pub registry: Arc<Registry>,
    /// Who may watch protected ones.
    pub gate: Arc<dyn Gate>,
}

/// The routes below `/live/`.
pub fn routes(live: Arc<Live>) -> Router {
    Router::new()
        .route("/live/{room}/{*name}", any(serve))
        .with_state(live)
}

async fn serve(
    State(live): State<Arc<Live>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if method == Method::OPTIONS {
        return respond::preflight();
    }
    if method != Method::GET && method != Method::HEAD {
        return Problem::Method.respond();
    }
    live.get(&method, &uri, &headers).await
}

impl Live {
    /// Whether a path may lead to a playlist or to media: for servers that ask here before they ask their router.
    pub fn is_for(path: &str) -> bool {
        let below = path
            .strip_prefix("/live/")
            .and_then(|rest| rest.split_once('/'));
        below.is_some_and(|(room, name)| !room.is_empty() && name.contains(['/', '.']))
    }

    /// Answers a GET or HEAD.
    pub async fn get(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response {
        match answer(self, uri, &Asked::new(method, headers)).await {
            Ok(response) => response,
            Err(problem) => problem.respond(),
        }
    }
}

async fn answer(live: &Live, uri: &Uri, asked: &Asked) -> Result<Response, Problem> {
    let (room, below) = split(uri.path()).ok_or(Problem::NotFound)?;
    let query = Query::parse(uri.query().unwrap_or_default()).ok_or(Problem::Query)?;
    let broadcast = live.registry.get(&room).ok_or(Problem::NotFound)?;
    let now = Instant::now();
    if below == "index.m3u8" {
        return index(live, &room, &broadcast, &query, asked).await;
    }
    let name = below
        .strip_prefix(broadcast.id())
        .and_then(|rest| rest.strip_prefix('/'))
        .ok_or(Problem::NotFound)?;
    let resource = Resource::parse(name).ok_or(Problem::NotFound)?;
    let rights = Rights::check(&broadcast, name, &query, now)?;
    broadcast.touch(now);
    fetch(&broadcast, resource, &rights, (&query, asked)).await
}

/// The room's name, decoded once, and what comes after it as it stands.
fn split(path: &str) -> Option<(String, &str)> {
    let (room, below) = path.strip_prefix("/live/")?.split_once('/')?;
    Some((query::decode(room)?, below))
}

/// The entry: the multivariant playlist, with a new session in its URIs.
async fn index(
    live: &Live,
    room: &str,
    broadcast: &Broadcast,
    query: &Query<'_>,
    asked: &Asked,
) -> Result<Response, Problem> {
    let now = Instant::now();
    let is_protected = broadcast.settings().playback == Playback::Token;
    let viewer = if is_protected {
        let token = query.token().unwrap_or_default();
        Some(live.gate.admit(room, &token).map_err(Problem::Refused)?)
    } else {
        None
    };
    let expires_s = viewer.as_ref().map(|viewer| viewer.expires_at_s);
    let session = if is_protected || broadcast.settings().counts_viewers {
        match broadcast.begin_session(now, viewer) {
            Ok(session) => Some(session),
            Err(SessionRefused::Full) if !is_protected => None,
            Err(refused) => return Err(Problem::Session(refused)),
        }
    } else {
        None
    };
    broadcast.touch(now);
    let id = broadcast.id();
    let uri = |resource: Resource| match (&session, expires_s) {
        (Some(session), Some(expires_s)) => {
            let name = resource.to_string();
            let signing = Signing {
                secrets: broadcast.secrets(),
                session,
                expires_s,
            };
            format!("{id}/{name}?{}", signing.query(&name, expires_s))
        }
        (Some(session), None) => format!("{id}/{resource}?s={session}"),
        _ => format!("{id}/{resource}"),
    };
    let waited = timeout(
        broadcast.settings().patience(),
        broadcast.multivariant(&uri),
    );
    let Ok(text) = waited.await else {
        // Whoever comes again must not find themselves watching already.
        if let Some(session) = &session {
            broadcast.end_session(session);
        }
        return Err(Problem::NotYet);
    };
    let cache = match session {
        Some(_) => Cache::Private,
        None => Cache::Live,
    };
    Ok(asked.playlist(&Text::new(text), cache))
}

/// What a request below the entry may have.
enum Rights {
    Public,
    Signed { session: String, expires_s: u64 },
}

impl Rights {
    /// Checks a request's signature and counts its session.
    fn check(
        broadcast: &Broadcast,
        name: &str,
        query: &Query<'_>,
        now: Instant,
    ) -> Result<Self, Problem> {
        let session = query.session();
        if broadcast.settings().playback == Playback::Public {
            if let Some(session) = session {
                broadcast.touch_session(now, session);
            }
            return Ok(Self::Public);
        }
        let (Some(session), Some(expires_s), Some(signature)) =
            (session, query.expires_s(), query.signature())
        else {
            return Err(Problem::Unsigned);
        };
        if !broadcast
            .secrets()
            .is_signed(name, session, expires_s, signature)
        {
            return Err(Problem::Unsigned);
        }
        if broadcast.unix_s(now) >= expires_s {
            return Err(Problem::Expired);
        }
        // A session that was ended, or forgotten because it was idle, has no rights either.
        let expires_s = broadcast
            .touch_session(now, session)
            .ok_or(Problem::Expired)?;
        Ok(Self::Signed {
            session: session.to_owned(),
            expires_s,
        })
    }

    fn is_public(&self) -> bool {
        matches!(self, Self::Public)
    }
}

async fn fetch(
    broadcast: &Broadcast,
    resource: Resource,
    rights: &Rights,
    (query, asked): (&Query<'_>, &Asked),
) -> Result<Response, Problem> {
    match resource {
        Resource::Playlist(rendition) => {
            let ask = query.ask().ok_or(Problem::Query)?;
            playlist(broadcast, rendition, ask, (rights, asked)).await
        }
        Resource::Map { rendition, number } => {
            let bytes = broadcast.map(rendition, number).ok_or(Problem::NotFound)?;
            asked.media(vec![bytes])
        }
        Resource::Segment { rendition, msn } => {
            let pieces = broadcast.segment(rendition, msn);
            asked.media(pieces.ok_or(Problem::NotFound)?)
        }
        Resource::Part {
            rendition,
            msn,
            index,
        } => {
            let held = timeout(
                broadcast.settings().patience(),
                broadcast.part(rendition, msn, index),
            );
            let bytes = held.await.map_err(|_| Problem::NotYet)?;
            asked.media(vec![bytes.ok_or(Problem::NotFound)?])
        }
        Resource::Key(number) => {
            let key = broadcast.content_key(number).ok_or(Problem::NotFound)?;
            Ok(asked.key(Bytes::copy_from_slice(&key)))
        }
    }
}

async fn playlist(
    broadcast: &Broadcast,
    rendition: RenditionId,
    ask: Ask,
    (rights, asked): (&Rights, &Asked),
) -> Result<Response, Problem> {
    let signing = match rights {
        Rights::Public => None,
        Rights::Signed { session, expires_s } => Some(Signing {
            secrets: broadcast.secrets(),
            session,
            expires_s: *expires_s,
        }),
    };
    let patience = broadcast.settings().patience();
    let answer = timeout(patience, broadcast.playlist(rendition, ask, signing)).await;
    match answer.map_err(|_| Problem::NotYet)? {
        Answer::Unknown => Err(Problem::NotFound),
        Answer::TooFar => Err(Problem::TooFar),
        Answer::Text { text, is_ended } => {
            let cache = match (rights.is_public(), is_ended, ask.msn) {
                (false, ..) => Cache::Private,
                (true, true, _) => Cache::Ended,
                (true, false, Some(_)) => Cache::Reached,
                (true, false, None) => Cache::Live,
            };
            Ok(asked.playlist(&text, cache))
        }
    }
}
