//! The end of a recording's queue that whoever records holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use super::super::Frame;

/// Between who records and the thread that writes.
#[derive(Debug)]
pub(super) struct Control {
    sender: SyncSender<Message>,
    pub(super) is_stopping: AtomicBool,
    pub(super) is_too_slow: AtomicBool,
    pub(super) queued_bytes: AtomicUsize,
}

/// What the thread gets.
#[derive(Debug)]
pub(super) enum Message {
    /// Record it.
    Frame(Frame),
    /// Look at `is_stopping`.
    Stop,
}

/// Takes the frames of one recording. Dropping it stops the recording.
#[derive(Debug)]
pub struct Recorder {
    control: Arc<Control>,
}

impl Recorder {
    /// With the other end of its queue.
    pub(super) fn new() -> (Self, Arc<Control>, Receiver<Message>) {
        let (sender, frames) = sync_channel(QUEUE_FRAMES_MAX);
        let control = Arc::new(Control {
            sender,
            is_stopping: AtomicBool::new(false),
            is_too_slow: AtomicBool::new(false),
            queued_bytes: AtomicUsize::new(0),
        });
        let recorder = Self {
            control: Arc::clone(&control),
        };
        (recorder, control, frames)
    }

    /// Hands a frame over, without ever waiting. `false`: the recording has ended.
    ///
    /// A disk that falls behind by too much ends it: [`TooSlow`](super::super::FailReason::TooSlow).
    pub fn offer(&self, frame: Frame) -> bool {
        let control = &self.control;
        if control.is_stopping.load(Ordering::Acquire) {
            return false;
        }
        let bytes = frame.bytes();
        let queued = control.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        let sent = if queued.saturating_add(bytes) > QUEUE_BYTES_MAX {
            Err(TrySendError::Full(Message::Stop))
        } else {
            control.sender.try_send(Message::Frame(frame))
        };
        match sent {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                control.is_too_slow.store(true, Ordering::Release);
                control.stop();
                false
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

impl Recorder {
    /// Nothing more is taken: somebody stopped the recording, or it failed.
    pub fn has_ended(&self) -> bool {
        self.control.is_stopping.load(Ordering::Acquire)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.control.stop();
    }
}

impl Control {
    /// Ends the recording once what is queued is written.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        // With a full queue the thread is awake and sees the flag.
        let _ = self.sender.try_send(Message::Stop);
    }
}

/// About ten seconds of video and sound.
const QUEUE_FRAMES_MAX: usize = 1_024;
const QUEUE_BYTES_MAX: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::{AudioCodec, AudioConfig, AudioFrame};

    fn frame(bytes: usize) -> Frame {
        let config = AudioConfig {
            codec: AudioCodec::Opus,
            sample_rate: 48_000,
            channels: 2,
            record: Bytes::new(),
            priming: 0,
        };
        Frame::Audio(AudioFrame {
            config: Arc::new(config),
            at_us: 0,
            samples: 960,
            data: Bytes::from(vec![0; bytes]),
        })
    }

    #[test]
    fn a_disk_that_falls_behind_ends_the_recording_at_once() {
        for (bytes, count) in [(10, QUEUE_FRAMES_MAX), (QUEUE_BYTES_MAX / 8, 8)] {
            let (recorder, control, frames) = Recorder::new();
            for _ in 0..count {
                assert!(recorder.offer(frame(bytes)));
            }
            assert!(!control.is_too_slow.load(Ordering::Acquire));
            assert!(!recorder.offer(frame(bytes)));
            assert!(control.is_too_slow.load(Ordering::Acquire));
            assert!(control.is_stopping.load(Ordering::Acquire));
            // What was taken is written all the same.
            let taken = frames.try_iter();
            let taken = taken.filter(|message| matches!(message, Message::Frame(_)));
            assert_eq!(taken.count(), count);
        }
    }
}
