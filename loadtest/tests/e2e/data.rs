//! Messages over data channels, and over signaling to those who have none.

use anyhow::{Result, ensure};
use loadtest::client::PATIENCE;
use loadtest::{JoinOptions, Participant, PeerOptions};
use serde_json::json;

use super::stage::Stage;

async fn connected(stage: &Stage, identity: &str) -> Result<Participant> {
    let participant = stage.join_watching(identity).await?;
    participant.peer.channels_open(PATIENCE).await?;
    Ok(participant)
}

/// Waits for a number of messages.
async fn messages(
    of: &Participant,
    count: usize,
) -> Result<Vec<(String, String, String, Vec<u8>)>> {
    let enough = |media: &loadtest::peer::Media| (media.messages.len() >= count).then_some(());
    of.peer.media.until("messages", PATIENCE, enough).await?;
    Ok(of.received())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_reach_everybody_over_both_channels() -> Result<()> {
    let stage = Stage::open().await?;
    let ann = connected(&stage, "ann").await?;
    let (bob, cid) = (
        connected(&stage, "bob").await?,
        connected(&stage, "cid").await?,
    );
    let long = vec![7; 12_000];
    for channel in ["reliable", "lossy"] {
        ann.send(channel, None, ("chat", b"hello")).await?;
    }
    ann.send("reliable", None, ("long", &long)).await?;
    for listener in [&bob, &cid] {
        let mut came = messages(listener, 3).await?;
        came.sort();
        let said = |channel: &str, topic: &str, payload: &[u8]| {
            (
                channel.to_owned(),
                "ann".to_owned(),
                topic.to_owned(),
                payload.to_vec(),
            )
        };
        let wanted = vec![
            said("lossy", "chat", b"hello"),
            said("reliable", "chat", b"hello"),
            said("reliable", "long", &long),
        ];
        ensure!(came == wanted, "{} got {came:?}", listener.identity);
    }
    ensure!(ann.received().is_empty(), "nobody hears itself");
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_one_reaches_only_that_one_under_the_true_name() -> Result<()> {
    let stage = Stage::open().await?;
    let ann = connected(&stage, "ann").await?;
    let (bob, cid) = (
        connected(&stage, "bob").await?,
        connected(&stage, "cid").await?,
    );
    ann.send("reliable", Some(&["bob"]), ("secret", b"for bob"))
        .await?;
    // A sender that claims another name is known by its own all the same.
    let header = json!({ "from": "cid", "topic": "all" });
    ann.peer
        .send("reliable", &loadtest::framing::framed(&header, b"for all")?)
        .await?;
    let to_bob = messages(&bob, 2).await?;
    ensure!(
        to_bob.iter().all(|(_, from, _, _)| from == "ann"),
        "{to_bob:?}"
    );
    // The channel is ordered: had the first been for cid, it would be there.
    let to_cid = messages(&cid, 1).await?;
    ensure!(to_cid.len() == 1 && to_cid[0].2 == "all", "{to_cid:?}");
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_channel_gets_messages_over_signaling_and_can_send() -> Result<()> {
    let stage = Stage::open().await?;
    let ann = connected(&stage, "ann").await?;
    let peer = PeerOptions {
        data_channels: false,
        ..PeerOptions::default()
    };
    let bob = stage
        .join(
            "bob",
            JoinOptions {
                peer,
                ..JoinOptions::default()
            },
        )
        .await?;
    ann.send("reliable", None, ("chat", b"hello")).await?;
    let note = bob
        .until_room("a note", |room| room.notes.first().cloned())
        .await?;
    ensure!(
        (note.from.as_str(), note.data.as_str()) == ("ann", "hello"),
        "{note:?}"
    );
    let answer = json!({ "t": "send", "to": ["ann"], "topic": "chat", "data": "hello yourself" });
    bob.request(answer).await?;
    let heard = |room: &loadtest::room::Room| room.notes.first().map(|note| note.data.clone());
    let over_channel = messages(&ann, 1);
    let over_signaling = ann.until_room("a note", heard);
    let text = tokio::select! {
        came = over_channel => came?.remove(0).3,
        came = over_signaling => came?.into_bytes(),
    };
    ensure!(text == b"hello yourself");
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_send_is_not_heard_and_broken_messages_harm_nobody() -> Result<()> {
    let stage = Stage::open().await?;
    let (ann, bob) = (
        connected(&stage, "ann").await?,
        connected(&stage, "bob").await?,
    );
    let grants = json!({ "canPublishData": false });
    let token = stage.key.join_with(super::stage::ROOM, "mute", grants)?;
    let mute = Participant::join(stage.addr, &token, "mute", JoinOptions::default()).await?;
    mute.peer.channels_open(PATIENCE).await?;
    mute.send("reliable", None, ("chat", b"psst")).await?;
    let refused = mute
        .request(json!({ "t": "send", "topic": "chat", "data": "psst" }))
        .await;
    ensure!(super::stage::refusal(refused)? == "forbidden");
    for broken in [
        &b""[..],
        b"\x00",
        b"\xff\xff{}",
        b"\x00\x02{]",
        b"\x00\x04null",
        b"\x00\x00",
    ] {
        ann.peer.send("reliable", broken).await?;
    }
    ann.send(
        "reliable",
        Some(&["nobody", "bob"]),
        ("chat", b"still here"),
    )
    .await?;
    let came = messages(&bob, 1).await?;
    ensure!(came.len() == 1 && came[0].3 == b"still here", "{came:?}");
    stage.close().await;
    Ok(())
}
