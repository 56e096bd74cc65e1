//! Plenum's service: configuration, tokens, signaling, room API, WHIP and WHEP around the media core.

pub mod message;
