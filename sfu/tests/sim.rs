//! Whole rooms on a virtual clock: browsers written independently of the core, a seeded lossy network
//! between them and one shard, and a checker that watches every byte the shard sends.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::too_many_arguments,
    clippy::too_many_lines,
    reason = "a test fails by panicking, and its numbers are small"
)]

#[path = "sim/annex.rs"]
mod annex;
#[path = "sim/attacks.rs"]
mod attacks;
#[path = "sim/beginning.rs"]
mod beginning;
#[path = "sim/browser.rs"]
mod browser;
#[path = "sim/cascade.rs"]
mod cascade;
#[path = "sim/channels.rs"]
mod channels;
#[path = "sim/chaos.rs"]
mod chaos;
#[path = "sim/checker.rs"]
mod checker;
#[path = "sim/clocks.rs"]
mod clocks;
#[path = "sim/joining.rs"]
mod joining;
#[path = "sim/layers.rs"]
mod layers;
#[path = "sim/leaving.rs"]
mod leaving;
#[path = "sim/limits.rs"]
mod limits;
#[path = "sim/losing.rs"]
mod losing;
#[path = "sim/media.rs"]
mod media;
#[path = "sim/network.rs"]
mod network;
#[path = "sim/offer.rs"]
mod offer;
#[path = "sim/receiver.rs"]
mod receiver;
#[path = "sim/rtp.rs"]
mod rtp;
#[path = "sim/sender.rs"]
mod sender;
#[path = "sim/slots.rs"]
mod slots;
#[path = "sim/sound.rs"]
mod sound;
#[path = "sim/stun.rs"]
mod stun;
#[path = "sim/world.rs"]
mod world;
