//! Reports as text for people.

use super::{Quantiles, Report};
use crate::confirmers::Confirmed;

/// A report as a table of two columns.
pub fn report_table(report: &Report) -> String {
    let mut rows = Rows::default();
    rows.row("scenario", report.scenario.clone());
    rows.row("counted for", format!("{:.1} s", report.seconds));
    let failure = report.first_failure.as_ref();
    let failure = failure.map_or(String::new(), |why| format!("; the first: {why}"));
    let joined = format!(
        "{} of {}, {} failed",
        report.joined, report.bots, report.failed
    );
    rows.row("joined", joined + &failure);
    rows.quantiles("time to join", report.join_ms);
    rows.quantiles("  to keys", report.connect_ms);
    rows.quantiles("delay", report.delay_ms);
    rows.quantiles("  pictures", report.video_delay_ms);
    rows.quantiles("  sound", report.audio_delay_ms);
    rows.quantiles("  of it the bots' own, at most", report.own_turns_ms);
    rows.received(report);
    rows.server(report);
    rows.row("bots", format!("{:.3} cores", report.bot_cores));
    if let Some(confirmed) = &report.confirmers {
        rows.confirmed(confirmed);
    }
    rows.0
}

/// The figures that matter, of several runs: the median, and from the least to the most.
pub fn summary_table(name: &str, reports: &[Report]) -> String {
    let mut rows = Rows::default();
    rows.row(
        name,
        format!("median of {} runs (least to most)", reports.len()),
    );
    let mut figure = |what: &str, unit: &str, of: &dyn Fn(&Report) -> Option<f64>| {
        let mut values: Vec<f64> = reports.iter().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (values.first(), values.last()) else {
            return;
        };
        let median = values.get(values.len() / 2).unwrap_or(least);
        let text = format!("{median:.2} {unit} ({least:.2} to {most:.2})");
        rows.row(what, text);
    };
    let server = |report: &Report| report.server;
    figure("server CPU for a packet", "us", &|r| {
        Some(server(r)?.us_per_packet)
    });
    figure("server CPU", "cores", &|r| Some(server(r)?.cores));
    figure("server memory for a receiver", "KiB", &|r| {
        Some(server(r)?.rss_kib_per_receiver)
    });
    figure("packets received", "per s", &|r| {
        Some(r.received.packets_per_second)
    });
    figure("delay p50", "ms", &|r| Some(r.delay_ms.p50));
    figure("delay p95", "ms", &|r| Some(r.delay_ms.p95));
    figure("delay p99", "ms", &|r| Some(r.delay_ms.p99));
    figure("delay max", "ms", &|r| Some(r.delay_ms.max));
    figure("bots' own turns p99", "ms", &|r| Some(r.own_turns_ms.p99));
    figure("time to join p50", "ms", &|r| Some(r.join_ms.p50));
    figure("time to join p95", "ms", &|r| Some(r.join_ms.p95));
    figure("loss", "%", &|r| Some(r.received.loss_percent));
    figure("freezes", "", &|r| Some(super::float(r.received.freezes)));
    figure("bots", "cores", &|r| Some(r.bot_cores));
    let confirmed = |report: &Report| report.confirmers.clone();
    figure("confirmed delay p50", "ms", &|r| {
        Some(confirmed(r)?.delay_ms.p50)
    });
    figure("confirmed delay p99", "ms", &|r| {
        Some(confirmed(r)?.delay_ms.p99)
    });
    figure("confirmed loss", "%", &|r| Some(confirmed(r)?.loss_percent));
    rows.0
}

/// One line for each run of a growth.
pub fn growth_table(name: &str, reports: &[Report]) -> String {
    let head = [
        "bots",
        "packets/s",
        "p50 ms",
        "p99 ms",
        "loss %",
        "CPU us",
        "cores",
    ];
    let cells = |cells: [String; 7]| -> String {
        cells
            .iter()
            .map(|cell| format!("{cell:>11}"))
            .collect::<String>()
            + "\n"
    };
    let mut text = format!("{name}\n{}", cells(head.map(str::to_owned)));
    for report in reports {
        let server = report.server.unwrap_or_default();
        text.push_str(&cells([
            report.bots.to_string(),
            format!("{:.0}", report.received.packets_per_second),
            format!("{:.2}", report.delay_ms.p50),
            format!("{:.2}", report.delay_ms.p99),
            format!("{:.4}", report.received.loss_percent),
            format!("{:.2}", server.us_per_packet),
            format!("{:.3}", server.cores),
        ]));
    }
    text
}

/// Lines under construction.
#[derive(Default)]
struct Rows(String);

impl Rows {
    fn row(&mut self, what: &str, value: impl AsRef<str>) {
        self.0.push_str(&format!("{what:<31}{}\n", value.as_ref()));
    }

    fn quantiles(&mut self, what: &str, of: Quantiles) {
        if of.count > 0 {
            let Quantiles {
                p50, p95, p99, max, ..
            } = of;
            let text = format!("p50 {p50:.2}  p95 {p95:.2}  p99 {p99:.2}  max {max:.2} ms");
            self.row(what, text);
        }
    }

    fn received(&mut self, report: &Report) {
        let (received, sent) = (report.received, report.sent);
        let rate = format!(
            "{:.0} packets/s, {:.1} Mbit/s",
            received.packets_per_second, received.megabits_per_second
        );
        self.row("received", rate);
        let rate = format!(
            "{:.0} packets/s, {:.1} Mbit/s",
            sent.packets_per_second, sent.megabits_per_second
        );
        self.row("published", rate);
        let loss = format!(
            "{:.4} % ({} packets; {} gaps, {} late, {} recovered, {} twice)",
            received.loss_percent,
            received.lost,
            received.gaps,
            received.late,
            received.recovered,
            received.duplicates
        );
        self.row("loss", loss);
        let frozen = format!("{} ({:.1} s)", received.freezes, received.frozen_seconds);
        self.row("freezes over 200 ms", frozen);
        self.row("layer switches", received.layer_switches.to_string());
        let requests = format!(
            "{} by receivers, {} to publishers",
            received.keyframe_requests, sent.keyframe_requests
        );
        self.row("keyframes asked for", requests);
        if report.hindered_packets_per_second > 0.0 {
            let rate = format!("{:.0} packets/s", report.hindered_packets_per_second);
            self.row("to stopped and slow ones", rate);
        }
        let odd = [
            ("expected streams missing", report.missing_streams),
            ("unreadable packets", received.bad),
            ("probes", received.probes),
            ("datagrams not taken by the kernel", sent.unsent),
        ];
        for (what, count) in odd.iter().filter(|(_, count)| *count > 0) {
            self.row(what, count.to_string());
        }
    }

    fn server(&mut self, report: &Report) {
        let Some(server) = report.server else { return };
        let cpu = format!(
            "{:.2} us for a packet, {:.3} cores",
            server.us_per_packet, server.cores
        );
        self.row("server CPU", cpu);
        let memory = format!(
            "{:.1} MiB before, {:.1} under load, {:.1} after; {:.0} KiB for a receiver",
            server.rss_mib_before,
            server.rss_mib,
            server.rss_mib_after,
            server.rss_kib_per_receiver
        );
        self.row("server memory", memory);
        let descriptors = format!(
            "{} before, {} under load, {} after",
            server.descriptors_before, server.descriptors, server.descriptors_after
        );
        self.row("server descriptors", descriptors);
    }

    fn confirmed(&mut self, confirmed: &Confirmed) {
        let count = format!("{} of {} joined", confirmed.joined, confirmed.confirmers);
        self.row("webrtc participants", count);
        self.quantiles("  time to join", confirmed.join_ms);
        self.quantiles("  delay", confirmed.delay_ms);
        let loss = format!(
            "{:.4} % ({} packets), {} bad, {:.0} packets/s",
            confirmed.loss_percent, confirmed.lost, confirmed.bad, confirmed.packets_per_second
        );
        self.row("  loss", loss);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_its_figures_and_leaves_out_what_there_is_not() {
        let mut report = Report {
            bots: 3,
            joined: 2,
            failed: 1,
            first_failure: Some("403".to_owned()),
            ..Report::default()
        };
        report.delay_ms.count = 1;
        report.delay_ms.p99 = 12.5;
        let text = report_table(&report);
        assert!(text.contains("2 of 3, 1 failed; the first: 403"), "{text}");
        assert!(text.contains("p99 12.50"));
        assert!(
            !text.contains("server") && !text.contains("time to join"),
            "{text}"
        );
    }

    #[test]
    fn a_growth_has_a_line_for_each_run() {
        let text = growth_table("x", &[Report::default(), Report::default()]);
        assert_eq!(text.lines().count(), 4, "{text}");
    }

    #[test]
    fn a_summary_has_median_and_spread() {
        let run = |loss_percent| {
            let mut report = Report::default();
            report.received.loss_percent = loss_percent;
            report
        };
        let text = summary_table("x", &[run(3.0), run(1.0), run(2.0)]);
        assert!(text.contains("2.00 % (1.00 to 3.00)"), "{text}");
        assert!(!text.contains("server"));
    }
}
