//! Plenum's bridge: a room goes out as a live broadcast, encoders come in, programs are recorded.
//!
//! What flows between the parts is in [`media`]: whole frames on the timeline of one broadcast.

pub mod audio;
pub mod broadcast;
pub mod card;
pub mod encoder;
pub mod frames;
pub mod fmp4;
pub mod hls;
pub mod media;
pub mod packets;
pub mod packing;
pub mod program;
pub mod rungs;
pub mod timeline;
pub mod flv;
pub mod media;
pub mod rtmp;
pub mod recording;
pub mod webm;
