//! Parsing an offer: limits first, then the SDP grammar, then the rules of JSEP (RFC 9429) and BUNDLE
//! (RFC 9143) that we rely on.

#![warn(clippy::indexing_slicing)]

use std::collections::HashSet;
use std::io::Cursor;

use sdp::description::common::Attribute;
use sdp::description::media::MediaDescription;
use sdp::description::session::SessionDescription;

use super::codecs::{Feedback, Format, associated_payload_type};
use super::{
    Credentials, Direction, Extension, MediaLine, NegotiatedCodec, OfferedSource, RemoteOffer,
    Section, SectionKind, Setup,
};
use crate::ids::{Mid, PayloadType, Rid, Ssrc};
use crate::peer::dtls::Fingerprint;
use crate::sfu::{Kind, OfferError};

const SDP_BYTES_MAX: usize = 256 * 1024;
const SECTIONS_MAX: usize = 128;
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Per section. Chromium offers about 50 payload types.
const PAYLOAD_TYPES_MAX: usize = 128;
const CANDIDATES_MAX: usize = 64;
const EXTENSIONS_MAX: usize = 32;
const SOURCE_LINES_MAX: usize = 64;
const RIDS_MAX: usize = 8;

/// Reads an offer.
///
/// Its cost is bounded by the limits above, which are checked before anything is allocated. Candidates
/// are not kept: the client's checks show where it is.
pub(crate) fn parse_offer(sdp: &str) -> Result<RemoteOffer, OfferError> {
    check_limits(sdp)?;
    let description = SessionDescription::unmarshal(&mut Cursor::new(sdp.as_bytes()))
        .map_err(|error| bad(format!("not SDP: {error}")))?;
    let session = Attributes(&description.attributes);
    let mut sections = Vec::with_capacity(description.media_descriptions.len());
    for media in &description.media_descriptions {
        sections.push(parse_section(media, session)?);
    }
    if sections.is_empty() {
        return Err(bad("there is no media section"));
    }
    check_unique_mids(&sections)?;
    let bundle = parse_bundle(session, &sections)?;
    for section in &mut sections {
        // Without a bundle there is one transport only: that of the first section.
        section.rejected |= !bundle.contains(&section.mid);
    }
    // The first bundled section speaks for the transport of all (RFC 9143 §7.2).
    let tagged = sections
        .iter()
        .position(|section| Some(&section.mid) == bundle.first());
    let tagged = tagged.and_then(|index| description.media_descriptions.get(index));
    let tagged = tagged.ok_or_else(|| bad("the bundle names no section"))?;
    let transport = Transport {
        session,
        section: Attributes(&tagged.attributes),
    };
    Ok(RemoteOffer {
        ice: transport.credentials()?,
        fingerprint: transport.fingerprint()?,
        setup: transport.setup()?,
        sections,
        extmap_allow_mixed: session.has("extmap-allow-mixed"),
        bundle,
    })
}

fn bad(text: impl Into<String>) -> OfferError {
    OfferError::BadSdp(text.into())
}

fn exceeded(limit: usize, what: &str) -> OfferError {
    OfferError::LimitExceeded(format!("more than {limit} {what}"))
}

/// One pass over the raw lines, so that an oversized offer costs next to nothing.
fn check_limits(sdp: &str) -> Result<(), OfferError> {
    if sdp.len() > SDP_BYTES_MAX {
        return Err(exceeded(SDP_BYTES_MAX, "bytes"));
    }
    let mut sections = 0;
    let mut counts = [0; 4];
    for line in sdp.lines() {
        if line.len() > LINE_BYTES_MAX {
            return Err(exceeded(LINE_BYTES_MAX, "bytes in a line"));
        }
        if line.starts_with("m=") {
            sections += 1;
            counts = [0; 4];
            if sections > SECTIONS_MAX {
                return Err(exceeded(SECTIONS_MAX, "media sections"));
            }
            if line.split_ascii_whitespace().count() > PAYLOAD_TYPES_MAX + 3 {
                return Err(exceeded(PAYLOAD_TYPES_MAX, "payload types in a section"));
            }
        }
        let limits = [
            ("a=candidate:", CANDIDATES_MAX, "candidates in a section"),
            (
                "a=extmap:",
                EXTENSIONS_MAX,
                "header extensions in a section",
            ),
            ("a=ssrc", SOURCE_LINES_MAX, "ssrc lines in a section"),
            ("a=rid:", RIDS_MAX, "rids in a section"),
        ];
        for (count, (prefix, limit, what)) in counts.iter_mut().zip(limits) {
            *count += usize::from(line.starts_with(prefix));
            if *count > limit {
                return Err(exceeded(limit, what));
            }
        }
    }
    Ok(())
}

/// The attributes of the session or of one section.
#[derive(Clone, Copy)]
struct Attributes<'a>(&'a [Attribute]);

impl<'a> Attributes<'a> {
    fn values(self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |attribute| attribute.key == key)
            .map(|attribute| attribute.value.as_deref().map_or("", str::trim))
    }

    fn value(self, key: &'a str) -> Option<&'a str> {
        self.values(key).next()
    }

    fn has(self, key: &'a str) -> bool {
        self.value(key).is_some()
    }

    fn direction(self) -> Option<Direction> {
        self.0
            .iter()
            .find_map(|attribute| match attribute.key.as_str() {
                "sendonly" => Some(Direction::SendOnly),
                "recvonly" => Some(Direction::RecvOnly),
                "sendrecv" => Some(Direction::SendRecv),
                "inactive" => Some(Direction::Inactive),
                _ => None,
            })
    }

    /// Values of the form `<payload type> <rest>`, for one payload type.
    fn of_payload_type(self, key: &'a str, wanted: &'a str) -> impl Iterator<Item = &'a str> {
        self.values(key).filter_map(move |value| {
            let (payload_type, rest) = value.split_once(' ')?;
            (payload_type == wanted).then_some(rest.trim())
        })
    }
}

/// Where the transport's attributes are: in the tagged section, else in the session.
#[derive(Clone, Copy)]
struct Transport<'a> {
    session: Attributes<'a>,
    section: Attributes<'a>,
}

impl<'a> Transport<'a> {
    fn required(self, key: &'a str) -> Result<&'a str, OfferError> {
        let value = self.section.value(key).or_else(|| self.session.value(key));
        value.ok_or_else(|| bad(format!("there is no a={key}")))
    }

    fn credentials(self) -> Result<Credentials, OfferError> {
        let (ufrag, pwd) = (self.required("ice-ufrag")?, self.required("ice-pwd")?);
        if !is_ice_string(ufrag, 4) {
            return Err(bad("a=ice-ufrag is not 4 to 256 visible ASCII characters"));
        }
        if !is_ice_string(pwd, 22) {
            return Err(bad("a=ice-pwd is not 22 to 256 visible ASCII characters"));
        }
        Ok(Credentials {
            ufrag: ufrag.to_owned(),
            pwd: pwd.to_owned(),
        })
    }

    /// The first fingerprint with a hash we know; several may be given (RFC 8122 §5).
    fn fingerprint(self) -> Result<Fingerprint, OfferError> {
        self.required("fingerprint")?;
        let of_section = self.section.values("fingerprint");
        let mut all = of_section.chain(self.session.values("fingerprint"));
        all.find_map(Fingerprint::parse)
            .ok_or_else(|| bad("no a=fingerprint is a valid sha-256, sha-384 or sha-512"))
    }

    fn setup(self) -> Result<Setup, OfferError> {
        match self.required("setup")? {
            "actpass" => Ok(Setup::ActPass),
            "active" => Ok(Setup::Active),
            "passive" => Ok(Setup::Passive),
            _ => Err(bad("a=setup is not actpass, active or passive")),
        }
    }
}

/// RFC 8839 §5.4: 4 to 256 for the fragment, 22 to 256 for the password.
fn is_ice_string(text: &str, least: usize) -> bool {
    (least..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_unique_mids(sections: &[Section]) -> Result<(), OfferError> {
    let mut seen = HashSet::with_capacity(sections.len());
    match sections.iter().find(|section| !seen.insert(section.mid)) {
        Some(twice) => Err(bad(format!("two sections have the mid {}", twice.mid))),
        None => Ok(()),
    }
}

/// The bundled sections that are not rejected; without a group, the first such section.
fn parse_bundle(session: Attributes<'_>, sections: &[Section]) -> Result<Vec<Mid>, OfferError> {
    let usable = |mid: &Mid| sections.iter().any(|it| it.mid == *mid && !it.rejected);
    let group = session
        .values("group")
        .find_map(|value| value.strip_prefix("BUNDLE"));
    let mut bundle = Vec::new();
    match group {
        Some(mids) => {
            for mid in mids
                .split_ascii_whitespace()
                .take(SECTIONS_MAX)
                .filter_map(Mid::parse)
            {
                if usable(&mid) && !bundle.contains(&mid) {
                    bundle.push(mid);
                }
            }
        }
        None => bundle.extend(sections.iter().find(|it| !it.rejected).map(|it| it.mid)),
    }
    if bundle.is_empty() {
        return Err(bad("every section is rejected or outside the bundle"));
    }
    Ok(bundle)
}

fn parse_section(media: &MediaDescription, session: Attributes<'_>) -> Result<Section, OfferError> {
    let attributes = Attributes(&media.attributes);
    let mid = attributes
        .value("mid")
        .ok_or_else(|| bad("a section has no a=mid"))?;
    let mid =
        Mid::parse(mid).ok_or_else(|| bad("an a=mid is not 1 to 16 visible ASCII characters"))?;
    let kind = parse_kind(media, attributes, mid)?;
    // Port 0 with a=bundle-only is not a rejection (RFC 9143 §6).
    let rejected = media.media_name.port.value == 0 && !attributes.has("bundle-only");
    let direction = attributes.direction().or_else(|| session.direction());
    let direction = direction.unwrap_or(Direction::SendRecv);
    let mut section = Section {
        mid,
        kind,
        direction,
        rejected,
        codecs: Vec::new(),
        extensions: Vec::new(),
        sources: Vec::new(),
        rids: Vec::new(),
        simulcast: false,
        rtcp_rsize: attributes.has("rtcp-rsize"),
        extmap_allow_mixed: attributes.has("extmap-allow-mixed"),
        line: MediaLine {
            media: media.media_name.media.clone(),
            protocol: media.media_name.protos.join("/"),
            formats: media.media_name.formats.clone(),
        },
    };
    if let (SectionKind::Media(kind), false) = (kind, rejected) {
        if !attributes.has("rtcp-mux") {
            return Err(bad(format!("section {mid} has no a=rtcp-mux")));
        }
        section.codecs = parse_codecs(&section, kind, attributes)?;
        section.extensions = parse_extensions(&section, attributes)?;
        section.sources = parse_sources(mid, attributes)?;
        (section.rids, section.simulcast) = parse_rids(mid, attributes)?;
    }
    Ok(section)
}

fn parse_kind(
    media: &MediaDescription,
    attributes: Attributes<'_>,
    mid: Mid,
) -> Result<SectionKind, OfferError> {
    let name = &media.media_name;
    let has = |token: &str| name.protos.iter().any(|proto| proto == token);
    let rtp = has("RTP") && has("SAVPF");
    Ok(match name.media.as_str() {
        "audio" if rtp => SectionKind::Media(Kind::Audio),
        "video" if rtp => SectionKind::Media(Kind::Video),
        "application" if has("DTLS") && has("SCTP") => {
            if !name
                .formats
                .iter()
                .any(|format| format == "webrtc-datachannel")
            {
                return Ok(SectionKind::Unknown);
            }
            let number = |key: &'static str, default: u32| match attributes.value(key) {
                Some(value) => value
                    .parse::<u32>()
                    .map_err(|_| bad(format!("a={key} of section {mid} is not a number"))),
                None => Ok(default),
            };
            let sctp_port = u16::try_from(number("sctp-port", 5000)?)
                .map_err(|_| bad(format!("a=sctp-port of section {mid} is not a port")))?;
            // 0 means any size (RFC 8841 §6).
            let max_message_bytes = match number("max-message-size", 64 * 1024)? {
                0 => u32::MAX,
                limit => limit,
            };
            SectionKind::Data {
                sctp_port,
                max_message_bytes,
            }
        }
        _ => SectionKind::Unknown,
    })
}

/// The payload types of formats we carry. Those from 64 to 95 look like RTCP on a shared port
/// (RFC 5761 §4) and are left out.
fn parse_codecs(
    section: &Section,
    kind: Kind,
    attributes: Attributes<'_>,
) -> Result<Vec<NegotiatedCodec>, OfferError> {
    let mid = section.mid;
    let mut seen = HashSet::new();
    let mut codecs: Vec<NegotiatedCodec> = Vec::new();
    let mut rtx = Vec::new();
    for text in &section.line.formats {
        let payload_type = text.parse::<u8>().ok().filter(|&number| number <= 127);
        let payload_type = PayloadType(
            payload_type
                .ok_or_else(|| bad(format!("a payload type of section {mid} is not 0 to 127")))?,
        );
        if !seen.insert(payload_type) {
            return Err(bad(format!(
                "section {mid} has payload type {} twice",
                payload_type.0
            )));
        }
        if (64..=95).contains(&payload_type.0) {
            continue;
        }
        let Some(rtpmap) = attributes.of_payload_type("rtpmap", text).next() else {
            continue; // a static payload type (RFC 3551): none of ours
        };
        let fmtp = attributes
            .of_payload_type("fmtp", text)
            .next()
            .unwrap_or_default();
        if rtpmap.eq_ignore_ascii_case("rtx/90000") {
            rtx.extend(associated_payload_type(fmtp).map(|repaired| (repaired, payload_type)));
        } else if let Some(format) = Format::parse(kind, rtpmap, fmtp) {
            let feedback = parse_feedback(attributes, text);
            codecs.push(NegotiatedCodec {
                payload_type,
                format,
                rtx: None,
                feedback,
            });
        }
    }
    for codec in &mut codecs {
        let own = rtx
            .iter()
            .find(|(repaired, _)| *repaired == codec.payload_type);
        codec.rtx = own.map(|&(_, payload_type)| payload_type);
    }
    let opus: Vec<_> = codecs.iter().map(|codec| codec.payload_type).collect();
    codecs.retain(|codec| match codec.format {
        Format::Red { primary } => primary != codec.payload_type && opus.contains(&primary),
        _ => true,
    });
    Ok(codecs)
}

fn parse_feedback(attributes: Attributes<'_>, payload_type: &str) -> Feedback {
    let mut feedback = Feedback::default();
    let own = attributes.of_payload_type("rtcp-fb", payload_type);
    for value in own.chain(attributes.of_payload_type("rtcp-fb", "*")) {
        feedback.add(value);
    }
    feedback
}

/// `a=extmap:<id>[/<direction>] <uri> [<attributes>]` (RFC 8285 §8).
fn parse_extensions(
    section: &Section,
    attributes: Attributes<'_>,
) -> Result<Vec<(u8, Extension)>, OfferError> {
    let mid = section.mid;
    let mut seen = HashSet::new();
    let mut extensions: Vec<(u8, Extension)> = Vec::new();
    for value in attributes.values("extmap") {
        let mut words = value.split_ascii_whitespace();
        let (Some(id), Some(uri)) = (words.next(), words.next()) else {
            return Err(bad(format!(
                "an a=extmap of section {mid} has no id or no name"
            )));
        };
        let (id, direction) = id.split_once('/').unwrap_or((id, "sendrecv"));
        let id = id
            .parse::<u16>()
            .ok()
            .filter(|&id| (1..=4351).contains(&id));
        let id =
            id.ok_or_else(|| bad(format!("an a=extmap id of section {mid} is out of range")))?;
        if !seen.insert(id) {
            return Err(bad(format!(
                "section {mid} has the header extension id {id} twice"
            )));
        }
        let applies = match direction {
            "sendrecv" => true,
            "sendonly" => section.direction.sends(),
            "recvonly" => section.direction.receives(),
            _ => false,
        };
        if let (true, Ok(id), Some(extension)) =
            (applies, u8::try_from(id), Extension::from_uri(uri))
            && extensions.iter().all(|&(_, known)| known != extension)
        {
            extensions.push((id, extension));
        }
    }
    Ok(extensions)
}

/// `a=ssrc:<ssrc> <attribute>` and `a=ssrc-group:FID <media> <rtx>` (RFC 5576, RFC 4588 §8.8).
fn parse_sources(mid: Mid, attributes: Attributes<'_>) -> Result<Vec<OfferedSource>, OfferError> {
    let number = |text: &str| {
        let parsed = text.parse().map(Ssrc);
        parsed.map_err(|_| bad(format!("an ssrc of section {mid} is not a 32-bit number")))
    };
    let mut sources: Vec<OfferedSource> = Vec::new();
    for value in attributes.values("ssrc") {
        let (ssrc, attribute) = value.split_once(' ').unwrap_or((value, ""));
        let ssrc = number(ssrc)?;
        let cname = attribute.trim().strip_prefix("cname:").map(str::to_owned);
        match sources.iter_mut().find(|source| source.ssrc == ssrc) {
            Some(source) => source.cname = source.cname.take().or(cname),
            None => sources.push(OfferedSource {
                ssrc,
                rtx: None,
                cname,
            }),
        }
    }
    for value in attributes.values("ssrc-group") {
        let mut words = value.split_ascii_whitespace();
        if words.next() != Some("FID") {
            continue;
        }
        let (Some(media), Some(rtx)) = (words.next(), words.next()) else {
            return Err(bad(format!(
                "an a=ssrc-group of section {mid} does not name two"
            )));
        };
        let (media, rtx) = (number(media)?, number(rtx)?);
        if media == rtx {
            return Err(bad(format!(
                "an a=ssrc-group of section {mid} names one ssrc twice"
            )));
        }
        sources.retain(|source| source.ssrc != rtx);
        match sources.iter_mut().find(|source| source.ssrc == media) {
            Some(source) => source.rtx = Some(rtx),
            // ffmpeg names its retransmissions in the group only; others may name nothing else.
            None => sources.push(OfferedSource {
                ssrc: media,
                rtx: Some(rtx),
                cname: None,
            }),
        }
    }
    Ok(sources)
}

/// What is sent as simulcast: `a=rid:<rid> send …` in the order of `a=simulcast:send a;b;c`
/// (RFC 8853 §5.1). Of alternatives (`a,b`) the first counts; `~` only says "paused for now".
fn parse_rids(mid: Mid, attributes: Attributes<'_>) -> Result<(Vec<Rid>, bool), OfferError> {
    let mut declared = Vec::new();
    for value in attributes.values("rid") {
        let mut words = value.split_ascii_whitespace();
        let (name, direction) = (words.next().unwrap_or_default(), words.next());
        let rid = parse_rid(name).ok_or_else(|| {
            bad(format!(
                "an a=rid of section {mid} is not 1 to 16 letters or digits"
            ))
        })?;
        if direction == Some("send") {
            if declared.contains(&rid) {
                return Err(bad(format!("section {mid} has the rid {rid} twice")));
            }
            declared.push(rid);
        }
    }
    let Some(value) = attributes.value("simulcast") else {
        return Ok((declared, false));
    };
    let mut words = value
        .split_ascii_whitespace()
        .skip_while(|&word| word != "send");
    let Some(list) = words.nth(1) else {
        return Ok((declared, false));
    };
    let mut rids = Vec::new();
    for alternatives in list.split(';') {
        let first = alternatives.split(',').next().unwrap_or_default();
        let rid = parse_rid(first.trim_start_matches('~'));
        rids.extend(rid.filter(|rid| declared.contains(rid) && !rids.contains(rid)));
    }
    let simulcast = !rids.is_empty();
    Ok((rids, simulcast))
}

fn parse_rid(text: &str) -> Option<Rid> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.bytes().all(valid).then(|| Rid::parse(text)).flatten()
}
