//! What one peer sends into the room.

pub(crate) mod arrivals;
pub(crate) mod layer;
pub(crate) mod nack;
pub(crate) mod reception;
