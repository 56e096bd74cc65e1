//! Plenum's media core: rooms, transports and packet forwarding as pure machines.

mod config;
mod ids;
mod io;
mod sfu;

pub use config::Config;
pub use ids::{Mid, ParticipantId, PayloadType, Rid, RoomId, Ssrc, TrackId};
pub use io::{Events, Metric, MetricKind, QueueFull, Sfu, StartError};
pub use sfu::*;
