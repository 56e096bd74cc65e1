//! Offers of real clients (`tests/offers`, addresses and secrets replaced), and hostile ones.

use proptest::prelude::*;

use super::*;
use crate::ids::PayloadType;
use crate::peer::dtls::HashAlgorithm;
use crate::sfu::{Codec, OfferError};

macro_rules! offer {
    ($name:literal) => {
        include_str!(concat!("../../../tests/offers/", $name, ".sdp"))
    };
}

const OFFERS: [(&str, &str); 9] = [
    ("aiortc-meeting", offer!("aiortc-meeting")),
    ("chromium-meeting", offer!("chromium-meeting")),
    ("chromium-svc", offer!("chromium-svc")),
    ("chromium-whep", offer!("chromium-whep")),
    ("chromium-whip", offer!("chromium-whip")),
    ("ffmpeg-whip-active", offer!("ffmpeg-whip-active")),
    ("ffmpeg-whip-passive", offer!("ffmpeg-whip-passive")),
    ("firefox-meeting", offer!("firefox-meeting")),
    ("wrtc-meeting", offer!("wrtc-meeting")),
];

/// What a room does with an offer: everything sent is published, everything received is a slot.
fn plans(offer: &RemoteOffer, preference: &[Codec]) -> Vec<SectionPlan> {
    let mut slots = 0;
    let plan = |section: &Section| match section.kind {
        SectionKind::Media(_) if section.direction.sends() => SectionPlan::Publish {
            codecs: choose_codecs(section, preference),
        },
        SectionKind::Media(_) if section.direction.receives() => {
            slots += 1;
            let codecs = choose_codecs(section, preference);
            let rtx = codecs.iter().any(|codec| codec.rtx.is_some());
            SectionPlan::Slot(SlotPlan {
                codecs,
                media: Ssrc(1000 + slots),
                rtx: rtx.then_some(Ssrc(2000 + slots)),
                cname: "plenum".to_owned(),
                stream: format!("s{slots}"),
                track: format!("t{slots}"),
            })
        }
        SectionKind::Media(_) => SectionPlan::Inactive,
        SectionKind::Data { .. } => SectionPlan::Data,
        SectionKind::Unknown => SectionPlan::Reject,
    };
    offer.sections.iter().map(plan).collect()
}

fn answer(offer: &RemoteOffer, plans: &[SectionPlan]) -> String {
    let port = std::env::var("ANSWER_PORT")
        .ok()
        .and_then(|port| port.parse().ok());
    let port: u16 = port.unwrap_or(7800);
    let ice = Credentials {
        ufrag: "srvr".to_owned(),
        pwd: "the-password-of-the-server".to_owned(),
    };
    let fingerprint = Fingerprint::of(HashAlgorithm::Sha256, b"certificate");
    let udp = [
        SocketAddr::from(([192, 0, 2, 1], port)),
        ([127, 0, 0, 1], port).into(),
    ];
    let local = LocalTransport {
        ice: &ice,
        fingerprint: &fingerprint,
        role: offer.our_role(),
        udp: &udp,
        tcp: &udp[..1],
        session: 7,
        version: 2,
    };
    write_answer(offer, &local, plans)
}

/// The lines of each section of an SDP; the first entry is the session.
fn sections(sdp: &str) -> Vec<Vec<&str>> {
    let mut sections = vec![Vec::new()];
    for line in sdp.lines() {
        if line.starts_with("m=") {
            sections.push(Vec::new());
        }
        sections.last_mut().unwrap().push(line);
    }
    sections
}

#[test]
fn every_client_gets_an_answer_with_its_sections_in_order() {
    for (name, sdp) in OFFERS {
        let offer = parse_offer(sdp).unwrap_or_else(|error| panic!("{name}: {error}"));
        let text = answer(&offer, &plans(&offer, &[]));
        let written = sections(&text);
        assert_eq!(written.len(), offer.sections.len() + 1, "{name}");
        assert!(text.ends_with("\r\n") && !text.replace("\r\n", "").contains(['\r', '\n']));
        assert!(written[0].contains(&"a=ice-lite"), "{name}");
        for (section, lines) in offer.sections.iter().zip(&written[1..]) {
            assert!(
                lines.contains(&format!("a=mid:{}", section.mid).as_str()),
                "{name}"
            );
            assert!(!lines[0].contains(" 0 UDP"), "{name}: {}", lines[0]);
            assert!(
                !lines.iter().any(|line| line.contains("video-orientation")),
                "{name}"
            );
        }
        let bundle = offer
            .bundle
            .iter()
            .fold("a=group:BUNDLE".to_owned(), |group, mid| {
                format!("{group} {mid}")
            });
        assert!(written[0].contains(&bundle.as_str()), "{name}");
        assert_eq!(text.matches("a=end-of-candidates").count(), 1, "{name}");
    }
}

#[test]
fn chromium_offers_simulcast_slots_and_data_channels() {
    let offer = parse_offer(offer!("chromium-meeting")).unwrap();
    assert_eq!(offer.setup, Setup::ActPass);
    assert_eq!(offer.our_role(), DtlsRole::Passive);
    assert_eq!(offer.ice.ufrag, "ufrg");
    assert!(offer.extmap_allow_mixed);
    assert_eq!(offer.sections.len(), 13);

    let microphone = &offer.sections[0];
    assert_eq!(microphone.kind, SectionKind::Media(Kind::Audio));
    assert_eq!(microphone.direction, Direction::SendOnly);
    let formats: Vec<u8> = microphone
        .codecs
        .iter()
        .map(|codec| codec.payload_type.0)
        .collect();
    assert_eq!(formats, [111, 63]);
    assert_eq!(microphone.sources.len(), 1);

    let camera = &offer.sections[1];
    let rids: Vec<&str> = camera.rids.iter().map(Rid::as_str).collect();
    assert_eq!(rids, ["q", "h", "f"]);
    assert!(camera.simulcast && camera.sources.is_empty());
    let vp8 = camera.codecs[0];
    assert_eq!((vp8.format, vp8.rtx), (Format::Vp8, Some(PayloadType(97))));
    assert!(vp8.feedback.nack && vp8.feedback.pli && vp8.feedback.transport_cc);
    let variants = camera
        .codecs
        .iter()
        .filter(|codec| codec.codec() == Some(Codec::H264));
    assert_eq!(variants.count(), 6);
    let data = SectionKind::Data {
        sctp_port: 5000,
        max_message_bytes: 262_144,
    };
    assert_eq!(offer.sections[12].kind, data);
}

#[test]
fn chromium_is_answered_with_its_rids_and_with_fixed_sources_on_slots() {
    let offer = parse_offer(offer!("chromium-meeting")).unwrap();
    let text = answer(&offer, &plans(&offer, &[Codec::Av1, Codec::H264]));
    let written = sections(&text);
    let camera = &written[2];
    assert!(
        camera[0].starts_with("m=video 7800 UDP/TLS/RTP/SAVPF 45 102 104 108"),
        "{}",
        camera[0]
    );
    for line in [
        "a=recvonly",
        "a=setup:passive",
        "a=rid:q recv",
        "a=simulcast:recv q;h;f",
        "a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f",
        "a=rtcp-fb:96 transport-cc",
        "a=rtpmap:97 rtx/90000",
        "a=fmtp:97 apt=96",
        "a=extmap:12 https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
    ] {
        assert!(camera.contains(&line), "{line}");
    }
    assert!(!text.contains("goog-remb") && !text.contains("playout-delay\r\na=extmap:10"));
    let slot = &written[8];
    for line in [
        "a=sendonly",
        "a=msid:s5 t5",
        "a=ssrc-group:FID 1005 2005",
        "a=ssrc:1005 cname:plenum",
        "a=ssrc:2005 msid:s5 t5",
        "a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
    ] {
        assert!(slot.contains(&line), "{line}");
    }
    let audio_slot = &written[4];
    assert!(audio_slot.contains(&"a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1"));
    assert!(written[13].contains(&"a=max-message-size:65536"));
}

#[test]
fn firefox_bundle_only_sections_are_not_rejected() {
    let offer = parse_offer(offer!("firefox-meeting")).unwrap();
    assert!(offer.sections.iter().all(|section| !section.rejected));
    let camera = &offer.sections[1];
    assert_eq!(camera.rids.len(), 3);
    assert_eq!(camera.sources.len(), 3);
    assert_eq!(camera.sources[0].rtx, Some(Ssrc(1_620_237_961)));
    // Offered as `6/recvonly`: not for what Firefox sends, but for its slots.
    assert!(
        camera
            .extensions
            .iter()
            .all(|&(_, it)| it != Extension::PlayoutDelay)
    );
    let slot = offer.sections.last().map(|_| &offer.sections[6]).unwrap();
    assert!(
        slot.extensions
            .iter()
            .any(|&(_, it)| it == Extension::PlayoutDelay)
    );
    assert!(!offer.extmap_allow_mixed && camera.extmap_allow_mixed);
}

#[test]
fn ffmpeg_names_its_sources_and_may_insist_on_being_the_server() {
    let offer = parse_offer(offer!("ffmpeg-whip-passive")).unwrap();
    assert_eq!(offer.our_role(), DtlsRole::Active);
    let video = &offer.sections[1];
    assert_eq!(video.sources.len(), 1);
    assert!(video.sources[0].rtx.is_some());
    let text = answer(&offer, &plans(&offer, &[]));
    assert!(text.contains("a=setup:active"));
    let first = text
        .lines()
        .find(|line| line.starts_with("a=candidate"))
        .unwrap();
    assert_eq!(
        first,
        "a=candidate:1 1 udp 2130706175 192.0.2.1 7800 typ host"
    );
    assert!(text.contains("192.0.2.1 7800 typ host tcptype passive"));
    let active = parse_offer(offer!("ffmpeg-whip-active")).unwrap();
    assert_eq!(active.our_role(), DtlsRole::Passive);
}

#[test]
fn aiortc_is_asked_for_remb_because_it_has_nothing_else() {
    let offer = parse_offer(offer!("aiortc-meeting")).unwrap();
    let text = answer(&offer, &plans(&offer, &[]));
    assert!(text.contains("a=rtcp-fb:97 goog-remb"));
}

#[test]
fn a_rejected_section_leaves_the_bundle_and_keeps_its_line() {
    let offer = parse_offer(offer!("chromium-whip")).unwrap();
    let mut plans = plans(&offer, &[]);
    plans[0] = SectionPlan::Reject;
    let text = answer(&offer, &plans);
    let written = sections(&text);
    assert!(written[0].contains(&"a=group:BUNDLE 1"));
    assert!(written[1][0].starts_with("m=audio 0 UDP/TLS/RTP/SAVPF 111 63 9"));
    // The candidates move to the first section that is left.
    assert!(written[2].contains(&"a=end-of-candidates"));
}

#[test]
fn an_ice_fragment_names_the_bundle_and_our_candidates() {
    let offer = parse_offer(offer!("chromium-whip")).unwrap();
    let ice = Credentials {
        ufrag: "srvr".to_owned(),
        pwd: "the-password-of-the-server".to_owned(),
    };
    let fingerprint = Fingerprint::of(HashAlgorithm::Sha256, b"certificate");
    let udp = ["192.0.2.1:7800".parse().unwrap()];
    let role = DtlsRole::Passive;
    let local = LocalTransport {
        ice: &ice,
        fingerprint: &fingerprint,
        role,
        udp: &udp,
        tcp: &[],
        session: 1,
        version: 1,
    };
    let fragment = ice_fragment(&local, &offer.bundle);
    assert_eq!(
        fragment,
        "a=ice-lite\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
         a=ice-ufrag:srvr\r\na=ice-pwd:the-password-of-the-server\r\n\
         a=candidate:1 1 udp 2130706175 192.0.2.1 7800 typ host\r\na=end-of-candidates\r\n"
    );
}

#[test]
fn what_is_missing_or_doubled_is_named() {
    let good = offer!("chromium-whip");
    let error = |sdp: &str| parse_offer(sdp).unwrap_err().to_string();
    let without = |prefix: &str| -> String {
        good.split_inclusive("\r\n")
            .filter(|line| !line.starts_with(prefix))
            .collect()
    };
    for (prefix, text) in [
        ("a=ice-ufrag", "ice-ufrag"),
        ("a=ice-pwd", "ice-pwd"),
        ("a=fingerprint", "fingerprint"),
        ("a=setup", "setup"),
        ("a=mid", "mid"),
        ("a=rtcp-mux", "rtcp-mux"),
    ] {
        assert!(
            error(&without(prefix)).contains(text),
            "{prefix}: {}",
            error(&without(prefix))
        );
    }
    assert!(error(&good.replace("a=mid:1", "a=mid:0")).contains("two sections have the mid 0"));
    assert!(error(&good.replace("SAVPF 111 63", "SAVPF 111 111")).contains("111 twice"));
    assert!(error(&good.replace("SAVPF 111 63", "SAVPF 111 163")).contains("not 0 to 127"));
    assert!(error(&good.replace("a=extmap:3 ", "a=extmap:2 ")).contains("extension id 2 twice"));
    assert!(error(&good.replace("a=extmap:3 ", "a=extmap:0 ")).contains("out of range"));
    assert!(error(&good.replace("sha-256", "md5")).contains("no a=fingerprint is a valid"));
    assert!(error(good.split("m=").next().unwrap()).contains("no media section"));
    assert!(matches!(parse_offer("hello"), Err(OfferError::BadSdp(_))));
    assert!(matches!(parse_offer(""), Err(OfferError::BadSdp(_))));
}

#[test]
fn without_a_bundle_only_the_first_section_has_a_transport() {
    let alone = offer!("chromium-whip").replace("a=group:BUNDLE 0 1\r\n", "");
    let offer = parse_offer(&alone).unwrap();
    assert_eq!(offer.bundle, [offer.sections[0].mid]);
    assert!(!offer.sections[0].rejected && offer.sections[1].rejected);
}

#[test]
fn oversized_offers_are_refused_before_they_are_parsed() {
    let session = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";
    let video = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n";
    let refused = |sdp: String| {
        let error = parse_offer(&sdp).unwrap_err();
        assert!(matches!(error, OfferError::LimitExceeded(_)), "{error}");
    };
    refused(format!("{session}{}", video.repeat(129)));
    refused(format!("{session}{}", "m=x\n".repeat(10_000)));
    refused("v".repeat(256 * 1024 + 1));
    refused(format!("{session}a={}\r\n", "x".repeat(9000)));
    refused(format!(
        "{session}{video}{}",
        "a=candidate:1\r\n".repeat(65)
    ));
    refused(format!("{session}{video}{}", "a=extmap:1 x\r\n".repeat(33)));
    refused(format!(
        "{session}{video}{}",
        "a=ssrc:1 cname:x\r\n".repeat(65)
    ));
    refused(format!("{session}{video}{}", "a=rid:a send\r\n".repeat(9)));
    refused(format!(
        "{session}m=video 9 UDP/TLS/RTP/SAVPF{}\r\n",
        " 96".repeat(129)
    ));
}

#[test]
fn every_truncation_of_an_offer_is_an_offer_or_an_error() {
    for (_, sdp) in OFFERS {
        let step = if sdp.len() > 10_000 { 97 } else { 7 };
        for end in (0..sdp.len()).step_by(step) {
            if let Ok(offer) = sdp.get(..end).map_or(parse_offer(""), parse_offer) {
                answer(&offer, &plans(&offer, &[]));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn mutated_offers_never_panic(
        which in 0..OFFERS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..40usize), 1..12),
    ) {
        let mut bytes = OFFERS[which].1.as_bytes().to_vec();
        for (at, byte, remove) in edits {
            let start = at.index(bytes.len());
            let end = (start + remove).min(bytes.len());
            bytes.splice(start..end, [byte & 0x7f]);
            if bytes.is_empty() {
                break;
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(offer) = parse_offer(&text) {
            let answer = answer(&offer, &plans(&offer, &[]));
            prop_assert_eq!(sections(&answer).len(), offer.sections.len() + 1);
        }
    }

    #[test]
    fn any_text_is_an_offer_or_an_error(text in "(v=0\r\no=- 1 1 IN IP4 0\r\ns=-\r\nt=0 0\r\n)?(m=[a-z0-9/ ]{0,30}\r\n)?([a-z]=[ -~]{0,60}\r\n){0,20}") {
        let _ = parse_offer(&text);
    }
}

/// For trying answers in a browser: reads the offer in the file `OFFER`, writes the answer to `ANSWER`.
#[test]
#[ignore = "by hand, with a browser"]
fn answers_an_offer_in_a_file() {
    let (from, to) = (
        std::env::var("OFFER").unwrap(),
        std::env::var("ANSWER").unwrap(),
    );
    let offer = parse_offer(&std::fs::read_to_string(from).unwrap()).unwrap();
    std::fs::write(to, answer(&offer, &plans(&offer, &[]))).unwrap();
}
