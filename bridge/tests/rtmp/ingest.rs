//! ffmpeg and others publish.

use std::sync::Arc;

use bridge::media::AudioCodec;
use bridge::rtmp::{ListenerSettings, Media, PushError, Refusal};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::programs::{SOURCES, bounded, has, run, start, words};
use crate::service::Service;

const BASELINE: &str =
    "-c:v libx264 -profile:v baseline -preset ultrafast -tune zerolatency -g 25 -pix_fmt yuv420p";
const AAC: &str = "-c:a aac -ar 44100 -ac 1";

async fn service() -> Service {
    Service::start(ListenerSettings::default(), None).await
}

fn publish(options: &str, url: &str) -> Vec<String> {
    let text = format!("{SOURCES} {options} -t 3 -f flv");
    words(&text)
        .into_iter()
        .map(str::to_owned)
        .chain([url.to_owned()])
        .collect()
}

/// Times of pictures.
fn pictures(media: &[Media]) -> Vec<(i64, bool)> {
    let pictures = media.iter().filter_map(|media| match media {
        Media::Video { dts_ms, is_key, .. } => Some((*dts_ms, *is_key)),
        _ => None,
    });
    pictures.collect()
}

#[tokio::test]
async fn ffmpeg_publishes_without_a_gap() {
    if !has(&["ffmpeg"]) {
        return;
    }
    let mut service = service().await;
    let ffmpeg = publish(&format!("{BASELINE} {AAC}"), &service.url("blue", "good"));
    let ffmpeg = tokio::spawn(async move { run("ffmpeg", &ffmpeg).await });
    let guest = service.guest().await;
    assert_eq!(guest.request.room, "blue");
    let media = guest.all().await;
    assert_eq!(ffmpeg.await.unwrap(), (true, String::new()));

    let video = media.iter().find_map(|media| match media {
        Media::VideoConfig(config) => Some(config),
        _ => None,
    });
    assert_eq!(
        video.map(|config| (config.width, config.height)),
        Some((320, 240))
    );
    let audio = media.iter().find_map(|media| match media {
        Media::AudioConfig(config) => Some(config),
        _ => None,
    });
    let audio = audio.map(|config| (config.codec, config.sample_rate, config.channels));
    assert_eq!(audio, Some((AudioCodec::Aac, 44_100, 1)));
    // ffmpeg makes room for the first packet of AAC, which lies before the sound.
    let first = pictures(&media)[0].0;
    assert!((0..=24).contains(&first), "{first}");
    let expected: Vec<_> = (0..75)
        .map(|place| (first + place * 40, place % 25 == 0))
        .collect();
    assert_eq!(pictures(&media), expected);
    let sounds: Vec<_> = media
        .iter()
        .filter_map(|media| match media {
            Media::Audio { dts_ms, .. } => Some(*dts_ms),
            _ => None,
        })
        .collect();
    assert!(
        sounds.len() >= 129,
        "{} sounds of 23.2 ms in 3 s",
        sounds.len()
    );
    assert!(
        sounds
            .windows(2)
            .all(|two| (22..=25).contains(&(two[1] - two[0]))),
        "{sounds:?}"
    );
    assert!(!media.contains(&Media::BFrames));
    let says_ffmpeg = media.iter().any(|media| matches!(media,
        Media::Metadata(said) if said.encoder.as_deref().is_some_and(|name| name.starts_with("Lavf"))));
    assert!(says_ffmpeg);
    assert_eq!(service.count("plenum_rtmp_frames_total", Some("video")), 75);
}

#[tokio::test]
async fn b_frames_are_detected_and_the_encoder_is_told() {
    if !has(&["ffmpeg"]) {
        return;
    }
    let mut service = service().await;
    let options =
        format!("-c:v libx264 -profile:v main -bf 2 -preset veryfast -pix_fmt yuv420p {AAC}");
    let ffmpeg = publish(&options, &service.url("blue", "good"));
    let ffmpeg = tokio::spawn(async move { run("ffmpeg", &ffmpeg).await });
    let mut guest = service.guest().await;
    while bounded(guest.media.recv()).await.unwrap() != Media::BFrames {}
    let _ = guest.end.send(Refusal::b_frames());
    while bounded(guest.media.recv()).await.is_some() {}
    bounded(ffmpeg).await.unwrap();
    assert_eq!(service.count("plenum_rtmp_ended_total", Some("refused")), 1);
}

#[tokio::test]
async fn ffmpeg_publishes_with_tls() {
    if !has(&["ffmpeg"]) {
        return;
    }
    let tls = TlsAcceptor::from(certificate(&["localhost".to_owned()]).0);
    let mut service = Service::start(ListenerSettings::default(), Some(tls)).await;
    let url = service.url("blue", "good").replace("rtmp://", "rtmps://");
    let ffmpeg = publish(&format!("{BASELINE} -an"), &url);
    let ffmpeg = tokio::spawn(async move { run("ffmpeg", &ffmpeg).await });
    let media = service.guest().await.all().await;
    assert_eq!(pictures(&media).len(), 75);
    assert_eq!(ffmpeg.await.unwrap(), (true, String::new()));
}

#[tokio::test]
async fn ffmpeg_is_told_why_it_may_not_publish() {
    if !has(&["ffmpeg"]) {
        return;
    }
    let service = service().await;
    let ffmpeg = publish(&format!("{BASELINE} {AAC}"), &service.url("blue", "bad"));
    let (is_content, said) = run("ffmpeg", &ffmpeg).await;
    assert!(
        !is_content && said.contains("the token is not the one"),
        "{said}"
    );
    assert_eq!(service.count("plenum_rtmp_frames_total", Some("video")), 0);
}

#[tokio::test]
async fn a_second_encoder_is_refused_until_the_first_is_gone() {
    let mut service = service().await;
    let first = service.publish("blue", "good").await.unwrap();
    let guest = service.guest().await;
    let refused = service.publish("blue", "good").await.unwrap_err();
    assert!(
        matches!(refused, PushError::Refused(said) if said.contains("somebody publishes there"))
    );
    service.publish("red", "good").await.unwrap();
    drop(first);
    assert_eq!(guest.all().await, []);
    service.publish("blue", "good").await.unwrap();
}

#[tokio::test]
async fn who_guesses_keys_is_not_listened_to() {
    let service = service().await;
    for _ in 0..10 {
        let refused = service.publish("blue", "guess").await.unwrap_err();
        assert!(matches!(refused, PushError::Unauthorised(_)), "{refused}");
    }
    assert_eq!(
        service.publish("blue", "good").await.unwrap_err(),
        PushError::Closed
    );
    assert_eq!(
        service.count("plenum_rtmp_refused_total", Some("failures")),
        1
    );
}

#[tokio::test]
async fn connections_are_limited_by_source() {
    let settings = ListenerSettings {
        connections_per_source_max: 2,
        ..Default::default()
    };
    let mut service = Service::start(settings, None).await;
    let first = service.publish("blue", "good").await.unwrap();
    let _guest = service.guest().await;
    let _second = service.publish("red", "good").await.unwrap();
    let _other = service.guest().await;
    assert_eq!(
        service.publish("green", "good").await.unwrap_err(),
        PushError::Closed
    );
    drop(first);
    // Its place is free once the server has noticed.
    let again = async {
        loop {
            if let Ok(stream) = service.publish("green", "good").await {
                return stream;
            }
        }
    };
    bounded(again).await;
}

#[tokio::test]
async fn a_room_that_ends_ends_its_encoder() {
    if !has(&["ffmpeg"]) {
        return;
    }
    let mut service = service().await;
    let options = format!("-re {SOURCES} {BASELINE} {AAC} -f flv");
    let url = service.url("blue", "good");
    let arguments: Vec<_> = words(&options).into_iter().chain([url.as_str()]).collect();
    let ffmpeg = start("ffmpeg", &arguments);
    let mut guest = service.guest().await;
    while !matches!(bounded(guest.media.recv()).await, Some(Media::Video { .. })) {}
    drop(guest.media);
    let output = bounded(ffmpeg.wait_with_output()).await.unwrap();
    assert!(!output.status.success());
}

/// A certificate for these names, and how a server shows it.
pub(crate) fn certificate(names: &[String]) -> (Arc<ServerConfig>, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let certificate = made.cert.der().clone();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    (Arc::new(config), certificate)
}
