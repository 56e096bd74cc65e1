//! One encoder's connection: bytes between its socket and [`Ingest`], media to the service.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{debug, info};

use crate::rtmp::ingest::{
    Ending, Event, Ingest, IngestCounts, Media, PublishRequest, Refusal, RefusalCode,
};
use crate::rtmp::io::{Admitted, Listener, seed};

pub(super) struct Connection<S> {
    listener: Arc<Listener>,
    stream: S,
    peer: SocketAddr,
    ingest: Ingest,
    admitted: Option<Admitted>,
    buffer: Vec<u8>,
    counted: IngestCounts,
    /// The encoder said so.
    is_done: bool,
}

/// What the socket, the service or the clock had to say.
enum Input {
    Read(usize),
    Gone,
    Timeout,
    Refused(Refusal),
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    pub(super) fn new(listener: &Arc<Listener>, stream: S, peer: SocketAddr) -> Self {
        Self {
            listener: Arc::clone(listener),
            stream,
            peer,
            ingest: Ingest::new(Instant::now(), peer, seed()),
            admitted: None,
            buffer: vec![0; READ_BYTES],
            counted: IngestCounts::default(),
            is_done: false,
        }
    }

    /// Serves it to its end.
    pub(super) async fn run(mut self) {
        loop {
            let is_open = self.handle_events().await;
            // What is said last is to be read, too.
            let is_sent = self.flush().await;
            if !is_open || !is_sent {
                break;
            }
            match self.wait().await {
                Input::Read(length) => {
                    self.listener
                        .counts
                        .bytes
                        .fetch_add(length as u64, Ordering::Relaxed);
                    let bytes = self.buffer.get(..length).unwrap_or_default();
                    self.ingest.handle_bytes(Instant::now(), bytes);
                }
                Input::Gone => {
                    self.listener
                        .counts
                        .ended_gone
                        .fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Input::Timeout => self.ingest.handle_timeout(Instant::now()),
                Input::Refused(refusal) => self.ingest.refuse(refusal),
            }
        }
        self.linger().await;
    }

    async fn wait(&mut self) -> Input {
        let deadline = self.ingest.poll_timeout();
        let timer = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let service = service_ends(self.admitted.as_mut());
        // What has come counts before a deadline that passed while the service took its time.
        tokio::select! {
            biased;
            refusal = service => Input::Refused(refusal),
            read = self.stream.read(&mut self.buffer) => match read {
                Ok(length @ 1..) => Input::Read(length),
                Ok(0) | Err(_) => Input::Gone,
            },
            () = timer => Input::Timeout,
        }
    }

    /// Whether the connection goes on.
    async fn handle_events(&mut self) -> bool {
        let counts = self.ingest.counts();
        self.listener.counts.add(&counts, &self.counted);
        self.counted = counts;
        while let Some(event) = self.ingest.poll_event() {
            match event {
                Event::PublishRequested(request) => self.admit(request).await,
                Event::Media(media) => self.give(media).await,
                Event::Ended(ending) => {
                    self.is_done = ending == Ending::Unpublished;
                    self.count_ending(&ending);
                    if self.is_done {
                        self.give(Media::Unpublished).await;
                    }
                    return false;
                }
            }
        }
        true
    }

    /// Nothing is read while the service decides.
    async fn admit(&mut self, request: PublishRequest) {
        let counts = &self.listener.counts;
        let deadline = self.ingest.poll_timeout().unwrap_or_else(Instant::now);
        let room = request.room.clone();
        let decided = self.listener.doors.admit(request);
        match tokio::time::timeout_at(deadline.into(), decided).await {
            Ok(Ok(admitted)) => {
                info!(room, "an encoder publishes");
                counts.admitted.fetch_add(1, Ordering::Relaxed);
                self.admitted = Some(admitted);
                self.ingest.accept(Instant::now());
            }
            Ok(Err(refusal)) => {
                info!(room, code = ?refusal.code, "an encoder is refused");
                if refusal.code == RefusalCode::Denied {
                    self.listener.count_failure(self.peer);
                }
                self.ingest.refuse(refusal);
            }
            Err(_) => self.ingest.handle_timeout(Instant::now()),
        }
    }

    /// Waits for room: meanwhile the encoder's own queue fills, and it knows best what to drop.
    async fn give(&mut self, media: Media) {
        let Some(admitted) = &mut self.admitted else {
            return;
        };
        let sender = admitted.media.clone();
        let sent = tokio::select! {
            sent = timeout(GIVE_TIME, sender.send(media)) => match sent {
                Ok(Ok(())) => return,
                Ok(Err(_)) => refusal(RefusalCode::Rejected, "the room has ended"),
                Err(_) => refusal(RefusalCode::Rejected, "the server is too slow"),
            },
            refusal = words(admitted.end.as_mut()) => refusal,
        };
        self.ingest.refuse(sent);
    }

    async fn flush(&mut self) -> bool {
        while let Some(bytes) = self.ingest.poll_transmit() {
            let sent = async {
                self.stream.write_all(&bytes).await?;
                self.stream.flush().await
            };
            if !matches!(timeout(WRITE_TIME, sent).await, Ok(Ok(()))) {
                return false;
            }
        }
        true
    }

    fn count_ending(&self, ending: &Ending) {
        let counts = &self.listener.counts;
        let count = match ending {
            Ending::Unpublished => &counts.ended_unpublished,
            Ending::Refused(_) => &counts.ended_refused,
            Ending::Failed(error) => {
                debug!(%error, "an encoder breaks the rules");
                &counts.ended_failed
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Closes; reads on for a moment, or what was sent last would be lost to a reset. An encoder that is done
    /// closes first: some take it for an error if we do.
    async fn linger(&mut self) {
        self.admitted = None;
        let is_done = self.is_done;
        let ends = async {
            if !is_done {
                let _ = self.stream.shutdown().await;
            }
            let mut left = LINGER_BYTES;
            while let Ok(length @ 1..) = self.stream.read(&mut self.buffer).await {
                left = left.saturating_sub(length);
                if left == 0 {
                    break;
                }
            }
        };
        let _ = timeout(LINGER_TIME, ends).await;
    }
}

/// Pending while the service wants the encoder to go on.
async fn service_ends(admitted: Option<&mut Admitted>) -> Refusal {
    let Some(admitted) = admitted else {
        return std::future::pending().await;
    };
    tokio::select! {
        refusal = words(admitted.end.as_mut()) => refusal,
        () = admitted.media.closed() => refusal(RefusalCode::Rejected, "the room has ended"),
    }
}

/// Pending if the service has none.
async fn words(end: Option<&mut oneshot::Receiver<Refusal>>) -> Refusal {
    match end {
        Some(end) if !end.is_terminated() => match end.await {
            Ok(refusal) => refusal,
            Err(_) => std::future::pending().await,
        },
        _ => std::future::pending().await,
    }
}

fn refusal(code: RefusalCode, description: &str) -> Refusal {
    Refusal {
        code,
        description: description.to_owned(),
    }
}

const READ_BYTES: usize = 16_384;
const GIVE_TIME: Duration = Duration::from_secs(10);
const WRITE_TIME: Duration = Duration::from_secs(10);
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;
