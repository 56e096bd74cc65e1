//! A running server, its key, and what every test asks of its participants.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loadtest::client::PATIENCE;
use loadtest::http::Request;
use loadtest::peer::Media;
use loadtest::token::Key;
use loadtest::{JoinOptions, Participant, Peer, Reception, Source, TrackOptions};
use serde_json::Value;
use signaling::config::{Config, Secret};

/// The room most tests play in.
pub(crate) const ROOM: &str = "stage";

/// A running server.
pub(crate) struct Stage {
    server: signaling::Server,
    /// Where its HTTP listens.
    pub(crate) addr: SocketAddr,
    /// Its only API key.
    pub(crate) key: Key,
}

impl Stage {
    /// Starts a server on ports the system chooses.
    pub(crate) async fn open() -> Result<Self> {
        Self::open_with(|_| {}).await
    }

    /// The same with a changed configuration.
    pub(crate) async fn open_with(change: impl FnOnce(&mut Config)) -> Result<Self> {
        let key = Key {
            id: "e2e".to_owned(),
            secret: "a secret of more than 32 bytes...".to_owned(),
        };
        let mut config = Config::default();
        config.http.addr = SocketAddr::from(([127, 0, 0, 1], 0));
        config.media.udp_port = 0;
        config.media.tcp_port = 0;
        config.media.shards = 1;
        config.turn.port = 0;
        config.media.advertise = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        config
            .auth
            .keys
            .insert(key.id.clone(), Secret::new(&key.secret));
        change(&mut config);
        let server = signaling::Server::start(&config).await?;
        let addr = server.addr();
        Ok(Self { server, addr, key })
    }

    /// What the server has counted, as of a second ago.
    pub(crate) async fn metrics(&self) -> Result<String> {
        Ok(Request::new("GET", "/metrics").send(self.addr).await?.body)
    }

    /// Joins the room, able to do everything.
    pub(crate) async fn join(&self, identity: &str, options: JoinOptions) -> Result<Participant> {
        let token = self.key.join(ROOM, identity)?;
        let joined = Participant::join(self.addr, &token, identity, options).await;
        joined.with_context(|| format!("{identity} joins"))
    }

    /// Joins with a camera and a microphone.
    pub(crate) async fn join_talking(&self, identity: &str) -> Result<Participant> {
        self.join(identity, JoinOptions::publishing(talking()))
            .await
    }

    /// Joins publishing nothing.
    pub(crate) async fn join_watching(&self, identity: &str) -> Result<Participant> {
        self.join(identity, JoinOptions::default()).await
    }

    /// Two participants who see and hear each other already.
    pub(crate) async fn bystanders(&self) -> Result<Bystanders> {
        let (one, other) = (
            self.join_talking("one").await?,
            self.join_talking("other").await?,
        );
        let bystanders = Bystanders { one, other };
        sees(&bystanders.one, &bystanders.other, Source::Camera, 20).await?;
        sees(&bystanders.other, &bystanders.one, Source::Camera, 20).await?;
        Ok(bystanders)
    }

    /// Ends the server.
    pub(crate) async fn close(self) {
        self.server.shutdown().await;
    }
}

/// A camera and a microphone.
pub(crate) fn talking() -> Vec<TrackOptions> {
    vec![TrackOptions::camera(), TrackOptions::microphone()]
}

/// Two participants whom nothing must disturb.
pub(crate) struct Bystanders {
    pub(crate) one: Participant,
    pub(crate) other: Participant,
}

impl Bystanders {
    /// Media still flows both ways, and all of it that ever came was as sent.
    pub(crate) async fn undisturbed(&self) -> Result<()> {
        for (listener, speaker) in [(&self.one, &self.other), (&self.other, &self.one)] {
            listener.hears(speaker.number, 150).await?;
            intact(listener).await?;
            let longest = |media: &Media| media.receptions.values().map(|one| one.pause_max).max();
            let pause = listener.peer.media.read(longest).unwrap_or_default();
            ensure!(
                pause < Duration::from_secs(3),
                "{} heard nothing for {pause:?}",
                listener.identity
            );
            let closed = listener.room.read(|room| room.closed);
            ensure!(closed.is_none(), "{} lost its session", listener.identity);
        }
        Ok(())
    }
}

/// The id of somebody's track, once `viewer` knows of it.
pub(crate) async fn track_of(
    viewer: &Participant,
    identity: &str,
    source: Source,
) -> Result<String> {
    let track = viewer.until_room("the track is known", |room| {
        room.track(identity, source.name())
            .map(|(id, _)| id.clone())
    });
    Ok(track.await?)
}

/// Waits until `viewer` got `packets` more of somebody's track, in the slot that is said to carry it.
pub(crate) async fn sees(
    viewer: &Participant,
    of: &Participant,
    source: Source,
    packets: u64,
) -> Result<String> {
    let track = track_of(viewer, &of.identity, source).await?;
    let mid = viewer
        .until_room("a slot carries the track", |room| {
            room.slot_of(&track).cloned()
        })
        .await?;
    let count = |media: &Media| {
        media
            .receptions
            .get(&mid)
            .map_or(0, |reception| reception.packets_from(of.number))
    };
    let before = viewer.peer.media.read(count);
    let enough = |media: &Media| (count(media) >= before + packets).then_some(());
    let arrived = viewer
        .peer
        .media
        .until("packets in the slot", PATIENCE, enough)
        .await;
    let seen = viewer
        .peer
        .media
        .read(|media| format!("{:?}", media.receptions.get(&mid)));
    arrived.with_context(|| {
        format!(
            "{} sees {} of {} in {mid}: {seen}",
            viewer.identity,
            source.name(),
            of.identity
        )
    })?;
    Ok(mid)
}

/// What a slot got so far.
pub(crate) fn reception(viewer: &Participant, mid: &str) -> Reception {
    viewer
        .peer
        .media
        .read(|media| media.receptions.get(mid).cloned().unwrap_or_default())
}

/// Everything that came was as sent, once, in order, and what was lost on the way was sent again.
pub(crate) async fn intact(viewer: &Participant) -> Result<()> {
    flawless(&viewer.peer)
        .await
        .with_context(|| format!("at {}", viewer.identity))
}

/// What came was as sent, once, in order; some of it may be missing.
pub(crate) fn clean(viewer: &Participant) -> Result<()> {
    viewer.peer.media.read(|media| {
        for (mid, reception) in &media.receptions {
            ensure!(
                reception.is_clean(),
                "slot {mid} of {}: {reception:?}",
                viewer.identity
            );
        }
        Ok(())
    })
}

/// The same for a peer without a session.
pub(crate) async fn flawless(peer: &Peer) -> Result<()> {
    let whole = |media: &Media| {
        media
            .receptions
            .values()
            .all(|one| one.gaps() == 0)
            .then_some(())
    };
    let whole = peer
        .media
        .until("all holes are filled", PATIENCE, whole)
        .await;
    peer.media.read(|media| {
        for (mid, reception) in &media.receptions {
            ensure!(
                whole.is_ok() && reception.is_clean(),
                "slot {mid}: {reception:?}"
            );
        }
        Ok(())
    })
}

/// Packets of `source` stop: none comes while 40 of the other kind do.
pub(crate) async fn silent(
    viewer: &Participant,
    mid: &str,
    (of, clock): (&Participant, &str),
) -> Result<()> {
    let ticks = |media: &Media| {
        media
            .receptions
            .get(clock)
            .map_or(0, |reception| reception.packets_from(of.number))
    };
    // What was under way when the switch was told may still arrive.
    let mut counts = Vec::new();
    for packets in [15, 40] {
        let before = viewer.peer.media.read(ticks);
        let more = |media: &Media| (ticks(media) >= before + packets).then_some(());
        viewer
            .peer
            .media
            .until("the clock track flows", PATIENCE, more)
            .await?;
        counts.push(reception(viewer, mid).packets);
    }
    ensure!(
        counts.first() == counts.last(),
        "packets still come in slot {mid}: {counts:?}"
    );
    Ok(())
}

/// The code of a refusal.
pub(crate) fn refusal<T>(result: Result<T>) -> Result<String> {
    let Err(error) = result else {
        anyhow::bail!("it was not refused")
    };
    let refused = error.downcast::<loadtest::client::Refused>()?;
    Ok(refused.code)
}

/// A JSON object as the tests write it.
pub(crate) fn view(width: u16, height: u16) -> Value {
    serde_json::json!({ "w": width, "h": height })
}
