//! What a bot publishes: tracks of one or more layers, frame by frame, with what was lost sent again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::rtcp::{self, Rtcp};
use super::rtp::Head;
use super::secure::Keys;
use super::{Turn, sdp};
use crate::media::captured::Captured;
use crate::media::{Codec, Encoder, Payload, Picture};

/// A track to publish.
#[derive(Clone, Debug)]
pub struct TrackPlan {
    /// As what it is sent.
    pub codec: Codec,
    /// Its layers, lowest first; more than one is simulcast.
    pub layers: Vec<LayerPlan>,
    /// When its first frame is due after the bot has connected; so that publishers keep no step.
    pub offset: Duration,
    /// Its index among the publisher's tracks, in stamps.
    pub source: u8,
}

/// One layer to publish.
#[derive(Clone, Debug)]
pub struct LayerPlan {
    /// The size in keyframes.
    pub picture: Picture,
    /// The sizes of its frames.
    pub frames: Arc<Captured>,
    /// With which of them it begins.
    pub start: usize,
    /// Its media source; that of its retransmissions is one more.
    pub ssrc: u32,
}

/// A track being sent.
pub(super) struct Track {
    codec: Codec,
    mid: String,
    layers: Vec<Layer>,
    next_frame: Option<Instant>,
    offset: Duration,
    wants_keyframe: bool,
}

struct Layer {
    ssrc: u32,
    rid: Option<&'static str>,
    encoder: Encoder,
    frames: Arc<Captured>,
    place: usize,
    sequence: u16,
    rtx_sequence: u16,
    timestamp: u32,
    /// Packets and bytes, as sender reports count them.
    sent: (u32, u32),
    history: VecDeque<Kept>,
}

/// A packet kept for retransmission.
struct Kept {
    sequence: u16,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
}

/// The rids of simulcast layers, lowest first.
pub(super) const RIDS: [&str; 3] = ["q", "h", "f"];

impl Track {
    pub(super) fn new(plan: &TrackPlan, mid: usize, publisher: u32) -> Self {
        let simulcast = plan.layers.len() > 1;
        let layers = (0_u8..).zip(&plan.layers).zip(RIDS);
        Self {
            codec: plan.codec,
            mid: mid.to_string(),
            layers: layers
                .map(|((index, layer), rid)| {
                    let marks = (publisher, plan.source, index);
                    Layer::new(layer, plan.codec, simulcast.then_some(rid), marks)
                })
                .collect(),
            next_frame: None,
            offset: plan.offset,
            wants_keyframe: true,
        }
    }

    /// Begins to send.
    pub(super) fn start(&mut self, now: Instant) {
        self.next_frame.get_or_insert(now + self.offset);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next_frame
    }

    /// Sends the frame that is due, of every layer.
    pub(super) fn handle_timeout(&mut self, turn: &mut Turn<'_>, link: &mut Link<'_>) {
        let Some(due) = self.next_frame.filter(|at| *at <= turn.now) else {
            return;
        };
        let period = if self.codec.is_video() {
            VIDEO_PERIOD
        } else {
            AUDIO_PERIOD
        };
        let next = due + period;
        // After a long standstill the stream goes on from here instead of catching up in a burst.
        self.next_frame = Some(next.max(turn.now - CATCH_UP_MAX));
        let keyframe = self.codec.is_video() && std::mem::take(&mut self.wants_keyframe);
        for layer in &mut self.layers {
            layer.send_frame(turn, link, (self.codec, &self.mid), keyframe);
        }
    }

    /// Does what feedback asks for, where it is about this track.
    pub(super) fn handle_rtcp(&mut self, turn: &mut Turn<'_>, link: &mut Link<'_>, packet: &Rtcp) {
        match packet {
            Rtcp::KeyframeRequest { media } => {
                if self.layers.iter().any(|layer| layer.ssrc == *media) {
                    turn.totals.keyframe_requests_received += 1;
                    // One encoder makes all layers, so all of them key.
                    self.wants_keyframe = true;
                }
            }
            Rtcp::Nack { media, lost } => {
                let layer = self.layers.iter_mut().find(|layer| layer.ssrc == *media);
                if let (Some(layer), Some(rtx)) = (layer, self.codec.rtx_payload_type()) {
                    for sequence in lost {
                        layer.send_again(turn, link, (rtx, &self.mid), *sequence);
                    }
                }
            }
            Rtcp::SenderReport { .. } => {}
        }
    }

    /// Sender reports of all layers.
    pub(super) fn report(&self, now: Instant, ntp: u64, tell: &mut Vec<Vec<u8>>) {
        let Some(next) = self.next_frame else { return };
        let until = next.saturating_duration_since(now).as_micros();
        let ticks_per_ms = if self.codec.is_video() { 90 } else { 48 };
        let ahead = u32::try_from(until * ticks_per_ms / 1000).unwrap_or(0);
        for layer in self.layers.iter().filter(|layer| layer.sent.0 > 0) {
            let next = layer.timestamp.wrapping_add(self.codec.frame_ticks());
            let timestamp = next.wrapping_sub(ahead);
            tell.push(rtcp::write_sender_report(
                layer.ssrc, ntp, timestamp, layer.sent,
            ));
        }
    }
}

/// How packets of one bot leave: encrypted, numbered for transport-wide feedback.
pub(super) struct Link<'a> {
    pub(super) keys: &'a mut Keys,
    pub(super) path: sfu::shard::Path,
    pub(super) transport_number: &'a mut u16,
}

impl Link<'_> {
    fn send(&mut self, turn: &mut Turn<'_>, head: &Head<'_>, payload: &[u8]) {
        let mut packet = Vec::with_capacity(PACKET_BYTES);
        head.write(&mut packet);
        packet.extend_from_slice(payload);
        if let Some(bytes) = self.keys.protect_rtp(&packet) {
            turn.totals.sent_packets += 1;
            turn.totals.sent_bytes += bytes.len() as u64;
            turn.out.push(self.path, bytes);
        }
    }

    fn next_number(&mut self) -> u16 {
        *self.transport_number = self.transport_number.wrapping_add(1);
        *self.transport_number
    }
}

impl Layer {
    fn new(
        plan: &LayerPlan,
        codec: Codec,
        rid: Option<&'static str>,
        marks: (u32, u8, u8),
    ) -> Self {
        Self {
            ssrc: plan.ssrc,
            rid,
            encoder: Encoder::new(codec, plan.picture, marks),
            frames: plan.frames.clone(),
            place: plan.start,
            // Below 2^15, so that the receiver's first guess of the rollover counter holds.
            sequence: (plan.ssrc & 0x7fff) as u16,
            rtx_sequence: (plan.ssrc >> 7 & 0x7fff) as u16,
            timestamp: plan.ssrc.wrapping_mul(7),
            sent: (0, 0),
            history: VecDeque::new(),
        }
    }

    fn send_frame(
        &mut self,
        turn: &mut Turn<'_>,
        link: &mut Link<'_>,
        (codec, mid): (Codec, &str),
        keyframe: bool,
    ) {
        let frames = self.frames.clone();
        let sizes: &[u16] = if !codec.is_video() {
            &[OPUS_BYTES]
        } else if keyframe {
            &frames.keyframe
        } else {
            self.place = (self.place + 1) % frames.frames.len().max(1);
            frames.frames.get(self.place).map_or(&[], Vec::as_slice)
        };
        self.timestamp = self.timestamp.wrapping_add(codec.frame_ticks());
        let count = u8::try_from(sizes.len()).unwrap_or(u8::MAX);
        let frame = self.encoder.begin(count, keyframe);
        for (index, size) in (0..count).zip(sizes) {
            let payload = self.encoder.packet(&frame, index, (*size, turn.wall_us));
            self.send_new(turn, link, (codec, mid), payload);
        }
    }

    fn send_new(
        &mut self,
        turn: &mut Turn<'_>,
        link: &mut Link<'_>,
        (codec, mid): (Codec, &str),
        payload: Payload,
    ) {
        self.sequence = self.sequence.wrapping_add(1);
        let head = Head {
            marker: payload.marker,
            payload_type: codec.payload_type(),
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
            mid,
            rid: self.rid.map(|rid| (sdp::RID, rid)),
            has_level: !codec.is_video(),
            transport_number: link.next_number(),
        };
        link.send(turn, &head, &payload.bytes);
        let bytes = u32::try_from(payload.bytes.len()).unwrap_or_default();
        self.sent = (self.sent.0.wrapping_add(1), self.sent.1.wrapping_add(bytes));
        if codec.is_video() {
            if self.history.len() == HISTORY_MAX {
                self.history.pop_front();
            }
            self.history.push_back(Kept {
                sequence: self.sequence,
                timestamp: self.timestamp,
                marker: payload.marker,
                payload: payload.bytes,
            });
        }
    }

    /// Sends a packet on the retransmission stream (RFC 4588).
    fn send_again(
        &mut self,
        turn: &mut Turn<'_>,
        link: &mut Link<'_>,
        (payload_type, mid): (u8, &str),
        sequence: u16,
    ) {
        let Some(kept) = self.history.iter().find(|kept| kept.sequence == sequence) else {
            return;
        };
        self.rtx_sequence = self.rtx_sequence.wrapping_add(1);
        let head = Head {
            marker: kept.marker,
            payload_type,
            sequence: self.rtx_sequence,
            timestamp: kept.timestamp,
            ssrc: self.ssrc.wrapping_add(1),
            mid,
            rid: self.rid.map(|rid| (sdp::REPAIRED_RID, rid)),
            has_level: false,
            transport_number: link.next_number(),
        };
        let payload = [&sequence.to_be_bytes()[..], &kept.payload].concat();
        turn.totals.sent_again += 1;
        link.send(turn, &head, &payload);
    }
}

const VIDEO_PERIOD: Duration = Duration::from_micros(33_333);
const AUDIO_PERIOD: Duration = Duration::from_millis(20);
/// What 20 ms of Opus take at about 36 kbit/s.
const OPUS_BYTES: u16 = 90;
/// A publisher that was held up makes up for this much.
const CATCH_UP_MAX: Duration = Duration::from_millis(200);
/// Packets kept of a layer, about a second of 1 Mbit/s.
const HISTORY_MAX: usize = 128;
/// A packet with its header, before encryption.
const PACKET_BYTES: usize = 1300;
