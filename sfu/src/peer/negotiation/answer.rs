//! Writing SDP: the answer to an offer, and the fragment that answers a WHIP ICE restart.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use super::codecs::Feedback;
use super::{
    Format, LocalTransport, MESSAGE_BYTES_MAX, NegotiatedCodec, RemoteOffer, SCTP_PORT, Section,
    SectionKind, SectionPlan, SlotPlan, choose_codecs, negotiated_extensions,
};
use crate::ids::Mid;
use crate::peer::dtls::DtlsRole;

/// Writes the answer; `plans` has one entry for each section, and a missing one means [`SectionPlan::Reject`].
///
/// A plan that the section cannot have (codecs empty, data for media, anything for a rejected section)
/// is written as a rejection. Lines end in CRLF; nothing of the offer is copied but tokens without
/// white space.
pub(crate) fn write_answer(
    offer: &RemoteOffer,
    local: &LocalTransport<'_>,
    plans: &[SectionPlan],
) -> String {
    let mut plans = plans.iter();
    let plans: Vec<SectionPlan> = offer
        .sections
        .iter()
        .map(|section| effective(section, plans.next().unwrap_or(&SectionPlan::Reject)))
        .collect();
    let mut accepted = Vec::new();
    for mid in &offer.bundle {
        let planned = offer
            .sections
            .iter()
            .zip(&plans)
            .find(|(section, _)| section.mid == *mid);
        if planned.is_some_and(|(_, plan)| *plan != SectionPlan::Reject) {
            accepted.push(*mid);
        }
    }
    // The bundle's first section carries the transport (RFC 9143 §7.3.3). Clients that pass over
    // inactive sections when they look for candidates find them in the first that flows.
    let flowing =
        offer.sections.iter().zip(&plans).find(|(section, plan)| {
            accepted.contains(&section.mid) && **plan != SectionPlan::Inactive
        });
    let tagged = [
        accepted.first().copied(),
        flowing.map(|(section, _)| section.mid),
    ];
    let mut out = Lines(String::with_capacity(1024 * offer.sections.len()));
    out.line(format_args!("v=0"));
    out.line(format_args!(
        "o=- {} {} IN IP4 127.0.0.1",
        local.session, local.version
    ));
    out.line(format_args!("s=-"));
    out.line(format_args!("t=0 0"));
    out.line(format_args!("a=ice-lite"));
    out.group(&accepted);
    if offer.extmap_allow_mixed {
        out.line(format_args!("a=extmap-allow-mixed"));
    }
    out.line(format_args!("a=msid-semantic: WMS *"));
    for (section, plan) in offer.sections.iter().zip(&plans) {
        out.section(section, plan, local, &tagged);
    }
    out.0
}

/// Writes what answers new client credentials outside an offer: our credentials and candidates as
/// `application/trickle-ice-sdpfrag` (RFC 8840 §9, RFC 9725 §4.3.2). `bundle` holds the accepted sections.
pub(crate) fn ice_fragment(local: &LocalTransport<'_>, bundle: &[Mid]) -> String {
    let mut out = Lines(String::with_capacity(512));
    out.line(format_args!("a=ice-lite"));
    out.group(bundle);
    out.line(format_args!("m=audio 9 UDP/TLS/RTP/SAVPF 0")); // a pseudo m-line, RFC 8840 §9.2
    if let Some(mid) = bundle.first() {
        out.line(format_args!("a=mid:{mid}"));
    }
    out.credentials(local);
    out.candidates(local);
    out.0
}

/// The plan as far as the section can have it.
fn effective(section: &Section, plan: &SectionPlan) -> SectionPlan {
    let is_media = matches!(section.kind, SectionKind::Media(_));
    let is_data = matches!(section.kind, SectionKind::Data { .. });
    let possible = match plan {
        SectionPlan::Reject => false,
        SectionPlan::Inactive => is_media && !section.codecs.is_empty(),
        SectionPlan::Publish { codecs } => is_media && !codecs.is_empty(),
        SectionPlan::Slot(slot) => is_media && !slot.codecs.is_empty(),
        SectionPlan::Data => is_data,
    };
    if possible && !section.rejected {
        plan.clone()
    } else {
        SectionPlan::Reject
    }
}

/// SDP text under construction.
struct Lines(String);

impl Lines {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.0.write_fmt(line);
        self.0.push_str("\r\n");
    }

    fn group(&mut self, mids: &[Mid]) {
        if mids.is_empty() {
            return;
        }
        self.0.push_str("a=group:BUNDLE");
        for mid in mids {
            let _ = write!(self.0, " {mid}");
        }
        self.0.push_str("\r\n");
    }

    fn section(
        &mut self,
        section: &Section,
        plan: &SectionPlan,
        local: &LocalTransport<'_>,
        tagged: &[Option<Mid>],
    ) {
        let inactive;
        let codecs: &[NegotiatedCodec] = match plan {
            SectionPlan::Reject => return self.rejected(section),
            SectionPlan::Data => &[],
            SectionPlan::Inactive => {
                inactive = choose_codecs(section, &[]);
                &inactive
            }
            SectionPlan::Publish { codecs } => codecs,
            SectionPlan::Slot(slot) => &slot.codecs,
        };
        self.media_line(section, codecs, local);
        self.line(format_args!("a=mid:{}", section.mid));
        self.credentials(local);
        self.line(format_args!("a=fingerprint:{}", local.fingerprint));
        self.line(format_args!(
            "a=setup:{}",
            match local.role {
                DtlsRole::Active => "active",
                DtlsRole::Passive => "passive",
            }
        ));
        if tagged.contains(&Some(section.mid)) {
            self.candidates(local);
        }
        if *plan == SectionPlan::Data {
            self.line(format_args!("a=sctp-port:{SCTP_PORT}"));
            self.line(format_args!("a=max-message-size:{MESSAGE_BYTES_MAX}"));
            return;
        }
        self.direction(plan);
        self.line(format_args!("a=rtcp-mux"));
        if section.rtcp_rsize {
            self.line(format_args!("a=rtcp-rsize"));
        }
        if section.extmap_allow_mixed {
            self.line(format_args!("a=extmap-allow-mixed"));
        }
        for (id, extension) in negotiated_extensions(section, plan) {
            self.line(format_args!("a=extmap:{id} {}", extension.uri()));
        }
        for codec in codecs {
            self.codec(codec, plan);
        }
        match plan {
            SectionPlan::Publish { .. } => self.rids(section),
            SectionPlan::Slot(slot) => self.sources(slot),
            SectionPlan::Reject | SectionPlan::Inactive | SectionPlan::Data => {}
        }
    }

    fn rejected(&mut self, section: &Section) {
        let line = &section.line;
        let formats = line.formats.join(" ");
        self.line(format_args!(
            "m={} 0 {} {formats}",
            line.media, line.protocol
        ));
        self.line(format_args!("c=IN IP4 0.0.0.0"));
        self.line(format_args!("a=mid:{}", section.mid));
        if matches!(section.kind, SectionKind::Media(_)) {
            self.line(format_args!("a=inactive"));
        }
    }

    /// The m-line and its default destination, which is the first candidate (RFC 8839 §4.2.1.2).
    fn media_line(
        &mut self,
        section: &Section,
        codecs: &[NegotiatedCodec],
        local: &LocalTransport<'_>,
    ) {
        let default = local.udp.first().or_else(|| local.tcp.first());
        let port = default.map_or(9, SocketAddr::port);
        let _ = write!(
            self.0,
            "m={} {port} {}",
            section.line.media, section.line.protocol
        );
        if codecs.is_empty() {
            self.0.push_str(" webrtc-datachannel");
        }
        for codec in codecs {
            let _ = write!(self.0, " {}", codec.payload_type.0);
        }
        for rtx in codecs.iter().filter_map(|codec| codec.rtx) {
            let _ = write!(self.0, " {}", rtx.0);
        }
        self.0.push_str("\r\n");
        match default.map(SocketAddr::ip) {
            Some(ip) if ip.is_ipv6() => self.line(format_args!("c=IN IP6 {ip}")),
            Some(ip) => self.line(format_args!("c=IN IP4 {ip}")),
            None => self.line(format_args!("c=IN IP4 0.0.0.0")),
        }
    }

    fn credentials(&mut self, local: &LocalTransport<'_>) {
        self.line(format_args!("a=ice-ufrag:{}", local.ice.ufrag));
        self.line(format_args!("a=ice-pwd:{}", local.ice.pwd));
    }

    /// Host candidates (RFC 8839 §5.1), UDP before TCP, each less preferred than the one before.
    fn candidates(&mut self, local: &LocalTransport<'_>) {
        let mut foundation = 0;
        let mut local_preference: u32 = 65_535;
        for (protocol, addresses, type_preference) in
            [("udp", local.udp, 126_u32), ("tcp", local.tcp, 90)]
        {
            for address in addresses {
                foundation += 1;
                local_preference = local_preference.saturating_sub(1);
                // RFC 8445 §5.1.2.1, component 1.
                let priority = type_preference << 24 | local_preference << 8 | 255;
                let (ip, port) = (address.ip(), address.port());
                let tcp_type = if protocol == "tcp" {
                    " tcptype passive"
                } else {
                    ""
                };
                self.line(format_args!(
                    "a=candidate:{foundation} 1 {protocol} {priority} {ip} {port} typ host{tcp_type}"
                ));
            }
        }
        self.line(format_args!("a=end-of-candidates"));
    }

    fn direction(&mut self, plan: &SectionPlan) {
        self.line(format_args!(
            "a={}",
            match plan {
                SectionPlan::Publish { .. } => "recvonly",
                SectionPlan::Slot(_) => "sendonly",
                SectionPlan::Reject | SectionPlan::Inactive | SectionPlan::Data => "inactive",
            }
        ));
    }

    fn codec(&mut self, codec: &NegotiatedCodec, plan: &SectionPlan) {
        let payload_type = codec.payload_type.0;
        let name = match codec.format {
            Format::Opus { .. } => "opus/48000/2",
            Format::Red { .. } => "red/48000/2",
            Format::Vp8 => "VP8/90000",
            Format::H264 { .. } => "H264/90000",
            Format::Vp9 { .. } => "VP9/90000",
            Format::Av1 { .. } => "AV1/90000",
        };
        self.line(format_args!("a=rtpmap:{payload_type} {name}"));
        let parameters = parameters(&codec.format, plan);
        if !parameters.is_empty() {
            self.line(format_args!("a=fmtp:{payload_type} {parameters}"));
        }
        self.feedback(payload_type, codec.feedback);
        if let Some(rtx) = codec.rtx {
            self.line(format_args!("a=rtpmap:{} rtx/90000", rtx.0));
            self.line(format_args!("a=fmtp:{} apt={payload_type}", rtx.0));
        }
    }

    fn feedback(&mut self, payload_type: u8, feedback: Feedback) {
        for (wanted, value) in [
            (feedback.remb, "goog-remb"),
            (feedback.transport_cc, "transport-cc"),
            (feedback.fir, "ccm fir"),
            (feedback.nack, "nack"),
            (feedback.pli, "nack pli"),
        ] {
            if wanted {
                self.line(format_args!("a=rtcp-fb:{payload_type} {value}"));
            }
        }
    }

    fn rids(&mut self, section: &Section) {
        for rid in &section.rids {
            self.line(format_args!("a=rid:{rid} recv"));
        }
        if section.simulcast {
            let rids: Vec<&str> = section.rids.iter().map(|rid| rid.as_str()).collect();
            self.line(format_args!("a=simulcast:recv {}", rids.join(";")));
        }
    }

    fn sources(&mut self, slot: &SlotPlan) {
        let SlotPlan {
            cname,
            stream,
            track,
            ..
        } = slot;
        self.line(format_args!("a=msid:{stream} {track}"));
        if let Some(rtx) = slot.rtx {
            self.line(format_args!("a=ssrc-group:FID {} {}", slot.media.0, rtx.0));
        }
        for ssrc in [Some(slot.media), slot.rtx].into_iter().flatten() {
            self.line(format_args!("a=ssrc:{} cname:{cname}", ssrc.0));
            self.line(format_args!("a=ssrc:{} msid:{stream} {track}", ssrc.0));
        }
    }
}

/// The `a=fmtp` value of a payload type: what we want to receive of a publisher, or what fits what a
/// receiver can decode.
fn parameters(format: &Format, plan: &SectionPlan) -> String {
    match *format {
        Format::Opus {
            stereo,
            sprop_stereo,
            dtx,
        } => {
            let is_slot = matches!(plan, SectionPlan::Slot(_));
            let mut text = "minptime=10;useinbandfec=1".to_owned();
            // On a slot `stereo` makes the client's decoder keep both channels, whoever speaks.
            if is_slot {
                text.push_str(";stereo=1;sprop-stereo=1");
            } else if stereo || sprop_stereo {
                text.push_str(";stereo=1");
            }
            if dtx {
                text.push_str(";usedtx=1");
            }
            text
        }
        Format::Red { primary } => format!("{0}/{0}", primary.0),
        Format::Vp8 => String::new(),
        Format::H264 {
            packetization_mode,
            profile_level_id,
            level_asymmetry,
        } => {
            let mut text = String::new();
            if level_asymmetry {
                text.push_str("level-asymmetry-allowed=1;");
            }
            let _ = write!(text, "packetization-mode={packetization_mode}");
            if let Some([profile, constraints, level]) = profile_level_id {
                let id = format!("{profile:02x}{constraints:02x}{level:02x}");
                let _ = write!(text, ";profile-level-id={id}");
            }
            text
        }
        Format::Vp9 { profile } => format!("profile-id={profile}"),
        Format::Av1 {
            profile,
            level,
            tier,
        } => {
            format!("level-idx={level};profile={profile};tier={tier}")
        }
    }
}
