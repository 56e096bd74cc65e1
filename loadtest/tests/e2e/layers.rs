//! Simulcast: the view chooses the layer, and the switch leaves no trace in the stream.

use anyhow::{Result, ensure};
use loadtest::client::PATIENCE;
use loadtest::media::Picture;
use loadtest::peer::Media;
use loadtest::{JoinOptions, Participant, Source, TrackOptions};
use serde_json::json;

use super::stage::{Stage, intact, reception, sees, track_of, view};

/// Waits until the slot carries a layer of somebody's track, and goes on doing so.
async fn carries(viewer: &Participant, mid: &str, of: &Participant, layer: u8) -> Result<()> {
    let count = |media: &Media| {
        let heard = media.receptions.get(mid)?.senders.get(&of.number)?;
        (heard.layer == layer).then(|| heard.layers.get(&layer).copied().unwrap_or_default())
    };
    let what = format!("layer {layer} arrives");
    let since = viewer.peer.media.until(&what, PATIENCE, count).await?;
    let more = |media: &Media| (count(media)? >= since + 40).then_some(());
    viewer.peer.media.until(&what, PATIENCE, more).await?;
    Ok(())
}

async fn simulcast(stage: &Stage) -> Result<(Participant, Participant, String, String)> {
    let ann = stage
        .join(
            "ann",
            JoinOptions::publishing(vec![TrackOptions::simulcast()]),
        )
        .await?;
    let bob = stage.join_watching("bob").await?;
    let mid = sees(&bob, &ann, Source::Camera, 20).await?;
    let track = track_of(&bob, "ann", Source::Camera).await?;
    bob.until_room("three layers are live", |room| {
        (room.tracks[&track].live_layers == 3).then_some(())
    })
    .await?;
    Ok((ann, bob, mid, track))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_view_switches_the_layer_on_a_keyframe() -> Result<()> {
    let stage = Stage::open().await?;
    let (ann, bob, mid, track) = simulcast(&stage).await?;
    for (width, height, layer) in [(1280, 720, 2), (320, 180, 0), (640, 360, 1), (1280, 720, 2)] {
        bob.view(&track, view(width, height))?;
        carries(&bob, &mid, &ann, layer).await?;
    }
    let seen = reception(&bob, &mid);
    ensure!(
        seen.began_with_keyframe == Some(true) && seen.keyframes >= 4,
        "{seen:?}"
    );
    intact(&bob).await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_can_be_named_and_each_viewer_has_its_own() -> Result<()> {
    let stage = Stage::open().await?;
    let (ann, bob, mid, track) = simulcast(&stage).await?;
    let cid = stage.join_watching("cid").await?;
    let other = sees(&cid, &ann, Source::Camera, 20).await?;
    bob.view(&track, json!({ "layer": 0 }))?;
    cid.view(&track, view(1280, 720))?;
    carries(&bob, &mid, &ann, 0).await?;
    carries(&cid, &other, &ann, 2).await?;
    carries(&bob, &mid, &ann, 0).await?;
    intact(&bob).await?;
    intact(&cid).await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_stops_is_replaced_by_a_live_one() -> Result<()> {
    let stage = Stage::open().await?;
    let (ann, bob, mid, track) = simulcast(&stage).await?;
    bob.view(&track, view(1280, 720))?;
    carries(&bob, &mid, &ann, 2).await?;
    let controls = ann.peer.publication(Source::Camera)?.controls.clone();
    controls.send_layers(&[0]);
    carries(&bob, &mid, &ann, 0).await?;
    controls.send_layers(&[0, 1, 2]);
    carries(&bob, &mid, &ann, 2).await?;
    intact(&bob).await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_out_of_view_is_not_forwarded() -> Result<()> {
    let stage = Stage::open().await?;
    let (ann, bob, _, track) = simulcast(&stage).await?;
    bob.view(&track, json!({ "paused": true }))?;
    bob.until_room("the stream is paused", |room| {
        let (state, _, reason) = room.streams.get(&track)?;
        (state == "paused" && reason.as_deref() == Some("view")).then_some(())
    })
    .await?;
    bob.view(&track, view(320, 180))?;
    let mid = sees(&bob, &ann, Source::Camera, 30).await?;
    carries(&bob, &mid, &ann, 0).await?;
    intact(&bob).await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn temporal_layers_are_dropped_on_request_without_a_hole() -> Result<()> {
    let stage = Stage::open().await?;
    let picture = Picture {
        temporal_layers: 2,
        ..Picture::MIDDLE
    };
    let camera = TrackOptions {
        layers: vec![picture],
        ..TrackOptions::camera()
    };
    let ann = stage
        .join("ann", JoinOptions::publishing(vec![camera]))
        .await?;
    let bob = stage.join_watching("bob").await?;
    let mid = sees(&bob, &ann, Source::Camera, 60).await?;
    let track = track_of(&bob, "ann", Source::Camera).await?;
    let upper = |media: &Media| {
        let heard = media.receptions.get(&mid)?.senders.get(&ann.number)?;
        Some((
            heard.packets,
            heard.temporal_layers.get(&1).copied().unwrap_or_default(),
        ))
    };
    ensure!(
        bob.peer
            .media
            .read(upper)
            .is_some_and(|(_, upper)| upper > 0)
    );
    bob.view(&track, json!({ "temporal": 0 }))?;
    let mut before = (0, 0);
    let thinned = loop {
        sees(&bob, &ann, Source::Camera, 60).await?;
        let now = bob.peer.media.read(upper).unwrap_or_default();
        if now.1 == before.1 {
            break now;
        }
        ensure!(
            now.0 < 3_000,
            "the upper temporal layer never stops: {now:?}"
        );
        before = now;
    };
    ensure!(thinned.1 > 0);
    intact(&bob).await?;
    stage.close().await;
    Ok(())
}
