//! What a run plays: who is in which room, what each publishes and receives, and how they come.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::bot::{BotPlan, Hindrance, LayerPlan, Protection, ReceivePlan, TrackPlan};
use crate::media::captured::Captured;
use crate::media::{Codec, Picture};

/// By which door bots come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The native protocol `plenum.v1` over a WebSocket.
    Native,
    /// WHIP to publish, WHEP to receive; who does both comes by the native protocol.
    Http,
}

/// The pictures that publishers send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Video {
    /// As what.
    pub codec: Codec,
    /// Payload bits per second; with simulcast of the highest layer.
    pub bitrate_bps: u64,
    /// Three layers instead of one.
    pub simulcast: bool,
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// How many rooms.
    pub rooms: u32,
    /// In each: who publishes and receives.
    pub participants: u32,
    /// In each: who only publishes.
    pub publishers: u32,
    /// In each: who only receives.
    pub subscribers: u32,
    /// Of the subscribers of each room: how many stop dead once they have what they want.
    pub stopped: u32,
    /// Of the subscribers of each room: how many are behind a link of [`SLOW_LINK_BPS`].
    pub slow: u32,
    /// In all: receivers of the `webrtc` crate, to confirm what the bots say.
    pub confirmers: u32,
    /// What publishers show.
    pub video: Option<Video>,
    /// Publishers are heard.
    pub audio: bool,
    /// By which door they come.
    pub door: Door,
    /// In what time all of them come.
    pub ramp: Duration,
    /// From when all are there until counting begins.
    pub warmup: Duration,
    /// How long is counted.
    pub duration: Duration,
    /// What chance is drawn from.
    pub seed: u64,
    /// Names of rooms begin with this.
    pub room_prefix: String,
    /// One of so many packets is decrypted.
    pub decrypt_every: u32,
    /// How often receivers give transport-wide feedback.
    pub feedback: Duration,
    /// How bots want packets protected.
    pub protection: Protection,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            rooms: 1,
            participants: 0,
            publishers: 0,
            subscribers: 0,
            stopped: 0,
            slow: 0,
            confirmers: 0,
            video: Some(Video {
                codec: Codec::Vp8,
                bitrate_bps: 1_000_000,
                simulcast: false,
            }),
            audio: true,
            door: Door::Native,
            ramp: Duration::from_secs(2),
            warmup: Duration::from_secs(3),
            duration: Duration::from_secs(20),
            seed: 1,
            room_prefix: "load".to_owned(),
            decrypt_every: 16,
            // Chromium 156 sent feedback every 61 ms to a sender of 1 Mbit/s.
            feedback: Duration::from_millis(60),
            protection: Protection::Any,
        }
    }
}

/// A scenario with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// One publisher by WHIP, 100 subscribers by WHEP.
    Broadcast,
    /// Ten participants who see and hear each other.
    Meeting,
    /// Twenty participants who hear each other.
    Audio,
}

impl Preset {
    /// Its scenario.
    pub fn scenario(self) -> Scenario {
        let base = Scenario::default();
        match self {
            Self::Broadcast => Scenario {
                publishers: 1,
                subscribers: 100,
                door: Door::Http,
                ..base
            },
            Self::Meeting => Scenario {
                participants: 10,
                ..base
            },
            Self::Audio => Scenario {
                participants: 20,
                video: None,
                ..base
            },
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Broadcast => "broadcast",
            Self::Meeting => "meeting",
            Self::Audio => "audio",
        }
    }
}

/// What one bot is in its room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 0.
    pub number: u32,
    /// Its room.
    pub room: String,
    /// Its identity.
    pub identity: String,
    /// It publishes.
    pub publishes: bool,
    /// It receives everybody else's tracks, or by WHEP those of one publisher.
    pub receives: bool,
    /// The publisher to receive by WHEP, in rooms with more than one.
    pub watches: Option<String>,
    /// What keeps it from receiving as others do.
    pub hindrance: Option<Hindrance>,
}

impl Scenario {
    /// How many bots there are.
    pub fn bots(&self) -> u32 {
        self.rooms * (self.participants + self.publishers + self.subscribers)
    }

    /// Takes so many times the subscribers, at least one more; of participants where there are none.
    pub fn grow(&mut self, factor: f64) {
        let count = if self.subscribers > 0 {
            &mut self.subscribers
        } else {
            &mut self.participants
        };
        let grown = (f64::from(*count) * factor).round();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float is cut to what fits"
        )]
        let grown = grown as u32;
        *count = grown.max(*count + 1);
    }

    /// Who plays, in the order in which they come: first those who publish.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        let groups = [
            ("participant", self.participants, true, true),
            ("publisher", self.publishers, true, false),
            ("subscriber", self.subscribers, false, true),
        ];
        for (name, count, publishes, receives) in groups {
            for index in 0..count {
                for room in 0..self.rooms {
                    let number = u32::try_from(parts.len()).unwrap_or(u32::MAX);
                    parts.push(Part {
                        number,
                        room: self.room(room),
                        identity: format!("{name}-{index}"),
                        publishes,
                        receives,
                        watches: self.watched(index).filter(|_| !publishes),
                        hindrance: self.hindrance(index).filter(|_| !publishes),
                    });
                }
            }
        }
        parts
    }

    /// The name of a room.
    pub fn room(&self, index: u32) -> String {
        format!("{}-{}-{index}", self.room_prefix, self.seed)
    }

    /// Whom the `index`th subscriber watches by WHEP; nobody in particular when there is one publisher.
    pub fn watched(&self, index: u32) -> Option<String> {
        let publishers = self.publishers + self.participants;
        let one = index % publishers.max(1);
        let name = if one < self.participants {
            format!("participant-{one}")
        } else {
            format!("publisher-{}", one - self.participants)
        };
        (self.door == Door::Http && publishers > 1).then_some(name)
    }

    /// What hinders the `index`th subscriber of a room.
    fn hindrance(&self, index: u32) -> Option<Hindrance> {
        if index < self.stopped {
            Some(Hindrance::Stopped)
        } else if index < self.stopped + self.slow {
            Some(Hindrance::Slow(SLOW_LINK_BPS))
        } else {
            None
        }
    }

    /// Tracks of sound and pictures that a part should receive.
    pub fn expects(&self, part: &Part) -> (usize, usize) {
        let others = self.participants + self.publishers - u32::from(part.publishes);
        let others = if self.door == Door::Http && !part.publishes {
            others.min(1)
        } else {
            others
        };
        let others = usize::try_from(others).unwrap_or(0);
        let count = |there: bool| if there && part.receives { others } else { 0 };
        (count(self.audio), count(self.video.is_some()))
    }

    /// Makes the plan of a part.
    pub fn plan(&self, part: &Part) -> BotPlan {
        let mut random = StdRng::seed_from_u64(self.seed << 32 | u64::from(part.number));
        let mut publish = Vec::new();
        if part.publishes && self.audio {
            let offset = Duration::from_micros(random.random_range(0..20_000));
            let layer = LayerPlan {
                picture: Picture::LOW,
                frames: Arc::default(),
                start: 0,
                ssrc: ssrc(part.number, 1, 0),
            };
            publish.push(TrackPlan {
                codec: Codec::Opus,
                layers: vec![layer],
                offset,
                source: 1,
            });
        }
        if let Some(video) = self.video.filter(|_| part.publishes) {
            let offset = Duration::from_micros(random.random_range(0..33_333));
            let start = random.random_range(0..1000);
            publish.push(TrackPlan {
                codec: video.codec,
                layers: layers(video, part.number, start),
                offset,
                source: 0,
            });
        }
        let (audio, video) = self.expects(part);
        BotPlan {
            number: part.number,
            publish,
            receive: ReceivePlan {
                audio,
                video,
                decrypt_every: self.decrypt_every,
                feedback: self.feedback,
            },
            slots: (audio, video),
            hindrance: part.hindrance,
        }
    }
}

fn layers(video: Video, number: u32, start: usize) -> Vec<LayerPlan> {
    // Shares of the highest layer's rate, as Chromium gives them to a camera of 720 lines.
    let pictures: &[(Picture, u64)] = if video.simulcast {
        &[
            (Picture::LOW, 125),
            (Picture::MIDDLE, 400),
            (Picture::HIGH, 1000),
        ]
    } else {
        &[(Picture::HIGH, 1000)]
    };
    let layers = (0_u8..).zip(pictures);
    layers
        .map(|(index, (picture, share))| {
            let rate = video.bitrate_bps * share / 1000;
            let frames = Arc::new(Captured::stream(video.codec, rate));
            LayerPlan {
                picture: *picture,
                start: start % frames.frames.len().max(1),
                frames,
                ssrc: ssrc(number, 0, index),
            }
        })
        .collect()
}

/// What a slow subscriber's link carries.
pub const SLOW_LINK_BPS: u64 = 100_000;

/// A media source; the next number is that of its retransmissions.
fn ssrc(number: u32, source: u32, layer: u8) -> u32 {
    0x1000_0000 | (number & 0xff_ffff) << 4 | source << 3 | u32::from(layer) << 1
}

#[cfg(test)]
mod tests;
