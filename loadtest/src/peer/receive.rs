//! The tasks that take in what a peer receives: tracks into receptions, channels into messages.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::PeerConnection;

use super::{ChannelMessage, Media};
use crate::observed::Observed;
use crate::reception::Header;

/// Keeps the messages of one channel.
pub(super) async fn receive_messages(
    label: String,
    channel: Arc<dyn DataChannel>,
    media: Arc<Observed<Media>>,
) {
    while let Some(event) = channel.poll().await {
        match event {
            DataChannelEvent::OnOpen => {
                media.update(|media| media.channels.push(label.clone()));
            }
            DataChannelEvent::OnMessage(message) => {
                let bytes = message.data.freeze();
                let message = ChannelMessage {
                    channel: label.clone(),
                    bytes,
                };
                media.update(|media| media.messages.push(message));
            }
            DataChannelEvent::OnClose => {
                media.update(|media| media.channels.retain(|open| *open != label));
            }
            _ => {}
        }
    }
}

/// The tasks that read tracks, ended together with the one that started them.
#[derive(Default)]
struct Readers(Vec<AbortHandle>);

impl Drop for Readers {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// Starts a reader for each track that opens.
pub(super) async fn receive_tracks(
    connection: Arc<dyn PeerConnection>,
    mut opened: mpsc::UnboundedReceiver<Arc<dyn TrackRemote>>,
    media: Arc<Observed<Media>>,
) {
    let mut readers = Readers::default();
    while let Some(track) = opened.recv().await {
        let mid = mid_of(&*connection, &track)
            .await
            .unwrap_or_else(|| "?".to_owned());
        let reader = tokio::spawn(receive_track(mid, track, media.clone()));
        readers.0.push(reader.abort_handle());
    }
}

async fn mid_of(connection: &dyn PeerConnection, track: &Arc<dyn TrackRemote>) -> Option<String> {
    for transceiver in connection.get_transceivers().await {
        if let Ok(Some(receiver)) = transceiver.receiver().await
            && Arc::ptr_eq(receiver.track(), track)
        {
            return transceiver.mid().await.ok().flatten();
        }
    }
    None
}

async fn receive_track(mid: String, track: Arc<dyn TrackRemote>, media: Arc<Observed<Media>>) {
    while let Some(event) = track.poll().await {
        let TrackRemoteEvent::OnRtpPacket(packet) = event else {
            continue;
        };
        let header = Header {
            ssrc: packet.header.ssrc,
            sequence: packet.header.sequence_number,
            timestamp: packet.header.timestamp,
            payload_type: packet.header.payload_type,
        };
        let now = Instant::now();
        media.update(|media| {
            media
                .receptions
                .entry(mid.clone())
                .or_default()
                .record(now, header, &packet.payload);
        });
    }
}
