//! A room as one program: a pure machine from what an annex hears to whole frames on one timeline.
//!
//! In: [`Broadcast::handle_heard`] and, from time to time, [`Broadcast::handle_timeout`]. Out:
//! [`Broadcast::poll_sample`], what is to be carried, and [`Broadcast::poll_ask`], what the annex is to do.
//! What comes out is the same however seldom time passes, up to 250 ms, but for how soon it does: everything
//! goes by when packets came.
//!
//! Pictures go through unchanged: the track that [`Program`] has on the air, each
//! encoding on a rung of [`Rungs`], else the card. Sound is everybody's, mixed.

pub(crate) mod pictures;
mod sounds;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sfu::annex::{Heard, HeardPacket, HeardTrack};
use sfu::{Codec, Kind, ParticipantId, TrackId};

use crate::audio::{EncoderError, MixCounts};
use crate::keyframes::Keyframes;
use crate::ladder::Ladder;
use crate::media::{AudioCodec, AudioConfig, AudioFrame, VideoCodec};
use crate::program::{Follow, Program};
use crate::rungs::{Lane, Placed, Rungs};
use crate::timeline::{SenderClock, SenderReport, Timeline};
use pictures::Pictures;
use sounds::Sounds;

/// Between two looks at what is on the air.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks while a rung waits for its first picture or shows the card, or many are heard, in microseconds.
const SOON_US: i64 = 20_000;
/// More than so many who were heard within this time, in microseconds, are many.
const CROWD: usize = 2;
const CROWD_US: i64 = 500_000;
/// At the end sound is mixed for this long after the present: an AAC encoder keeps 43 to 64 ms to itself,
/// and players end well only where the sound is not shorter than the picture.
const TAIL_US: i64 = 80_000;

/// What a broadcast is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whose picture is shown.
    pub follow: Follow,
    /// Rungs at most, 1 to 8.
    pub rungs_max: usize,
    /// What pictures may be coded in; those in anything else are not shown.
    pub video: Vec<VideoCodec>,
    /// What the sound is wanted in; AAC needs the feature `aac-fdk`.
    pub audio: Vec<AudioCodec>,
    /// Between two keyframes, in microseconds: publishers are asked for one this often.
    pub keyframe_interval_us: i64,
    /// How long sound waits for late packets, in microseconds.
    pub audio_delay_us: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            follow: Follow::default(),
            rungs_max: 3,
            video: vec![VideoCodec::H264],
            audio: vec![AudioCodec::Opus],
            keyframe_interval_us: 2_000_000,
            audio_delay_us: 100_000,
        }
    }
}

/// A piece of the program.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Since when it could be had, on the timeline: its last packet came then, or its time to be mixed.
    pub came_us: i64,
    /// What it is.
    pub sample: Sample,
}

/// What the program consists of.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// A picture.
    Video(Placed),
    /// A piece of sound.
    Audio(AudioFrame),
}

/// What an annex is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Have these encodings of a track and no others, as bits.
    Want {
        /// The track.
        track: TrackId,
        /// The encodings.
        encodings: u8,
    },
    /// Ask for keyframes of these encodings, as bits.
    Keyframe {
        /// The track.
        track: TrackId,
        /// The encodings.
        encodings: u8,
    },
    /// Ask for a track in another codec.
    Codec {
        /// The track.
        track: TrackId,
        /// The codec.
        codec: Codec,
    },
}

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A participant's picture.
    Picture {
        /// Whose, by identity.
        identity: String,
        /// The track.
        track: TrackId,
    },
    /// The card: there is no picture to show.
    Nobody,
    /// The card: nothing comes of the picture, not yet or not any more.
    Silent {
        /// Whose, by identity.
        identity: String,
    },
    /// The card: the picture is in a codec that is not carried.
    Codec {
        /// Whose, by identity.
        identity: String,
        /// Which.
        codec: Codec,
    },
}

/// A room as one program.
#[derive(Debug)]
pub struct Broadcast {
    settings: Settings,
    timeline: Timeline,
    program: Program,
    ladder: Ladder,
    rungs: Rungs,
    pictures: Pictures,
    keyframes: Keyframes,
    sounds: Sounds,
    senders: HashMap<ParticipantId, SenderClock>,
    tracks: HashMap<TrackId, HeardTrack>,
    shown: Shown,
    is_running: bool,
    /// What the annex was asked to have.
    wanted: HashMap<TrackId, u8>,
    next_look: Option<Instant>,
    /// When time passed last.
    turned_us: i64,
    pieces: VecDeque<Piece>,
    asks: VecDeque<Ask>,
}

impl Broadcast {
    /// Begins now.
    ///
    /// # Errors
    /// There is no encoder for the sound.
    pub fn new(now: Instant, settings: Settings) -> Result<Self, EncoderError> {
        let timeline = Timeline::new(now);
        Ok(Self {
            program: Program::new(settings.follow.clone()),
            ladder: Ladder::default(),
            rungs: Rungs::new(settings.rungs_max),
            pictures: Pictures::new(settings.video.clone()),
            keyframes: Keyframes::new(settings.keyframe_interval_us),
            sounds: Sounds::new(0, &settings)?,
            settings,
            timeline,
            senders: HashMap::new(),
            tracks: HashMap::new(),
            shown: Shown::Nobody,
            is_running: true,
            wanted: HashMap::new(),
            next_look: None,
            turned_us: 0,
            pieces: VecDeque::new(),
            asks: VecDeque::new(),
        })
    }

    /// The timeline of all that comes out.
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// Follows someone else from now on.
    pub fn follow(&mut self, follow: Follow) {
        self.program.follow(follow);
        self.next_look = None;
    }

    /// What is shown.
    pub fn shown(&self) -> &Shown {
        &self.shown
    }

    /// Someone publishes something.
    pub fn has_publishers(&self) -> bool {
        !self.tracks.is_empty()
    }

    /// What the sound is coded in at present.
    pub fn audio_codecs(&self) -> Vec<AudioCodec> {
        self.sounds.codecs()
    }

    /// How the sound is coded in a codec; `None` while it is not wanted in it.
    pub fn audio_config(&self, codec: AudioCodec) -> Option<Arc<AudioConfig>> {
        self.sounds.config(codec)
    }

    /// Has the sound in another codec as well.
    ///
    /// # Errors
    /// There is no encoder for it.
    pub fn add_audio(&mut self, codec: AudioCodec) -> Result<(), EncoderError> {
        if !self.settings.audio.contains(&codec) {
            self.sounds.add(codec)?;
            self.settings.audio.push(codec);
        }
        Ok(())
    }

    /// Stops while nobody watches: nothing is wanted, decoded, mixed or shown.
    pub fn pause(&mut self) {
        if std::mem::replace(&mut self.is_running, false) {
            self.ladder = Ladder::default();
            self.rungs.aim(&[], false);
            self.pictures.forget_feeds();
            self.settle_wants();
        }
    }

    /// Goes on; what comes begins with a cut.
    ///
    /// # Errors
    /// There is no encoder for the sound.
    pub fn resume(&mut self, now: Instant) -> Result<(), EncoderError> {
        if !self.is_running {
            self.sounds = Sounds::new(self.timeline.at_us(now), &self.settings)?;
            self.is_running = true;
            self.next_look = None;
        }
        Ok(())
    }

    /// It is not paused.
    pub fn is_running(&self) -> bool {
        self.is_running
    }

    /// The next piece of the program.
    pub fn poll_sample(&mut self) -> Option<Piece> {
        self.pieces.pop_front()
    }

    /// What its mix has seen since the last time.
    pub fn take_mix_counts(&mut self) -> MixCounts {
        self.sounds.take_counts()
    }

    /// When time is to pass at the latest, on the timeline, whatever those who carry it want.
    pub fn next_look_us(&self, now_us: i64) -> i64 {
        let turn_us = self.keyframes.next_us(now_us);
        // What many say at once is decoded piece by piece: all of a tenth of a second would hold up who shares the core.
        let is_crowd = self
            .sounds
            .heard_since(|at| self.timeline.at_us(at) >= now_us - CROWD_US)
            > CROWD;
        // Cards come when they are looked for, and a source that begins is not to wait.
        match self.rungs.is_settled() && !is_crowd {
            true => turn_us,
            false => turn_us.min(now_us + SOON_US),
        }
    }

    /// What the annex is to do next.
    pub fn poll_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    /// Takes in what an annex hears of this room.
    pub fn handle_heard(&mut self, heard: &Heard) {
        match heard {
            Heard::Track(track) => self.note_track(track),
            Heard::State { track, state } => {
                if let Some(known) = self.tracks.get_mut(track) {
                    known.state = (**state).clone();
                    self.program.mute(*track, state.muted);
                }
            }
            Heard::Ended { track } => self.forget_track(*track),
            Heard::Packet(packet) if self.is_running => self.handle_packet(packet),
            Heard::Clock {
                track,
                encoding,
                ntp,
                rtp_timestamp,
                arrival,
            } => {
                let report = SenderReport {
                    arrival: *arrival,
                    ntp: *ntp,
                    rtp_timestamp: *rtp_timestamp,
                };
                self.handle_clock((*track, *encoding), report);
            }
            Heard::Speakers { dominant, .. } => self.program.speaker(*dominant),
            Heard::Packet(_)
            | Heard::KeyframeWanted { .. }
            | Heard::Removed { .. }
            | Heard::Muted { .. }
            | Heard::RoomClosed { .. } => {}
        }
    }

    /// Lets time pass: gives up packets that do not come, mixes what is due, looks at what is on the air.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.is_running {
            return;
        }
        let now_us = self.timeline.at_us(now);
        self.turned_us = now_us;
        self.pictures.handle_timeout(now);
        self.take_pictures();
        let (tracks, senders) = (&self.tracks, &self.senders);
        self.sounds.handle_timeout(now, |track| {
            let track = tracks.get(&track)?;
            senders.get(&track.participant)
        });
        if self.next_look.is_none_or(|at| at <= now) {
            self.next_look = Some(now + LOOK_INTERVAL);
            self.look(now);
        }
        let mut placed = Vec::new();
        self.rungs.fill(now_us, &mut placed);
        self.put_pictures(now_us, &mut placed);
        self.mix(now_us);
        let due_us = self.keyframes.due_us(now_us);
        let keyframes = self.pictures.keyframes_due(now, due_us, &self.rungs);
        self.asks.extend(keyframes);
    }

    /// Gives all the sound that has come, for the program ends here: at the time that is returned, in
    /// microseconds.
    pub fn finish(&mut self) -> i64 {
        if self.is_running {
            self.mix(self.turned_us + self.settings.audio_delay_us + TAIL_US);
        }
        self.turned_us
    }

    fn note_track(&mut self, track: &HeardTrack) {
        let participant = track.participant;
        self.senders
            .entry(participant)
            .or_insert_with(|| SenderClock::new(self.timeline));
        if track.kind == Kind::Video {
            let whose = (participant, track.identity.as_str());
            let muted = track.state.muted;
            self.program.note(track.id, whose, track.source, muted);
        }
        self.tracks.insert(track.id, track.clone());
    }

    fn forget_track(&mut self, track: TrackId) {
        self.program.remove(track);
        self.pictures.forget(track);
        self.sounds.forget(track);
        self.wanted.remove(&track);
        if let Some(gone) = self.tracks.remove(&track) {
            let mut left = self.tracks.values();
            if !left.any(|track| track.participant == gone.participant) {
                self.senders.remove(&gone.participant);
            }
        }
        self.next_look = None;
    }

    fn handle_packet(&mut self, packet: &HeardPacket) {
        let Some(track) = self.tracks.get(&packet.track) else {
            return;
        };
        match track.kind {
            Kind::Audio => {
                let sender = self.senders.get(&track.participant);
                self.sounds.handle_packet(packet, sender);
            }
            Kind::Video => {
                // Others in this process may have more of the track.
                let wanted = self.wanted.get(&packet.track).copied().unwrap_or(0);
                if wanted.checked_shr(packet.encoding.into()).unwrap_or(0) & 1 == 1 {
                    self.pictures.handle_packet(packet);
                    self.take_pictures();
                }
            }
        }
    }

    fn handle_clock(&mut self, (track, encoding): (TrackId, u8), report: SenderReport) {
        let Some(heard) = self.tracks.get(&track) else {
            return;
        };
        let Some(sender) = self.senders.get_mut(&heard.participant) else {
            return;
        };
        match heard.kind {
            Kind::Audio => self.sounds.handle_clock(track, sender, report),
            Kind::Video => {
                let lane = Lane { track, encoding };
                self.pictures.handle_clock(lane, sender, report);
            }
        }
    }

    /// Puts whole pictures where they belong.
    fn take_pictures(&mut self) {
        let mut placed = Vec::new();
        while let Some((lane, assembled)) = self.pictures.poll_frame() {
            let track = self.tracks.get(&lane.track);
            let sender = track.and_then(|track| self.senders.get(&track.participant));
            let Some(sender) = sender else {
                continue;
            };
            let came_us = self.timeline.at_us(assembled.arrival);
            if let Some(frame) = self.pictures.place(lane, sender, assembled) {
                self.rungs.place(lane, &frame, &mut placed);
            }
            self.put_pictures(came_us, &mut placed);
        }
    }

    fn put_pictures(&mut self, came_us: i64, placed: &mut Vec<Placed>) {
        for placed in placed.drain(..) {
            self.keyframes.handle_placed(came_us, &placed);
            self.pieces.push_back(Piece {
                came_us,
                sample: Sample::Video(placed),
            });
        }
    }

    fn mix(&mut self, until_us: i64) {
        let pieces = &mut self.pieces;
        self.sounds.mix(until_us, |came_us, frame| {
            pieces.push_back(Piece {
                came_us,
                sample: Sample::Audio(frame),
            });
        });
    }

    /// Decides what is on the air, and has what is needed for that and no more.
    fn look(&mut self, now: Instant) {
        let on_air = self.program.on_air(now);
        let track = on_air.and_then(|track| self.tracks.get(&track));
        let lanes = match track {
            Some(track) => pictures::lanes(track, &self.settings.video),
            None => Vec::new(),
        };
        self.shown = match track {
            None => Shown::Nobody,
            Some(track) => match track.state.codec.filter(|_| lanes.is_empty()) {
                Some(codec) if !pictures::is_carried(codec, &self.settings.video) => Shown::Codec {
                    identity: track.identity.clone(),
                    codec,
                },
                _ if self.rungs.shows_card() => Shown::Silent {
                    identity: track.identity.clone(),
                },
                _ => Shown::Picture {
                    identity: track.identity.clone(),
                    track: track.id,
                },
            },
        };
        if let (Shown::Codec { .. }, Some(track)) = (&self.shown, on_air) {
            let codec = Codec::H264;
            self.asks.push_back(Ask::Codec { track, codec });
        }
        let encodings = track.map_or(0, |track| track.state.ranks.len());
        let count = encodings.min(self.settings.rungs_max);
        self.ladder.look(now, lanes, count);
        let is_coming = !self.ladder.coming().is_empty();
        self.rungs.aim(self.ladder.lanes(), is_coming);
        self.settle_wants();
    }

    /// Compares what is needed of the annex with what it was asked for.
    fn settle_wants(&mut self) {
        let mut needed: HashMap<TrackId, u8> = HashMap::new();
        if self.is_running {
            for lane in self
                .rungs
                .lanes()
                .chain(self.ladder.coming().iter().copied())
            {
                let bit = 1u8.checked_shl(lane.encoding.into()).unwrap_or(0);
                *needed.entry(lane.track).or_default() |= bit;
            }
            let tracks = self.tracks.values();
            let sounds = tracks.filter(|track| track.kind == Kind::Audio && !track.state.muted);
            needed.extend(sounds.map(|track| (track.id, 1)));
        }
        for track in self.tracks.keys().copied() {
            let encodings = needed.get(&track).copied().unwrap_or(0);
            if self.wanted.get(&track).copied().unwrap_or(0) != encodings {
                self.wanted.insert(track, encodings);
                self.pictures.keep(track, encodings);
                self.asks.push_back(Ask::Want { track, encodings });
            }
        }
    }
}
