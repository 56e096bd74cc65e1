//! The server under load: where it is, what lets bots in, and how they join and leave it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::bot::sdp::{self, Answer};
use crate::bot::{Agreed, BotPlan, Credentials, Identity};
use crate::http::{Request, Url};
use crate::io::{BotThread, Seat};
use crate::scenario::{Door, Part};
use crate::signal::{Frame, Socket};
use crate::token::Key;
use crate::turn::{Channel, IceServer};

/// What lets bots in.
#[derive(Clone, Debug)]
pub enum Pass {
    /// A token is signed for each.
    Key(Key),
    /// All show this one.
    Token(String),
    /// They show nothing.
    None,
}

impl Pass {
    /// The token for one identity in a room.
    pub fn token(&self, room: &str, identity: &str) -> Result<Option<String>> {
        Ok(match self {
            Self::Key(key) => Some(key.join(room, identity)?),
            Self::Token(token) => Some(token.clone()),
            Self::None => None,
        })
    }
}

/// A server under load.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where signaling listens.
    pub addr: SocketAddr,
    /// What lets bots in.
    pub pass: Pass,
    /// Where to publish by WHIP: an URL with `{room}` and `{identity}`.
    pub whip: String,
    /// Where to receive by WHEP: an URL with `{room}` and `{publisher}`.
    pub whep: String,
}

impl Target {
    /// A Plenum server.
    pub fn plenum(addr: SocketAddr, pass: Pass) -> Self {
        Self {
            addr,
            pass,
            whip: format!("http://{addr}/whip/{{room}}"),
            whep: format!("http://{addr}/whep/{{room}}/{{publisher}}"),
        }
    }

    /// Where a part publishes, or receives.
    fn url(&self, part: &Part) -> Result<Url> {
        let template = if part.publishes {
            &self.whip
        } else {
            &self.whep
        };
        let url = template
            .replace("{room}", &part.room)
            .replace("{identity}", &part.identity)
            .replace("{publisher}", part.watches.as_deref().unwrap_or_default());
        // Nobody in particular: then the path ends with the room.
        Url::parse(url.trim_end_matches('/'))
    }
}

/// What a join needs beside the target.
pub struct Joiner {
    /// The server.
    pub target: Target,
    /// By which door.
    pub door: Door,
    /// The certificate of all bots.
    pub identity: Arc<Identity>,
    /// What chance is drawn from.
    pub seed: u64,
    /// Media goes through the server's TURN, over UDP.
    pub is_relayed: bool,
}

/// What keeps a bot in its room, as far as signaling goes.
pub enum Stay {
    /// A WebSocket, kept by a task.
    Native {
        /// Tells the task to leave.
        leave: oneshot::Sender<()>,
        /// The task.
        keeping: JoinHandle<()>,
    },
    /// A resource to delete.
    Http {
        /// The resource.
        url: Url,
        /// What lets the bot in.
        token: Option<String>,
    },
}

impl Joiner {
    /// Brings one bot into its room and hands it to its thread.
    pub async fn join(&self, thread: &BotThread, part: &Part, mut plan: BotPlan) -> Result<Stay> {
        let opened = Instant::now();
        let token = self.target.pass.token(&part.room, &part.identity)?;
        let credentials = Credentials::draw(self.seed << 32 | u64::from(part.number));
        let is_native = self.door == Door::Native || (part.publishes && part.receives);
        let url = if is_native {
            None
        } else {
            Some(self.target.url(part)?)
        };
        let addr = match &url {
            Some(url) => url.resolve().await?,
            None => self.target.addr,
        };
        let mut seat = thread.seat(addr.ip(), self.is_relayed)?;
        let session = sdp::Session {
            ufrag: &credentials.ufrag,
            pwd: &credentials.pwd,
            fingerprint: self.identity.fingerprint(),
            candidate: seat.local(),
        };
        let roles = plan.roles();
        let offer = sdp::write_offer(&session, &roles);
        let Joined {
            answer,
            ice_servers,
            stay,
        } = match url {
            Some(url) => post(addr, url, token, offer).await?,
            None => hello(addr, token, offer, &plan).await?,
        };
        let answer = Answer::read(&answer)?;
        expect_what_was_accepted(&mut plan, &roles, &answer);
        let remote = answer.remote(addr).context("no candidate")?;
        if self.is_relayed {
            seat = relay(seat, ice_servers, remote).await?;
        }
        let path = sfu::shard::Path::new(seat.local(), remote, sfu::shard::Protocol::Udp);
        let agreed = Agreed {
            answer,
            credentials,
            path,
            identity: self.identity.clone(),
            opened,
        };
        thread.add(plan, agreed, seat);
        Ok(stay)
    }
}

/// What a server said when it let a bot in.
struct Joined {
    answer: String,
    ice_servers: Vec<IceServer>,
    stay: Stay,
}

/// Opens a channel to the server's candidate.
async fn relay(seat: Seat, ice_servers: Vec<IceServer>, remote: SocketAddr) -> Result<Seat> {
    let server = ice_servers.into_iter().find(IceServer::is_fit);
    let server = server.context("the server names no TURN server")?;
    let Seat::Own(mut socket) = seat else {
        bail!("the bot has no socket of its own");
    };
    let open = move || {
        let channel = Channel::open(&mut socket, &server, remote)?;
        Ok(Seat::Relayed(socket, channel))
    };
    tokio::task::spawn_blocking(open).await?
}

/// `<turn:…>; rel="ice-server"; username="…"; credential="…"; credential-type="password"`
fn ice_server(link: &str) -> Option<IceServer> {
    let (url, parameters) = link.strip_prefix('<')?.split_once('>')?;
    let parameter = |name: &str| {
        let start = parameters.find(&format!("; {name}=\""))? + name.len() + 4;
        parameters
            .get(start..)?
            .split('"')
            .next()
            .map(str::to_owned)
    };
    Some(IceServer {
        url: url.to_owned(),
        username: parameter("username")?,
        credential: parameter("credential")?,
    })
}

/// A server may give fewer slots than were asked for; then fewer streams are expected.
fn expect_what_was_accepted(plan: &mut BotPlan, roles: &[sdp::Role], answer: &Answer) {
    let accepted = |wanted: &sdp::Role| {
        let mids = roles.iter().enumerate().filter(|(_, role)| *role == wanted);
        mids.filter(|(mid, _)| answer.accepted.contains(&mid.to_string()))
            .count()
    };
    let receive = &mut plan.receive;
    receive.audio = receive.audio.min(accepted(&sdp::Role::AudioSlot));
    receive.video = receive.video.min(accepted(&sdp::Role::VideoSlot));
}

async fn post(addr: SocketAddr, url: Url, token: Option<String>, offer: String) -> Result<Joined> {
    let mut request = Request::new("POST", &url.path).body("application/sdp", offer);
    if let Some(token) = &token {
        request = request.bearer(token);
    }
    let reply = request.send(addr).await?;
    ensure!(
        reply.status == 201,
        "{}: {} {}",
        url.path,
        reply.status,
        reply.body
    );
    let location = reply
        .header("location")
        .context("the answer has no Location")?;
    let resource = url.join(location)?;
    let stay = Stay::Http {
        url: resource,
        token,
    };
    let links = reply.headers.iter().filter(|(name, _)| name == "link");
    let ice_servers = links.filter_map(|(_, link)| ice_server(link)).collect();
    Ok(Joined {
        answer: reply.body,
        ice_servers,
        stay,
    })
}

async fn hello(
    addr: SocketAddr,
    token: Option<String>,
    offer: String,
    plan: &BotPlan,
) -> Result<Joined> {
    let publish: Vec<Value> = plan.publish.iter().enumerate().map(publication).collect();
    let mut hello = json!({
        "t": "hello", "v": [1], "features": ["slots"], "autoSubscribe": true,
        "sdk": { "name": "plenum-loadtest", "version": env!("CARGO_PKG_VERSION") },
        "offer": { "id": 1, "sdp": offer, "publish": publish },
    });
    if let Some(token) = token {
        hello["token"] = json!(token);
    }
    let mut socket = Socket::open(addr).await?;
    socket.send(&hello).await?;
    let welcome = match socket.next_within(PATIENCE).await? {
        Frame::Message(welcome) if welcome["t"] == "welcome" => welcome,
        other => bail!("instead of a welcome: {other:?}"),
    };
    let answer = welcome["answer"]["sdp"]
        .as_str()
        .context("the offer was refused")?;
    let answer = answer.to_owned();
    let (leave, leaving) = oneshot::channel();
    let keeping = tokio::spawn(keep(socket, leaving));
    Ok(Joined {
        answer,
        ice_servers: ice_servers(&welcome["iceServers"]),
        stay: Stay::Native { leave, keeping },
    })
}

fn ice_servers(listed: &Value) -> Vec<IceServer> {
    let mut servers = Vec::new();
    for entry in listed.as_array().into_iter().flatten() {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        for url in entry["urls"].as_array().into_iter().flatten() {
            servers.push(IceServer {
                url: url.as_str().unwrap_or_default().to_owned(),
                username: text("username"),
                credential: text("credential"),
            });
        }
    }
    servers
}

fn publication((mid, track): (usize, &crate::bot::TrackPlan)) -> Value {
    let picture = track.layers.last().map(|layer| layer.picture);
    let (width, height) = picture.map_or((0, 0), |picture| (picture.width, picture.height));
    let (source, width, height) = if track.codec.is_video() {
        ("camera", width, height)
    } else {
        ("microphone", 0, 0)
    };
    json!({
        "mid": mid.to_string(), "source": source, "name": source, "muted": false,
        "width": width, "height": height,
    })
}

/// Keeps a native session: reads what comes, pings, and says goodbye when told to.
async fn keep(mut socket: Socket, mut leaving: oneshot::Receiver<()>) {
    let mut pings = tokio::time::interval(PING_INTERVAL);
    loop {
        tokio::select! {
            skipped = socket.skip() => if !skipped { return },
            _ = pings.tick() => {
                if socket.send(&json!({ "t": "ping", "ts": 0 })).await.is_err() {
                    return;
                }
            }
            _ = &mut leaving => {
                let _ = socket.send(&json!({ "t": "leave" })).await;
                let bye = async { while socket.skip().await {} };
                let _ = tokio::time::timeout(PATIENCE, bye).await;
                return;
            }
        }
    }
}

impl Stay {
    /// Leaves in order.
    pub async fn leave(self) -> Result<()> {
        match self {
            Self::Native { leave, keeping } => {
                let _ = leave.send(());
                keeping.await.context("a session's task ended badly")
            }
            Self::Http { url, token } => {
                let mut request = Request::new("DELETE", &url.path);
                if let Some(token) = &token {
                    request = request.bearer(token);
                }
                let reply = request.send(url.resolve().await?).await?;
                ensure!(
                    reply.status / 100 == 2,
                    "DELETE: {} {}",
                    reply.status,
                    reply.body
                );
                Ok(())
            }
        }
    }
}

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
const PING_INTERVAL: Duration = Duration::from_secs(10);
