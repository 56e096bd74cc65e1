//! The simulated peer against itself, without a server: what it sends arrives, verified.

use std::time::Duration;

use anyhow::Result;
use loadtest::media::Codec;
use loadtest::peer::Media;
use loadtest::{Network, Peer, PeerOptions, SrtpProfile, TrackOptions};

const PATIENCE: Duration = Duration::from_secs(15);

/// A call between a peer with `options` and one that only answers.
async fn call(options: PeerOptions) -> Result<(Peer, Peer)> {
    let quiet = PeerOptions {
        audio_slots: 0,
        video_slots: 0,
        data_channels: false,
        publish: Vec::new(),
        ..options.clone()
    };
    let (mut caller, callee) = (Peer::new(options).await?, Peer::new(quiet).await?);
    let offer = caller.offer(false).await?;
    let answer = callee.answer(&offer.sdp).await?;
    caller.accept(&answer).await?;
    caller.connected(PATIENCE).await?;
    Ok((caller, callee))
}

fn options(publish: Vec<TrackOptions>) -> PeerOptions {
    PeerOptions {
        number: 7,
        publish,
        audio_slots: 0,
        video_slots: 0,
        ..PeerOptions::default()
    }
}

async fn receives(callee: &Peer, sections: usize, packets: u64) -> Result<()> {
    let enough = |media: &Media| {
        let busy = media
            .receptions
            .values()
            .filter(|one| one.packets >= packets)
            .count();
        (busy >= sections).then_some(())
    };
    let found = callee
        .media
        .until("packets on every section", PATIENCE, enough)
        .await;
    if found.is_err() {
        callee.media.read(|media| eprintln!("{media:?}"));
    }
    Ok(found?)
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_and_pictures_arrive_as_sent() -> Result<()> {
    let tracks = vec![TrackOptions::camera(), TrackOptions::microphone()];
    let (caller, callee) = call(options(tracks)).await?;
    receives(&callee, 2, 100).await?;
    callee.media.read(|media| {
        for reception in media.receptions.values() {
            assert!(reception.is_clean(), "{reception:?}");
            assert_eq!(reception.packets_from(7), reception.packets);
        }
    });
    assert!(callee.wire.received.read().sender_reports > 0);
    caller.close().await?;
    callee.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_is_verified_too_under_each_profile() -> Result<()> {
    for srtp in [SrtpProfile::Aes128Gcm, SrtpProfile::Aes128CmSha1] {
        let publish = vec![TrackOptions::camera().codec(Codec::H264)];
        let (caller, callee) = call(PeerOptions {
            srtp: Some(srtp),
            ..options(publish)
        })
        .await?;
        receives(&callee, 1, 50).await?;
        callee
            .media
            .read(|media| assert!(media.receptions.values().all(|one| one.is_clean())));
        caller.close().await?;
        callee.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_packets_are_asked_for_and_sent_again() -> Result<()> {
    let (caller, callee) = call(options(vec![TrackOptions::camera()])).await?;
    callee.wire.lose_received(20);
    receives(&callee, 1, 300).await?;
    callee.wire.lose_received(0);
    let healed = |media: &Media| {
        media
            .receptions
            .values()
            .all(|one| one.gaps() == 0)
            .then_some(())
    };
    callee.media.until("no gaps", PATIENCE, healed).await?;
    let counts = callee.wire.received.read();
    assert!(counts.lost > 5 && counts.rtx >= counts.lost, "{counts:?}");
    caller.close().await?;
    callee.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn three_layers_arrive_by_rid() -> Result<()> {
    let (caller, callee) = call(options(vec![TrackOptions::simulcast()])).await?;
    let three = |media: &Media| {
        let mut receptions = media.receptions.values();
        receptions
            .any(|one| {
                one.senders
                    .get(&7)
                    .is_some_and(|heard| heard.layers.len() == 3)
            })
            .then_some(())
    };
    callee.media.until("three layers", PATIENCE, three).await?;
    caller.close().await?;
    callee.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_over_both_channels() -> Result<()> {
    let (caller, callee) = call(options(Vec::new())).await?;
    caller.channels_open(PATIENCE).await?;
    for channel in ["reliable", "lossy"] {
        caller.send(channel, channel.as_bytes()).await?;
    }
    let both = |media: &Media| (media.messages.len() == 2).then_some(());
    callee.media.until("two messages", PATIENCE, both).await?;
    callee.media.read(|media| {
        assert!(
            media
                .messages
                .iter()
                .all(|message| message.bytes == message.channel.as_bytes())
        );
    });
    caller.close().await?;
    callee.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn media_flows_over_tcp() -> Result<()> {
    let publish = vec![TrackOptions::camera()];
    let tcp = PeerOptions {
        network: Network::Tcp,
        ..options(publish)
    };
    let (caller, callee) = call(tcp).await?;
    receives(&callee, 1, 50).await?;
    caller.close().await?;
    callee.close().await
}
