//! The keyframe budget of a publication: many subscribers ask, the encoder is asked seldom.

use std::time::{Duration, Instant};

/// Between two requests to one publication. Any keyframe completes every pending switch, so asking
/// more often only costs bitrate.
const REQUEST_INTERVAL: Duration = Duration::from_millis(500);
/// Between two requests when someone waits for a first picture.
const JOINER_INTERVAL: Duration = Duration::from_millis(300);
/// A request that brought no keyframe is repeated after this.
const REPEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Who asks for a keyframe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// A subscriber without a picture.
    Joiner,
    /// A subscriber that lost its picture or wants another layer.
    Viewer,
}

/// Decides when keyframe requests go to a publication. Layers are bits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyframeBudget {
    wanted: u8,
    outstanding: u8,
    /// Someone without a picture is among those who want.
    is_urgent: bool,
    last_request: Option<Instant>,
}

impl KeyframeBudget {
    /// Notes that `layer` should send a keyframe; returns the layers to ask now, as bits.
    pub(crate) fn request(&mut self, now: Instant, layer: usize, urgency: Urgency) -> u8 {
        let bit = 1u8
            .checked_shl(u32::try_from(layer).unwrap_or(u32::MAX))
            .unwrap_or(0);
        let interval = interval(urgency);
        let since = |at| now.saturating_duration_since(at);
        let under_way = self.outstanding & bit != 0
            && self
                .last_request
                .is_some_and(|at| since(at) < REPEAT_INTERVAL);
        if under_way && urgency == Urgency::Viewer {
            return 0;
        }
        self.wanted |= bit;
        self.is_urgent |= urgency == Urgency::Joiner;
        if self.last_request.is_some_and(|at| since(at) < interval) {
            return 0;
        }
        self.take(now)
    }

    /// How urgent the most urgent of the requests is that wait.
    pub(crate) fn urgency(&self) -> Urgency {
        match self.is_urgent {
            true => Urgency::Joiner,
            false => Urgency::Viewer,
        }
    }

    /// The layers to ask now because an earlier request had to wait, as bits.
    pub(crate) fn poll(&mut self, now: Instant) -> u8 {
        let since = |at| now.saturating_duration_since(at);
        let interval = interval(self.urgency());
        if self.wanted == 0 || self.last_request.is_some_and(|at| since(at) < interval) {
            return 0;
        }
        self.take(now)
    }

    /// Notes that `layer` sent a keyframe.
    pub(crate) fn arrived(&mut self, layer: usize) {
        let bit = 1u8
            .checked_shl(u32::try_from(layer).unwrap_or(u32::MAX))
            .unwrap_or(0);
        self.wanted &= !bit;
        self.outstanding &= !bit;
        self.is_urgent &= self.wanted != 0;
    }

    fn take(&mut self, now: Instant) -> u8 {
        let asked = self.wanted;
        self.wanted = 0;
        self.is_urgent = false;
        self.outstanding |= asked;
        self.last_request = Some(now);
        asked
    }
}

/// The least time between two requests.
fn interval(urgency: Urgency) -> Duration {
    match urgency {
        Urgency::Joiner => JOINER_INTERVAL,
        Urgency::Viewer => REQUEST_INTERVAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a starting point for the virtual clock"
    )]
    fn a_storm_of_requests_becomes_two_a_second() {
        let start = Instant::now();
        let mut budget = KeyframeBudget::default();
        let mut sent = 0;
        for ms in 0..10_000u64 {
            let now = start + Duration::from_millis(ms);
            sent += u32::from(budget.request(now, 0, Urgency::Viewer) != 0);
            sent += u32::from(budget.poll(now) != 0);
        }
        assert!((10..=20).contains(&sent), "{sent} requests in 10 s");
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a starting point for the virtual clock"
    )]
    fn a_joiner_does_not_wait_for_the_viewers() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut budget = KeyframeBudget::default();
        assert_eq!(budget.request(at(0), 2, Urgency::Viewer), 0b100);
        assert_eq!(budget.request(at(100), 0, Urgency::Joiner), 0);
        assert_eq!(budget.request(at(310), 0, Urgency::Joiner), 0b001);
        assert_eq!(budget.poll(at(400)), 0);
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a starting point for the virtual clock"
    )]
    fn a_joiner_that_had_to_wait_waits_no_longer_than_joiners_do() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut budget = KeyframeBudget::default();
        assert_eq!(budget.request(at(0), 0, Urgency::Viewer), 1);
        budget.arrived(0);
        assert_eq!(budget.request(at(100), 0, Urgency::Joiner), 0);
        assert_eq!(budget.poll(at(299)), 0);
        assert_eq!(budget.poll(at(300)), 1);
        // Served, it hurries nobody else's.
        budget.arrived(0);
        assert_eq!(budget.request(at(400), 0, Urgency::Joiner), 0);
        budget.arrived(0);
        assert_eq!(budget.request(at(500), 0, Urgency::Viewer), 0);
        assert_eq!(budget.poll(at(700)), 0);
        assert_eq!(budget.poll(at(800)), 1);
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a starting point for the virtual clock"
    )]
    fn what_had_to_wait_is_sent_later_unless_the_keyframe_came() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut budget = KeyframeBudget::default();
        assert_eq!(budget.request(at(0), 0, Urgency::Viewer), 1);
        assert_eq!(budget.request(at(10), 1, Urgency::Viewer), 0);
        assert_eq!(budget.request(at(20), 2, Urgency::Viewer), 0);
        budget.arrived(1);
        assert_eq!(budget.poll(at(499)), 0);
        assert_eq!(budget.poll(at(500)), 0b100);
        assert_eq!(budget.poll(at(1100)), 0);
    }
}
