//! Plenum's media core: rooms, transports and packet forwarding as pure machines.
#![allow(
    dead_code,
    unused_imports,
    reason = "the wire formats are used by the peers that land next"
)]

pub mod config;
pub mod ids;
mod peer;
mod rtp;
pub mod sfu;
