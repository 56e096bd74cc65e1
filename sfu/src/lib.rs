//! Plenum's media core: rooms, transports and packet forwarding as pure machines.
#![allow(dead_code, reason = "parts land one after the other")]

pub mod config;
pub mod ids;
mod peer;
mod publisher;
mod rtp;
pub mod sfu;
mod subscriber;
