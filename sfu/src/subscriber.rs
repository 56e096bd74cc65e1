//! What one peer receives from the room.

pub(crate) mod rewriter;
pub(crate) mod selector;
pub(crate) mod sent;
