//! Messages among participants, over data channels or over the signaling socket.

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sfu::{Command, DataChannel, ParticipantId};

use super::Room;
use crate::message::{DataHeader, DataMessage, ServerEvent};

/// A whole message, header included.
pub(crate) const DATA_BYTES_MAX: usize = 64 << 10;
const TOPIC_BYTES_MAX: usize = 128;
const RECEIVERS_MAX: usize = 1024;

impl Room {
    /// Passes on what came in over a data channel; what is malformed or not allowed is dropped, as
    /// there is nobody to tell.
    pub(super) fn handle_data(
        &mut self,
        now: Instant,
        sender: ParticipantId,
        channel: DataChannel,
        message: &Bytes,
    ) {
        let rate = self.limits.data;
        let Some(session) = self.sessions.get_mut(&sender) else {
            return;
        };
        if !session.grants.media.publish_data || session.data.take(now, rate).is_err() {
            return;
        }
        let Some((header, payload)) = split(message) else {
            return;
        };
        if check_header(&header).is_ok() {
            self.forward_data(sender, header, channel, &payload);
        }
    }

    /// Stamps a message with its sender and hands it to the core.
    pub(super) fn forward_data(
        &mut self,
        sender: ParticipantId,
        header: DataHeader,
        channel: DataChannel,
        payload: &Bytes,
    ) {
        let Some(session) = self.sessions.get(&sender) else {
            return;
        };
        let stamped = DataHeader {
            to: None,
            from: Some(session.identity.clone()),
            topic: header.topic,
        };
        let to = header.to.map(|identities| {
            let known = identities
                .iter()
                .filter_map(|identity| self.identities.get(identity));
            let mut ids: Vec<_> = known.copied().collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        });
        if to.as_ref().is_some_and(Vec::is_empty) {
            return;
        }
        // Naming oneself is allowed: an echo. Otherwise the sender gets no copy.
        let except = to.is_none().then_some(sender);
        if let Some(message) = join(&stamped, payload) {
            let room = self.id;
            self.command(Command::SendData {
                room,
                to,
                except,
                channel,
                message,
            });
        }
    }

    /// Sends over the socket what could not go over a data channel.
    pub(super) fn handle_undelivered(&mut self, receiver: ParticipantId, message: &Bytes) {
        let Some((header, payload)) = split(message) else {
            return;
        };
        let Some(from) = header.from else { return };
        let (data, data64) = match String::from_utf8(payload.to_vec()) {
            Ok(text) => (Some(text), None),
            Err(_) => (None, Some(STANDARD.encode(&payload))),
        };
        let event = DataMessage {
            from,
            topic: header.topic,
            data,
            data64,
        };
        self.tell(receiver, ServerEvent::Data(event));
    }
}

/// The payload of a `send`; `None` when it has both forms, none, or no base64.
pub(super) fn payload(text: Option<String>, base64: Option<&str>) -> Option<Vec<u8>> {
    match (text, base64) {
        (Some(text), None) => Some(text.into_bytes()),
        (None, Some(base64)) => STANDARD.decode(base64).ok(),
        _ => None,
    }
}

/// Checks what a client put into a header.
pub(super) fn check_header(header: &DataHeader) -> Result<(), &'static str> {
    if header.topic.len() > TOPIC_BYTES_MAX {
        return Err("a topic is at most 128 bytes");
    }
    if header
        .to
        .as_ref()
        .is_some_and(|to| to.len() > RECEIVERS_MAX)
    {
        return Err("at most 1024 receivers can be named");
    }
    Ok(())
}

/// Takes a message apart: `u16` length in network order, JSON of that length, payload.
fn split(message: &Bytes) -> Option<(DataHeader, Bytes)> {
    if message.len() > DATA_BYTES_MAX {
        return None;
    }
    let (length, rest) = message.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let header = serde_json::from_slice(rest.get(..length)?).ok()?;
    Some((header, message.slice(2 + length..)))
}

/// Puts a message together; `None` when it would be too large with its new header.
fn join(header: &DataHeader, payload: &[u8]) -> Option<Bytes> {
    let json = serde_json::to_vec(header).ok()?;
    let length = u16::try_from(json.len()).ok()?;
    let mut message = Vec::with_capacity(2 + json.len() + payload.len());
    message.extend(length.to_be_bytes());
    message.extend(json);
    message.extend(payload);
    (message.len() <= DATA_BYTES_MAX).then(|| Bytes::from(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_truncation_and_length_is_survived() {
        let header = DataHeader {
            topic: "chat".to_owned(),
            ..DataHeader::default()
        };
        let whole = join(&header, b"payload").unwrap();
        assert_eq!(
            split(&whole),
            Some((header, Bytes::from_static(b"payload")))
        );
        let header_end = whole.len() - b"payload".len();
        for end in 0..whole.len() {
            assert_eq!(
                split(&whole.slice(..end)).is_some(),
                end >= header_end,
                "cut at {end}"
            );
        }
        for length in 0..=u16::MAX {
            let mut forged = whole.to_vec();
            forged[..2].copy_from_slice(&length.to_be_bytes());
            let right = usize::from(length) == header_end - 2;
            assert_eq!(
                split(&Bytes::from(forged)).is_some(),
                right,
                "length {length}"
            );
        }
    }

    #[test]
    fn messages_of_more_than_64_kib_are_dropped() {
        let header = DataHeader::default();
        let json = serde_json::to_vec(&header).unwrap().len();
        let fits = vec![0; DATA_BYTES_MAX - 2 - json];
        assert!(join(&header, &fits).is_some());
        assert!(join(&header, &[fits.as_slice(), &[0]].concat()).is_none());
        assert_eq!(split(&Bytes::from(vec![0; DATA_BYTES_MAX + 1])), None);
    }
}
