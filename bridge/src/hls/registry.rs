//! Which rooms are broadcast.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::Broadcast;

/// The broadcasts by the names of their rooms.
#[derive(Debug, Default)]
pub struct Registry {
    rooms: RwLock<HashMap<String, Arc<Broadcast>>>,
}

impl Registry {
    /// Lets a room's broadcast be found; the one that was there before is not any more.
    pub fn insert(&self, room: String, broadcast: Arc<Broadcast>) {
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        rooms.insert(room, broadcast);
    }

    /// Forgets a room's broadcast if it is still this one.
    pub fn remove(&self, room: &str, broadcast: &Arc<Broadcast>) {
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        if rooms
            .get(room)
            .is_some_and(|here| Arc::ptr_eq(here, broadcast))
        {
            rooms.remove(room);
        }
    }

    /// The broadcast of a room.
    pub fn get(&self, room: &str) -> Option<Arc<Broadcast>> {
        let rooms = self.rooms.read().unwrap_or_else(PoisonError::into_inner);
        rooms.get(room).cloned()
    }
}
