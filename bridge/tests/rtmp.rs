//! RTMP and HTTP-FLV over real sockets, with ffmpeg and nginx at the other end.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests with real programs run on the real clock"
)]

#[path = "rtmp/flv.rs"]
mod flv;
#[path = "rtmp/ingest.rs"]
mod ingest;
#[path = "rtmp/programs.rs"]
mod programs;
#[path = "rtmp/push.rs"]
mod push;
#[path = "rtmp/service.rs"]
mod service;
