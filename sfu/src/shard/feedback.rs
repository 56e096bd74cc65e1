//! RTCP: what subscribers report and ask for, what publishers report, and keyframe requests.

use std::time::{Duration, Instant};

use crate::cascade::News;
use crate::metrics::DropReason;
use crate::peer::rtcp::{ReportBlock, Rtcp, TwccFeedback, packets, write_fir, write_pli};
use crate::publisher::keyframes::Urgency;
use crate::shard::{Path, Shard, drop_reason, touch};

/// The SSRC our feedback comes from: no stream of ours has it.
pub(super) const FEEDBACK_SSRC: u32 = 1;
/// RTCP packets looked at in one datagram; a compound of all our clients has fewer than ten.
const COMPOUND_MAX: usize = 64;

impl Shard {
    pub(super) fn receive_rtcp(
        &mut self,
        now: Instant,
        path: Path,
        key: usize,
        bytes: &mut [u8],
    ) -> Result<(), DropReason> {
        let peer = self.peers.get_mut(key).ok_or(DropReason::UnknownPeer)?;
        let transport = peer.transport.as_mut().ok_or(DropReason::NoKeys)?;
        let length = transport
            .unprotect_rtcp(now, path, bytes)
            .map_err(drop_reason)?;
        let plain = bytes.get(..length).ok_or(DropReason::Malformed)?;
        self.metrics.rtcp_received_packets += 1;
        for packet in packets(plain).take(COMPOUND_MAX) {
            self.handle_rtcp(now, key, &packet);
        }
        Ok(())
    }

    fn handle_rtcp(&mut self, now: Instant, key: usize, packet: &Rtcp<'_>) {
        match *packet {
            Rtcp::SenderReport {
                ssrc,
                ntp,
                rtp_ts,
                reports,
            } => {
                self.handle_sender_report(now, key, ssrc, (ntp, rtp_ts));
                reports.for_each(|block| self.handle_report_block(now, key, &block));
            }
            Rtcp::ReceiverReport { reports } => {
                reports.for_each(|block| self.handle_report_block(now, key, &block));
            }
            Rtcp::Nack { media, lost } => self.handle_nack(key, media, lost),
            Rtcp::Pli { media } => self.handle_keyframe_request(now, key, media),
            Rtcp::Fir { entries } => {
                for (media, _) in entries {
                    self.handle_keyframe_request(now, key, media);
                }
            }
            Rtcp::Twcc(feedback) => self.handle_arrivals(now, key, &feedback),
            Rtcp::Remb { bitrate_bps } => {
                if let Some(peer) = self.peers.get_mut(key) {
                    peer.subscriber.estimator.handle_remb(now, bitrate_bps);
                }
            }
            Rtcp::Other => {}
        }
    }

    fn handle_sender_report(&mut self, now: Instant, key: usize, ssrc: u32, times: (u64, u32)) {
        let server_ntp = self.ntp(now);
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let Some(binding) = peer.publisher.binding(ssrc).filter(|b| !b.is_rtx) else {
            return;
        };
        let (ntp, rtp_timestamp) = times;
        let jump = peer.publisher.clock.follow(server_ntp, ntp);
        let offset = peer.publisher.clock.offset();
        for other in peer.publisher.bindings().iter().filter(|b| !b.is_rtx) {
            let track = self.tracks.get_mut(other.track);
            if let Some(encoding) = track.and_then(|t| t.encodings.get_mut(other.encoding)) {
                encoding.layer.follow_clock(offset, jump);
            }
        }
        let track = self.tracks.get_mut(binding.track);
        if let Some(encoding) = track.and_then(|t| t.encodings.get_mut(binding.encoding)) {
            encoding.handle_sender_report(now, ntp, rtp_timestamp);
        }
        self.tell_clock(binding.track, binding.encoding);
    }

    /// One report on a stream of ours: round trip, and loss of those who tell nothing better.
    fn handle_report_block(&mut self, now: Instant, key: usize, block: &ReportBlock) {
        let middle = middle_ntp(self.ntp(now));
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let subscriber = &mut peer.subscriber;
        let slot = subscriber
            .slots
            .iter_mut()
            .find(|slot| slot.media.0 == block.ssrc);
        let Some(slot) = slot else { return };
        let has_better = slot.extensions().transport_wide.is_some();
        if block.last_sr != 0 {
            let ticks = middle
                .wrapping_sub(block.last_sr)
                .wrapping_sub(block.delay_since_last_sr);
            let rtt = Duration::from_micros(u64::from(ticks) * 1_000_000 / 65_536);
            if rtt < Duration::from_secs(5) {
                subscriber.rtt = (subscriber.rtt * 7 + rtt) / 8;
            }
        }
        if !has_better {
            // The path carries all slots: what one of them lost says something of their sum.
            let slots = subscriber.slots.iter_mut();
            let sending = slots.map(|slot| slot.bitrate_bps(now)).sum();
            subscriber
                .estimator
                .handle_loss(now, block.fraction_lost, sending);
        }
    }

    fn handle_nack(&mut self, key: usize, media: u32, lost: impl Iterator<Item = u16>) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        self.metrics.nacks_received += peer.subscriber.handle_nack(media, lost);
        touch(&mut self.touched, key, peer);
    }

    fn handle_keyframe_request(&mut self, now: Instant, key: usize, media: u32) {
        let Some(peer) = self.peers.get(key) else {
            return;
        };
        let slot = peer
            .subscriber
            .slots
            .iter()
            .find(|slot| slot.media.0 == media);
        let Some(subscription) = slot.and_then(|slot| slot.subscription.as_ref()) else {
            return;
        };
        let layer = subscription
            .selector
            .current()
            .or(subscription.selector.target_layer());
        let track = subscription.track;
        self.metrics.keyframe_requests_received += 1;
        if let Some(layer) = layer {
            self.request_keyframe(now, track, usize::from(layer), Urgency::Viewer);
        }
    }

    fn handle_arrivals(&mut self, now: Instant, key: usize, feedback: &TwccFeedback<'_>) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let arrivals = feedback.arrivals().map(|(sequence, ticks)| {
            let ticks = ticks.and_then(|ticks| u64::try_from(ticks).ok());
            (
                sequence,
                ticks.map(|ticks| Duration::from_micros(ticks * 250)),
            )
        });
        let before = peer.subscriber.estimator.estimate_bps();
        peer.subscriber.estimator.handle_feedback(now, arrivals);
        let after = peer.subscriber.estimator.estimate_bps();
        if after != before {
            self.allocate(now, key);
        }
    }

    /// Asks a track for a keyframe of a layer, within its budget.
    pub(super) fn request_keyframe(
        &mut self,
        now: Instant,
        track_key: usize,
        layer: usize,
        urgency: Urgency,
    ) {
        let Some(track) = self.tracks.get_mut(track_key) else {
            return;
        };
        let Some(encoding) = track.ranks().get(layer).copied() else {
            return;
        };
        let asked = track.keyframes.request(now, usize::from(encoding), urgency);
        self.send_keyframe_requests(track_key, asked, urgency);
    }

    /// Sends the requests that a budget let through; `encodings` are bits.
    pub(super) fn send_keyframe_requests(
        &mut self,
        track_key: usize,
        encodings: u8,
        urgency: Urgency,
    ) {
        if encodings == 0 {
            return;
        }
        let Some(track) = self.tracks.get_mut(track_key) else {
            return;
        };
        if let Some(mirror) = &track.mirror {
            let news = News::KeyframeWanted {
                track: track.id,
                encodings,
                urgency,
            };
            self.cascades.tell(mirror.shard, news);
            self.metrics.cascade_keyframe_requests += u64::from(encodings.count_ones());
            return;
        }
        let owner_key = track.owner;
        track.fir_count = track.fir_count.wrapping_add(1);
        let fir_count = track.fir_count;
        let Some(owner) = self.peers.get_mut(owner_key) else {
            return;
        };
        let section = owner.publisher.section_of(track_key);
        let uses_pli = section.is_none_or(|s| s.codecs.iter().any(|codec| codec.feedback.pli));
        for encoding in (0..8).filter(|bit| encodings & (1 << bit) != 0) {
            let Some(ssrc) = owner.publisher.ssrc_of(track_key, encoding) else {
                continue;
            };
            let mut packet = [0; 64];
            let length = match uses_pli {
                true => write_pli(&mut packet, FEEDBACK_SSRC, ssrc),
                false => write_fir(&mut packet, FEEDBACK_SSRC, &[(ssrc, fir_count)]),
            };
            let packet = length.and_then(|length| packet.get(..length));
            if let (Some(packet), Some(transport)) = (packet, owner.transport.as_mut()) {
                transport.send_rtcp(packet);
                self.metrics.keyframe_requests_sent += 1;
            }
        }
        touch(&mut self.touched, owner_key, owner);
    }
}

/// The middle 32 bits of an NTP time, as reports carry it.
fn middle_ntp(ntp: u64) -> u32 {
    u32::try_from((ntp >> 16) & 0xffff_ffff).unwrap_or(0)
}
