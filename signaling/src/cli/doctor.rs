//! `plenum doctor`: tries every way in which clients reach the server, and says what to do where one fails.
//!
//! It opens sessions of its own, one for each media thread, and sends real packets to every candidate and
//! through every TURN server that they were offered.

mod answer;
mod certificate;
mod dial;
mod examination;
mod ice;
mod local;
mod media;
mod paths;
mod report;
mod session;
mod turn;
mod web;
mod wire;

use anyhow::{Context, Result, bail};
use clap::Args;

use self::examination::Examination;
use self::report::Status;
use self::web::Url;
use super::{ConfigSource, print};

/// Try every way in which clients reach the server: ports, TURN, certificate, clock, limits.
#[derive(Args, Debug)]
pub(super) struct Doctor {
    #[command(flatten)]
    source: ConfigSource,
    /// Look at the server at this address, as clients do; without it, at the one on this machine.
    #[arg(long)]
    url: Option<String>,
    /// Sign with this key of [auth.keys].
    #[arg(long)]
    key: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Doctor) -> Result<()> {
    let config = options.source.load()?;
    let mut examination = Examination::new(&config)?;
    match &options.url {
        Some(text) => {
            let url = Url::parse(text).context("--url: not an http:// or https:// address")?;
            examination.look_from_outside(url, options.key.as_deref());
        }
        None => examination.look_from_here(options.key.as_deref())?,
    }
    let report = examination.report;
    if options.json {
        print(&serde_json::to_string_pretty(&report.json())?)?;
    } else {
        print(&report.text())?;
    }
    match report.count(Status::Fail) {
        0 => Ok(()),
        1 => bail!("one check failed"),
        failed => bail!("{failed} checks failed"),
    }
}

#[cfg(test)]
mod tests;
