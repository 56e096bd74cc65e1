//! Plenum's bridge: a room goes out as a live broadcast, encoders come in, programs are recorded.
//!
//! What flows between the parts is in [`media`]: whole frames on the timeline of one broadcast.

mod engine;
mod handle;
mod listing;

pub mod audio;
pub mod broadcast;
pub mod card;
pub mod encoder;
pub mod flv;
pub mod fmp4;
pub mod frames;
pub mod hls;
pub mod media;
pub mod packets;
pub mod packing;
pub mod program;
pub mod recording;
pub mod rtmp;
pub mod rungs;
pub mod take;
pub mod timeline;
pub mod webm;

pub use broadcast::Shown;
pub use engine::BridgeEvent;
pub use handle::{BeginError, Bridge, BridgeSettings, Spec};
pub use listing::{BroadcastId, Ending, Listing, Progress, Target};
pub use media::{AudioCodec, VideoCodec};
pub use program::Follow;
pub use rtmp::PushState;
