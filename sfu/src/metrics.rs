//! Counters of a shard: plain integers, published once a second, and their Prometheus names.
//!
//! A shard and its driver each count in a [`Metrics`] of their own; [`Metrics::add`] joins them. Every
//! metric is declared once, in the tables below, with its name and help text.

use net::UdpCounts;

/// One value as Prometheus shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it counts, in one sentence.
    pub help: &'static str,
    /// How to read it.
    pub kind: MetricKind,
    /// The one label, from a closed set.
    pub label: Option<(&'static str, &'static str)>,
    /// The value.
    pub value: u64,
}

/// How a metric is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// Declares an enum whose variants are the values of one metric label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The label's value.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

label!(
    /// Why bytes from outside, or bytes for outside, went nowhere.
    DropReason {
        /// From an address no peer has proven, and not a connectivity check.
        UnknownPeer = "unknown_peer",
        /// From an address of a peer that has not passed a connectivity check.
        NotValidated = "not_validated",
        /// An authentication tag or integrity attribute that does not verify.
        BadTag = "bad_tag",
        /// Seen before, or too old to tell.
        Replay = "replay",
        /// Not what its first bytes promise.
        Malformed = "malformed",
        /// An RTP source that no section of the peer's offer claims.
        UnknownSource = "unknown_source",
        /// An RTP source of a track that has ended: what was under way, or a sender that has not heard of it.
        EndedSource = "ended_source",
        /// A payload type or codec that was not negotiated.
        UnknownPayload = "unknown_payload",
        /// The peer has no keys yet, or none for this direction.
        NoKeys = "no_keys",
        /// A source sends more of this than it may.
        RateLimited = "rate_limited",
        /// A subscriber's queue is full.
        QueueFull = "queue_full",
        /// It waited for a slot that carries another track by now.
        Replaced = "replaced",
        /// The queue of another shard is full.
        CascadeFull = "cascade_full",
        /// The kernel's send buffer of a UDP socket is full.
        SocketFull = "socket_full",
        /// The write queue of a TCP connection is full.
        TcpFull = "tcp_full",
        /// The TCP connection it was for is gone.
        TcpClosed = "tcp_closed",
        /// There is no socket for its IP version.
        NoSocket = "no_socket",
        /// The grants do not allow it.
        NotAllowed = "not_allowed",
        /// The kernel did not say which local address it reached.
        NoLocalAddress = "no_local_address",
    }
);

label!(
    /// What a caught panic ended.
    PanicUnit {
        /// One peer.
        Peer = "peer",
        /// One room.
        Room = "room",
        /// A whole shard.
        Shard = "shard",
    }
);

label!(
    /// Why a TCP connection was closed by us.
    TcpRefusal {
        /// Its first frame did not arrive in time.
        Slow = "slow",
        /// Its first frame is no connectivity check for a shard of ours.
        NotIce = "not_ice",
        /// It did not begin with the PROXY header it should have, or came from who may not send one.
        ProxyHeader = "proxy_header",
        /// Too many others had not said who they are.
        Crowded = "crowded",
        /// The shard has as many connections as it takes.
        ShardFull = "shard_full",
        /// No peer of the shard has used it.
        Idle = "idle",
    }
);

/// Declares [`Metrics`]: single values, then families with one label.
macro_rules! metrics {
    (
        single: {
            $($kind:ident $field:ident, $name:literal, $help:literal;)*
        }
        families: {
            $($family:ident[$label:ident] by $key:ident, $add:ident,
                $family_name:literal, $family_help:literal;)*
        }
    ) => {
        /// What a shard or its driver has counted.
        #[derive(Clone, Debug, PartialEq, Eq, Default)]
        pub struct Metrics {
            $(#[doc = $help] pub $field: u64,)*
            $(#[doc = $family_help] $family: [u64; $label::ALL.len()],)*
        }

        impl Metrics {
            $(
                #[doc = concat!("Adds `count` to `", $family_name, "`.")]
                pub fn $add(&mut self, $key: $label, count: u64) {
                    // The discriminant is below the length: both come from one list.
                    self.$family[$key as usize] += count;
                }
            )*

            /// Adds all values of another: those of the same shard's driver, or of another shard.
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
                self.add_families(other);
            }

            /// Adds what only grows: the part of a shard's count that outlives the shard.
            pub fn add_counters(&mut self, other: &Self) {
                $(if is_counter(MetricKind::$kind) { self.$field += other.$field; })*
                self.add_families(other);
            }

            fn add_families(&mut self, other: &Self) {
                $(for (mine, theirs) in self.$family.iter_mut().zip(&other.$family) {
                    *mine += theirs;
                })*
            }

            /// Every metric with its name, in the order of declaration.
            pub fn list(&self) -> Vec<Metric> {
                let mut list = vec![$(Metric {
                    name: $name,
                    help: $help,
                    kind: MetricKind::$kind,
                    label: None,
                    value: self.$field,
                },)*];
                $(for (label, value) in $label::ALL.iter().zip(&self.$family) {
                    list.push(Metric {
                        name: $family_name,
                        help: $family_help,
                        kind: MetricKind::Counter,
                        label: Some((stringify!($key), label.text())),
                        value: *value,
                    });
                })*
                list
            }
        }
    };
}

metrics! {
    single: {
    // What crosses the sockets; counted by the driver.
    Counter received_datagrams, "plenum_received_datagrams_total",
        "Datagrams and TCP frames received.";
    Counter received_bytes, "plenum_received_bytes_total",
        "Bytes of datagrams and TCP frames received, without IP and UDP headers.";
    Counter received_batches, "plenum_received_batches_total",
        "Receive calls that returned datagrams.";
    Counter sent_datagrams, "plenum_sent_datagrams_total",
        "Datagrams and TCP frames handed to the kernel.";
    Counter sent_bytes, "plenum_sent_bytes_total",
        "Bytes of datagrams and TCP frames handed to the kernel, without IP and UDP headers.";
    Counter sent_runs, "plenum_sent_runs_total",
        "UDP sends: each carries one datagram, or with segmentation offload a run of them.";
    Counter gso_fallbacks, "plenum_gso_fallbacks_total",
        "Runs the kernel refused to segment, sent as single datagrams instead.";
    Counter send_errors, "plenum_send_errors_total",
        "UDP sends the kernel refused for another reason than a full buffer.";
    Counter receive_errors, "plenum_receive_errors_total",
        "UDP receives that failed.";
    Counter tcp_accepted, "plenum_tcp_accepted_total",
        "TCP connections accepted.";
    Gauge tcp_connections, "plenum_tcp_connections",
        "TCP connections that belong to a shard.";
    Gauge tcp_unidentified, "plenum_tcp_unidentified",
        "TCP connections that have not sent their first connectivity check.";
    Counter busy_microseconds, "plenum_busy_microseconds_total",
        "Time media threads spent working; divide by shards and time for their load.";
    Gauge shards, "plenum_shards",
        "Media threads.";
    Gauge events_waiting, "plenum_events_waiting",
        "Events the service has not taken yet.";
    Counter events_dropped, "plenum_events_dropped_total",
        "Data messages from participants dropped because the service did not take its events.";

    // What the shard's rooms do; counted by the shard.
    Gauge rooms, "plenum_shard_rooms",
        "Rooms on media threads; one that is continued on several counts on each.";
    Gauge peers, "plenum_peers", "Participants in rooms.";
    Gauge tracks, "plenum_tracks", "Tracks published.";
    Gauge subscriptions, "plenum_subscriptions", "Tracks forwarded, counted per subscriber.";
    Gauge cascade_rooms, "plenum_cascade_rooms",
        "Rooms that are continued on a shard beside their own, counted per such shard.";
    Gauge cascade_tracks, "plenum_cascade_tracks",
        "Tracks known on a shard beside their own, counted per such shard.";
    Counter cascade_packets, "plenum_cascade_packets_total",
        "RTP packets handed to other shards, once whatever the number of shards.";
    Counter cascade_received_packets, "plenum_cascade_received_packets_total",
        "RTP packets taken from other shards.";
    Counter cascade_keyframe_requests, "plenum_cascade_keyframe_requests_total",
        "Keyframe requests to the shard of a publisher.";
    Counter cascade_wakes, "plenum_cascade_wakes_total",
        "Times a media thread had to be woken for what another one handed over.";
    Counter cascade_cuts, "plenum_cascade_cuts_total",
        "Times a shard began anew with another one that did not take what it was told.";
    Counter rtp_received_packets, "plenum_rtp_received_packets_total",
        "RTP packets accepted from publishers.";
    Counter rtp_sent_packets, "plenum_rtp_sent_packets_total",
        "RTP packets sent to subscribers, retransmissions and probes included.";
    Counter padded_packets, "plenum_rtp_padded_packets_total",
        "RTP packets sent with a byte of padding, to be as long as the others of their frame.";
    Counter rtcp_received_packets, "plenum_rtcp_received_packets_total",
        "Compound RTCP packets accepted.";
    Counter rtcp_sent_packets, "plenum_rtcp_sent_packets_total",
        "Compound RTCP packets sent.";
    Counter nacks_received, "plenum_nacks_received_total",
        "Packets that subscribers reported missing.";
    Counter nacks_sent, "plenum_nacks_sent_total",
        "Packets that publishers were asked for again.";
    Counter retransmitted_packets, "plenum_retransmitted_packets_total",
        "Packets sent again to subscribers.";
    Counter retransmission_misses, "plenum_retransmission_misses_total",
        "Packets subscribers asked for that were no longer kept.";
    Counter keyframe_requests_received, "plenum_keyframe_requests_received_total",
        "Keyframe requests from subscribers.";
    Counter keyframe_requests_sent, "plenum_keyframe_requests_sent_total",
        "Keyframe requests to publishers.";
    Counter kept_keyframe_starts, "plenum_kept_keyframe_starts_total",
        "Subscriptions that began with a keyframe already kept, instead of waiting for the next.";
    Counter layer_switches, "plenum_layer_switches_total",
        "Times a subscription changed its layer.";
    Counter allocations, "plenum_allocations_total",
        "Times bandwidth was shared out among a subscriber's tracks.";
    Counter handshakes, "plenum_dtls_handshakes_total", "DTLS handshakes completed.";
    Counter handshake_failures, "plenum_dtls_failures_total", "DTLS handshakes that failed.";
    }
    families: {
    dropped_by[DropReason] by reason, dropped_many, "plenum_dropped_total",
        "Datagrams, packets and TCP frames dropped, by reason.";
    panics[PanicUnit] by unit, panicked_many, "plenum_panics_total",
        "Panics caught, by what they ended.";
    tcp_refused_by[TcpRefusal] by refusal, tcp_refused_many, "plenum_tcp_refused_total",
        "TCP connections closed by us, by reason.";
    }
}

impl Metrics {
    /// Counts one dropped datagram or packet.
    pub fn dropped(&mut self, reason: DropReason) {
        self.dropped_many(reason, 1);
    }

    /// Counts one caught panic.
    pub fn panicked(&mut self, unit: PanicUnit) {
        self.panicked_many(unit, 1);
    }

    /// Counts one closed TCP connection.
    pub fn tcp_refused(&mut self, refusal: TcpRefusal) {
        self.tcp_refused_many(refusal, 1);
    }

    /// Adds what crossed UDP sockets.
    pub(crate) fn add_udp(&mut self, counts: &UdpCounts) {
        self.received_datagrams += counts.received_datagrams;
        self.received_bytes += counts.received_bytes;
        self.received_batches += counts.received_batches;
        self.receive_errors += counts.receive_errors;
        self.sent_datagrams += counts.sent_datagrams;
        self.sent_bytes += counts.sent_bytes;
        self.sent_runs += counts.sent_runs;
        self.gso_fallbacks += counts.gso_fallbacks;
        self.send_errors += counts.send_errors;
        self.dropped_many(DropReason::SocketFull, counts.socket_full);
        self.dropped_many(DropReason::NoLocalAddress, counts.no_local_address);
    }

    /// How much was dropped for a reason so far.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped_by[reason as usize]
    }

    /// How many panics ended a unit of this kind so far.
    pub fn panics_of(&self, unit: PanicUnit) -> u64 {
        self.panics[unit as usize]
    }

    /// How many TCP connections were closed for a reason so far.
    pub fn tcp_refused_for(&self, refusal: TcpRefusal) -> u64 {
        self.tcp_refused_by[refusal as usize]
    }
}

fn is_counter(kind: MetricKind) -> bool {
    kind == MetricKind::Counter
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_follow_the_scheme_and_are_unique() {
        let mut seen = HashSet::new();
        for metric in Metrics::default().list() {
            assert!(
                seen.insert((metric.name, metric.label)),
                "{} twice",
                metric.name
            );
            assert!(metric.name.starts_with("plenum_"), "{}", metric.name);
            let is_total = metric.name.ends_with("_total");
            assert_eq!(
                is_total,
                metric.kind == MetricKind::Counter,
                "{}",
                metric.name
            );
            assert!(metric.help.ends_with('.'), "{}", metric.help);
        }
    }

    #[test]
    fn a_restarted_shard_keeps_its_counters_but_not_its_gauges() {
        let mut gone = Metrics {
            rooms: 3,
            handshakes: 7,
            ..Metrics::default()
        };
        gone.dropped(DropReason::Replay);
        let mut kept = Metrics::default();
        kept.add_counters(&gone);
        assert_eq!((kept.rooms, kept.handshakes), (0, 7));
        assert_eq!(kept.dropped_for(DropReason::Replay), 1);
        kept.add(&gone);
        assert_eq!((kept.rooms, kept.handshakes), (3, 14));
        let listed = kept.list();
        let replay = listed
            .iter()
            .find(|m| m.label == Some(("reason", "replay")))
            .unwrap();
        assert_eq!((replay.name, replay.value), ("plenum_dropped_total", 2));
    }
}
