//! A browser: an independent client with its own SDP, STUN, DTLS (dimpl), SRTP (rtc-srtp) and RTP.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dimpl::{Dtls, DtlsCertificate, Output};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rtc_srtp::context::Context;
use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;
use sfu::shard::{Path, Protocol};
use sfu::{Codec, ParticipantId, Wants};

use crate::channels::Channels;
use crate::media::{Encoder, Stamp};
use crate::offer::{self, Answer, Line, Role, Session};
use crate::receiver::Receiver;
use crate::rtp::{self, Packet, Rtcp, Unwrap};
use crate::sender::{Outgoing, Sender};
use crate::stun::{Check, read_success};

const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Checks for consent once connected.
const CONSENT_INTERVAL: Duration = Duration::from_secs(2);
const FEEDBACK_INTERVAL: Duration = Duration::from_millis(50);
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// How a browser is set up.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) name: &'static str,
    pub(crate) wants: Wants,
    pub(crate) roles: Vec<Role>,
    pub(crate) codecs: Vec<Codec>,
    pub(crate) transport_wide: bool,
    /// `a=setup` of its offers.
    pub(crate) setup: &'static str,
    pub(crate) uses_tcp: bool,
    /// The longest DTLS datagram; small ones cut the ClientHello up.
    pub(crate) dtls_bytes_max: Option<usize>,
    pub(crate) lies_about_certificate: bool,
    /// Nominates with its second check, as libwebrtc does when the other side is lite.
    pub(crate) nominates_late: bool,
    pub(crate) nacks: bool,
    /// Sends sender and receiver reports.
    pub(crate) reports: bool,
    /// Sends transport-wide feedback, if that was negotiated.
    pub(crate) feedback: bool,
}

impl Options {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            wants: Wants::All,
            roles: Vec::new(),
            codecs: vec![Codec::Vp8, Codec::Vp9, Codec::H264],
            transport_wide: true,
            setup: "actpass",
            uses_tcp: false,
            dtls_bytes_max: None,
            lies_about_certificate: false,
            nominates_late: false,
            nacks: true,
            reports: true,
            feedback: true,
        }
    }

    /// Publishes a camera; three rids are the usual simulcast.
    pub(crate) fn camera(mut self, codec: Codec, rids: &[&'static str]) -> Self {
        let rids = rids.to_vec();
        self.roles.push(Role::Video { codec, rids });
        self
    }

    pub(crate) fn microphone(mut self) -> Self {
        self.roles.push(Role::Audio { red: false });
        self
    }

    /// A microphone that sends redundant audio (RFC 2198).
    pub(crate) fn red_microphone(mut self) -> Self {
        self.roles.push(Role::Audio { red: true });
        self
    }

    pub(crate) fn data(mut self) -> Self {
        self.roles.push(Role::Data);
        self
    }

    pub(crate) fn wants(mut self, wants: Wants) -> Self {
        self.wants = wants;
        self
    }

    pub(crate) fn slots(mut self, audio: usize, video: usize) -> Self {
        let slot = |is_audio| Role::Slot { is_audio };
        self.roles.extend(std::iter::repeat_n(slot(true), audio));
        self.roles.extend(std::iter::repeat_n(slot(false), video));
        self
    }
}

struct Keys {
    encrypt: Context,
    decrypt: Context,
}

/// One browser of a simulated room.
pub(crate) struct Browser {
    pub(crate) options: Options,
    pub(crate) number: u16,
    pub(crate) participant: ParticipantId,
    pub(crate) address: SocketAddr,
    pub(crate) lines: Vec<Line>,
    pub(crate) answer: Answer,
    pub(crate) path: Option<Path>,
    pub(crate) is_gone: bool,
    /// Stops checks, so that consent runs out.
    pub(crate) is_silent: bool,
    /// How far its wall clock was set forward, in seconds.
    pub(crate) clock_set: u64,
    pub(crate) connected_at: Option<Instant>,
    pub(crate) secured_at: Option<Instant>,
    pub(crate) senders: Vec<Sender>,
    pub(crate) receivers: BTreeMap<u32, Receiver>,
    /// What was sent under which SSRC and number, and when it was captured.
    pub(crate) published: Vec<(u32, u16, Stamp, Instant)>,
    pub(crate) transport_feedback: usize,
    pub(crate) receiver_reports: usize,
    pub(crate) unreadable: usize,
    /// RTP that overtook the end of the handshake: there were no keys for it yet.
    pub(crate) early: usize,
    /// Keys of what the server sends, once known; for the checker.
    pub(crate) server_keys: Option<(ProtectionProfile, Vec<u8>, Vec<u8>)>,
    pub(crate) channels: Option<Channels>,
    random: StdRng,
    ufrag: String,
    pwd: String,
    next_check: Option<Instant>,
    transaction: [u8; 12],
    /// The last check nominated.
    nominates: bool,
    is_nominated: bool,
    dtls: Option<Dtls>,
    dtls_timeout: Option<Instant>,
    is_dtls_client: bool,
    keys: Option<Keys>,
    out: VecDeque<(Path, Vec<u8>)>,
    transport_number: u16,
    arrivals: BTreeMap<u64, Instant>,
    arrival_unwrap: Unwrap,
    feedback_count: u8,
    next_feedback: Option<Instant>,
    next_report: Option<Instant>,
    epoch: Instant,
}

fn certificate() -> &'static DtlsCertificate {
    static CERTIFICATE: OnceLock<DtlsCertificate> = OnceLock::new();
    CERTIFICATE.get_or_init(|| dimpl::certificate::generate_self_signed_certificate().unwrap())
}

impl Browser {
    pub(crate) fn new(
        now: Instant,
        seed: u64,
        number: u16,
        participant: ParticipantId,
        options: Options,
    ) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let ip = IpAddr::from([10, 0, (number >> 8) as u8, number as u8 + 1]);
        let mut browser = Self {
            number,
            participant,
            address: SocketAddr::new(ip, 5000),
            lines: Vec::new(),
            answer: Answer::default(),
            path: None,
            is_gone: false,
            is_silent: false,
            clock_set: 0,
            connected_at: None,
            secured_at: None,
            senders: Vec::new(),
            receivers: BTreeMap::new(),
            published: Vec::new(),
            transport_feedback: 0,
            receiver_reports: 0,
            unreadable: 0,
            early: 0,
            server_keys: None,
            channels: None,
            ufrag: letters(&mut random, 4),
            pwd: letters(&mut random, 24),
            random,
            next_check: None,
            transaction: [0; 12],
            nominates: false,
            is_nominated: false,
            dtls: None,
            dtls_timeout: None,
            is_dtls_client: true,
            keys: None,
            out: VecDeque::new(),
            transport_number: 0,
            arrivals: BTreeMap::new(),
            arrival_unwrap: Unwrap::default(),
            feedback_count: 0,
            next_feedback: None,
            next_report: None,
            epoch: now,
            options,
        };
        for role in browser.options.roles.clone() {
            browser.add_line(now, role);
        }
        browser
    }

    /// Adds an m-line to the next offer; returns its mid.
    pub(crate) fn add_line(&mut self, now: Instant, role: Role) -> String {
        let mid = self.lines.len().to_string();
        let source = self.number << 8 | self.lines.len() as u16;
        let mut sources = None;
        match &role {
            Role::Video { codec, rids } => {
                let start: u16 = self.random.random();
                for (layer, rid) in (0u8..).zip(rids) {
                    let encoder =
                        Encoder::new(*codec, source, layer, start.wrapping_add(layer.into()));
                    let rid = (rids.len() > 1).then_some(*rid);
                    let sender = Sender::new(now, &mid, rid, encoder);
                    sources = rid.is_none().then_some((sender.ssrc, sender.rtx));
                    self.senders.push(sender);
                }
            }
            Role::Audio { red } => {
                let encoder = Encoder::new(Codec::Opus, source, 0, self.random.random());
                let mut sender = Sender::new(now, &mid, None, encoder);
                sender.red = *red;
                self.senders.push(sender);
            }
            Role::Slot { .. } | Role::Data => {}
        }
        self.lines.push(Line {
            mid: mid.clone(),
            role,
            sources,
        });
        mid
    }

    /// What this browser offers now.
    pub(crate) fn offer(&self) -> String {
        let mut fingerprint = certificate().fingerprint_str();
        if self.options.lies_about_certificate {
            let digit = if fingerprint.starts_with('0') {
                "1"
            } else {
                "0"
            };
            fingerprint.replace_range(..1, digit);
        }
        let session = Session {
            ufrag: &self.ufrag,
            pwd: &self.pwd,
            fingerprint: &fingerprint,
            setup: self.options.setup,
            transport_wide: self.options.transport_wide,
            codecs: &self.options.codecs,
        };
        offer::write_offer(&session, &self.lines)
    }

    /// Draws new ICE credentials for the next offer.
    pub(crate) fn restart_ice(&mut self) {
        self.ufrag = letters(&mut self.random, 4);
        self.pwd = letters(&mut self.random, 24);
    }

    /// Our credentials.
    pub(crate) fn credentials(&self) -> (String, String) {
        (self.ufrag.clone(), self.pwd.clone())
    }

    pub(crate) fn accept(&mut self, now: Instant, sdp: &str) {
        self.answer = offer::read_answer(sdp);
        assert!(matches!(self.answer.setup.as_str(), "active" | "passive"));
        self.is_dtls_client = self.answer.setup == "passive";
        for line in &self.lines {
            let Role::Slot { is_audio } = line.role else {
                continue;
            };
            let section = &self.answer.sections[&line.mid];
            if section.ssrcs.is_empty() {
                continue;
            }
            let codecs = section.codecs.iter().filter_map(|(number, name)| {
                let codec = match name.split('/').next()? {
                    "opus" => Codec::Opus,
                    "VP8" => Codec::Vp8,
                    "VP9" => Codec::Vp9,
                    "H264" => Codec::H264,
                    _ => return None,
                };
                Some((*number, codec))
            });
            let ssrcs = &section.ssrcs;
            self.receivers
                .entry(ssrcs[0])
                .or_insert_with(|| Receiver::new(&line.mid, is_audio, ssrcs, codecs.collect()));
        }
        let (local, protocol) = match self.options.uses_tcp {
            true => (self.answer.tcp[0], Protocol::Tcp(u64::from(self.number))),
            false => (self.answer.udp[0], Protocol::Udp),
        };
        self.path = Some(Path::new(local, self.address, protocol));
        self.is_nominated = false;
        self.next_check = Some(now);
    }

    /// Takes the server's new credentials from a fragment (RFC 8840).
    pub(crate) fn take_fragment(&mut self, now: Instant, fragment: &str) {
        let renewed = offer::read_answer(fragment);
        (self.answer.ufrag, self.answer.pwd) = (renewed.ufrag, renewed.pwd);
        self.is_nominated = false;
        self.next_check = Some(now);
    }

    /// Continues from another address, as after a change of network.
    pub(crate) fn move_to(&mut self, now: Instant, port: u16) {
        self.address.set_port(port);
        let path = self.path.expect("it has connected");
        self.path = Some(Path::new(path.local, self.address, path.protocol));
        self.is_nominated = false;
        self.next_check = Some(now);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.keys.is_some()
    }

    /// The first slot of a kind, by number.
    pub(crate) fn slot(&self, is_audio: bool, place: usize) -> &Receiver {
        let mid = self
            .lines
            .iter()
            .filter(|line| line.role == Role::Slot { is_audio })
            .nth(place)
            .map(|line| &line.mid);
        let found = self.receivers.values().find(|r| Some(&r.mid) == mid);
        found.expect("the slot was answered")
    }

    pub(crate) fn video(&self, place: usize) -> &Receiver {
        self.slot(false, place)
    }

    pub(crate) fn audio(&self, place: usize) -> &Receiver {
        self.slot(true, place)
    }

    /// Asks for a keyframe of a slot.
    pub(crate) fn ask_for_keyframe(&mut self, media: u32) {
        self.send_rtcp(&rtp::write_pli(9, media));
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<(Path, Vec<u8>)> {
        self.out.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.is_gone {
            return None;
        }
        let media = self.keys.as_ref().map(|_| {
            let senders = self.senders.iter().filter_map(Sender::poll_timeout);
            let receivers = self.receivers.values().filter_map(Receiver::poll_timeout);
            let nacks = self
                .options
                .nacks
                .then_some(receivers)
                .into_iter()
                .flatten();
            let reports = [self.next_feedback, self.next_report].into_iter().flatten();
            senders.chain(nacks).chain(reports).min()
        });
        let checks = self.next_check.filter(|_| !self.is_silent);
        let data = self.channels.as_ref().and_then(Channels::poll_timeout);
        [checks, self.dtls_timeout, media.flatten(), data]
            .into_iter()
            .flatten()
            .min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.is_gone {
            return;
        }
        if self.next_check.is_some_and(|at| at <= now) && !self.is_silent {
            self.check(now);
        }
        if self.dtls_timeout.is_some_and(|at| at <= now) {
            self.drive_dtls(now, None);
        }
        if let Some(channels) = &mut self.channels {
            if channels.poll_timeout().is_some_and(|at| at <= now) {
                channels.handle_timeout(now);
            }
            self.send_data(now);
        }
        if self.keys.is_some() {
            self.send_media(now);
            self.send_feedback(now);
            self.send_reports(now);
        }
    }

    fn check(&mut self, now: Instant) {
        let Some(path) = self.path else { return };
        self.transaction = self.random.random();
        self.nominates = !self.options.nominates_late || self.connected_at.is_some();
        let username = format!("{}:{}", self.answer.ufrag, self.ufrag);
        let check = Check {
            transaction: self.transaction,
            username: &username,
            password: &self.answer.pwd,
            nominates: self.nominates,
        };
        self.out.push_back((path, check.write()));
        let pause = if self.is_nominated {
            CONSENT_INTERVAL
        } else {
            CHECK_INTERVAL
        };
        self.next_check = Some(now + pause);
    }

    pub(crate) fn handle(&mut self, now: Instant, path: Path, bytes: &[u8]) {
        if self.is_gone {
            return;
        }
        match bytes[0] {
            0..=3 => {
                let transaction = read_success(bytes, &self.answer.pwd);
                if transaction == Some(self.transaction) && Some(path) == self.path {
                    self.handle_success(now);
                }
            }
            20..=63 => self.drive_dtls(now, Some(bytes)),
            128..=191 if (192..=223).contains(&bytes[1]) => self.handle_rtcp(now, bytes),
            128..=191 => self.handle_rtp(now, bytes),
            first => panic!("the server sent a datagram that begins with {first}"),
        }
    }

    fn handle_success(&mut self, now: Instant) {
        if !self.is_nominated && self.nominates {
            self.is_nominated = true;
            self.next_check = Some(now + CONSENT_INTERVAL);
        }
        self.connected_at.get_or_insert(now);
        if self.dtls.is_none() {
            let retransmit_after = Duration::from_millis(50); // as libwebrtc does
            // Retransmission timers are jittered: with a seed this side repeats itself.
            let mut config = dimpl::Config::builder()
                .dangerously_set_rng_seed(self.random.random())
                .use_server_cookie(false)
                .flight_start_rto(retransmit_after)
                .flight_retries(10);
            if let Some(bytes) = self.options.dtls_bytes_max {
                config = config.mtu(bytes);
            }
            let config = Arc::new(config.build().unwrap());
            let mut dtls = Dtls::new_12(config, certificate().clone(), now);
            dtls.set_active(self.is_dtls_client);
            self.dtls = Some(dtls);
            self.drive_dtls(now, None);
        }
    }

    fn drive_dtls(&mut self, now: Instant, bytes: Option<&[u8]>) {
        let Some(mut dtls) = self.dtls.take() else {
            return;
        };
        self.dtls_timeout = None;
        let mut is_alive = dtls.handle_timeout(now).is_ok();
        if let Some(bytes) = bytes {
            is_alive &= dtls.handle_packet(bytes).is_ok();
        }
        if !is_alive {
            self.dtls = Some(dtls);
            return;
        }
        let mut buffer = vec![0; 4096];
        loop {
            match dtls.poll_output(&mut buffer) {
                Output::Packet(bytes) => {
                    let path = self.path.expect("checks went before");
                    self.out.push_back((path, bytes.to_vec()));
                }
                Output::PeerCert(certificate) => {
                    let hash = dimpl::certificate::calculate_fingerprint(certificate);
                    let text = dimpl::certificate::format_fingerprint(&hash);
                    assert_eq!(self.answer.fingerprint, format!("sha-256 {text}"));
                }
                Output::KeyingMaterial(material, profile) => self.set_keys(now, profile, &material),
                Output::Connected if self.lines.iter().any(|line| line.role == Role::Data) => {
                    self.channels.get_or_insert_with(|| Channels::new(now));
                }
                Output::ApplicationData(data) => {
                    let channels = self.channels.as_mut().expect("data was offered");
                    channels.handle(now, data);
                }
                Output::Timeout(at) => {
                    self.dtls_timeout = Some(at).filter(|at| *at > now && self.keys.is_none());
                    break;
                }
                Output::CloseNotify => break,
                _ => {}
            }
        }
        self.dtls = Some(dtls);
        self.send_data(now);
    }

    /// Moves what the data channels want to send into DTLS.
    pub(crate) fn send_data(&mut self, now: Instant) {
        let (Some(channels), Some(dtls)) = (&mut self.channels, &mut self.dtls) else {
            return;
        };
        let mut buffer = vec![0; 4096];
        for packet in channels.poll_transmit(now) {
            dtls.send_application_data(&packet).unwrap();
            while let Output::Packet(bytes) = dtls.poll_output(&mut buffer) {
                let path = self.path.expect("checks went before");
                self.out.push_back((path, bytes.to_vec()));
            }
        }
    }

    fn set_keys(&mut self, now: Instant, profile: dimpl::SrtpProfile, material: &[u8]) {
        let profile = match profile {
            dimpl::SrtpProfile::AEAD_AES_256_GCM => ProtectionProfile::AeadAes256Gcm,
            dimpl::SrtpProfile::AEAD_AES_128_GCM => ProtectionProfile::AeadAes128Gcm,
            _ => ProtectionProfile::Aes128CmHmacSha1_80,
        };
        let (keys, salts) = material.split_at(2 * profile.key_len());
        let (client_key, server_key) = keys.split_at(profile.key_len());
        let (client_salt, server_salt) = salts.split_at(profile.salt_len());
        let client = (client_key.to_vec(), client_salt.to_vec());
        let server = (
            server_key[..profile.key_len()].to_vec(),
            server_salt[..profile.salt_len()].to_vec(),
        );
        let (ours, theirs) = match self.is_dtls_client {
            true => (client, server),
            false => (server, client),
        };
        self.keys = Some(Keys {
            encrypt: context(profile, &ours.0, &ours.1),
            decrypt: context(profile, &theirs.0, &theirs.1),
        });
        self.server_keys = Some((profile, theirs.0, theirs.1));
        self.secured_at = Some(now);
        self.next_feedback = Some(now + FEEDBACK_INTERVAL);
        self.next_report = Some(now + REPORT_INTERVAL);
    }

    fn handle_rtp(&mut self, now: Instant, bytes: &[u8]) {
        let Some(keys) = &mut self.keys else {
            self.early += 1;
            return;
        };
        let Ok(plain) = keys.decrypt.decrypt_rtp(bytes) else {
            self.unreadable += 1; // a duplicate
            return;
        };
        let packet = Packet::read(&plain);
        if let Some(number) = packet.extension(offer::TRANSPORT_WIDE) {
            let number = self.arrival_unwrap.extend(rtp::u16_at(number, 0));
            self.arrivals.insert(number, now);
        }
        if let Some(receiver) = self.receivers.get_mut(&packet.ssrc) {
            receiver.receive(now, &packet);
            return;
        }
        let mut receivers = self.receivers.values_mut();
        let receiver = receivers.find(|receiver| receiver.rtx == Some(packet.ssrc));
        receiver
            .expect("every SSRC was announced")
            .recover(now, &packet);
    }

    fn handle_rtcp(&mut self, now: Instant, bytes: &[u8]) {
        let Some(keys) = &mut self.keys else { return };
        let Ok(plain) = keys.decrypt.decrypt_rtcp(bytes) else {
            self.unreadable += 1;
            return;
        };
        for packet in rtp::read_rtcp(&plain) {
            match packet {
                Rtcp::Nack { media, lost } => {
                    let sender = self.senders.iter_mut().find(|sender| sender.ssrc == media);
                    let packets = sender
                        .expect("a NACK for a stream of ours")
                        .retransmit(&lost);
                    self.send_packets(packets);
                }
                Rtcp::KeyframeRequest { media } => {
                    let sender = self.senders.iter_mut().find(|sender| sender.ssrc == media);
                    let sender = sender.expect("a PLI for a stream of ours");
                    sender.keyframe_requests.push(now);
                    // One encoder makes all layers: they all get a keyframe, as in libwebrtc.
                    let mid = sender.mid.clone();
                    for sender in self.senders.iter_mut().filter(|sender| sender.mid == mid) {
                        sender.encoder.wants_keyframe = true;
                    }
                }
                Rtcp::TransportWide { .. } => self.transport_feedback += 1,
                Rtcp::ReceiverReport { .. } => self.receiver_reports += 1,
                Rtcp::SenderReport { ssrc, ntp, rtp } => {
                    let receiver = self.receivers.get_mut(&ssrc).expect("a report on a slot");
                    receiver.last_report = Some(((ntp >> 16) as u32, now));
                    receiver.sender_reports.push((now, ntp, rtp));
                }
                Rtcp::Other(_) => {}
            }
        }
    }

    fn send_media(&mut self, now: Instant) {
        for index in 0..self.senders.len() {
            let packets = self.senders[index].handle_timeout(now);
            self.send_packets(packets);
        }
    }

    fn send_packets(&mut self, packets: Vec<Outgoing>) {
        let (Some(keys), Some(path)) = (&mut self.keys, self.path) else {
            return;
        };
        for Outgoing { mut packet, stamp } in packets {
            if self.options.transport_wide {
                self.transport_number = self.transport_number.wrapping_add(1);
                let number = self.transport_number.to_be_bytes().to_vec();
                packet.extensions.push((offer::TRANSPORT_WIDE, number));
            }
            if let Some((stamp, captured)) = stamp {
                self.published
                    .push((packet.ssrc, packet.sequence, stamp, captured));
            }
            let bytes = keys.encrypt.encrypt_rtp(&packet.write()).unwrap();
            self.out.push_back((path, bytes.to_vec()));
        }
    }

    fn send_feedback(&mut self, now: Instant) {
        if self.options.nacks {
            for index in 0..self.receivers.len() {
                let receiver = self.receivers.values_mut().nth(index).unwrap();
                let (media, lost) = (receiver.media, receiver.nack(now));
                if !lost.is_empty() && !receiver.is_audio {
                    self.send_rtcp(&rtp::write_nack(9, media, &lost));
                }
            }
        }
        if self.next_feedback.is_some_and(|at| at > now) {
            return;
        }
        self.next_feedback = Some(now + FEEDBACK_INTERVAL);
        let sends = self.options.transport_wide && self.options.feedback;
        let arrivals = std::mem::take(&mut self.arrivals);
        let ends = arrivals.first_key_value().zip(arrivals.last_key_value());
        let Some(((first, _), (last, _))) = ends.filter(|_| sends) else {
            return;
        };
        let epoch = self.epoch;
        let since = |at: &Instant| at.duration_since(epoch).as_millis() as u64;
        let list: Vec<Option<u64>> = (*first..=*last)
            .map(|n| arrivals.get(&n).map(since))
            .collect();
        for (index, part) in list.chunks(200).enumerate() {
            let base = (*first + 200 * index as u64) as u16;
            self.feedback_count = self.feedback_count.wrapping_add(1);
            let packet = rtp::write_transport_wide(9, self.feedback_count, base, part);
            self.send_rtcp(&packet);
        }
    }

    fn send_reports(&mut self, now: Instant) {
        if self.next_report.is_some_and(|at| at > now) {
            return;
        }
        self.next_report = Some(now + REPORT_INTERVAL);
        if !self.options.reports {
            return;
        }
        let ntp = self.ntp(now);
        let reports: Vec<Vec<u8>> = self
            .senders
            .iter()
            .filter(|sender| sender.is_active)
            .map(|sender| rtp::write_sender_report(sender.ssrc, ntp, sender.timestamp(now)))
            .collect();
        let received = self.receivers.values().filter_map(|receiver| {
            let (middle, at) = receiver.last_report?;
            let delay = now.duration_since(at).as_millis() as u32 * 65_536 / 1000;
            Some(rtp::write_receiver_report(
                9,
                receiver.media,
                0,
                (middle, delay),
            ))
        });
        let reports: Vec<Vec<u8>> = reports.into_iter().chain(received).collect();
        for report in reports {
            self.send_rtcp(&report);
        }
    }

    /// This browser's own wall clock.
    fn ntp(&self, now: Instant) -> u64 {
        let elapsed = now.duration_since(self.epoch);
        let seconds = 1_000_000 * u64::from(self.number + 1) + self.clock_set + elapsed.as_secs();
        (seconds << 32) | ((u64::from(elapsed.subsec_nanos()) << 32) / 1_000_000_000)
    }

    pub(crate) fn send_rtcp(&mut self, packet: &[u8]) {
        let (Some(keys), Some(path)) = (&mut self.keys, self.path) else {
            return;
        };
        let bytes = keys.encrypt.encrypt_rtcp(packet).unwrap();
        self.out.push_back((path, bytes.to_vec()));
    }
}

/// An SRTP context with replay protection, as browsers have it.
pub(crate) fn context(profile: ProtectionProfile, key: &[u8], salt: &[u8]) -> Context {
    let provider = rtc_srtp::crypto::default_provider().unwrap();
    let (rtp, rtcp) = (srtp_replay_protection(1024), srtcp_replay_protection(128));
    Context::new(key, salt, profile, Some(rtp), Some(rtcp), provider.crypto()).unwrap()
}

fn letters(random: &mut StdRng, length: usize) -> String {
    (0..length)
        .map(|_| char::from(b'a' + random.random_range(0..26u8)))
        .collect()
}
