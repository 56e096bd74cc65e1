//! What a player may ask for, and what nobody may.

use std::io::Read;

use bridge::hls::Settings;
use flate2::read::GzDecoder;

use crate::client::{ask, get, read, send};
use crate::stage::{Stage, join, uris, value};

#[tokio::test]
async fn the_entry_tells_what_there_is() {
    let mut stage = Stage::new(Settings::default()).await;
    stage.play(8_500);
    let index = stage.get("index.m3u8").await;
    assert_eq!(index.status, 200);
    assert_eq!(
        index.header("content-type"),
        "application/vnd.apple.mpegurl"
    );
    assert_eq!(index.header("access-control-allow-origin"), "*");
    let text = index.text();
    let parsed = m3u8_rs::parse_master_playlist_res(text.as_bytes()).unwrap();
    assert_eq!(parsed.variants.len(), 2);
    let top = &parsed.variants[0];
    assert_eq!(top.codecs.as_deref(), Some("avc1.42c01f,opus"));
    assert_eq!(
        top.resolution.map(|size| (size.width, size.height)),
        Some((1280, 720))
    );
    assert_eq!(top.frame_rate, Some(30.0));
    // 30 pictures of 4000 bytes and 50 packets of 100 a second, and boxes.
    assert!(
        (1_000_000..1_120_000).contains(&top.bandwidth),
        "{}",
        top.bandwidth
    );
    let average = top.average_bandwidth.unwrap();
    assert!(average <= top.bandwidth && average > 1_000_000);
    assert_eq!(parsed.alternatives.len(), 1);
    assert_eq!(top.audio.as_deref(), Some("audio"));
}

#[tokio::test]
async fn everything_in_a_playlist_is_there() {
    let mut stage = Stage::new(Settings::default()).await;
    stage.play(9_100);
    for playlist in stage.playlists("").await {
        let answer = stage.get(&playlist).await;
        assert_eq!(answer.header("cache-control"), "public, max-age=1");
        let text = answer.text();
        m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
        for line in text.lines().filter(|line| !line.contains("PRELOAD-HINT")) {
            for uri in uris(line) {
                let answer = stage.get(&join(&playlist, &uri)).await;
                assert_eq!(answer.status, 200, "{uri}");
                if !uri.contains(".m3u8") {
                    assert_eq!(answer.header("content-type"), "video/mp4");
                    assert!(answer.header("cache-control").contains("immutable"));
                    assert_eq!(
                        answer.header("content-length"),
                        answer.body.len().to_string()
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a_segment_is_its_parts() {
    let mut stage = Stage::new(Settings::default()).await;
    stage.play(6_500);
    let playlist = stage.playlist_uri("v0.m3u8", "").await;
    let segment = stage.get(&join(&playlist, "v0-s2.m4s")).await.body;
    let mut parts = Vec::new();
    for index in 0..10 {
        parts.extend(
            stage
                .get(&join(&playlist, &format!("v0-s2-p{index}.m4s")))
                .await
                .body,
        );
    }
    assert_eq!(segment, parts);
}

#[tokio::test]
async fn a_request_is_held_until_the_part_is_there() {
    let mut stage = Stage::new(Settings::default()).await;
    stage.play(5_000);
    let playlist = stage.playlist_uri("v0.m3u8", "").await;
    let text = stage.get(&playlist).await.text().to_owned();
    let hint = value(&text, "TYPE=PART,URI=\"").to_owned();
    let (msn, part) = hint
        .strip_prefix("v0-s")
        .unwrap()
        .strip_suffix(".m4s")
        .unwrap()
        .split_once("-p")
        .unwrap();
    let joint = if playlist.contains('?') { '&' } else { '?' };
    let ask = format!("{playlist}{joint}_HLS_msn={msn}&_HLS_part={part}");
    let held_playlist = send(stage.addr, &format!("GET {}", stage.path(&ask)), &[]).await;
    let held_part = send(
        stage.addr,
        &format!("GET {}", stage.path(&join(&playlist, &hint))),
        &[],
    )
    .await;
    stage.play(400);
    let answer = read(held_playlist).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains(&format!("URI=\"{hint}\"")));
    assert!(answer.text().contains("#EXT-X-PART"));
    assert_eq!(answer.header("cache-control"), "public, max-age=6");
    let part = read(held_part).await;
    assert_eq!(part.status, 200);
    assert!(part.body.windows(4).any(|kind| kind == b"moof"));
}

#[tokio::test]
async fn many_wait_for_the_same() {
    let mut stage = Stage::new(Settings::default()).await;
    stage.play(5_000);
    let playlist = stage.playlist_uri("a.m3u8", "").await;
    let path = stage.path(&format!("{playlist}&_HLS_msn=2&_HLS_part=9"));
    let mut held = Vec::new();
    for _ in 0..50 {
        held.push(send(stage.addr, &format!("GET {path}"), &[]).await);
    }
    stage.play(2_000);
    let mut texts = Vec::new();
    for stream in held {
        texts.push(read(stream).await.body);
    }
    assert!(
        texts
            .iter()
            .all(|text| text.windows(9).any(|part| part == b"a-s2-p9.m"))
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let mut stage = Stage::new(Settings::default()).await;
    stage.play(5_000);
    let playlist = stage.playlist_uri("v0.m3u8", "").await;
    for query in [
        "_HLS_msn=5",
        "_HLS_msn=18446744073709551615",
        "_HLS_msn=2&_HLS_part=40",
        "_HLS_part=1",
        "_HLS_msn=x",
        "_HLS_msn=1&_HLS_msn=1",
    ] {
        let answer = stage.get(&format!("{playlist}&{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    // A part past the last one of a whole segment is the first of the next one.
    assert_eq!(
        stage
            .get(&format!("{playlist}&_HLS_msn=1&_HLS_part=10"))
            .await
            .status,
        200
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told_to_come_again() {
    let mut stage = Stage::new(Settings::default()).await;
    let early = stage.get("index.m3u8").await;
    assert_eq!((early.status, early.header("retry-after")), (503, "1"));
    // Nobody is counted who got nothing.
    assert_eq!(stage.broadcast.viewers(std::time::Instant::now()), 0);
    stage.play(5_000);
    let playlist = stage.playlist_uri("v0.m3u8", "").await;
    let late = stage.get(&format!("{playlist}&_HLS_msn=3")).await;
    assert_eq!((late.status, late.header("retry-after")), (503, "1"));
}

#[tokio::test]
async fn delta_updates_leave_out_what_is_known() {
    let settings = Settings {
        dvr_window: std::time::Duration::from_secs(60),
        ..Settings::default()
    };
    let mut stage = Stage::new(settings).await;
    stage.play(40_000);
    let playlist = stage.playlist_uri("v0.m3u8", "").await;
    let whole = stage.get(&playlist).await.text().to_owned();
    let delta = stage
        .get(&format!("{playlist}&_HLS_skip=YES"))
        .await
        .text()
        .to_owned();
    let skipped: usize = value(&delta, "SKIPPED-SEGMENTS=").parse().unwrap();
    assert!(skipped >= 8, "{skipped}");
    let segments = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("v0-s"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(segments(&whole)[skipped..], segments(&delta));
    // Not while the initialisation segment changes.
    stage.resize(960);
    stage.play(3_000);
    let delta = stage
        .get(&format!("{playlist}&_HLS_skip=YES"))
        .await
        .text()
        .to_owned();
    assert!(!delta.contains("EXT-X-SKIP"));
    assert!(delta.contains("#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"v0-i2.mp4\""));
    // Again when the change is old enough to be left out.
    stage.play(19_000);
    let delta = stage
        .get(&format!("{playlist}&_HLS_skip=YES"))
        .await
        .text()
        .to_owned();
    assert!(
        delta.contains("EXT-X-SKIP") && !delta.contains("v0-i1.mp4"),
        "{delta}"
    );
    assert!(delta.contains("#EXT-X-MAP:URI=\"v0-i2.mp4\""), "{delta}");
}

#[tokio::test]
async fn old_segments_are_served_for_a_while_after_they_were_listed() {
    let mut stage = Stage::new(Settings::default()).await;
    stage.play(20_500);
    let playlist = stage.playlist_uri("v0.m3u8", "").await;
    let text = stage.get(&playlist).await.text().to_owned();
    let first: u64 = value(&text, "MEDIA-SEQUENCE:").parse().unwrap();
    assert_eq!(first, 4);
    for (msn, status) in [(first, 200), (first - 1, 200), (0, 200), (99, 404)] {
        let segment = stage.get(&join(&playlist, &format!("v0-s{msn}.m4s"))).await;
        assert_eq!(segment.status, status, "{msn}");
    }
    stage.play(20_000);
    assert_eq!(stage.get(&join(&playlist, "v0-s0.m4s")).await.status, 404);
}

#[tokio::test]
async fn an_ended_broadcast_says_so_at_once() {
    let mut stage = Stage::new(Settings::default()).await;
    stage.play(5_000);
    let playlist = stage.playlist_uri("v0.m3u8", "").await;
    let held = send(
        stage.addr,
        &format!("GET {}", stage.path(&format!("{playlist}&_HLS_msn=4"))),
        &[],
    )
    .await;
    stage.finish();
    let answer = read(held).await;
    assert!(answer.text().ends_with("#EXT-X-ENDLIST\n"));
    assert!(!answer.text().contains("PRELOAD-HINT"));
    assert_eq!(answer.header("cache-control"), "public, max-age=3600");
}

#[tokio::test]
async fn ranges_heads_and_other_origins() {
    let mut stage = Stage::new(Settings::default()).await;
    stage.play(5_000);
    let playlist = stage.playlist_uri("v0.m3u8", "").await;
    let path = stage.path(&join(&playlist, "v0-s0.m4s"));
    let whole = get(stage.addr, &path).await.body;
    let request = format!("GET {path}");
    let some = ask(stage.addr, &request, &[("Range", "bytes=100-30099")]).await;
    assert_eq!((some.status, &some.body[..]), (206, &whole[100..30_100]));
    assert_eq!(
        some.header("content-range"),
        format!("bytes 100-30099/{}", whole.len())
    );
    let none = ask(stage.addr, &request, &[("Range", "bytes=99999999-")]).await;
    assert_eq!(none.status, 416);
    assert_eq!(
        none.header("content-range"),
        format!("bytes */{}", whole.len())
    );
    let head = ask(stage.addr, &format!("HEAD {path}"), &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), whole.len().to_string());
    let preflight = ask(
        stage.addr,
        &format!("OPTIONS {path}"),
        &[("Origin", "https://a.example")],
    )
    .await;
    assert_eq!(preflight.status, 204);
    assert!(
        preflight
            .header("access-control-allow-headers")
            .contains("Range")
    );
    let post = ask(
        stage.addr,
        &format!("POST {path}"),
        &[("Content-Length", "0")],
    )
    .await;
    assert_eq!(
        (post.status, post.header("allow")),
        (405, "GET, HEAD, OPTIONS")
    );
}

#[tokio::test]
async fn playlists_are_compressed_for_those_who_can() {
    let mut stage = Stage::new(Settings::default()).await;
    stage.play(7_000);
    let playlist = stage.playlist_uri("v0.m3u8", "").await;
    let plain = stage.get(&playlist).await;
    assert_eq!(plain.header("content-encoding"), "");
    let request = format!("GET {}", stage.path(&playlist));
    let gzip = ask(stage.addr, &request, &[("Accept-Encoding", "br, gzip")]).await;
    assert_eq!(gzip.header("content-encoding"), "gzip");
    assert_eq!(gzip.header("vary"), "Accept-Encoding");
    let mut text = String::new();
    GzDecoder::new(&gzip.body[..])
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, plain.text());
    assert!(gzip.body.len() * 3 < text.len());
}

#[tokio::test]
async fn tricks_with_paths_find_nothing() {
    let mut stage = Stage::new(Settings::default()).await;
    stage.play(5_000);
    let playlist = stage.playlist_uri("v0.m3u8", "").await;
    let (id, _) = playlist.split_once('/').unwrap();
    let long = format!("/live/room%201/{id}/{}", "v".repeat(10_000));
    for path in [
        "/live/nobody/index.m3u8",
        "/live/room%25201/index.m3u8",
        "/live/room%201/",
        "/live/room%201/../room%201/index.m3u8",
        "/live/room%201/%2e%2e/index.m3u8",
        "/live/..%2f..%2fetc%2fpasswd/index.m3u8",
        "/live/room%201%00/index.m3u8",
        "/live/%ff/index.m3u8",
        "/live/room%201/index.m3u8%00",
        "/live/room%201/index%2em3u8",
        "/live/room%201/v0.m3u8",
        "/live/room%201/other/v0.m3u8",
        &format!("/live/room%201/{id}/../index.m3u8"),
        &format!("/live/room%201/{id}//v0.m3u8"),
        &format!("/live/room%201/{id}/v0%2em3u8"),
        &format!("/live/room%201/{id}/v0-s00.m4s"),
        &format!("/live/room%201/{id}/v3.m3u8"),
        &format!("/live/room%201/{id}/k0.key"),
        &long,
    ] {
        let answer = get(stage.addr, path).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn memory_has_an_end() {
    let settings = Settings {
        memory_bytes_max: 1_000_000,
        ..Settings::default()
    };
    // Two seconds of the top rung are 240 kB.
    let mut stage = Stage::new(settings).await;
    stage.play(30_000);
    let playlist = stage.playlist_uri("v0.m3u8", "").await;
    let text = stage.get(&playlist).await.text().to_owned();
    let first: u64 = value(&text, "MEDIA-SEQUENCE:").parse().unwrap();
    assert!(first >= 11, "{text}");
    assert!(stage.broadcast.forced_out() > 0);
    assert_eq!(
        stage
            .get(&join(&playlist, &format!("v0-s{first}.m4s")))
            .await
            .status,
        200
    );
    assert_eq!(
        stage
            .get(&join(&playlist, &format!("v0-s{}.m4s", first - 2)))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn who_comes_when_nobody_watched_wakes_the_broadcast() {
    let (woken, mut wakes) = tokio::sync::mpsc::unbounded_channel();
    let wake = Box::new(move || _ = woken.send(()));
    let mut stage = Stage::with(Settings::default(), Some(wake)).await;
    stage.play(5_000);
    let before = stage.playlist_uri("v0.m3u8", "").await;
    stage.packager.pause();
    stage.publish();
    stage.broadcast.set_asleep();
    let held = send(
        stage.addr,
        &format!("GET {}", stage.path("index.m3u8")),
        &[],
    )
    .await;
    wakes.recv().await.unwrap();
    stage.play(5_000);
    let index = read(held).await;
    assert_eq!(index.status, 200);
    let text = stage.get(&before).await.text().to_owned();
    assert_eq!(value(&text, "MEDIA-SEQUENCE:"), "3");
    assert!(text.contains("#EXT-X-DISCONTINUITY\n"));
    assert!(wakes.try_recv().is_err(), "woken once");
}

#[tokio::test]
async fn viewers_are_counted_by_their_sessions() {
    let mut stage = Stage::new(Settings::default()).await;
    stage.play(5_000);
    for _ in 0..3 {
        let playlist = stage.playlist_uri("v0.m3u8", "").await;
        stage.get(&playlist).await;
        stage.get(&playlist).await;
    }
    let now = std::time::Instant::now();
    assert_eq!(stage.broadcast.viewers(now), 3);
    assert!(stage.broadcast.has_viewers(now));
    let later = now + std::time::Duration::from_secs(10);
    assert_eq!(stage.broadcast.viewers(later), 0);
    assert!(!stage.broadcast.has_viewers(later));
}
