//! The service as encoders see it: one token, one encoder a room.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bridge::rtmp::{
    Admitted, Doors, Listener, ListenerSettings, Media, PublishRequest, Push, PushError, PushEvent,
    Refusal, RefusalCode, Takes,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::programs::bounded;

/// An encoder that was let in.
pub(crate) struct Guest {
    pub(crate) request: PublishRequest,
    pub(crate) media: mpsc::Receiver<Media>,
    pub(crate) end: oneshot::Sender<Refusal>,
}

impl Guest {
    /// All it sends until it is gone.
    pub(crate) async fn all(mut self) -> Vec<Media> {
        let mut all = Vec::new();
        while let Some(media) = bounded(self.media.recv()).await {
            all.push(media);
        }
        all
    }
}

struct House {
    guests: mpsc::UnboundedSender<Guest>,
    rooms: Mutex<HashMap<String, mpsc::WeakSender<Media>>>,
}

#[async_trait]
impl Doors for House {
    async fn admit(&self, request: PublishRequest) -> Result<Admitted, Refusal> {
        let refusal = |code, description: &str| Refusal {
            code,
            description: description.to_owned(),
        };
        if request.token.as_deref() != Some("good") {
            return Err(refusal(RefusalCode::Denied, "the token is not the one"));
        }
        let mut rooms = self.rooms.lock().unwrap();
        let there = rooms.get(&request.room).and_then(mpsc::WeakSender::upgrade);
        if there.is_some() {
            return Err(refusal(RefusalCode::BadName, "somebody publishes there"));
        }
        let (media, received) = mpsc::channel(64);
        rooms.insert(request.room.clone(), media.downgrade());
        let (end, ended) = oneshot::channel();
        let _ = self.guests.send(Guest {
            request,
            media: received,
            end,
        });
        Ok(Admitted {
            media,
            end: Some(ended),
        })
    }
}

/// A listener on a free port.
pub(crate) struct Service {
    pub(crate) listener: Arc<Listener>,
    pub(crate) address: SocketAddr,
    guests: mpsc::UnboundedReceiver<Guest>,
    task: JoinHandle<()>,
}

impl Service {
    pub(crate) async fn start(settings: ListenerSettings, tls: Option<TlsAcceptor>) -> Self {
        let (sender, guests) = mpsc::unbounded_channel();
        let house = House {
            guests: sender,
            rooms: Mutex::default(),
        };
        let listener = Arc::new(Listener::new(Arc::new(house), settings));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(Arc::clone(&listener).serve(socket, tls));
        Self {
            listener,
            address,
            guests,
            task,
        }
    }

    pub(crate) fn url(&self, room: &str, token: &str) -> String {
        format!("rtmp://{}/live/{room}?token={token}", self.address)
    }

    pub(crate) async fn guest(&mut self) -> Guest {
        bounded(self.guests.recv()).await.unwrap()
    }

    /// Publishes until the answer: `Ok` holds the connection.
    pub(crate) async fn publish(&self, room: &str, token: &str) -> Result<TcpStream, PushError> {
        let target = self.url(room, token).parse().unwrap();
        let now = std::time::Instant::now();
        let mut push = Push::new(now, target, (true, None), Takes::default(), 7);
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut buffer = [0; 4096];
        loop {
            while let Some(bytes) = push.poll_transmit() {
                if stream.write_all(&bytes).await.is_err() {
                    return Err(PushError::Closed);
                }
            }
            match push.poll_event() {
                Some(PushEvent::Live) => return Ok(stream),
                Some(PushEvent::Ended(error)) => return Err(error),
                None => {}
            }
            match bounded(stream.read(&mut buffer)).await {
                Ok(0) | Err(_) => return Err(PushError::Closed),
                Ok(length) => push.handle_bytes(&buffer[..length]),
            }
        }
    }

    pub(crate) fn count(&self, name: &str, label: Option<&str>) -> u64 {
        let metrics = self.listener.counts().metrics();
        let found = metrics
            .iter()
            .find(|m| m.name == name && m.label.map(|(_, value)| value) == label);
        found.unwrap().value
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}
