//! Counters of the service, and the text of `/metrics` with those of the media core.

use std::fmt::Write;

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

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
    /// Times that the certificate's files could not be used when they were read again.
    pub tls_reload_failures: IntCounter,
    /// Certificates that could not be got by ACME.
    pub acme_failures: IntCounter,
    refusals: IntCounterVec,
    /// Without a label, so that there is none while there is no certificate.
    tls_expires: IntGaugeVec,
    connections_closed: IntCounterVec,
}

/// Why a connection was closed before a request could come on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// TLS could not be agreed on.
    Handshake,
    /// It was for TURN, which is not served here.
    NoTurn,
    /// It did not begin with a PROXY header that we take.
    ProxyHeader,
    /// It came from none of the proxies.
    ProxyPeer,
    /// Its client went away or took too long.
    Silent,
}

impl Closed {
    const ALL: [Self; 5] = [
        Self::Handshake,
        Self::NoTurn,
        Self::ProxyHeader,
        Self::ProxyPeer,
        Self::Silent,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::NoTurn => "no_turn",
            Self::ProxyHeader => "proxy_header",
            Self::ProxyPeer => "proxy_peer",
            Self::Silent => "silent",
        }
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        let gauge = |name, help| registered(&registry, IntGauge::new(name, help));
        let counter = |name, help| registered(&registry, IntCounter::new(name, help));
        let counters = |name, help, label| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label]);
            registered(&registry, counters)
        };
        let expires = Opts::new(
            "plenum_tls_expires_timestamp_seconds",
            "When the certificate that is shown ends, in seconds since 1970",
        );
        let tls_expires = registered(&registry, IntGaugeVec::new(expires, &[]));
        let connections_closed = counters(
            "plenum_connections_closed_total",
            "Connections closed before a request, by reason",
            "reason",
        );
        for reason in Closed::ALL {
            connections_closed.with_label_values(&[reason.as_str()]);
        }
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
            tls_reload_failures: counter(
                "plenum_tls_reload_failures_total",
                "Times that new certificate files could not be used",
            ),
            acme_failures: counter(
                "plenum_acme_failures_total",
                "Certificates that could not be got by ACME",
            ),
            tls_expires,
            refusals: counters(
                "plenum_refusals_total",
                "Joins and requests refused, by code",
                "code",
            ),
            connections_closed,
            registry,
        }
    }

    /// Counts a refusal.
    pub fn refused(&self, code: ErrorCode) {
        self.refusals.with_label_values(&[code.as_str()]).inc();
    }

    /// Says when the certificate in force ends, in seconds since 1970; `None`: that is not known.
    pub fn tls_expires(&self, until: Option<u64>) {
        match until.map(i64::try_from) {
            Some(Ok(until)) => self.tls_expires.with_label_values::<&str>(&[]).set(until),
            _ => self.tls_expires.reset(),
        }
    }

    /// Counts a connection closed before a request could come on it.
    pub fn connection_closed(&self, reason: Closed) {
        self.connections_closed
            .with_label_values(&[reason.as_str()])
            .inc();
    }

    /// Connections closed for this reason.
    pub fn connections_closed(&self, reason: Closed) -> u64 {
        self.connections_closed
            .with_label_values(&[reason.as_str()])
            .get()
    }

    /// All of them and those of the core and the TURN server in Prometheus' text format.
    pub fn text(&self, others: &[sfu::Metric]) -> String {
        let mut text = String::new();
        TextEncoder::new()
            .encode_utf8(&self.registry.gather(), &mut text)
            .ok();
        let mut last = "";
        for metric in others {
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

/// A metric as the registry shows it. Names are constants of this file.
fn registered<M>(registry: &Registry, metric: prometheus::Result<M>) -> M
where
    M: Collector + Clone + 'static,
{
    let metric = metric.expect("the name is valid");
    let shown = registry.register(Box::new(metric.clone()));
    shown.expect("the name is new");
    metric
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
