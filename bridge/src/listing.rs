//! What is told of broadcasts, and what of them is shared between their thread and whoever asks.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::broadcast::Shown;
use crate::flv::FlvFeed;
use crate::hls;
use crate::program::Follow;
use crate::recording::RecordingId;
use crate::rtmp::Pusher;

/// Names a broadcast; made by us, and safe in paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BroadcastId(u64);

impl BroadcastId {
    pub(crate) fn new(number: u64) -> Self {
        Self(number)
    }

    /// Reads one that came from outside; `None` when none of ours looks like it.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("b_")?;
        let is_ours = digits.len() == 16
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number = u64::from_str_radix(digits, 16).ok()?;
        is_ours.then_some(Self(number))
    }
}

impl fmt::Display for BroadcastId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b_{:016x}", self.0)
    }
}

/// How a broadcast ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Somebody said so.
    Stopped,
    /// Nobody published for too long.
    Empty,
    /// Its room ended.
    RoomClosed,
    /// A fault of ours.
    Failed,
}

/// How a broadcast is at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is shown.
    pub shown: Shown,
    /// Nobody watches, so nothing is made.
    pub is_paused: bool,
    /// Someone publishes something.
    pub has_publishers: bool,
}

/// A target a broadcast is pushed to.
#[derive(Debug)]
pub struct Target {
    /// Its number in its broadcast.
    pub id: u32,
    /// Where to, without the key.
    pub address: String,
    /// The way there.
    pub pusher: Pusher,
}

/// A broadcast as it is shared.
#[derive(Debug)]
pub struct Listing {
    /// Its id.
    pub id: BroadcastId,
    /// The room's name.
    pub room: String,
    /// Its own name; empty for the room's first.
    pub name: String,
    /// When it began.
    pub started_at: SystemTime,
    /// As HLS.
    pub hls: Option<Arc<hls::Broadcast>>,
    /// As FLV.
    pub flv: Option<Arc<FlvFeed>>,
    /// Its recording.
    pub recording: Option<RecordingId>,
    shared: Mutex<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    follow: Follow,
    progress: Option<Progress>,
    ending: Option<Ending>,
    targets: Vec<Arc<Target>>,
    next_target: u32,
}

impl Listing {
    pub(crate) fn new(
        id: BroadcastId,
        (room, name): (String, String),
        started_at: SystemTime,
        (hls, flv): (Option<Arc<hls::Broadcast>>, Option<Arc<FlvFeed>>),
        recording: Option<RecordingId>,
    ) -> Self {
        Self {
            id,
            room,
            name,
            started_at,
            hls,
            flv,
            recording,
            shared: Mutex::default(),
        }
    }

    /// The path it is served under: `room`, or `room+name`.
    pub fn path(&self) -> String {
        match self.name.as_str() {
            "" => self.room.clone(),
            name => format!("{}+{name}", self.room),
        }
    }

    /// Whose picture it is to show.
    pub fn follow(&self) -> Follow {
        self.shared().follow.clone()
    }

    /// How it is; `None` before it is known.
    pub fn progress(&self) -> Option<Progress> {
        self.shared().progress.clone()
    }

    /// How it ended.
    pub fn ending(&self) -> Option<Ending> {
        self.shared().ending
    }

    /// Where it is pushed to.
    pub fn targets(&self) -> Vec<Arc<Target>> {
        self.shared().targets.clone()
    }

    pub(crate) fn set_follow(&self, follow: Follow) {
        self.shared().follow = follow;
    }

    pub(crate) fn tell(&self, progress: Progress) {
        self.shared().progress = Some(progress);
    }

    pub(crate) fn end(&self, ending: Ending) {
        let mut shared = self.shared();
        shared.ending.get_or_insert(ending);
        shared.targets.clear();
    }

    /// Notes a target; `None` when the broadcast has ended.
    pub(crate) fn add_target(&self, address: String, pusher: Pusher) -> Option<Arc<Target>> {
        let mut shared = self.shared();
        if shared.ending.is_some() {
            return None;
        }
        shared.next_target += 1;
        let target = Arc::new(Target {
            id: shared.next_target,
            address,
            pusher,
        });
        shared.targets.push(Arc::clone(&target));
        Some(target)
    }

    pub(crate) fn remove_target(&self, id: u32) -> bool {
        let mut shared = self.shared();
        let before = shared.targets.len();
        shared.targets.retain(|target| target.id != id);
        shared.targets.len() < before
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_text_form_and_nothing_else_is_one() {
        let id = BroadcastId::new(0xabc);
        assert_eq!(id.to_string(), "b_0000000000000abc");
        assert_eq!(BroadcastId::parse(&id.to_string()), Some(id));
        for text in [
            "",
            "b_",
            "b_abc",
            "b_+000000000000abc",
            "b_0000000000000ABC",
            "t_0000000000000abc",
        ] {
            assert_eq!(BroadcastId::parse(text), None, "{text}");
        }
    }
}
