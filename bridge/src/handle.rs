//! The bridge as the service has it: begins and ends broadcasts and recordings, lets encoders in.
#![expect(clippy::disallowed_methods, reason = "I/O lives here")]

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use net::Mailbox;
use sfu::{AnnexPort, Metric, MetricKind, ParticipantId, RoomId, Source, TrackId};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::audio::{AudioEncoder, EncoderError};
use crate::broadcast::{Broadcast, Settings};
use crate::engine::{Beginning, BridgeEvent, Engine, EngineCounts, Hls, Order};
use crate::flv::FlvFeed;
use crate::hls::{self, Packager};
use crate::listing::{BroadcastId, Ending, Listing};
use crate::media::{AudioCodec, VideoCodec};
use crate::program::Follow;
use crate::recording::{Recorder, RecordingId, RecordingSpec, Recordings, StartError};
use crate::rtmp::{Admitted, Media, PushRefused, PushSettings, Pusher, Takes, Target, TargetError};

/// Orders that wait for the thread.
const ORDERS_MAX: usize = 8192;
/// Events that wait for the service.
const EVENTS_MAX: usize = 1024;
/// Media of one encoder that wait for the thread: half a second of both.
const MEDIA_MAX: usize = 64;
/// What has ended is still served and listed for this long.
const ENDED_FOR: Duration = Duration::from_secs(300);
/// Targets of one broadcast.
const TARGETS_MAX: usize = 8;

/// How broadcasts are made unless it is said otherwise.
#[derive(Clone, Debug)]
pub struct BridgeSettings {
    /// Broadcasts at a time.
    pub broadcasts_max: usize,
    /// A broadcast ends when nobody has published for this long.
    pub empty_timeout: Duration,
    /// An encoder that lost its connection keeps its place this long.
    pub publish_grace: Duration,
    /// Rungs at most.
    pub rungs_max: usize,
    /// What pictures may be coded in.
    pub video: Vec<VideoCodec>,
    /// What HLS has its sound in; `None`: AAC if this build has it.
    pub audio: Option<AudioCodec>,
    /// How HLS is cut, kept and protected.
    pub hls: hls::Settings,
    /// HLS stops when nobody has watched for this long.
    pub idle_timeout: Option<Duration>,
}

/// What a broadcast is to be.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// Its name beside others of the room; empty for the first.
    pub name: String,
    /// Whose picture is shown.
    pub follow: Follow,
    /// It is served as HLS, and as FLV where there is AAC.
    pub is_served: bool,
    /// Where it is pushed to: an address, and its key where that is apart.
    pub targets: Vec<(String, Option<String>)>,
    /// It is recorded.
    pub is_recorded: bool,
}

/// Why a broadcast does not begin.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BeginError {
    /// As many run as may.
    #[error("as many broadcasts run as may")]
    TooMany,
    /// The room has one of this name.
    #[error("the room has a broadcast of this name already")]
    NameTaken,
    /// AAC is needed and this build has none.
    #[error(
        "aac_unavailable: this build has no AAC, without which RTMP targets would get no sound"
    )]
    AacUnavailable,
    /// A target's address.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Too many targets.
    #[error("a broadcast has at most {TARGETS_MAX} targets")]
    TooManyTargets,
    /// There is no such broadcast, or no more.
    #[error("there is no such broadcast")]
    NotFound,
    /// Nothing can be recorded.
    #[error("recording.dir is not set: nothing can be recorded")]
    NoRecordings,
    /// It cannot be recorded.
    #[error(transparent)]
    Recording(#[from] StartError),
    /// Its sound cannot be encoded.
    #[error(transparent)]
    Sound(EncoderError),
    /// Too many orders wait.
    #[error("the server is too busy")]
    Busy,
}

impl From<EncoderError> for BeginError {
    fn from(error: EncoderError) -> Self {
        match error {
            EncoderError::AacUnavailable => Self::AacUnavailable,
            error => Self::Sound(error),
        }
    }
}

impl From<PushRefused> for BeginError {
    fn from(refused: PushRefused) -> Self {
        match refused {
            PushRefused::AacUnavailable => Self::AacUnavailable,
        }
    }
}

/// The bridge. Dropping it ends its thread and everything it does.
pub struct Bridge {
    settings: BridgeSettings,
    orders: Arc<Mailbox<Order>>,
    registry: Arc<hls::Registry>,
    recordings: Option<Recordings>,
    entries: Mutex<BTreeMap<BroadcastId, Entry>>,
    takes: Mutex<BTreeMap<RecordingId, RoomId>>,
    /// Encoders that have a connection.
    connected: Arc<Mutex<HashSet<ParticipantId>>>,
    counts: Arc<EngineCounts>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Entry {
    listing: Arc<Listing>,
    room: RoomId,
    ended_at: Option<Instant>,
}

impl Bridge {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread or descriptor.
    pub fn start(
        port: AnnexPort,
        settings: BridgeSettings,
        recordings: Option<Recordings>,
    ) -> io::Result<(Self, mpsc::Receiver<BridgeEvent>)> {
        let orders = Arc::new(Mailbox::new(ORDERS_MAX)?);
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let counts = Arc::new(EngineCounts::default());
        let grace = settings.publish_grace;
        let engine = Engine::new(
            port,
            Arc::clone(&orders),
            events,
            grace,
            Arc::clone(&counts),
        );
        let thread = std::thread::Builder::new()
            .name("plenum-bridge".to_owned())
            .spawn(move || engine.run())?;
        let bridge = Self {
            settings,
            orders,
            registry: Arc::default(),
            recordings,
            entries: Mutex::default(),
            takes: Mutex::default(),
            connected: Arc::default(),
            counts,
            thread: Some(thread),
        };
        Ok((bridge, receiver))
    }

    /// Where broadcasts are looked up to be served.
    pub fn registry(&self) -> Arc<hls::Registry> {
        Arc::clone(&self.registry)
    }

    /// Recordings, where there may be any.
    pub fn recordings(&self) -> Option<&Recordings> {
        self.recordings.as_ref()
    }

    /// Begins a broadcast of a room. To be called where tokio runs.
    ///
    /// # Errors
    /// See [`BeginError`]; nothing has begun then.
    pub fn begin(&self, room: RoomId, name: &str, spec: Spec) -> Result<Arc<Listing>, BeginError> {
        let mut entries = lock(&self.entries);
        let running = || {
            entries
                .values()
                .filter(|entry| self.is_carried(&entry.listing))
        };
        if running().count() >= self.settings.broadcasts_max {
            return Err(BeginError::TooMany);
        }
        let is_it = |entry: &Entry| entry.listing.room == name && entry.listing.name == spec.name;
        if running().any(is_it) {
            return Err(BeginError::NameTaken);
        }
        let beginning = self.prepare(room, name, &spec)?;
        let listing = Arc::clone(&beginning.listing);
        self.order(Order::Begin(Box::new(beginning)))?;
        if let Some(store) = &listing.hls {
            self.registry.insert(listing.path(), Arc::clone(store));
        }
        entries.retain(|_, entry| !is_it(entry));
        entries.insert(
            listing.id,
            Entry {
                listing: Arc::clone(&listing),
                room,
                ended_at: None,
            },
        );
        tracing::info!(broadcast = %listing.id, %room, "broadcast begun");
        Ok(listing)
    }

    fn prepare(&self, room: RoomId, name: &str, spec: &Spec) -> Result<Beginning, BeginError> {
        if spec.targets.len() > TARGETS_MAX {
            return Err(BeginError::TooManyTargets);
        }
        let targets: Vec<Target> = spec
            .targets
            .iter()
            .map(|(address, key)| parse_target(address, key.as_deref()))
            .collect::<Result<_, _>>()?;
        let (audio, served, best) = self.sound_for(spec);
        let has_flv = spec.is_served && audio.contains(&AudioCodec::Aac);
        let keyframes = self.settings.hls.segment;
        let now = Instant::now();
        let broadcast = Broadcast::new(
            now,
            Settings {
                follow: spec.follow.clone(),
                rungs_max: self.settings.rungs_max,
                video: self.settings.video.clone(),
                audio,
                keyframe_interval_us: i64::try_from(keyframes.as_micros()).unwrap_or(i64::MAX),
                ..Settings::default()
            },
        )?;
        let id = BroadcastId::new(u64::from_ne_bytes(random()));
        let hls = spec.is_served.then(|| self.open_hls(now, id, served));
        let flv = has_flv.then(|| Arc::new(FlvFeed::new(true, true)));
        let recorder = self.record_program(spec.is_recorded, name)?;
        let (recording, recorder) = recorder.unzip();
        let store = hls.as_ref().map(|hls| Arc::clone(&hls.store));
        let whose = (name.to_owned(), spec.name.clone());
        let listing = Listing::new(
            id,
            whose,
            SystemTime::now(),
            (store, flv.clone()),
            recording,
        );
        listing.set_follow(spec.follow.clone());
        let sound = broadcast.audio_config(AudioCodec::Aac);
        let begun = targets.into_iter().map(|target| {
            let (address, pusher) = push(target, sound.clone())?;
            Ok(listing.add_target(address, pusher))
        });
        let begun: Vec<Option<Arc<_>>> = begun.collect::<Result<_, PushRefused>>()?;
        Ok(Beginning {
            listing: Arc::new(listing),
            room,
            broadcast,
            hls,
            flv,
            targets: begun.into_iter().flatten().collect(),
            recorder,
            recorded: best,
            empty_timeout: self.settings.empty_timeout,
        })
    }

    /// What the sound is encoded as, what of that HLS has, and what a recording.
    fn sound_for(&self, spec: &Spec) -> (Vec<AudioCodec>, AudioCodec, AudioCodec) {
        let has_aac = AudioEncoder::new(AudioCodec::Aac, 0, None).is_ok();
        let best = match has_aac {
            true => AudioCodec::Aac,
            false => AudioCodec::Opus,
        };
        let served = self.settings.audio.unwrap_or(best);
        let wanted = [
            (served, spec.is_served),
            (AudioCodec::Aac, !spec.targets.is_empty()),
            (best, spec.is_recorded),
        ];
        let mut audio: Vec<AudioCodec> = Vec::new();
        for (codec, is_wanted) in wanted {
            if is_wanted && !audio.contains(&codec) {
                audio.push(codec);
            }
        }
        (audio, served, best)
    }

    fn open_hls(&self, now: Instant, id: BroadcastId, audio: AudioCodec) -> Hls {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let since_us = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        let orders = Arc::clone(&self.orders);
        // Once for each time that it rests.
        let wake = move || orders.push_always(Order::Wake(id));
        let clock = hls::Clock {
            zero: now,
            unix_us: since_us,
        };
        let settings = self.settings.hls.clone();
        let wake: hls::Wake = Box::new(wake);
        Hls {
            packager: Packager::new(&settings, since_us),
            store: Arc::new(hls::Broadcast::new(settings, &random(), clock, Some(wake))),
            audio,
            idle_timeout: self.settings.idle_timeout,
            begun_at: now,
        }
    }

    fn record_program(
        &self,
        is_recorded: bool,
        room: &str,
    ) -> Result<Option<(RecordingId, Recorder)>, BeginError> {
        if !is_recorded {
            return Ok(None);
        }
        let recordings = self.recordings.as_ref().ok_or(BeginError::NoRecordings)?;
        let spec = RecordingSpec {
            room: room.to_owned(),
            track: None,
            has_video: true,
            has_audio: true,
            container: None,
        };
        Ok(Some(recordings.start(spec)?))
    }

    /// Records one track.
    ///
    /// # Errors
    /// Nothing can be recorded at present.
    pub fn record_track(
        &self,
        room: RoomId,
        name: &str,
        (track, has_video): (TrackId, bool),
    ) -> Result<RecordingId, BeginError> {
        let recordings = self.recordings.as_ref().ok_or(BeginError::NoRecordings)?;
        let spec = RecordingSpec {
            room: name.to_owned(),
            track: Some(track.to_string()),
            has_video,
            has_audio: !has_video,
            container: None,
        };
        let (id, recorder) = recordings.start(spec)?;
        self.order(Order::Record(room, track, recorder))?;
        lock(&self.takes).insert(id.clone(), room);
        Ok(id)
    }

    /// Ends a broadcast; false when there is none.
    pub fn end(&self, id: BroadcastId) -> bool {
        let is_running = self
            .find(id)
            .is_some_and(|listing| listing.ending().is_none());
        if is_running {
            // Bounded: once for each broadcast.
            self.orders.push_always(Order::End(id));
        }
        is_running
    }

    /// Has a broadcast follow someone else; false when there is none.
    pub fn follow(&self, id: BroadcastId, follow: Follow) -> bool {
        let running = self.find(id).filter(|listing| listing.ending().is_none());
        let Some(listing) = running else {
            return false;
        };
        let is_ordered = self.order(Order::Follow(id, follow.clone())).is_ok();
        if is_ordered {
            listing.set_follow(follow);
        }
        is_ordered
    }

    /// Pushes a broadcast to one more target. To be called where tokio runs.
    ///
    /// # Errors
    /// See [`BeginError`].
    pub fn add_target(
        &self,
        id: BroadcastId,
        address: &str,
        key: Option<&str>,
    ) -> Result<u32, BeginError> {
        let listing = self.find(id).ok_or(BeginError::NotFound)?;
        if listing.targets().len() >= TARGETS_MAX {
            return Err(BeginError::TooManyTargets);
        }
        let target = parse_target(address, key)?;
        let sound = AudioEncoder::new(AudioCodec::Aac, 0, None)?;
        let (address, pusher) = push(target, Some(Arc::clone(sound.config())))?;
        let target = listing
            .add_target(address, pusher)
            .ok_or(BeginError::NotFound)?;
        let number = target.id;
        self.order(Order::Push(id, target))?;
        Ok(number)
    }

    /// Pushes a broadcast to a target no more; false when there is none.
    pub fn remove_target(&self, id: BroadcastId, target: u32) -> bool {
        let Some(listing) = self.find(id) else {
            return false;
        };
        self.orders.push_always(Order::Unpush(id, target));
        listing.remove_target(target)
    }

    /// The broadcasts of a room, oldest first, those that ended a short while ago included.
    pub fn broadcasts(&self, room: &str) -> Vec<Arc<Listing>> {
        let entries = lock(&self.entries);
        let of_room = entries.values().filter(|entry| entry.listing.room == room);
        let mut listings: Vec<_> = of_room.map(|entry| Arc::clone(&entry.listing)).collect();
        listings.sort_by_key(|listing| listing.started_at);
        listings
    }

    /// All broadcasts, those that ended a short while ago included.
    pub fn listings(&self) -> Vec<Arc<Listing>> {
        let entries = lock(&self.entries);
        entries
            .values()
            .map(|entry| Arc::clone(&entry.listing))
            .collect()
    }

    /// One broadcast.
    pub fn find(&self, id: BroadcastId) -> Option<Arc<Listing>> {
        lock(&self.entries)
            .get(&id)
            .map(|entry| Arc::clone(&entry.listing))
    }

    /// Whether a room is broadcast, and whether it is recorded.
    pub fn outside(&self, room: RoomId) -> (bool, bool) {
        let entries = lock(&self.entries);
        let running = entries
            .values()
            .filter(|entry| entry.room == room && entry.listing.ending().is_none());
        let (mut is_broadcast, mut is_recorded) = (false, false);
        for entry in running {
            is_broadcast |= entry.listing.hls.is_some() || !entry.listing.targets().is_empty();
            is_recorded |= self.is_recording(&entry.listing);
        }
        let mut takes = lock(&self.takes);
        takes.retain(|id, _| self.is_written(id));
        (
            is_broadcast,
            is_recorded || takes.values().any(|of| *of == room),
        )
    }

    /// It goes on. Where it was only recorded it ends with its recording, but is looked at some moments later.
    fn is_carried(&self, listing: &Listing) -> bool {
        let is_carried =
            || listing.hls.is_some() || !listing.targets().is_empty() || self.is_recording(listing);
        listing.ending().is_none() && is_carried()
    }

    fn is_recording(&self, listing: &Listing) -> bool {
        let recording = listing.recording.as_ref();
        recording.is_some_and(|id| self.is_written(id))
    }

    /// Something may still come into a recording.
    fn is_written(&self, id: &RecordingId) -> bool {
        let recordings = self.recordings.as_ref();
        let recording = recordings.and_then(|recordings| recordings.get(id));
        recording.is_some_and(|recording| recording.state.is_open())
    }

    /// An encoder has a connection at present.
    pub fn is_connected(&self, participant: ParticipantId) -> bool {
        lock(&self.connected).contains(&participant)
    }

    /// Lets an encoder publish these sources, or all if none is named, as a participant that has joined. To
    /// be called where tokio runs.
    pub fn admit(
        &self,
        participant: ParticipantId,
        room: RoomId,
        identity: String,
        sources: Vec<Source>,
    ) -> Admitted {
        let (sender, mut media) = mpsc::channel::<Media>(MEDIA_MAX);
        let (end, ended) = oneshot::channel();
        let (orders, connected) = (Arc::clone(&self.orders), Arc::clone(&self.connected));
        lock(&connected).insert(participant);
        // Bounded by the connections there may be.
        orders.push_always(Order::Connected {
            participant,
            room,
            identity,
            sources,
            end,
        });
        tokio::spawn(async move {
            while let Some(media) = media.recv().await {
                let mut order = Order::Media(participant, media);
                while let Err(refused) = orders.push(order) {
                    order = refused;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            lock(&connected).remove(&participant);
            orders.push_always(Order::Disconnected(participant));
        });
        Admitted {
            media: sender,
            end: Some(ended),
        }
    }

    /// Forgets what ended a while ago; call once a second or so.
    pub fn forget_ended(&self, now: Instant) {
        lock(&self.entries).retain(|_, entry| {
            if entry.listing.ending().is_none() {
                return true;
            }
            let since = *entry.ended_at.get_or_insert(now);
            let is_kept = now.saturating_duration_since(since) < ENDED_FOR;
            if let Some(store) = entry.listing.hls.as_ref().filter(|_| !is_kept) {
                self.registry.remove(&entry.listing.path(), store);
            }
            is_kept
        });
    }

    /// What is counted.
    pub fn metrics(&self) -> Vec<Metric> {
        let listings = self.listings();
        let viewers = listings.iter().filter_map(|listing| listing.hls.as_ref());
        let now = Instant::now();
        let viewers = viewers.map(|store| store.viewers(now)).sum();
        let flv = listings.iter().filter_map(|listing| listing.flv.as_ref());
        let flv = flv.map(|feed| feed.viewers()).sum();
        let targets = listings.iter().map(|listing| listing.targets().len()).sum();
        let mut metrics = self.counts.metrics();
        metrics.extend([
            gauge("plenum_broadcast_viewers", "Players of HLS.", viewers),
            gauge("plenum_broadcast_flv_viewers", "Players of HTTP-FLV.", flv),
            gauge(
                "plenum_broadcast_targets",
                "Targets that broadcasts are pushed to.",
                targets,
            ),
        ]);
        metrics
    }

    fn order(&self, order: Order) -> Result<(), BeginError> {
        self.orders.push(order).map_err(|_| BeginError::Busy)
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.orders.push_always(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            thread.join().ok();
        }
    }
}

fn parse_target(address: &str, key: Option<&str>) -> Result<Target, TargetError> {
    match key {
        Some(key) => Target::new(address, key),
        None => address.parse(),
    }
}

/// Begins to push; where to, without the key.
fn push(
    target: Target,
    audio: Option<Arc<crate::media::AudioConfig>>,
) -> Result<(String, Pusher), PushRefused> {
    let address = target.to_string();
    let pusher = Pusher::start(PushSettings {
        target,
        takes: Takes::default(),
        has_video: true,
        audio,
        tls: None,
    })?;
    Ok((address, pusher))
}

fn gauge(name: &'static str, help: &'static str, value: usize) -> Metric {
    Metric {
        name,
        help,
        kind: MetricKind::Gauge,
        label: None,
        value: u64::try_from(value).unwrap_or(u64::MAX),
    }
}

#[expect(clippy::expect_used, reason = "nothing can be kept secret without it")]
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives randomness");
    bytes
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a broadcast ended, in a word.
impl Ending {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Empty => "empty",
            Self::RoomClosed => "room_closed",
            Self::Failed => "failed",
        }
    }
}
