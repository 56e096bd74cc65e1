//! What the doctor found, one line for each thing it looked at.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};

/// How it is with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// It works for some, or cannot be told from here.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) status: Status,
    /// What it is, as `UDP 192.0.2.1:7800`.
    pub(super) what: String,
    /// How it is.
    pub(super) detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

impl Check {
    pub(super) fn ok(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            status: Status::Ok,
            what: what.into(),
            detail: detail.into(),
            fix: None,
        }
    }

    pub(super) fn warn(
        what: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            status: Status::Warn,
            fix: Some(fix.into()),
            ..Self::ok(what, detail)
        }
    }

    pub(super) fn fail(
        what: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            status: Status::Fail,
            ..Self::warn(what, detail, fix)
        }
    }
}

/// Everything that was looked at, in order.
#[derive(Debug, Default)]
pub(super) struct Report {
    checks: Vec<Check>,
    /// What the whole of it does not say.
    pub(super) note: Option<String>,
}

impl Report {
    pub(super) fn add(&mut self, check: Check) {
        self.checks.push(check);
    }

    pub(super) fn extend(&mut self, checks: impl IntoIterator<Item = Check>) {
        self.checks.extend(checks);
    }

    pub(super) fn count(&self, status: Status) -> usize {
        let checks = self.checks.iter();
        checks.filter(|check| check.status == status).count()
    }

    #[cfg(test)]
    pub(super) fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// For people: aligned, with what to do below what is not right, and the sum at the end.
    pub(super) fn text(&self) -> String {
        let widths = self.checks.iter().map(|check| check.what.chars().count());
        let width = widths.max().unwrap_or_default();
        let mut text = String::new();
        let mut checks = self.checks.iter().peekable();
        while let Some(check) = checks.next() {
            let status = match check.status {
                Status::Ok => "ok",
                Status::Warn => "warn",
                Status::Fail => "FAIL",
            };
            let (what, detail) = (&check.what, &check.detail);
            // Writing to a string does not fail.
            let _ = writeln!(text, "{status:<4}  {what:<width$}  {detail}");
            // Once for several lines with the same remedy.
            let is_last = checks.peek().is_none_or(|next| next.fix != check.fix);
            if let Some(fix) = check.fix.as_ref().filter(|_| is_last) {
                let _ = writeln!(text, "      {:<width$}  -> {fix}", "");
            }
        }
        let _ = write!(text, "{}", self.sum());
        if let Some(note) = &self.note {
            let _ = write!(text, "\n{note}");
        }
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        json!({
            "checks": self.checks,
            "note": self.note,
            "ok": self.count(Status::Ok),
            "warn": self.count(Status::Warn),
            "fail": self.count(Status::Fail),
        })
    }

    fn sum(&self) -> String {
        let [ok, warn, fail] = [Status::Ok, Status::Warn, Status::Fail].map(|s| self.count(s));
        let warnings = if warn == 1 { "warning" } else { "warnings" };
        format!("{ok} ok, {warn} {warnings}, {fail} failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.add(Check::ok("UDP 192.0.2.1:7800", "2 ms"));
        report.extend([
            Check::warn("clock", "a minute off", "set it"),
            Check::fail("TCP 192.0.2.1:7800", "no answer", "open the port"),
            Check::fail("TCP 192.0.2.2:7800", "no answer", "open the port"),
        ]);
        report.note = Some("Seen from here.".to_owned());
        report
    }

    #[test]
    fn lines_are_aligned_and_what_to_do_stands_below() {
        let expected = "ok    UDP 192.0.2.1:7800  2 ms\n\
            warn  clock               a minute off\n\
            \x20                         -> set it\n\
            FAIL  TCP 192.0.2.1:7800  no answer\n\
            FAIL  TCP 192.0.2.2:7800  no answer\n\
            \x20                         -> open the port\n\
            1 ok, 1 warning, 2 failed\nSeen from here.";
        assert_eq!(report().text(), expected);
    }

    #[test]
    fn programs_get_the_same_as_people() {
        let json = report().json();
        assert_eq!((&json["ok"], &json["fail"]), (&json!(1), &json!(2)));
        assert_eq!(
            json["checks"][0],
            json!({ "status": "ok", "what": "UDP 192.0.2.1:7800", "detail": "2 ms" })
        );
        assert_eq!(json["checks"][2]["status"], "fail");
        assert_eq!(json["checks"][1]["fix"], "set it");
    }
}
