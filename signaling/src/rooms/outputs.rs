//! Carries out what a room wants done: commands to its shard, texts to its sockets.

use serde_json::json;
use sfu::Command;

use super::Rooms;
use super::cell::{BACKLOG_MAX, Occupied};
use crate::room::{Notice, Output, Room};
use crate::webhooks::{data_of, kind_of};

impl Rooms {
    pub(super) fn carry_out(&self, occupied: &mut Occupied) {
        self.send_backlog(occupied);
        while let Some(output) = occupied.room.poll_output() {
            match output {
                Output::Command(command) => self.command(occupied, command),
                Output::Message { participant, text } => {
                    if let Some(outbox) = occupied.sockets.get(&participant)
                        && !outbox.push(text)
                    {
                        self.metrics.slow_consumers.inc();
                    }
                }
                Output::Speakers {
                    participant,
                    levels,
                } => {
                    if let Some(outbox) = occupied.sockets.get(&participant) {
                        outbox.push_speakers(&levels);
                    }
                }
                Output::Close { participant, code } => {
                    if let Some(outbox) = occupied.sockets.get(&participant) {
                        outbox.close(code);
                    }
                }
                Output::Answered {
                    participant,
                    answer,
                } => {
                    if let Some(waiting) = occupied.answers.remove(&participant) {
                        waiting.send(answer).ok();
                    }
                }
                Output::IceRestarted {
                    participant,
                    fragment,
                } => {
                    if let Some(waiting) = occupied.fragments.remove(&participant) {
                        waiting.send(fragment).ok();
                    }
                }
                Output::Notice(notice) => self.tell(&occupied.room, &notice),
                Output::Gone { participant } => {
                    occupied.forget(participant);
                    tracing::info!(%participant, "left");
                    self.directory().by_participant.remove(&participant);
                }
            }
        }
    }

    /// Tells an application, if one wants to know.
    fn tell(&self, room: &Room, notice: &Notice) {
        if let Some(webhooks) = &self.webhooks {
            let about = || json!({ "id": room.id().to_string(), "name": room.name() });
            webhooks.tell(kind_of(notice), room.name(), || data_of(notice, about()));
        }
    }

    pub(super) fn command(&self, occupied: &mut Occupied, command: Command) {
        if occupied.backlog.is_empty() && self.sfu.send(command.clone()).is_ok() {
            return;
        }
        self.metrics.commands_deferred.inc();
        if occupied.backlog.len() < BACKLOG_MAX {
            occupied.backlog.push_back(command);
        } else {
            self.metrics.commands_dropped.inc();
        }
    }

    fn send_backlog(&self, occupied: &mut Occupied) {
        while let Some(command) = occupied.backlog.front() {
            if self.sfu.send(command.clone()).is_err() {
                return;
            }
            occupied.backlog.pop_front();
        }
    }
}
