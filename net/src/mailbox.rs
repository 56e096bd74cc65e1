//! A bounded queue into a thread that waits in poll(2).

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// A bounded queue whose descriptor becomes readable when something was put in.
///
/// One lock per turn of the reader, none when nothing was put in.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: Mutex<VecDeque<T>>,
    capacity: usize,
    wake: EventFd,
}

impl<T> Mailbox<T> {
    /// Makes a queue for `capacity` things.
    ///
    /// # Errors
    /// The system gives no descriptor.
    pub fn new(capacity: usize) -> io::Result<Self> {
        let wake =
            EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self {
            queue: Mutex::new(VecDeque::new()),
            capacity,
            wake,
        })
    }

    /// Puts something in and wakes the reader.
    ///
    /// # Errors
    /// Hands it back when the queue is full.
    pub fn push(&self, item: T) -> Result<(), T> {
        let mut queue = self.lock();
        if queue.len() >= self.capacity {
            return Err(item);
        }
        queue.push_back(item);
        drop(queue);
        self.wake();
        Ok(())
    }

    /// One more would fit.
    pub fn has_space(&self) -> bool {
        self.lock().len() < self.capacity
    }

    /// Puts something in that is bounded elsewhere, full or not, and wakes the reader.
    pub fn push_always(&self, item: T) {
        self.lock().push_back(item);
        self.wake();
    }

    /// Wakes the reader.
    pub fn wake(&self) {
        // The only failure is a counter at its limit, and then the reader wakes anyway.
        let _ = self.wake.write(1);
    }

    /// Moves at most `count` things to the end of `into`; true when some are left.
    pub fn take(&self, count: usize, into: &mut VecDeque<T>) -> bool {
        let mut queue = self.lock();
        let taken = count.min(queue.len());
        into.extend(queue.drain(..taken));
        !queue.is_empty()
    }

    /// Makes the descriptor unreadable until the next `push` or `wake`; call before `take`.
    pub fn clear_wake(&self) {
        let _ = self.wake.read();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_does_not_fit_and_keeps_the_order() {
        let mailbox = Mailbox::new(2).unwrap();
        assert_eq!(mailbox.push(1), Ok(()));
        assert!(mailbox.has_space());
        assert_eq!(mailbox.push(2), Ok(()));
        assert!(!mailbox.has_space());
        assert_eq!(mailbox.push(3), Err(3));
        mailbox.push_always(4);
        let mut taken = VecDeque::new();
        assert!(mailbox.take(2, &mut taken));
        assert!(!mailbox.take(2, &mut taken));
        assert_eq!(taken, [1, 2, 4]);
    }
}
