//! Which packets of a track go to one subscriber: simulcast, temporal and spatial layers.

use crate::rtp::payload::Descriptor;

/// What to do with one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// Forward it.
    Forward,
    /// This packet begins the new layer: switch the rewriter to its source, then forward it.
    ///
    /// When it came late, packets after it may be in the layer's ring already: forward those too.
    Switch,
    /// It belongs to the current layer but is not wanted: skip its number.
    Drop,
    /// It belongs to another layer and costs no number.
    Ignore,
}

/// Layers that fit the bits of a mask; more than any browser sends.
pub(crate) const LAYERS_MAX: usize = 8;

/// Chooses packets of one track for one subscriber.
///
/// A simulcast layer is a stream of its own and named by its index; temporal and spatial layers
/// inside the stream come from the packet's descriptor.
#[derive(Clone, Debug)]
pub(crate) struct LayerSelector {
    current: Option<u8>,
    target: Option<u8>,
    lowest_live: Option<u8>,
    temporal: u8,
    temporal_max: u8,
    spatial: u8,
    spatial_max: u8,
    /// The highest spatial layer seen in the current stream.
    spatial_seen: u8,
}

impl LayerSelector {
    /// Nothing is forwarded before `target` names a layer and its keyframe comes; no limits.
    pub(crate) fn new() -> Self {
        Self {
            current: None,
            target: None,
            lowest_live: None,
            temporal: u8::MAX,
            temporal_max: u8::MAX,
            spatial: u8::MAX,
            spatial_max: u8::MAX,
            spatial_seen: 0,
        }
    }

    /// Says which layer is wanted and which live.
    ///
    /// The target is the highest live layer up to the wanted one, else the lowest live one. With
    /// none live the wanted one stays the target, for its packets may be about to come.
    pub(crate) fn target(&mut self, wanted: u8, live: &[bool]) {
        let live_layers = || {
            (0u8..)
                .zip(live.iter().take(LAYERS_MAX))
                .filter_map(|(at, &live)| live.then_some(at))
        };
        self.lowest_live = live_layers().next();
        self.target = live_layers()
            .take_while(|&layer| layer <= wanted)
            .last()
            .or(self.lowest_live)
            .or(Some(wanted));
    }

    /// Forwards nothing until `target` is called again and a keyframe comes.
    pub(crate) fn pause(&mut self) {
        self.current = None;
        self.target = None;
    }

    /// The source changes (another track on this slot): begin with a keyframe of it.
    pub(crate) fn restart(&mut self) {
        self.current = None;
        self.spatial_seen = 0;
    }

    /// Limits the temporal layers; less from the next frame on, more from the next one that allows it.
    pub(crate) fn limit_temporal(&mut self, highest: u8) {
        self.temporal_max = highest;
    }

    /// Limits the spatial layers inside the stream; less from the next picture on, more from the
    /// next keyframe on.
    pub(crate) fn limit_spatial(&mut self, highest: u8) {
        self.spatial_max = highest;
    }

    /// The layer being forwarded.
    pub(crate) fn current(&self) -> Option<u8> {
        self.current
    }

    /// The layer that is being switched to or kept.
    pub(crate) fn target_layer(&self) -> Option<u8> {
        self.target
    }

    /// The highest temporal and spatial layer forwarded now.
    pub(crate) fn highest_inside(&self) -> (u8, u8) {
        (self.temporal, self.spatial)
    }

    /// The layer a keyframe is needed of: to begin, to switch, or to receive more spatial layers.
    ///
    /// To begin it is the lowest live one, which comes through soonest.
    pub(crate) fn needs_keyframe(&self) -> Option<u8> {
        let target = self.target?;
        match self.current {
            None => Some(self.lowest_live.map_or(target, |lowest| lowest.min(target))),
            Some(current) if current != target => Some(target),
            Some(current) => {
                (self.spatial < self.spatial_max.min(self.spatial_seen)).then_some(current)
            }
        }
    }

    /// Decides about one packet of a layer.
    pub(crate) fn select(&mut self, layer: u8, descriptor: &Descriptor) -> Selection {
        if descriptor.keyframe && self.leads_to_target(layer) {
            self.current = Some(layer);
            self.temporal = self.temporal_max;
            self.spatial = self.spatial_max;
            self.spatial_seen = descriptor.spatial;
            return Selection::Switch;
        }
        if self.current != Some(layer) {
            return Selection::Ignore;
        }
        self.spatial_seen = self.spatial_seen.max(descriptor.spatial);
        if descriptor.frame_start {
            self.begin_frame(descriptor);
        }
        if descriptor.temporal > self.temporal || descriptor.spatial > self.spatial {
            return Selection::Drop;
        }
        if descriptor.opens_higher {
            self.temporal = self.temporal.max(self.temporal_max);
        }
        Selection::Forward
    }

    /// The RTP marker of a packet that is forwarded: it ends the picture as the subscriber sees it.
    ///
    /// With spatial layers dropped the publisher's marker may stand on a dropped packet, so it moves
    /// to the end of the highest layer forwarded.
    pub(crate) fn marker(&self, descriptor: &Descriptor, marker: bool) -> bool {
        marker
            || (descriptor.frame_end
                && descriptor.spatial == self.spatial
                && self.spatial < self.spatial_seen)
    }

    /// A keyframe of this layer is a step to the target: the target itself, or one nearer to it.
    fn leads_to_target(&self, layer: u8) -> bool {
        let Some(target) = self.target else {
            return false;
        };
        match self.current {
            None => layer <= target,
            Some(current) if current < target => current < layer && layer <= target,
            Some(current) => target <= layer && layer < current,
        }
    }

    /// Applies limits where a frame begins.
    fn begin_frame(&mut self, descriptor: &Descriptor) {
        if descriptor.keyframe {
            self.temporal = self.temporal_max;
            self.spatial = self.spatial_max;
            return;
        }
        self.temporal = self.temporal.min(self.temporal_max);
        if descriptor.spatial == 0 {
            self.spatial = self.spatial.min(self.spatial_max);
        }
        // One step at a time: frames between may still refer to what was dropped of their layer.
        if descriptor.sync
            && descriptor.temporal <= self.temporal_max
            && descriptor.temporal == self.temporal.saturating_add(1)
        {
            self.temporal = descriptor.temporal;
        }
    }
}
