//! People come, see and hear each other, mute, and go.

use anyhow::{Result, ensure};
use loadtest::http::Request;
use loadtest::media::Codec;
use loadtest::{JoinOptions, Network, PeerOptions, Source, SrtpProfile, TrackOptions};

use super::stage::{ROOM, Stage, intact, reception, sees, silent, talking, track_of};

#[tokio::test(flavor = "multi_thread")]
async fn two_participants_see_and_hear_each_other() -> Result<()> {
    let stage = Stage::open().await?;
    let (ann, bob) = (
        stage.join_talking("ann").await?,
        stage.join_talking("bob").await?,
    );
    for (viewer, of) in [(&ann, &bob), (&bob, &ann)] {
        sees(viewer, of, Source::Camera, 100).await?;
        sees(viewer, of, Source::Microphone, 50).await?;
        intact(viewer).await?;
    }
    let feedback = ann.peer.wire.received.read();
    ensure!(
        feedback.transport_feedback > 0,
        "publishers get no feedback: {feedback:?}"
    );
    ensure!(
        feedback.sender_reports > 0,
        "subscribers get no sender reports: {feedback:?}"
    );
    ann.leave().await?;
    bob.leave().await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_participants_see_each_other() -> Result<()> {
    let stage = Stage::open().await?;
    let mut people = Vec::new();
    for name in ["ann", "bob", "cid"] {
        people.push(stage.join_talking(name).await?);
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
async fn h264_is_forwarded_as_sent() -> Result<()> {
    let stage = Stage::open().await?;
    let publish = vec![TrackOptions::camera().codec(Codec::H264)];
    let ann = stage.join("ann", JoinOptions::publishing(publish)).await?;
    let bob = stage.join_watching("bob").await?;
    let mid = sees(&bob, &ann, Source::Camera, 100).await?;
    ensure!(reception(&bob, &mid).began_with_keyframe == Some(true));
    intact(&bob).await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_joiner_begins_with_a_keyframe() -> Result<()> {
    let stage = Stage::open().await?;
    // Its camera makes a keyframe only when it is asked for one.
    let ann = stage.join_talking("ann").await?;
    let bob = stage.join_watching("bob").await?;
    sees(&bob, &ann, Source::Camera, 100).await?;
    let late = stage.join_watching("late").await?;
    let mid = sees(&late, &ann, Source::Camera, 30).await?;
    let seen = reception(&late, &mid);
    ensure!(seen.began_with_keyframe == Some(true), "{seen:?}");
    ensure!(ann.peer.wire.received.read().keyframe_requests > 0);
    intact(&late).await?;
    intact(&bob).await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_or_vanishes_frees_the_slot_and_nobody_else_notices() -> Result<()> {
    let stage = Stage::open_with(|config| {
        config.rooms.resume_timeout = signaling::config::Span::from_secs(5);
    })
    .await?;
    let bystanders = stage.bystanders().await?;
    let polite = stage.join_talking("polite").await?;
    sees(&bystanders.one, &polite, Source::Camera, 30).await?;
    let track = track_of(&bystanders.one, "polite", Source::Camera).await?;
    polite.leave().await?;
    bystanders
        .one
        .until_room("the leaver is gone with its slot", |room| {
            (room.member("polite").is_none() && room.slot_of(&track).is_none()).then_some(())
        })
        .await?;
    bystanders.undisturbed().await?;
    let rude = stage.join_talking("rude").await?;
    sees(&bystanders.other, &rude, Source::Camera, 30).await?;
    rude.vanish().await?;
    bystanders
        .other
        .until_room("the vanished one is gone", |room| {
            room.member("rude").is_none().then_some(())
        })
        .await?;
    bystanders.undisturbed().await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn muting_stops_a_track_and_unmuting_brings_it_back() -> Result<()> {
    let stage = Stage::open().await?;
    let (ann, bob) = (
        stage.join_talking("ann").await?,
        stage.join_watching("bob").await?,
    );
    let picture = sees(&bob, &ann, Source::Camera, 30).await?;
    let sound = sees(&bob, &ann, Source::Microphone, 30).await?;
    // Its publisher goes on sending: the server is what stops it.
    ann.mute(Source::Camera, true).await?;
    let track = track_of(&bob, "ann", Source::Camera).await?;
    bob.until_room("told of the muting", |room| {
        room.tracks[&track].muted.then_some(())
    })
    .await?;
    silent(&bob, &picture, (&ann, &sound)).await?;
    ann.mute(Source::Camera, false).await?;
    let again = sees(&bob, &ann, Source::Camera, 50).await?;
    ensure!(!bob.room.read(|room| room.tracks[&track].muted));
    ensure!(again == picture, "the track keeps its slot");
    intact(&bob).await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unsubscribing_and_unpublishing_end_a_stream() -> Result<()> {
    let stage = Stage::open().await?;
    let mut ann = stage.join_talking("ann").await?;
    let bob = stage.join_watching("bob").await?;
    let picture = sees(&bob, &ann, Source::Camera, 30).await?;
    let sound = sees(&bob, &ann, Source::Microphone, 30).await?;
    let track = track_of(&bob, "ann", Source::Camera).await?;
    bob.subscribe(&track, false).await?;
    bob.until_room("the slot is free", |room| {
        room.slot_of(&track).is_none().then_some(())
    })
    .await?;
    silent(&bob, &picture, (&ann, &sound)).await?;
    bob.subscribe(&track, true).await?;
    sees(&bob, &ann, Source::Camera, 30).await?;
    ann.unpublish(Source::Camera).await?;
    bob.until_room("the track is gone", |room| {
        (room.track("ann", "camera").is_none() && room.slot_of(&track).is_none()).then_some(())
    })
    .await?;
    sees(&bob, &ann, Source::Microphone, 30).await?;
    intact(&bob).await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_subscribes_by_hand_gets_only_what_it_asked_for() -> Result<()> {
    let stage = Stage::open().await?;
    let ann = stage.join_talking("ann").await?;
    let options = JoinOptions {
        manual_subscribe: true,
        ..JoinOptions::default()
    };
    let bob = stage.join("bob", options).await?;
    let track = track_of(&bob, "ann", Source::Microphone).await?;
    bob.subscribe(&track, true).await?;
    sees(&bob, &ann, Source::Microphone, 50).await?;
    let camera = track_of(&bob, "ann", Source::Camera).await?;
    ensure!(bob.room.read(|room| room.slot_of(&camera).is_none()));
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_screen_is_shared_mid_call_and_more_slots_are_asked_for() -> Result<()> {
    let stage = Stage::open().await?;
    let mut ann = stage.join_talking("ann").await?;
    let peer = PeerOptions {
        video_slots: 1,
        ..PeerOptions::default()
    };
    let mut bob = stage
        .join(
            "bob",
            JoinOptions {
                peer,
                ..JoinOptions::default()
            },
        )
        .await?;
    sees(&bob, &ann, Source::Camera, 30).await?;
    ann.peer.publish(TrackOptions::screen()).await?;
    ann.negotiate(false).await?;
    let needed = bob
        .until_room("more slots are asked for", |room| room.needed)
        .await?;
    // How many spare slots it asks for is the server's to choose.
    ensure!(needed.1 >= 2, "{needed:?}");
    bob.peer.add_slots(0, 1).await?;
    bob.negotiate(false).await?;
    sees(&bob, &ann, Source::ScreenShare, 30).await?;
    sees(&bob, &ann, Source::Camera, 30).await?;
    intact(&bob).await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_srtp_profile_carries_media_both_ways() -> Result<()> {
    for profile in [SrtpProfile::Aes128Gcm, SrtpProfile::Aes128CmSha1] {
        let stage = Stage::open().await?;
        let ann = stage.join_talking("ann").await?;
        let peer = PeerOptions {
            srtp: Some(profile),
            publish: talking(),
            ..PeerOptions::default()
        };
        let options = JoinOptions {
            peer,
            ..JoinOptions::default()
        };
        let bob = stage.join("bob", options).await?;
        for (viewer, of) in [(&ann, &bob), (&bob, &ann)] {
            sees(viewer, of, Source::Camera, 60).await?;
            sees(viewer, of, Source::Microphone, 30).await?;
            intact(viewer).await?;
        }
        stage.close().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_on_tcp_takes_part() -> Result<()> {
    let stage = Stage::open().await?;
    let ann = stage.join_talking("ann").await?;
    let peer = PeerOptions {
        network: Network::Tcp,
        publish: talking(),
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
    for (viewer, of) in [(&ann, &bob), (&bob, &ann)] {
        sees(viewer, of, Source::Camera, 60).await?;
        sees(viewer, of, Source::Microphone, 30).await?;
        intact(viewer).await?;
    }
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_loudest_is_told() -> Result<()> {
    let stage = Stage::open().await?;
    let (ann, bob) = (
        stage.join_talking("ann").await?,
        stage.join_talking("bob").await?,
    );
    ann.peer
        .publication(Source::Microphone)?
        .controls
        .set_audio_level(127);
    bob.peer
        .publication(Source::Microphone)?
        .controls
        .set_audio_level(10);
    let cid = stage.join_watching("cid").await?;
    let loud = cid.until_room("bob speaks, ann does not", |room| {
        let level = |name: &str| {
            room.member(name)
                .and_then(|id| room.speakers.get(id))
                .copied()
        };
        (level("bob")? > 0.1 && level("ann").unwrap_or_default() < 0.1).then_some(())
    });
    loud.await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_joins_twice_replaces_itself() -> Result<()> {
    let stage = Stage::open().await?;
    let bystanders = stage.bystanders().await?;
    let first = stage.join_talking("twin").await?;
    sees(&bystanders.one, &first, Source::Camera, 20).await?;
    let second = stage.join_talking("twin").await?;
    first
        .until_room("the first is told why it ends", |room| {
            let why = room.bye.as_deref() == Some("duplicate_identity");
            (why && room.closed == Some(Some(4009))).then_some(())
        })
        .await?;
    sees(&bystanders.one, &second, Source::Camera, 30).await?;
    let twins = |room: &loadtest::room::Room| {
        room.members
            .values()
            .filter(|member| member.identity == "twin")
            .count()
    };
    ensure!(bystanders.one.room.read(twins) == 1);
    bystanders.undisturbed().await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_kicked_is_told_and_gone() -> Result<()> {
    let stage = Stage::open().await?;
    let bystanders = stage.bystanders().await?;
    let pest = stage.join_talking("pest").await?;
    sees(&bystanders.one, &pest, Source::Camera, 20).await?;
    let path = format!("/v1/rooms/{ROOM}/participants/pest");
    let nobody = Request::new("DELETE", &*path).send(stage.addr).await?;
    ensure!(nobody.status == 401, "{nobody:?}");
    let guest = stage.key.join(ROOM, "pest")?;
    let guest = Request::new("DELETE", &*path)
        .bearer(&guest)
        .send(stage.addr)
        .await?;
    ensure!(guest.status == 403, "{guest:?}");
    let admin = stage.key.admin(ROOM)?;
    let done = Request::new("DELETE", &*path)
        .bearer(&admin)
        .send(stage.addr)
        .await?;
    ensure!((200..300).contains(&done.status), "{done:?}");
    pest.until_room("the pest is told", |room| {
        let why = room.bye.as_deref() == Some("removed");
        (why && room.closed == Some(Some(4010))).then_some(())
    })
    .await?;
    bystanders
        .one
        .until_room("the pest is gone", |room| {
            room.member("pest").is_none().then_some(())
        })
        .await?;
    let again = Request::new("DELETE", &*path)
        .bearer(&admin)
        .send(stage.addr)
        .await?;
    ensure!(again.status == 404, "{again:?}");
    bystanders.undisturbed().await?;
    stage.close().await;
    Ok(())
}
