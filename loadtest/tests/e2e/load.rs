//! The load tester against a server in the same process: small runs in which nothing may be lost.

use std::time::Duration;

use anyhow::{Result, ensure};
use loadtest::media::Codec;
use loadtest::report::{Report, Thresholds};
use loadtest::run::{RunOptions, run};
use loadtest::scenario::{Door, Scenario, Video};
use loadtest::target::{Pass, Target};

use super::stage::Stage;

/// A short run in which every packet is decrypted and checked.
fn short() -> Scenario {
    Scenario {
        ramp: Duration::from_millis(200),
        warmup: Duration::from_millis(500),
        duration: Duration::from_secs(2),
        decrypt_every: 1,
        ..Scenario::default()
    }
}

async fn play(stage: &Stage, scenario: Scenario) -> Result<Report> {
    play_by(stage, scenario, false).await
}

async fn play_by(stage: &Stage, scenario: Scenario, is_relayed: bool) -> Result<Report> {
    let target = Target::plenum(stage.addr, Pass::Key(stage.key.clone()));
    let options = RunOptions {
        target,
        scenario,
        threads: 1,
        server: None,
        settle: Duration::ZERO,
        is_talkative: false,
        is_relayed,
    };
    let report = run(options).await?;
    let thresholds = Thresholds {
        loss_max: Some(0.0),
        ..Thresholds::default()
    };
    let broken = thresholds.broken_by(&report);
    ensure!(broken.is_empty(), "{broken:?}: {report:?}");
    let received = report.received;
    ensure!(received.bad == 0 && received.duplicates == 0, "{report:?}");
    Ok(report)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_by_whip_and_whep_loses_nothing_and_is_confirmed() -> Result<()> {
    let stage = Stage::open().await?;
    let scenario = Scenario {
        publishers: 1,
        subscribers: 5,
        confirmers: 1,
        door: Door::Http,
        ..short()
    };
    let report = play(&stage, scenario).await?;
    ensure!(report.joined == 6, "{report:?}");
    // 30 pictures and 50 packets of sound a second for each of five.
    ensure!(report.received.frames > 200, "{report:?}");
    ensure!(report.audio_delay_ms.count > 300, "{report:?}");
    let confirmed = report.confirmers.clone().unwrap_or_default();
    ensure!(
        (confirmed.joined, confirmed.bad, confirmed.lost) == (1, 0, 0),
        "{report:?}"
    );
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn native_meetings_in_two_rooms_lose_nothing() -> Result<()> {
    let stage = Stage::open().await?;
    let scenario = Scenario {
        rooms: 2,
        participants: 3,
        subscribers: 1,
        ..short()
    };
    let report = play(&stage, scenario).await?;
    ensure!(report.joined == 8, "{report:?}");
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_and_simulcast_are_forwarded() -> Result<()> {
    let stage = Stage::open().await?;
    let plays = [
        (Codec::H264, false),
        (Codec::Av1, false),
        (Codec::Vp8, true),
    ];
    for (seed, (codec, simulcast)) in (10..).zip(plays) {
        let video = Video {
            codec,
            bitrate_bps: 600_000,
            simulcast,
        };
        let scenario = Scenario {
            publishers: 1,
            subscribers: 2,
            video: Some(video),
            duration: Duration::from_secs(1),
            seed,
            ..short()
        };
        play(&stage, scenario).await?;
    }
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_through_turn_loses_nothing_by_either_door() -> Result<()> {
    let stage = Stage::open().await?;
    for door in [Door::Http, Door::Native] {
        let scenario = Scenario {
            publishers: 1,
            subscribers: 3,
            door,
            ..short()
        };
        let report = play_by(&stage, scenario, true).await?;
        ensure!(report.joined == 4, "{report:?}");
    }
    let counts = stage.metrics().await?;
    let relayed = |line: &&str| line.starts_with("plenum_turn_to_clients_datagrams_total ");
    let relayed = counts
        .lines()
        .find(relayed)
        .and_then(|line| line.rsplit(' ').next());
    ensure!(
        relayed.is_some_and(|count| count.parse::<u64>().unwrap_or_default() > 1000),
        "{relayed:?}"
    );
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bots_without_a_pass_are_reported_as_failed() -> Result<()> {
    let stage = Stage::open().await?;
    let options = RunOptions {
        target: Target::plenum(stage.addr, Pass::None),
        scenario: Scenario {
            publishers: 1,
            subscribers: 1,
            door: Door::Http,
            duration: Duration::ZERO,
            ..short()
        },
        threads: 1,
        server: None,
        settle: Duration::ZERO,
        is_talkative: false,
        is_relayed: false,
    };
    let report = run(options).await?;
    ensure!((report.joined, report.failed) == (0, 2), "{report:?}");
    let why = report.first_failure.clone().unwrap_or_default();
    ensure!(why.contains("401"), "{why}");
    ensure!(!Thresholds::default().broken_by(&report).is_empty());
    stage.close().await;
    Ok(())
}
