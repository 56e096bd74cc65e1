//! SDP as a browser writes it (in the form Chromium gives it), and what it reads in an answer.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::SocketAddr;

use sfu::Codec;

/// What a browser does with one m-line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Role {
    /// Publishes video of this codec; more than one rid is simulcast.
    Video {
        codec: Codec,
        rids: Vec<&'static str>,
    },
    /// Publishes Opus; as redundant audio when the flag is set.
    Audio {
        red: bool,
    },
    /// Receives.
    Slot {
        is_audio: bool,
    },
    Data,
}

/// One m-line.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) mid: String,
    pub(crate) role: Role,
    /// Announced sources, media and retransmission, for what is published without rids.
    pub(crate) sources: Option<(u32, u32)>,
}

/// What all m-lines share.
pub(crate) struct Session<'a> {
    pub(crate) ufrag: &'a str,
    pub(crate) pwd: &'a str,
    pub(crate) fingerprint: &'a str,
    pub(crate) setup: &'a str,
    /// Whether transport-wide feedback is offered; else REMB only.
    pub(crate) transport_wide: bool,
    /// Video codecs, in the browser's order.
    pub(crate) codecs: &'a [Codec],
}

pub(crate) const MID: u8 = 4;
pub(crate) const RID: u8 = 10;
pub(crate) const REPAIRED_RID: u8 = 11;
pub(crate) const LEVEL: u8 = 1;
pub(crate) const TRANSPORT_WIDE: u8 = 3;
pub(crate) const OPUS: u8 = 111;
pub(crate) const RED: u8 = 63;

/// The payload type of a video codec; its retransmission has the next one.
pub(crate) fn payload_type(codec: Codec) -> u8 {
    match codec {
        Codec::Vp8 => 96,
        Codec::Vp9 => 98,
        Codec::H264 => 102,
        Codec::Av1 => 45,
        Codec::Opus => OPUS,
    }
}

pub(crate) fn write_offer(session: &Session<'_>, lines: &[Line]) -> String {
    let mids: Vec<&str> = lines.iter().map(|line| line.mid.as_str()).collect();
    let mut sdp = String::from("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
    let _ = write!(
        sdp,
        "a=group:BUNDLE {}\r\na=extmap-allow-mixed\r\n",
        mids.join(" ")
    );
    for line in lines {
        write_line(&mut sdp, session, line);
    }
    sdp
}

fn write_line(sdp: &mut String, session: &Session<'_>, line: &Line) {
    let is_audio = match &line.role {
        Role::Video { .. } => false,
        Role::Audio { .. } => true,
        Role::Slot { is_audio } => *is_audio,
        Role::Data => {
            sdp.push_str("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n");
            write_transport(sdp, session, &line.mid);
            sdp.push_str("a=sctp-port:5000\r\na=max-message-size:262144\r\n");
            return;
        }
    };
    let types: Vec<String> = if is_audio {
        vec![OPUS.to_string(), RED.to_string()]
    } else {
        let both = |codec: &Codec| [payload_type(*codec), payload_type(*codec) + 1];
        session
            .codecs
            .iter()
            .flat_map(both)
            .map(|t| t.to_string())
            .collect()
    };
    let kind = if is_audio { "audio" } else { "video" };
    let _ = write!(sdp, "m={kind} 9 UDP/TLS/RTP/SAVPF {}\r\n", types.join(" "));
    write_transport(sdp, session, &line.mid);
    write_extensions(sdp, session, is_audio);
    let direction = match &line.role {
        Role::Slot { .. } => "recvonly",
        _ => "sendonly",
    };
    let _ = write!(sdp, "a={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n");
    write_codecs(sdp, session, is_audio, &line.role);
    write_encodings(sdp, line);
}

fn write_extensions(sdp: &mut String, session: &Session<'_>, is_audio: bool) {
    let _ = write!(
        sdp,
        "a=extmap:{MID} urn:ietf:params:rtp-hdrext:sdes:mid\r\n"
    );
    if session.transport_wide {
        let uri = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
        let _ = write!(sdp, "a=extmap:{TRANSPORT_WIDE} {uri}\r\n");
    }
    let _ = match is_audio {
        true => write!(
            sdp,
            "a=extmap:{LEVEL} urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n"
        ),
        false => write!(
            sdp,
            "a=extmap:{RID} urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
             a=extmap:{REPAIRED_RID} urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n"
        ),
    };
}

fn write_encodings(sdp: &mut String, line: &Line) {
    if let Role::Video { rids, .. } = &line.role
        && rids.len() > 1
    {
        for rid in rids {
            let _ = write!(sdp, "a=rid:{rid} send\r\n");
        }
        let _ = write!(sdp, "a=simulcast:send {}\r\n", rids.join(";"));
    } else if let Some((media, rtx)) = line.sources {
        let _ = write!(
            sdp,
            "a=ssrc-group:FID {media} {rtx}\r\na=ssrc:{media} cname:c\r\na=ssrc:{rtx} cname:c\r\n"
        );
    }
}

fn write_transport(sdp: &mut String, session: &Session<'_>, mid: &str) {
    let Session {
        ufrag,
        pwd,
        fingerprint,
        setup,
        ..
    } = session;
    let _ = write!(
        sdp,
        "c=IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\na=ice-options:trickle\r\n\
         a=fingerprint:sha-256 {fingerprint}\r\na=setup:{setup}\r\na=mid:{mid}\r\n"
    );
}

fn write_codecs(sdp: &mut String, session: &Session<'_>, is_audio: bool, role: &Role) {
    if is_audio {
        let _ = write!(
            sdp,
            "a=rtpmap:{OPUS} opus/48000/2\r\na=fmtp:{OPUS} minptime=10;useinbandfec=1\r\n"
        );
        // Who publishes without redundancy does not negotiate it for receiving either.
        if *role == (Role::Audio { red: true }) {
            let _ = write!(
                sdp,
                "a=rtpmap:{RED} red/48000/2\r\na=fmtp:{RED} {OPUS}/{OPUS}\r\n"
            );
        }
        return;
    }
    for codec in session.codecs {
        let number = payload_type(*codec);
        let (name, parameters) = match codec {
            Codec::Vp8 => ("VP8", ""),
            Codec::Vp9 => ("VP9", "profile-id=0"),
            Codec::H264 => (
                "H264",
                "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
            ),
            Codec::Av1 | Codec::Opus => panic!("not simulated"),
        };
        let _ = write!(sdp, "a=rtpmap:{number} {name}/90000\r\n");
        if session.transport_wide {
            let _ = write!(sdp, "a=rtcp-fb:{number} transport-cc\r\n");
        }
        let _ = write!(
            sdp,
            "a=rtcp-fb:{number} goog-remb\r\na=rtcp-fb:{number} ccm fir\r\n\
             a=rtcp-fb:{number} nack\r\na=rtcp-fb:{number} nack pli\r\n"
        );
        if !parameters.is_empty() {
            let _ = write!(sdp, "a=fmtp:{number} {parameters}\r\n");
        }
        let rtx = number + 1;
        let _ = write!(
            sdp,
            "a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={number}\r\n"
        );
    }
}

/// One section of an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnswerSection {
    pub(crate) port: u16,
    pub(crate) direction: String,
    /// Media, then retransmission.
    pub(crate) ssrcs: Vec<u32>,
    /// Codec and payload type names, by number.
    pub(crate) codecs: HashMap<u8, String>,
    /// Payload types in the order of the m-line.
    pub(crate) order: Vec<u8>,
}

/// What a browser takes from an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
    pub(crate) fingerprint: String,
    pub(crate) setup: String,
    pub(crate) udp: Vec<SocketAddr>,
    pub(crate) tcp: Vec<SocketAddr>,
    pub(crate) sections: HashMap<String, AnswerSection>,
}

pub(crate) fn read_answer(sdp: &str) -> Answer {
    let mut answer = Answer::default();
    let mut section = AnswerSection::default();
    let mut mid = None;
    for line in sdp.lines() {
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        if let Some(media) = line.strip_prefix("m=") {
            if let Some(mid) = mid.take() {
                answer.sections.insert(mid, std::mem::take(&mut section));
            }
            section = AnswerSection::default();
            section.port = media.split(' ').nth(1).unwrap().parse().unwrap();
            let types = media.split(' ').skip(3);
            section.order = types.filter_map(|number| number.parse().ok()).collect();
        }
        match key {
            "a=mid" => mid = Some(value.to_owned()),
            "a=ice-ufrag" => answer.ufrag = value.to_owned(),
            "a=ice-pwd" => answer.pwd = value.to_owned(),
            "a=fingerprint" => answer.fingerprint = value.to_owned(),
            "a=setup" => answer.setup = value.to_owned(),
            "a=candidate" => {
                let words: Vec<&str> = value.split(' ').collect();
                let address = format!("{}:{}", words[4], words[5]).parse().unwrap();
                match words[2] {
                    "udp" => answer.udp.push(address),
                    _ => answer.tcp.push(address),
                }
            }
            "a=ssrc" => {
                let ssrc = value.split(' ').next().unwrap().parse().unwrap();
                if !section.ssrcs.contains(&ssrc) {
                    section.ssrcs.push(ssrc);
                }
            }
            "a=rtpmap" => {
                let (number, name) = value.split_once(' ').unwrap();
                section
                    .codecs
                    .insert(number.parse().unwrap(), name.to_owned());
            }
            "a=sendonly" | "a=recvonly" | "a=inactive" | "a=sendrecv" => {
                section.direction = key[2..].to_owned();
            }
            _ => {}
        }
    }
    answer.sections.extend(mid.map(|mid| (mid, section)));
    answer
}
