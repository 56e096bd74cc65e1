//! The bridge's thread: what rooms say goes to the broadcasts, recordings and encoders they are about.
//!
//! It looks at what has come when a broadcast is likely to have something to give out, and every 250 ms at least while
//! there is anything to do: media threads never have to wake it, and a look costs as much as some frames do.
#![expect(clippy::disallowed_methods, reason = "I/O lives here")]

mod channel;
mod counts;
mod encoders;
mod room;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use net::Mailbox;
use sfu::annex::Heard;
use sfu::{AnnexPort, ParticipantId, RoomId, Source, TrackId};
use tokio::sync::{mpsc, oneshot};

pub(crate) use channel::{Beginning, Hls};
use channel::{Channel, Farewell};
pub(crate) use counts::EngineCounts;
use encoders::{Encoders, Hearing};
use room::{Consumer, RoomTap};

use crate::listing::{BroadcastId, Ending, Target};
use crate::program::Follow;
use crate::recording::Recorder;
use crate::rtmp::{Media, Refusal};
use crate::take::Take;

/// Between two looks while more comes than fits between others.
const PRESSED_INTERVAL: Duration = Duration::from_millis(10);
/// Between two looks while there is anything to do; a broadcast may want one sooner. All queues to this thread hold
/// what comes meanwhile.
const LOOK_INTERVAL_MAX: Duration = Duration::from_millis(250);
/// A track that is to be recorded is heard of within this time.
const TRACK_WAIT: Duration = Duration::from_secs(5);
/// Orders carried out between two looks at rooms.
const ORDERS_PER_TURN: usize = 512;

/// What the service should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeEvent {
    /// Broadcasts or recordings of a room began or ended.
    RoomChanged {
        /// The room.
        room: RoomId,
    },
    /// An encoder is gone for good.
    EncoderGone {
        /// Which.
        participant: ParticipantId,
    },
}

/// What the thread is told.
pub(crate) enum Order {
    /// A broadcast begins.
    Begin(Box<Beginning>),
    /// A broadcast ends.
    End(BroadcastId),
    /// A broadcast follows someone else.
    Follow(BroadcastId, Follow),
    /// Someone wants to watch a broadcast that rests.
    Wake(BroadcastId),
    /// A broadcast goes to one more target.
    Push(BroadcastId, Arc<Target>),
    /// A broadcast goes to a target no more.
    Unpush(BroadcastId, u32),
    /// A track is recorded.
    Record(RoomId, TrackId, Recorder),
    /// An encoder has connected.
    Connected {
        participant: ParticipantId,
        room: RoomId,
        identity: String,
        /// What it may publish; empty means all.
        sources: Vec<Source>,
        end: oneshot::Sender<Refusal>,
    },
    /// An encoder sends something.
    Media(ParticipantId, Media),
    /// An encoder's connection has ended.
    Disconnected(ParticipantId),
    /// All ends.
    Stop,
}

/// The thread's state.
pub(crate) struct Engine {
    pub(crate) port: AnnexPort,
    pub(crate) orders: Arc<Mailbox<Order>>,
    pub(crate) events: mpsc::Sender<BridgeEvent>,
    pub(crate) publish_grace: Duration,
    pub(crate) counts: Arc<EngineCounts>,
    rooms: HashMap<RoomId, RoomTap>,
    /// In which room a track is.
    tracks: HashMap<TrackId, RoomId>,
    channels: Vec<Channel>,
    takes: Vec<Taking>,
    awaited: Vec<Awaited>,
    /// Until when.
    farewells: Vec<(Instant, Farewell)>,
    encoders: Encoders,
    next_consumer: u64,
    is_stopping: bool,
}

/// A recording of a track.
struct Taking {
    room: RoomId,
    consumer: Consumer,
    take: Take,
    recorder: Recorder,
}

/// A recording of a track that the bridge, new in its room, has not heard of yet.
struct Awaited {
    room: RoomId,
    track: TrackId,
    recorder: Recorder,
    until: Instant,
}

impl Engine {
    pub(crate) fn new(
        port: AnnexPort,
        orders: Arc<Mailbox<Order>>,
        events: mpsc::Sender<BridgeEvent>,
        publish_grace: Duration,
        counts: Arc<EngineCounts>,
    ) -> Self {
        Self {
            port,
            orders,
            events,
            publish_grace,
            counts,
            rooms: HashMap::new(),
            tracks: HashMap::new(),
            channels: Vec::new(),
            takes: Vec::new(),
            awaited: Vec::new(),
            farewells: Vec::new(),
            encoders: Encoders::default(),
            next_consumer: 0,
            is_stopping: false,
        }
    }

    /// Turns until it is told to stop.
    pub(crate) fn run(mut self) {
        while !self.is_stopping && !self.port.is_stopped() {
            let time = self.patience(Instant::now());
            let orders = Arc::clone(&self.orders);
            self.port.wait(time, std::os::fd::AsFd::as_fd(&*orders));
            let now = Instant::now();
            self.turn(now);
            let worked = u64::try_from(now.elapsed().as_micros()).unwrap_or(0);
            self.counts.looks.fetch_add(1, Ordering::Relaxed);
            self.counts.busy_us.fetch_add(worked, Ordering::Relaxed);
        }
        for channel in self.channels.drain(..) {
            drop(channel.end(Ending::Stopped));
        }
    }

    /// How long what comes may wait; `None`: nothing is going on, and whatever comes is worth a look.
    fn patience(&self, now: Instant) -> Option<Duration> {
        if self.port.is_waiting() || self.port.is_pressed() {
            return Some(PRESSED_INTERVAL);
        }
        let is_idle = self.takes.is_empty() && self.encoders.is_empty();
        let is_idle = is_idle && self.awaited.is_empty() && self.farewells.is_empty();
        let others = (!is_idle).then_some(LOOK_INTERVAL_MAX);
        let looks = self.channels.iter().map(Channel::look_at);
        let looks = looks.map(|at| at.saturating_duration_since(now));
        looks.chain(others).min()
    }

    fn turn(&mut self, now: Instant) {
        self.port.receive();
        self.take_orders(now);
        while let Some(heard) = self.port.annex().poll_heard() {
            self.handle_heard(now, heard);
        }
        self.encoders.tell_levels(now, self.port.annex());
        self.turn_channels(now);
        self.turn_takes(now);
        self.end_awaited(|one| one.until <= now || one.recorder.has_ended());
        self.farewells.retain(|(until, _)| *until > now);
        for participant in self.encoders.gone(now, self.publish_grace) {
            // Its session ends with it, and that ends its tracks.
            self.tell(BridgeEvent::EncoderGone { participant });
            self.forget_encoder(participant);
        }
        self.port.send(now);
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let counts = &self.counts;
        counts
            .broadcasts
            .store(count(self.channels.len()), Ordering::Relaxed);
        counts
            .takes
            .store(count(self.takes.len()), Ordering::Relaxed);
    }

    fn take_orders(&mut self, now: Instant) {
        self.orders.clear_wake();
        let mut orders = std::collections::VecDeque::new();
        let has_more = self.orders.take(ORDERS_PER_TURN, &mut orders);
        for order in orders {
            self.carry_out(now, order);
        }
        if has_more {
            self.orders.wake();
        }
    }

    fn carry_out(&mut self, now: Instant, order: Order) {
        match order {
            Order::Begin(beginning) => self.begin(now, *beginning),
            Order::End(id) => self.end(id, Ending::Stopped),
            Order::Follow(id, follow) => {
                if let Some(channel) = self.channel(id) {
                    channel.follow(now, follow);
                }
            }
            Order::Wake(id) => {
                if let Some(channel) = self.channel(id) {
                    channel.wake(now);
                }
            }
            Order::Push(id, target) => {
                if let Some(channel) = self.channel(id) {
                    channel.add_target(now, target);
                }
            }
            Order::Unpush(id, target) => {
                if let Some(channel) = self.channel(id) {
                    channel.remove_target(target);
                }
            }
            Order::Record(room, track, recorder) => self.record(now, room, track, recorder),
            Order::Connected {
                participant,
                room,
                identity,
                sources,
                end,
            } => {
                let who = (room, identity, sources);
                if self.encoders.connect(now, participant, who, end) {
                    self.enter(room);
                }
                let ended = self.encoders.withdraw(participant, self.port.annex());
                self.hear_locally(ended);
            }
            Order::Media(participant, media) => {
                let annex = self.port.annex();
                let hearing = self.encoders.handle_media(now, participant, media, annex);
                self.hear_locally(hearing);
            }
            Order::Disconnected(participant) => self.encoders.disconnect(now, participant),
            Order::Stop => self.is_stopping = true,
        }
    }

    fn channel(&mut self, id: BroadcastId) -> Option<&mut Channel> {
        self.channels
            .iter_mut()
            .find(|channel| channel.listing.id == id)
    }

    fn begin(&mut self, now: Instant, beginning: Beginning) {
        let room = beginning.room;
        let story = self.enter(room);
        let consumer = self.next_consumer();
        let channel = Channel::begin(now, consumer, beginning, &story);
        self.channels.push(channel);
        self.tell(BridgeEvent::RoomChanged { room });
    }

    fn record(&mut self, now: Instant, room: RoomId, track: TrackId, recorder: Recorder) {
        let story = self.enter(room);
        self.awaited.push(Awaited {
            room,
            track,
            recorder,
            until: now + TRACK_WAIT,
        });
        for heard in story {
            self.begin_take(now, &heard);
        }
    }

    /// Records a track that was waited for, if that is it.
    fn begin_take(&mut self, now: Instant, heard: &Heard) {
        let Heard::Track(known) = heard else {
            return;
        };
        let awaited = self
            .awaited
            .extract_if(.., |awaited| awaited.track == known.id);
        let awaited: Vec<Awaited> = awaited.collect();
        for Awaited { room, recorder, .. } in awaited {
            let consumer = self.next_consumer();
            self.takes.push(Taking {
                room,
                consumer,
                take: Take::new(now, (**known).clone()),
                recorder,
            });
        }
    }

    /// Waits no more for tracks of which nothing is heard, or that nobody wants recorded now: they have
    /// ended meanwhile. Their recorders are dropped, which ends their recordings.
    fn end_awaited(&mut self, is_over: impl Fn(&Awaited) -> bool) {
        let over: Vec<Awaited> = self.awaited.extract_if(.., |one| is_over(one)).collect();
        for Awaited { room, recorder, .. } in over {
            drop(recorder);
            self.release(room);
            self.tell(BridgeEvent::RoomChanged { room });
        }
    }

    fn next_consumer(&mut self) -> Consumer {
        self.next_consumer += 1;
        Consumer(self.next_consumer)
    }

    /// One more does something with a room; what is known of it.
    fn enter(&mut self, room: RoomId) -> Vec<Heard> {
        self.rooms.entry(room).or_default().users += 1;
        self.port.annex().enter(room);
        self.story(room)
    }

    fn story(&self, room: RoomId) -> Vec<Heard> {
        let mut story = self.encoders.story(room);
        story.extend(
            self.rooms
                .get(&room)
                .map(RoomTap::story)
                .unwrap_or_default(),
        );
        story
    }

    /// One less does something with a room.
    fn release(&mut self, room: RoomId) {
        let Some(tap) = self.rooms.get_mut(&room) else {
            return;
        };
        tap.users = tap.users.saturating_sub(1);
        if tap.users == 0 {
            self.rooms.remove(&room);
            self.tracks.retain(|_, of| *of != room);
            self.port.annex().leave(room);
        }
    }

    /// What encoders publish here is not heard from the shards.
    fn hear_locally(&mut self, hearing: Hearing) {
        for (room, heard) in hearing {
            self.hand_on(room, &heard);
        }
    }

    fn handle_heard(&mut self, now: Instant, heard: Heard) {
        let room = match &heard {
            Heard::Track(track) => {
                self.tracks.insert(track.id, track.room);
                Some(track.room)
            }
            Heard::State { track, .. } | Heard::Clock { track, .. } => {
                self.tracks.get(track).copied()
            }
            Heard::Packet(packet) => {
                self.counts.packets.fetch_add(1, Ordering::Relaxed);
                self.tracks.get(&packet.track).copied()
            }
            Heard::Ended { track } => self.tracks.remove(track),
            Heard::Speakers { room, .. } => Some(*room),
            Heard::Removed { participant } => return self.forget_encoder(*participant),
            Heard::RoomClosed { room } => return self.close(*room),
            Heard::Muted { track, muted } => {
                let hearing = self.encoders.mute(*track, *muted);
                return self.hear_locally(hearing);
            }
            // Encoders decide themselves when they send keyframes.
            Heard::KeyframeWanted { .. } => None,
        };
        let Some(room) = room else {
            return;
        };
        if let Some(tap) = self.rooms.get_mut(&room) {
            tap.note(&heard);
        }
        self.begin_take(now, &heard);
        self.hand_on(room, &heard);
    }

    fn hand_on(&mut self, room: RoomId, heard: &Heard) {
        let mut failed = Vec::new();
        for channel in self
            .channels
            .iter_mut()
            .filter(|channel| channel.room == room)
        {
            let taken = catch_unwind(AssertUnwindSafe(|| channel.handle_heard(heard)));
            if taken.is_err() {
                failed.push(channel.listing.id);
            }
        }
        for taking in self.takes.iter_mut().filter(|taking| taking.room == room) {
            taking.take.handle_heard(heard);
        }
        if let Heard::Ended { track } = heard {
            self.end_takes(|taking| taking.take.track() == *track);
        }
        self.fail(&failed);
    }

    fn turn_channels(&mut self, now: Instant) {
        let mut ended = Vec::new();
        let mut failed = Vec::new();
        for channel in &mut self.channels {
            if channel.look_at() > now {
                continue;
            }
            let Some(tap) = self.rooms.get_mut(&channel.room) else {
                continue;
            };
            let annex = self.port.annex();
            let turned = catch_unwind(AssertUnwindSafe(|| channel.turn(now, tap, annex)));
            self.counts.note_mix(channel.take_mix_counts());
            match turned {
                Ok(None) => {}
                Ok(Some(ending)) => ended.push((channel.listing.id, ending)),
                Err(_) => failed.push(channel.listing.id),
            }
        }
        for (id, ending) in ended {
            self.end(id, ending);
        }
        self.fail(&failed);
    }

    /// A panic over a broadcast ends that broadcast and nothing else.
    fn fail(&mut self, failed: &[BroadcastId]) {
        for id in failed {
            tracing::error!(broadcast = %id, "a panic ended a broadcast");
            self.counts.panics.fetch_add(1, Ordering::Relaxed);
            self.end(*id, Ending::Failed);
        }
    }

    fn turn_takes(&mut self, now: Instant) {
        for taking in &mut self.takes {
            taking.take.handle_timeout(now);
            if let Some(tap) = self.rooms.get_mut(&taking.room) {
                while let Some(ask) = taking.take.poll_ask() {
                    tap.carry_out(self.port.annex(), taking.consumer, ask);
                }
            }
            while let Some(frame) = taking.take.poll_frame() {
                // One that has ended is looked for below.
                taking.recorder.offer(frame);
            }
        }
        self.end_takes(|taking| taking.recorder.has_ended());
    }

    fn end_takes(&mut self, is_over: impl Fn(&Taking) -> bool) {
        let over: Vec<Taking> = self
            .takes
            .extract_if(.., |taking| is_over(taking))
            .collect();
        for taking in over {
            if let Some(tap) = self.rooms.get_mut(&taking.room) {
                tap.forget(self.port.annex(), taking.consumer);
            }
            let room = taking.room;
            // Its recorder is dropped, which finishes the recording.
            drop(taking);
            self.release(room);
            self.tell(BridgeEvent::RoomChanged { room });
        }
    }

    fn end(&mut self, id: BroadcastId, ending: Ending) {
        let place = self
            .channels
            .iter()
            .position(|channel| channel.listing.id == id);
        let Some(place) = place else {
            return;
        };
        let channel = self.channels.swap_remove(place);
        let (room, consumer) = (channel.room, channel.consumer);
        if let Some(tap) = self.rooms.get_mut(&room) {
            tap.forget(self.port.annex(), consumer);
        }
        match catch_unwind(AssertUnwindSafe(|| channel.end(ending))) {
            Ok(farewell) => {
                let until = Instant::now() + Farewell::TIME;
                self.farewells
                    .extend(farewell.map(|farewell| (until, farewell)));
            }
            Err(_) => _ = self.counts.panics.fetch_add(1, Ordering::Relaxed),
        }
        tracing::info!(broadcast = %id, ?ending, "broadcast ended");
        self.release(room);
        self.tell(BridgeEvent::RoomChanged { room });
    }

    fn forget_encoder(&mut self, participant: ParticipantId) {
        let Some((room, tracks)) = self.encoders.remove(participant) else {
            return;
        };
        for track in tracks {
            self.hand_on(room, &Heard::Ended { track });
        }
        self.release(room);
    }

    /// A room has ended, and all that was done with it.
    fn close(&mut self, room: RoomId) {
        let of = |channel: &&Channel| channel.room == room;
        let ids: Vec<BroadcastId> = self
            .channels
            .iter()
            .filter(of)
            .map(|c| c.listing.id)
            .collect();
        for id in ids {
            self.end(id, Ending::RoomClosed);
        }
        self.end_takes(|taking| taking.room == room);
        self.end_awaited(|awaited| awaited.room == room);
        for participant in self.encoders.in_room(room) {
            self.forget_encoder(participant);
        }
        self.rooms.remove(&room);
        self.tracks.retain(|_, of| *of != room);
    }

    fn tell(&self, event: BridgeEvent) {
        if self.events.try_send(event).is_err() {
            tracing::warn!("the service does not hear what becomes of broadcasts");
        }
    }
}

/// The wall clock of an instant as NTP has it: seconds since 1900 and their fraction, 32 bits each.
fn ntp_of(at: Instant) -> u64 {
    /// From 1900 to 1970.
    const EPOCH: u64 = 2_208_988_800;
    let ago = at.elapsed();
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let since = since.saturating_sub(ago);
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (since.as_secs().wrapping_add(EPOCH)) << 32 | fraction
}

/// The wire form of an extended timestamp.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half is asked for"
)]
fn low_u32(timestamp: u64) -> u32 {
    timestamp as u32
}
