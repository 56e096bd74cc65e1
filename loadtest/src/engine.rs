//! How the `webrtc` connection of a peer is set up: codecs, header extensions, profiles, sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use rtc::ice::network_type::NetworkType;
use rtc::interceptor::Slot;
use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_AV1, MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_RTX, MIME_TYPE_VP8,
};
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCConfigurationBuilder, Registry, SettingEngine, SettingEngineBuilder, SrtpProtectionProfile,
    configure_nack, configure_rtcp_reports, configure_simulcast_extension_headers, configure_twcc,
};

use crate::media::Codec;
use crate::peer::{Network, PeerOptions, SrtpProfile};
use crate::wire::{self, Watcher, Wire};

/// RFC 6464.
pub(crate) const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
/// RFC 9143 §15.
pub(crate) const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
/// RFC 8852.
pub(crate) const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";

/// A codec as it stands in our offers.
pub(crate) fn codec(codec: Codec) -> RTCRtpCodec {
    let (mime_type, clock_rate, channels, fmtp) = match codec {
        Codec::Opus => (MIME_TYPE_OPUS, 48_000, 2, "minptime=10;useinbandfec=1"),
        Codec::Vp8 => (MIME_TYPE_VP8, 90_000, 0, ""),
        Codec::H264 => (
            MIME_TYPE_H264,
            90_000,
            0,
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        ),
        Codec::Av1 => (MIME_TYPE_AV1, 90_000, 0, "level-idx=5;profile=0;tier=0"),
    };
    let feedback = |typ: &str, parameter: &str| RTCPFeedback {
        typ: typ.to_owned(),
        parameter: parameter.to_owned(),
    };
    let rtcp_feedback = if codec.is_video() {
        vec![
            feedback("goog-remb", ""),
            feedback("ccm", "fir"),
            feedback("nack", ""),
            feedback("nack", "pli"),
        ]
    } else {
        Vec::new()
    };
    RTCRtpCodec {
        mime_type: mime_type.to_owned(),
        clock_rate,
        channels,
        sdp_fmtp_line: fmtp.to_owned(),
        rtcp_feedback,
    }
}

fn media_engine() -> Result<MediaEngine> {
    let mut engine = MediaEngine::default();
    for kind in [Codec::Opus, Codec::Vp8, Codec::H264, Codec::Av1] {
        let of = if kind.is_video() {
            RtpCodecKind::Video
        } else {
            RtpCodecKind::Audio
        };
        let payload_type = kind.payload_type();
        engine.register_codec(
            RTCRtpCodecParameters {
                rtp_codec: codec(kind),
                payload_type,
            },
            of,
        )?;
        if let Some(rtx) = kind.rtx_payload_type() {
            let rtp_codec = RTCRtpCodec {
                mime_type: MIME_TYPE_RTX.to_owned(),
                clock_rate: 90_000,
                channels: 0,
                sdp_fmtp_line: format!("apt={payload_type}"),
                rtcp_feedback: Vec::new(),
            };
            let payload_type = rtx;
            engine.register_codec(
                RTCRtpCodecParameters {
                    rtp_codec,
                    payload_type,
                },
                of,
            )?;
        }
    }
    for uri in [MID, AUDIO_LEVEL] {
        let capability = RTCRtpHeaderExtensionCapability {
            uri: uri.to_owned(),
        };
        engine.register_header_extension(capability, RtpCodecKind::Audio, None)?;
    }
    configure_simulcast_extension_headers(&mut engine)?;
    Ok(engine)
}

fn setting_engine(options: &PeerOptions) -> SettingEngine {
    let mut settings = SettingEngineBuilder::new().with_include_loopback_candidate(true);
    if let Some(profile) = options.srtp {
        settings = settings.with_srtp_protection_profiles(vec![match profile {
            SrtpProfile::Aes128Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            SrtpProfile::Aes128CmSha1 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        }]);
    }
    if options.network == Network::Tcp {
        settings = settings.with_network_types(vec![NetworkType::Tcp4, NetworkType::Tcp6]);
    }
    settings.build()
}

/// Builds the connection and starts its driver.
pub(crate) async fn connect(
    options: &PeerOptions,
    wire: Arc<Wire>,
    handler: Arc<dyn PeerConnectionEventHandler>,
) -> Result<Arc<dyn PeerConnection>> {
    let mut media = media_engine()?;
    let registry = configure_nack(Registry::new(), &mut media);
    let registry = configure_rtcp_reports(configure_twcc(registry, &mut media)?);
    let registry = registry.with(Slot::from(wire::SLOT), Watcher::new(wire));
    let local = vec![SocketAddr::new(options.address, 0)];
    let builder = PeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::new().build())
        .with_media_engine(media)
        .with_setting_engine(setting_engine(options))
        .with_interceptor_registry(registry)
        .with_handler(handler);
    let builder = match options.network {
        Network::Udp => builder.with_udp_addrs(local),
        Network::Tcp => builder.with_tcp_addrs(local),
    };
    Ok(Arc::new(builder.build().await?))
}
