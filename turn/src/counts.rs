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
}

impl DropReason {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Malformed, "malformed"),
        (Self::NoAllocation, "no_allocation"),
        (Self::NoPermission, "no_permission"),
        (Self::Bandwidth, "bandwidth"),
        (Self::Unproven, "unproven"),
        (Self::TooLong, "too_long"),
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
        // The discriminant is below the length: ALL lists every variant in order.
        if let Some(count) = self.dropped.get_mut(reason as usize) {
            *count += 1;
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
        for (mine, theirs) in self.dropped.iter_mut().zip(&other.dropped) {
            *mine += theirs;
        }
    }

    /// Every metric with its name.
    pub fn list(&self) -> Vec<Metric> {
        let one = |(name, help, is_gauge, value)| Metric {
            name,
            help,
            is_gauge,
            label: None,
            value,
        };
        let mut list: Vec<Metric> = self.table().into_iter().map(one).collect();
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

    fn table(&self) -> [(&'static str, &'static str, bool, u64); 11] {
        let gauge = |name, help, value| (name, help, true, value);
        let counter = |name, help, value| (name, help, false, value);
        [
            gauge(
                "plenum_turn_allocations",
                "TURN allocations.",
                self.allocations,
            ),
            gauge(
                "plenum_turn_connections",
                "TCP and TLS connections of TURN clients.",
                self.connections,
            ),
            counter(
                "plenum_turn_allocated_total",
                "TURN allocations made.",
                self.allocated,
            ),
            counter(
                "plenum_turn_bindings_total",
                "STUN Binding requests answered.",
                self.bindings,
            ),
            counter(
                "plenum_turn_challenges_total",
                "TURN requests answered with a challenge: without, or with stale, credentials.",
                self.challenges,
            ),
            counter(
                "plenum_turn_refused_total",
                "Authenticated TURN requests refused.",
                self.refused,
            ),
            counter(
                "plenum_turn_to_peers_datagrams_total",
                "Datagrams relayed from clients to peers.",
                self.relayed_out,
            ),
            counter(
                "plenum_turn_to_peers_bytes_total",
                "Bytes relayed from clients to peers.",
                self.relayed_out_bytes,
            ),
            counter(
                "plenum_turn_to_clients_datagrams_total",
                "Datagrams relayed from peers to clients.",
                self.relayed_in,
            ),
            counter(
                "plenum_turn_to_clients_bytes_total",
                "Bytes relayed from peers to clients.",
                self.relayed_in_bytes,
            ),
            counter(
                "plenum_turn_panics_total",
                "Panics that ended all allocations of a TURN server.",
                self.panics,
            ),
        ]
    }
}

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
