//! A participant that joins through the native protocol.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::framing::{framed, unframed};
use crate::media::now_us;
use crate::observed::{Observed, TimedOut};
use crate::peer::{Offered, Peer, PeerOptions};
use crate::publication::{Source, TrackOptions};
use crate::room::Room;
use crate::signal::{Frame, Socket};

/// How long anything the server has to answer may take.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How a participant joins.
#[derive(Clone, Debug, Default)]
pub struct JoinOptions {
    /// Its media.
    pub peer: PeerOptions,
    /// Receives nothing without asking for it.
    pub manual_subscribe: bool,
    /// What to change in the offer's SDP before it is sent.
    pub alter_offer: Option<fn(String) -> String>,
    /// What to change in the answer's SDP before it is taken.
    pub alter_answer: Option<Alteration>,
    /// Does not wait for the connection.
    pub no_wait: bool,
}

/// A change of an SDP on its way.
#[derive(Clone)]
pub struct Alteration(pub Arc<dyn Fn(&str) -> String + Send + Sync>);

impl std::fmt::Debug for Alteration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Alteration")
    }
}

impl JoinOptions {
    /// Publishes these tracks, receives with three slots of each kind.
    pub fn publishing(publish: Vec<TrackOptions>) -> Self {
        let peer = PeerOptions {
            publish,
            ..PeerOptions::default()
        };
        Self {
            peer,
            ..Self::default()
        }
    }
}

/// The server said no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refused {
    /// The stable code.
    pub code: String,
    /// The text.
    pub message: String,
}

type Pending = Arc<Mutex<HashMap<u32, oneshot::Sender<Value>>>>;

/// A participant of a room.
pub struct Participant {
    /// Its identity, as the token names it.
    pub identity: String,
    /// Its number in stamps.
    pub number: u32,
    /// Its media.
    pub peer: Peer,
    /// What it knows of the room.
    pub room: Arc<Observed<Room>>,
    /// The ids of its own tracks.
    pub own: HashMap<Source, String>,
    server: SocketAddr,
    token: String,
    options: JoinOptions,
    ids: AtomicU32,
    pending: Pending,
    outgoing: mpsc::UnboundedSender<Value>,
    socket: JoinHandle<()>,
}

impl Participant {
    /// Joins: the first offer rides in `hello`, and unless told otherwise the media is connected.
    pub async fn join(
        server: SocketAddr,
        token: &str,
        identity: &str,
        mut options: JoinOptions,
    ) -> Result<Self> {
        let number = crate::publisher_number(identity);
        options.peer.number = number;
        let mut peer = Peer::new(options.peer.clone()).await?;
        let mut offered = peer.offer(false).await?;
        if let Some(alter) = options.alter_offer {
            offered.sdp = alter(offered.sdp);
        }
        let mut socket = Socket::open(server).await?;
        let mut hello = hello(token, &options);
        hello["offer"] = offer_body(1, &offered, &peer)?;
        socket.send(&hello).await?;
        let welcome = welcomed(&mut socket).await?;
        let room = Arc::new(Observed::new(Room::default()));
        let answer = welcome["answer"].clone();
        if answer.is_null() {
            // The session stands, its offer was refused.
            return Err(refused_offer(&mut socket).await?.into());
        }
        room.update(|room| room.apply(&welcome));
        let sdp = altered(&answer, &options)?;
        peer.accept(&sdp).await?;
        let pending = Pending::default();
        let (outgoing, commands) = mpsc::unbounded_channel();
        let socket = tokio::spawn(serve(socket, commands, room.clone(), pending.clone()));
        let mut participant = Self {
            identity: identity.to_owned(),
            number,
            peer,
            room,
            own: HashMap::new(),
            server,
            token: token.to_owned(),
            options,
            ids: AtomicU32::new(2),
            pending,
            outgoing,
            socket,
        };
        participant.note_published(&offered, &answer);
        if !participant.options.no_wait {
            participant.peer.connected(PATIENCE).await?;
        }
        Ok(participant)
    }

    fn note_published(&mut self, offered: &Offered, answer: &Value) {
        for entry in answer["published"].as_array().into_iter().flatten() {
            let of = offered
                .publish
                .iter()
                .find(|(mid, _)| entry["mid"] == **mid);
            if let (Some((_, source)), Some(track)) = (of, entry["track"].as_str()) {
                self.own.insert(*source, track.to_owned());
            }
        }
    }

    /// Sends a message that wants an answer, and waits for it.
    pub async fn request(&self, mut message: Value) -> Result<Value> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        message["id"] = json!(id);
        let (answer, answered) = oneshot::channel();
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, answer);
        self.tell(message)?;
        let answer = tokio::time::timeout(PATIENCE, answered)
            .await
            .context("no answer in time")?;
        let answer = answer.context("the socket closed before the answer")?;
        if answer["t"] == "err" {
            return Err(refused(&answer).into());
        }
        Ok(answer)
    }

    /// Sends a message that wants no answer.
    pub fn tell(&self, message: Value) -> Result<()> {
        self.outgoing
            .send(message)
            .ok()
            .context("the socket is gone")
    }

    /// Offers again: for what was added or removed, or to restart ICE.
    pub async fn negotiate(&mut self, restart: bool) -> Result<()> {
        let offered = self.peer.offer(restart).await?;
        let mut message = offer_body(0, &offered, &self.peer)?;
        message["t"] = json!("offer");
        if restart {
            message["iceRestart"] = json!(true);
        }
        let answer = self.request(message).await?;
        let sdp = altered(&answer, &self.options)?;
        self.peer.accept(&sdp).await?;
        self.note_published(&offered, &answer);
        Ok(())
    }

    /// The id of one of its own tracks.
    pub fn own_track(&self, source: Source) -> Result<&String> {
        self.own
            .get(&source)
            .with_context(|| format!("{} is not published", source.name()))
    }

    /// Mutes or unmutes one of its own tracks.
    pub async fn mute(&self, source: Source, muted: bool) -> Result<()> {
        let track = self.own_track(source)?;
        self.request(json!({ "t": "track", "track": track, "muted": muted }))
            .await?;
        Ok(())
    }

    /// Ends one of its own tracks.
    pub async fn unpublish(&mut self, source: Source) -> Result<()> {
        let track = self.own.remove(&source).context("it is not published")?;
        self.peer.retire(source).await?;
        self.request(json!({ "t": "unpublish", "track": track }))
            .await?;
        self.negotiate(false).await
    }

    /// Subscribes to one track, or ends that.
    pub async fn subscribe(&self, track: &str, wanted: bool) -> Result<()> {
        self.request(json!({ "t": "subscribe", "set": { track: wanted } }))
            .await?;
        Ok(())
    }

    /// Says how a track is shown.
    pub fn view(&self, track: &str, view: Value) -> Result<()> {
        self.tell(json!({ "t": "view", "set": { track: view } }))
    }

    /// Sends over a data channel, to these identities or to everybody.
    pub async fn send(
        &self,
        channel: &str,
        to: Option<&[&str]>,
        (topic, payload): (&str, &[u8]),
    ) -> Result<()> {
        let mut header = json!({ "topic": topic });
        if let Some(to) = to {
            header["to"] = json!(to);
        }
        self.peer.send(channel, &framed(&header, payload)?).await
    }

    /// The data channel messages that came: channel, sender, topic, payload.
    pub fn received(&self) -> Vec<(String, String, String, Vec<u8>)> {
        self.peer.media.read(|media| {
            media
                .messages
                .iter()
                .map(|message| {
                    let (header, payload) = unframed(&message.bytes).unwrap_or_default();
                    let text = |key: &str| header[key].as_str().unwrap_or_default().to_owned();
                    (
                        message.channel.clone(),
                        text("from"),
                        text("topic"),
                        payload,
                    )
                })
                .collect()
        })
    }

    /// Waits for something in the room.
    pub async fn until_room<R>(
        &self,
        what: &str,
        find: impl Fn(&Room) -> Option<R>,
    ) -> Result<R, TimedOut> {
        let within = self.room.until(what, PATIENCE, find).await;
        within.map_err(|error| self.explain(error))
    }

    /// Waits until `count` more packets of `publisher` came than now.
    pub async fn hears(&self, publisher: u32, count: u64) -> Result<(), TimedOut> {
        let before = self.peer.media.read(|media| media.packets_from(publisher));
        let found = self.peer.media.until("more packets", PATIENCE, |media| {
            (media.packets_from(publisher) >= before + count).then_some(())
        });
        found.await.map_err(|error| self.explain(error))
    }

    fn explain(&self, error: TimedOut) -> TimedOut {
        let room = self.room.read(|room| format!("{room:?}"));
        let media = self.peer.media.read(|media| {
            let counts = |(mid, reception): (&String, &crate::Reception)| {
                format!(
                    "{mid}: {} packets {} gaps; ",
                    reception.packets,
                    reception.gaps()
                )
            };
            let slots: String = media.receptions.iter().map(counts).collect();
            format!("{} {slots}", media.connection)
        });
        let what = format!("{} of {}: {media} {room}", error.what, self.identity);
        TimedOut { what, ..error }
    }

    /// Takes answers as they are from now on.
    pub fn direct(&mut self) {
        self.options.alter_answer = None;
    }

    /// Cuts the signaling socket without a word; media is left alone.
    pub async fn kill_socket(&mut self) {
        self.socket.abort();
        let _ = (&mut self.socket).await;
    }

    /// Opens a new socket and resumes the session.
    pub async fn resume(&mut self) -> Result<()> {
        let mut socket = Socket::open(self.server).await?;
        let mut hello = hello(&self.token, &self.options);
        hello["resume"] = self
            .room
            .read(|room| json!({ "session": room.session, "key": room.resume_key, "n": room.n }));
        socket.send(&hello).await?;
        let welcome = welcomed(&mut socket).await?;
        self.room.update(|room| {
            room.closed = None;
            room.apply(&welcome);
        });
        let (outgoing, commands) = mpsc::unbounded_channel();
        self.outgoing = outgoing;
        let serving = serve(socket, commands, self.room.clone(), self.pending.clone());
        self.socket = tokio::spawn(serving);
        Ok(())
    }

    /// Leaves in order.
    pub async fn leave(self) -> Result<()> {
        self.tell(json!({ "t": "leave" }))?;
        self.until_room("goodbye", |room| {
            (room.bye.is_some() || room.closed.is_some()).then_some(())
        })
        .await?;
        self.socket.abort();
        self.peer.close().await
    }

    /// Disappears: no goodbye, socket and media end at once.
    pub async fn vanish(self) -> Result<()> {
        self.socket.abort();
        self.peer.close().await
    }
}

fn hello(token: &str, options: &JoinOptions) -> Value {
    json!({
        "t": "hello", "v": [1], "token": token, "features": ["slots"],
        "sdk": { "name": "plenum-loadtest", "version": env!("CARGO_PKG_VERSION") },
        "autoSubscribe": !options.manual_subscribe,
    })
}

async fn welcomed(socket: &mut Socket) -> Result<Value> {
    match socket.next_within(PATIENCE).await? {
        Frame::Message(welcome) if welcome["t"] == "welcome" => Ok(welcome),
        Frame::Message(answer) if answer["t"] == "err" => Err(refused(&answer).into()),
        other => bail!("instead of a welcome: {other:?}"),
    }
}

async fn refused_offer(socket: &mut Socket) -> Result<Refused> {
    loop {
        match socket.next_within(PATIENCE).await? {
            Frame::Message(answer) if answer["t"] == "err" => return Ok(refused(&answer)),
            Frame::Message(_) => {}
            Frame::Closed(code) => bail!("closed with {code:?} instead of an answer"),
        }
    }
}

fn refused(answer: &Value) -> Refused {
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    Refused {
        code: text("code"),
        message: text("message"),
    }
}

fn offer_body(id: u32, offered: &Offered, peer: &Peer) -> Result<Value> {
    let mut publish = Vec::new();
    for (mid, source) in &offered.publish {
        let options = &peer.publication(*source)?.options;
        let size = options.layers.last().filter(|_| options.codec.is_video());
        let (width, height) = size.map_or((0, 0), |picture| (picture.width, picture.height));
        publish.push(json!({
            "mid": mid, "source": source.name(), "name": source.name(), "muted": false,
            "width": width, "height": height,
        }));
    }
    Ok(json!({ "id": id, "sdp": offered.sdp, "publish": publish }))
}

fn altered(answer: &Value, options: &JoinOptions) -> Result<String> {
    let sdp = answer["sdp"].as_str().context("there is no answer")?;
    Ok(match &options.alter_answer {
        Some(alter) => alter.0(sdp),
        None => sdp.to_owned(),
    })
}

async fn serve(
    mut socket: Socket,
    mut commands: mpsc::UnboundedReceiver<Value>,
    room: Arc<Observed<Room>>,
    pending: Pending,
) {
    let mut pings = tokio::time::interval(Duration::from_secs(5));
    loop {
        let sent = tokio::select! {
            frame = socket.next() => {
                match frame {
                    Frame::Message(message) => take(&message, &room, &pending),
                    Frame::Closed(code) => {
                        room.update(|room| room.closed = Some(code));
                        break;
                    }
                }
                Ok(())
            }
            command = commands.recv() => match command {
                Some(command) => socket.send(&command).await,
                None => break,
            },
            _ = pings.tick() => socket.send(&json!({ "t": "ping", "ts": now_us() / 1000 })).await,
        };
        if sent.is_err() {
            // What the server said before it closed is still to be read.
            while let Frame::Message(message) = socket.next().await {
                take(&message, &room, &pending);
            }
            room.update(|room| room.closed = Some(None));
            break;
        }
    }
    pending
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clear();
}

fn take(message: &Value, room: &Observed<Room>, pending: &Pending) {
    room.update(|room| room.apply(message));
    let answers = matches!(message["t"].as_str(), Some("ok" | "err" | "answer"));
    if let Some(id) = message["id"].as_u64().filter(|_| answers) {
        let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = u32::try_from(id).ok().and_then(|id| pending.remove(&id));
        if let Some(waiting) = waiting {
            let _ = waiting.send(message.clone());
        }
    }
}
