//! A media endpoint on the `webrtc` crate: publishes synthetic tracks, counts what its slots receive.
//!
//! Knows no signaling: offers come out as text and answers go in as text, whichever door carries them.

mod receive;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use rtc::data_channel::RTCDataChannelInit;
use rtc::peer_connection::configuration::RTCOfferOptions;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use webrtc::data_channel::DataChannel;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionEventHandler, RTCIceCandidateInit, RTCIceGatheringState,
    RTCPeerConnectionState, RTCSessionDescription,
};

use crate::engine;
use crate::observed::{Observed, TimedOut};
use crate::publication::{Publication, Source, TrackOptions};
use crate::reception::Reception;
use crate::wire::Wire;

/// The SRTP profile a peer is restricted to (RFC 5764, RFC 7714).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SrtpProfile {
    /// AEAD_AES_128_GCM.
    Aes128Gcm,
    /// SRTP_AES128_CM_HMAC_SHA1_80.
    Aes128CmSha1,
}

/// Over what a peer connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Network {
    /// UDP.
    #[default]
    Udp,
    /// TCP, actively opened by the peer (RFC 6544).
    Tcp,
}

/// How a peer is set up.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// The publisher's number in stamps.
    pub number: u32,
    /// What it publishes from the start.
    pub publish: Vec<TrackOptions>,
    /// Receive slots for sound.
    pub audio_slots: u16,
    /// Receive slots for pictures.
    pub video_slots: u16,
    /// Opens the data channels `reliable` and `lossy`.
    pub data_channels: bool,
    /// The only SRTP profile it knows; all of `webrtc`'s when `None`.
    pub srtp: Option<SrtpProfile>,
    /// Over what it connects.
    pub network: Network,
    /// The local address it binds.
    pub address: IpAddr,
}

impl Default for PeerOptions {
    fn default() -> Self {
        Self {
            number: 0,
            publish: Vec::new(),
            audio_slots: 3,
            video_slots: 3,
            data_channels: true,
            srtp: None,
            network: Network::Udp,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }
}

/// One data channel message as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelMessage {
    /// The label of the channel.
    pub channel: String,
    /// The whole message.
    pub bytes: Bytes,
}

/// What a peer has seen of the media so far.
#[derive(Debug)]
pub struct Media {
    /// The state of the connection.
    pub connection: RTCPeerConnectionState,
    /// All local candidates are known.
    pub gathered: bool,
    /// What each receive slot got, by mid.
    pub receptions: BTreeMap<String, Reception>,
    /// The labels of the open data channels.
    pub channels: Vec<String>,
    /// The data channel messages, in the order of arrival.
    pub messages: Vec<ChannelMessage>,
}

impl Media {
    /// Packets that came from a publisher over all slots.
    pub fn packets_from(&self, publisher: u32) -> u64 {
        self.receptions
            .values()
            .map(|reception| reception.packets_from(publisher))
            .sum()
    }
}

/// An offer as text, with the sections that publish.
#[derive(Clone, Debug)]
pub struct Offered {
    /// The SDP.
    pub sdp: String,
    /// The mid of each publication.
    pub publish: Vec<(String, Source)>,
}

/// A media endpoint.
pub struct Peer {
    /// What it has seen so far.
    pub media: Arc<Observed<Media>>,
    /// What passes between it and the network.
    pub wire: Arc<Wire>,
    publications: Vec<Publication>,
    started: usize,
    number: u32,
    network: Network,
    connection: Arc<dyn PeerConnection>,
    channels: BTreeMap<&'static str, Arc<dyn DataChannel>>,
    tasks: JoinSet<()>,
}

struct Handler {
    media: Arc<Observed<Media>>,
    tracks: mpsc::UnboundedSender<Arc<dyn TrackRemote>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.media.update(|media| media.connection = state);
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.media
            .update(|media| media.gathered = state == RTCIceGatheringState::Complete);
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let label = channel.label().await.unwrap_or_default();
        tokio::spawn(receive::receive_messages(
            label,
            channel,
            self.media.clone(),
        ));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let _ = self.tracks.send(track);
    }
}

impl Peer {
    /// Sets a peer up; nothing is sent before an answer is accepted.
    pub async fn new(options: PeerOptions) -> Result<Self> {
        let media = Arc::new(Observed::new(Media {
            connection: RTCPeerConnectionState::New,
            gathered: false,
            receptions: BTreeMap::new(),
            channels: Vec::new(),
            messages: Vec::new(),
        }));
        let wire = Arc::new(Wire::default());
        let (tracks, opened) = mpsc::unbounded_channel();
        let handler = Arc::new(Handler {
            media: media.clone(),
            tracks,
        });
        let connection = engine::connect(&options, wire.clone(), handler).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(receive::receive_tracks(
            connection.clone(),
            opened,
            media.clone(),
        ));
        let mut peer = Self {
            media,
            wire,
            publications: Vec::new(),
            started: 0,
            number: options.number,
            network: options.network,
            connection,
            channels: BTreeMap::new(),
            tasks,
        };
        for track in options.publish {
            peer.publish(track).await?;
        }
        peer.add_slots(options.audio_slots, options.video_slots)
            .await?;
        if options.data_channels {
            let lossy = RTCDataChannelInit {
                ordered: false,
                max_retransmits: Some(0),
                ..RTCDataChannelInit::default()
            };
            peer.open_channel("reliable", None).await?;
            peer.open_channel("lossy", Some(lossy)).await?;
        }
        Ok(peer)
    }

    /// Adds a track; it is sent once the next offer was answered.
    pub async fn publish(&mut self, track: TrackOptions) -> Result<()> {
        let publication = Publication::add(&*self.connection, self.number, track).await?;
        self.publications.push(publication);
        Ok(())
    }

    /// Adds receive slots; they are there once the next offer was answered.
    pub async fn add_slots(&mut self, audio: u16, video: u16) -> Result<()> {
        let audio = (0..audio).map(|_| RtpCodecKind::Audio);
        for kind in audio.chain((0..video).map(|_| RtpCodecKind::Video)) {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                streams: Vec::new(),
                send_encodings: Vec::new(),
            };
            self.connection
                .add_transceiver_from_kind(kind, Some(init))
                .await?;
        }
        Ok(())
    }

    async fn open_channel(
        &mut self,
        label: &'static str,
        init: Option<RTCDataChannelInit>,
    ) -> Result<()> {
        let channel = self.connection.create_data_channel(label, init).await?;
        self.channels.insert(label, channel.clone());
        self.tasks.spawn(receive::receive_messages(
            label.to_owned(),
            channel,
            self.media.clone(),
        ));
        Ok(())
    }

    /// The publication of a source.
    pub fn publication(&self, source: Source) -> Result<&Publication> {
        let found = self
            .publications
            .iter()
            .find(|known| known.options.source == source);
        found.with_context(|| format!("nothing published as {}", source.name()))
    }

    /// Stops sending a source: its section is inactive in the next offer.
    pub async fn retire(&self, source: Source) -> Result<()> {
        self.publication(source)?.retire().await
    }

    /// Makes the next offer; with `restart` under new ICE credentials.
    pub async fn offer(&self, restart: bool) -> Result<Offered> {
        let options = restart.then_some(RTCOfferOptions { ice_restart: true });
        let offer = self.connection.create_offer(options).await?;
        let sdp = offer.sdp.clone();
        self.connection.set_local_description(offer).await?;
        let mut publish = Vec::new();
        for publication in &self.publications {
            publish.push((publication.mid().await?, publication.options.source));
        }
        Ok(Offered { sdp, publish })
    }

    /// Takes the answer, and starts sending what was published since the last one.
    pub async fn accept(&mut self, answer: &str) -> Result<()> {
        let (answer, candidates) = match self.network {
            Network::Udp => (answer.to_owned(), Vec::new()),
            Network::Tcp => without_candidates(answer),
        };
        let answer = RTCSessionDescription::answer(answer)?;
        self.connection.set_remote_description(answer).await?;
        // `webrtc` opens a TCP connection only to a candidate that is given to it one by one.
        for candidate in candidates
            .into_iter()
            .filter(|one| one.contains("tcptype passive"))
        {
            let candidate = RTCIceCandidateInit {
                candidate,
                sdp_mid: Some(String::new()),
                sdp_mline_index: Some(0),
                ..RTCIceCandidateInit::default()
            };
            self.connection.add_ice_candidate(candidate).await?;
        }
        for publication in self.publications.iter().skip(self.started) {
            let sending = publication.sending(self.wire.clone()).await?;
            self.tasks.spawn(sending.run());
        }
        self.started = self.publications.len();
        Ok(())
    }

    /// The answer in force.
    pub async fn remote_sdp(&self) -> Option<String> {
        self.connection
            .remote_description()
            .await
            .map(|description| description.sdp)
    }

    /// The offer in force.
    pub async fn local_sdp(&self) -> Option<String> {
        self.connection
            .local_description()
            .await
            .map(|description| description.sdp)
    }

    /// Answers an offer, with all candidates: the other side of a call without a server.
    pub async fn answer(&self, offer: &str) -> Result<String> {
        let offer = RTCSessionDescription::offer(offer.to_owned())?;
        self.connection.set_remote_description(offer).await?;
        let answer = self.connection.create_answer(None).await?;
        self.connection.set_local_description(answer).await?;
        let gathered = |media: &Media| media.gathered.then_some(());
        self.media
            .until("all candidates", Duration::from_secs(5), gathered)
            .await?;
        let answer = self
            .connection
            .local_description()
            .await
            .context("no local description")?;
        Ok(answer.sdp)
    }

    /// Waits for ICE and DTLS.
    pub async fn connected(&self, within: Duration) -> Result<(), TimedOut> {
        self.media
            .until("the connection is up", within, |media| {
                (media.connection == RTCPeerConnectionState::Connected).then_some(())
            })
            .await
    }

    /// Waits for both data channels.
    pub async fn channels_open(&self, within: Duration) -> Result<(), TimedOut> {
        let wanted = self.channels.len();
        self.media
            .until("the data channels are open", within, |media| {
                (media.channels.len() == wanted).then_some(())
            })
            .await
    }

    /// Sends one message over a data channel.
    pub async fn send(&self, channel: &str, bytes: &[u8]) -> Result<()> {
        let channel = self
            .channels
            .get(channel)
            .context("there is no such channel")?;
        channel.send(BytesMut::from(bytes)).await?;
        Ok(())
    }

    /// Ends everything.
    pub async fn close(mut self) -> Result<()> {
        self.tasks.abort_all();
        self.connection.close().await?;
        Ok(())
    }
}

/// An SDP split into what is no candidate, and its candidates.
fn without_candidates(sdp: &str) -> (String, Vec<String>) {
    let mut rest = String::new();
    let mut candidates = Vec::new();
    for line in sdp.lines() {
        match line
            .strip_prefix("a=")
            .filter(|value| value.starts_with("candidate:"))
        {
            Some(candidate) => candidates.push(candidate.to_owned()),
            None => {
                rest.push_str(line);
                rest.push_str("\r\n");
            }
        }
    }
    (rest, candidates)
}
