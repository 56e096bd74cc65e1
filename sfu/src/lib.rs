//! Plenum's media core: rooms, transports and packet forwarding as pure machines.

#![allow(
    dead_code,
    reason = "the shard that drives these parts is not there yet"
)]

pub mod config;
pub mod ids;
mod peer;
pub mod sfu;
