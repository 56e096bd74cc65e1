//! Shared state that tests wait on: a value behind a lock whose every change wakes who waits.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// A condition did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("not within {after:?}: {what}")]
pub struct TimedOut {
    /// What was waited for, and the state at the end.
    pub what: String,
    /// How long.
    pub after: Duration,
}

/// A value that can be waited on.
#[derive(Debug)]
pub struct Observed<T> {
    value: Mutex<T>,
    changes: watch::Sender<u64>,
}

impl<T> Observed<T> {
    /// Starts with `value`.
    pub fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            changes: watch::Sender::new(0),
        }
    }

    /// Reads.
    pub fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&self.value.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes, and wakes who waits.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.value.lock().unwrap_or_else(PoisonError::into_inner));
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
        result
    }

    /// Waits until `find` finds something.
    pub async fn until<R>(
        &self,
        what: &str,
        within: Duration,
        find: impl Fn(&T) -> Option<R>,
    ) -> Result<R, TimedOut> {
        let mut changes = self.changes.subscribe();
        let wait = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = self.read(&find) {
                    return found;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(within, wait)
            .await
            .map_err(|_| TimedOut {
                what: what.to_owned(),
                after: within,
            })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_change_wakes_who_waits_and_none_times_out() {
        let observed = Arc::new(Observed::new(0));
        let other = observed.clone();
        let writer = tokio::spawn(async move { (0..5).for_each(|_| other.update(|n| *n += 1)) });
        let five = |n: &i32| (*n == 5).then_some(*n);
        let found = observed.until("five", Duration::from_secs(5), five).await;
        assert_eq!(found.ok(), Some(5));
        writer.await.unwrap();
        let none = observed
            .until("six", Duration::from_millis(1), |n| (*n == 6).then_some(()))
            .await;
        assert!(none.is_err());
    }
}
