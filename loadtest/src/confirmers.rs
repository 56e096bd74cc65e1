//! Receivers of the `webrtc` crate in a run of bots: few, but every packet of theirs is decrypted and
//! verified by a stack that shares no code with the bots, so their figures confirm those of the bots.

use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::client::PATIENCE;
use crate::peer::Media;
use crate::report::{Histogram, Quantiles};
use crate::scenario::{Door, Scenario};
use crate::target::Target;
use crate::{JoinOptions, Participant, Peer, PeerOptions, Whep};

/// What confirmers found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Confirmed {
    /// How many were to come.
    pub confirmers: u64,
    /// How many got what they wanted.
    pub joined: u64,
    /// From the first byte of signaling to the first keyframe, or sound.
    pub join_ms: Quantiles,
    /// From the sending of a packet to its arrival, of every packet.
    pub delay_ms: Quantiles,
    /// Packets with a payload, each once.
    pub packets: u64,
    /// The same for each second.
    pub packets_per_second: f64,
    /// Packets that never came.
    pub lost: u64,
    /// Of what should have come.
    pub loss_percent: f64,
    /// Packets that came twice, were altered, or had a clock that went back.
    pub bad: u64,
}

/// Confirmers at work.
#[derive(Default)]
pub struct Confirmers {
    wanted: u64,
    joins: Histogram,
    stays: Vec<Confirmer>,
    packets_at_mark: u64,
}

enum Confirmer {
    Native(Box<Participant>),
    Http(Box<Whep>),
}

impl Confirmer {
    fn peer(&self) -> &Peer {
        match self {
            Self::Native(participant) => &participant.peer,
            Self::Http(whep) => &whep.peer,
        }
    }
}

impl Confirmers {
    /// Brings them in one after the other; the first error is told, the others come all the same.
    pub async fn join(target: &Target, scenario: &Scenario) -> (Self, Option<anyhow::Error>) {
        let mut confirmers = Self {
            wanted: scenario.confirmers.into(),
            ..Self::default()
        };
        let mut failure = None;
        for index in 0..scenario.confirmers {
            let began = Instant::now();
            match confirmer(target, scenario, index).await {
                Ok(confirmer) => {
                    let took = began.elapsed().as_micros();
                    confirmers
                        .joins
                        .record(u64::try_from(took).unwrap_or(u64::MAX));
                    confirmers.stays.push(confirmer);
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        (confirmers, failure)
    }

    /// Counts from now on.
    pub fn mark(&mut self) {
        for confirmer in &self.stays {
            confirmer.peer().media.update(|media| {
                for reception in media.receptions.values_mut() {
                    reception.delays = Histogram::default();
                }
            });
        }
        self.packets_at_mark = self.packets();
    }

    fn packets(&self) -> u64 {
        let count = |media: &Media| {
            media
                .receptions
                .values()
                .map(|one| one.packets)
                .sum::<u64>()
        };
        let peers = self.stays.iter().map(Confirmer::peer);
        peers.map(|peer| peer.media.read(count)).sum()
    }

    /// What they found since the mark; lost is what is missing from their beginning.
    pub fn confirmed(&self, seconds: f64) -> Confirmed {
        let (mut delays, mut lost, mut bad) = (Histogram::default(), 0, 0);
        for confirmer in &self.stays {
            confirmer.peer().media.read(|media| {
                for reception in media.receptions.values() {
                    delays.add(&reception.delays);
                    lost += reception.gaps() as u64;
                    bad += reception.duplicates
                        + reception.corrupt
                        + reception.unknown_payload_types
                        + reception.timestamp_regressions
                        + reception.picture_id_jumps;
                }
            });
        }
        let packets = self.packets() - self.packets_at_mark;
        Confirmed {
            confirmers: self.wanted,
            joined: self.stays.len() as u64,
            join_ms: Quantiles::of(&self.joins),
            delay_ms: Quantiles::of(&delays),
            packets,
            packets_per_second: packets as f64 / seconds,
            lost,
            loss_percent: 100.0 * lost as f64 / (packets + lost).max(1) as f64,
            bad,
        }
    }

    /// Leaves in order.
    pub async fn leave(self) -> Result<()> {
        for confirmer in self.stays {
            match confirmer {
                Confirmer::Native(participant) => participant.leave().await?,
                Confirmer::Http(whep) => {
                    whep.close().await?;
                }
            }
        }
        Ok(())
    }
}

/// Joins and waits for the first keyframe, or sound.
async fn confirmer(target: &Target, scenario: &Scenario, index: u32) -> Result<Confirmer> {
    let room = scenario.room(index % scenario.rooms.max(1));
    let identity = format!("confirmer-{index}");
    let token = target.pass.token(&room, &identity)?.unwrap_or_default();
    let publishers = u16::try_from(scenario.participants + scenario.publishers).unwrap_or(u16::MAX);
    let slots = |there: bool| if there { publishers } else { 0 };
    let options = PeerOptions {
        audio_slots: slots(scenario.audio),
        video_slots: slots(scenario.video.is_some()),
        data_channels: false,
        ..PeerOptions::default()
    };
    let confirmer = match scenario.door {
        Door::Native => {
            let options = JoinOptions {
                peer: options,
                ..JoinOptions::default()
            };
            let joining = Participant::join(target.addr, &token, &identity, options);
            Confirmer::Native(Box::new(joining.await?))
        }
        Door::Http => {
            let of = match scenario.watched(index) {
                Some(publisher) => format!("{room}/{publisher}"),
                None => room,
            };
            let receiving = Whep::receive(target.addr, &of, &token, options);
            Confirmer::Http(Box::new(receiving.await?))
        }
    };
    let wants_pictures = scenario.video.is_some();
    let begun = |media: &Media| {
        let mut receptions = media.receptions.values();
        let begins =
            receptions.any(|one| one.packets > 0 && (!wants_pictures || one.keyframes > 0));
        begins.then_some(())
    };
    let waiting = confirmer
        .peer()
        .media
        .until("the first keyframe", PATIENCE, begun);
    waiting
        .await
        .with_context(|| format!("{identity} in its room"))?;
    Ok(confirmer)
}
