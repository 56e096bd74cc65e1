//! HTTP-FLV, read by ffmpeg and by hand.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bridge::flv::{Denied, FlvFeed, Gate, Opened, routes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::programs::{bounded, has, run, sample};

struct House(Arc<FlvFeed>);

#[async_trait]
impl Gate for House {
    async fn open(&self, room: &str, token: Option<&str>) -> Result<Opened, Denied> {
        match (room, token) {
            ("blue", Some("good")) => Ok(Opened {
                feed: Arc::clone(&self.0),
                seat: None,
            }),
            ("blue", Some(_)) => Err(Denied::Forbidden),
            ("blue", None) => Err(Denied::NoToken),
            _ => Err(Denied::NotFound),
        }
    }
}

async fn serve(feed: &Arc<FlvFeed>) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let router = routes(Arc::new(House(Arc::clone(feed))));
    tokio::spawn(async move { axum::serve(socket, router).await });
    address
}

async fn request(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    bounded(stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn ffmpeg_reads_a_program_it_joined_late() {
    if !has(&["ffmpeg"]) {
        return;
    }
    let feed = Arc::new(FlvFeed::new(true, true));
    let address = serve(&feed).await;
    let sample = sample().await;
    let mut frames = sample.repeated();
    // A second and a half is over when it joins.
    for (picture, sound) in frames.by_ref().take(100) {
        picture.iter().for_each(|frame| feed.send_video(frame));
        sound.iter().for_each(|frame| feed.send_audio(frame));
    }
    let url = format!("http://{address}/live/blue.flv?token=good");
    let ffmpeg = tokio::spawn(async move {
        let options = [
            "-v", "error", "-i", &url, "-map", "0:v", "-map", "0:a", "-f", "framecrc", "-",
        ];
        run("ffmpeg", &options).await
    });
    bounded(async {
        while feed.viewers() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for (picture, sound) in frames.take(200) {
        picture.iter().for_each(|frame| feed.send_video(frame));
        sound.iter().for_each(|frame| feed.send_audio(frame));
        tokio::task::yield_now().await;
    }
    feed.end();
    let (is_content, said) = ffmpeg.await.unwrap();
    assert!(is_content, "{said}");
    let lines = |stream: &str| said.lines().filter(|line| line.starts_with(stream)).count();
    assert!(lines("0,") > 70 && lines("1,") > 120, "{said}");
    // Nothing but frames and what describes them: no complaints.
    let is_expected = |line: &str| {
        ["#", "0,", "1,"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    assert!(said.lines().all(is_expected), "{said}");
}

#[tokio::test]
async fn players_are_told_why_not() {
    let feed = Arc::new(FlvFeed::new(true, true));
    let address = serve(&feed).await;
    for (path, status) in [
        ("/live/red.flv?token=good", "404"),
        ("/live/blue", "404"),
        ("/live/.flv", "404"),
        ("/live/blue.flv", "401"),
        ("/live/blue.flv?token=bad", "403"),
    ] {
        let answer = request(address, "GET", path).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{path}: {answer}"
        );
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    let answer = request(address, "HEAD", "/live/blue.flv?token=good").await;
    assert!(answer.contains("content-type: video/x-flv"), "{answer}");
    assert!(
        answer.contains("access-control-allow-origin: *"),
        "{answer}"
    );
    assert_eq!(feed.viewers(), 0);
    feed.end();
    let answer = request(address, "GET", "/live/blue.flv?token=good").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}
