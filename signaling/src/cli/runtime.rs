//! The async runtime of `plenum serve`: how many threads it has, and how often each may be woken.

use std::cell::Cell;
use std::io;
use std::num::NonZero;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

/// Starts a runtime with a thread for every other core: media has one for each, and what is served here is mostly waited
/// for. Every thread more makes each wake-up dearer, as the last one that finds work wakes another one to look for more.
pub(super) fn start() -> io::Result<Runtime> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    Builder::new_multi_thread()
        .worker_threads((cores / 2).max(1))
        .enable_all()
        .on_thread_park(|| {
            let (moderation, pause) = MODERATION.get().sleep(Instant::now());
            MODERATION.set(moderation);
            thread::sleep(pause);
        })
        .build()
}

thread_local! {
    static MODERATION: Cell<Moderation> = const { Cell::new(Moderation::NEW) };
}

/// Keeps a busy thread from being woken for each of many small things, as network cards do with interrupts.
///
/// A hundred players ask for a part of a broadcast within tens of milliseconds: every one would wake the thread, and a
/// wake-up costs about as much as an answer. A thread that falls asleep often lets a little come together first; one
/// that is seldom woken never does. No packet of a room waits here: they have threads of their own.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moderation {
    /// When the sleeps began to be counted.
    since: Option<Instant>,
    sleeps: u32,
    /// There were too many of them in the window before.
    is_busy: bool,
}

impl Moderation {
    const NEW: Self = Self {
        since: None,
        sleeps: 0,
        is_busy: false,
    };
    const WINDOW: Duration = Duration::from_millis(20);
    /// So many in a window are fine. While the thread pauses there are still more.
    const SLEEPS_MAX: u32 = 2;
    const PAUSE: Duration = Duration::from_millis(2);

    /// What it is after a thread found nothing to do at `now`, and how long that thread should wait before it looks for
    /// what has come.
    fn sleep(self, now: Instant) -> (Self, Duration) {
        let age = self.since.map(|since| now.saturating_duration_since(since));
        let mut next = match age {
            Some(age) if age < Self::WINDOW => self,
            _ => Self {
                since: Some(now),
                sleeps: 0,
                is_busy: age.is_some_and(|age| age < 2 * Self::WINDOW) && self.is_often(),
            },
        };
        next.sleeps += 1;
        let is_paused = next.is_busy || next.is_often();
        (
            next,
            if is_paused {
                Self::PAUSE
            } else {
                Duration::ZERO
            },
        )
    }

    fn is_often(self) -> bool {
        self.sleeps > Self::SLEEPS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Falls asleep every `every_us` microseconds of what it is not paused, for a second; how often it did, and how
    /// often it was paused.
    fn fall_asleep(every_us: u64) -> (u32, u32) {
        let start = Instant::now();
        let (mut now, mut moderation) = (start, Moderation::NEW);
        let (mut sleeps, mut pauses) = (0, 0);
        while now < start + Duration::from_secs(1) {
            let pause;
            (moderation, pause) = moderation.sleep(now);
            sleeps += 1;
            pauses += u32::from(!pause.is_zero());
            now += pause + Duration::from_micros(every_us);
        }
        (sleeps, pauses)
    }

    #[test]
    fn a_thread_that_is_seldom_woken_never_waits() {
        for every_us in [10_500, 20_000, 30_000, 200_000] {
            assert_eq!(fall_asleep(every_us).1, 0, "every {every_us} us");
        }
    }

    #[test]
    fn a_thread_that_is_woken_all_the_time_is_woken_once_a_pause() {
        for every_us in [0, 10, 300, 1_000] {
            let (sleeps, pauses) = fall_asleep(every_us);
            assert!(sleeps <= 520, "every {every_us} us: {sleeps} times");
            assert!(
                pauses >= sleeps - 10,
                "every {every_us} us: {pauses} of {sleeps}"
            );
        }
    }

    #[test]
    fn it_is_as_quick_as_before_once_it_has_rested() {
        let start = Instant::now();
        let mut moderation = Moderation::NEW;
        for _ in 0..100 {
            moderation = moderation.sleep(start).0;
        }
        assert_eq!(moderation.sleep(start).1, Moderation::PAUSE);
        let later = start + 2 * Moderation::WINDOW;
        assert_eq!(moderation.sleep(later).1, Duration::ZERO);
    }
}
