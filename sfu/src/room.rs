//! A room: who is in it, where each track's packets go, who speaks, and what its program is.

pub(crate) mod speakers;

use crate::ids::RoomId;
use crate::room::speakers::Speakers;
use crate::sfu::RoomConfig;

/// Where a track's packets go. A closed set: what else receives a track becomes a variant here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// A receive slot of a peer of this shard.
    Subscription {
        /// Key of the peer.
        peer: usize,
        /// Index of its slot.
        slot: usize,
    },
    /// Mirrors of the track on another shard, all of that shard's subscribers at once.
    Cascade {
        /// Which shard.
        shard: u16,
        /// What it wants of the track; encodings are bits, never none.
        encodings: u8,
    },
}

/// One room of a shard. Peers and tracks are keys of the shard's slabs.
pub(crate) struct Room {
    pub(crate) id: RoomId,
    pub(crate) config: RoomConfig,
    /// Everyone here, oldest first.
    pub(crate) peers: Vec<usize>,
    /// Every published track, oldest first.
    pub(crate) tracks: Vec<usize>,
    pub(crate) speakers: Speakers,
    /// Other shards on which it is open.
    pub(crate) parts: Vec<u16>,
    routes: Vec<Vec<Sink>>,
    free_routes: Vec<usize>,
}

impl Room {
    pub(crate) fn new(id: RoomId, config: RoomConfig) -> Self {
        Self {
            id,
            config,
            peers: Vec::new(),
            tracks: Vec::new(),
            speakers: Speakers::default(),
            parts: Vec::new(),
            routes: Vec::new(),
            free_routes: Vec::new(),
        }
    }

    /// Opens a route for a new track: the number under which its sinks are listed.
    pub(crate) fn open_route(&mut self) -> usize {
        self.free_routes.pop().unwrap_or_else(|| {
            self.routes.push(Vec::new());
            self.routes.len() - 1
        })
    }

    /// Ends a track's route; its sinks are forgotten.
    pub(crate) fn close_route(&mut self, route: usize) {
        if let Some(sinks) = self.routes.get_mut(route) {
            sinks.clear();
            self.free_routes.push(route);
        }
    }

    /// Who wants the packets of a route. Called once per packet.
    pub(crate) fn sinks(&self, route: usize) -> &[Sink] {
        self.routes.get(route).map_or(&[], Vec::as_slice)
    }

    /// Adds a sink; adding it again changes nothing.
    pub(crate) fn add_sink(&mut self, route: usize, sink: Sink) {
        if let Some(sinks) = self.routes.get_mut(route)
            && !sinks.contains(&sink)
        {
            sinks.push(sink);
        }
    }

    /// Lets another shard have these encodings of a track and no others; true when it had none before.
    pub(crate) fn set_cascade(&mut self, route: usize, to: u16, encodings: u8) -> bool {
        let Some(sinks) = self.routes.get_mut(route) else {
            return false;
        };
        let is_it = |sink: &Sink| matches!(sink, Sink::Cascade { shard, .. } if *shard == to);
        let before = sinks.len();
        sinks.retain(|sink| !is_it(sink));
        let is_new = sinks.len() == before;
        if encodings != 0 {
            // In front: the other shard can begin while this one serves its own subscribers.
            let shard = to;
            sinks.insert(0, Sink::Cascade { shard, encodings });
        }
        is_new && encodings != 0
    }

    /// The shards that have something of a track.
    pub(crate) fn cascades(&self, route: usize) -> impl Iterator<Item = u16> {
        self.sinks(route).iter().filter_map(|sink| match sink {
            Sink::Cascade { shard, .. } => Some(*shard),
            Sink::Subscription { .. } => None,
        })
    }

    /// Removes a sink, if it is there.
    pub(crate) fn remove_sink(&mut self, route: usize, sink: Sink) {
        if let Some(sinks) = self.routes.get_mut(route) {
            sinks.retain(|listed| *listed != sink);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_one_sink_whatever_it_wants() {
        let mut room = Room::new(RoomId::new(0, 1), RoomConfig::default());
        let route = room.open_route();
        let subscription = Sink::Subscription { peer: 1, slot: 2 };
        room.add_sink(route, subscription);
        assert!(room.set_cascade(route, 3, 0b001));
        assert!(!room.set_cascade(route, 3, 0b101));
        let cascade = Sink::Cascade {
            shard: 3,
            encodings: 0b101,
        };
        assert_eq!(room.sinks(route), [cascade, subscription]);
        assert_eq!(room.cascades(route).collect::<Vec<_>>(), [3]);
        assert!(!room.set_cascade(route, 3, 0));
        assert!(!room.set_cascade(route, 4, 0));
        assert_eq!(room.sinks(route), [subscription]);
    }

    #[test]
    fn a_route_lists_each_sink_once_and_is_empty_when_reused() {
        let mut room = Room::new(RoomId::new(0, 1), RoomConfig::default());
        let route = room.open_route();
        let sink = Sink::Subscription { peer: 1, slot: 2 };
        room.add_sink(route, sink);
        room.add_sink(route, sink);
        assert_eq!(room.sinks(route), [sink]);
        room.close_route(route);
        assert_eq!(room.open_route(), route);
        assert_eq!(room.sinks(route), []);
        assert_eq!(room.sinks(99), []);
    }
}
