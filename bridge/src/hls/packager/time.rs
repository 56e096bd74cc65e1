//! What time alone causes in a packager: parts and segments end though no frame comes, and a picture is held.

use super::{JUMP_SEGMENTS_MAX, Lane, Opening, Packager, RenditionId, Standing};

/// Without a picture for this long the last keyframe is shown again. A still screen sends one a second.
const HOLD_AFTER_US: i64 = 1_200_000;
/// The same where a segment must end; it is longer than the pictures of any live source are apart.
const HOLD_AT_END_AFTER_US: i64 = 200_000;
/// This long before a segment must end.
const HOLD_BEFORE_US: i64 = 100_000;
/// This long a keyframe of another rung may wait for the leading one's.
const PENDING_US: i64 = 150_000;
/// Between two looks for what is late.
const LOOK_AGAIN_US: i64 = 10_000;
/// Sound waits for a look at pictures that comes this soon: a look costs more than what it finds. Mixed 100 ms late, it is
/// complete about half a part after its pictures.
const SOUND_WAITS_US: i64 = 120_000;

impl Packager {
    /// When `advance` is worth a call, if nothing is pushed before: a part is likely to be whole then, or overdue.
    pub fn next_look_us(&self, now_us: i64) -> i64 {
        let pictures_us = self.expected_us(now_us, |id| id != RenditionId::Audio);
        let sound_us = self.expected_us(now_us, |id| id == RenditionId::Audio);
        let sound_us = sound_us.filter(|sound_us| {
            let waits = |at_us: i64| at_us > now_us && at_us - sound_us <= SOUND_WAITS_US;
            !pictures_us.is_some_and(waits)
        });
        match pictures_us.into_iter().chain(sound_us).min() {
            Some(at_us) if at_us > now_us => at_us,
            // It is late, by no one knows how much, or left out; or nothing has begun.
            _ => {
                let left_out = self.lanes.values().filter_map(Lane::left_out_from_us);
                let soon = left_out.filter(|at_us| *at_us > now_us).min();
                (now_us + LOOK_AGAIN_US).min(soon.unwrap_or(i64::MAX))
            }
        }
    }

    /// When a part of these renditions is likely to be whole.
    fn expected_us(&self, now_us: i64, is_one: impl Fn(RenditionId) -> bool) -> Option<i64> {
        let lanes = self.lanes.values().filter(|lane| is_one(lane.id));
        lanes.filter_map(|lane| lane.expected_us(now_us)).min()
    }

    /// Does what time alone causes: parts and segments end though no frame came.
    pub fn advance(&mut self, now_us: i64) {
        if self.has_ended {
            return;
        }
        self.hold_picture(now_us);
        self.settle_pending(now_us);
        self.interrupt_late_leader(now_us);
        self.lead_by_time(now_us);
        self.close_laggards(now_us);
        for lane in self.lanes.values_mut() {
            lane.cut_due_part(now_us, &mut self.out);
        }
    }

    fn interrupt_late_leader(&mut self, now_us: i64) {
        let (Some(border), Some(id)) = (self.border, self.leader(now_us)) else {
            return;
        };
        let end_us = border.start_us + self.cadence.limit_us;
        let is_over = self
            .lanes
            .get(&id)
            .is_some_and(|lane| lane.arrivals.settled_us(now_us) > end_us);
        if is_over && self.standing(id, border) == Standing::Current {
            self.interrupt(id, end_us);
        }
    }

    /// Makes the borders while no rung leads.
    fn lead_by_time(&mut self, now_us: i64) {
        for _ in 0..JUMP_SEGMENTS_MAX {
            let Some(border) = self.border else { return };
            let is_led = self.leader(now_us).is_some();
            if is_led || self.settled_us(now_us) < self.end_by_time_us(border) {
                return;
            }
            self.cut_by_time(border);
        }
        self.cut(self.settled_us(now_us), true);
    }

    pub(super) fn cut_by_time(&mut self, border: Opening) {
        let end_us = self.end_by_time_us(border);
        // Whoever was there and is silent begins anew.
        for lane in self.lanes.values_mut() {
            if lane.id != RenditionId::Audio && lane.open.is_some() {
                lane.close(end_us, None, &mut self.out);
                lane.was_interrupted = true;
            }
        }
        self.cut(end_us, self.is_discontinuity_due);
    }

    fn end_by_time_us(&self, border: Opening) -> i64 {
        let end_us = border.start_us + self.cadence.segment_us;
        end_us.max(self.time_leads_from_us)
    }

    /// Ends the segments of those that did not follow a border in time.
    fn close_laggards(&mut self, now_us: i64) {
        let Some(border) = self.border else { return };
        let ids: Vec<RenditionId> = self.lanes.keys().copied().collect();
        for id in ids {
            if self.standing(id, border) != Standing::Due {
                continue;
            }
            let Some(lane) = self.lanes.get_mut(&id) else {
                continue;
            };
            let until_us = lane.follow_until_us(border);
            if lane.arrivals.settled_us(now_us) > until_us {
                lane.fall_behind(lane.ends_us(border, until_us), &mut self.out);
            }
        }
    }

    /// Shows the last keyframe again while no rung has anything else: without pictures players stand still,
    /// though there is sound.
    fn hold_picture(&mut self, now_us: i64) {
        let Some(border) = self.border.filter(|_| self.holds_picture) else {
            return;
        };
        let ends_us = border.start_us + self.cadence.limit_us - HOLD_BEFORE_US;
        let is_shown = |lane: &Lane| match lane.missing_us(now_us) {
            ..HOLD_AT_END_AFTER_US => true,
            HOLD_AFTER_US.. => false,
            // The segment needs a keyframe to end.
            _ => lane.arrivals.settled_us(now_us) < ends_us,
        };
        let video = self.lanes.values();
        let video = video.filter(|lane| lane.id != RenditionId::Audio);
        if video.clone().any(is_shown) {
            return;
        }
        let open = video.filter(|lane| lane.open.is_some());
        let ids: Vec<RenditionId> = open.map(|lane| lane.id).collect();
        for id in ids {
            let again = self.lanes.get_mut(&id).and_then(|lane| lane.repeat(now_us));
            if let Some(frame) = again {
                self.sort(now_us, id, frame);
            }
        }
    }

    /// Shows the last keyframe once more where pictures ended before the sound: hls.js comes to an end when
    /// the last part of each rendition is covered by the others, and never otherwise.
    pub(super) fn hold_to_end(&mut self) {
        if !self.holds_picture {
            return;
        }
        let sound = self.lanes.get(&RenditionId::Audio);
        let end_us = sound.map_or(0, Lane::end_of_frames_us);
        let at_us = end_us - self.cadence.part_us / 2;
        let is_short = |lane: &&Lane| lane.open.is_some() && lane.end_of_frames_us() < at_us;
        let video = self.lanes.values();
        let video = video.filter(|lane| lane.id != RenditionId::Audio);
        let ids: Vec<RenditionId> = video.filter(is_short).map(|lane| lane.id).collect();
        for id in ids {
            let Some(lane) = self.lanes.get_mut(&id) else {
                continue;
            };
            // No segment begins with it: nothing would come after it.
            if let Some(frame) = lane.repeat_at(at_us, end_us) {
                self.counts.misplaced += u64::from(!lane.hold(&frame, &mut self.out));
            }
        }
    }

    /// Keyframes that waited for the leading rung's in vain.
    fn settle_pending(&mut self, now_us: i64) {
        let ids: Vec<RenditionId> = self.lanes.keys().copied().collect();
        for id in ids {
            let Some(lane) = self.lanes.get(&id) else {
                continue;
            };
            let since_us = lane.pending_since_us;
            let Some(first) = lane.pending.first() else {
                continue;
            };
            if now_us.saturating_sub(since_us) < PENDING_US {
                continue;
            }
            let (at_us, is_change) = (first.at_us, lane.is_change(first));
            let is_newer = self.border.is_some_and(|border| at_us > border.start_us);
            if is_newer && self.is_leader_silent(now_us, since_us - PENDING_US) {
                self.cut(at_us, is_change || self.is_discontinuity_due);
            } else {
                self.drop_pending(id, is_change);
            }
        }
    }
}
