//! Plenum's media core: rooms, transports and packet forwarding as pure machines.

mod config;
mod ids;
mod io;
mod metrics;
mod peer;
mod publisher;
mod room;
mod rtp;
mod sfu;
pub mod shard;
mod subscriber;

pub use config::Config;
pub use ids::{Mid, ParticipantId, PayloadType, Rid, RoomId, Ssrc, TrackId};
pub use io::{Events, QueueFull, Sfu, StartError};
pub use metrics::{Metric, MetricKind};
pub use peer::dtls::Certificate;
pub use sfu::*;
