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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keyframe() -> Descriptor {
        Descriptor {
            keyframe: true,
            frame_start: true,
            ..Descriptor::default()
        }
    }

    fn frame(temporal: u8, sync: bool) -> Descriptor {
        Descriptor {
            frame_start: true,
            frame_end: true,
            temporal,
            sync,
            ..Descriptor::default()
        }
    }

    fn spatial(spatial: u8) -> Descriptor {
        Descriptor {
            spatial,
            ..frame(0, false)
        }
    }

    #[test]
    fn starts_on_the_lowest_layer_and_climbs_at_keyframes() {
        let mut selector = LayerSelector::new();
        assert_eq!(selector.needs_keyframe(), None);
        assert_eq!(selector.select(0, &keyframe()), Selection::Ignore);
        selector.target(2, &[true, true, true]);
        assert_eq!(selector.needs_keyframe(), Some(0));
        assert_eq!(selector.select(2, &frame(0, false)), Selection::Ignore);
        assert_eq!(selector.select(0, &keyframe()), Selection::Switch);
        assert_eq!(selector.needs_keyframe(), Some(2));
        assert_eq!(selector.select(0, &frame(0, false)), Selection::Forward);
        assert_eq!(selector.select(1, &keyframe()), Selection::Switch);
        assert_eq!(selector.select(0, &keyframe()), Selection::Ignore);
        assert_eq!(selector.select(2, &keyframe()), Selection::Switch);
        assert_eq!(selector.needs_keyframe(), None);
        assert_eq!(selector.select(2, &keyframe()), Selection::Forward);
        // Down, by way of a keyframe too.
        selector.target(0, &[true, true, true]);
        assert_eq!(selector.needs_keyframe(), Some(0));
        assert_eq!(selector.select(2, &frame(0, false)), Selection::Forward);
        assert_eq!(selector.select(0, &keyframe()), Selection::Switch);
    }

    #[test]
    fn falls_back_to_a_live_layer() {
        let mut selector = LayerSelector::new();
        selector.target(2, &[true, true, false]);
        assert_eq!(selector.target_layer(), Some(1));
        selector.target(0, &[false, true, true]);
        assert_eq!(selector.target_layer(), Some(1));
        assert_eq!(selector.needs_keyframe(), Some(1));
        selector.target(1, &[false, false]);
        assert_eq!(selector.target_layer(), Some(1));
        selector.select(1, &keyframe());
        selector.pause();
        assert_eq!(selector.select(1, &keyframe()), Selection::Ignore);
        assert_eq!(selector.needs_keyframe(), None);
    }

    #[test]
    fn temporal_layers_fall_at_a_frame_and_rise_at_a_sync_point() {
        let mut selector = LayerSelector::new();
        selector.target(0, &[true]);
        selector.select(0, &keyframe());
        assert_eq!(selector.select(0, &frame(2, false)), Selection::Forward);
        selector.limit_temporal(0);
        let rest = Descriptor {
            frame_start: false,
            ..frame(2, false)
        };
        assert_eq!(
            selector.select(0, &rest),
            Selection::Forward,
            "a frame is not cut"
        );
        assert_eq!(selector.select(0, &frame(1, false)), Selection::Drop);
        selector.limit_temporal(2);
        assert_eq!(selector.select(0, &frame(1, false)), Selection::Drop);
        assert_eq!(
            selector.select(0, &frame(2, true)),
            Selection::Drop,
            "one step at a time"
        );
        assert_eq!(selector.select(0, &frame(1, true)), Selection::Forward);
        assert_eq!(selector.select(0, &frame(2, true)), Selection::Forward);
        selector.limit_temporal(0);
        assert_eq!(selector.select(0, &frame(0, false)), Selection::Forward);
        selector.limit_temporal(2);
        let opening = Descriptor {
            opens_higher: true,
            ..frame(0, false)
        };
        assert_eq!(selector.select(0, &opening), Selection::Forward);
        assert_eq!(selector.select(0, &frame(2, false)), Selection::Forward);
    }

    #[test]
    fn spatial_layers_rise_at_keyframes_and_the_marker_moves() {
        let mut selector = LayerSelector::new();
        selector.limit_spatial(1);
        selector.target(0, &[true]);
        assert_eq!(selector.select(0, &keyframe()), Selection::Switch);
        for (layer, selection) in [
            (1, Selection::Forward),
            (2, Selection::Drop),
            (0, Selection::Forward),
        ] {
            assert_eq!(selector.select(0, &spatial(layer)), selection);
        }
        assert!(selector.marker(&spatial(1), false));
        assert!(!selector.marker(&spatial(0), false));
        assert!(selector.marker(&spatial(0), true));
        assert_eq!(selector.needs_keyframe(), None);
        selector.limit_spatial(2);
        assert_eq!(selector.needs_keyframe(), Some(0));
        assert_eq!(selector.select(0, &spatial(2)), Selection::Drop);
        assert_eq!(selector.select(0, &keyframe()), Selection::Forward);
        assert_eq!(selector.select(0, &spatial(2)), Selection::Forward);
        assert!(
            !selector.marker(&spatial(2), false),
            "the publisher's own marker does"
        );
        selector.limit_spatial(0);
        assert_eq!(
            selector.select(0, &spatial(1)),
            Selection::Forward,
            "not within a picture"
        );
        assert_eq!(selector.select(0, &spatial(0)), Selection::Forward);
        assert_eq!(selector.select(0, &spatial(1)), Selection::Drop);
    }

    proptest! {
        #[test]
        fn forwards_one_layer_at_a_time_that_began_with_a_keyframe(
            steps in proptest::collection::vec(
                (0u8..4, any::<bool>(), 0u8..3, any::<bool>(), 0u8..12, 0u8..4, any::<u8>()), 1..200,
            ),
        ) {
            let mut selector = LayerSelector::new();
            let mut begun = None;
            for (layer, is_key, temporal, sync, kind, wanted, live) in steps {
                if kind == 0 {
                    let live = [live & 1 != 0, live & 2 != 0, live & 4 != 0, live & 8 != 0];
                    selector.target(wanted, &live);
                } else if kind == 1 {
                    selector.limit_temporal(wanted);
                }
                let descriptor =
                    if is_key { keyframe() } else { frame(temporal, sync) };
                match selector.select(layer, &descriptor) {
                    Selection::Switch => {
                        prop_assert!(is_key);
                        begun = Some(layer);
                    }
                    Selection::Forward | Selection::Drop => prop_assert_eq!(begun, Some(layer)),
                    Selection::Ignore => prop_assert!(begun != Some(layer)),
                }
                prop_assert_eq!(selector.current(), begun);
            }
        }
    }
}
