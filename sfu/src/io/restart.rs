//! A shard that is made anew when it panics, and what has to be told again then.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::ids::{ParticipantId, RoomId};
use crate::metrics::{Metrics, PanicUnit};
use crate::sfu::{Command, Event, RoomConfig};
use crate::shard::{Shard, ShardOptions};

/// A shard whose panics end its participants and nothing else.
///
/// Smaller units are caught inside the shard; what comes here is a bug in the shard's own code.
pub(super) struct Restartable {
    shard: Shard,
    options: ShardOptions,
    /// What shards before this one have counted.
    before: Metrics,
    rooms: HashMap<RoomId, RoomConfig>,
    participants: HashMap<ParticipantId, RoomId>,
    /// Whom the outside must be told about, after a restart.
    ended: Vec<ParticipantId>,
    restarted: bool,
}

impl Restartable {
    pub(super) fn new(options: ShardOptions) -> Self {
        Self {
            shard: Shard::new(options.clone()),
            options,
            before: Metrics::default(),
            rooms: HashMap::new(),
            participants: HashMap::new(),
            ended: Vec::new(),
            restarted: false,
        }
    }

    /// Calls the shard; `None` when it panicked and is a new one now.
    pub(super) fn call<R>(
        &mut self,
        now: Instant,
        call: impl FnOnce(&mut Shard) -> R,
    ) -> Option<R> {
        // Nothing of the shard is used after a panic but its counters, plain integers.
        match catch_unwind(AssertUnwindSafe(|| call(&mut self.shard))) {
            Ok(result) => Some(result),
            Err(_) => {
                self.restart(now);
                None
            }
        }
    }

    /// Whether a participant is in a room of this shard.
    pub(super) fn has_participant(&self, participant: ParticipantId) -> bool {
        self.participants.contains_key(&participant)
    }

    /// Gives the shard a command and keeps in mind what a new shard would have to know.
    pub(super) fn handle_command(&mut self, now: Instant, command: Command) {
        match &command {
            // A continuation is opened again with the next who joins it.
            Command::CreateRoom { room, config } if self.is_home(*room) => {
                self.rooms.insert(*room, config.clone());
            }
            Command::CloseRoom { room } => {
                self.rooms.remove(room);
                self.participants.retain(|_, of| of != room);
            }
            Command::Join {
                room, participant, ..
            } => {
                self.participants.insert(*participant, *room);
            }
            Command::Leave { participant } => {
                self.participants.remove(participant);
            }
            _ => {}
        }
        self.call(now, |shard| shard.handle_command(now, command));
    }

    fn is_home(&self, room: RoomId) -> bool {
        room.shard() == usize::from(self.options.index)
    }

    /// The shard's next event.
    pub(super) fn poll_event(&mut self, now: Instant) -> Option<Event> {
        if let Some(participant) = self.ended.pop() {
            return Some(Event::ParticipantEnded { participant });
        }
        let event = self.call(now, Shard::poll_event)??;
        if let Event::ParticipantEnded { participant } = &event {
            self.participants.remove(participant);
        }
        Some(event)
    }

    /// What this shard and those before it have counted.
    pub(super) fn metrics(&self) -> Metrics {
        let mut sum = self.before.clone();
        sum.add(self.shard.metrics());
        sum
    }

    /// True once after each restart.
    pub(super) fn take_restarted(&mut self) -> bool {
        std::mem::take(&mut self.restarted)
    }

    fn restart(&mut self, now: Instant) {
        tracing::error!(
            shard = self.options.index,
            "a media shard panicked and is restarted"
        );
        self.before.add_counters(self.shard.metrics());
        self.before.panicked(PanicUnit::Shard);
        // Credentials must not come back under another peer's keys.
        if let Ok(seed) = super::fresh_seed() {
            self.options.seed = seed;
        }
        self.shard = Shard::new(self.options.clone());
        self.ended.extend(
            self.participants
                .drain()
                .map(|(participant, _)| participant),
        );
        self.restarted = true;
        // Rooms are the service's to close; what panics again here ends the room for good.
        for (room, config) in std::mem::take(&mut self.rooms) {
            let create = Command::CreateRoom {
                room,
                config: config.clone(),
            };
            let created = catch_unwind(AssertUnwindSafe(|| self.shard.handle_command(now, create)));
            if created.is_ok() {
                self.rooms.insert(room, config);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::io::fresh_seed;
    use crate::peer::dtls::Certificate;
    use crate::sfu::{JoinOptions, MediaGrants, Wants};
    use crate::shard::Candidates;

    fn restartable(now: Instant) -> Restartable {
        Restartable::new(ShardOptions {
            index: 0,
            config: Arc::new(Config::default()),
            candidates: Candidates {
                udp: Vec::new(),
                tcp: Vec::new(),
            },
            certificate: Arc::new(Certificate::generate()),
            seed: fresh_seed().unwrap(),
            has_seeded_dtls: false,
            started: now,
            ntp_at_start: 0,
        })
    }

    fn join(room: RoomId, number: u64) -> Command {
        let options = JoinOptions {
            identity: number.to_string(),
            grants: MediaGrants::default(),
            wants: Wants::Nothing,
        };
        Command::Join {
            room,
            participant: ParticipantId::new(0, number),
            options,
        }
    }

    #[test]
    fn a_panic_ends_every_participant_and_keeps_the_rooms() {
        let now = Instant::now();
        let mut shard = restartable(now);
        let rooms = [RoomId::new(0, 0), RoomId::new(0, 1)];
        for room in rooms {
            let config = RoomConfig::default();
            shard.handle_command(now, Command::CreateRoom { room, config });
        }
        let continued = RoomId::new(5, 0);
        let config = RoomConfig::default();
        let room = continued;
        shard.handle_command(now, Command::CreateRoom { room, config });
        for number in 0..3 {
            shard.handle_command(now, join(rooms[0], number));
        }
        shard.handle_command(now, join(rooms[1], 3));
        let leaver = ParticipantId::new(0, 2);
        shard.handle_command(
            now,
            Command::Leave {
                participant: leaver,
            },
        );
        shard.handle_command(now, Command::CloseRoom { room: rooms[1] });
        while shard.poll_event(now).is_some() {}
        let seed = shard.options.seed;

        assert_eq!(shard.call(now, |_| panic!("as a bug would")), None::<()>);

        assert!(shard.take_restarted());
        assert!(!shard.take_restarted());
        let mut ended = Vec::new();
        while let Some(event) = shard.poll_event(now) {
            if let Event::ParticipantEnded { participant } = event {
                ended.push(participant);
            }
        }
        ended.sort();
        assert_eq!(ended, [ParticipantId::new(0, 0), ParticipantId::new(0, 1)]);
        assert_eq!(shard.rooms.keys().collect::<Vec<_>>(), [&rooms[0]]);
        assert_eq!(shard.metrics().panics_of(PanicUnit::Shard), 1);
        assert_ne!(shard.options.seed, seed);
        assert_eq!(shard.call(now, |_| 5), Some(5));
    }
}
