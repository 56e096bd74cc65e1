//! The load tester `plenum-loadtest`: `--help` is its manual.

mod args;
mod started;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use loadtest::report::{Report, growth_table, report_table, summary_table};
use loadtest::scenario::{Preset, Scenario};

use crate::args::Args;
use crate::started::Started;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match play(&Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("plenum-loadtest: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Plays all that was asked for; true when it was good enough.
async fn play(args: &Args) -> Result<bool> {
    let presets: Vec<Option<Preset>> = match args.preset {
        Some(preset) => preset.presets().into_iter().map(Some).collect(),
        None => vec![None],
    };
    let (mut all, mut summaries) = (Vec::new(), String::new());
    let mut is_good = true;
    for preset in presets {
        let (mut reports, good) = match args.grow {
            Some(factor) => play_growing(args, preset, factor).await?,
            None => play_repeatedly(args, preset).await?,
        };
        is_good &= good;
        if reports.len() > 1 {
            let name = preset.map_or("runs", Preset::name);
            let summary = match args.grow {
                Some(_) => growth_table(name, &reports),
                None => summary_table(name, &reports),
            };
            summaries.push_str(&summary);
            summaries.push('\n');
        }
        all.append(&mut reports);
    }
    tell(args, &all, &summaries)?;
    Ok(is_good)
}

/// Plays the same as often as asked for; whether every run was good enough.
async fn play_repeatedly(args: &Args, preset: Option<Preset>) -> Result<(Vec<Report>, bool)> {
    let (mut reports, mut is_good) = (Vec::new(), true);
    for _ in 0..args.repeat.max(1) {
        let (report, good) = play_once(args, args.scenario(preset)?).await?;
        is_good &= good;
        reports.push(report);
    }
    Ok((reports, is_good))
}

/// Plays with ever more subscribers until a run is not good enough; whether the first one was.
async fn play_growing(
    args: &Args,
    preset: Option<Preset>,
    factor: f64,
) -> Result<(Vec<Report>, bool)> {
    let mut scenario = args.scenario(preset)?;
    let mut reports: Vec<Report> = Vec::new();
    for _ in 0..GROWTHS_MAX {
        let (report, good) = play_once(args, scenario.clone()).await?;
        reports.push(report);
        if !good {
            break;
        }
        scenario.grow(factor);
    }
    let first = reports
        .first()
        .map(|report| args.thresholds().broken_by(report).is_empty());
    Ok((reports, first.unwrap_or(false)))
}

async fn play_once(args: &Args, scenario: Scenario) -> Result<(Report, bool)> {
    let started = match &args.start {
        Some(command) => Some(Started::start(command, args.shards).await?),
        None => None,
    };
    let target = match &started {
        Some(started) => started.target.clone(),
        None => args.target().await?,
    };
    let report = loadtest::run::run(args.run_options(scenario, target)).await?;
    if !args.json {
        say(&report_table(&report))?;
    }
    let broken = args.thresholds().broken_by(&report);
    for line in &broken {
        writeln!(std::io::stderr(), "not good enough: {line}")?;
    }
    Ok((report, broken.is_empty()))
}

fn tell(args: &Args, reports: &[Report], summaries: &str) -> Result<()> {
    let json = serde_json::to_string_pretty(reports)?;
    if let Some(file) = &args.json_file {
        std::fs::write(file, &json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    say(if args.json { &json } else { summaries })
}

fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// Runs of one growth; with 1.1 the last has five times the subscribers of the first.
const GROWTHS_MAX: usize = 20;
