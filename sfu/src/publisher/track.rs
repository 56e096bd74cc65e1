//! A published track: one source, its layers, its keyframe budget.

use std::time::{Duration, Instant};

use crate::cascade::{LayerState, TrackState};
use crate::ids::{Rid, TrackId};
use crate::publisher::encoding::Encoding;
use crate::publisher::keyframes::KeyframeBudget;
use crate::publisher::mirror::Mirror;
use crate::publisher::wishes::Wishes;
use crate::room::speakers::LevelMeter;
use crate::sfu::{Codec, Kind, LayerInfo, Publish, Source, TrackInfo, View};
use crate::subscriber::allocator::{LAYERS_MAX, LayerOption};

/// A layer silent for this long while another one goes on has stopped: nine frames at 15 fps.
const STALLED_AFTER: Duration = Duration::from_millis(600);

/// One published audio or video source. Room and owner are keys of the shard's slabs.
pub(crate) struct Track {
    pub(crate) id: TrackId,
    pub(crate) room: usize,
    pub(crate) owner: usize,
    pub(crate) kind: Kind,
    pub(crate) source: Source,
    pub(crate) name: String,
    pub(crate) muted: bool,
    /// Size of the largest layer as the publisher declared it, 0 when it did not.
    width: u16,
    height: u16,
    /// The room's number for the sinks of this track.
    pub(crate) route: usize,
    /// The codec of the last packet.
    pub(crate) codec: Option<Codec>,
    pub(crate) wishes: Wishes,
    /// In the order of the offer's rids; one without a rid when there is no simulcast.
    pub(crate) encodings: Vec<Encoding>,
    pub(crate) keyframes: KeyframeBudget,
    /// Numbers FIR requests (RFC 5104 §4.3.1.1).
    pub(crate) fir_count: u8,
    pub(crate) meter: LevelMeter,
    /// It is a track of another shard; its owner here is a peer without a transport.
    pub(crate) mirror: Option<Box<Mirror>>,
    /// Encodings in ascending picture size: `ranks[0]` is the lowest layer's index.
    ranks: Vec<u8>,
    /// What was last told about codec and layers.
    told: Option<Telling>,
}

/// What is told of a track as it changes.
#[derive(PartialEq, Eq)]
struct Telling {
    codec: Option<Codec>,
    /// Liveness, width and height, lowest layer first.
    layers: Vec<(bool, u16, u16)>,
}

/// Whose a new track is and under which numbers it runs.
pub(crate) struct Ownership {
    pub(crate) id: TrackId,
    pub(crate) room: usize,
    pub(crate) owner: usize,
    pub(crate) route: usize,
}

impl Track {
    pub(crate) fn new(ownership: Ownership, kind: Kind, publish: &Publish, rids: &[Rid]) -> Self {
        let encodings: Vec<_> = if rids.is_empty() {
            vec![Encoding::new(kind, None)]
        } else {
            rids.iter()
                .take(LAYERS_MAX)
                .map(|rid| Encoding::new(kind, Some(*rid)))
                .collect()
        };
        let ranks = (0..).take(encodings.len()).collect();
        Self {
            id: ownership.id,
            room: ownership.room,
            owner: ownership.owner,
            kind,
            source: publish.source,
            name: publish.name.clone(),
            muted: publish.muted,
            width: publish.width,
            height: publish.height,
            route: ownership.route,
            codec: None,
            wishes: Wishes::of(publish),
            encodings,
            keyframes: KeyframeBudget::default(),
            fir_count: 0,
            meter: LevelMeter::default(),
            mirror: None,
            ranks,
            told: None,
        }
    }

    /// The index of the encoding with this rid.
    pub(crate) fn encoding_named(&self, rid: Rid) -> Option<usize> {
        self.encodings
            .iter()
            .position(|encoding| encoding.rid == Some(rid))
    }

    /// How important this track is to a subscriber: its own word, else screens before cameras.
    pub(crate) fn priority(&self, view: View) -> u8 {
        match (view.priority, self.source) {
            (0, Source::ScreenShare) => 200,
            (0, _) => 100,
            (priority, _) => priority,
        }
    }

    /// Encodings in ascending picture size, as indices into `encodings`.
    pub(crate) fn ranks(&self) -> &[u8] {
        &self.ranks
    }

    /// The place of an encoding among the layers, 0 is the lowest.
    pub(crate) fn rank_of(&self, encoding: usize) -> usize {
        self.ranks
            .iter()
            .position(|rank| usize::from(*rank) == encoding)
            .unwrap_or(0)
    }

    /// Sorts the layers by what their keyframes say about their size; the offer's order is kept as
    /// long as a size is unknown (rids are listed lowest first by our SDK and by convention).
    ///
    /// True: the order is another than before.
    pub(crate) fn sort_layers(&mut self) -> bool {
        let area = |index: &u8| {
            let size = self
                .encodings
                .get(usize::from(*index))
                .and_then(|e| e.size());
            size.map(|(width, height)| u32::from(width) * u32::from(height))
        };
        if self.ranks.iter().all(|rank| area(rank).is_some()) {
            let mut ranks = self.ranks.clone();
            ranks.sort_by_key(area);
            if self.ranks != ranks {
                self.ranks = ranks;
                return true;
            }
        }
        false
    }

    /// The layers as an allocator sees them, lowest first, and how many there are.
    pub(crate) fn layer_options(&mut self, now: Instant) -> ([LayerOption; LAYERS_MAX], usize) {
        let mut options = [LayerOption::default(); LAYERS_MAX];
        for (rank, option) in options.iter_mut().enumerate().take(self.ranks.len()) {
            let (width, height) = self.size_of(rank);
            let live = self.is_live(rank, now);
            let index = self.ranks.get(rank).map_or(0, |index| usize::from(*index));
            let bitrate_bps = match (&self.mirror, self.encodings.get_mut(index)) {
                (Some(mirror), _) => mirror.layer(index).bitrate_bps,
                (None, Some(encoding)) => encoding.layer.bitrate_bps(now),
                (None, None) => 0,
            };
            *option = LayerOption {
                live,
                bitrate_bps,
                width,
                height,
            };
        }
        (options, self.ranks.len().min(LAYERS_MAX))
    }

    /// The temporal layer of a layer up to which there are about so many frames a second.
    pub(crate) fn temporal_for(&mut self, rank: usize, now: Instant, fps: u8) -> u8 {
        let index = self.encoding_at(rank);
        let encoding = self.encodings.get_mut(index);
        encoding.map_or(u8::MAX, |encoding| encoding.layer.temporal_for(now, fps))
    }

    /// Whether packets of a layer arrive: not when it fell silent while another layer goes on, which
    /// shows sooner than silence alone.
    fn is_live(&self, rank: usize, now: Instant) -> bool {
        if let Some(mirror) = &self.mirror {
            return mirror.layer(self.encoding_at(rank)).live;
        }
        let Some(encoding) = self.ranked(rank) else {
            return false;
        };
        let goes_on = |encoding: &Encoding| encoding.is_heard_within(now, STALLED_AFTER / 2);
        let is_stalled =
            !encoding.is_heard_within(now, STALLED_AFTER) && self.encodings.iter().any(goes_on);
        encoding.layer.is_live(now) && !is_stalled
    }

    /// The track as others may know it.
    pub(crate) fn info(&mut self, now: Instant) -> TrackInfo {
        let (options, count) = self.layer_options(now);
        let layers = options
            .iter()
            .take(count)
            .enumerate()
            .map(|(rank, option)| LayerInfo {
                rid: self.ranked(rank).and_then(|encoding| encoding.rid),
                live: option.live,
                width: option.width,
                height: option.height,
                bitrate_bps: option.bitrate_bps,
            })
            .collect();
        TrackInfo {
            id: self.id,
            kind: self.kind,
            source: self.source,
            name: self.name.clone(),
            muted: self.muted,
            codec: self.codec,
            layers,
        }
    }

    /// It is a mirror of a track on this shard.
    pub(crate) fn is_mirror_of(&self, shard: u16) -> bool {
        let mirror = self.mirror.as_ref();
        mirror.is_some_and(|mirror| mirror.shard == shard)
    }

    /// The encodings of these layers, as bits.
    pub(crate) fn encodings_of(&self, layers: impl IntoIterator<Item = u8>) -> u8 {
        let bit = |layer: u8| {
            let encoding = self.ranks.get(usize::from(layer))?;
            1u8.checked_shl(u32::from(*encoding))
        };
        layers
            .into_iter()
            .filter_map(bit)
            .fold(0, |all, bit| all | bit)
    }

    /// How it is at present, for its mirrors.
    pub(crate) fn state(&mut self, now: Instant) -> TrackState {
        let (options, count) = self.layer_options(now);
        let mut layers = vec![LayerState::default(); self.encodings.len()];
        for (rank, option) in options.iter().enumerate().take(count) {
            if let Some(layer) = layers.get_mut(self.encoding_at(rank)) {
                *layer = LayerState {
                    live: option.live,
                    width: option.width,
                    height: option.height,
                    bitrate_bps: option.bitrate_bps,
                };
            }
        }
        TrackState {
            muted: self.muted,
            codec: self.codec,
            layers,
            ranks: self.ranks.clone(),
        }
    }

    /// Takes over what a mirror's own shard says of it; true when its layers are in another order now.
    pub(crate) fn follow(&mut self, state: &TrackState) -> bool {
        let Some(mirror) = &mut self.mirror else {
            return false;
        };
        mirror.set_layers(&state.layers);
        self.muted = state.muted;
        self.codec = state.codec;
        let is_resorted = self.ranks != state.ranks;
        self.ranks.clone_from(&state.ranks);
        is_resorted
    }

    /// Codec, liveness or size of a layer is another than was last told.
    pub(crate) fn has_changed(&self, now: Instant) -> bool {
        self.told.as_ref() != Some(&self.telling(now))
    }

    /// True once after codec, liveness or size of a layer changed.
    pub(crate) fn take_change(&mut self, now: Instant) -> bool {
        let current = Some(self.telling(now));
        let changed = self.told != current;
        self.told = current;
        changed
    }

    fn telling(&self, now: Instant) -> Telling {
        let layers = (0..self.ranks.len())
            .map(|rank| {
                let (width, height) = self.size_of(rank);
                (self.is_live(rank, now), width, height)
            })
            .collect();
        Telling {
            codec: self.codec,
            layers,
        }
    }

    /// The encoding that is the layer of this rank.
    fn encoding_at(&self, rank: usize) -> usize {
        self.ranks
            .get(rank)
            .map_or(usize::MAX, |index| usize::from(*index))
    }

    fn ranked(&self, rank: usize) -> Option<&Encoding> {
        self.encodings.get(self.encoding_at(rank))
    }

    /// A layer's picture size: from its keyframes, else from the declared size, each layer half of
    /// the next (what every browser's simulcast does by default).
    fn size_of(&self, rank: usize) -> (u16, u16) {
        if let Some(mirror) = &self.mirror {
            let layer = mirror.layer(self.encoding_at(rank));
            return (layer.width, layer.height);
        }
        if let Some(size) = self.ranked(rank).and_then(Encoding::size) {
            return size;
        }
        let halvings = self.ranks.len().saturating_sub(rank + 1);
        (
            self.width >> halvings.min(15),
            self.height >> halvings.min(15),
        )
    }
}
