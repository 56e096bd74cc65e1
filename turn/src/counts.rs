//! What a server counts: plain integers, published once a second.

/// Why bytes went nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Neither a STUN message nor channel data.
    Malformed,
    /// Data of a client without an allocation, or for an allocation that is gone.
    NoAllocation,
    /// Data for or from a peer without permission.
    NoPermission,
    /// The allocation or the server carries as much as it may.
    Bandwidth,
    /// A reply that would have been too long, or one too many, for a source that has proven nothing.
    Unproven,
    /// Longer than what is relayed.
    TooLong,
    /// The kernel did not take it: its buffer was full, or the address cannot be reached.
    SocketFull,
    /// The write queue of a TCP connection was full.
    StreamFull,
}

impl DropReason {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Malformed, "malformed"),
        (Self::NoAllocation, "no_allocation"),
        (Self::NoPermission, "no_permission"),
        (Self::Bandwidth, "bandwidth"),
        (Self::Unproven, "unproven"),
        (Self::TooLong, "too_long"),
        (Self::SocketFull, "socket_full"),
        (Self::StreamFull, "stream_full"),
    ];
}

/// What a server has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Allocations there are.
    pub allocations: u64,
    /// Allocations made.
    pub allocated: u64,
    /// Binding requests answered.
    pub bindings: u64,
    /// Challenges sent: requests without, or with stale, proof.
    pub challenges: u64,
    /// Authenticated requests refused.
    pub refused: u64,
    /// Datagrams relayed from clients to peers.
    pub relayed_out: u64,
    /// Their bytes.
    pub relayed_out_bytes: u64,
    /// Datagrams relayed from peers to clients.
    pub relayed_in: u64,
    /// Their bytes.
    pub relayed_in_bytes: u64,
    /// Panics caught; each ended all allocations of its server.
    pub panics: u64,
    /// TCP and TLS connections there are.
    pub connections: u64,
    /// TCP and TLS connections closed because there were too many.
    pub connections_refused: u64,
    dropped: [u64; DropReason::ALL.len()],
}

/// One value as Prometheus shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it counts, in one sentence.
    pub help: &'static str,
    /// Whether it goes up and down.
    pub is_gauge: bool,
    /// The one label, from a closed set.
    pub label: Option<(&'static str, &'static str)>,
    /// The value.
    pub value: u64,
}

impl Counts {
    pub(crate) fn dropped(&mut self, reason: DropReason) {
        self.dropped_many(reason, 1);
    }

    pub(crate) fn dropped_many(&mut self, reason: DropReason, dropped: u64) {
        // The discriminant is below the length: ALL lists every variant in order.
        if let Some(count) = self.dropped.get_mut(reason as usize) {
            *count += dropped;
        }
    }

    /// How much was dropped for a reason so far.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped
            .get(reason as usize)
            .copied()
            .unwrap_or_default()
    }

    /// Adds all values of another server.
    pub fn add(&mut self, other: &Self) {
        self.allocations += other.allocations;
        self.connections += other.connections;
        self.add_counters(other);
    }

    /// Adds what only grows: the part that outlives a server.
    pub(crate) fn add_counters(&mut self, other: &Self) {
        self.allocated += other.allocated;
        self.bindings += other.bindings;
        self.challenges += other.challenges;
        self.refused += other.refused;
        self.relayed_out += other.relayed_out;
        self.relayed_out_bytes += other.relayed_out_bytes;
        self.relayed_in += other.relayed_in;
        self.relayed_in_bytes += other.relayed_in_bytes;
        self.panics += other.panics;
        self.connections_refused += other.connections_refused;
        for (mine, theirs) in self.dropped.iter_mut().zip(&other.dropped) {
            *mine += theirs;
        }
    }

    /// Every metric with its name.
    pub fn list(&self) -> Vec<Metric> {
        let one = |(is_gauge, name, help, value): &Row| Metric {
            name,
            help,
            is_gauge: *is_gauge,
            label: None,
            value: value(self),
        };
        let mut list: Vec<Metric> = TABLE.iter().map(one).collect();
        for ((_, label), value) in DropReason::ALL.iter().zip(&self.dropped) {
            list.push(Metric {
                name: "plenum_turn_dropped_total",
                help: "Datagrams of TURN clients or their peers that went nowhere, and replies withheld.",
                is_gauge: false,
                label: Some(("reason", label)),
                value: *value,
            });
        }
        list
    }
}

/// A metric without a label: whether it goes up and down, its name, its help, its value.
type Row = (bool, &'static str, &'static str, fn(&Counts) -> u64);

const TABLE: [Row; 12] = [
    (
        true,
        "plenum_turn_allocations",
        "TURN allocations.",
        |counts| counts.allocations,
    ),
    (
        true,
        "plenum_turn_connections",
        "TCP and TLS connections of TURN clients.",
        |counts| counts.connections,
    ),
    (
        false,
        "plenum_turn_allocated_total",
        "TURN allocations made.",
        |counts| counts.allocated,
    ),
    (
        false,
        "plenum_turn_bindings_total",
        "STUN Binding requests answered.",
        |counts| counts.bindings,
    ),
    (
        false,
        "plenum_turn_connections_refused_total",
        "TCP and TLS connections of TURN clients closed because there were too many.",
        |counts| counts.connections_refused,
    ),
    (
        false,
        "plenum_turn_challenges_total",
        "TURN requests answered with a challenge: without, or with stale, credentials.",
        |counts| counts.challenges,
    ),
    (
        false,
        "plenum_turn_refused_total",
        "Authenticated TURN requests refused.",
        |counts| counts.refused,
    ),
    (
        false,
        "plenum_turn_to_peers_datagrams_total",
        "Datagrams relayed from clients to peers.",
        |counts| counts.relayed_out,
    ),
    (
        false,
        "plenum_turn_to_peers_bytes_total",
        "Bytes relayed from clients to peers.",
        |counts| counts.relayed_out_bytes,
    ),
    (
        false,
        "plenum_turn_to_clients_datagrams_total",
        "Datagrams relayed from peers to clients.",
        |counts| counts.relayed_in,
    ),
    (
        false,
        "plenum_turn_to_clients_bytes_total",
        "Bytes relayed from peers to clients.",
        |counts| counts.relayed_in_bytes,
    ),
    (
        false,
        "plenum_turn_panics_total",
        "Panics that ended all allocations of a TURN server.",
        |counts| counts.panics,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drop_has_its_own_label() {
        for (place, (reason, label)) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
            let mut counts = Counts::default();
            counts.dropped(*reason);
            let listed = counts.list();
            let found = listed.iter().find(|metric| metric.value == 1).unwrap();
            assert_eq!(found.label, Some(("reason", *label)));
        }
    }

    #[test]
    fn names_follow_the_scheme() {
        for metric in Counts::default().list() {
            assert!(metric.name.starts_with("plenum_turn_"), "{}", metric.name);
            assert_eq!(
                metric.name.ends_with("_total"),
                !metric.is_gauge,
                "{}",
                metric.name
            );
            assert!(metric.help.ends_with('.'), "{}", metric.help);
        }
    }
}
