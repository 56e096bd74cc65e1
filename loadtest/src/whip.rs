//! Publishing by WHIP (RFC 9725) and receiving by WHEP: one HTTP exchange, then media.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::http::{Reply, Request};
use crate::peer::{Peer, PeerOptions};

/// A refusal of a WHIP or WHEP request.
#[derive(Debug, thiserror::Error)]
#[error("{} {}", .0.status, .0.body)]
pub struct Refused(pub Reply);

/// A publisher that came by WHIP.
pub struct Whip {
    /// Its media.
    pub peer: Peer,
    resource: Resource,
}

/// A receiver that came by WHEP.
pub struct Whep {
    /// Its media.
    pub peer: Peer,
    resource: Resource,
}

struct Resource {
    server: SocketAddr,
    location: String,
    token: String,
    etag: Option<String>,
}

impl Whip {
    /// Publishes into `room`.
    pub async fn publish(
        server: SocketAddr,
        room: &str,
        token: &str,
        options: PeerOptions,
    ) -> Result<Self> {
        let options = PeerOptions {
            audio_slots: 0,
            video_slots: 0,
            data_channels: false,
            ..options
        };
        let path = format!("/whip/{room}");
        let (peer, resource) = open(server, path, token, options).await?;
        Ok(Self { peer, resource })
    }

    /// Restarts ICE by PATCH; returns the server's fragment.
    pub async fn restart_ice(&mut self, ufrag: &str, pwd: &str) -> Result<Reply> {
        self.resource.restart_ice(ufrag, pwd).await
    }

    /// Ends by DELETE.
    pub async fn close(self) -> Result<Reply> {
        // First the DELETE: the end of the media would end the session by itself.
        let reply = self.resource.delete().await?;
        self.peer.close().await?;
        Ok(reply)
    }
}

impl Whep {
    /// Receives the program of `room`, or one participant of it by `room/identity`.
    pub async fn receive(
        server: SocketAddr,
        of: &str,
        token: &str,
        options: PeerOptions,
    ) -> Result<Self> {
        let options = PeerOptions {
            audio_slots: 1,
            video_slots: 1,
            data_channels: false,
            publish: Vec::new(),
            ..options
        };
        let path = format!("/whep/{of}");
        let (peer, resource) = open(server, path, token, options).await?;
        Ok(Self { peer, resource })
    }

    /// Ends by DELETE.
    pub async fn close(self) -> Result<Reply> {
        // First the DELETE: the end of the media would end the session by itself.
        let reply = self.resource.delete().await?;
        self.peer.close().await?;
        Ok(reply)
    }
}

async fn open(
    server: SocketAddr,
    path: String,
    token: &str,
    options: PeerOptions,
) -> Result<(Peer, Resource)> {
    let mut peer = Peer::new(options).await?;
    let offer = peer.offer(false).await?;
    let request = Request::new("POST", path)
        .bearer(token)
        .body("application/sdp", offer.sdp);
    let reply = request.send(server).await?;
    if reply.status != 201 {
        return Err(Refused(reply).into());
    }
    ensure!(
        reply.header("content-type") == Some("application/sdp"),
        "the answer is not SDP"
    );
    let location = reply
        .header("location")
        .context("the answer has no Location")?
        .to_owned();
    let etag = reply.header("etag").map(str::to_owned);
    peer.accept(&reply.body).await?;
    peer.connected(Duration::from_secs(10)).await?;
    Ok((
        peer,
        Resource {
            server,
            location,
            token: token.to_owned(),
            etag,
        },
    ))
}

impl Resource {
    async fn restart_ice(&mut self, ufrag: &str, pwd: &str) -> Result<Reply> {
        let fragment = format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n");
        let reply = Request::new("PATCH", &*self.location)
            .bearer(&self.token)
            .header("if-match", "*")
            .body("application/trickle-ice-sdpfrag", fragment)
            .send(self.server)
            .await?;
        if let Some(etag) = reply.header("etag") {
            self.etag = Some(etag.to_owned());
        }
        Ok(reply)
    }

    async fn delete(self) -> Result<Reply> {
        Request::new("DELETE", self.location)
            .bearer(&self.token)
            .send(self.server)
            .await
    }
}
