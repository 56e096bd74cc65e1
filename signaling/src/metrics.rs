//! Counters of the service, and the text of `/metrics` with those of the media core.

use std::fmt::Write;

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use crate::message::ErrorCode;

/// Counters of the service.
pub struct Metrics {
    registry: Registry,
    /// Rooms open now.
    pub rooms: IntGauge,
    /// Participants in rooms now.
    pub participants: IntGauge,
    /// Participants let in.
    pub joins: IntCounter,
    /// WebSockets open now.
    pub sockets: IntGauge,
    /// Sockets closed because their client did not read.
    pub slow_consumers: IntCounter,
    /// Commands that had to wait for their shard.
    pub commands_deferred: IntCounter,
    /// Commands given up because too many waited.
    pub commands_dropped: IntCounter,
    refusals: IntCounterVec,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("the name is valid");
            registry
                .register(Box::new(gauge.clone()))
                .expect("the name is new");
            gauge
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("the name is valid");
            registry
                .register(Box::new(counter.clone()))
                .expect("the name is new");
            counter
        };
        let refusals = Opts::new(
            "plenum_refusals_total",
            "Joins and requests refused, by code",
        );
        let refusals = IntCounterVec::new(refusals, &["code"]).expect("the name is valid");
        registry
            .register(Box::new(refusals.clone()))
            .expect("the name is new");
        Self {
            rooms: gauge("plenum_rooms", "Rooms open now"),
            participants: gauge("plenum_participants", "Participants in rooms now"),
            joins: counter("plenum_joins_total", "Participants let in"),
            sockets: gauge("plenum_signaling_sockets", "WebSockets open now"),
            slow_consumers: counter(
                "plenum_signaling_slow_consumers_total",
                "WebSockets closed because their client did not read",
            ),
            commands_deferred: counter(
                "plenum_commands_deferred_total",
                "Commands that had to wait for their shard",
            ),
            commands_dropped: counter(
                "plenum_commands_dropped_total",
                "Commands given up because too many waited",
            ),
            refusals,
            registry,
        }
    }

    /// Counts a refusal.
    pub fn refused(&self, code: ErrorCode) {
        self.refusals.with_label_values(&[code.as_str()]).inc();
    }

    /// All of them and those of the core in Prometheus' text format.
    pub fn text(&self, core: &[sfu::Metric]) -> String {
        let mut text = String::new();
        TextEncoder::new()
            .encode_utf8(&self.registry.gather(), &mut text)
            .ok();
        let mut last = "";
        for metric in core {
            if metric.name != last {
                let kind = match metric.kind {
                    sfu::MetricKind::Counter => "counter",
                    sfu::MetricKind::Gauge => "gauge",
                };
                let (name, help) = (metric.name, metric.help);
                write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n").ok();
                last = metric.name;
            }
            match metric.label {
                Some((label, of)) => {
                    writeln!(text, "{}{{{label}=\"{of}\"}} {}", metric.name, metric.value).ok();
                }
                None => {
                    writeln!(text, "{} {}", metric.name, metric.value).ok();
                }
            }
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
