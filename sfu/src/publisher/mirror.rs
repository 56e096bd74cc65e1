//! What a track of another shard is here: what its own shard says of it, and what is asked of that shard.

use crate::cascade::{LayerState, TrackState};
use crate::subscriber::allocator::LAYERS_MAX;

/// The part of a track that only mirrors have.
///
/// Sets of encodings are bits: `1 << encoding`.
#[derive(Debug)]
pub(crate) struct Mirror {
    /// The track's own shard.
    pub(crate) shard: u16,
    /// How loud it is there, 0 to 1.
    pub(crate) level: f32,
    /// By encoding.
    layers: Vec<LayerState>,
    /// Encodings that were asked for.
    asked: u8,
    /// Those that come without a gap since they were asked for: the own shard said so. What is on its
    /// way from the time before, when they were not wanted, must not begin a stream.
    flowing: u8,
    /// By encoding: the first sequence number since. What comes late from before is followed by a gap.
    since: [u64; LAYERS_MAX],
    /// How often was asked; answers to earlier questions say nothing of what is asked now.
    number: u32,
    /// Encodings someone wanted since the last look.
    wanted: u8,
    /// Encodings someone wanted in the time before it.
    wanted_before: u8,
}

/// What to ask a mirrored track's own shard for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) encodings: u8,
    pub(crate) number: u32,
}

impl Mirror {
    pub(crate) fn new(shard: u16, state: &TrackState) -> Self {
        Self {
            shard,
            level: 0.0,
            layers: state.layers.clone(),
            asked: 0,
            flowing: 0,
            since: [0; LAYERS_MAX],
            number: 0,
            wanted: 0,
            wanted_before: 0,
        }
    }

    pub(crate) fn set_layers(&mut self, layers: &[LayerState]) {
        self.layers.clear();
        self.layers.extend_from_slice(layers);
    }

    /// What its own shard says of an encoding.
    pub(crate) fn layer(&self, encoding: usize) -> LayerState {
        self.layers.get(encoding).copied().unwrap_or_default()
    }

    /// Notes that someone wants these encodings; returns what to ask for when that is more than before.
    pub(crate) fn want(&mut self, encodings: u8) -> Option<Ask> {
        self.wanted |= encodings;
        self.ask(self.asked | encodings)
    }

    /// The own shard sends what was asked for by this number, after these sequence numbers.
    pub(crate) fn flows(&mut self, number: u32, newest: &[Option<u64>]) {
        if number != self.number {
            return;
        }
        for (at, newest) in newest.iter().enumerate() {
            if !self.is_flowing(at)
                && let Some(since) = self.since.get_mut(at)
            {
                *since = newest.map_or(0, |newest| newest + 1);
            }
        }
        self.flowing = self.asked;
    }

    /// Whether a packet of an encoding belongs to what flows. A keyframe counts as wanted: whoever
    /// begins with it says so only at the next look at its layers.
    pub(crate) fn expects(&mut self, encoding: usize, sequence: u64, is_keyframe: bool) -> bool {
        if self
            .since
            .get(encoding)
            .is_none_or(|since| sequence < *since)
        {
            return false;
        }
        let bit = u32::try_from(encoding)
            .ok()
            .and_then(|at| 1u8.checked_shl(at));
        let bit = bit.unwrap_or(0) & self.flowing;
        if is_keyframe {
            self.wanted |= bit;
        }
        bit != 0
    }

    /// Looks back: what nobody wanted for the time between two looks is not asked for any more.
    ///
    /// Returns what to ask for when that is less than before. Without any subscriber nothing is.
    pub(crate) fn look_back(&mut self, has_subscribers: bool) -> Option<Ask> {
        let mut still = self.wanted | self.wanted_before;
        self.wanted_before = std::mem::take(&mut self.wanted);
        if !has_subscribers {
            (still, self.wanted_before) = (0, 0);
        }
        self.ask(self.asked & still)
    }

    /// Whether an encoding comes without a gap.
    pub(crate) fn is_flowing(&self, encoding: usize) -> bool {
        u32::try_from(encoding).is_ok_and(|at| self.flowing.checked_shr(at).unwrap_or(0) & 1 == 1)
    }

    fn ask(&mut self, encodings: u8) -> Option<Ask> {
        if encodings == self.asked {
            return None;
        }
        self.asked = encodings;
        self.flowing &= encodings;
        self.number = self.number.wrapping_add(1);
        Some(Ask {
            encodings,
            number: self.number,
        })
    }

    /// Something is asked for.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.asked != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror() -> Mirror {
        let state = TrackState {
            muted: false,
            codec: None,
            layers: Vec::new(),
            ranks: vec![0, 1, 2],
        };
        Mirror::new(1, &state)
    }

    fn asked(ask: Option<Ask>) -> Option<u8> {
        ask.map(|ask| ask.encodings)
    }

    #[test]
    fn who_begins_with_a_keyframe_is_not_cut_off_before_the_next_look() {
        let mut mirror = mirror();
        let ask = mirror.want(0b11).unwrap();
        mirror.flows(ask.number, &[None; 3]);
        assert!(!mirror.expects(2, 5, true));
        mirror.look_back(true);
        mirror.want(0b01);
        assert!(mirror.expects(1, 5, true));
        assert_eq!(mirror.look_back(true), None);
        mirror.want(0b01);
        assert_eq!(mirror.look_back(true), None);
        mirror.want(0b01);
        // Nobody began with it after all.
        assert_eq!(asked(mirror.look_back(true)), Some(0b01));
        assert!(!mirror.expects(1, 5, false));
    }

    #[test]
    fn what_was_sent_before_it_was_asked_for_again_is_not_taken() {
        let mut mirror = mirror();
        let first = mirror.want(0b11).unwrap();
        assert!(!mirror.expects(0, 5, true), "nothing flows yet");
        mirror.flows(first.number, &[None; 3]);
        for _ in 0..2 {
            mirror.look_back(true);
            mirror.want(0b01);
        }
        assert_eq!(asked(mirror.look_back(true)), Some(0b01));
        let again = mirror.want(0b10).unwrap();
        assert!(!mirror.expects(1, 5, true), "on its way from before");
        assert!(mirror.expects(0, 5, false) && !mirror.is_flowing(1));
        mirror.flows(first.number, &[None; 3]);
        mirror.flows(again.number - 1, &[None; 3]);
        assert!(!mirror.expects(1, 5, true), "answers of before");
        mirror.flows(again.number, &[Some(7), Some(4), None]);
        assert!(mirror.expects(1, 5, true) && mirror.is_flowing(1));
        assert!(
            !mirror.expects(1, 4, true),
            "late, and the rest of it did not come"
        );
        assert!(mirror.expects(0, 5, true), "it has not stopped");
    }

    #[test]
    fn asks_for_more_at_once_and_for_less_after_two_looks() {
        let mut mirror = mirror();
        assert_eq!(asked(mirror.want(0b001)), Some(0b001));
        assert_eq!(asked(mirror.want(0b100)), Some(0b101));
        assert_eq!(mirror.want(0b101), None);
        assert_eq!(mirror.look_back(true), None);
        assert_eq!(mirror.want(0b100), None);
        assert_eq!(mirror.look_back(true), None, "one look is no proof");
        assert_eq!(mirror.want(0b100), None);
        assert_eq!(asked(mirror.look_back(true)), Some(0b100));
        assert_eq!(asked(mirror.want(0b001)), Some(0b101));
        assert!(mirror.is_asked_for());
    }

    #[test]
    fn without_subscribers_nothing_is_asked_for() {
        let mut mirror = mirror();
        mirror.want(0b11);
        assert_eq!(asked(mirror.look_back(false)), Some(0));
        assert_eq!(mirror.look_back(false), None);
        assert!(!mirror.is_asked_for());
        assert_eq!(asked(mirror.want(0b10)), Some(0b10));
    }
}
