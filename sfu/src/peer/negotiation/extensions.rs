//! RTP header extensions: the closed list we know and which of them each kind of section uses.

use super::{Section, SectionKind, SectionPlan};
use crate::sfu::Kind;

/// A header extension we know (RFC 8285).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Extension {
    /// RFC 9143 §14.
    Mid,
    /// RFC 8852 §3.1.
    Rid,
    /// RFC 8852 §3.2.
    RepairedRid,
    /// RFC 6464.
    AudioLevel,
    /// 24 bits of send time, for REMB.
    AbsSendTime,
    /// draft-holmer-rmcat-transport-wide-cc-extensions-01.
    TransportWide,
    /// AOMedia AV1 RTP payload format, appendix A.
    DependencyDescriptor,
    /// Least and most delay before a frame is shown.
    PlayoutDelay,
    /// When a frame was captured, in NTP time.
    AbsCaptureTime,
    /// Rotation (3GPP TS 26.114); known, never negotiated: senders then rotate the picture itself.
    VideoOrientation,
}

impl Extension {
    const ALL: [Self; 10] = [
        Self::Mid,
        Self::Rid,
        Self::RepairedRid,
        Self::AudioLevel,
        Self::AbsSendTime,
        Self::TransportWide,
        Self::DependencyDescriptor,
        Self::PlayoutDelay,
        Self::AbsCaptureTime,
        Self::VideoOrientation,
    ];

    /// The name it has in `a=extmap`.
    pub(crate) const fn uri(self) -> &'static str {
        match self {
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Self::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Self::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Self::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Self::TransportWide => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
            Self::DependencyDescriptor => {
                "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
            }
            Self::PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
            Self::AbsCaptureTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
            Self::VideoOrientation => "urn:3gpp:video-orientation",
        }
    }

    /// The extension named `uri`.
    pub(crate) fn from_uri(uri: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|extension| extension.uri() == uri)
    }

    fn is_for_publish(self, kind: Kind) -> bool {
        match self {
            Self::Mid | Self::AbsSendTime | Self::TransportWide | Self::AbsCaptureTime => true,
            Self::AudioLevel => kind == Kind::Audio,
            Self::Rid | Self::RepairedRid | Self::DependencyDescriptor => kind == Kind::Video,
            Self::PlayoutDelay | Self::VideoOrientation => false,
        }
    }

    fn is_for_slot(self, kind: Kind) -> bool {
        match self {
            Self::Mid | Self::AbsSendTime | Self::TransportWide => true,
            Self::AudioLevel => kind == Kind::Audio,
            Self::DependencyDescriptor | Self::PlayoutDelay => kind == Kind::Video,
            Self::Rid | Self::RepairedRid | Self::AbsCaptureTime | Self::VideoOrientation => false,
        }
    }
}

/// The extensions of a section once answered by `plan`, with the ids the client gave them.
///
/// Ids above 14 exist in the two-byte form only (RFC 8285 §4.2) and are left out.
pub(crate) fn negotiated_extensions(section: &Section, plan: &SectionPlan) -> Vec<(u8, Extension)> {
    let SectionKind::Media(kind) = section.kind else {
        return Vec::new();
    };
    let wanted = |extension: Extension| match plan {
        SectionPlan::Publish { .. } => extension.is_for_publish(kind),
        SectionPlan::Slot(_) => extension.is_for_slot(kind),
        SectionPlan::Reject | SectionPlan::Inactive | SectionPlan::Data => false,
    };
    let in_one_byte_form = |id: u8| (1..=14).contains(&id);
    section
        .extensions
        .iter()
        .copied()
        .filter(|&(id, extension)| in_one_byte_form(id) && wanted(extension))
        .collect()
}
