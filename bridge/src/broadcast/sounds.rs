//! The sound of a room's tracks: each on the timeline, all in one mix, in every codec that is wanted; or, as Opus, the
//! packets of whoever is alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sfu::annex::HeardPacket;
use sfu::{Codec, TrackId};

use super::Settings;
use crate::audio::{
    AudioEncoder, EncoderError, MixCounts, Mixer, MixerSettings, OpusEncoder, PREROLL_TICKS, Solo,
    SourceId, TICK_US, Turn,
};
use crate::frames::{Assembled, Assembler, Coding};
use crate::media::{AudioCodec, AudioConfig, AudioFrame};
use crate::timeline::{SenderClock, SenderReport, TrackClock};

/// Ticks a second of Opus' clock (RFC 7587 §4.1).
const CLOCK_RATE: u32 = 48_000;
/// A lost packet is waited for this long; what is later is too late for the mix.
const HOLE_WAIT: Duration = Duration::from_millis(60);
/// The level of silence (RFC 6464).
const SILENCE: u8 = 127;
/// What is silent for this long is not decoded any more.
const SILENT_FOR: Duration = Duration::from_millis(500);
/// What an Opus packet usually holds, and one that is passed on always; the decoder knows better.
const PACKET_SAMPLES: u32 = 960;

/// The sound of a room.
#[derive(Debug)]
pub(super) struct Sounds {
    mixer: Mixer,
    solo: Solo,
    encoders: Vec<(AudioCodec, AudioEncoder)>,
    feeds: HashMap<TrackId, Feed>,
    opus: Arc<AudioConfig>,
}

#[derive(Debug)]
struct Feed {
    assembler: Assembler,
    clock: TrackClock,
    heard_at: Option<Instant>,
}

impl Sounds {
    pub(super) fn new(start_us: i64, settings: &Settings) -> Result<Self, EncoderError> {
        let mixing = MixerSettings {
            delay_us: settings.audio_delay_us,
            ..MixerSettings::default()
        };
        let mut sounds = Self {
            mixer: Mixer::new(start_us, mixing),
            solo: Solo::default(),
            encoders: Vec::new(),
            feeds: HashMap::new(),
            opus: Arc::new(AudioConfig {
                codec: AudioCodec::Opus,
                sample_rate: CLOCK_RATE,
                channels: 2,
                record: Bytes::new(),
                priming: 0,
            }),
        };
        for codec in &settings.audio {
            sounds.add(*codec)?;
        }
        Ok(sounds)
    }

    /// Has the sound in another codec as well, from the next tick on.
    pub(super) fn add(&mut self, codec: AudioCodec) -> Result<(), EncoderError> {
        let tick_us = self.mixer.next_us();
        let encoder = AudioEncoder::new(codec, tick_us, None)?;
        if self.solo.stop(tick_us) {
            self.begin_mixing(tick_us);
        }
        self.solo.clear();
        self.encoders.push((codec, encoder));
        Ok(())
    }

    pub(super) fn config(&self, wanted: AudioCodec) -> Option<Arc<AudioConfig>> {
        let mut encoders = self.encoders.iter();
        let found = encoders.find(|(codec, _)| *codec == wanted);
        found.map(|(_, encoder)| Arc::clone(encoder.config()))
    }

    pub(super) fn codecs(&self) -> Vec<AudioCodec> {
        self.encoders.iter().map(|(codec, _)| *codec).collect()
    }

    /// What the mix has seen since the last time.
    pub(super) fn take_counts(&mut self) -> MixCounts {
        self.mixer.take_counts()
    }

    /// How many were heard when `is_late_enough` says.
    pub(super) fn heard_since(&self, is_late_enough: impl Fn(Instant) -> bool) -> usize {
        let heard = self.feeds.values().filter_map(|feed| feed.heard_at);
        heard.filter(|at| is_late_enough(*at)).count()
    }

    pub(super) fn handle_packet(&mut self, packet: &HeardPacket, sender: Option<&SenderClock>) {
        let Some(sender) = sender.filter(|_| packet.codec == Codec::Opus) else {
            return;
        };
        let feed = self.feeds.entry(packet.track).or_insert_with(Feed::new);
        // One whose level is not told counts as loud.
        if packet.audio_level.is_none_or(|level| level < SILENCE) {
            feed.heard_at = Some(packet.arrival);
        }
        feed.assembler.handle_packet(packet.into());
        self.take(packet.track, sender);
    }

    pub(super) fn handle_clock(
        &mut self,
        track: TrackId,
        sender: &mut SenderClock,
        report: SenderReport,
    ) {
        if let Some(feed) = self.feeds.get_mut(&track) {
            feed.clock.handle_report(sender, report);
        }
    }

    /// Gives up packets that do not come.
    pub(super) fn handle_timeout<'s>(
        &mut self,
        now: Instant,
        sender_of: impl Fn(TrackId) -> Option<&'s SenderClock>,
    ) {
        let is_due = |feed: &Feed| feed.assembler.poll_timeout().is_some_and(|at| at <= now);
        let due = self.feeds.iter().filter(|(_, feed)| is_due(feed));
        let due: Vec<TrackId> = due.map(|(track, _)| *track).collect();
        for track in due {
            if let Some(feed) = self.feeds.get_mut(&track) {
                feed.assembler.handle_timeout(now);
            }
            if let Some(sender) = sender_of(track) {
                self.take(track, sender);
            }
        }
    }

    /// Gives what is due in every codec, mixed or passed on, with the time at which it was due.
    pub(super) fn mix(&mut self, now_us: i64, mut out: impl FnMut(i64, AudioFrame)) {
        loop {
            let due_us = self.mixer.poll_timeout();
            if now_us < due_us {
                return;
            }
            if let Some(frame) = self.pass() {
                out(due_us, frame);
                continue;
            }
            let Some(tick) = self.mixer.poll_tick(now_us) else {
                return;
            };
            for (codec, encoder) in &mut self.encoders {
                match encoder.encode(tick.samples) {
                    Ok(frame) => frame.into_iter().for_each(|frame| out(due_us, frame)),
                    Err(error) => tracing::error!(?codec, %error, "sound is not encoded"),
                }
            }
        }
    }

    /// The next tick as somebody's packet, if that can be.
    fn pass(&mut self) -> Option<AudioFrame> {
        let tick_us = self.mixer.next_us();
        let encoder = self.only_opus()?;
        let (config, at_us) = (Arc::clone(encoder.config()), tick_us - encoder.lead_us());
        match self.solo.turn(tick_us, at_us) {
            Turn::Pass(data) => {
                self.mixer.skip_tick();
                Some(AudioFrame {
                    config,
                    at_us,
                    samples: PACKET_SAMPLES,
                    data,
                })
            }
            Turn::Mix { begins } => {
                if begins {
                    self.begin_mixing(tick_us);
                }
                None
            }
        }
    }

    /// The encoder, if the sound is wanted as Opus and as nothing else.
    fn only_opus(&self) -> Option<&OpusEncoder> {
        match self.encoders.as_slice() {
            [(_, AudioEncoder::Opus(encoder))] => Some(encoder),
            _ => None,
        }
    }

    /// Mixes from a little before the next tick on, and encodes that for nobody.
    fn begin_mixing(&mut self, tick_us: i64) {
        let from_us = tick_us - PREROLL_TICKS * TICK_US;
        self.mixer.begin_anew(PREROLL_TICKS);
        for (id, frame) in self.solo.kept(from_us) {
            // Counted by the mixer.
            self.mixer.push(id, frame).ok();
        }
        for (_, encoder) in &mut self.encoders {
            if let AudioEncoder::Opus(encoder) = encoder
                && let Err(error) = encoder.begin_anew(from_us)
            {
                tracing::error!(%error, "an encoder does not begin anew");
            }
        }
        for _ in 0..PREROLL_TICKS {
            // Before the next tick all of them are due.
            let Some(tick) = self.mixer.poll_tick(i64::MAX) else {
                return;
            };
            for (_, encoder) in &mut self.encoders {
                if let AudioEncoder::Opus(encoder) = encoder {
                    encoder.encode(tick.samples).ok();
                }
            }
        }
    }

    pub(super) fn forget(&mut self, track: TrackId) {
        if self.feeds.remove(&track).is_some() {
            // What is kept of it for a solo runs out by itself.
            self.mixer.remove(SourceId(track.number()));
        }
    }

    fn take(&mut self, track: TrackId, sender: &SenderClock) {
        let is_solo_kept = self.only_opus().is_some();
        let Some(feed) = self.feeds.get_mut(&track) else {
            return;
        };
        while let Some(assembled) = feed.assembler.poll_frame() {
            let Assembled {
                timestamp,
                arrival,
                data,
                ..
            } = assembled;
            let mapped = feed.clock.map(sender, arrival, timestamp);
            let is_silent = |at: Instant| arrival.saturating_duration_since(at) > SILENT_FOR;
            if feed.heard_at.is_none_or(is_silent) {
                continue;
            }
            let frame = AudioFrame {
                config: Arc::clone(&self.opus),
                at_us: mapped.at_us,
                samples: PACKET_SAMPLES,
                data,
            };
            let id = SourceId(track.number());
            if self.solo.is_mixing() {
                let came_us = sender.timeline().at_us(arrival);
                // Counted by the mixer; what is late to no purpose must not delay the others.
                if self.mixer.push(id, &frame).is_ok() {
                    self.mixer.note_late(came_us - frame.at_us);
                }
            }
            if is_solo_kept {
                self.solo.push(id, frame);
            }
        }
    }
}

impl Feed {
    fn new() -> Self {
        Self {
            assembler: Assembler::new(Coding::Opus, HOLE_WAIT),
            clock: TrackClock::new(CLOCK_RATE),
            heard_at: None,
        }
    }
}
