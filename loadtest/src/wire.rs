//! The wire as a peer sees it: counts of what passes, and loss on request.
//!
//! Sits nearest to the network in the interceptor chain of `webrtc`, so that a packet lost here is
//! missed (and asked for again) by everything above.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

use crate::media::Codec;

/// Where it sits in the chain: nearest to the network.
pub(crate) const SLOT: usize = 500;

/// What passed in one direction.
#[derive(Debug, Default)]
pub struct Counters {
    rtp: AtomicU64,
    rtx: AtomicU64,
    lost: AtomicU64,
    keyframe_requests: AtomicU64,
    nacks: AtomicU64,
    transport_feedback: AtomicU64,
    remb: AtomicU64,
    sender_reports: AtomicU64,
    receiver_reports: AtomicU64,
}

/// A reading of [`Counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// RTP packets other than retransmissions.
    pub rtp: u64,
    /// RTP packets with a payload type of RFC 4588.
    pub rtx: u64,
    /// RTP packets that were lost on request.
    pub lost: u64,
    /// Picture loss indications and full intra requests.
    pub keyframe_requests: u64,
    /// Packets asked for again in generic NACKs.
    pub nacks: u64,
    /// Transport-wide feedback packets.
    pub transport_feedback: u64,
    /// Receiver estimated maximum bitrate packets.
    pub remb: u64,
    /// Sender reports.
    pub sender_reports: u64,
    /// Receiver reports.
    pub receiver_reports: u64,
}

impl Counters {
    /// Reads all counters.
    pub fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            rtp: read(&self.rtp),
            rtx: read(&self.rtx),
            lost: read(&self.lost),
            keyframe_requests: read(&self.keyframe_requests),
            nacks: read(&self.nacks),
            transport_feedback: read(&self.transport_feedback),
            remb: read(&self.remb),
            sender_reports: read(&self.sender_reports),
            receiver_reports: read(&self.receiver_reports),
        }
    }

    fn count_rtp(&self, payload_type: u8) -> u64 {
        if Codec::of(payload_type).is_some() {
            self.rtp.fetch_add(1, Ordering::Relaxed) + 1
        } else {
            self.rtx.fetch_add(1, Ordering::Relaxed);
            0
        }
    }

    fn count_rtcp(&self, packet: &dyn rtc::rtcp::Packet) {
        let any = packet.as_any();
        let (counter, amount) = if any.is::<PictureLossIndication>() || any.is::<FullIntraRequest>()
        {
            (&self.keyframe_requests, 1)
        } else if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
            let asked = nack
                .nacks
                .iter()
                .map(|pair| 1 + u64::from(pair.lost_packets.count_ones()));
            (&self.nacks, asked.sum())
        } else if any.is::<TransportLayerCc>() {
            (&self.transport_feedback, 1)
        } else if any.is::<ReceiverEstimatedMaximumBitrate>() {
            (&self.remb, 1)
        } else if any.is::<SenderReport>() {
            (&self.sender_reports, 1)
        } else if any.is::<ReceiverReport>() {
            (&self.receiver_reports, 1)
        } else {
            return;
        };
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}

/// What passes between one peer and the network, shared with the interceptor that watches it.
#[derive(Debug, Default)]
pub struct Wire {
    /// What came in.
    pub received: Counters,
    /// What went out.
    pub sent: Counters,
    lose_received_every: AtomicU64,
    lose_sent_every: AtomicU64,
    keyframes_wanted: Mutex<HashSet<u32>>,
}

impl Wire {
    /// Loses every `n`th RTP packet that comes in, retransmissions excepted; 0 loses none.
    pub fn lose_received(&self, n: u64) {
        self.lose_received_every.store(n, Ordering::Relaxed);
    }

    /// Loses every `n`th RTP packet that goes out, retransmissions excepted; 0 loses none.
    pub fn lose_sent(&self, n: u64) {
        self.lose_sent_every.store(n, Ordering::Relaxed);
    }

    /// Whether a keyframe of any of these sources was asked for since the last call.
    pub fn take_keyframe_request(&self, ssrcs: &[u32]) -> bool {
        let mut wanted = self
            .keyframes_wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Each is taken, not only those up to the first that was asked for.
        ssrcs.iter().filter(|ssrc| wanted.remove(ssrc)).count() > 0
    }

    fn note_keyframe_requests(&self, packet: &dyn rtc::rtcp::Packet) {
        let any = packet.as_any();
        let mut wanted = self
            .keyframes_wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(request) = any.downcast_ref::<PictureLossIndication>() {
            wanted.insert(request.media_ssrc);
        } else if let Some(request) = any.downcast_ref::<FullIntraRequest>() {
            wanted.extend(request.fir.iter().map(|entry| entry.ssrc));
        }
    }

    /// Counts a packet; false when it is lost.
    fn pass(&self, packet: &Packet, incoming: bool) -> bool {
        let (counters, lose_every) = if incoming {
            (&self.received, &self.lose_received_every)
        } else {
            (&self.sent, &self.lose_sent_every)
        };
        match packet {
            Packet::Rtp(packet) => {
                let number = counters.count_rtp(packet.header.payload_type);
                let every = lose_every.load(Ordering::Relaxed);
                let lost = number > 0 && every > 0 && number.is_multiple_of(every);
                counters.lost.fetch_add(u64::from(lost), Ordering::Relaxed);
                !lost
            }
            Packet::Rtcp(packets) => {
                for packet in packets {
                    counters.count_rtcp(packet.as_ref());
                    if incoming {
                        self.note_keyframe_requests(packet.as_ref());
                    }
                }
                true
            }
            _ => true,
        }
    }
}

/// The interceptor that feeds a [`Wire`].
pub(crate) struct Watcher {
    wire: Arc<Wire>,
    incoming: VecDeque<TaggedPacket>,
    outgoing: VecDeque<TaggedPacket>,
}

impl Watcher {
    pub(crate) fn new(wire: Arc<Wire>) -> Self {
        Self {
            wire,
            incoming: VecDeque::new(),
            outgoing: VecDeque::new(),
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Watcher {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        if self.wire.pass(&packet.message.packet, true) {
            self.incoming.push_back(packet);
        }
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.incoming.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        if self.wire.pass(&packet.message.packet, false) {
            self.outgoing.push_back(packet);
        }
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.outgoing.pop_front()
    }
}

impl Interceptor for Watcher {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
