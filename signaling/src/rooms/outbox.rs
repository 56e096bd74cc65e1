//! What waits to be sent to a native client: bounded, so that a client that does not read is cut off.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::message::{CloseCode, ServerReply, Speakers};
use crate::session::encode_reply;

/// One thing to do on a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Send this text.
    Text(String),
    /// Close it; nothing comes after.
    Close(CloseCode),
}

/// What waits to be sent on one socket.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: Mutex<Queue>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    texts: VecDeque<String>,
    bytes: usize,
    /// Only the latest level of each participant counts, so this does not pile up.
    speakers: BTreeMap<String, f32>,
    close: Option<CloseCode>,
}

/// More than this waiting means that the client does not read.
const WAITING_BYTES_MAX: usize = 1 << 20;

impl Outbox {
    /// Queues a text; false when that was too much and the socket will be closed instead.
    ///
    /// A large text counts for half the limit at most: the snapshot of a large room goes through, and
    /// so do the events after it.
    pub fn push(&self, text: String) -> bool {
        let mut queue = self.queue();
        if queue.close.is_some() {
            return true;
        }
        let fits = queue.bytes + cost(&text) <= WAITING_BYTES_MAX;
        if fits {
            queue.bytes += cost(&text);
            queue.texts.push_back(text);
        } else {
            *queue = Queue {
                close: Some(CloseCode::SlowConsumer),
                ..Queue::default()
            };
        }
        drop(queue);
        self.ready.notify_one();
        fits
    }

    /// Queues levels, merged with those still waiting.
    pub fn push_speakers(&self, levels: &BTreeMap<String, f32>) {
        let mut queue = self.queue();
        queue
            .speakers
            .extend(levels.iter().map(|(id, level)| (id.clone(), *level)));
        drop(queue);
        self.ready.notify_one();
    }

    /// Closes the socket after what is queued. The first code counts.
    pub fn close(&self, code: CloseCode) {
        self.queue().close.get_or_insert(code);
        self.ready.notify_one();
    }

    /// The next thing to do, once there is one. For one task at a time.
    pub async fn next(&self) -> Frame {
        loop {
            if let Some(frame) = self.pop() {
                return frame;
            }
            self.ready.notified().await;
        }
    }

    /// The next thing to do, if there is one.
    pub fn pop(&self) -> Option<Frame> {
        let mut queue = self.queue();
        if let Some(text) = queue.texts.pop_front() {
            queue.bytes -= cost(&text);
            return Some(Frame::Text(text));
        }
        if let Some(code) = queue.close {
            return Some(Frame::Close(code));
        }
        if queue.speakers.is_empty() {
            return None;
        }
        let levels = std::mem::take(&mut queue.speakers);
        Some(Frame::Text(encode_reply(&ServerReply::Speakers(
            Speakers { levels },
        ))))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cost(text: &str) -> usize {
    text.len().min(WAITING_BYTES_MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_does_not_read_is_cut_off() {
        let outbox = Outbox::default();
        let text = "x".repeat(100 << 10);
        let queued = (0..20).take_while(|_| outbox.push(text.clone())).count();
        assert_eq!(queued, 10);
        assert_eq!(outbox.pop(), Some(Frame::Close(CloseCode::SlowConsumer)));
        assert!(outbox.push(text), "what comes later is dropped quietly");
        assert_eq!(outbox.pop(), Some(Frame::Close(CloseCode::SlowConsumer)));
    }

    #[test]
    fn a_snapshot_larger_than_the_limit_goes_through() {
        let outbox = Outbox::default();
        assert!(outbox.push("x".repeat(3 << 20)));
        assert!(outbox.push("y".repeat(512 << 10)));
        assert!(!outbox.push("z".to_owned()));
    }

    #[test]
    fn levels_do_not_pile_up_and_texts_go_before_the_close() {
        let outbox = Outbox::default();
        outbox.push_speakers(&BTreeMap::from([
            ("p_1".to_owned(), 0.5),
            ("p_2".to_owned(), 0.5),
        ]));
        outbox.push_speakers(&BTreeMap::from([("p_1".to_owned(), 0.0)]));
        let levels = r#"{"t":"speakers","levels":{"p_1":0.0,"p_2":0.5}}"#.to_owned();
        assert_eq!(outbox.pop(), Some(Frame::Text(levels)));
        assert_eq!(outbox.pop(), None);
        outbox.push("bye".to_owned());
        outbox.close(CloseCode::Normal);
        outbox.close(CloseCode::Removed);
        assert_eq!(outbox.pop(), Some(Frame::Text("bye".to_owned())));
        assert_eq!(outbox.pop(), Some(Frame::Close(CloseCode::Normal)));
    }
}
