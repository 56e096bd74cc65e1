//! A session outlives its socket, and its media outlives a change of ICE credentials.

use anyhow::{Context, Result, ensure};
use loadtest::{JoinOptions, Relay, Source};

use super::stage::{Stage, clean, intact, refusal, sees, talking};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_socket_is_resumed_with_media_uninterrupted() -> Result<()> {
    let stage = Stage::open().await?;
    let (mut ann, bob) = (
        stage.join_talking("ann").await?,
        stage.join_talking("bob").await?,
    );
    sees(&ann, &bob, Source::Camera, 30).await?;
    sees(&bob, &ann, Source::Camera, 30).await?;
    let (key, session) = ann
        .room
        .read(|room| (room.resume_key.clone(), room.session.clone()));
    ann.kill_socket().await;
    // Both ways, without a signaling connection.
    ann.hears(bob.number, 100).await?;
    bob.hears(ann.number, 100).await?;
    let late = stage.join_watching("late").await?;
    bob.until_room("late is there", |room| room.member("late").cloned())
        .await?;
    ensure!(
        ann.room.read(|room| room.member("late").is_none()),
        "ann cannot know of it"
    );
    ann.resume().await?;
    ann.until_room("what happened meanwhile is told", |room| {
        room.member("late").cloned()
    })
    .await?;
    let (room, new_key) = ann
        .room
        .read(|room| (room.clone(), room.resume_key.clone()));
    ensure!(
        room.resumed && !room.resync && room.number_gaps == 0,
        "{room:?}"
    );
    ensure!(
        room.session == session && new_key != key,
        "same session, new key"
    );
    ensure!(
        bob.room.read(|room| room.member("ann").is_some()),
        "nobody saw ann leave"
    );
    ann.mute(Source::Camera, true)
        .await
        .context("the new socket takes requests")?;
    ann.hears(bob.number, 60).await?;
    intact(&ann).await?;
    intact(&bob).await?;
    late.leave().await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_resume_key_is_worth_nothing() -> Result<()> {
    let stage = Stage::open().await?;
    let bystanders = stage.bystanders().await?;
    let mut ann = stage.join_talking("ann").await?;
    let old = ann.room.read(|room| room.resume_key.clone());
    ann.kill_socket().await;
    ann.resume().await?;
    ann.kill_socket().await;
    let new = ann
        .room
        .update(|room| std::mem::replace(&mut room.resume_key, old));
    ensure!(refusal(ann.resume().await)? == "resume_unknown");
    ann.room.update(|room| room.resume_key = new);
    ann.resume().await.context("the right key still works")?;
    bystanders.undisturbed().await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ice_restarts_under_running_media() -> Result<()> {
    let stage = Stage::open().await?;
    let (mut ann, bob) = (
        stage.join_talking("ann").await?,
        stage.join_talking("bob").await?,
    );
    sees(&ann, &bob, Source::Camera, 30).await?;
    sees(&bob, &ann, Source::Camera, 30).await?;
    let ufrag = |sdp: &str| {
        sdp.lines()
            .find_map(|line| line.strip_prefix("a=ice-ufrag:").map(str::to_owned))
    };
    let before = ann.peer.remote_sdp().await.as_deref().and_then(ufrag);
    for _ in 0..3 {
        ann.negotiate(true).await?;
        ann.hears(bob.number, 100).await?;
        bob.hears(ann.number, 100).await?;
    }
    let after = ann.peer.remote_sdp().await.as_deref().and_then(ufrag);
    ensure!(
        before.is_some() && after.is_some() && before != after,
        "{before:?} {after:?}"
    );
    // While its own checks run `webrtc` drops what it gets, so sound has holes; pictures heal.
    for viewer in [&ann, &bob] {
        clean(viewer)?;
    }
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ice_restart_moves_the_media_to_another_path() -> Result<()> {
    let stage = Stage::open().await?;
    let bob = stage.join_talking("bob").await?;
    let relay = Relay::open().await?;
    let options = JoinOptions {
        alter_answer: Some(relay.alteration()),
        ..JoinOptions::publishing(talking())
    };
    let mut ann = stage.join("ann", options).await?;
    sees(&ann, &bob, Source::Camera, 30).await?;
    sees(&bob, &ann, Source::Camera, 30).await?;
    // The old path dies for good; the restart finds the direct one.
    relay
        .mischief
        .cut
        .store(true, std::sync::atomic::Ordering::Relaxed);
    ann.direct();
    ann.negotiate(true).await?;
    ann.hears(bob.number, 100).await?;
    bob.hears(ann.number, 100).await?;
    for viewer in [&ann, &bob] {
        clean(viewer)?;
    }
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_join_at_the_same_moment() -> Result<()> {
    let stage = Stage::open_with(|config| config.media.shards = 2).await?;
    let names = ["a", "b", "c", "d"];
    let joins = names.map(|name| stage.join_talking(name));
    let joined = futures_util::future::join_all(joins).await;
    let people = joined.into_iter().collect::<Result<Vec<_>>>()?;
    for viewer in &people {
        for of in people.iter().filter(|of| of.number != viewer.number) {
            sees(viewer, of, Source::Camera, 20).await?;
        }
        intact(viewer).await?;
    }
    stage.close().await;
    Ok(())
}
