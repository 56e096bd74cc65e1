//! One broadcast with all that carries it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sfu::RoomId;
use sfu::annex::{Annex, Heard};

use super::LOOK_INTERVAL_MAX;
use super::room::{Consumer, RoomTap};
use crate::audio::MixCounts;
use crate::broadcast::{Broadcast, Piece, Sample};
use crate::flv::FlvFeed;
use crate::hls::{self, Packager, Publication};
use crate::listing::{Ending, Listing, Progress, Target};
use crate::media::{AudioCodec, AudioFrame};
use crate::recording::{Frame, Recorder};
use crate::rungs::Placed;

/// What it is carried by live, without an HLS player's patience, is looked at this often.
const LIVE_INTERVAL: Duration = Duration::from_millis(20);
/// Between two times that it is told how the broadcast is.
const TELL_INTERVAL: Duration = Duration::from_millis(500);

/// One broadcast with all that carries it.
pub(super) struct Channel {
    pub(super) listing: Arc<Listing>,
    pub(super) room: RoomId,
    pub(super) consumer: Consumer,
    broadcast: Broadcast,
    hls: Option<Hls>,
    flv: Option<Arc<FlvFeed>>,
    targets: Vec<Arc<Target>>,
    recorder: Option<Recorder>,
    /// What a recording has its sound in.
    recorded: AudioCodec,
    /// It ends when nobody has published for this long.
    empty_timeout: Duration,
    empty_since: Option<Instant>,
    tell_at: Option<Instant>,
    /// When `turn` is to be called next; what comes until then waits.
    look_at: Instant,
}

/// A broadcast as HLS.
pub(crate) struct Hls {
    pub(crate) packager: Packager,
    pub(crate) store: Arc<hls::Broadcast>,
    /// What it has its sound in.
    pub(crate) audio: AudioCodec,
    /// It stops when nobody has watched for this long.
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) begun_at: Instant,
}

/// What a channel begins with.
pub(crate) struct Beginning {
    pub(crate) listing: Arc<Listing>,
    pub(crate) room: RoomId,
    pub(crate) broadcast: Broadcast,
    pub(crate) hls: Option<Hls>,
    pub(crate) flv: Option<Arc<FlvFeed>>,
    pub(crate) targets: Vec<Arc<Target>>,
    pub(crate) recorder: Option<Recorder>,
    pub(crate) recorded: AudioCodec,
    pub(crate) empty_timeout: Duration,
}

impl Channel {
    /// Begins with what is known of its room.
    pub(super) fn begin(
        now: Instant,
        consumer: Consumer,
        with: Beginning,
        story: &[Heard],
    ) -> Self {
        let mut channel = Self {
            listing: with.listing,
            room: with.room,
            consumer,
            broadcast: with.broadcast,
            hls: with.hls,
            flv: with.flv,
            targets: with.targets,
            recorder: with.recorder,
            recorded: with.recorded,
            empty_timeout: with.empty_timeout,
            empty_since: None,
            tell_at: None,
            look_at: now,
        };
        for heard in story {
            channel.handle_heard(heard);
        }
        channel
    }

    pub(super) fn handle_heard(&mut self, heard: &Heard) {
        self.broadcast.handle_heard(heard);
    }

    /// When `turn` is to be called next.
    pub(super) fn look_at(&self) -> Instant {
        self.look_at
    }

    /// What its mix has seen since the last time.
    pub(super) fn take_mix_counts(&mut self) -> MixCounts {
        self.broadcast.take_mix_counts()
    }

    /// Follows someone else.
    pub(super) fn follow(&mut self, now: Instant, follow: crate::program::Follow) {
        self.broadcast.follow(follow);
        self.look_at = now;
    }

    /// Goes to one more target, or to one less.
    pub(super) fn add_target(&mut self, now: Instant, target: Arc<Target>) {
        self.look_at = now;
        // Where there was no AAC before, there is now; it was tried when the target was.
        self.broadcast.add_audio(AudioCodec::Aac).ok();
        self.targets.push(target);
    }

    pub(super) fn remove_target(&mut self, id: u32) {
        self.targets.retain(|target| target.id != id);
    }

    /// Someone wants to watch it.
    pub(super) fn wake(&mut self, now: Instant) {
        self.look_at = now;
        if let Err(error) = self.broadcast.resume(now) {
            tracing::error!(%error, "a broadcast does not go on");
        }
    }

    /// Lets time pass, and carries what came of it. `Some`: it ends.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        tap: &mut RoomTap,
        annex: &mut Annex,
    ) -> Option<Ending> {
        self.rest_if_idle(now);
        self.broadcast.handle_timeout(now);
        let now_us = self.broadcast.timeline().at_us(now);
        while let Some(ask) = self.broadcast.poll_ask() {
            tap.carry_out(annex, self.consumer, ask);
        }
        self.carry_samples();
        if let Some(hls) = &mut self.hls {
            if self.broadcast.is_running() {
                hls.packager.advance(now_us);
            }
            hls.publish();
        }
        self.look_at = self.next_look(now, now_us);
        if self.tell_at.is_none_or(|at| at <= now) {
            self.tell_at = Some(now + TELL_INTERVAL);
            self.tell();
        }
        if self.recorder.as_ref().is_some_and(Recorder::has_ended) {
            self.recorder = None;
            if self.is_carried_nowhere() {
                return Some(Ending::Stopped);
            }
        }
        self.is_abandoned(now).then_some(Ending::Empty)
    }

    /// Ends everything that carries it, but for what is still to be said to players of HLS.
    pub(super) fn end(mut self, ending: Ending) -> Option<Farewell> {
        self.broadcast.finish();
        self.carry_samples();
        if let Some(hls) = &mut self.hls {
            hls.packager.finish();
            hls.publish();
        }
        if let Some(flv) = &self.flv {
            flv.end();
        }
        self.listing.end(ending);
        self.hls.map(|hls| Farewell(hls.store))
    }

    /// As seldom as nobody sees the difference: each look begins with cold caches, and it is that which costs.
    fn next_look(&self, now: Instant, now_us: i64) -> Instant {
        let is_live =
            !self.targets.is_empty() || self.flv.as_ref().is_some_and(|flv| flv.viewers() > 0);
        let longest = match is_live {
            true => LIVE_INTERVAL,
            false => LOOK_INTERVAL_MAX,
        };
        if !self.broadcast.is_running() {
            return now + longest;
        }
        let mut look_us = self.broadcast.next_look_us(now_us);
        if let Some(hls) = &self.hls {
            look_us = look_us.min(hls.packager.next_look_us(now_us));
        }
        let wait_us = u64::try_from(look_us.saturating_sub(now_us)).unwrap_or(0);
        now + Duration::from_micros(wait_us).min(longest)
    }

    fn carry_samples(&mut self) {
        while let Some(Piece { came_us, sample }) = self.broadcast.poll_sample() {
            match sample {
                Sample::Video(placed) => self.carry_picture(came_us, placed),
                Sample::Audio(frame) => self.carry_sound(came_us, frame),
            }
        }
    }

    fn carry_picture(&mut self, came_us: i64, placed: Placed) {
        let Placed {
            rung,
            is_cut,
            frame,
        } = placed;
        if rung == 0 {
            if let Some(flv) = &self.flv {
                flv.send_video(&frame);
            }
            for target in &self.targets {
                target.pusher.send_video(&frame);
            }
            if let Some(recorder) = &self.recorder {
                recorder.offer(Frame::Video(frame.clone()));
            }
        }
        if let (Some(hls), Ok(rung)) = (&mut self.hls, u8::try_from(rung)) {
            if is_cut && rung == 0 {
                hls.packager.discontinue();
            }
            hls.packager.push_video(came_us, rung, frame);
        }
    }

    fn carry_sound(&mut self, came_us: i64, frame: AudioFrame) {
        let codec = frame.config.codec;
        if codec == AudioCodec::Aac {
            if let Some(flv) = &self.flv {
                flv.send_audio(&frame);
            }
            for target in &self.targets {
                target.pusher.send_audio(&frame);
            }
        }
        if let Some(recorder) = self.recorder.as_ref().filter(|_| codec == self.recorded) {
            recorder.offer(Frame::Audio(frame.clone()));
        }
        if let Some(hls) = self.hls.as_mut().filter(|hls| hls.audio == codec) {
            hls.packager.push_audio(came_us, frame);
        }
    }

    /// It was recorded and nothing else.
    fn is_carried_nowhere(&self) -> bool {
        self.hls.is_none() && self.targets.is_empty()
    }

    /// Stops while it is carried to nobody, if it may.
    fn rest_if_idle(&mut self, now: Instant) {
        let Some(hls) = &mut self.hls else {
            return;
        };
        let Some(idle_timeout) = hls.idle_timeout else {
            return;
        };
        let is_carried = !self.targets.is_empty()
            || self.recorder.is_some()
            || self.flv.as_ref().is_some_and(|flv| flv.viewers() > 0);
        if !is_carried && self.broadcast.is_running() && hls.is_idle(now, idle_timeout) {
            self.broadcast.pause();
            hls.packager.pause();
            hls.publish();
            hls.store.set_asleep();
            tracing::info!(broadcast = %self.listing.id, "nobody watches: paused");
        }
    }

    fn is_abandoned(&mut self, now: Instant) -> bool {
        if self.broadcast.has_publishers() {
            self.empty_since = None;
            return false;
        }
        let since = *self.empty_since.get_or_insert(now);
        now.saturating_duration_since(since) >= self.empty_timeout
    }

    fn tell(&self) {
        self.listing.tell(Progress {
            shown: self.broadcast.shown().clone(),
            is_paused: !self.broadcast.is_running(),
            has_publishers: self.broadcast.has_publishers(),
        });
    }
}

impl Hls {
    /// Nobody has asked for anything for this long, if ever.
    fn is_idle(&self, now: Instant, idle_timeout: Duration) -> bool {
        let since = self.store.requested_at().unwrap_or(self.begun_at);
        now.saturating_duration_since(since) >= idle_timeout
    }

    fn publish(&mut self) {
        let publications = std::iter::from_fn(|| self.packager.poll());
        // Farewell says that it has ended.
        let publications = publications.filter(|said| !matches!(said, Publication::Ended));
        self.store.publish(publications);
    }
}

/// A broadcast that has ended, and whose players have yet to load its last parts: hls.js leaves out those that it
/// hears of together with the end, and plays on for ever. Says that it has ended when it is dropped.
pub(super) struct Farewell(Arc<hls::Broadcast>);

impl Farewell {
    /// How long players have for that.
    pub(super) const TIME: Duration = Duration::from_secs(1);
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.publish([Publication::Ended]);
    }
}
