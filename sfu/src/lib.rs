//! Plenum's media core: rooms, transports and packet forwarding as pure machines.

pub mod config;
pub mod ids;
mod io;
pub mod metrics;
pub mod sfu;
pub mod shard;

pub use io::{Events, QueueFull, Sfu, StartError};
