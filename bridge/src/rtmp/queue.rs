//! What waits for a slow reader: bounded in time and bytes, and dropped to the next key picture.

use std::collections::VecDeque;

/// What can wait.
pub(crate) trait Queued {
    /// When it is due, in microseconds.
    fn at_us(&self) -> i64;
    /// How much memory it takes.
    fn bytes(&self) -> usize;
    /// `Some`: it is a picture, and whether one can begin with it.
    fn picture(&self) -> Option<bool>;
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueLimits {
    /// From the oldest to the newest, in microseconds.
    pub(crate) span_us: i64,
    /// In all.
    pub(crate) bytes: usize,
}

/// A queue that forgets rather than grows.
///
/// Holds: what comes out can be decoded, that is, after something was dropped the next picture is a key
/// picture.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    limits: QueueLimits,
    items: VecDeque<T>,
    bytes: usize,
    needs_key: bool,
    dropped: u64,
}

impl<T: Queued> Queue<T> {
    pub(crate) fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            items: VecDeque::new(),
            bytes: 0,
            needs_key: true,
            dropped: 0,
        }
    }

    pub(crate) fn push(&mut self, item: T) {
        match item.picture() {
            Some(true) => self.needs_key = false,
            Some(false) if self.needs_key => return self.dropped += 1,
            _ => {}
        }
        self.bytes += item.bytes();
        self.items.push_back(item);
        while self.is_over() {
            self.drop_to_key();
        }
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        let item = self.items.pop_front()?;
        self.bytes -= item.bytes();
        Some(item)
    }

    /// Forgets all; the next picture is a key picture. Nobody waits: it is not counted.
    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.bytes = 0;
        self.needs_key = true;
    }

    /// How many were dropped because too much waited.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn is_over(&self) -> bool {
        let ends = self.items.front().zip(self.items.back());
        let span_us = ends.map_or(0, |(first, last)| {
            last.at_us().saturating_sub(first.at_us())
        });
        !self.items.is_empty() && (span_us > self.limits.span_us || self.bytes > self.limits.bytes)
    }

    /// Drops what is before the newest key picture, or everything if that is the oldest.
    fn drop_to_key(&mut self) {
        let key = self
            .items
            .iter()
            .rposition(|item| item.picture() == Some(true));
        let count = match key {
            Some(0) | None => self.items.len(),
            Some(key) => key,
        };
        // Sound alone loses its oldest only.
        let is_sound = self.items.iter().all(|item| item.picture().is_none());
        let count = if is_sound { 1 } else { count };
        for _ in 0..count {
            self.pop();
            self.dropped += 1;
        }
        self.needs_key |= self.items.is_empty() && !is_sound;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Item(i64, Option<bool>);

    impl Queued for Item {
        fn at_us(&self) -> i64 {
            self.0
        }

        fn bytes(&self) -> usize {
            10
        }

        fn picture(&self) -> Option<bool> {
            self.1
        }
    }

    const KEY: Option<bool> = Some(true);
    const DELTA: Option<bool> = Some(false);
    const SOUND: Option<bool> = None;

    fn queue(span_us: i64, bytes: usize) -> Queue<Item> {
        Queue::new(QueueLimits { span_us, bytes })
    }

    fn push_all(queue: &mut Queue<Item>, items: &[Item]) {
        items.iter().for_each(|item| queue.push(*item));
    }

    fn drained(queue: &mut Queue<Item>) -> Vec<Item> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn begins_with_a_key_picture() {
        let mut queue = queue(100, 1000);
        push_all(
            &mut queue,
            &[Item(0, DELTA), Item(1, SOUND), Item(2, KEY), Item(3, DELTA)],
        );
        assert_eq!(
            drained(&mut queue),
            [Item(1, SOUND), Item(2, KEY), Item(3, DELTA)]
        );
        assert_eq!(queue.dropped(), 1);
    }

    #[test]
    fn drops_to_the_newest_key_picture() {
        let mut queue = queue(100, 1000);
        let first = [Item(0, KEY), Item(50, DELTA)];
        let last = [Item(90, KEY), Item(95, SOUND), Item(101, DELTA)];
        push_all(&mut queue, &first);
        push_all(&mut queue, &last);
        assert_eq!(drained(&mut queue), last);
        assert_eq!(queue.dropped(), 2);
    }

    #[test]
    fn without_one_everything_goes_until_the_next() {
        let mut queue = queue(1000, 35);
        let deltas: Vec<_> = (1..5).map(|at| Item(at, DELTA)).collect();
        push_all(&mut queue, &[Item(0, KEY)]);
        push_all(&mut queue, &deltas);
        push_all(&mut queue, &[Item(5, SOUND), Item(6, KEY)]);
        assert_eq!(drained(&mut queue), [Item(5, SOUND), Item(6, KEY)]);
    }

    proptest! {
        #[test]
        fn bounds_hold_and_pictures_follow_a_key(
            steps in prop::collection::vec((0i64..40, prop_oneof![
                Just(KEY), Just(DELTA), Just(DELTA), Just(DELTA), Just(SOUND)], any::<bool>()), 0..200),
        ) {
            let mut queue = queue(100, 95);
            let (mut at, mut pushed, mut popped) = (0, 0, Vec::new());
            let mut pictures = Vec::new();
            for (later, picture, is_read) in steps {
                at += later + 1;
                pictures.extend(picture.map(|_| at));
                queue.push(Item(at, picture));
                pushed += 1;
                prop_assert!(queue.bytes <= 95 && queue.items.len() <= 9);
                if is_read {
                    popped.extend(queue.pop());
                }
            }
            popped.extend(drained(&mut queue));
            prop_assert_eq!(queue.dropped() + popped.len() as u64, pushed);
            // What is no key picture follows the picture it followed when it was pushed.
            let mut before = None;
            for Item(at, picture) in popped {
                let place = pictures.binary_search(&at).ok();
                if picture == DELTA {
                    prop_assert_eq!(before, place.map(|place| place - 1));
                }
                before = place.or(before);
            }
        }
    }
}
