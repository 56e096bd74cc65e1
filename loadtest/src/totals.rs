//! What the bots of one thread count.

use std::time::Duration;

use crate::report::Histogram;

/// What bots received and sent since counting began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// RTP packets received, retransmissions and probes included.
    pub packets: u64,
    /// Bytes of their datagrams.
    pub bytes: u64,
    /// Those of pictures, each once.
    pub video_packets: u64,
    /// Those of sound, each once.
    pub audio_packets: u64,
    /// Packets on retransmission streams.
    pub retransmissions: u64,
    /// Packets that carried nothing new: padding, or a copy nobody had asked for.
    pub probes: u64,
    /// Packets of media streams that came twice.
    pub duplicates: u64,
    /// Packets that came after a later one.
    pub late: u64,
    /// Times that numbers were left out.
    pub gaps: u64,
    /// Packets that came as retransmissions.
    pub recovered: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Pictures received, by their timestamps.
    pub frames: u64,
    /// Keyframes among the packets decrypted.
    pub keyframes: u64,
    /// Times that a picture stood still for too long.
    pub freezes: u64,
    /// For how long, all together.
    pub frozen: Duration,
    /// Changes of the layer of a stream, as seen in stamps.
    pub layer_switches: u64,
    /// Packets asked for again.
    pub nacks_sent: u64,
    /// Keyframes asked for.
    pub keyframe_requests_sent: u64,
    /// Keyframes that publishers were asked for.
    pub keyframe_requests_received: u64,
    /// Transport-wide feedback packets sent.
    pub feedback_sent: u64,
    /// RTCP packets received.
    pub rtcp_received: u64,
    /// RTP packets sent.
    pub sent_packets: u64,
    /// Bytes of their datagrams.
    pub sent_bytes: u64,
    /// RTP packets sent again because they were asked for.
    pub sent_again: u64,
    /// Packets that could not be decrypted.
    pub unreadable: u64,
    /// Decrypted packets without an intact stamp.
    pub unstamped: u64,
    /// Datagrams that are nothing a bot knows.
    pub malformed: u64,
    /// From the sending of a packet of pictures to its arrival; of a sample.
    pub video_delay: Histogram,
    /// The same for sound.
    pub audio_delay: Histogram,
    /// How long the bots' own turns took, once for each packet received in them: as much of the delays
    /// may be theirs.
    pub own_turns: Histogram,
}

/// How joining went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joins {
    /// From the first byte of signaling to the keys.
    pub connected: Histogram,
    /// From the first byte of signaling to what was wanted: a keyframe, else sound, else the keys.
    pub started: Histogram,
    /// Bots that did not come so far in time.
    pub failed: u64,
}

impl Totals {
    /// Adds what another thread counted.
    pub fn add(&mut self, other: &Self) {
        let counters = [
            (&mut self.packets, other.packets),
            (&mut self.bytes, other.bytes),
            (&mut self.video_packets, other.video_packets),
            (&mut self.audio_packets, other.audio_packets),
            (&mut self.retransmissions, other.retransmissions),
            (&mut self.probes, other.probes),
            (&mut self.duplicates, other.duplicates),
            (&mut self.late, other.late),
            (&mut self.gaps, other.gaps),
            (&mut self.recovered, other.recovered),
            (&mut self.lost, other.lost),
            (&mut self.frames, other.frames),
            (&mut self.keyframes, other.keyframes),
            (&mut self.freezes, other.freezes),
            (&mut self.layer_switches, other.layer_switches),
            (&mut self.nacks_sent, other.nacks_sent),
            (
                &mut self.keyframe_requests_sent,
                other.keyframe_requests_sent,
            ),
            (
                &mut self.keyframe_requests_received,
                other.keyframe_requests_received,
            ),
            (&mut self.feedback_sent, other.feedback_sent),
            (&mut self.rtcp_received, other.rtcp_received),
            (&mut self.sent_packets, other.sent_packets),
            (&mut self.sent_bytes, other.sent_bytes),
            (&mut self.sent_again, other.sent_again),
            (&mut self.unreadable, other.unreadable),
            (&mut self.unstamped, other.unstamped),
            (&mut self.malformed, other.malformed),
        ];
        for (mine, theirs) in counters {
            *mine += theirs;
        }
        self.frozen += other.frozen;
        self.video_delay.add(&other.video_delay);
        self.audio_delay.add(&other.audio_delay);
        self.own_turns.add(&other.own_turns);
    }

    /// Delays of sound and pictures together.
    pub fn delay(&self) -> Histogram {
        let mut both = self.video_delay.clone();
        both.add(&self.audio_delay);
        both
    }

    /// Media packets that should have come.
    pub fn expected(&self) -> u64 {
        self.video_packets + self.audio_packets + self.recovered + self.lost
    }
}

impl Joins {
    /// Adds what another thread counted.
    pub fn add(&mut self, other: &Self) {
        self.connected.add(&other.connected);
        self.started.add(&other.started);
        self.failed += other.failed;
    }
}
