//! What a bot is told to do, before it is one.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::receiving::ReceivePlan;
use super::sdp;
use super::sending::{self, TrackPlan};

/// What a bot does.
#[derive(Clone, Debug)]
pub struct BotPlan {
    /// Its number in stamps, unlike any other's.
    pub number: u32,
    /// What it publishes.
    pub publish: Vec<TrackPlan>,
    /// What it receives.
    pub receive: ReceivePlan,
    /// Receive slots it offers, of sound and of pictures.
    pub slots: (usize, usize),
    /// What keeps it from receiving as others do.
    pub hindrance: Option<Hindrance>,
}

/// What keeps a bot from receiving as others do, from when it has got what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// It reads nothing and says nothing any more, as a stopped process.
    Stopped,
    /// What comes faster than so many bits a second is lost on its link.
    Slow(u64),
}

impl BotPlan {
    /// Its m-lines, in order.
    pub fn roles(&self) -> Vec<sdp::Role> {
        let publish = self.publish.iter().map(|track| {
            let rids = match track.layers.len() {
                0 | 1 => Vec::new(),
                count => sending::RIDS.into_iter().take(count).collect(),
            };
            let ssrc = track.layers.first().map_or(0, |layer| layer.ssrc);
            sdp::Role::Publish {
                codec: track.codec,
                rids,
                ssrcs: (ssrc, ssrc.wrapping_add(1)),
            }
        });
        let (audio, video) = self.slots;
        publish
            .chain(std::iter::repeat_n(sdp::Role::AudioSlot, audio))
            .chain(std::iter::repeat_n(sdp::Role::VideoSlot, video))
            .collect()
    }
}

/// The ICE credentials of a bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Names it.
    pub ufrag: String,
    /// Proves it.
    pub pwd: String,
}

impl Credentials {
    /// Draws credentials from a seed.
    pub fn draw(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut letters = |count: usize| {
            let letter = |_| char::from(random.random_range(b'a'..=b'z'));
            (0..count).map(letter).collect()
        };
        Self {
            ufrag: letters(8),
            pwd: letters(24),
        }
    }
}

/// What a slow link can still carry at once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    bits: u64,
    filled_us: u64,
}

impl Bucket {
    /// Takes a datagram if the link carries it.
    pub(super) fn carries(&mut self, now_us: u64, bytes: usize, rate_bps: u64) -> bool {
        let elapsed_us = now_us.saturating_sub(self.filled_us).min(1_000_000);
        self.filled_us = now_us;
        self.bits = (self.bits + elapsed_us * rate_bps / 1_000_000).min(rate_bps / 5);
        let bits = bytes as u64 * 8;
        let carries = bits <= self.bits;
        self.bits -= if carries { bits } else { 0 };
        carries
    }
}
