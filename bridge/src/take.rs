//! One track as it is, for a recording of it: a pure machine from what an annex hears to whole frames.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sfu::annex::{Heard, HeardPacket, HeardTrack};
use sfu::{Codec, Kind, TrackId};

use crate::broadcast::Ask;
use crate::broadcast::pictures::{self, Pictures};
use crate::frames::{Assembler, Coding};
use crate::keyframes::Keyframes;
use crate::media::{AudioCodec, AudioConfig, AudioFrame, VideoCodec};
use crate::recording::Frame;
use crate::rungs::{Lane, Rungs};
use crate::timeline::{SenderClock, SenderReport, Timeline, TrackClock};

/// Between two keyframes, in microseconds: places to begin to watch.
const KEYFRAME_INTERVAL_US: i64 = 5_000_000;
/// A lost packet of sound is waited for this long.
const HOLE_WAIT: Duration = Duration::from_millis(400);
/// Between two looks at the encodings there are.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Everything that is carried can be recorded.
const CODECS: [VideoCodec; 4] = [
    VideoCodec::H264,
    VideoCodec::Vp8,
    VideoCodec::Vp9,
    VideoCodec::Av1,
];

/// One track as it is.
#[derive(Debug)]
pub struct Take {
    track: HeardTrack,
    timeline: Timeline,
    sender: SenderClock,
    pictures: Pictures,
    keyframes: Keyframes,
    rungs: Rungs,
    sound: Sound,
    wanted: u8,
    next_look: Option<Instant>,
    frames: VecDeque<Frame>,
    asks: VecDeque<Ask>,
}

#[derive(Debug)]
struct Sound {
    assembler: Assembler,
    clock: TrackClock,
    config: Arc<AudioConfig>,
}

impl Take {
    /// Begins now.
    pub fn new(now: Instant, track: HeardTrack) -> Self {
        let timeline = Timeline::new(now);
        Self {
            track,
            timeline,
            sender: SenderClock::new(timeline),
            pictures: Pictures::new(CODECS.to_vec()),
            keyframes: Keyframes::new(KEYFRAME_INTERVAL_US),
            rungs: Rungs::new(1),
            sound: Sound {
                assembler: Assembler::new(Coding::Opus, HOLE_WAIT),
                clock: TrackClock::new(48_000),
                config: Arc::new(opus_config()),
            },
            wanted: 0,
            next_look: None,
            frames: VecDeque::new(),
            asks: VecDeque::new(),
        }
    }

    /// The track.
    pub fn track(&self) -> TrackId {
        self.track.id
    }

    /// The next whole frame.
    pub fn poll_frame(&mut self) -> Option<Frame> {
        self.frames.pop_front()
    }

    /// What the annex is to do next.
    pub fn poll_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    /// Takes in what an annex hears.
    pub fn handle_heard(&mut self, heard: &Heard) {
        match heard {
            Heard::Track(track) if track.id == self.track.id => self.track = (**track).clone(),
            Heard::State { track, state } if *track == self.track.id => {
                self.track.state = (**state).clone();
            }
            Heard::Clock {
                track,
                encoding,
                ntp,
                rtp_timestamp,
                arrival,
            } if *track == self.track.id => {
                let report = SenderReport {
                    arrival: *arrival,
                    ntp: *ntp,
                    rtp_timestamp: *rtp_timestamp,
                };
                self.handle_clock(*encoding, report);
            }
            Heard::Packet(packet) if packet.track == self.track.id => {
                self.handle_packet(packet);
            }
            _ => {}
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.pictures.handle_timeout(now);
        self.take_pictures();
        self.sound.assembler.handle_timeout(now);
        self.take_sound();
        if self.next_look.is_none_or(|at| at <= now) {
            self.next_look = Some(now + LOOK_INTERVAL);
            self.look();
        }
        let now_us = self.timeline.at_us(now);
        let due_us = self.keyframes.due_us(now_us);
        let due = self.pictures.keyframes_due(now, due_us, &self.rungs);
        self.asks.extend(due);
    }

    /// Has the best encoding there is, and no other.
    fn look(&mut self) {
        let wanted = match self.track.kind {
            Kind::Audio => 1,
            Kind::Video => {
                let best = pictures::lanes(&self.track, &CODECS).into_iter().next();
                if let Some(lane) = best {
                    self.rungs.aim(&[lane], false);
                }
                let bit = |lane: Lane| 1u8.checked_shl(lane.encoding.into()).unwrap_or(0);
                self.rungs.lanes().fold(0, |all, lane| all | bit(lane))
            }
        };
        if wanted != self.wanted {
            self.wanted = wanted;
            self.pictures.keep(self.track.id, wanted);
            self.asks.push_back(Ask::Want {
                track: self.track.id,
                encodings: wanted,
            });
        }
    }

    fn handle_packet(&mut self, packet: &HeardPacket) {
        if self.wanted.checked_shr(packet.encoding.into()).unwrap_or(0) & 1 == 0 {
            return;
        }
        if packet.codec != Codec::Opus {
            self.pictures.handle_packet(packet);
            return self.take_pictures();
        }
        self.sound.assembler.handle_packet(packet.into());
        self.take_sound();
    }

    fn handle_clock(&mut self, encoding: u8, report: SenderReport) {
        let sender = &mut self.sender;
        if self.track.kind == Kind::Audio {
            return self.sound.clock.handle_report(sender, report);
        }
        let track = self.track.id;
        let lane = Lane { track, encoding };
        self.pictures.handle_clock(lane, sender, report);
    }

    fn take_pictures(&mut self) {
        let mut placed = Vec::new();
        while let Some((lane, assembled)) = self.pictures.poll_frame() {
            let came_us = self.timeline.at_us(assembled.arrival);
            if let Some(frame) = self.pictures.place(lane, &self.sender, assembled) {
                self.rungs.place(lane, &frame, &mut placed);
            }
            for placed in placed.drain(..) {
                self.keyframes.handle_placed(came_us, &placed);
                self.frames.push_back(Frame::Video(placed.frame));
            }
        }
    }

    fn take_sound(&mut self) {
        while let Some(assembled) = self.sound.assembler.poll_frame() {
            let Some(samples) = packet_samples(&assembled.data) else {
                continue;
            };
            let (arrival, timestamp) = (assembled.arrival, assembled.timestamp);
            let mapped = self.sound.clock.map(&self.sender, arrival, timestamp);
            self.frames.push_back(Frame::Audio(AudioFrame {
                config: Arc::clone(&self.sound.config),
                at_us: mapped.at_us,
                samples,
                data: assembled.data,
            }));
        }
    }
}

/// How long a packet sounds, in samples at 48 kHz (RFC 6716 §3.1); `None` for what is none.
fn packet_samples(packet: &Bytes) -> Option<u32> {
    let samples = opus::packet::get_nb_samples(packet, 48_000).ok()?;
    u32::try_from(samples).ok().filter(|samples| *samples > 0)
}

/// As a browser sends it: two channels, and nothing that we put in front.
fn opus_config() -> AudioConfig {
    // Version, channels, pre-skip, input rate, gain, mapping (Opus in ISOBMFF §4.3.2).
    let record = [0, 2, 0, 0, 0, 0, 0xbb, 0x80, 0, 0, 0];
    AudioConfig {
        codec: AudioCodec::Opus,
        sample_rate: 48_000,
        channels: 2,
        record: Bytes::copy_from_slice(&record),
        priming: 0,
    }
}
