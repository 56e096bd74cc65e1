//! Data channel messages to the participants of a room.

use std::time::Instant;

use bytes::Bytes;

use crate::ids::{ParticipantId, RoomId};
use crate::metrics::DropReason;
use crate::peer::sctp::SendError;
use crate::sfu::{DataChannel, Event};
use crate::shard::Shard;

impl Shard {
    /// Who gets a data message.
    pub(super) fn receivers(
        &self,
        room: RoomId,
        to: Option<&[ParticipantId]>,
        except: Option<ParticipantId>,
    ) -> Vec<usize> {
        let key = self.room_keys.get(&room);
        let Some(room) = key.and_then(|key| self.rooms.get(*key)) else {
            return Vec::new();
        };
        let is_meant = |key: &usize| {
            let participant = self.peers.get(*key).map(|peer| peer.participant);
            participant.is_some_and(|id| to.is_none_or(|to| to.contains(&id)) && except != Some(id))
        };
        room.peers.iter().copied().filter(is_meant).collect()
    }

    /// Sends one data message, or says that it cannot be sent that way.
    pub(super) fn send_data(
        &mut self,
        now: Instant,
        key: usize,
        channel: DataChannel,
        message: &Bytes,
    ) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let sent = match &mut peer.transport {
            Some(transport) => transport.send_data(channel, message),
            None => Err(SendError::NotOpen),
        };
        let participant = peer.participant;
        match sent {
            Ok(()) => self.drain_transport(now, key),
            Err(SendError::NotOpen) => {
                let message = message.clone();
                self.events.push_back(Event::DataUndelivered {
                    participant,
                    message,
                });
            }
            Err(_) => self.metrics.dropped(DropReason::QueueFull),
        }
    }
}
