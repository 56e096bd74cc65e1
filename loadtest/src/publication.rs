//! One published track: its layers, the task that sends them, and what can be changed meanwhile.

mod sending;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use anyhow::{Context, Result};
use rtc::media_stream::MediaStreamTrack;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpRtxParameters, RtpCodecKind,
};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::PeerConnection;
use webrtc::rtp_transceiver::RtpTransceiver;

use crate::engine::{self, AUDIO_LEVEL, MID, RID};
use crate::media::{Codec, Encoder, Picture};
use crate::wire::Wire;

pub(crate) use sending::Sending;

/// The rids of the layers of a simulcast track, lowest first.
pub const RIDS: [&str; 3] = ["q", "h", "f"];

/// What a track shows or plays, as the protocol names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A camera.
    Camera,
    /// A microphone.
    Microphone,
    /// A shared screen.
    ScreenShare,
}

impl Source {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Camera => "camera",
            Self::Microphone => "microphone",
            Self::ScreenShare => "screen_share",
        }
    }

    /// The index in stamps.
    pub const fn index(self) -> u8 {
        match self {
            Self::Camera => 0,
            Self::Microphone => 1,
            Self::ScreenShare => 2,
        }
    }
}

/// A track to publish.
#[derive(Clone, Debug)]
pub struct TrackOptions {
    /// What it shows.
    pub source: Source,
    /// As what it is sent.
    pub codec: Codec,
    /// Its pictures, lowest layer first; one for a track without simulcast, three with.
    pub layers: Vec<Picture>,
    /// Frames between keyframes nobody asked for; 0 means only the first and those asked for.
    pub keyframe_every: u32,
}

impl TrackOptions {
    /// A VP8 camera without simulcast, a keyframe only when asked for.
    pub fn camera() -> Self {
        Self {
            source: Source::Camera,
            codec: Codec::Vp8,
            layers: vec![Picture::HIGH],
            keyframe_every: 0,
        }
    }

    /// A VP8 camera of three layers.
    pub fn simulcast() -> Self {
        let layers = vec![Picture::LOW, Picture::MIDDLE, Picture::HIGH];
        Self {
            layers,
            ..Self::camera()
        }
    }

    /// An Opus microphone.
    pub fn microphone() -> Self {
        Self {
            source: Source::Microphone,
            codec: Codec::Opus,
            ..Self::camera()
        }
    }

    /// A shared screen.
    pub fn screen() -> Self {
        Self {
            source: Source::ScreenShare,
            ..Self::camera()
        }
    }

    /// The same track in another codec.
    #[must_use]
    pub fn codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }
}

/// What can be told to a publication while it sends.
#[derive(Debug)]
pub struct Controls {
    paused: AtomicBool,
    stopped_layers: AtomicU8,
    audio_level: AtomicU8,
    frames: AtomicU64,
    failures: AtomicU64,
}

impl Controls {
    /// Stops or resumes sending.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// Sends only these layers from now on.
    pub fn send_layers(&self, layers: &[u8]) {
        let sent = layers.iter().fold(0_u8, |mask, layer| mask | 1 << layer);
        self.stopped_layers.store(!sent, Ordering::Relaxed);
    }

    /// The loudness in the audio level extension: 0 (loudest) to 127 (silence), in -dBov.
    pub fn set_audio_level(&self, level: u8) {
        self.audio_level.store(level.min(127), Ordering::Relaxed);
    }

    /// Frames sent so far, all layers together as one.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Packets the connection did not take.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

/// One track being published.
pub struct Publication {
    /// What it is.
    pub options: TrackOptions,
    /// What can be told to it.
    pub controls: Arc<Controls>,
    transceiver: Arc<dyn RtpTransceiver>,
    track: Arc<TrackLocalStaticRTP>,
    layers: Vec<Layer>,
}

#[derive(Clone, Debug)]
struct Layer {
    ssrc: u32,
    rid: Option<&'static str>,
    encoder: Encoder,
    sequence: u16,
    timestamp: u32,
}

impl Publication {
    /// Adds a sending section for the track to `connection`.
    pub(crate) async fn add(
        connection: &dyn PeerConnection,
        publisher: u32,
        options: TrackOptions,
    ) -> Result<Self> {
        let layers = layers(publisher, &options);
        let kind = if options.codec.is_video() {
            RtpCodecKind::Video
        } else {
            RtpCodecKind::Audio
        };
        let name = options.source.name();
        let track = Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
            format!("stream-{publisher}"),
            format!("{name}-{publisher}"),
            name.to_owned(),
            kind,
            layers
                .iter()
                .map(|layer| encoding(layer, options.codec))
                .collect(),
        )));
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Sendonly,
            streams: Vec::new(),
            send_encodings: Vec::new(),
        };
        let local: Arc<dyn TrackLocal> = track.clone();
        let transceiver = connection
            .add_transceiver_from_track(local, Some(init))
            .await?;
        let controls = Arc::new(Controls {
            paused: AtomicBool::new(false),
            stopped_layers: AtomicU8::new(0),
            audio_level: AtomicU8::new(30),
            frames: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        Ok(Self {
            options,
            controls,
            transceiver,
            track,
            layers,
        })
    }

    /// The section that sends it, once an offer was made.
    pub async fn mid(&self) -> Result<String> {
        self.transceiver
            .mid()
            .await?
            .context("the section has no mid yet")
    }

    /// Stops sending for good: the section becomes inactive in the next offer.
    pub(crate) async fn retire(&self) -> Result<()> {
        self.controls.pause(true);
        self.transceiver
            .set_direction(RTCRtpTransceiverDirection::Inactive)
            .await?;
        Ok(())
    }

    /// The task that sends it, to be started once the offer was answered.
    pub(crate) async fn sending(&self, wire: Arc<Wire>) -> Result<Sending> {
        let sender = self
            .transceiver
            .sender()
            .await?
            .context("the section does not send")?;
        let parameters = sender.get_parameters().await?.rtp_parameters;
        let id = |uri: &str| {
            let found = parameters
                .header_extensions
                .iter()
                .find(|known| known.uri == uri);
            found.and_then(|known| u8::try_from(known.id).ok())
        };
        Ok(Sending {
            mid: self.mid().await?,
            ids: (id(MID), id(RID), id(AUDIO_LEVEL)),
            options: self.options.clone(),
            controls: self.controls.clone(),
            track: self.track.clone(),
            layers: self.layers.clone(),
            wire,
        })
    }
}

fn layers(publisher: u32, options: &TrackOptions) -> Vec<Layer> {
    let source = options.source.index();
    let simulcast = options.layers.len() > 1;
    let base = publisher.wrapping_mul(0x9e37_79b9) ^ u32::from(source) << 8;
    let layers = (0_u8..).zip(&options.layers).zip(RIDS);
    layers
        .map(|((index, picture), rid)| {
            let ssrc = base.wrapping_add(u32::from(index)) | 1 << 30;
            Layer {
                ssrc: ssrc.wrapping_mul(2) | 1,
                rid: simulcast.then_some(rid),
                encoder: Encoder::new(options.codec, *picture, (publisher, source, index)),
                // Near the wrap, so that every run crosses it; layers differ in both clocks.
                sequence: 65_500_u16.wrapping_sub(u16::from(index) * 7),
                timestamp: u32::MAX - 90_000 - u32::from(index) * 12_345,
            }
        })
        .collect()
}

fn encoding(layer: &Layer, codec: Codec) -> RTCRtpEncodingParameters {
    // With rids the RTX source is not announced, and `webrtc` cannot mark it with a repaired rid;
    // lost packets of such layers are then sent again as they were.
    let rtx = (codec.is_video() && layer.rid.is_none()).then_some(RTCRtpRtxParameters {
        ssrc: layer.ssrc.wrapping_add(1),
    });
    RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            rid: layer.rid.unwrap_or_default().into(),
            ssrc: Some(layer.ssrc),
            rtx,
            fec: None,
        },
        active: true,
        codec: engine::codec(codec),
        ..RTCRtpEncodingParameters::default()
    }
}
