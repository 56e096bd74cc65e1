//! Offer to answer: what a client's SDP asks for, as plain data, and the SDP we answer with.
//!
//! [`parse_offer`] turns text into a checked [`RemoteOffer`]; the peer decides a [`SectionPlan`] for each
//! of its sections; [`write_answer`] turns the plans into text. Nothing here keeps state.

mod answer;
mod codecs;
mod extensions;
mod offer;

use std::net::SocketAddr;

pub(crate) use self::answer::{ice_fragment, write_answer};
#[cfg(test)]
pub(crate) use self::codecs::Feedback;
pub(crate) use self::codecs::{Format, NegotiatedCodec, choose_codecs, map_codec};
pub(crate) use self::extensions::{Extension, negotiated_extensions};
pub(crate) use self::offer::parse_offer;
use super::dtls::{DtlsRole, Fingerprint};
pub(crate) use super::ice::Credentials;
use crate::ids::{Mid, Rid, Ssrc};
use crate::sfu::Kind;

/// A client's offer, checked and within limits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RemoteOffer {
    /// Of the one bundled transport.
    pub(crate) ice: Credentials,
    /// Of the certificate the client will show.
    pub(crate) fingerprint: Fingerprint,
    /// Which DTLS roles the client leaves us.
    pub(crate) setup: Setup,
    /// In the order of the offer; the answer has exactly these.
    pub(crate) sections: Vec<Section>,
    /// Both header extension forms may be mixed in one stream (RFC 8285 §6), said for the session.
    pub(crate) extmap_allow_mixed: bool,
    /// The sections of the bundle, in the order of the group; at least one.
    pub(crate) bundle: Vec<Mid>,
}

impl RemoteOffer {
    /// The role we take: client only for clients that insist on being the server.
    pub(crate) fn our_role(&self) -> DtlsRole {
        match self.setup {
            Setup::ActPass | Setup::Active => DtlsRole::Passive,
            Setup::Passive => DtlsRole::Active,
        }
    }
}

/// The offered `a=setup` (RFC 8842 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    ActPass,
    Active,
    Passive,
}

/// One m-line and its attributes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Section {
    pub(crate) mid: Mid,
    pub(crate) kind: SectionKind,
    /// As the client sees it: `SendOnly` publishes.
    pub(crate) direction: Direction,
    /// Switched off with port 0, or outside the bundle, where we have no transport for it.
    pub(crate) rejected: bool,
    /// The payload types of formats we know, in the client's order.
    pub(crate) codecs: Vec<NegotiatedCodec>,
    /// The header extensions we know, by id, without those that only apply to the other direction.
    pub(crate) extensions: Vec<(u8, Extension)>,
    /// What the client says it sends with, in the order of its lines.
    pub(crate) sources: Vec<OfferedSource>,
    /// What the client sends as simulcast, in the order of `a=simulcast:send`, else of `a=rid`.
    pub(crate) rids: Vec<Rid>,
    /// An `a=simulcast:send` line was there.
    pub(crate) simulcast: bool,
    /// Reduced-size RTCP (RFC 5506).
    pub(crate) rtcp_rsize: bool,
    /// As in [`RemoteOffer`], said for this section.
    pub(crate) extmap_allow_mixed: bool,
    /// What the m-line says, for the answer's m-line.
    line: MediaLine,
}

/// What a section carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SectionKind {
    Media(Kind),
    /// Data channels (RFC 8841): the client's SCTP port, and the longest message it takes.
    Data {
        sctp_port: u16,
        max_message_bytes: u32,
    },
    /// Something we always reject.
    Unknown,
}

/// A media direction as the client sees it (RFC 8866 §6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    SendOnly,
    RecvOnly,
    SendRecv,
    Inactive,
}

impl Direction {
    /// The client wants to publish.
    pub(crate) fn sends(self) -> bool {
        matches!(self, Self::SendOnly | Self::SendRecv)
    }

    /// The client wants to receive.
    pub(crate) fn receives(self) -> bool {
        matches!(self, Self::RecvOnly | Self::SendRecv)
    }
}

/// An SSRC the client announced, with its retransmission SSRC (RFC 5576).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OfferedSource {
    pub(crate) ssrc: Ssrc,
    pub(crate) rtx: Option<Ssrc>,
    pub(crate) cname: Option<String>,
}

/// `m=<media> <port> <protocol> <formats>`, without the port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MediaLine {
    media: String,
    protocol: String,
    formats: Vec<String>,
}

/// What becomes of one section in the answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SectionPlan {
    /// Port 0, outside the bundle.
    Reject,
    /// Kept, with its codecs, but nothing flows; rejected when there is no codec in common.
    Inactive,
    /// We receive.
    Publish {
        /// From [`choose_codecs`]; not empty.
        codecs: Vec<NegotiatedCodec>,
    },
    /// We send.
    Slot(SlotPlan),
    /// Data channels.
    Data,
}

/// A receive slot: what we may send on it and the fixed names we send it under.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SlotPlan {
    /// From [`choose_codecs`]; not empty.
    pub(crate) codecs: Vec<NegotiatedCodec>,
    pub(crate) media: Ssrc,
    pub(crate) rtx: Option<Ssrc>,
    pub(crate) cname: String,
    /// Shared by an audio slot and a video slot for lip sync (`a=msid`, RFC 8830).
    pub(crate) stream: String,
    pub(crate) track: String,
}

/// Our side of the one transport.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalTransport<'a> {
    pub(crate) ice: &'a Credentials,
    pub(crate) fingerprint: &'a Fingerprint,
    pub(crate) role: DtlsRole,
    /// Host candidates, best first: some clients (ffmpeg) try no other.
    pub(crate) udp: &'a [SocketAddr],
    /// Passive ICE-TCP candidates (RFC 6544), in the same order.
    pub(crate) tcp: &'a [SocketAddr],
    /// Session id and version of the `o=` line: fixed for a session, one more for each answer.
    pub(crate) session: u64,
    pub(crate) version: u64,
}

/// The longest data channel message we take, in bytes, as `a=max-message-size` says it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The SCTP port on our side (RFC 8841 §5).
pub(crate) const SCTP_PORT: u16 = 5000;

#[cfg(test)]
mod tests;
