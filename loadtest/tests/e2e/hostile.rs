//! Forged and repeated datagrams: none of them gets media, moves media, or reaches a participant.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use loadtest::client::{Alteration, PATIENCE};
use loadtest::peer::Media;
use loadtest::relay::udp_candidate;
use loadtest::{JoinOptions, Participant, Relay, Source};
use tokio::net::UdpSocket;
use webrtc::peer_connection::RTCPeerConnectionState;

use super::stage::{Stage, reception, sees, talking};
use super::stun::Check;

/// Joins through a relay that can disturb what goes to the server.
async fn join_relayed(stage: &Stage, identity: &str) -> Result<(Participant, Relay)> {
    let relay = Relay::open().await?;
    let options = JoinOptions {
        alter_answer: Some(relay.alteration()),
        ..JoinOptions::publishing(talking())
    };
    Ok((stage.join(identity, options).await?, relay))
}

/// Waits until the relay did its work this often.
async fn until_copied(relay: &Relay, listener: &Participant, count: u64) -> Result<()> {
    let enough = |_: &Media| (relay.mischief.copies.load(Ordering::Relaxed) >= count).then_some(());
    listener
        .peer
        .media
        .until("copies are sent", PATIENCE, enough)
        .await?;
    Ok(())
}

/// Value of the first line with this prefix.
fn line(sdp: &str, prefix: &str) -> Option<String> {
    sdp.lines()
        .find_map(|line| line.strip_prefix(prefix).map(str::to_owned))
}

/// Where a participant's media goes, and the two user fragments of its transport.
async fn target(of: &Participant) -> Result<(SocketAddr, String)> {
    let remote = of.peer.remote_sdp().await.context("no answer")?;
    let local = of.peer.local_sdp().await.context("no offer")?;
    let (theirs, ours) = (line(&remote, "a=ice-ufrag:"), line(&local, "a=ice-ufrag:"));
    let (theirs, ours) = (theirs.context("no ufrag")?, ours.context("no ufrag")?);
    Ok((
        udp_candidate(&remote).context("no candidate")?,
        format!("{theirs}:{ours}"),
    ))
}

/// Datagrams waiting on a socket.
fn waiting(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; 2048];
    let mut all = Vec::new();
    while let Ok((length, _)) = socket.try_recv_from(&mut buffer) {
        all.push(buffer[..length].to_vec());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_srtp_is_dropped() -> Result<()> {
    let stage = Stage::open().await?;
    let bystanders = stage.bystanders().await?;
    let (ann, relay) = join_relayed(&stage, "ann").await?;
    sees(&bystanders.one, &ann, Source::Camera, 30).await?;
    relay.mischief.repeat.store(true, Ordering::Relaxed);
    until_copied(&relay, &bystanders.one, 300).await?;
    sees(&bystanders.one, &ann, Source::Camera, 60).await?;
    relay.mischief.repeat.store(false, Ordering::Relaxed);
    bystanders.undisturbed().await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn old_srtp_is_dropped() -> Result<()> {
    let stage = Stage::open().await?;
    let bystanders = stage.bystanders().await?;
    let (ann, relay) = join_relayed(&stage, "ann").await?;
    relay.mischief.record.store(true, Ordering::Relaxed);
    sees(&bystanders.one, &ann, Source::Camera, 200).await?;
    relay.mischief.record.store(false, Ordering::Relaxed);
    for datagram in relay.mischief.recorded() {
        relay.inject(&datagram).await?;
    }
    sees(&bystanders.one, &ann, Source::Camera, 60).await?;
    bystanders.undisturbed().await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_srtp_is_dropped() -> Result<()> {
    let stage = Stage::open().await?;
    let bystanders = stage.bystanders().await?;
    let (ann, relay) = join_relayed(&stage, "ann").await?;
    sees(&bystanders.one, &ann, Source::Camera, 30).await?;
    relay.mischief.damage.store(true, Ordering::Relaxed);
    until_copied(&relay, &bystanders.one, 300).await?;
    sees(&bystanders.one, &ann, Source::Camera, 60).await?;
    relay.mischief.damage.store(false, Ordering::Relaxed);
    bystanders.undisturbed().await?;
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rtp_from_a_strangers_address_goes_nowhere() -> Result<()> {
    let stage = Stage::open().await?;
    let bystanders = stage.bystanders().await?;
    let (ann, relay) = join_relayed(&stage, "ann").await?;
    sees(&bystanders.one, &ann, Source::Camera, 60).await?;
    // From now on the server gets none of ann's packets but those the stranger stole: they are
    // whole, fresh and in order, only their address is not hers.
    relay.mischief.steal.store(true, Ordering::Relaxed);
    bystanders.one.hears(bystanders.other.number, 30).await?;
    let before = bystanders
        .one
        .peer
        .media
        .read(|media| media.packets_from(ann.number));
    let stranger = UdpSocket::bind(("127.0.0.1", 0)).await?;
    let server = relay.server()?;
    let mut sent = 0;
    while sent < 200 {
        bystanders.one.hears(bystanders.other.number, 10).await?;
        for datagram in relay.mischief.take_recorded() {
            stranger.send_to(&datagram, server).await?;
            sent += 1;
        }
    }
    bystanders.one.hears(bystanders.other.number, 60).await?;
    let after = bystanders
        .one
        .peer
        .media
        .read(|media| media.packets_from(ann.number));
    ensure!(
        before == after,
        "{} packets of a stranger were forwarded",
        after - before
    );
    ensure!(waiting(&stranger).is_empty(), "the stranger was answered");
    relay.mischief.steal.store(false, Ordering::Relaxed);
    sees(&bystanders.one, &ann, Source::Camera, 60).await?;
    // What was stolen is missing in her tracks; those of the others are whole.
    let mid = sees(&bystanders.one, &bystanders.other, Source::Camera, 30).await?;
    let whole = reception(&bystanders.one, &mid);
    ensure!(whole.is_clean() && whole.gaps() == 0, "{whole:?}");
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn stun_with_a_wrong_password_neither_connects_nor_moves_media() -> Result<()> {
    let stage = Stage::open().await?;
    let bystanders = stage.bystanders().await?;
    let (server, username) = target(&bystanders.one).await?;
    let stranger = UdpSocket::bind(("127.0.0.1", 0)).await?;
    for number in 0..100_u8 {
        let password = format!("not the password, number {number}");
        let check = Check {
            username: &username,
            password: &password,
            nominate: true,
            transaction: [number; 12],
        };
        stranger.send_to(&check.bytes(), server).await?;
    }
    bystanders.undisturbed().await?;
    for reply in waiting(&stranger) {
        let stun = reply.first().is_some_and(|first| *first < 4);
        ensure!(
            stun && reply.len() <= 100,
            "the stranger got {} bytes",
            reply.len()
        );
        ensure!(
            reply.get(..2) != Some(&[1, 1]),
            "a wrong password was accepted"
        );
    }
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_with_the_wrong_password_never_connects() -> Result<()> {
    let stage = Stage::open().await?;
    let bystanders = stage.bystanders().await?;
    let forget = Alteration(std::sync::Arc::new(|sdp: &str| {
        let lines = sdp
            .lines()
            .map(|line| match line.starts_with("a=ice-pwd:") {
                true => "a=ice-pwd:anotherpasswordof24bytes\r\n".to_owned(),
                false => format!("{line}\r\n"),
            });
        lines.collect()
    }));
    let options = JoinOptions {
        alter_answer: Some(forget),
        no_wait: true,
        ..JoinOptions::publishing(talking())
    };
    let eve = stage.join("eve", options).await?;
    bystanders.undisturbed().await?;
    let state = eve.peer.media.read(|media| media.connection);
    ensure!(state != RTCPeerConnectionState::Connected, "connected");
    ensure!(
        bystanders
            .one
            .peer
            .media
            .read(|media| media.packets_from(eve.number))
            == 0
    );
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dtls_with_a_wrong_fingerprint_gets_no_media() -> Result<()> {
    let stage = Stage::open().await?;
    let bystanders = stage.bystanders().await?;
    let other_key = |sdp: String| {
        let lines = sdp
            .lines()
            .map(|line| match line.strip_prefix("a=fingerprint:sha-256 ") {
                Some(hash) => {
                    let changed = if hash.starts_with("AA") { "BB" } else { "AA" };
                    let rest = hash.get(2..).unwrap_or_default();
                    format!("a=fingerprint:sha-256 {changed}{rest}\r\n")
                }
                None => format!("{line}\r\n"),
            });
        lines.collect()
    };
    let options = JoinOptions {
        alter_offer: Some(other_key),
        no_wait: true,
        ..JoinOptions::publishing(talking())
    };
    let eve = stage.join("eve", options).await?;
    let begun = |media: &Media| (media.connection != RTCPeerConnectionState::New).then_some(());
    eve.peer
        .media
        .until("the connection begins", PATIENCE, begun)
        .await?;
    bystanders.undisturbed().await?;
    let got = eve.peer.media.read(|media| media.receptions.len());
    ensure!(
        got == 0,
        "{got} tracks for a peer whose key is not the announced one"
    );
    ensure!(
        bystanders
            .one
            .peer
            .media
            .read(|media| media.packets_from(eve.number))
            == 0
    );
    ensure!(
        bystanders
            .other
            .peer
            .media
            .read(|media| media.packets_from(eve.number))
            == 0
    );
    stage.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_from_a_stranger_is_not_answered() -> Result<()> {
    let stage = Stage::open().await?;
    let bystanders = stage.bystanders().await?;
    let (server, _) = target(&bystanders.one).await?;
    let stranger = UdpSocket::bind(("127.0.0.1", 0)).await?;
    // A DTLS record header, RTP, RTCP, TURN channel data, STUN cut short, and every first byte.
    let mut noise: Vec<Vec<u8>> = (0..=255_u8).map(|first| vec![first; 60]).collect();
    noise.push(vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0]);
    noise.push(vec![0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3]);
    noise.push(vec![0x80, 201, 0, 1, 0, 0, 0, 1]);
    noise.push(vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    noise.push(Vec::new());
    noise.push(vec![0x80; 1]);
    for datagram in &noise {
        stranger.send_to(datagram, server).await?;
    }
    bystanders.undisturbed().await?;
    let answers = waiting(&stranger);
    ensure!(
        answers.iter().all(|answer| answer.len() <= 100),
        "{answers:?}"
    );
    ensure!(answers.len() <= 1, "{} answers to noise", answers.len());
    stage.close().await;
    Ok(())
}
