//! The least of the values of the last half minute.

use std::collections::VecDeque;

/// Values with their times; memory is bounded by the window's length.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Values ascend, and so do times: each is the least of all that are younger than the one before.
    minima: VecDeque<(i64, i64)>,
}

impl Window {
    pub(super) fn push(&mut self, at_us: i64, value: i64) {
        let newest = self.minima.back().map_or(at_us, |(at, _)| at_us.max(*at));
        while self.minima.back().is_some_and(|(_, least)| *least >= value) {
            self.minima.pop_back();
        }
        // One that is less has only just come: for a moment longer it stands for this one too.
        let is_covered = |(at, _): &(i64, i64)| newest - at < GRAIN_US;
        if !self.minima.back().is_some_and(is_covered) {
            self.minima.push_back((newest, value));
        }
        while self
            .minima
            .front()
            .is_some_and(|(at, _)| *at < newest - LENGTH_US)
        {
            self.minima.pop_front();
        }
    }

    pub(super) fn least(&self) -> Option<i64> {
        self.minima.front().map(|(_, least)| *least)
    }

    pub(super) fn clear(&mut self) {
        self.minima.clear();
    }
}

/// Long enough for several sender reports, short enough that clocks 200 ppm apart differ by 6 ms.
const LENGTH_US: i64 = 30_000_000;
const GRAIN_US: i64 = 250_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_forgotten_after_the_window() {
        let mut window = Window::default();
        assert_eq!(window.least(), None);
        for (at_s, value) in [(0, 50), (1, 10), (2, 30), (3, 40)] {
            window.push(at_s * 1_000_000, value);
        }
        assert_eq!(window.least(), Some(10));
        window.push(31_000_001, 60);
        assert_eq!(window.least(), Some(30));
        window.push(80_000_000, 70);
        assert_eq!(window.least(), Some(70));
    }

    #[test]
    fn memory_is_bounded() {
        let mut window = Window::default();
        for value in 0..1_000_000 {
            window.push(value * 100, value);
        }
        assert!(window.minima.len() <= 122, "{}", window.minima.len());
    }
}
