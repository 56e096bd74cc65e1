//! What a track of another shard is here: what its own shard says of it, and what is asked of that shard.

use crate::cascade::{LayerState, TrackState};

/// The part of a track that only mirrors have.
#[derive(Debug)]
pub(crate) struct Mirror {
    /// The track's own shard.
    pub(crate) shard: u16,
    /// How loud it is there, 0 to 1.
    pub(crate) level: f32,
    /// By encoding.
    layers: Vec<LayerState>,
    /// Encodings that were asked for; bits, as below.
    asked: u8,
    /// Encodings someone wanted since the last look.
    wanted: u8,
    /// Encodings someone wanted in the time before it.
    wanted_before: u8,
}

impl Mirror {
    pub(crate) fn new(shard: u16, state: &TrackState) -> Self {
        Self {
            shard,
            level: 0.0,
            layers: state.layers.clone(),
            asked: 0,
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

    /// Notes that someone wants these encodings; returns all to ask for when that is more than before.
    pub(crate) fn want(&mut self, encodings: u8) -> Option<u8> {
        self.wanted |= encodings;
        let more = self.asked | encodings;
        (more != self.asked).then(|| {
            self.asked = more;
            more
        })
    }

    /// Whether a packet of an encoding is one that was asked for. A keyframe counts as wanted: whoever
    /// begins with it says so only at the next look at its layers.
    pub(crate) fn expects(&mut self, encoding: usize, is_keyframe: bool) -> bool {
        let bit = u32::try_from(encoding)
            .ok()
            .and_then(|at| 1u8.checked_shl(at));
        let bit = bit.unwrap_or(0) & self.asked;
        if is_keyframe {
            self.wanted |= bit;
        }
        bit != 0
    }

    /// Looks back: what nobody wanted for the time between two looks is not asked for any more.
    ///
    /// Returns all to ask for when that is less than before. Without any subscriber nothing is.
    pub(crate) fn look_back(&mut self, has_subscribers: bool) -> Option<u8> {
        let mut still = self.wanted | self.wanted_before;
        self.wanted_before = std::mem::take(&mut self.wanted);
        if !has_subscribers {
            (still, self.wanted_before) = (0, 0);
        }
        let less = self.asked & still;
        (less != self.asked).then(|| {
            self.asked = less;
            less
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

    #[test]
    fn who_begins_with_a_keyframe_is_not_cut_off_before_the_next_look() {
        let mut mirror = mirror();
        assert_eq!(mirror.want(0b11), Some(0b11));
        assert!(!mirror.expects(2, true));
        mirror.look_back(true);
        mirror.want(0b01);
        assert!(mirror.expects(1, true));
        assert_eq!(mirror.look_back(true), None);
        mirror.want(0b01);
        assert_eq!(mirror.look_back(true), None);
        mirror.want(0b01);
        // Nobody began with it after all.
        assert_eq!(mirror.look_back(true), Some(0b01));
        assert!(!mirror.expects(1, false));
    }

    fn mirror() -> Mirror {
        let state = TrackState {
            muted: false,
            codec: None,
            layers: Vec::new(),
            ranks: vec![0, 1, 2],
        };
        Mirror::new(1, &state)
    }

    #[test]
    fn asks_for_more_at_once_and_for_less_after_two_looks() {
        let mut mirror = mirror();
        assert_eq!(mirror.want(0b001), Some(0b001));
        assert_eq!(mirror.want(0b100), Some(0b101));
        assert_eq!(mirror.want(0b101), None);
        assert_eq!(mirror.look_back(true), None);
        assert_eq!(mirror.want(0b100), None);
        assert_eq!(mirror.look_back(true), None, "one look is no proof");
        assert_eq!(mirror.want(0b100), None);
        assert_eq!(mirror.look_back(true), Some(0b100));
        assert_eq!(mirror.want(0b001), Some(0b101));
        assert!(mirror.is_asked_for());
    }

    #[test]
    fn without_subscribers_nothing_is_asked_for() {
        let mut mirror = mirror();
        mirror.want(0b11);
        assert_eq!(mirror.look_back(false), Some(0));
        assert_eq!(mirror.look_back(false), None);
        assert!(!mirror.is_asked_for());
        assert_eq!(mirror.want(0b10), Some(0b10));
    }
}
