//! WHIP and WHEP: publishing and receiving over one HTTP exchange each.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use loadtest::client::PATIENCE;
use loadtest::http::Request;
use loadtest::peer::Media;
use loadtest::{JoinOptions, PeerOptions, Source, TrackOptions, Whep, Whip, publisher_number};

use super::stage::{ROOM, Stage, flawless, intact, sees, talking, track_of};

fn publisher(identity: &str, publish: Vec<TrackOptions>) -> PeerOptions {
    PeerOptions {
        number: publisher_number(identity),
        publish,
        ..PeerOptions::default()
    }
}

/// Waits until the receiver gets `packets` more of somebody, on `tracks` slots.
async fn gets(whep: &Whep, identity: &str, (tracks, packets): (usize, u64)) -> Result<()> {
    let number = publisher_number(identity);
    let counts = |media: &Media| -> BTreeMap<String, u64> {
        let slots = media.receptions.iter();
        slots
            .map(|(mid, one)| (mid.clone(), one.packets_from(number)))
            .collect()
    };
    let before = whep.peer.media.read(counts);
    let enough = |media: &Media| {
        let counts = counts(media);
        let busy = counts.iter().filter(|(mid, count)| {
            **count >= before.get(*mid).copied().unwrap_or_default() + packets
        });
        (busy.count() >= tracks).then_some(())
    };
    let arrived = whep.peer.media.until(identity, PATIENCE, enough).await;
    let seen = whep.peer.media.read(|media| format!("{media:?}"));
    arrived.with_context(|| format!("receives {identity}: {seen}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_by_whip_is_received_by_everybody() -> Result<()> {
    let stage = Stage::open().await?;
    let token = stage.key.join(ROOM, "encoder")?;
    let options = publisher("encoder", talking());
    let whip = Whip::publish(stage.addr, ROOM, &token, options).await?;
    let bob = stage.join_watching("bob").await?;
    for source in [Source::Camera, Source::Microphone] {
        let track = track_of(&bob, "encoder", source).await?;
        bob.until_room("a slot carries it", |room| room.slot_of(&track).cloned())
            .await?;
    }
    bob.hears(publisher_number("encoder"), 200).await?;
    intact(&bob).await?;
    let token = stage.key.join(ROOM, "viewer")?;
    let whep = Whep::receive(stage.addr, ROOM, &token, PeerOptions::default()).await?;
    gets(&whep, "encoder", (2, 60)).await?;
    flawless(&whep.peer).await?;
    let ended = whep.close().await?;
    ensure!(ended.status == 200, "{ended:?}");
    let ended = whip.close().await?;
    ensure!(ended.status == 200, "{ended:?}");
    bob.until_room("the encoder is gone", |room| {
        room.member("encoder").is_none().then_some(())
    })
    .await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whip_takes_simulcast() -> Result<()> {
    let stage = Stage::open().await?;
    let token = stage.key.join(ROOM, "encoder")?;
    let options = publisher("encoder", vec![TrackOptions::simulcast()]);
    let whip = Whip::publish(stage.addr, ROOM, &token, options).await?;
    let bob = stage.join_watching("bob").await?;
    let track = track_of(&bob, "encoder", Source::Camera).await?;
    bob.until_room("three layers are live", |room| {
        (room.tracks[&track].live_layers == 3).then_some(())
    })
    .await?;
    drop(whip);
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whep_before_any_publisher_waits_with_idle_slots() -> Result<()> {
    let stage = Stage::open().await?;
    let token = stage.key.join(ROOM, "viewer")?;
    let whep = Whep::receive(stage.addr, ROOM, &token, PeerOptions::default()).await?;
    let ann = stage.join_talking("ann").await?;
    gets(&whep, "ann", (2, 30)).await?;
    flawless(&whep.peer).await?;
    ann.leave().await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whep_of_one_participant_stays_with_that_one() -> Result<()> {
    let stage = Stage::open().await?;
    let (ann, bob) = (
        stage.join_talking("ann").await?,
        stage.join_talking("bob").await?,
    );
    sees(&ann, &bob, Source::Camera, 10).await?;
    let token = stage.key.join(ROOM, "viewer")?;
    let of = format!("{ROOM}/ann");
    let whep = Whep::receive(stage.addr, &of, &token, PeerOptions::default()).await?;
    gets(&whep, "ann", (2, 60)).await?;
    let others = whep.peer.media.read(|media| media.packets_from(bob.number));
    ensure!(others == 0, "{others} packets of another participant");
    flawless(&whep.peer).await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_follows_the_speaker_and_the_screen() -> Result<()> {
    let stage = Stage::open().await?;
    let (mut ann, bob) = (
        stage.join_talking("ann").await?,
        stage.join_talking("bob").await?,
    );
    let speaks = |who: &loadtest::Participant, level: u8| -> Result<()> {
        who.peer
            .publication(Source::Microphone)?
            .controls
            .set_audio_level(level);
        Ok(())
    };
    speaks(&ann, 10)?;
    speaks(&bob, 127)?;
    let token = stage.key.join(ROOM, "viewer")?;
    let whep = Whep::receive(stage.addr, ROOM, &token, PeerOptions::default()).await?;
    gets(&whep, "ann", (2, 30)).await?;
    speaks(&ann, 127)?;
    speaks(&bob, 10)?;
    gets(&whep, "bob", (2, 30)).await?;
    ann.peer.publish(TrackOptions::screen()).await?;
    ann.negotiate(false).await?;
    let screen = |media: &Media| {
        let stamps = media.receptions.values().filter_map(|one| one.last);
        let mut screens = stamps.filter(|stamp| stamp.source == Source::ScreenShare.index());
        screens.next().map(|_| ())
    };
    whep.peer
        .media
        .until("the screen is the program", PATIENCE, screen)
        .await?;
    whep.peer.media.read(|media| {
        for reception in media.receptions.values() {
            let keyed = reception
                .senders
                .values()
                .all(|heard| heard.began_with_keyframe);
            ensure!(keyed && reception.is_clean(), "{reception:?}");
        }
        Ok(())
    })?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whip_restarts_ice_by_patch() -> Result<()> {
    let stage = Stage::open().await?;
    let token = stage.key.join(ROOM, "encoder")?;
    let options = publisher("encoder", talking());
    let mut whip = Whip::publish(stage.addr, ROOM, &token, options).await?;
    let reply = whip
        .restart_ice("newufrag", "anewpasswordof24ormorebytes")
        .await?;
    ensure!(reply.status == 200, "{reply:?}");
    let fragment = reply.header("content-type") == Some("application/trickle-ice-sdpfrag");
    ensure!(fragment && reply.body.contains("a=ice-ufrag:"), "{reply:?}");
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn doors_refuse_clearly() -> Result<()> {
    let stage = Stage::open().await?;
    let bystanders = stage.bystanders().await?;
    let token = stage.key.join(ROOM, "encoder")?;
    let sdp = "application/sdp";
    let post = |path: &str| Request::new("POST", path);
    let whip = format!("/whip/{ROOM}");
    let cases = [
        (post(&whip).body(sdp, "v=0\r\n"), 401),
        (
            post(&whip).bearer("no.such.token").body(sdp, "v=0\r\n"),
            401,
        ),
        (
            post("/whip/elsewhere").bearer(&token).body(sdp, "v=0\r\n"),
            403,
        ),
        (
            post(&whip).bearer(&token).body("text/plain", "v=0\r\n"),
            415,
        ),
        (post(&whip).bearer(&token).body(sdp, "this is no SDP"), 400),
        (
            post(&whip).bearer(&token).body(sdp, "x".repeat(600_000)),
            413,
        ),
        (
            Request::new("DELETE", "/whip/stage/p_ffff").bearer(&token),
            404,
        ),
    ];
    for (request, status) in cases {
        let what = format!("{request:?}").chars().take(120).collect::<String>();
        let reply = request.send(stage.addr).await.context(what.clone())?;
        if reply.status != status {
            bail!(
                "{what}: {} instead of {status}: {}",
                reply.status,
                reply.body
            );
        }
        if reply.header("content-type") != Some("application/problem+json") {
            bail!("{what}: {:?}", reply.headers);
        }
    }
    let grants = serde_json::json!({ "canPublish": false });
    let viewer = stage.key.join_with(ROOM, "viewer", grants)?;
    let refused = Whip::publish(stage.addr, ROOM, &viewer, publisher("viewer", talking())).await;
    let Err(error) = refused else {
        bail!("published without the grant")
    };
    let refused = error.downcast::<loadtest::whip::Refused>()?;
    ensure!(refused.0.status == 403, "{refused}");
    bystanders.undisturbed().await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_participant_and_a_whip_one_of_one_name_are_one() -> Result<()> {
    let stage = Stage::open().await?;
    let ann = stage
        .join("ann", JoinOptions::publishing(talking()))
        .await?;
    let token = stage.key.join(ROOM, "ann")?;
    let _whip = Whip::publish(stage.addr, ROOM, &token, publisher("ann", talking())).await?;
    ann.until_room("the older one ends", |room| {
        (room.bye.as_deref() == Some("duplicate_identity")).then_some(())
    })
    .await?;
    stage.close().await;
    Ok(())
}
