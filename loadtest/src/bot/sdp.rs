//! SDP of a bot: the offer it writes, in the form browsers give it, and what it reads in the answer.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::media::Codec;

/// What a bot does with one m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Publishes a track of this codec.
    Publish {
        /// As what it is sent.
        codec: Codec,
        /// Of its simulcast layers, lowest first; empty without simulcast.
        rids: Vec<&'static str>,
        /// Its source and that of its retransmissions; announced without simulcast only.
        ssrcs: (u32, u32),
    },
    /// Receives sound.
    AudioSlot,
    /// Receives pictures.
    VideoSlot,
}

impl Role {
    fn is_audio(&self) -> bool {
        match self {
            Self::Publish { codec, .. } => !codec.is_video(),
            Self::AudioSlot => true,
            Self::VideoSlot => false,
        }
    }
}

/// What all m-lines share.
#[derive(Clone, Debug)]
pub struct Session<'a> {
    /// Our ICE credentials.
    pub ufrag: &'a str,
    /// Their password.
    pub pwd: &'a str,
    /// SHA-256 of our certificate, as SDP writes it.
    pub fingerprint: &'a str,
    /// Where we can be reached.
    pub candidate: SocketAddr,
}

/// Ids of header extensions in our offers.
pub(super) const AUDIO_LEVEL: u8 = 1;
pub(super) const TRANSPORT_WIDE: u8 = 3;
pub(super) const MID: u8 = 4;
pub(super) const RID: u8 = 10;
pub(super) const REPAIRED_RID: u8 = 11;

const TRANSPORT_WIDE_URI: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// Writes the offer; the mid of an m-line is its place.
pub fn write_offer(session: &Session<'_>, roles: &[Role]) -> String {
    let mut sdp = String::from("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE");
    for mid in 0..roles.len() {
        let _ = write!(sdp, " {mid}");
    }
    sdp.push_str("\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS *\r\n");
    for (mid, role) in roles.iter().enumerate() {
        write_section(&mut sdp, session, mid, role);
    }
    sdp
}

fn write_section(sdp: &mut String, session: &Session<'_>, mid: usize, role: &Role) {
    let codecs: &[Codec] = match role {
        Role::Publish { codec, .. } => &[*codec],
        Role::AudioSlot => &[Codec::Opus],
        Role::VideoSlot => &[Codec::Vp8, Codec::H264, Codec::Av1],
    };
    let kind = if role.is_audio() { "audio" } else { "video" };
    let _ = write!(sdp, "m={kind} 9 UDP/TLS/RTP/SAVPF");
    for codec in codecs {
        let _ = write!(sdp, " {}", codec.payload_type());
        if let Some(rtx) = codec.rtx_payload_type() {
            let _ = write!(sdp, " {rtx}");
        }
    }
    let Session {
        ufrag,
        pwd,
        fingerprint,
        candidate,
    } = session;
    let _ = write!(
        sdp,
        "\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
         a=candidate:1 1 udp 2122260223 {} {} typ host\r\n\
         a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\na=fingerprint:sha-256 {fingerprint}\r\n\
         a=setup:actpass\r\na=mid:{mid}\r\n",
        candidate.ip(),
        candidate.port(),
    );
    write_extensions(sdp, role);
    let direction = match role {
        Role::Publish { .. } => "sendonly",
        Role::AudioSlot | Role::VideoSlot => "recvonly",
    };
    let _ = write!(sdp, "a={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n");
    for codec in codecs {
        write_codec(sdp, *codec);
    }
    write_encodings(sdp, mid, role);
}

fn write_extensions(sdp: &mut String, role: &Role) {
    let mut extension = |id: u8, uri: &str| {
        let _ = write!(sdp, "a=extmap:{id} {uri}\r\n");
    };
    extension(MID, "urn:ietf:params:rtp-hdrext:sdes:mid");
    extension(TRANSPORT_WIDE, TRANSPORT_WIDE_URI);
    if role.is_audio() {
        extension(AUDIO_LEVEL, "urn:ietf:params:rtp-hdrext:ssrc-audio-level");
    } else {
        extension(RID, "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id");
        extension(
            REPAIRED_RID,
            "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
        );
    }
}

fn write_codec(sdp: &mut String, codec: Codec) {
    let number = codec.payload_type();
    let (name, parameters) = match codec {
        Codec::Opus => ("opus/48000/2", "minptime=10;useinbandfec=1"),
        Codec::Vp8 => ("VP8/90000", ""),
        Codec::H264 => (
            "H264/90000",
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        ),
        Codec::Av1 => ("AV1/90000", "level-idx=5;profile=0;tier=0"),
    };
    let _ = write!(
        sdp,
        "a=rtpmap:{number} {name}\r\na=rtcp-fb:{number} transport-cc\r\n"
    );
    if !parameters.is_empty() {
        let _ = write!(sdp, "a=fmtp:{number} {parameters}\r\n");
    }
    if let Some(rtx) = codec.rtx_payload_type() {
        let _ = write!(
            sdp,
            "a=rtcp-fb:{number} ccm fir\r\na=rtcp-fb:{number} nack\r\n\
             a=rtcp-fb:{number} nack pli\r\n\
             a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={number}\r\n"
        );
    }
}

fn write_encodings(sdp: &mut String, mid: usize, role: &Role) {
    let Role::Publish {
        codec,
        rids,
        ssrcs: (media, rtx),
    } = role
    else {
        return;
    };
    let _ = write!(sdp, "a=msid:stream track-{mid}\r\n");
    if !rids.is_empty() {
        for rid in rids {
            let _ = write!(sdp, "a=rid:{rid} send\r\n");
        }
        let _ = write!(sdp, "a=simulcast:send {}\r\n", rids.join(";"));
        return;
    }
    if codec.is_video() {
        let _ = write!(
            sdp,
            "a=ssrc-group:FID {media} {rtx}\r\na=ssrc:{media} cname:bot\r\n\
             a=ssrc:{rtx} cname:bot\r\n"
        );
    } else {
        let _ = write!(sdp, "a=ssrc:{media} cname:bot\r\n");
    }
}

/// What a bot takes from an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Their ICE credentials.
    pub ufrag: String,
    /// Their password.
    pub pwd: String,
    /// The hash of their certificate, `sha-256 AA:BB…`.
    pub fingerprint: String,
    /// They are the DTLS client.
    pub is_active: bool,
    /// Where they can be reached by UDP, best first.
    pub candidates: Vec<SocketAddr>,
    /// The m-lines that were accepted, by mid.
    pub accepted: Vec<String>,
    /// Media sources with the sources of their retransmissions.
    pub retransmissions: Vec<(u32, u32)>,
    /// The id of the transport-wide sequence number, where the bot is to give feedback.
    pub transport_wide: Option<u8>,
}

/// Why an answer is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It lacks credentials or a fingerprint.
    #[error("the answer has no ICE credentials or no sha-256 fingerprint")]
    NoTransport,
    /// It names no address.
    #[error("the answer has no UDP candidate over IPv4")]
    NoCandidate,
}

impl Answer {
    /// Reads an answer.
    pub fn read(sdp: &str) -> Result<Self, AnswerError> {
        let mut answer = Self::default();
        let mut is_accepted = false;
        for line in sdp.lines() {
            let (key, value) = line.split_once(':').unwrap_or((line, ""));
            match key {
                "a=mid" if is_accepted => answer.accepted.push(value.to_owned()),
                "a=ice-ufrag" => value.clone_into(&mut answer.ufrag),
                "a=ice-pwd" => value.clone_into(&mut answer.pwd),
                "a=fingerprint" => value.clone_into(&mut answer.fingerprint),
                "a=setup" => answer.is_active = value == "active",
                "a=candidate" => answer.candidates.extend(candidate(value)),
                "a=ssrc-group" => answer.retransmissions.extend(pair(value)),
                "a=extmap" => {
                    let (id, uri) = value.split_once(' ').unwrap_or_default();
                    if uri == TRANSPORT_WIDE_URI {
                        answer.transport_wide = id.parse().ok();
                    }
                }
                _ => {
                    if let Some(media) = line.strip_prefix("m=") {
                        is_accepted = media.split(' ').nth(1) != Some("0");
                    }
                }
            }
        }
        answer.candidates.dedup();
        if answer.ufrag.is_empty() || answer.pwd.is_empty() || answer.fingerprint.is_empty() {
            return Err(AnswerError::NoTransport);
        }
        if answer.candidates.is_empty() {
            return Err(AnswerError::NoCandidate);
        }
        Ok(answer)
    }

    /// The candidate to use: the one at the address where signaling is, else the best.
    pub fn remote(&self, signaling: SocketAddr) -> Option<SocketAddr> {
        let mut candidates = self.candidates.iter();
        let same = candidates.find(|candidate| candidate.ip() == signaling.ip());
        same.or(self.candidates.first()).copied()
    }
}

/// `<foundation> <component> <transport> <priority> <address> <port> …` (RFC 8839 §5.1), UDP over IPv4.
fn candidate(value: &str) -> Option<SocketAddr> {
    let mut words = value.split(' ').skip(2);
    let is_udp = words.next()?.eq_ignore_ascii_case("udp");
    let ip = words.nth(1)?.parse().ok()?;
    let address = SocketAddr::new(ip, words.next()?.parse().ok()?);
    (is_udp && address.is_ipv4()).then_some(address)
}

/// `FID <media> <retransmissions>` (RFC 5576 §4.2).
fn pair(value: &str) -> Option<(u32, u32)> {
    let mut words = value.strip_prefix("FID ")?.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "v=0\r\na=ice-lite\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:u\r\n\
        a=ice-pwd:p\r\na=fingerprint:sha-256 AA:BB\r\na=setup:passive\r\na=mid:0\r\n\
        a=candidate:1 1 udp 5 10.0.0.1 7800 typ host\r\n\
        a=candidate:2 1 tcp 4 127.0.0.1 7800 typ host tcptype passive\r\n\
        a=candidate:3 1 UDP 3 127.0.0.1 7800 typ host\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:1\r\na=ssrc-group:FID 5 6\r\n\
        a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
        m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:2\r\n";

    #[test]
    fn an_answer_is_read() {
        let answer = Answer::read(ANSWER).unwrap();
        assert_eq!(answer.accepted, ["0", "1"]);
        assert_eq!(answer.retransmissions, [(5, 6)]);
        assert_eq!(answer.transport_wide, Some(3));
        assert!(!answer.is_active);
        let local = SocketAddr::from(([127, 0, 0, 1], 8080));
        assert_eq!(answer.remote(local).unwrap().to_string(), "127.0.0.1:7800");
        let other = SocketAddr::from(([10, 9, 9, 9], 8080));
        assert_eq!(answer.remote(other).unwrap().to_string(), "10.0.0.1:7800");
    }

    #[test]
    fn answers_without_what_is_needed_are_refused() {
        assert_eq!(Answer::read(""), Err(AnswerError::NoTransport));
        let none = ANSWER.replace("a=candidate", "a=other");
        assert_eq!(Answer::read(&none), Err(AnswerError::NoCandidate));
    }

    #[test]
    fn an_offer_announces_sources_or_layers() {
        let session = Session {
            ufrag: "u",
            pwd: "p",
            fingerprint: "AA",
            candidate: SocketAddr::from(([127, 0, 0, 2], 9000)),
        };
        let publish = |rids: Vec<&'static str>| Role::Publish {
            codec: Codec::Vp8,
            rids,
            ssrcs: (5, 6),
        };
        let offer = write_offer(&session, &[publish(Vec::new()), Role::AudioSlot]);
        assert!(offer.contains("a=ssrc-group:FID 5 6") && offer.contains("BUNDLE 0 1\r\n"));
        let offer = write_offer(&session, &[publish(vec!["q", "f"])]);
        assert!(offer.contains("a=simulcast:send q;f") && !offer.contains("a=ssrc"));
    }
}
