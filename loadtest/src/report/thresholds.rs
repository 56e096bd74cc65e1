//! Whether a run was good enough.

use std::time::Duration;

use super::{Report, ms};

/// What a run must keep to; a bot that fails to join and a stream that does not come are always too many.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// Of the delay.
    pub p99_max: Option<Duration>,
    /// In percent.
    pub loss_max: Option<f64>,
    /// Of the time to join.
    pub join_p95_max: Option<Duration>,
    /// Freezes.
    pub freezes_max: Option<u64>,
    /// Processor time of the server for a packet, in microseconds.
    pub cpu_max: Option<f64>,
}

impl Thresholds {
    /// What a run did not keep to, in words; empty when it was good enough.
    pub fn broken_by(&self, report: &Report) -> Vec<String> {
        let mut broken = Vec::new();
        if report.failed > 0 {
            let why = report.first_failure.as_deref().unwrap_or("not in time");
            broken.push(format!("{} bots did not join: {why}", report.failed));
        }
        if report.missing_streams > 0 {
            broken.push(format!(
                "{} expected streams do not come",
                report.missing_streams
            ));
        }
        let mut compare = |what: &str, found: f64, limit: Option<f64>| {
            if let Some(limit) = limit
                && found > limit
            {
                broken.push(format!("{what} is {found:.3}, more than {limit:.3}"));
            }
        };
        compare("delay p99 in ms", report.delay_ms.p99, self.p99_max.map(ms));
        compare("loss in %", report.received.loss_percent, self.loss_max);
        compare(
            "join p95 in ms",
            report.join_ms.p95,
            self.join_p95_max.map(ms),
        );
        let freezes = self.freezes_max.map(super::float);
        compare(
            "the number of freezes",
            super::float(report.received.freezes),
            freezes,
        );
        if let Some(server) = &report.server {
            compare(
                "server CPU in us per packet",
                server.us_per_packet,
                self.cpu_max,
            );
        } else if self.cpu_max.is_some() {
            broken.push("the server's CPU is not known: name it with --server-pid".to_owned());
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Report {
        let mut report = Report::default();
        report.delay_ms.p99 = 5.0;
        report.received.loss_percent = 0.05;
        report.join_ms.p95 = 300.0;
        report
    }

    #[test]
    fn a_good_run_breaks_nothing() {
        let thresholds = Thresholds {
            p99_max: Some(Duration::from_millis(20)),
            loss_max: Some(0.1),
            join_p95_max: Some(Duration::from_secs(1)),
            freezes_max: Some(0),
            cpu_max: None,
        };
        assert_eq!(thresholds.broken_by(&good()), Vec::<String>::new());
    }

    #[test]
    fn every_threshold_is_looked_at() {
        let thresholds = Thresholds {
            p99_max: Some(Duration::from_millis(4)),
            loss_max: Some(0.01),
            join_p95_max: Some(Duration::from_millis(200)),
            freezes_max: Some(0),
            cpu_max: Some(3.0),
        };
        let mut report = good();
        report.received.freezes = 1;
        assert_eq!(thresholds.broken_by(&report).len(), 5);
    }

    #[test]
    fn failures_count_without_any_threshold() {
        let mut report = good();
        (report.failed, report.missing_streams) = (2, 1);
        report.first_failure = Some("refused".to_owned());
        let broken = Thresholds::default().broken_by(&report);
        assert_eq!(broken.len(), 2);
        assert!(broken[0].contains("refused"));
    }
}
