//! Plenum's media core: rooms, transports and packet forwarding as pure machines.

pub mod config;
pub mod ids;
pub mod sfu;
