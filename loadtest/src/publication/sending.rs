//! The task that sends one publication, frame by frame.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rtc::rtp;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;

use super::{Controls, Layer, TrackOptions};
use crate::wire::Wire;

/// The sending of one publication.
pub(crate) struct Sending {
    pub(super) mid: String,
    /// Of the mid, the rid and the audio level extension.
    pub(super) ids: (Option<u8>, Option<u8>, Option<u8>),
    pub(super) options: TrackOptions,
    pub(super) controls: Arc<Controls>,
    pub(super) track: Arc<TrackLocalStaticRTP>,
    pub(super) layers: Vec<Layer>,
    pub(super) wire: Arc<Wire>,
}

impl Sending {
    /// Sends a frame of every layer at each tick, until it is dropped.
    pub(crate) async fn run(mut self) {
        let ssrcs: Vec<u32> = self.layers.iter().map(|layer| layer.ssrc).collect();
        let period = if self.options.codec.is_video() {
            33_333
        } else {
            20_000
        };
        let mut ticks = tokio::time::interval(Duration::from_micros(period));
        loop {
            ticks.tick().await;
            if self.controls.paused.load(Ordering::Relaxed) {
                self.skip();
                continue;
            }
            let asked = self.wire.take_keyframe_request(&ssrcs);
            self.send(asked).await;
            self.controls.frames.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The media clock runs on while nothing is sent.
    fn skip(&mut self) {
        for layer in &mut self.layers {
            layer.timestamp = layer
                .timestamp
                .wrapping_add(self.options.codec.frame_ticks());
        }
    }

    async fn send(&mut self, asked: bool) {
        let stopped = self.controls.stopped_layers.load(Ordering::Relaxed);
        let every = self.options.keyframe_every;
        for (index, layer) in self.layers.iter_mut().enumerate() {
            layer.timestamp = layer
                .timestamp
                .wrapping_add(self.options.codec.frame_ticks());
            if stopped >> index & 1 == 1 {
                continue;
            }
            let number = layer.encoder.frames();
            let due = number == 0 || every > 0 && number.is_multiple_of(every);
            for payload in layer
                .encoder
                .frame(self.options.codec.is_video() && (asked || due))
            {
                let mut header = rtp::Header {
                    version: 2,
                    marker: payload.marker,
                    payload_type: self.options.codec.payload_type(),
                    sequence_number: layer.sequence,
                    timestamp: layer.timestamp,
                    ssrc: layer.ssrc,
                    ..rtp::Header::default()
                };
                layer.sequence = layer.sequence.wrapping_add(1);
                let level = self.controls.audio_level.load(Ordering::Relaxed);
                let marks = [
                    (self.ids.0, Bytes::from(self.mid.clone())),
                    (
                        self.ids.1.filter(|_| layer.rid.is_some()),
                        rid_bytes(layer.rid),
                    ),
                    (self.ids.2, Bytes::from(vec![level | 0x80])),
                ];
                for (id, bytes) in marks {
                    if let Some(id) = id {
                        let _ = header.set_extension(id, bytes);
                    }
                }
                let packet = rtp::Packet {
                    header,
                    payload: payload.bytes.into(),
                };
                if self.track.write_rtp(packet).await.is_err() {
                    self.controls.failures.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

fn rid_bytes(rid: Option<&'static str>) -> Bytes {
    Bytes::from_static(rid.unwrap_or_default().as_bytes())
}
