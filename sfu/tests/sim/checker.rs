//! Watches everything a shard sends and asserts what must hold in every scenario.
//!
//! It decrypts the output before the network loses any of it, with keys of its own, and knows from the
//! browsers exactly what was published and what of it reached the shard.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rtc_srtp::context::Context;
use rtc_srtp::option::{srtcp_no_replay_protection, srtp_no_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;
use sfu::shard::Path;
use sfu::{Codec, Event, TrackId};

use crate::browser::Browser;
use crate::media::{Stamp, Vp8Numbers, read_payload};
use crate::rtp::{Packet, Rtcp, Unwrap, read_rtcp, u16_at, u32_at};

/// Consent runs out after this (RFC 7675); a round trip on top for what was heard last.
const CONSENT: Duration = Duration::from_millis(30_100);

/// What stands before a certificate's fingerprint in an answer, and how long that is.
const FINGERPRINT: &str = "a=fingerprint:sha-256 ";
const FINGERPRINT_DIGITS: usize = 95;

/// One published packet.
#[derive(Clone, Copy, Debug)]
struct Published {
    frame: u32,
    temporal: u8,
    captured: Instant,
    fate: Fate,
}

/// What became of a published packet on its way to the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Lost,
    /// It came from an address that had not passed a check, which the shard does not listen to.
    Unproven,
    /// It came before the shard had keys to read it.
    Unsecured,
    /// It came while its source was not published.
    Unpublished,
    /// It came after a later packet of its stream.
    Overtaken,
    InOrder,
}

/// Source, encoding, extended sequence number.
type Key = (u16, u8, u32);

fn key_of(stamp: &Stamp) -> Key {
    (stamp.source, stamp.encoding, stamp.sequence)
}

/// One packet as the shard sent it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    timestamp: u32,
    /// `None`: a filler.
    stamp: Option<Stamp>,
    vp8: Option<Vp8Numbers>,
}

#[derive(Default)]
struct Stream {
    is_audio: bool,
    unwrap: Unwrap,
    seen: BTreeMap<u64, Seen>,
}

struct Tap {
    context: Context,
    profile: ProtectionProfile,
}

/// Everything known about a simulated room's traffic.
pub(crate) struct Checker {
    start: Instant,
    published: HashMap<Key, Published>,
    on_wire: HashMap<(IpAddr, u32, u16), Key>,
    newest: HashMap<(u16, u8), u32>,
    /// Which track each source was published as, and since when.
    tracks: HashMap<u16, Vec<(Instant, TrackId)>>,
    ended: HashSet<TrackId>,
    /// Browsers whose keys the shard has.
    secured: HashSet<IpAddr>,
    /// When a path last carried something its browser proved.
    proven: HashMap<Path, Instant>,
    sent: HashMap<Path, usize>,
    media_to: HashMap<IpAddr, usize>,
    taps: HashMap<IpAddr, Tap>,
    /// Sent before the browser knew its keys.
    waiting: HashMap<IpAddr, Vec<(Instant, Vec<u8>)>>,
    streams: HashMap<(IpAddr, u32), Stream>,
    rtx: HashMap<(IpAddr, u32), Unwrap>,
    nonces: HashSet<(IpAddr, u32, u64)>,
    rtcp_nonces: HashSet<(IpAddr, u32, u32)>,
    trace: DefaultHasher,
    /// How far timestamps may be off at a switch: what links delay, until sender reports tell better.
    pub(crate) switch_tolerance_ms: f64,
    pub(crate) datagrams: usize,
    pub(crate) media_packets: usize,
    pub(crate) retransmissions: usize,
    pub(crate) fillers: usize,
}

impl Checker {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            published: HashMap::new(),
            on_wire: HashMap::new(),
            newest: HashMap::new(),
            tracks: HashMap::new(),
            ended: HashSet::new(),
            secured: HashSet::new(),
            proven: HashMap::new(),
            sent: HashMap::new(),
            media_to: HashMap::new(),
            taps: HashMap::new(),
            waiting: HashMap::new(),
            streams: HashMap::new(),
            rtx: HashMap::new(),
            nonces: HashSet::new(),
            rtcp_nonces: HashSet::new(),
            trace: DefaultHasher::new(),
            switch_tolerance_ms: 120.0,
            datagrams: 0,
            media_packets: 0,
            retransmissions: 0,
            fillers: 0,
        }
    }

    /// Notes what a browser published.
    pub(crate) fn note_published(&mut self, browser: &mut Browser) {
        for (ssrc, sequence, stamp, captured) in browser.published.drain(..) {
            let key = key_of(&stamp);
            self.on_wire
                .insert((browser.address.ip(), ssrc, sequence), key);
            let entry = Published {
                frame: stamp.frame,
                temporal: stamp.temporal,
                captured,
                fate: Fate::Lost,
            };
            self.published.insert(key, entry);
        }
    }

    /// Notes what was published without a browser; nothing of it is lost on the way.
    pub(crate) fn note_annexed(&mut self, captured: Instant, stamp: &Stamp) {
        let entry = Published {
            frame: stamp.frame,
            temporal: stamp.temporal,
            captured,
            fate: Fate::InOrder,
        };
        self.published.insert(key_of(stamp), entry);
    }

    /// Notes that a source is published as this track.
    pub(crate) fn note_track(&mut self, now: Instant, source: u16, track: TrackId) {
        let tracks = self.tracks.entry(source).or_default();
        if tracks.last().is_none_or(|(_, last)| *last != track) {
            tracks.push((now, track));
        }
    }

    /// Whether the source of two packets was published anew between them: then, for all the shard can
    /// know, it is another with a clock of its own.
    fn is_republished(&self, step: &Step) -> bool {
        let mut tracks = self.tracks.get(&step.from.1.source).into_iter().flatten();
        let between = step.from.0.at..=step.to.0.at;
        tracks.any(|(at, _)| between.contains(at))
    }

    /// Notes what reaches the shard from a browser.
    pub(crate) fn note_delivered(&mut self, now: Instant, path: Path, bytes: &[u8]) {
        match bytes[0] {
            0..=3 => {
                self.proven.insert(path, now);
            }
            128..=191 => {
                let proven = self.proven.get_mut(&path);
                let is_proven = proven.is_some();
                if let Some(proven) = proven {
                    *proven = now;
                }
                let wire = (path.remote.ip(), u32_at(bytes, 8), u16_at(bytes, 2));
                let Some(key) = self.on_wire.get(&wire) else {
                    return;
                };
                let track = self.tracks.get(&key.0).and_then(|tracks| tracks.last());
                let is_published = track.is_some_and(|(_, track)| !self.ended.contains(track));
                let newest = self.newest.entry((key.0, key.1)).or_insert(0);
                let fate = &mut self.published.get_mut(key).unwrap().fate;
                *fate = match *fate {
                    Fate::Lost if !is_proven => Fate::Unproven,
                    Fate::Lost if !self.secured.contains(&path.remote.ip()) => Fate::Unsecured,
                    Fate::Lost if !is_published => Fate::Unpublished,
                    Fate::Lost if key.2 > *newest => {
                        *newest = key.2;
                        Fate::InOrder
                    }
                    Fate::Lost => Fate::Overtaken,
                    first => first, // this one is a duplicate
                };
            }
            _ => {}
        }
    }

    /// Looks at one datagram that the shard sends.
    pub(crate) fn note_sent(
        &mut self,
        now: Instant,
        path: Path,
        bytes: &[u8],
        browser: Option<&Browser>,
    ) {
        self.datagrams += 1;
        *self.sent.entry(path).or_default() += 1;
        let proven = self.proven.get(&path);
        let proven = proven.unwrap_or_else(|| panic!("{path:?} never passed a check"));
        assert!(
            now.duration_since(*proven) <= CONSENT,
            "{:?} sent without consent at {:?}",
            bytes[0],
            now - self.start
        );
        let kind = bytes[0];
        (now - self.start, path.remote, kind).hash(&mut self.trace);
        if kind < 4 {
            bytes.hash(&mut self.trace);
        }
        let browser = browser.expect("a datagram for somebody unknown");
        if kind >= 128 {
            assert!(bytes.len() <= 1500, "{} bytes", bytes.len());
            let ip = path.remote.ip();
            *self.media_to.entry(ip).or_default() += 1;
            let waiting = self.waiting.entry(ip).or_default();
            waiting.push((now, bytes.to_vec()));
            self.read_waiting(browser);
        }
    }

    /// Reads what was sent to a browser before it told its keys.
    pub(crate) fn read_waiting(&mut self, browser: &Browser) {
        let Some((profile, key, salt)) = &browser.server_keys else {
            return;
        };
        let ip = browser.address.ip();
        self.taps.entry(ip).or_insert_with(|| {
            let provider = rtc_srtp::crypto::default_provider().unwrap();
            let (rtp, rtcp) = (srtp_no_replay_protection(), srtcp_no_replay_protection());
            let context = Context::new(
                key,
                salt,
                *profile,
                Some(rtp),
                Some(rtcp),
                provider.crypto(),
            );
            Tap {
                context: context.unwrap(),
                profile: *profile,
            }
        });
        for (at, bytes) in self.waiting.remove(&ip).unwrap_or_default() {
            if (192..=223).contains(&bytes[1]) {
                self.read_rtcp(ip, &bytes);
            } else {
                self.read_rtp(at, &bytes, browser);
            }
        }
    }

    fn read_rtcp(&mut self, ip: IpAddr, bytes: &[u8]) {
        let tap = self.taps.get_mut(&ip).unwrap();
        let index_at = match tap.profile {
            ProtectionProfile::Aes128CmHmacSha1_80 => bytes.len() - 14,
            _ => bytes.len() - 4,
        };
        let nonce = (ip, u32_at(bytes, 4), u32_at(bytes, index_at));
        assert!(
            self.rtcp_nonces.insert(nonce),
            "SRTCP nonce {nonce:?} used twice"
        );
        let plain = tap.context.decrypt_rtcp(bytes).expect("SRTCP decrypts");
        plain.hash(&mut self.trace);
        let packets = read_rtcp(&plain);
        let is_report = |packet: &Rtcp| !matches!(packet, Rtcp::Other(_));
        assert!(packets.iter().any(is_report), "{packets:?}");
    }

    fn read_rtp(&mut self, at: Instant, bytes: &[u8], browser: &Browser) {
        let ip = browser.address.ip();
        let tap = self.taps.get_mut(&ip).unwrap();
        let plain = tap.context.decrypt_rtp(bytes).expect("SRTP decrypts");
        plain.hash(&mut self.trace);
        let packet = Packet::read(&plain);
        let media = browser.receivers.get(&packet.ssrc);
        let Some(receiver) = media else {
            let mut receivers = browser.receivers.values();
            let receiver = receivers.find(|receiver| receiver.rtx == Some(packet.ssrc));
            let receiver =
                receiver.unwrap_or_else(|| panic!("SSRC {} is not announced", packet.ssrc));
            self.read_retransmission(
                ip,
                &packet,
                receiver.media,
                receiver.codec(packet.payload_type - 1),
            );
            return;
        };
        let codec = receiver.codec(packet.payload_type);
        let stream = self.streams.entry((ip, packet.ssrc)).or_default();
        stream.is_audio = receiver.is_audio;
        let index = stream.unwrap.extend(packet.sequence);
        let nonce = (ip, packet.ssrc, index);
        assert!(self.nonces.insert(nonce), "SRTP nonce {nonce:?} used twice");
        if stream.seen.is_empty() {
            assert!(
                packet.sequence < 1 << 15,
                "first number {}",
                packet.sequence
            );
        }
        let read = (!packet.payload.is_empty()).then(|| read_payload(codec, &packet.payload));
        self.media_packets += 1;
        self.fillers += usize::from(read.is_none());
        let mid = packet.extension(crate::offer::MID).expect("MID is sent");
        assert_eq!(mid, receiver.mid.as_bytes());
        let seen = Seen {
            at,
            timestamp: packet.timestamp,
            stamp: read.map(|(stamp, _)| stamp),
            vp8: read.and_then(|(_, numbers)| numbers),
        };
        stream.seen.insert(index, seen);
    }

    fn read_retransmission(&mut self, ip: IpAddr, packet: &Packet, media: u32, codec: Codec) {
        let index = self
            .rtx
            .entry((ip, packet.ssrc))
            .or_default()
            .extend(packet.sequence);
        let nonce = (ip, packet.ssrc, index);
        assert!(self.nonces.insert(nonce), "SRTP nonce {nonce:?} used twice");
        let stream = self
            .streams
            .get_mut(&(ip, media))
            .expect("media came before");
        let original = stream.unwrap.extend(u16_at(&packet.payload, 0));
        let seen = stream
            .seen
            .get(&original)
            .expect("what is sent again was sent once");
        let (stamp, numbers) = read_payload(codec, &packet.payload[2..]);
        assert_eq!((Some(stamp), numbers), (seen.stamp, seen.vp8));
        assert_eq!(packet.timestamp, seen.timestamp);
        self.retransmissions += 1;
    }

    /// When a packet was captured.
    pub(crate) fn captured(&self, stamp: &Stamp) -> Instant {
        self.published[&key_of(stamp)].captured
    }

    /// Datagrams sent to a path so far.
    pub(crate) fn sent_to(&self, path: Path) -> usize {
        self.sent.get(&path).copied().unwrap_or(0)
    }

    /// RTP and RTCP packets sent to a browser so far.
    pub(crate) fn media_to(&self, ip: IpAddr) -> usize {
        self.media_to.get(&ip).copied().unwrap_or(0)
    }

    /// Notes that the shard has a browser's keys.
    pub(crate) fn note_secured(&mut self, browser: &Browser) {
        self.secured.insert(browser.address.ip());
    }

    /// Notes what the shard tells.
    pub(crate) fn note_event(&mut self, now: Instant, event: &Event) {
        if let Event::TrackUnpublished { track, .. } = event {
            self.ended.insert(*track);
        }
        (now - self.start).hash(&mut self.trace);
        // Certificates are new in every process.
        for (place, part) in format!("{event:?}").split(FINGERPRINT).enumerate() {
            part[if place == 0 { 0 } else { FINGERPRINT_DIGITS }..].hash(&mut self.trace);
        }
    }

    /// A number for all that was sent and told, in order: datagrams, what media and reports say, events.
    /// Of DTLS only its times count, for keys and signatures are new each time.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// Checks all streams from their first packet to their last.
    pub(crate) fn finish(&self) {
        for ((ip, ssrc), stream) in &self.streams {
            let seen: Vec<(u64, Seen)> = stream.seen.iter().map(|(n, seen)| (*n, *seen)).collect();
            let mut before: Option<(u64, Seen, Stamp)> = None;
            let mut fillers = 0;
            for (number, seen) in seen {
                let Some(stamp) = seen.stamp else {
                    fillers += 1;
                    continue;
                };
                if let Some((previous, last, last_stamp)) = before {
                    let step = Step {
                        missing: number - previous - 1 - fillers,
                        from: (last, last_stamp),
                        to: (seen, stamp),
                    };
                    let name = format!(
                        "{ip} ssrc {ssrc}: {previous} to {number}, {last_stamp:?} to {stamp:?}"
                    );
                    self.check_numbers(&step, &name);
                    self.check_times(&step, stream.is_audio, &name);
                }
                before = Some((number, seen, stamp));
                fillers = 0;
            }
        }
    }

    fn check_numbers(&self, step: &Step, name: &str) {
        let (from, to) = (step.from.1, step.to.1);
        let source = (from.source, from.encoding);
        let is_same = source == (to.source, to.encoding);
        let skipped = |range: std::ops::Range<u32>| {
            let keys = range.map(|sequence| (source.0, source.1, sequence));
            keys.filter_map(|key| self.published.get(&key))
                .collect::<Vec<_>>()
        };
        if !is_same {
            // The tail of the old source may have been lost on its way to us.
            let tail = skipped(from.sequence + 1..from.sequence + 200);
            let lost = tail.iter().filter(|p| p.fate != Fate::InOrder).count() as u64;
            assert!(
                step.missing <= lost,
                "{} holes at a switch: {name}",
                step.missing
            );
            return;
        }
        assert!(from.sequence < to.sequence, "order within a source: {name}");
        let between = skipped(from.sequence + 1..to.sequence);
        let lost = between.iter().filter(|p| p.fate != Fate::InOrder).count() as u64;
        assert!(
            step.missing <= lost,
            "{} holes: {name}, {between:?}",
            step.missing
        );
        let dropped = (between.len() as u64).saturating_sub(step.missing);
        let may_drop = between.iter().filter(|packet| packet.temporal > 0).count() as u64;
        let resumed = to.keyframe && to.packet == 0;
        assert!(
            dropped <= may_drop || resumed,
            "{dropped} dropped, {may_drop} may be: {name}"
        );
    }

    /// Frames between two packets of one source that did not come in before what follows them.
    fn overtaken_frames(&self, step: &Step) -> u64 {
        let (from, to) = (step.from.1, step.to.1);
        if (from.source, from.encoding) != (to.source, to.encoding) {
            return 0;
        }
        let keys = (from.sequence + 1..to.sequence).map(|n| (from.source, from.encoding, n));
        let packets = keys.filter_map(|key| self.published.get(&key));
        let overtaken = packets.filter(|packet| packet.fate != Fate::InOrder);
        let frames: HashSet<u32> = overtaken.map(|packet| packet.frame).collect();
        frames.len() as u64
    }

    fn check_times(&self, step: &Step, is_audio: bool, name: &str) {
        let ((last, from), (seen, to)) = (step.from, step.to);
        let ticks = seen.timestamp.wrapping_sub(last.timestamp).cast_signed();
        let same_source = (from.source, from.encoding) == (to.source, to.encoding);
        if same_source && from.frame == to.frame {
            assert_eq!(
                (ticks, last.vp8),
                (0, seen.vp8),
                "one frame, one time: {name}"
            );
            return;
        }
        assert!(ticks > 0, "{ticks} ticks: {name}");
        if from.source == to.source {
            let elapsed = self
                .captured(&to)
                .saturating_duration_since(self.captured(&from));
            let rate = if is_audio { 48.0 } else { 90.0 };
            let drift = f64::from(ticks) / rate - elapsed.as_secs_f64() * 1000.0;
            let allowed = if same_source && !self.is_republished(step) {
                2.0
            } else {
                self.switch_tolerance_ms
            };
            assert!(drift.abs() <= allowed, "{drift} ms off: {name}");
        }
        let (Some(old), Some(new)) = (last.vp8, seen.vp8) else {
            return;
        };
        let ids = new.picture_id.wrapping_sub(old.picture_id) & 0x7fff;
        let most = match same_source {
            true => u64::from(to.frame - from.frame),
            false => 1 + step.missing,
        };
        assert!(
            (1..=most).contains(&u64::from(ids)),
            "{ids} pictures, {most} at most: {name}"
        );
        if step.missing == 0 {
            // A frame that is dropped after one that overtook it went out: that one's number counts it.
            let overtaken = self.overtaken_frames(step);
            assert!(
                u64::from(ids) <= 1 + overtaken,
                "{ids} pictures without a hole, {overtaken} overtaken: {name}"
            );
            let base = new.tl0.wrapping_sub(old.tl0);
            assert_eq!(base, u8::from(to.temporal == 0), "TL0PICIDX: {name}");
        }
    }
}

/// Two packets that follow each other on a stream.
struct Step {
    /// Numbers between them that were never sent.
    missing: u64,
    from: (Seen, Stamp),
    to: (Seen, Stamp),
}
