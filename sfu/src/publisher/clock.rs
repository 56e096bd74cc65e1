//! A publisher's wall clock in terms of the server's, by its sender reports.

/// NTP seconds are the upper half of 64 bits.
const SECOND: u64 = 1 << 32;
/// A report that is further off than this tells that the clock was set.
const SET: u64 = 2 * SECOND;
/// The part of the difference to one report that the offset moves by.
const GAIN: i64 = 16;
/// The offset moves by no more than a 50th of the time passed: 20 ms a second. Clocks drift by far less,
/// and receivers draw a line through many reports, which a report that came late must not bend.
const SLEW: u64 = 50;

/// What to add to one publisher's NTP times to have the server's: one offset for all its streams, so that
/// what was captured together stays together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PublisherClock {
    /// In 2^-32 s, and the server's time when it was last looked at.
    state: Option<(i64, u64)>,
}

impl PublisherClock {
    /// Follows a report that came in at `server_ntp`: the first sets the offset, later ones move it
    /// slowly. Returns by how much it jumped because the clock was set, else 0.
    pub(crate) fn follow(&mut self, server_ntp: u64, publisher_ntp: u64) -> i64 {
        let measured = server_ntp.wrapping_sub(publisher_ntp).cast_signed();
        let Some((offset, since)) = self.state else {
            self.state = Some((measured, server_ntp));
            return 0;
        };
        let difference = measured.wrapping_sub(offset);
        if difference.unsigned_abs() >= SET {
            self.state = Some((measured, server_ntp));
            return difference;
        }
        let slew = (server_ntp.wrapping_sub(since) / SLEW)
            .min(SECOND)
            .cast_signed();
        let step = (difference / GAIN).clamp(-slew, slew);
        self.state = Some((offset.wrapping_add(step), server_ntp));
        0
    }

    /// The offset, once a report told it.
    pub(crate) fn offset(&self) -> Option<i64> {
        self.state.map(|(offset, _)| offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600 * SECOND;

    fn ms(count: u64) -> u64 {
        count * SECOND / 1000
    }

    fn offset_ms(clock: &PublisherClock) -> f64 {
        let beyond = clock.offset().unwrap() - HOUR.cast_signed();
        beyond as f64 * 1000.0 / SECOND as f64
    }

    #[test]
    fn the_first_report_sets_the_offset_and_late_ones_hardly_move_it() {
        let mut clock = PublisherClock::default();
        assert_eq!(clock.offset(), None);
        assert_eq!(clock.follow(HOUR + ms(10), 0), 0);
        assert!((offset_ms(&clock) - 10.0).abs() < 0.01);
        // Four streams report at once, half a second late.
        for _ in 0..4 {
            clock.follow(HOUR + ms(1510), ms(1000));
        }
        let moved = offset_ms(&clock) - 10.0;
        assert!((0.0..30.1).contains(&moved), "{moved} ms");
        for second in 2..60 {
            clock.follow(HOUR + ms(1000 * second + 10), ms(1000 * second));
        }
        assert!((offset_ms(&clock) - 10.0).abs() < 1.0);
    }

    #[test]
    fn a_clock_that_was_set_is_followed_at_once() {
        let mut clock = PublisherClock::default();
        clock.follow(HOUR, 0);
        let jump = clock.follow(HOUR + ms(1000), ms(1000) + HOUR);
        assert_eq!(jump, -HOUR.cast_signed());
        assert_eq!(clock.offset(), Some(0));
    }

    #[test]
    fn a_drift_is_followed() {
        let mut clock = PublisherClock::default();
        for second in 0..600 {
            // 200 ppm fast.
            clock.follow(
                HOUR + ms(1000 * second),
                ms(1000 * second) + ms(200 * second) / 1000,
            );
        }
        let off = offset_ms(&clock) + 0.2 * 599.0;
        assert!((0.0..4.0).contains(&off), "{off} ms behind");
    }
}
