//! Loss on either leg is healed where it happened, and a hole stays a hole until it is.

use anyhow::{Result, ensure};
use loadtest::client::PATIENCE;
use loadtest::peer::Media;
use loadtest::{JoinOptions, Source, TrackOptions};

use super::stage::{Stage, reception, sees};

fn healed(media: &Media) -> Option<()> {
    media
        .receptions
        .values()
        .all(|one| one.gaps() == 0)
        .then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn loss_towards_a_subscriber_is_healed_by_the_server_alone() -> Result<()> {
    let stage = Stage::open().await?;
    let ann = stage.join_talking("ann").await?;
    let (bob, cid) = (
        stage.join_watching("bob").await?,
        stage.join_watching("cid").await?,
    );
    let mid = sees(&bob, &ann, Source::Camera, 30).await?;
    sees(&cid, &ann, Source::Camera, 30).await?;
    let asked = ann.peer.wire.received.read();
    bob.peer.wire.lose_received(20);
    sees(&bob, &ann, Source::Camera, 300).await?;
    bob.peer.wire.lose_received(0);
    // Sound is not sent again, so only the picture must be whole.
    let whole = |media: &Media| (media.receptions.get(&mid)?.gaps() == 0).then_some(());
    bob.peer
        .media
        .until("no gap in the picture", PATIENCE, whole)
        .await?;
    let seen = reception(&bob, &mid);
    ensure!(
        seen.timestamp_regressions == 0 && seen.picture_id_jumps == 0,
        "{seen:?}"
    );
    let counts = bob.peer.wire.received.read();
    ensure!(counts.lost > 10 && counts.rtx > 0, "{counts:?}");
    // `webrtc` asks on and on for what came by RTX; each packet is sent again a bounded number of
    // times all the same.
    ensure!(counts.rtx <= counts.lost * 10, "{counts:?}");
    // Healed from the server's own history: the publisher is asked neither for packets nor keyframes.
    let asked_after = ann.peer.wire.received.read();
    ensure!(asked_after.nacks == asked.nacks, "{asked_after:?}");
    ensure!(
        asked_after.keyframe_requests == asked.keyframe_requests,
        "{asked_after:?}"
    );
    super::stage::intact(&cid).await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn loss_from_a_publisher_is_asked_for_and_healed_for_all() -> Result<()> {
    let stage = Stage::open().await?;
    let camera = vec![TrackOptions::camera()];
    let ann = stage.join("ann", JoinOptions::publishing(camera)).await?;
    let (bob, cid) = (
        stage.join_watching("bob").await?,
        stage.join_watching("cid").await?,
    );
    sees(&bob, &ann, Source::Camera, 30).await?;
    sees(&cid, &ann, Source::Camera, 30).await?;
    ann.peer.wire.lose_sent(20);
    sees(&bob, &ann, Source::Camera, 300).await?;
    sees(&cid, &ann, Source::Camera, 300).await?;
    ann.peer.wire.lose_sent(0);
    for viewer in [&bob, &cid] {
        viewer.peer.media.until("no gaps", PATIENCE, healed).await?;
        viewer.peer.media.read(|media| {
            ensure!(
                media.receptions.values().all(|one| one.is_clean()),
                "{media:?}"
            );
            Ok(())
        })?;
    }
    let counts = (ann.peer.wire.received.read(), ann.peer.wire.sent.read());
    ensure!(counts.0.nacks > 0 && counts.1.rtx > 0, "{counts:?}");
    stage.close().await;
    Ok(())
}
