//! A run from the first join to the last goodbye.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, sleep_until};

use crate::bot::Identity;
use crate::confirmers::Confirmers;
use crate::fleet::Clock;
use crate::io::{BotThread, Snapshot};
use crate::media::now_us;
use crate::process::{Process, Sample};
use crate::progress::Progress;
use crate::report::{Report, ServerSamples};
use crate::scenario::{Door, Scenario};
use crate::target::{Joiner, Stay, Target};

/// How a run is done.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The server.
    pub target: Target,
    /// What is played.
    pub scenario: Scenario,
    /// Threads of bots.
    pub threads: u8,
    /// The server's process, when it is on this machine.
    pub server: Option<Process>,
    /// From when all have left until the server is looked at once more.
    pub settle: Duration,
    /// Prints how it goes, once a second.
    pub is_talkative: bool,
    /// Media goes through the server's TURN, over UDP.
    pub is_relayed: bool,
}

/// Plays a scenario.
///
/// # Errors
/// Only what keeps a run from being one; bots that cannot join are part of the report.
pub async fn run(options: RunOptions) -> Result<Report> {
    let scenario = &options.scenario;
    ensure!(scenario.bots() > 0, "there is nobody to play");
    let look = || options.server.and_then(Process::sample);
    let before = look();
    let mut stage = Stage::open(&options)?;
    stage.join_all().await?;
    let (mut confirmers, failure) = Confirmers::join(&options.target, scenario).await;
    stage.note_failure(failure);
    stage.watch_for(scenario.warmup).await?;
    let (mut report, during, hindered) = count(&options, &mut stage, &mut confirmers).await?;
    // Who cannot leave in order has left all the same.
    let _ = confirmers.leave().await;
    stage.leave_all().await;
    sleep(options.settle).await;
    let parts = scenario.parts();
    let receivers = parts.iter().filter(|part| part.receives).count() as u64;
    let confirmed = report.confirmers.as_ref().map_or(0, |found| found.packets);
    let samples = ServerSamples::of(options.server, [before, during[0], during[1], look()]);
    report.server = samples.map(|samples| {
        let packets = report.received.packets + hindered + confirmed;
        samples.report(packets, receivers + u64::from(scenario.confirmers))
    });
    Ok(report)
}

/// Counts for as long as the scenario says: the report, the server at the beginning and the end of that
/// time, and the packets to hindered bots.
async fn count(
    options: &RunOptions,
    stage: &mut Stage,
    confirmers: &mut Confirmers,
) -> Result<(Report, [Option<Sample>; 2], u64)> {
    let scenario = &options.scenario;
    let look = || options.server.and_then(Process::sample);
    let cpu_begun = stage.look().await?.cpu;
    stage.threads.iter().for_each(BotThread::mark);
    confirmers.mark();
    let (began, begun) = (Instant::now(), look());
    stage.watch_for(scenario.duration).await?;
    let (took, ended) = (began.elapsed(), look());
    let mut counted = Snapshot::default();
    for thread in stage.threads.iter() {
        counted.add(&thread.finish().await?);
    }
    let mut report = Report {
        scenario: describe(scenario),
        bots: scenario.bots().into(),
        first_failure: stage.failure.take(),
        ..Report::default()
    };
    report.count(&counted, took);
    report.bot_cores = counted.cpu.saturating_sub(cpu_begun).as_secs_f64() / report.seconds;
    if scenario.confirmers > 0 {
        report.confirmers = Some(confirmers.confirmed(report.seconds));
    }
    Ok((report, [begun, ended], counted.hindered.packets))
}

/// The bots of a run and those who bring them.
struct Stage {
    joiner: Arc<Joiner>,
    scenario: Scenario,
    threads: Arc<[BotThread]>,
    stays: Vec<Stay>,
    /// Why the first bot that failed did.
    failure: Option<String>,
    refused: u64,
    progress: Progress,
}

impl Stage {
    fn open(options: &RunOptions) -> Result<Self> {
        let clock = Clock {
            at: Instant::now(),
            wall_us: now_us(),
        };
        let threads = (0..options.threads.max(1)).map(|index| BotThread::start(index, clock));
        let threads: Result<Vec<_>> = threads.collect();
        Ok(Self {
            joiner: Arc::new(Joiner {
                target: options.target.clone(),
                door: options.scenario.door,
                identity: Arc::new(Identity::generate(options.scenario.protection)?),
                seed: options.scenario.seed,
                is_relayed: options.is_relayed,
            }),
            scenario: options.scenario.clone(),
            threads: threads?.into(),
            stays: Vec::new(),
            failure: None,
            refused: 0,
            progress: Progress::new(options),
        })
    }

    /// Brings all bots in, spread over the ramp, and waits until each has got what it wants or failed.
    async fn join_all(&mut self) -> Result<()> {
        let mut joining = JoinSet::new();
        let parts = self.scenario.parts();
        let began = tokio::time::Instant::now();
        let pause = self.scenario.ramp / u32::try_from(parts.len()).unwrap_or(u32::MAX).max(1);
        for (place, part) in (0_u32..).zip(parts) {
            let (joiner, threads) = (self.joiner.clone(), self.threads.clone());
            let plan = self.scenario.plan(&part);
            joining.spawn(async move {
                sleep_until(began + pause * place).await;
                let place = usize::try_from(place).unwrap_or_default();
                let Some(thread) = threads.get(place % threads.len()) else {
                    anyhow::bail!("there is no thread of bots");
                };
                let joined = joiner.join(thread, &part, plan).await;
                joined.with_context(|| format!("{} in {}", part.identity, part.room))
            });
        }
        let mut ticks = interval(TICK);
        while !joining.is_empty() {
            tokio::select! {
                Some(joined) = joining.join_next() => match joined.context("a join broke")? {
                    Ok(stay) => self.stays.push(stay),
                    Err(error) => {
                        self.refused += 1;
                        self.note_failure(Some(error));
                    }
                },
                _ = ticks.tick() => self.show().await?,
            }
        }
        self.wait_for_media().await
    }

    async fn wait_for_media(&mut self) -> Result<()> {
        let mut looks = interval(TICK / 10);
        for count in 0_u64.. {
            looks.tick().await;
            if count.is_multiple_of(10) {
                self.show().await?;
            }
            let stages = self.look().await?.stages;
            // Bots give up by themselves.
            if stages.connecting + stages.connected == 0 {
                break;
            }
        }
        Ok(())
    }

    fn note_failure(&mut self, failure: Option<anyhow::Error>) {
        if let Some(error) = failure {
            self.failure.get_or_insert_with(|| format!("{error:#}"));
        }
    }

    async fn look(&self) -> Result<Snapshot> {
        let mut all = Snapshot::default();
        for thread in self.threads.iter() {
            all.add(&thread.look().await?);
        }
        all.stages.failed += self.refused;
        Ok(all)
    }

    async fn show(&mut self) -> Result<()> {
        let snapshot = self.look().await?;
        self.progress.show(&snapshot);
        Ok(())
    }

    /// Lets time pass.
    async fn watch_for(&mut self, time: Duration) -> Result<()> {
        let end = tokio::time::Instant::now() + time;
        let mut ticks = interval(TICK);
        loop {
            tokio::select! {
                () = sleep_until(end) => return Ok(()),
                _ = ticks.tick() => self.show().await?,
            }
        }
    }

    /// Leaves in order; who cannot has left all the same.
    async fn leave_all(&mut self) {
        let mut leaving = JoinSet::new();
        for stay in self.stays.drain(..) {
            leaving.spawn(stay.leave());
        }
        while leaving.join_next().await.is_some() {}
    }
}

/// A scenario in words.
fn describe(scenario: &Scenario) -> String {
    let count = |count: u32, name: &str| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {name}{plural}")
    };
    let mut words = vec![count(scenario.rooms, "room")];
    let groups = [
        (scenario.participants, "participant"),
        (scenario.publishers, "publisher"),
        (scenario.subscribers, "subscriber"),
    ];
    for (number, name) in groups.iter().filter(|(number, _)| *number > 0) {
        words.push(count(*number, name));
    }
    if scenario.stopped + scenario.slow > 0 {
        words.push(format!(
            "of them {} stopped, {} slow",
            scenario.stopped, scenario.slow
        ));
    }
    if let Some(video) = scenario.video {
        let simulcast = if video.simulcast { " simulcast" } else { "" };
        let rate = video.bitrate_bps / 1000;
        words.push(format!("{:?}{simulcast} {rate} kbit/s", video.codec));
    }
    if scenario.audio {
        words.push("Opus".to_owned());
    }
    words.push(match scenario.door {
        Door::Native => "native".to_owned(),
        Door::Http => "WHIP and WHEP".to_owned(),
    });
    words.join(", ")
}

const TICK: Duration = Duration::from_secs(1);
