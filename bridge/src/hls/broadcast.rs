//! What a broadcast keeps in memory for its viewers, shared by its packager and the HTTP routes.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::watch;

use super::Settings;
use super::name::Resource;
use super::playlist::{MediaPlaylist, Signing, Uris, multivariant};
use super::publication::{Publication, RenditionId};
use super::secrets::Secrets;
use super::sessions::{SessionRefused, Sessions, Viewer};
use super::window::{Ask, Found, Verdict, Window};

/// Wakes a broadcast that nobody watched; called from HTTP requests, so it must not block.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// The moment a broadcast began, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Its zero.
    pub zero: Instant,
    /// The Unix time then, in microseconds.
    pub unix_us: i64,
}

/// One broadcast as it is served.
pub struct Broadcast {
    id: String,
    settings: Arc<Settings>,
    secrets: Arc<Secrets>,
    clock: Clock,
    shelf: Mutex<Shelf>,
    /// One for each rendition: it has changed.
    changes: [watch::Sender<u64>; RenditionId::COUNT],
    /// A segment became whole somewhere.
    segments: watch::Sender<u64>,
    sessions: Mutex<Sessions>,
    requested_at: Mutex<Option<Instant>>,
    wake: Option<Wake>,
    is_asleep: AtomicBool,
}

/// The windows of all renditions and what is rendered of them.
#[derive(Default)]
struct Shelf {
    windows: BTreeMap<RenditionId, Window>,
    /// Of each rendition, whole and as delta update; gone with its next change.
    rendered: BTreeMap<(RenditionId, bool), Arc<Text>>,
}

/// A playlist, shared by all who wait for the same one.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) plain: Bytes,
    gzip: OnceLock<Bytes>,
}

/// The outcome of asking for a media playlist.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Text { text: Arc<Text>, is_ended: bool },
    TooFar,
    Unknown,
}

impl Broadcast {
    /// Makes a broadcast that nothing was published to.
    ///
    /// All its secrets come from `seed`: 32 random bytes that are used once.
    pub fn new(settings: Settings, seed: &[u8; 32], clock: Clock, wake: Option<Wake>) -> Self {
        let secrets = Arc::new(Secrets::new(seed));
        Self {
            id: secrets.broadcast_id(),
            settings: Arc::new(settings),
            secrets,
            clock,
            shelf: Mutex::default(),
            changes: std::array::from_fn(|_| watch::Sender::new(0)),
            segments: watch::Sender::new(0),
            sessions: Mutex::default(),
            requested_at: Mutex::new(None),
            wake,
            is_asleep: AtomicBool::new(false),
        }
    }

    /// Takes what the packager gave out: whoever waits for any of it is woken once all of it is there.
    pub fn publish(&self, publications: impl IntoIterator<Item = Publication>) {
        let mut is_segment = false;
        let mut is_changed = [false; RenditionId::COUNT];
        {
            let mut shelf = self.shelf();
            for publication in publications {
                let rendition =
                    shelf.apply(publication, &self.settings, &self.secrets, &mut is_segment);
                match rendition {
                    Some(rendition) => {
                        shelf.rendered.remove(&(rendition, false));
                        shelf.rendered.remove(&(rendition, true));
                        if let Some(is_changed) = is_changed.get_mut(rendition.index()) {
                            *is_changed = true;
                        }
                    }
                    None => {
                        shelf.rendered.clear();
                        is_changed.fill(true);
                    }
                }
            }
        }
        for (change, is_changed) in self.changes.iter().zip(is_changed) {
            if is_changed {
                change.send_modify(|count| *count += 1);
            }
        }
        if is_segment {
            self.segments.send_modify(|count| *count += 1);
        }
    }

    /// Nothing is packaged until somebody asks for it; then `wake` is called once.
    pub fn set_asleep(&self) {
        self.is_asleep.store(true, Ordering::Release);
    }

    /// How many players made a request in the last three target durations.
    pub fn viewers(&self, now: Instant) -> usize {
        self.sessions().active_count(now, self.active())
    }

    /// A whole segment is there: it can be watched.
    pub fn is_ready(&self) -> bool {
        *self.segments.borrow() > 0
    }

    /// Watching it takes a token.
    pub fn is_protected(&self) -> bool {
        self.settings.playback == super::Playback::Token
    }

    /// When something was asked for last.
    pub fn requested_at(&self) -> Option<Instant> {
        *lock(&self.requested_at)
    }

    /// Somebody asked for something in the last three target durations.
    pub fn has_viewers(&self, now: Instant) -> bool {
        let at = self.requested_at();
        at.is_some_and(|at| now.saturating_duration_since(at) < self.active())
    }

    /// Ends what a user watches; only a new token lets them in again.
    pub fn end_user(&self, user: &str) {
        self.sessions().end_user(user);
    }

    /// How many segments and parts were dropped early because memory is bounded.
    pub fn forced_out(&self) -> u64 {
        self.shelf()
            .windows
            .values()
            .map(|window| window.forced_out)
            .sum()
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The time in Unix seconds, on the clock that signatures and dates are written with.
    pub(super) fn unix_s(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.clock.zero);
        let unix_us = u128::try_from(self.clock.unix_us).unwrap_or(0) + since.as_micros();
        u64::try_from(unix_us / 1_000_000).unwrap_or(u64::MAX)
    }

    /// Somebody asked for something.
    pub(super) fn touch(&self, now: Instant) {
        *lock(&self.requested_at) = Some(now);
        if self.is_asleep.swap(false, Ordering::AcqRel)
            && let Some(wake) = &self.wake
        {
            wake();
        }
    }

    /// A session made a request: when it ends.
    pub(super) fn touch_session(&self, now: Instant, session: &str) -> Option<u64> {
        self.sessions().touch(now, session)
    }

    /// Begins a session; its name comes back.
    pub(super) fn begin_session(
        &self,
        now: Instant,
        viewer: Option<Viewer>,
    ) -> Result<String, SessionRefused> {
        let mut sessions = self.sessions();
        let id = self.secrets.session_id(sessions.next_number());
        let viewer = viewer.map(|viewer| (viewer, self.settings.sessions_per_user_max));
        sessions.begin(now, id.clone(), viewer, self.active())?;
        Ok(id)
    }

    /// Ends a session that nothing came of.
    pub(super) fn end_session(&self, session: &str) {
        self.sessions().end(session);
    }

    /// The multivariant playlist as soon as a whole segment is there; URIs as `uri` writes them.
    pub(super) async fn multivariant(&self, uri: &(dyn Fn(Resource) -> String + Sync)) -> String {
        let mut changes = self.segments.subscribe();
        loop {
            {
                let shelf = self.shelf();
                let windows: Vec<&Window> = shelf.windows.values().collect();
                if let Some(text) = multivariant(&windows, uri) {
                    return text;
                }
            }
            // The sender is ours, so it cannot be gone.
            _ = changes.changed().await;
        }
    }

    /// A media playlist as soon as it has what is asked for.
    pub(super) async fn playlist(
        &self,
        rendition: RenditionId,
        ask: Ask,
        signing: Option<Signing<'_>>,
    ) -> Answer {
        self.until(rendition, |shelf| {
            let Some(window) = shelf.windows.get(&rendition) else {
                return Some(Answer::Unknown);
            };
            match window.verdict(ask) {
                Verdict::TooFar => Some(Answer::TooFar),
                Verdict::Wait => None,
                Verdict::Ready => {
                    let is_ended = window.is_ended;
                    let text = self.render(shelf, rendition, ask.is_delta, signing)?;
                    Some(Answer::Text { text, is_ended })
                }
            }
        })
        .await
    }

    /// A part as soon as it is there. `None`: it never will be.
    pub(super) async fn part(
        &self,
        rendition: RenditionId,
        msn: u64,
        index: usize,
    ) -> Option<Bytes> {
        self.until(rendition, |shelf| {
            let window = shelf.windows.get(&rendition);
            match window.map_or(Found::Never, |window| window.part(msn, index)) {
                Found::Bytes(bytes) => Some(Some(bytes)),
                Found::Never => Some(None),
                Found::Soon => None,
            }
        })
        .await
    }

    /// A whole segment in pieces.
    pub(super) fn segment(&self, rendition: RenditionId, msn: u64) -> Option<Vec<Bytes>> {
        self.shelf().windows.get(&rendition)?.segment(msn)
    }

    /// An initialisation segment.
    pub(super) fn map(&self, rendition: RenditionId, number: u32) -> Option<Bytes> {
        self.shelf().windows.get(&rendition)?.map(number)
    }

    /// The key of a run of segments that has begun.
    pub(super) fn content_key(&self, number: u64) -> Option<[u8; 16]> {
        let shelf = self.shelf();
        let newest = shelf
            .windows
            .values()
            .filter_map(|window| window.key_of(window.next_msn))
            .max();
        (number <= newest?).then(|| self.secrets.content_key(number))
    }

    /// How long a session counts after its last request.
    fn active(&self) -> Duration {
        self.settings.patience()
    }

    async fn until<T>(
        &self,
        rendition: RenditionId,
        mut look: impl FnMut(&mut Shelf) -> Option<T>,
    ) -> T {
        let mut changes = match self.changes.get(rendition.index()) {
            Some(changes) => changes.subscribe(),
            None => self.segments.subscribe(),
        };
        loop {
            if let Some(found) = look(&mut self.shelf()) {
                return found;
            }
            _ = changes.changed().await;
        }
    }

    fn render(
        &self,
        shelf: &mut Shelf,
        rendition: RenditionId,
        is_delta: bool,
        signing: Option<Signing<'_>>,
    ) -> Option<Arc<Text>> {
        let key = (rendition, is_delta);
        if signing.is_none()
            && let Some(text) = shelf.rendered.get(&key)
        {
            return Some(Arc::clone(text));
        }
        let others = shelf
            .windows
            .values()
            .filter(|window| window.id != rendition);
        let others: Vec<&Window> = others.collect();
        let playlist = MediaPlaylist {
            window: shelf.windows.get(&rendition)?,
            settings: &self.settings,
            others: &others,
            uris: signing.map_or(Uris::Plain, Uris::Signed),
            zero_us: self.clock.unix_us,
            is_delta,
        };
        let text = Arc::new(Text::new(playlist.render()));
        if signing.is_none() {
            shelf.rendered.insert(key, Arc::clone(&text));
        }
        Some(text)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        lock(&self.shelf)
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        lock(&self.sessions)
    }
}

impl fmt::Debug for Broadcast {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nothing secret.
        to.debug_struct("Broadcast")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Shelf {
    /// The rendition that changed; `None`: all.
    fn apply(
        &mut self,
        publication: Publication,
        settings: &Arc<Settings>,
        secrets: &Arc<Secrets>,
        is_segment: &mut bool,
    ) -> Option<RenditionId> {
        let rendition = match &publication {
            Publication::Map { rendition, .. }
            | Publication::Opened { rendition, .. }
            | Publication::Part { rendition, .. }
            | Publication::Closed { rendition, .. }
            | Publication::Gap { rendition, .. } => *rendition,
            Publication::Paused => {
                self.windows.values_mut().for_each(Window::pause);
                return None;
            }
            Publication::Ended => {
                self.windows
                    .values_mut()
                    .for_each(|window| window.is_ended = true);
                *is_segment = true;
                return None;
            }
        };
        let window = self
            .windows
            .entry(rendition)
            .or_insert_with(|| Window::new(rendition, Arc::clone(settings), Arc::clone(secrets)));
        match publication {
            Publication::Map {
                number,
                spec,
                bytes,
                ..
            } => window.add_map(number, spec, bytes),
            Publication::Opened { opening, .. } => window.open(opening),
            Publication::Part { part, .. } => window.add_part(part),
            Publication::Closed { duration_us, .. } => {
                window.close(duration_us);
                *is_segment = true;
            }
            Publication::Gap {
                opening,
                duration_us,
                ..
            } => window.gap(opening, duration_us),
            Publication::Paused | Publication::Ended => {}
        }
        Some(rendition)
    }
}

impl Text {
    pub(super) fn new(text: String) -> Self {
        Self {
            plain: text.into(),
            gzip: OnceLock::new(),
        }
    }

    /// The same, compressed once for all.
    pub(super) fn gzip(&self) -> Bytes {
        let gzip = self.gzip.get_or_init(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            // Writing to memory does not fail.
            let written = encoder
                .write_all(&self.plain)
                .and_then(|()| encoder.finish());
            written.unwrap_or_default().into()
        });
        gzip.clone()
    }
}

/// A panic while it was held left nothing half done: every change is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
