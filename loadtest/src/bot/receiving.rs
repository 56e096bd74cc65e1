//! What a bot receives: which packets of which stream came, and what it tells the server about them.

use std::time::{Duration, Instant};

use super::rtcp::{self, Block, Rtcp, u16_at};
use super::rtp::{Header, without_padding};
use super::secure::Keys;
use super::stream::{Place, Stream};
use super::{Turn, sdp};
use crate::media::{self, Codec};

/// What a bot expects and how closely it looks.
#[derive(Clone, Debug)]
pub struct ReceivePlan {
    /// Streams of sound that should come.
    pub audio: usize,
    /// Streams of pictures that should come.
    pub video: usize,
    /// One of so many packets is decrypted, and its stamp read.
    pub decrypt_every: u32,
    /// How often transport-wide feedback is given.
    pub feedback: Duration,
}

/// The receiving half of a bot.
pub(super) struct Receiving {
    plan: ReceivePlan,
    streams: Vec<Stream>,
    /// The stream of the last packet: the next is most often of the same.
    last: usize,
    /// Media sources with the sources of their retransmissions.
    retransmissions: Vec<(u32, u32)>,
    transport_wide: Option<u8>,
    /// Transport-wide numbers, extended, with their time; since the last feedback.
    arrivals: Vec<(u64, u64)>,
    highest_number: u64,
    feedback_count: u8,
    next_feedback: Option<Instant>,
    next_report: Option<Instant>,
    next_repair: Option<Instant>,
    has_started: bool,
}

impl Receiving {
    pub(super) fn new(plan: ReceivePlan, answer: &sdp::Answer) -> Self {
        Self {
            plan,
            streams: Vec::new(),
            last: 0,
            retransmissions: answer.retransmissions.clone(),
            transport_wide: answer.transport_wide,
            arrivals: Vec::new(),
            highest_number: 1 << 16,
            feedback_count: 0,
            next_feedback: None,
            next_report: None,
            next_repair: None,
            has_started: false,
        }
    }

    /// What was wanted has begun to come: a keyframe where pictures are wanted, else sound.
    pub(super) fn has_started(&self) -> bool {
        self.has_started
    }

    /// The moment the bot has nothing to expect counts as started.
    pub(super) fn expects_nothing(&self) -> bool {
        self.plan.audio + self.plan.video == 0
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let times = [self.next_feedback, self.next_report, self.next_repair];
        times.into_iter().flatten().min()
    }

    /// Takes in one encrypted RTP packet.
    pub(super) fn handle_rtp(&mut self, turn: &mut Turn<'_>, keys: &mut Keys, bytes: &[u8]) {
        let Some(header) = Header::read(bytes, self.transport_wide) else {
            turn.totals.malformed += 1;
            return;
        };
        turn.totals.packets += 1;
        turn.totals.bytes += bytes.len() as u64;
        if let Some(number) = header.transport_number {
            self.note_arrival(turn, number);
        }
        match Codec::of(header.payload_type) {
            Some(codec) => self.handle_media(turn, keys, (header, codec), bytes),
            None => self.handle_retransmission(turn, keys, header, bytes),
        }
    }

    fn note_arrival(&mut self, turn: &Turn<'_>, number: u16) {
        let low = (self.highest_number & 0xffff) as u16;
        let ahead = i64::from(number.wrapping_sub(low).cast_signed());
        let number = self.highest_number.saturating_add_signed(ahead);
        self.highest_number = self.highest_number.max(number);
        if self.arrivals.len() < ARRIVALS_MAX {
            self.arrivals.push((number, turn.wall_us));
        }
        if self.next_feedback.is_none() {
            self.next_feedback = Some(turn.now + self.plan.feedback);
        }
    }

    fn handle_media(
        &mut self,
        turn: &mut Turn<'_>,
        keys: &mut Keys,
        (header, codec): (Header, Codec),
        bytes: &[u8],
    ) {
        let Some(index) = self.stream(turn, header.ssrc, codec) else {
            turn.totals.malformed += 1;
            return;
        };
        let Some(stream) = self.streams.get_mut(index) else {
            return;
        };
        match stream.receive(turn, header.sequence, header.timestamp) {
            Place::Newest => {}
            Place::AfterGap(repair_at) => {
                let earlier = self.next_repair.is_none_or(|at| repair_at < at);
                self.next_repair = if earlier {
                    Some(repair_at)
                } else {
                    self.next_repair
                };
            }
            Place::Late => {}
            Place::Duplicate => return,
        }
        let is_sample = u32::from(header.sequence).wrapping_mul(SAMPLE_SPREAD) >> 16 & 0xffff
            < 0x1_0000 / self.plan.decrypt_every.max(1);
        if !is_sample && stream.has_keyframe {
            return;
        }
        let Some(plain) = keys.unprotect_rtp(bytes) else {
            turn.totals.unreadable += 1;
            return;
        };
        let payload = without_padding(&plain, header.length);
        if payload.is_empty() {
            turn.totals.probes += 1;
            return;
        }
        let parsed = media::parse(codec, payload);
        let begins = parsed.keyframe || !codec.is_video();
        let wants_pictures = self.plan.video > 0;
        if begins && (codec.is_video() || !wants_pictures) {
            self.has_started = true;
        }
        stream.has_keyframe |= begins;
        turn.totals.keyframes += u64::from(parsed.keyframe);
        match parsed.stamp {
            Some(stamp) => stream.sample(turn, stamp),
            None => turn.totals.unstamped += 1,
        }
    }

    /// The stream of a source; the first packet of a source opens it.
    fn stream(&mut self, turn: &Turn<'_>, ssrc: u32, codec: Codec) -> Option<usize> {
        let is_it = |stream: &Stream| stream.ssrc == ssrc;
        if !self.streams.get(self.last).is_some_and(is_it) {
            let found = self.streams.iter().position(is_it);
            self.last = match found {
                Some(index) => index,
                None if self.streams.len() < STREAMS_MAX => {
                    self.streams.push(Stream::new(turn.now, ssrc, codec));
                    self.next_report.get_or_insert(turn.now + REPORT_INTERVAL);
                    self.plan_repair(turn.now + FIRST_KEYFRAME_WITHIN);
                    self.streams.len() - 1
                }
                None => return None,
            };
        }
        Some(self.last)
    }

    fn plan_repair(&mut self, at: Instant) {
        self.next_repair = Some(self.next_repair.map_or(at, |planned| planned.min(at)));
    }

    /// A retransmission (RFC 4588), or a probe in its stead.
    fn handle_retransmission(
        &mut self,
        turn: &mut Turn<'_>,
        keys: &mut Keys,
        header: Header,
        bytes: &[u8],
    ) {
        turn.totals.retransmissions += 1;
        let Some(plain) = keys.unprotect_rtp(bytes) else {
            turn.totals.unreadable += 1;
            return;
        };
        let payload = without_padding(&plain, header.length);
        let known = |pair: &&(u32, u32)| pair.1 == header.ssrc;
        let media = self.retransmissions.iter().find(known).map(|pair| pair.0);
        let mut streams = self.streams.iter_mut();
        let stream = match media {
            Some(ssrc) => streams.find(|stream| stream.ssrc == ssrc),
            // Not announced: then there is one stream of pictures, as with WHEP.
            None => streams.find(|stream| stream.codec.is_video()),
        };
        match (stream, u16_at(payload, 0)) {
            (Some(stream), Some(original)) => stream.recover(turn, original),
            _ => turn.totals.probes += 1,
        }
    }

    /// Takes in what a sender report says.
    pub(super) fn handle_rtcp(&mut self, now: Instant, packet: &Rtcp) {
        if let Rtcp::SenderReport { ssrc, middle } = packet
            && let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == *ssrc)
        {
            stream.last_report = Some((*middle, now));
        }
    }

    /// Says what is due.
    pub(super) fn handle_timeout(&mut self, turn: &mut Turn<'_>, tell: &mut Vec<Vec<u8>>) {
        let now = turn.now;
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.next_feedback) {
            self.next_feedback = None;
            self.give_feedback(turn, tell);
        }
        if is_due(self.next_report) {
            self.next_report = Some(now + REPORT_INTERVAL);
            let blocks: Vec<Block> = self.streams.iter_mut().map(|one| one.report(now)).collect();
            tell.push(rtcp::write_receiver_report(&blocks));
        }
        if is_due(self.next_repair) {
            let mut next = None;
            for stream in &mut self.streams {
                let due = stream.repair(turn, tell);
                next = [next, due].into_iter().flatten().min();
            }
            self.next_repair = next;
        }
    }

    fn give_feedback(&mut self, turn: &mut Turn<'_>, tell: &mut Vec<Vec<u8>>) {
        self.arrivals.sort_unstable_by_key(|(number, _)| *number);
        self.arrivals.dedup_by_key(|(number, _)| *number);
        let media = self.streams.get(self.last).map_or(0, |stream| stream.ssrc);
        tell.push(rtcp::write_transport_wide(
            media,
            self.feedback_count,
            &self.arrivals,
        ));
        self.feedback_count = self.feedback_count.wrapping_add(1);
        self.arrivals.clear();
        turn.totals.feedback_sent += 1;
    }

    /// Counts from now on: what was missing before does not count.
    pub(super) fn mark(&mut self, now: Instant) {
        self.streams.iter_mut().for_each(|stream| stream.mark(now));
    }

    /// What is still missing is lost; returns how many expected streams do not come.
    pub(super) fn finish(&mut self, turn: &mut Turn<'_>) -> u64 {
        let (mut audio, mut video) = (0, 0);
        for stream in &mut self.streams {
            stream.finish(turn);
            let counter = if stream.codec.is_video() {
                &mut video
            } else {
                &mut audio
            };
            *counter += usize::from(stream.is_flowing(turn.now));
        }
        let missing = self.plan.audio.saturating_sub(audio) + self.plan.video.saturating_sub(video);
        missing as u64
    }
}

/// An odd number whose multiples spread over 16 bits, so that samples keep no step with frames.
const SAMPLE_SPREAD: u32 = 0x9e37_79b1;
/// Sources of one bot; more are an error of the server.
const STREAMS_MAX: usize = 256;
/// Arrivals between two feedbacks; what a feedback can hold.
const ARRIVALS_MAX: usize = 4096;
/// As libwebrtc does for pictures.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Without a keyframe for this long a stream asks for one.
const FIRST_KEYFRAME_WITHIN: Duration = Duration::from_millis(300);
