//! The bridge as part of the service: who may publish with an encoder, who may watch, what rooms are told.
#![expect(
    clippy::disallowed_methods,
    reason = "encoders and players come when they come: this file reads the clock"
)]

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_lc_rs::digest;
use bridge::recording::{Recording, RecordingSettings, RecordingState, Recordings, Store};
use bridge::rtmp::{
    Admitted, Doors, Listener, ListenerSettings, PublishRequest, Refusal, RefusalCode,
};
use bridge::{AudioCodec, Bridge, BridgeEvent, BridgeSettings, VideoCodec, hls};
use serde_json::json;
use sfu::{AnnexPort, Metric, ParticipantId, RoomId, Wants};
use tokio::sync::mpsc;

use crate::auth::Keys;
use crate::config::{self, Config};
use crate::http::{Gate, shown_broadcast, shown_recording, unix_time};
use crate::message::{ErrorCode, Roster};
use crate::room::Outside;
use crate::rooms::{JoinRequest, Rooms};
use crate::webhooks::{Watch, recording_event};

/// The bridge as part of the service.
pub(crate) struct Broadcasts {
    bridge: Arc<Bridge>,
    rooms: Arc<Rooms>,
    keys: Arc<Keys>,
    listener: Arc<Listener>,
    /// What an application knows of broadcasts.
    watch: Mutex<Watch>,
}

/// What the bridge and its recordings tell; to be handed to [`Broadcasts::listen`].
pub(crate) struct BroadcastEvents {
    bridge: mpsc::Receiver<BridgeEvent>,
    recordings: Option<mpsc::Receiver<Recording>>,
}

/// Who lets encoders in.
struct Door {
    bridge: Arc<Bridge>,
    rooms: Arc<Rooms>,
    gate: Arc<Gate>,
    /// Who publishes where, by room and identity.
    seats: Mutex<HashMap<(String, String), (ParticipantId, RoomId)>>,
}

impl Broadcasts {
    /// Starts the bridge.
    ///
    /// # Errors
    /// The folder for recordings cannot be used, or the system gives no thread.
    pub(crate) fn start(
        config: &Config,
        port: AnnexPort,
        (rooms, gate): (&Arc<Rooms>, &Arc<Gate>),
        keys: Arc<Keys>,
    ) -> io::Result<(Self, BroadcastEvents)> {
        let opened = open_recordings(&config.recording)?;
        let (recordings, recording_events) = opened.unzip();
        let (bridge, bridge_events) = Bridge::start(port, settings(config), recordings)?;
        let bridge = Arc::new(bridge);
        let door = Door {
            bridge: Arc::clone(&bridge),
            rooms: Arc::clone(rooms),
            gate: Arc::clone(gate),
            seats: Mutex::default(),
        };
        let listener = Listener::new(Arc::new(door), ListenerSettings::default());
        let broadcasts = Self {
            bridge,
            rooms: Arc::clone(rooms),
            keys,
            listener: Arc::new(listener),
            watch: Mutex::default(),
        };
        let events = BroadcastEvents {
            bridge: bridge_events,
            recordings: recording_events,
        };
        Ok((broadcasts, events))
    }

    /// The bridge itself.
    pub(crate) fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// Who takes encoders in.
    pub(crate) fn listener(&self) -> Arc<Listener> {
        Arc::clone(&self.listener)
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let mut metrics = self.bridge.metrics();
        metrics.extend(self.listener.counts().metrics());
        metrics.extend(
            self.rooms
                .webhooks()
                .map(|webhooks| webhooks.metrics())
                .unwrap_or_default(),
        );
        metrics
    }

    /// Tells a room whether it goes out and is recorded.
    pub(crate) fn tell_room(&self, now: Instant, room: RoomId) {
        let (broadcasting, recording) = self.bridge.outside(room);
        let outside = Outside {
            broadcasting,
            recording,
        };
        self.rooms.set_outside(now, room, outside);
        self.tell_application();
    }

    /// Tells an application what is different about broadcasts, if it wants to know.
    fn tell_application(&self) {
        let Some(webhooks) = self.rooms.webhooks() else {
            return;
        };
        // What is a recording and nothing else is told as one.
        let listings = self.bridge.listings().into_iter();
        let listings = listings.filter(|listing| !listing.name.starts_with('_'));
        let mut watch = lock(&self.watch);
        let shown = listings.map(|listing| shown_broadcast(&listing)).collect();
        for (kind, room, data) in watch.look(shown) {
            webhooks.tell(kind, &room, || data);
        }
    }

    fn tell_recording(&self, recording: &Recording) {
        let (kind, webhooks) = (recording_event(recording), self.rooms.webhooks());
        if let (Some(kind), Some(webhooks)) = (kind, webhooks) {
            let room = &recording.spec.room;
            let shown = shown_recording(recording);
            let about = || json!({ "room": { "name": room }, "recording": shown });
            webhooks.tell(kind, room, about);
        }
    }

    /// Forgets what is over; call once a second or so.
    pub(crate) fn handle_timeout(&self, now: Instant) {
        self.bridge.forget_ended(now);
        self.tell_application();
    }

    /// Hands on what the bridge tells, until it is gone.
    pub(crate) async fn listen(this: Weak<Self>, mut events: BroadcastEvents) {
        loop {
            let recording = async {
                match &mut events.recordings {
                    Some(recordings) => recordings.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.bridge.recv() => {
                    let (Some(event), Some(broadcasts)) = (event, this.upgrade()) else { return };
                    broadcasts.handle(event);
                }
                recording = recording => match recording {
                    Some(recording) => {
                        note_recording(&recording);
                        let Some(broadcasts) = this.upgrade() else { return };
                        broadcasts.tell_recording(&recording);
                    }
                    None => events.recordings = None,
                },
            }
        }
    }

    fn handle(&self, event: BridgeEvent) {
        let now = Instant::now();
        match event {
            BridgeEvent::RoomChanged { room } => self.tell_room(now, room),
            BridgeEvent::EncoderGone { participant } => {
                self.rooms.leave(now, participant);
            }
        }
    }
}

impl hls::Gate for Broadcasts {
    fn admit(&self, room: &str, token: &str) -> Result<hls::Viewer, hls::Refusal> {
        // A broadcast's path is its room's name, then `+` and its own.
        let room = room.split_once('+').map_or(room, |(room, _)| room);
        let unauthorized = |_| hls::Refusal::Unauthorized("a valid token is needed".to_owned());
        let grants = self.keys.verify(token, unix_time()).map_err(unauthorized)?;
        if !grants.may_join(room) || !grants.media.subscribe {
            let text = "the token does not allow watching this room";
            return Err(hls::Refusal::Forbidden(text.to_owned()));
        }
        Ok(hls::Viewer {
            user: grants.identity.unwrap_or_else(|| "guest".to_owned()),
            expires_at_s: grants.expires_at_s,
        })
    }
}

#[async_trait]
impl Doors for Door {
    async fn admit(&self, request: PublishRequest) -> Result<Admitted, Refusal> {
        let now = Instant::now();
        let denied = |text: &str| refusal(RefusalCode::Denied, text);
        let token = request.token.as_deref();
        let grants = self.gate.verify(now, request.peer.ip(), token);
        let grants = grants.map_err(|error| denied(&error.message))?;
        if !grants.may_join(&request.room) || !grants.media.publish {
            return Err(denied("the token does not allow publishing in this room"));
        }
        let mut grants = grants;
        let identity = grants.identity.get_or_insert_with(|| guest(token)).clone();
        let counted = self.gate.count_join(now, &grants);
        counted.map_err(|error| refusal(RefusalCode::Rejected, &error.message))?;
        let key = (request.room.clone(), identity.clone());
        let mut seats = lock(&self.seats);
        seats.retain(|_, (participant, _)| self.rooms.has_participant(*participant));
        let seat = seats.get(&key).copied();
        if let Some((participant, _)) = seat.filter(|(who, _)| self.bridge.is_connected(*who)) {
            tracing::info!(%participant, "a second encoder is refused");
            let text = "somebody publishes with this token's identity already";
            return Err(refusal(RefusalCode::BadName, text));
        }
        let sources = grants.media.publish_sources.clone();
        let (participant, room) = match seat {
            Some(seat) => seat,
            None => {
                let request = JoinRequest {
                    room: request.room,
                    grants,
                    name: None,
                    wants: Wants::Nothing,
                    roster: Roster::Publishers,
                    features: Vec::new(),
                    offer: None,
                    reached: None,
                };
                let joined = self.rooms.join_encoder(now, request);
                joined.map_err(|error| match error.code {
                    ErrorCode::RoomNotFound => refusal(RefusalCode::BadName, &error.message),
                    _ => refusal(RefusalCode::Rejected, &error.message),
                })?
            }
        };
        seats.insert(key, (participant, room));
        drop(seats);
        Ok(self.bridge.admit(participant, room, identity, sources))
    }
}

/// The identity of an encoder with a guest's token: the same each time it connects.
fn guest(token: Option<&str>) -> String {
    let digest = digest::digest(&digest::SHA256, token.unwrap_or_default().as_bytes());
    let short: String = digest
        .as_ref()
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("encoder-{short}")
}

fn refusal(code: RefusalCode, text: &str) -> Refusal {
    Refusal {
        code,
        description: text.to_owned(),
    }
}

fn note_recording(recording: &Recording) {
    let (id, reason) = (&recording.id, recording.reason);
    match recording.state {
        RecordingState::Failed => tracing::error!(%id, ?reason, "a recording failed"),
        state => tracing::info!(%id, ?state, "recording"),
    }
}

/// How broadcasts are made.
fn settings(config: &Config) -> BridgeSettings {
    let broadcast = &config.broadcast;
    let is_set = |span: Duration| !span.is_zero();
    let (segment, part) = (broadcast.segment.duration(), broadcast.part.duration());
    let hls = hls::Settings {
        segment,
        is_low_latency: broadcast.low_latency,
        part,
        target_duration_s: u32::try_from(segment.as_millis().div_ceil(1000)).unwrap_or(10),
        part_hold_back: part * 3,
        dvr_window: broadcast.dvr.duration(),
        memory_bytes_max: usize::try_from(broadcast.memory_mb).unwrap_or(64) << 20,
        playback: match broadcast.playback {
            config::Playback::Public => hls::Playback::Public,
            config::Playback::Token => hls::Playback::Token,
        },
        sessions_per_user_max: usize::try_from(broadcast.sessions_per_user).unwrap_or(3),
        segments_per_key: (broadcast.key_rotation > 0).then_some(broadcast.key_rotation),
        ..hls::Settings::default()
    };
    let codecs = broadcast.codecs.iter().filter_map(|codec| match codec {
        crate::message::Codec::H264 => Some(VideoCodec::H264),
        crate::message::Codec::Vp9 => Some(VideoCodec::Vp9),
        crate::message::Codec::Av1 => Some(VideoCodec::Av1),
        _ => None,
    });
    BridgeSettings {
        broadcasts_max: usize::try_from(broadcast.broadcasts_max).unwrap_or(usize::MAX),
        empty_timeout: broadcast.empty_timeout.duration(),
        publish_grace: broadcast.publish_grace.duration(),
        rungs_max: usize::try_from(broadcast.rungs_max).unwrap_or(3),
        video: codecs.collect(),
        audio: match broadcast.audio {
            config::Audio::Auto => None,
            config::Audio::Aac => Some(AudioCodec::Aac),
            config::Audio::Opus => Some(AudioCodec::Opus),
        },
        hls,
        idle_timeout: Some(broadcast.idle_timeout.duration()).filter(|span| is_set(*span)),
    }
}

type Opened = (Recordings, mpsc::Receiver<Recording>);

fn open_recordings(config: &config::Recording) -> io::Result<Option<Opened>> {
    if config.dir.is_empty() {
        return Ok(None);
    }
    let settings = RecordingSettings {
        min_free_mb: config.min_free_mb.into(),
        running_max: usize::try_from(config.recordings_max).unwrap_or(usize::MAX),
        max_duration: config.max_duration.duration(),
        ..RecordingSettings::new(PathBuf::from(&config.dir))
    };
    let store = match config.s3_bucket.as_str() {
        "" => None,
        _ => Some(store(config)?),
    };
    Recordings::open(settings, store).map(Some)
}

fn store(config: &config::Recording) -> io::Result<Store> {
    let secret = config.s3_secret_access_key.expose().to_owned();
    let who = config.s3_access_key_id.clone();
    let settings = bridge::recording::S3Settings {
        endpoint: Some(config.s3_endpoint.clone()).filter(|text| !text.is_empty()),
        region: config.s3_region.clone(),
        prefix: config.s3_prefix.clone(),
        ..bridge::recording::S3Settings::new(config.s3_bucket.clone(), who, secret)
    };
    Store::s3(&settings).map_err(io::Error::other)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
