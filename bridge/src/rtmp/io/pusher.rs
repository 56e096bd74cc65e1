//! Pushes a program to one target for as long as it lasts, whatever becomes of connections.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{debug, info};

use crate::media::{AudioConfig, AudioFrame, VideoFrame};
use crate::rtmp::backoff::Backoff;
use crate::rtmp::io::seed;
use crate::rtmp::io::tls::{Stream, connect};
use crate::rtmp::push::{Push, PushCounts, PushError, PushEvent, PushRefused, Takes};
use crate::rtmp::queue::{Queue, QueueLimits, Queued};
use crate::rtmp::target::Target;

/// What is pushed where.
#[derive(Clone, Debug)]
pub struct PushSettings {
    /// Where to.
    pub target: Target,
    /// What the target takes besides H264 and AAC.
    pub takes: Takes,
    /// Whether there will be pictures: without any, sound begins alone.
    pub has_video: bool,
    /// What the sound is coded with, if there is any.
    pub audio: Option<Arc<AudioConfig>>,
    /// Whom to trust instead of whom this machine trusts.
    pub tls: Option<Arc<ClientConfig>>,
}

/// How a push stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushState {
    /// On its way.
    Connecting,
    /// The server takes what is sent.
    Live,
    /// It did not work and will be tried again.
    Waiting {
        /// From when it failed.
        retry_in: Duration,
        /// Why it failed.
        error: PushError,
    },
    /// The server said no so often that nobody asks any more.
    Failed(PushError),
    /// Somebody said so.
    Stopped,
}

/// What a push has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PusherCounts {
    /// Connections that became live.
    pub connections: u64,
    /// Attempts and connections that failed.
    pub failures: u64,
    /// Pictures sent.
    pub pictures: u64,
    /// Sounds sent.
    pub sounds: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Frames dropped because the server was too slow.
    pub dropped_slow: u64,
    /// Frames dropped because the connection had not begun with a key picture, or cannot carry the codec.
    pub dropped_other: u64,
}

/// A program's way to one target. Ends when it is dropped.
pub struct Pusher {
    shared: Arc<Shared>,
    state: watch::Receiver<PushState>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// There is something in the queue.
    filled: Notify,
    counters: Counters,
}

#[derive(Debug)]
struct Waiting {
    queue: Queue<Frame>,
    /// Nothing is kept for a connection that does not exist.
    is_live: bool,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    failures: AtomicU64,
    pictures: AtomicU64,
    sounds: AtomicU64,
    bytes: AtomicU64,
    dropped_other: AtomicU64,
}

#[derive(Debug)]
enum Frame {
    Video(VideoFrame),
    Audio(AudioFrame),
}

/// Why a connection is over.
enum Over {
    Stopped,
    Failed(PushError),
}

impl Pusher {
    /// Begins. To be called where tokio runs.
    ///
    /// # Errors
    /// The target cannot take what there is.
    pub fn start(settings: PushSettings) -> Result<Self, PushRefused> {
        let audio = settings.audio.as_ref();
        if audio.is_some_and(|audio| !settings.takes.audio(audio.codec)) {
            return Err(PushRefused::AacUnavailable);
        }
        let waiting = Waiting {
            queue: Queue::new(LIMITS),
            is_live: false,
        };
        let shared = Arc::new(Shared {
            waiting: Mutex::new(waiting),
            filled: Notify::new(),
            counters: Counters::default(),
        });
        let (state_sender, state) = watch::channel(PushState::Connecting);
        let (stop, stopped) = watch::channel(false);
        let run = Run {
            settings,
            shared: Arc::clone(&shared),
            state: state_sender,
            stopped,
        };
        let task = tokio::spawn(run.run());
        Ok(Self {
            shared,
            state,
            stop,
            task,
        })
    }

    /// Takes a picture of the program. Never waits.
    pub fn send_video(&self, frame: &VideoFrame) {
        self.shared.push(|| Frame::Video(frame.clone()));
    }

    /// Takes a sound of the program. Never waits.
    pub fn send_audio(&self, frame: &AudioFrame) {
        self.shared.push(|| Frame::Audio(frame.clone()));
    }

    /// How it stands, now and from now on. After it became live again the next picture sent is a key
    /// picture: asking for one shortens the gap.
    pub fn state(&self) -> watch::Receiver<PushState> {
        self.state.clone()
    }

    /// What it has counted.
    pub fn counts(&self) -> PusherCounts {
        let counters = &self.shared.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PusherCounts {
            connections: load(&counters.connections),
            failures: load(&counters.failures),
            pictures: load(&counters.pictures),
            sounds: load(&counters.sounds),
            bytes: load(&counters.bytes),
            dropped_slow: self.shared.waiting().queue.dropped(),
            dropped_other: load(&counters.dropped_other),
        }
    }

    /// Tells the server that nothing more comes, and ends.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let _ = timeout(STOP_TIME, &mut self.task).await;
    }
}

impl fmt::Debug for Pusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pusher")
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

impl Drop for Pusher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn push(&self, frame: impl FnOnce() -> Frame) {
        let mut waiting = self.waiting();
        if waiting.is_live {
            waiting.queue.push(frame());
            drop(waiting);
            self.filled.notify_one();
        }
    }

    async fn next(&self) -> Frame {
        loop {
            let frame = self.waiting().queue.pop();
            match frame {
                Some(frame) => return frame,
                None => self.filled.notified().await,
            }
        }
    }

    fn set_live(&self, is_live: bool) {
        let mut waiting = self.waiting();
        waiting.queue.clear();
        waiting.is_live = is_live;
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queued for Frame {
    fn at_us(&self) -> i64 {
        match self {
            Self::Video(frame) => frame.at_us,
            Self::Audio(frame) => frame.at_us,
        }
    }

    fn bytes(&self) -> usize {
        let data = match self {
            Self::Video(frame) => &frame.data,
            Self::Audio(frame) => &frame.data,
        };
        data.len() + size_of::<Self>()
    }

    fn picture(&self) -> Option<bool> {
        match self {
            Self::Video(frame) => Some(frame.is_key),
            Self::Audio(_) => None,
        }
    }
}

/// The task of a push.
struct Run {
    settings: PushSettings,
    shared: Arc<Shared>,
    state: watch::Sender<PushState>,
    stopped: watch::Receiver<bool>,
}

impl Run {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut was_live = false;
        loop {
            self.state.send_replace(PushState::Connecting);
            let began = Instant::now();
            let over = self.connect_and_push(&mut was_live).await;
            self.shared.set_live(false);
            let Over::Failed(error) = over else { break };
            self.shared
                .counters
                .failures
                .fetch_add(1, Ordering::Relaxed);
            if began.elapsed() >= STABLE_TIME {
                backoff.reset();
            }
            let retry_in = backoff.fail(seed());
            let is_refusal = matches!(error, PushError::Refused(_) | PushError::Unauthorised(_));
            if is_refusal && !was_live && backoff.failures() >= REFUSALS_MAX {
                info!(target = %self.settings.target, %error, "a push is given up");
                self.state.send_replace(PushState::Failed(error));
                return;
            }
            debug!(target = %self.settings.target, %error, ?retry_in, "a push has failed");
            self.state
                .send_replace(PushState::Waiting { retry_in, error });
            if timeout(retry_in, is_stopped(&mut self.stopped))
                .await
                .is_ok()
            {
                break;
            }
        }
        self.state.send_replace(PushState::Stopped);
    }

    async fn connect_and_push(&mut self, was_live: &mut bool) -> Over {
        let connecting = connect(&self.settings.target, self.settings.tls.clone());
        let stream = tokio::select! {
            connected = connecting => match connected {
                Ok(stream) => stream,
                Err(error) => return Over::Failed(error),
            },
            () = is_stopped(&mut self.stopped) => return Over::Stopped,
        };
        let PushSettings {
            target,
            takes,
            has_video,
            audio,
            ..
        } = self.settings.clone();
        let push = Push::new(Instant::now(), target, (has_video, audio), takes, seed());
        let (buffer, counted) = (vec![0; READ_BYTES], PushCounts::default());
        let mut wire = Wire {
            stream,
            push,
            buffer,
            shared: &self.shared,
            counted,
        };
        let over = loop {
            if let Err(error) = wire.flush().await {
                break Over::Failed(error);
            }
            match wire.push.poll_event() {
                Some(PushEvent::Live) => {
                    *was_live = true;
                    self.shared
                        .counters
                        .connections
                        .fetch_add(1, Ordering::Relaxed);
                    self.shared.set_live(true);
                    self.state.send_replace(PushState::Live);
                    continue;
                }
                Some(PushEvent::Ended(error)) => break Over::Failed(error),
                None => {}
            }
            tokio::select! {
                result = wire.step() => if let Err(error) = result {
                    break Over::Failed(error);
                },
                () = is_stopped(&mut self.stopped) => break Over::Stopped,
            }
        };
        if matches!(over, Over::Stopped) {
            wire.push.finish();
            let _ = wire.flush().await;
            let _ = wire.stream.shutdown().await;
        }
        over
    }
}

/// A connection and its machine.
struct Wire<'a> {
    stream: Box<dyn Stream>,
    push: Push,
    buffer: Vec<u8>,
    shared: &'a Shared,
    counted: PushCounts,
}

impl Wire<'_> {
    /// Waits for the server, the program or the clock.
    async fn step(&mut self) -> Result<(), PushError> {
        let deadline = self.push.poll_timeout();
        let timer = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = self.stream.read(&mut self.buffer) => match read {
                Ok(length @ 1..) => {
                    self.push.handle_bytes(self.buffer.get(..length).unwrap_or_default());
                }
                Ok(0) | Err(_) => return Err(PushError::Closed),
            },
            frame = self.shared.next() => match &frame {
                Frame::Video(frame) => self.push.send_video(frame),
                Frame::Audio(frame) => self.push.send_audio(frame),
            },
            () = timer => self.push.handle_timeout(Instant::now()),
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), PushError> {
        while let Some(bytes) = self.push.poll_transmit() {
            let sent = async {
                self.stream.write_all(&bytes).await?;
                self.stream.flush().await
            };
            match timeout(WRITE_TIME, sent).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(PushError::Closed),
                Err(_) => return Err(PushError::Stalled),
            }
            let counters = &self.shared.counters;
            counters
                .bytes
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        self.count();
        Ok(())
    }

    fn count(&mut self) {
        let (now, before) = (self.push.counts(), self.counted);
        let counters = &self.shared.counters;
        let add = |counter: &AtomicU64, more: u64| counter.fetch_add(more, Ordering::Relaxed);
        add(&counters.pictures, now.pictures - before.pictures);
        add(&counters.sounds, now.sounds - before.sounds);
        add(
            &counters.dropped_other,
            now.dropped_early - before.dropped_early,
        );
        add(
            &counters.dropped_other,
            now.dropped_codec - before.dropped_codec,
        );
        self.counted = now;
    }
}

async fn is_stopped(stopped: &mut watch::Receiver<bool>) {
    // An error means that the pusher is gone, and this task with it.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

const LIMITS: QueueLimits = QueueLimits {
    span_us: 5_000_000,
    bytes: 16 << 20,
};
const READ_BYTES: usize = 4096;
const WRITE_TIME: Duration = Duration::from_secs(10);
const STOP_TIME: Duration = Duration::from_secs(2);
const STABLE_TIME: Duration = Duration::from_secs(10);
const REFUSALS_MAX: u32 = 5;
