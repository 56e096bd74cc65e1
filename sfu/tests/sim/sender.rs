//! One encoding that a browser publishes: paced frames, history for retransmission, keyframes on request.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use sfu::Codec;

use crate::media::{Encoder, Stamp};
use crate::offer;
use crate::rtp::Packet;

/// Packets kept for retransmission.
const HISTORY_MAX: usize = 600;

/// One outgoing stream of a browser.
pub(crate) struct Sender {
    pub(crate) mid: String,
    pub(crate) rid: Option<&'static str>,
    pub(crate) ssrc: u32,
    pub(crate) rtx: u32,
    pub(crate) encoder: Encoder,
    /// Off: the layer is not encoded at present.
    pub(crate) is_active: bool,
    /// From the capture of a frame until it is sent: encoding takes its time.
    pub(crate) latency: Duration,
    /// Audio level in -dBov.
    pub(crate) level: u8,
    /// Redundant audio: the packet before, and that it is sent so.
    pub(crate) red: bool,
    pub(crate) keyframe_requests: Vec<Instant>,
    pub(crate) nacked: usize,
    /// Sends nothing again: what is lost stays lost.
    pub(crate) is_forgetful: bool,
    /// Packets name their m-line, as browsers have it until the first report.
    pub(crate) names_mid: bool,
    previous: Option<Vec<u8>>,
    next_frame: Instant,
    started: Instant,
    timestamp_base: u32,
    rtx_sequence: u16,
    history: HashMap<u16, Packet>,
    order: VecDeque<u16>,
}

/// A packet on its way out, without the transport-wide number.
pub(crate) struct Outgoing {
    pub(crate) packet: Packet,
    /// What it is and when it was captured, unless it is a retransmission.
    pub(crate) stamp: Option<(Stamp, Instant)>,
}

impl Sender {
    pub(crate) fn new(
        now: Instant,
        mid: &str,
        rid: Option<&'static str>,
        encoder: Encoder,
    ) -> Self {
        let base = u32::from(encoder.source) << 12 | u32::from(encoder.encoding) << 4;
        let is_audio = encoder.codec == Codec::Opus;
        Self {
            mid: mid.to_owned(),
            rid,
            ssrc: 0x1000_0000 | base,
            rtx: 0x1000_0001 | base,
            is_active: true,
            latency: Duration::ZERO,
            level: 30,
            red: false,
            keyframe_requests: Vec::new(),
            nacked: 0,
            is_forgetful: false,
            names_mid: true,
            previous: None,
            next_frame: now,
            // So long ago that nothing was captured before.
            started: now - Duration::from_secs(10),
            // Close to the wrap for some, so that it is crossed.
            timestamp_base: ((base << 13) ^ 0xffff_0000).wrapping_sub(match is_audio {
                true => 480_000,
                false => 900_000,
            }),
            rtx_sequence: 7,
            history: HashMap::new(),
            order: VecDeque::new(),
            encoder,
        }
    }

    pub(crate) fn is_audio(&self) -> bool {
        self.encoder.codec == Codec::Opus
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.is_active.then_some(self.next_frame)
    }

    /// The RTP timestamp of a moment.
    pub(crate) fn timestamp(&self, captured: Instant) -> u32 {
        let rate = if self.is_audio() { 48 } else { 90 };
        let elapsed = captured.duration_since(self.started).as_millis() as u32;
        self.timestamp_base.wrapping_add(elapsed.wrapping_mul(rate))
    }

    /// The packets of the frame that is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<Outgoing> {
        if !self.is_active || self.next_frame > now {
            return Vec::new();
        }
        let interval = Duration::from_millis(if self.is_audio() { 20 } else { 33 });
        self.next_frame = (self.next_frame + interval).max(now + interval / 2);
        let captured = now - self.latency;
        let timestamp = self.timestamp(captured);
        let payloads = self.encoder.encode();
        payloads
            .into_iter()
            .map(|payload| {
                let (payload_type, bytes) = self.wrap(payload.bytes);
                let packet = Packet {
                    marker: payload.marker,
                    payload_type,
                    sequence: payload.stamp.sequence as u16,
                    timestamp,
                    ssrc: self.ssrc,
                    extensions: self.extensions(false),
                    payload: bytes,
                };
                self.remember(&packet);
                Outgoing {
                    packet,
                    stamp: Some((payload.stamp, captured)),
                }
            })
            .collect()
    }

    /// Answers a NACK on the retransmission stream (RFC 4588).
    pub(crate) fn retransmit(&mut self, lost: &[u16]) -> Vec<Outgoing> {
        self.nacked += lost.len();
        let mut out = Vec::new();
        for sequence in lost {
            let kept = self.history.get(sequence);
            let Some(original) = kept.filter(|_| !self.is_forgetful) else {
                continue;
            };
            self.rtx_sequence = self.rtx_sequence.wrapping_add(1);
            let mut payload = sequence.to_be_bytes().to_vec();
            payload.extend(&original.payload);
            let packet = Packet {
                payload_type: original.payload_type + 1,
                sequence: self.rtx_sequence,
                ssrc: self.rtx,
                extensions: self.extensions(true),
                payload,
                ..original.clone()
            };
            out.push(Outgoing {
                packet,
                stamp: None,
            });
        }
        out
    }

    fn extensions(&self, is_rtx: bool) -> Vec<(u8, Vec<u8>)> {
        let mut extensions = Vec::new();
        if self.names_mid {
            extensions.push((offer::MID, self.mid.clone().into_bytes()));
        }
        if let Some(rid) = self.rid {
            let id = if is_rtx {
                offer::REPAIRED_RID
            } else {
                offer::RID
            };
            extensions.push((id, rid.as_bytes().to_vec()));
        }
        if self.is_audio() {
            extensions.push((offer::LEVEL, vec![0x80 | self.level]));
        }
        extensions
    }

    /// As redundant audio (RFC 2198) when that is on: the packet before in front.
    fn wrap(&mut self, bytes: Vec<u8>) -> (u8, Vec<u8>) {
        if !self.red {
            return (offer::payload_type(self.encoder.codec), bytes);
        }
        let mut wrapped = Vec::new();
        let previous = self.previous.replace(bytes.clone());
        if let Some(previous) = &previous {
            let word = 960u32 << 10 | previous.len() as u32;
            wrapped.push(0x80 | offer::OPUS);
            wrapped.extend(&word.to_be_bytes()[1..]);
        }
        wrapped.push(offer::OPUS);
        wrapped.extend(previous.into_iter().flatten());
        wrapped.extend(bytes);
        (offer::RED, wrapped)
    }

    fn remember(&mut self, packet: &Packet) {
        self.history.insert(packet.sequence, packet.clone());
        self.order.push_back(packet.sequence);
        if self.order.len() > HISTORY_MAX
            && let Some(old) = self.order.pop_front()
        {
            self.history.remove(&old);
        }
    }
}
