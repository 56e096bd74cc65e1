//! A room as the engine knows it: its tracks, and who wants what of them.

use std::collections::{BTreeMap, HashMap};

use sfu::TrackId;
use sfu::annex::{Annex, Heard, HeardTrack};

use crate::broadcast::Ask;

/// Names whoever wants something of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Consumer(pub(super) u64);

/// A room that something is done with.
#[derive(Debug, Default)]
pub(super) struct RoomTap {
    tracks: BTreeMap<TrackId, HeardTrack>,
    /// Who was last said to speak.
    speakers: Option<Heard>,
    wants: HashMap<TrackId, BTreeMap<Consumer, u8>>,
    /// Those whose room it is: broadcasts, recordings and encoders.
    pub(super) users: usize,
}

impl RoomTap {
    /// Takes in what the annex hears of this room.
    pub(super) fn note(&mut self, heard: &Heard) {
        match heard {
            Heard::Track(track) => {
                self.tracks.insert(track.id, (**track).clone());
            }
            Heard::State { track, state } => {
                if let Some(known) = self.tracks.get_mut(track) {
                    known.state = (**state).clone();
                }
            }
            Heard::Ended { track } => {
                self.tracks.remove(track);
                self.wants.remove(track);
            }
            Heard::Speakers { .. } => self.speakers = Some(heard.clone()),
            _ => {}
        }
    }

    /// What a newcomer has to hear first.
    pub(super) fn story(&self) -> Vec<Heard> {
        let tracks = self.tracks.values().cloned();
        let tracks = tracks.map(|track| Heard::Track(Box::new(track)));
        tracks.chain(self.speakers.clone()).collect()
    }

    /// Does what one of several asks, so that each has what it wants. Own tracks of the annex come anyway.
    pub(super) fn carry_out(&mut self, annex: &mut Annex, consumer: Consumer, ask: Ask) {
        match ask {
            Ask::Want { track, encodings } => {
                let wants = self.wants.entry(track).or_default();
                let all =
                    |wants: &BTreeMap<Consumer, u8>| wants.values().fold(0, |all, bits| all | bits);
                let before = all(wants);
                match encodings {
                    0 => wants.remove(&consumer),
                    _ => wants.insert(consumer, encodings),
                };
                let now = all(wants);
                if now != before {
                    annex.want(track, now);
                }
            }
            Ask::Keyframe { track, encodings } => annex.request_keyframe(track, encodings),
            Ask::Codec { track, codec } => annex.request_codec(track, codec),
        }
    }

    /// Someone wants nothing any more.
    pub(super) fn forget(&mut self, annex: &mut Annex, consumer: Consumer) {
        let wanted = self.wants.iter();
        let tracks: Vec<TrackId> = wanted
            .filter(|(_, wants)| wants.contains_key(&consumer))
            .map(|(track, _)| *track)
            .collect();
        for track in tracks {
            let ask = Ask::Want {
                track,
                encodings: 0,
            };
            self.carry_out(annex, consumer, ask);
        }
    }
}
