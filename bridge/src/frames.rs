//! RTP packets of one encoding become whole frames.
#![warn(clippy::indexing_slicing)]

mod av1;
mod av1_sequence;
mod bits;
#[doc(hidden)]
pub mod fuzz;
pub(crate) mod h264;
mod parameter_sets;
mod reorder;
#[cfg(test)]
mod tests;
mod vp8;
mod vp9;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;

use self::reorder::{Popped, Refusal, Reorder};
use crate::media::{VideoCodec, VideoConfig};
use crate::packets::Packet;

pub use self::h264::has_b_frames;
pub(crate) use self::parameter_sets::{PARAMETER_SET_BYTES_MAX, video_config};
pub use self::parameter_sets::{ParameterSetError, may_reorder};

/// How the packets of an encoding are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Pictures: many packets to a frame, and a hole costs everything up to the next keyframe.
    Video(VideoCodec),
    /// Opus (RFC 7587): each packet is a frame.
    Opus,
}

/// Puts the packets of one encoding in order and whole frames together.
///
/// Packets may come out of order, twice, late or never: a hole is waited for, then given up. After
/// one in video everything up to the next keyframe is dropped. A frame is what has one RTP
/// timestamp; where it ends is told by the marker or by the next timestamp.
///
/// After each `handle_*` take frames until there is none: what is held here is bounded, and packets
/// that find no room are dropped.
#[derive(Debug)]
pub struct Assembler {
    coding: Coding,
    hole_wait: Duration,
    reorder: Reorder,
    parameter_sets: parameter_sets::ParameterSets,
    gathering: Option<Gathering>,
    /// The timestamp of the frame that was ended last: it gets no more packets.
    ended: Option<u64>,
    is_waiting: bool,
    missing: u64,
    config: Option<Arc<VideoConfig>>,
    ready: VecDeque<Assembled>,
    drops: Drops,
    last_refusal: Option<FrameError>,
}

/// A whole frame, not yet on a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// The RTP timestamp, extended: what it is known by.
    pub timestamp: u64,
    /// When its last packet came.
    pub arrival: Instant,
    /// A decoder can begin here. Always so for sound.
    pub is_key: bool,
    /// What it is coded with; `None` for sound. The same `Arc` as before while nothing changes.
    pub config: Option<Arc<VideoConfig>>,
    /// Packets that never came since the frame before.
    pub missing: u64,
    /// As in [`crate::media::VideoFrame`] and [`crate::media::AudioFrame`].
    pub data: Bytes,
}

/// What was not used, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Packets that came after their place was given up.
    pub late: u64,
    /// Packets that came twice.
    pub duplicate: u64,
    /// Packets for which there was no room.
    pub full: u64,
    /// Packets without payload.
    pub empty: u64,
    /// Packets of a frame that had been ended.
    pub surplus: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came of a frame of which others were lost.
    pub torn: u64,
    /// Frames before a keyframe.
    pub waiting: u64,
    /// Frames that could not be read; [`Assembler::last_refusal`] says why.
    pub refused: u64,
}

/// Why the packets of a frame make no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A packet ends within something it announces.
    #[error("a packet is cut short")]
    CutShort,
    /// A kind of packet or bit that is never negotiated.
    #[error("packetization {0} is not in use")]
    Unsupported(u8),
    /// Fragments do not follow upon each other.
    #[error("fragments do not fit together")]
    Fragments,
    /// Its beginning is missing.
    #[error("the frame does not begin at its beginning")]
    Beginning,
    /// A bit that is always set or always clear is not.
    #[error("the frame's header is broken")]
    Header,
    /// A parameter set is refused.
    #[error(transparent)]
    ParameterSet(#[from] ParameterSetError),
    /// H264: it begins with a picture that refers to parameter sets that never came.
    #[error("its parameter sets are unknown")]
    NoParameterSets,
    /// The picture is wider or higher than we carry.
    #[error("a picture of {0} x {1} is too large")]
    PictureSize(u32, u32),
    /// H264: parameter sets changed, and the picture is no keyframe.
    #[error("parameter sets changed without a keyframe")]
    ChangedBetweenKeyframes,
    /// It has more packets or bytes than are held.
    #[error("the frame is too large")]
    TooLarge,
}

impl Assembler {
    /// Waits for a hole at most `hole_wait` after it was seen; [`HOLE_WAIT`] fits most.
    pub fn new(coding: Coding, hole_wait: Duration) -> Self {
        Self {
            coding,
            hole_wait,
            reorder: Reorder::default(),
            parameter_sets: parameter_sets::ParameterSets::default(),
            gathering: None,
            ended: None,
            is_waiting: matches!(coding, Coding::Video(_)),
            missing: 0,
            config: None,
            ready: VecDeque::new(),
            drops: Drops::default(),
            last_refusal: None,
        }
    }

    /// Takes in one packet. What was waited for when it came is given up by its arrival, whenever this is called.
    pub fn handle_packet(&mut self, packet: Packet) {
        let arrival = packet.arrival;
        match self.reorder.insert(packet) {
            Ok(()) => {}
            Err(Refusal::Late) => self.drops.late += 1,
            Err(Refusal::Duplicate) => self.drops.duplicate += 1,
            Err(Refusal::Full) => self.drops.full += 1,
        }
        self.handle_timeout(arrival);
    }

    /// Gives up a hole that was waited for long enough.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.reorder.give_up();
        }
    }

    /// When a hole is given up; `None` while there is none.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.reorder.hole_since()? + self.hole_wait)
    }

    /// The next whole frame.
    pub fn poll_frame(&mut self) -> Option<Assembled> {
        while self.ready.is_empty() {
            match (self.reorder.pop()?, self.coding) {
                (Popped::Hole(lost), _) => self.pass_hole(lost),
                (Popped::Packet(packet), Coding::Opus) => self.pass_sound(packet),
                (Popped::Packet(packet), Coding::Video(codec)) => self.gather(codec, packet),
            }
        }
        self.ready.pop_front()
    }

    /// Whether nothing comes before a keyframe does: at the beginning, and after losses.
    pub fn needs_keyframe(&self) -> bool {
        self.is_waiting
    }

    /// What was dropped so far.
    pub fn drops(&self) -> Drops {
        self.drops
    }

    /// Why a frame could not be read the last time that happened.
    pub fn last_refusal(&self) -> Option<FrameError> {
        self.last_refusal
    }

    fn pass_hole(&mut self, lost: u64) {
        self.drops.lost += lost;
        self.missing += lost;
        if let Some(torn) = self.gathering.take() {
            self.drops.torn += torn.payloads.len() as u64;
        }
        self.is_waiting = matches!(self.coding, Coding::Video(_));
    }

    fn pass_sound(&mut self, packet: Packet) {
        if packet.payload.is_empty() {
            self.drops.empty += 1;
            return;
        }
        self.ready.push_back(Assembled {
            timestamp: packet.timestamp,
            arrival: packet.arrival,
            is_key: true,
            config: None,
            missing: std::mem::take(&mut self.missing),
            data: packet.payload,
        });
    }

    /// Takes the next packet of a video encoding, in order.
    fn gather(&mut self, codec: VideoCodec, packet: Packet) {
        if self.ended == Some(packet.timestamp) && !packet.payload.is_empty() {
            self.drops.surplus += 1;
            return;
        }
        let is_same = |frame: &Gathering| frame.timestamp == packet.timestamp;
        if packet.payload.is_empty() {
            // Padding follows the last packet of a frame and has its timestamp; it ends no other.
            self.drops.empty += 1;
            if packet.marker && self.gathering.as_ref().is_some_and(is_same) {
                self.finish(codec);
            }
            return;
        }
        if !self.gathering.as_ref().is_some_and(is_same) {
            self.finish(codec);
        }
        let frame = self.gathering.get_or_insert_with(|| Gathering::of(&packet));
        frame.bytes += packet.payload.len();
        frame.arrival = frame.arrival.max(packet.arrival);
        frame.payloads.push(packet.payload);
        if frame.bytes > FRAME_BYTES_MAX || frame.payloads.len() > FRAME_PACKETS_MAX {
            self.gathering = None;
            self.ended = Some(packet.timestamp);
            self.refuse(FrameError::TooLarge);
        } else if packet.marker {
            self.finish(codec);
        }
    }

    /// Makes a frame of what was gathered.
    fn finish(&mut self, codec: VideoCodec) {
        let Some(frame) = self.gathering.take() else {
            return;
        };
        let picture = match codec {
            VideoCodec::H264 => h264::assemble(&mut self.parameter_sets, &frame.payloads),
            VideoCodec::Vp8 => vp8::assemble(&frame.payloads),
            VideoCodec::Vp9 => vp9::assemble(&frame.payloads),
            VideoCodec::Av1 => av1::assemble(&frame.payloads),
        };
        match picture {
            Ok(Some(picture)) => {
                self.ended = Some(frame.timestamp);
                if let Err(error) = self.accept(&frame, picture) {
                    self.refuse(error);
                }
            }
            // Parameter sets on their own, which some encoders mark like a frame.
            Ok(None) => {}
            Err(error) => self.refuse(error),
        }
    }

    fn accept(&mut self, frame: &Gathering, picture: Picture) -> Result<(), FrameError> {
        if picture.is_key {
            let config = picture.config.ok_or(FrameError::NoParameterSets)?;
            if self.config.as_deref() != Some(&config) {
                self.config = Some(Arc::new(config));
            }
            self.is_waiting = false;
        } else if self.is_waiting {
            self.drops.waiting += 1;
            return Ok(());
        } else if picture.config.is_some() && picture.config.as_ref() != self.config.as_deref() {
            return Err(FrameError::ChangedBetweenKeyframes);
        }
        self.ready.push_back(Assembled {
            timestamp: frame.timestamp,
            arrival: frame.arrival,
            is_key: picture.is_key,
            config: self.config.clone(),
            missing: std::mem::take(&mut self.missing),
            data: picture.data,
        });
        Ok(())
    }

    fn refuse(&mut self, error: FrameError) {
        self.drops.refused += 1;
        self.last_refusal = Some(error);
        self.is_waiting = true;
    }
}

/// The packets of one frame, as far as they have come.
#[derive(Debug)]
struct Gathering {
    timestamp: u64,
    arrival: Instant,
    bytes: usize,
    payloads: Vec<Bytes>,
}

impl Gathering {
    fn of(packet: &Packet) -> Self {
        Self {
            timestamp: packet.timestamp,
            arrival: packet.arrival,
            bytes: 0,
            payloads: Vec::new(),
        }
    }
}

/// What the packets of one frame say.
#[derive(Debug)]
struct Picture {
    is_key: bool,
    /// What it is coded with: always in keyframes that can be decoded, otherwise where it changed.
    config: Option<VideoConfig>,
    data: Bytes,
}

/// A picture's size, if it is one we carry.
fn picture_size(width: u32, height: u32) -> Result<(u16, u16), FrameError> {
    let side = |length: u32| {
        let length = u16::try_from(length).ok();
        length.filter(|length| (1..=PICTURE_SIDE_MAX).contains(length))
    };
    side(width)
        .zip(side(height))
        .ok_or(FrameError::PictureSize(width, height))
}

/// Twice the round trip of a far peer and the retransmission after it; more delays everybody.
pub const HOLE_WAIT: Duration = Duration::from_millis(250);
/// A keyframe of 4K at the best quality is half of it.
const FRAME_BYTES_MAX: usize = 4 << 20;
/// `FRAME_BYTES_MAX` in packets of half the usual size.
const FRAME_PACKETS_MAX: usize = 8192;
/// No level of H.264 in use goes further.
const PICTURE_SIDE_MAX: u16 = 8192;
