//! RTP as it stands on the wire.

pub(crate) mod payload;
