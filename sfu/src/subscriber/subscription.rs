//! One track on one receive slot: which of its packets go, and under which numbers.

use std::time::{Duration, Instant};

use crate::ids::{PayloadType, TrackId};
use crate::peer::negotiation::{Format, NegotiatedCodec, map_codec};
use crate::publisher::track::Track;
use crate::sfu::{Codec, PauseReason, StreamState, View};
use crate::subscriber::allocator::{Allocation, LAYERS_MAX};
use crate::subscriber::selector::LayerSelector;

/// A keyframe that was asked for is asked for again after this.
const KEYFRAME_PATIENCE: Duration = Duration::from_millis(500);

/// A track forwarded to one peer.
pub(crate) struct Subscription {
    /// Key of the track.
    pub(crate) track: usize,
    pub(crate) id: TrackId,
    pub(crate) view: View,
    pub(crate) selector: LayerSelector,
    pub(crate) allocation: Allocation,
    /// Nothing of this track was forwarded on the slot yet.
    pub(crate) is_waiting: bool,
    /// It is about to begin with a keyframe that is kept, and asks for none.
    pub(crate) has_start: bool,
    /// What the subscriber was told last.
    pub(crate) told: Option<StreamState>,
    keyframe_asked: Option<Instant>,
    /// The highest number of each encoding that was taken in, forwarded or dropped on purpose.
    passed: [u64; LAYERS_MAX],
    mappings: Vec<MappedType>,
}

/// A payload type of the publisher, and what becomes of it.
struct MappedType {
    from: PayloadType,
    /// `None` for RED, which stands for its own content.
    codec: Option<Codec>,
    to: Option<Mapping>,
}

/// How a publisher's payload type goes out on a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) payload_type: PayloadType,
    pub(crate) rtx: Option<PayloadType>,
    /// Only the newest block of redundant audio goes out.
    pub(crate) unwraps_red: bool,
}

impl Subscription {
    pub(crate) fn new(track: usize, id: TrackId, view: View) -> Self {
        Self {
            track,
            id,
            view,
            selector: LayerSelector::new(),
            allocation: Allocation::Layer(0),
            is_waiting: true,
            has_start: false,
            told: None,
            keyframe_asked: None,
            passed: [0; LAYERS_MAX],
            mappings: Vec::new(),
        }
    }

    /// Whether nothing of an encoding was taken in from this number on. A keyframe that came so late that
    /// something was must not begin the stream anew: what follows it would go out twice.
    pub(crate) fn has_not_passed(&self, encoding: usize, sequence: u64) -> bool {
        self.passed
            .get(encoding)
            .is_none_or(|last| *last < sequence)
    }

    /// What was taken in is given up. As long as nothing of it went out, a stream may begin with it still.
    pub(crate) fn forget_passed(&mut self) {
        if self.is_waiting {
            self.passed = [0; LAYERS_MAX];
        }
    }

    /// Notes that a packet of an encoding was taken in.
    pub(crate) fn note_passed(&mut self, encoding: usize, sequence: u64) {
        if let Some(last) = self.passed.get_mut(encoding) {
            *last = sequence.max(*last);
        }
    }

    /// Works out how each of the publisher's payload types goes out on a slot with these codecs.
    pub(crate) fn map_codecs(&mut self, source: &[NegotiatedCodec], slot: &[NegotiatedCodec]) {
        let opus = slot
            .iter()
            .find(|codec| matches!(codec.format, Format::Opus { .. }));
        let map = |from: &NegotiatedCodec| match (from.format, map_codec(from, slot)) {
            (Format::Red { primary }, Some(to)) if to.format == (Format::Red { primary }) => {
                Some(Mapping::plain(to))
            }
            // Blocks name their payload type inside: under another number they go out alone.
            (Format::Red { .. }, _) => opus.map(|to| Mapping {
                unwraps_red: true,
                ..Mapping::plain(to)
            }),
            (_, to) => to.map(Mapping::plain),
        };
        self.mappings = source
            .iter()
            .map(|codec| MappedType {
                from: codec.payload_type,
                codec: codec.codec(),
                to: map(codec),
            })
            .collect();
    }

    /// How this payload type goes out; `None` when the subscriber cannot decode it.
    pub(crate) fn mapping(&self, payload_type: u8) -> Option<Mapping> {
        let mut known = self.mappings.iter();
        known
            .find(|mapped| mapped.from.0 == payload_type)
            .and_then(|mapped| mapped.to)
    }

    /// The subscriber can decode what the publisher sends at present, or before the first packet
    /// something of what it may send.
    fn decodes(&self, present: Option<Codec>) -> bool {
        let is_meant =
            |codec: Option<Codec>| present.is_none() || codec.is_none() || codec == present;
        let mut known = self.mappings.iter();
        known.any(|mapped| mapped.to.is_some() && is_meant(mapped.codec))
    }

    /// Aims at the allocated layer, or at what is live instead of it.
    pub(crate) fn aim(&mut self, track: &mut Track, now: Instant) {
        let layer = self.selector.current().or(self.selector.target_layer());
        let temporal = match (self.view.temporal, self.view.fps, layer) {
            (Some(temporal), ..) => temporal,
            (None, 0, _) | (None, _, None) => u8::MAX,
            (None, fps, Some(layer)) => track.temporal_for(usize::from(layer), now, fps),
        };
        self.selector.limit_temporal(temporal);
        match self.allocation {
            _ if track.muted || !self.decodes(track.codec) => self.selector.pause(),
            Allocation::Paused(_) => self.selector.pause(),
            Allocation::Layer(layer) => {
                let (options, count) = track.layer_options(now);
                let mut live = [false; LAYERS_MAX];
                for (live, option) in live.iter_mut().zip(&options).take(count) {
                    *live = option.live;
                }
                // Without simulcast the layers are spatial layers inside the one stream.
                let spatial = if count == 1 { self.view.layer } else { None };
                self.selector.limit_spatial(spatial.unwrap_or(u8::MAX));
                let wanted = u8::try_from(layer).unwrap_or(0);
                self.selector
                    .target(wanted, live.get(..count).unwrap_or_default());
            }
        }
    }

    /// What the subscriber receives of the track at present.
    pub(crate) fn state(&self, track: &Track) -> StreamState {
        if track.muted {
            return StreamState::Paused {
                reason: PauseReason::Muted,
            };
        }
        if !self.decodes(track.codec) {
            return StreamState::Paused {
                reason: PauseReason::Codec,
            };
        }
        match (self.allocation, self.selector.current()) {
            (Allocation::Paused(reason), _) => StreamState::Paused { reason },
            (_, Some(layer)) => StreamState::Active { layer },
            (Allocation::Layer(layer), None) => StreamState::Active {
                layer: u8::try_from(layer).unwrap_or(0),
            },
        }
    }

    /// The layer to ask a keyframe of now, once per patience.
    pub(crate) fn take_keyframe_need(&mut self, now: Instant) -> Option<u8> {
        let layer = self.selector.needs_keyframe()?;
        let recent = |at| now.saturating_duration_since(at) < KEYFRAME_PATIENCE;
        if self.keyframe_asked.is_some_and(recent) {
            return None;
        }
        self.keyframe_asked = Some(now);
        Some(layer)
    }

    /// Lets `take_keyframe_need` answer at once: the need is new.
    pub(crate) fn renew_keyframe_need(&mut self) {
        self.keyframe_asked = None;
    }
}

impl Mapping {
    fn plain(codec: &NegotiatedCodec) -> Self {
        Self {
            payload_type: codec.payload_type,
            rtx: codec.rtx,
            unwraps_red: false,
        }
    }
}
