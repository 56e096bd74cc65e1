//! Plenum's media core: rooms, transports and packet forwarding as pure machines.
#![allow(dead_code)]

pub mod config;
pub mod ids;
mod publisher;
mod rtp;
pub mod sfu;
mod subscriber;
