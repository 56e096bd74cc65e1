//! Plain functions for fuzzing: any path and query, and no panic.

use super::query::{Query, decode};
use super::split;
use crate::hls::name::Resource;

/// A request's path, and its query after a `?`.
pub fn hls_path(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (path, query) = text.split_once('?').unwrap_or((&text, ""));
    if let Some((room, below)) = split(path) {
        assert!(!room.is_empty() && !room.chars().any(char::is_control));
        // Whatever comes first in it, a name is what comes after the broadcast's id.
        let name = below.split_once('/').map_or(below, |(_, name)| name);
        if let Some(resource) = Resource::parse(name) {
            assert_eq!(resource.to_string(), name);
        }
    }
    if let Some(query) = Query::parse(query) {
        let _ = (query.ask(), query.session(), query.expires_s());
        let _ = (query.signature(), query.token());
    }
    let decoded = decode(&text).unwrap_or_default();
    assert!(decoded.len() <= text.len());
}
