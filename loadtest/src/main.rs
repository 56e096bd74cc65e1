//! The load tester `plenum-loadtest`: `--help` is its manual.

mod args;
mod started;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use loadtest::report::{Report, report_table, summary_table};
use loadtest::scenario::Preset;

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
    let thresholds = args.thresholds();
    let (mut all, mut broken) = (Vec::new(), Vec::new());
    let mut summaries = String::new();
    for preset in presets {
        let mut reports = Vec::new();
        for _ in 0..args.repeat.max(1) {
            let report = play_once(args, preset).await?;
            broken.extend(thresholds.broken_by(&report));
            if !args.json {
                say(&report_table(&report))?;
            }
            reports.push(report);
        }
        if reports.len() > 1 {
            let name = preset.map_or("runs", Preset::name);
            summaries.push_str(&summary_table(name, &reports));
            summaries.push('\n');
        }
        all.append(&mut reports);
    }
    tell(args, &all, &summaries)?;
    for line in &broken {
        writeln!(std::io::stderr(), "not good enough: {line}")?;
    }
    Ok(broken.is_empty())
}

async fn play_once(args: &Args, preset: Option<Preset>) -> Result<Report> {
    let started = match &args.start {
        Some(command) => Some(Started::start(command).await?),
        None => None,
    };
    let target = match &started {
        Some(started) => started.target.clone(),
        None => args.target().await?,
    };
    loadtest::run::run(args.run_options(preset, target)?).await
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
