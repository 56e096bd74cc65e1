//! Playback for those who may, and encryption.

use aws_lc_rs::cipher::{AES_128, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use bridge::hls::{Playback, Settings};

use crate::client::get;
use crate::stage::{Stage, join, uris, value};

fn protected() -> Settings {
    Settings {
        playback: Playback::Token,
        ..Settings::default()
    }
}

#[tokio::test]
async fn every_uri_is_signed_for_its_viewer() {
    let mut stage = Stage::new(protected()).await;
    stage.play(9_100);
    let index = stage.get("index.m3u8?token=ann").await;
    assert_eq!(index.header("cache-control"), "private, no-store");
    for playlist in uris(index.text()) {
        let answer = stage.get(&playlist).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("cache-control"), "private, no-store");
        for uri in uris(answer.text()) {
            let (name, query) = uri.split_once('?').unwrap();
            let held = answer.text().contains(&format!("TYPE=PART,URI=\"{name}"));
            if held {
                continue;
            }
            assert_eq!(stage.get(&join(&playlist, &uri)).await.status, 200, "{uri}");
            assert_eq!(stage.get(&join(&playlist, name)).await.status, 403);
            // The same signature does not open another address.
            let other = format!("v0-i1.mp4?{query}");
            let status = stage.get(&join(&playlist, &other)).await.status;
            assert_eq!(status == 200, name == "v0-i1.mp4", "{uri}");
        }
    }
}

#[tokio::test]
async fn uris_stay_the_same_from_the_announcement_on() {
    let mut stage = Stage::new(protected()).await;
    stage.play(4_100);
    let playlist = stage.playlist_uri("v0.m3u8", "?token=ann").await;
    for _ in 0..30 {
        let text = stage.get(&playlist).await.text().to_owned();
        let hint = value(&text, "TYPE=PART,URI=\"").to_owned();
        let stays: Vec<String> = uris(&text)
            .into_iter()
            .filter(|uri| uri.contains("-s"))
            .collect();
        stage.play(200);
        let next = uris(stage.get(&playlist).await.text());
        assert!(next.contains(&hint), "{hint}");
        let kept = stays.iter().filter(|uri| next.contains(uri));
        assert!(kept.count() + 12 > stays.len());
    }
}

#[tokio::test]
async fn who_may_not_watch_is_told_why() {
    let mut stage = Stage::new(protected()).await;
    stage.play(5_000);
    for (query, status) in [("", 401), ("?token=", 401), ("?token=stranger", 403)] {
        let answer = stage.get(&format!("index.m3u8{query}")).await;
        assert_eq!(answer.status, status, "{query}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    let playlist = stage.playlist_uri("v0.m3u8", "?token=late").await;
    assert_eq!(stage.get(&playlist).await.status, 403);
    let good = stage.playlist_uri("v0.m3u8", "?token=ann").await;
    let expires: u64 = value(&good, "&e=")
        .split('&')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let tampered = [
        good.replace(&format!("e={expires}"), &format!("e={}", expires + 1)),
        good.replace("v0.", "v1."),
        good.replace("s=", "s=x"),
        good[..good.len() - 1].to_owned(),
        format!("{good}x"),
    ];
    for uri in tampered {
        assert_eq!(stage.get(&uri).await.status, 403, "{uri}");
    }
    assert_eq!(stage.get(&good).await.status, 200);
    // What was signed by another broadcast is worth nothing here.
    let mut other = Stage::new(protected()).await;
    other.play(5_000);
    stage.broadcast.end_user("ann");
    assert_eq!(stage.get(&good).await.status, 403);
}

#[tokio::test]
async fn a_user_has_so_many_players_and_no_more() {
    let mut stage = Stage::new(protected()).await;
    stage.play(5_000);
    for _ in 0..3 {
        assert_eq!(stage.get("index.m3u8?token=ann").await.status, 200);
    }
    let answer = stage.get("index.m3u8?token=ann").await;
    assert_eq!(answer.status, 429);
    assert!(
        answer.text().contains("too_many_sessions"),
        "{}",
        answer.text()
    );
    assert_eq!(stage.get("index.m3u8?token=bob").await.status, 200);
    assert_eq!(stage.broadcast.viewers(std::time::Instant::now()), 4);
}

fn decrypt(key: &[u8], msn: u64, bytes: &[u8]) -> Vec<u8> {
    let key = UnboundCipherKey::new(&AES_128, key).unwrap();
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).unwrap();
    let context = DecryptionContext::Iv128(FixedLength::from(u128::from(msn).to_be_bytes()));
    let mut bytes = bytes.to_vec();
    key.decrypt(&mut bytes, context).unwrap().to_vec()
}

#[tokio::test]
async fn segments_and_parts_are_encrypted_with_keys_that_change() {
    let mut clear = Stage::new(Settings::default()).await;
    clear.play(9_100);
    let settings = Settings {
        segments_per_key: Some(2),
        ..protected()
    };
    let mut stage = Stage::new(settings).await;
    stage.play(9_100);
    let plain_list = clear.playlist_uri("v0.m3u8", "").await;
    let playlist = stage.playlist_uri("v0.m3u8", "?token=ann").await;
    let text = stage.get(&playlist).await.text().to_owned();
    let (mut key, mut keys) = (Vec::new(), 0);
    for line in text.lines() {
        let Some(uri) = uris(line).into_iter().next() else {
            continue;
        };
        let name = uri.split('?').next().unwrap();
        if line.starts_with("#EXT-X-KEY") {
            assert!(line.contains("METHOD=AES-128"));
            key = stage.get(&join(&playlist, &uri)).await.body;
            assert_eq!(key.len(), 16);
            assert_eq!(stage.get(&join(&playlist, name)).await.status, 403);
            keys += 1;
        } else if name.contains("-s") && !line.contains("HINT") {
            let msn = name.split(['-', '.']).nth(1).unwrap()[1..].parse().unwrap();
            let sealed = stage.get(&join(&playlist, &uri)).await.body;
            let plain = get(clear.addr, &clear.path(&join(&plain_list, name)))
                .await
                .body;
            assert_ne!(sealed, plain);
            assert_eq!(decrypt(&key, msn, &sealed), plain, "{name}");
        }
    }
    assert_eq!(keys, 3);
}
