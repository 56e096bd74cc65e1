//! One simulcast encoding of a published track: its packets, its rate, its clock.

mod frames;
pub(crate) mod rate;
pub(crate) mod ring;

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use crate::sfu::Kind;

use frames::FrameRates;
pub(crate) use rate::RateWindow;
pub(crate) use ring::{PacketId, PacketMeta, PacketRing, StoredPacket};

/// A layer without packets for this long is not live. Screen shares send a frame a second while
/// nothing moves, and a keyframe request is answered well within it.
const LIVE_FOR: Duration = Duration::from_millis(1500);
/// Who begins to watch may begin with a keyframe this old. It gets all that came since at once, which
/// its jitter buffer takes for that much delay until it knows better; and two requests for those who
/// wait for a first picture are less than this apart.
const HEAD_START_MAX: Duration = Duration::from_millis(500);
/// Packets of a head start: half a second of 1.5 Mbit/s with its keyframe, and as much as a keyframe of
/// a large picture alone puts into a link of unknown width.
const HEAD_START_PACKETS_MAX: u64 = 128;

/// What a sender report says about a stream's clock (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SenderReport {
    /// The publisher's wall clock as 32.32 bits of NTP time.
    pub(crate) ntp: u64,
    /// The RTP timestamp of the same moment.
    pub(crate) rtp_timestamp: u32,
    /// When it came in.
    pub(crate) arrival: Instant,
}

/// A keyframe and all that followed it, kept without a hole: a stream can begin here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadStart {
    /// The extended sequence number of the keyframe's first packet.
    pub(crate) first: u64,
    /// That of the newest packet.
    pub(crate) last: u64,
    /// The keyframe's extended RTP timestamp.
    pub(crate) timestamp: u64,
    /// When the keyframe's first packet came in.
    pub(crate) arrival: Instant,
}

/// One simulcast encoding as it comes from its publisher; a track without simulcast has one.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Its last packets.
    pub(crate) ring: PacketRing,
    /// Picture size of the last keyframe that said one.
    pub(crate) size: Option<(u16, u16)>,
    /// The last sender report.
    last_sender_report: Option<SenderReport>,
    /// What to add to the publisher's NTP times to have the server's, in 2^-32 s.
    clock_offset: Option<i64>,
    clock_rate: u32,
    rate: RateWindow,
    frames: FrameRates,
    last_packet: Option<Instant>,
    /// The timestamp of the newest frame, and payload bytes of its longest packet so far.
    newest_frame: (u64, usize),
    /// The packet furthest on in its stream: sequence number, timestamp, and when it came in.
    newest: Option<(u64, u64, Instant)>,
    /// Sequence number and timestamp of the first packet of the last keyframe.
    keyframe: Option<(u64, u64)>,
}

impl Layer {
    /// An encoding nothing came of yet; `clock_rate` is its RTP clock in Hz.
    pub(crate) fn new(kind: Kind, clock_rate: u32) -> Self {
        Self {
            ring: PacketRing::new(kind),
            size: None,
            last_sender_report: None,
            clock_offset: None,
            clock_rate,
            rate: RateWindow::new(),
            frames: FrameRates::new(),
            last_packet: None,
            newest_frame: (0, 0),
            newest: None,
            keyframe: None,
        }
    }

    /// Notes a packet that comes in; returns when it would have, were it not late: a retransmission says
    /// nothing of when its frame was due, but what overtook it does.
    pub(crate) fn note_arrival(&mut self, now: Instant, sequence: u64, timestamp: u64) -> Instant {
        if let Some((newest, later, arrival)) = self.newest
            && sequence < newest
        {
            let ticks = later.saturating_sub(timestamp).saturating_mul(1_000_000);
            let before = Duration::from_micros(ticks / u64::from(self.clock_rate));
            return arrival.checked_sub(before).unwrap_or(now);
        }
        self.newest = Some((sequence, timestamp, now));
        now
    }

    /// Keeps a packet; `None` when it is a duplicate or too old, and it must not be forwarded.
    pub(crate) fn push(&mut self, packet: StoredPacket<'_>) -> Option<PacketId> {
        let id = self.ring.push(packet)?;
        self.rate.add(packet.meta.arrival, packet.payload.len());
        self.last_packet = self.last_packet.max(Some(packet.meta.arrival));
        self.size = packet.meta.descriptor.size.or(self.size);
        let (timestamp, longest) = &mut self.newest_frame;
        match packet.meta.timestamp.cmp(timestamp) {
            Ordering::Greater => {
                self.newest_frame = (packet.meta.timestamp, packet.payload.len());
                let temporal = packet.meta.descriptor.temporal;
                self.frames.add(packet.meta.arrival, temporal);
            }
            Ordering::Equal => *longest = packet.payload.len().max(*longest),
            Ordering::Less => {}
        }
        if packet.meta.descriptor.keyframe {
            self.note_keyframe(packet.meta.sequence, packet.meta.timestamp);
        }
        Some(id)
    }

    /// A packet with so many payload bytes is one byte shorter than the longest of its frame.
    ///
    /// libwebrtc splits a frame into equal parts of which the last few are one byte larger. Padded by
    /// a byte (RFC 3550 §5.1) all are equal, and the kernel takes them in one send (rule 14).
    pub(crate) fn is_short_by_one(&self, timestamp: u64, payload_bytes: usize) -> bool {
        self.newest_frame == (timestamp, payload_bytes + 1)
    }

    /// A stream can begin with several packets of a frame (H264: parameter sets, slice): the first counts.
    fn note_keyframe(&mut self, sequence: u64, timestamp: u64) {
        let first = match self.keyframe {
            Some((_, known)) if known > timestamp => return,
            Some((first, known)) if known == timestamp => first.min(sequence),
            _ => sequence,
        };
        self.keyframe = Some((first, timestamp));
    }

    /// Packets are about to be missing: nothing that is kept can begin a stream.
    pub(crate) fn forget_keyframe(&mut self) {
        self.keyframe = None;
    }

    /// The last keyframe and what followed it, when a stream can begin with them: complete so far,
    /// recent, and not too much to send at once.
    pub(crate) fn head_start(&self, now: Instant) -> Option<HeadStart> {
        let (first, timestamp) = self.keyframe?;
        let last = self.ring.newest_sequence()?;
        let (meta, ..) = self.ring.get(self.ring.find(first)?)?;
        let arrival = meta.arrival;
        let is_short = last.saturating_sub(first) < HEAD_START_PACKETS_MAX
            && now.saturating_duration_since(arrival) <= HEAD_START_MAX;
        let is_whole = || (first..=last).all(|sequence| self.ring.find(sequence).is_some());
        (is_short && is_whole()).then_some(HeadStart {
            first,
            last,
            timestamp,
            arrival,
        })
    }

    /// Packets come in at present.
    pub(crate) fn is_live(&self, now: Instant) -> bool {
        self.last_packet
            .is_some_and(|last| now.saturating_duration_since(last) < LIVE_FOR)
    }

    /// Payload bits per second over the last second.
    pub(crate) fn bitrate_bps(&mut self, now: Instant) -> u64 {
        self.rate.bits_per_second(now)
    }

    /// The temporal layer up to which there are about so many frames a second.
    pub(crate) fn temporal_for(&mut self, now: Instant, fps: u8) -> u8 {
        self.frames.enough_for(now, fps)
    }

    /// When the last packet came in.
    pub(crate) fn last_packet(&self) -> Option<Instant> {
        self.last_packet
    }

    /// Takes in a sender report of this stream.
    pub(crate) fn handle_sender_report(&mut self, report: SenderReport) {
        self.last_sender_report = Some(report);
    }

    /// The last sender report, and how the publisher's clock stands to the server's.
    pub(crate) fn clock(&self) -> Option<(SenderReport, Option<i64>)> {
        Some((self.last_sender_report?, self.clock_offset))
    }

    /// Takes in how the publisher's clock stands to the server's, and by how much that jumped because
    /// the clock was set: what the stream reported before goes by the old one.
    pub(crate) fn follow_clock(&mut self, offset: Option<i64>, jump: i64) {
        self.clock_offset = offset;
        if let Some(report) = &mut self.last_sender_report {
            report.ntp = report.ntp.wrapping_sub(jump.cast_unsigned());
        }
    }

    /// The server's wall clock (NTP, 32.32 bits) when what has this RTP timestamp was captured, by the
    /// publisher's last sender report.
    ///
    /// Right for timestamps within half the 32-bit range of the report, 6 hours at 90 kHz.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the wire form of an extended timestamp"
    )]
    pub(crate) fn ntp_of(&self, timestamp: u64) -> Option<u64> {
        let offset = self.clock_offset?;
        let report = self.last_sender_report?;
        let ticks = (timestamp as u32)
            .wrapping_sub(report.rtp_timestamp)
            .cast_signed();
        let fraction = (i64::from(ticks) << 32).checked_div(i64::from(self.clock_rate))?;
        Some(
            report
                .ntp
                .wrapping_add_signed(fraction)
                .wrapping_add_signed(offset),
        )
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests need some instant to count from"
)]
mod tests {
    use super::*;
    use crate::rtp::payload::Descriptor;

    fn push(layer: &mut Layer, sequence: u64, arrival: Instant) -> Option<PacketId> {
        let descriptor = Descriptor {
            size: (sequence == 1).then_some((320, 180)),
            ..Descriptor::default()
        };
        push_as(layer, (sequence, sequence * 3000), arrival, descriptor)
    }

    fn push_key(layer: &mut Layer, numbers: (u64, u64), arrival: Instant) {
        let descriptor = Descriptor {
            keyframe: true,
            ..Descriptor::default()
        };
        push_as(layer, numbers, arrival, descriptor);
    }

    fn push_as(
        layer: &mut Layer,
        (sequence, timestamp): (u64, u64),
        arrival: Instant,
        descriptor: Descriptor,
    ) -> Option<PacketId> {
        let meta = PacketMeta {
            sequence,
            timestamp,
            marker: true,
            payload_type: 96,
            descriptor,
            arrival,
            audio_level: None,
        };
        layer.push(StoredPacket {
            meta,
            payload: &[0; 125],
            dependency_descriptor: &[],
        })
    }

    #[test]
    fn lives_while_packets_come() {
        let start = Instant::now();
        let mut layer = Layer::new(Kind::Video, 90_000);
        assert!(!layer.is_live(start));
        assert!(push(&mut layer, 1, start).is_some());
        assert!(push(&mut layer, 2, start).is_some());
        assert!(push(&mut layer, 2, start).is_none());
        assert_eq!(layer.size, Some((320, 180)));
        assert_eq!(layer.bitrate_bps(start), 2000);
        assert!(layer.is_live(start + Duration::from_millis(1499)));
        assert!(!layer.is_live(start + Duration::from_millis(1500)));
    }

    #[test]
    fn knows_what_a_packet_lacks_to_the_longest_of_its_frame() {
        let now = Instant::now();
        let mut layer = Layer::new(Kind::Video, 90_000);
        let mut push = |sequence: u64, timestamp, bytes: usize| {
            let meta = PacketMeta {
                sequence,
                timestamp,
                marker: false,
                payload_type: 96,
                descriptor: Descriptor::default(),
                arrival: now,
                audio_level: None,
            };
            layer.push(StoredPacket {
                meta,
                payload: &vec![0; bytes],
                dependency_descriptor: &[],
            });
            [100, 101].map(|bytes| layer.is_short_by_one(timestamp, bytes))
        };
        assert_eq!(push(1, 10, 100), [false, false]);
        assert_eq!(push(2, 10, 101), [true, false]);
        assert_eq!(push(3, 10, 99), [true, false]);
        // Of another frame nothing is known, of an older one nothing any more.
        assert_eq!(push(4, 20, 100), [false, false]);
        assert_eq!(push(5, 10, 101), [false, false]);
        assert_eq!(push(6, 20, 102), [false, true]);
    }

    #[test]
    fn a_stream_can_begin_with_a_recent_keyframe_and_all_that_followed() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut layer = Layer::new(Kind::Video, 90_000);
        push(&mut layer, 7, at(0));
        assert_eq!(layer.head_start(at(0)), None, "no keyframe");
        push_key(&mut layer, (8, 24000), at(10));
        push(&mut layer, 9, at(20));
        let begin = |first, last, ms| HeadStart {
            first,
            last,
            timestamp: first * 3000,
            arrival: at(ms),
        };
        assert_eq!(layer.head_start(at(500)), Some(begin(8, 9, 10)));
        assert_eq!(layer.head_start(at(511)), None, "too old");
        // A hole, until it is filled.
        push(&mut layer, 11, at(30));
        assert_eq!(layer.head_start(at(30)), None);
        push(&mut layer, 10, at(40));
        assert_eq!(layer.head_start(at(40)), Some(begin(8, 11, 10)));
        // A newer keyframe takes its place, a late older one does not.
        push_key(&mut layer, (13, 39000), at(50));
        push_key(&mut layer, (12, 36000), at(60));
        assert_eq!(layer.head_start(at(60)), Some(begin(13, 13, 50)));
    }

    #[test]
    fn a_head_start_is_bounded_in_packets() {
        let start = Instant::now();
        let mut layer = Layer::new(Kind::Video, 90_000);
        push_key(&mut layer, (0, 0), start);
        for sequence in 1..HEAD_START_PACKETS_MAX {
            push(&mut layer, sequence, start);
        }
        assert!(layer.head_start(start).is_some());
        push(&mut layer, HEAD_START_PACKETS_MAX, start);
        assert_eq!(layer.head_start(start), None);
    }

    #[test]
    fn a_keyframe_begins_with_the_first_of_its_packets_that_say_so() {
        let start = Instant::now();
        let mut layer = Layer::new(Kind::Video, 90_000);
        for sequence in [21, 20, 22] {
            push_key(&mut layer, (sequence, 3000), start);
        }
        let first = layer.head_start(start).map(|begin| begin.first);
        assert_eq!(first, Some(20));
    }

    #[test]
    fn maps_timestamps_to_the_servers_clock() {
        let mut layer = Layer::new(Kind::Video, 90_000);
        assert_eq!(layer.ntp_of(0), None);
        layer.handle_sender_report(SenderReport {
            ntp: 3 << 32,
            rtp_timestamp: u32::MAX - 89_999,
            arrival: Instant::now(),
        });
        assert_eq!(layer.ntp_of(0), None);
        layer.follow_clock(Some(1 << 32), 0);
        // The publisher sets its clock back by a second, which changes nothing for what it sends.
        layer.follow_clock(Some(2 << 32), 1 << 32);
        layer.follow_clock(Some(3 << 32), 0);
        // Half a second after the report's timestamp, over the 32-bit wrap and a half.
        assert_eq!(
            layer.ntp_of((7 << 32) + 45_000),
            Some((6 << 32) + (1 << 31))
        );
        assert_eq!(layer.ntp_of(u64::from(u32::MAX - 179_999)), Some(4 << 32));
    }
}
