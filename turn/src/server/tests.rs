//! Tests of the TURN machine on a virtual clock.

mod abuse;
mod allocating;
mod binding;
mod client;
mod relaying;

use client::{Client, House};
