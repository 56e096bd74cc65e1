//! Rooms on several shards: from outside it is one room.

use anyhow::{Context, Result, ensure};
use loadtest::client::PATIENCE;
use loadtest::http::Request;
use loadtest::{Participant, PeerOptions, Source, Whep};

use super::stage::{ROOM, Stage, flawless, intact, sees, silent, track_of};

/// A server whose rooms go on on the next shard with every second participant.
async fn spread() -> Result<Stage> {
    Stage::open_with(|config| {
        config.media.shards = 2;
        config.media.room_participants_per_shard = 1;
    })
    .await
}

/// The shard a participant is on; its id says it.
fn shard_of(participant: &Participant) -> Result<usize> {
    let session = participant.room.read(|room| room.session.clone());
    let id = sfu::ParticipantId::parse(&session);
    Ok(id.with_context(|| session)?.shard())
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_sees_and_hears_everybody() -> Result<()> {
    let stage = spread().await?;
    let mut people = Vec::new();
    for name in ["ann", "bob", "cid", "dan"] {
        people.push(stage.join_talking(name).await?);
    }
    for shard in 0..2 {
        let mut there = 0;
        for one in &people {
            there += usize::from(shard_of(one)? == shard);
        }
        ensure!(there > 0, "nobody on shard {shard}");
    }
    for viewer in &people {
        for of in people.iter().filter(|of| of.number != viewer.number) {
            sees(viewer, of, Source::Camera, 40).await?;
            sees(viewer, of, Source::Microphone, 20).await?;
        }
        intact(viewer).await?;
    }
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_mutes_and_goodbyes_reach_the_other_shard() -> Result<()> {
    let stage = spread().await?;
    let (ann, bob) = (
        stage.join_talking("ann").await?,
        stage.join_talking("bob").await?,
    );
    ensure!(shard_of(&ann)? != shard_of(&bob)?);
    let camera = sees(&bob, &ann, Source::Camera, 40).await?;
    let microphone = sees(&bob, &ann, Source::Microphone, 20).await?;
    sees(&ann, &bob, Source::Camera, 40).await?;
    for from in [&ann, &bob] {
        from.peer.channels_open(PATIENCE).await?;
    }
    ann.send("reliable", None, ("chat", b"hello")).await?;
    ann.send("reliable", Some(&["bob"]), ("chat", b"bob"))
        .await?;
    let both = |media: &loadtest::peer::Media| (media.messages.len() >= 2).then_some(());
    bob.peer.media.until("two messages", PATIENCE, both).await?;
    let came: Vec<Vec<u8>> = bob.received().into_iter().map(|(.., text)| text).collect();
    ensure!(came == [b"hello".to_vec(), b"bob".to_vec()], "{came:?}");
    ann.mute(Source::Camera, true).await?;
    silent(&bob, &camera, (&ann, &microphone)).await?;
    ann.mute(Source::Camera, false).await?;
    sees(&bob, &ann, Source::Camera, 40).await?;
    intact(&bob).await?;
    let track = track_of(&bob, "ann", Source::Camera).await?;
    ann.leave().await?;
    bob.until_room("the leaver is gone with its slot", |room| {
        (room.member("ann").is_none() && room.slot_of(&track).is_none()).then_some(())
    })
    .await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_and_the_room_api_know_of_no_shards() -> Result<()> {
    let stage = spread().await?;
    let ann = stage.join_talking("ann").await?;
    let token = stage.key.join(ROOM, "viewer")?;
    let whep = Whep::receive(stage.addr, ROOM, &token, PeerOptions::default()).await?;
    let number = ann.number;
    let shown = |media: &loadtest::peer::Media| {
        let slots = media.receptions.values();
        let busy = slots.filter(|one| one.packets_from(number) > 40);
        (busy.count() == 2).then_some(())
    };
    let seen = whep.peer.media.until("the program", PATIENCE, shown).await;
    seen.context("on the other shard")?;
    flawless(&whep.peer).await?;
    let bob = stage.join_talking("bob").await?;
    sees(&bob, &ann, Source::Camera, 20).await?;
    // An administrator removes one and ends the room, wherever they are.
    let admin = stage.key.admin(ROOM)?;
    let path = format!("/v1/rooms/{ROOM}/participants/ann");
    let removed = Request::new("DELETE", path).bearer(&admin);
    let removed = removed.send(stage.addr).await?;
    ensure!((200..300).contains(&removed.status), "{removed:?}");
    bob.until_room("ann is gone", |room| {
        room.member("ann").is_none().then_some(())
    })
    .await?;
    let ended = Request::new("DELETE", format!("/v1/rooms/{ROOM}")).bearer(&admin);
    let ended = ended.send(stage.addr).await?;
    ensure!((200..300).contains(&ended.status), "{ended:?}");
    bob.until_room("the room was ended", |room| {
        (room.bye.as_deref() == Some("room_closed")).then_some(())
    })
    .await?;
    stage.close().await;
    Ok(())
}
