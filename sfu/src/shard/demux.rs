//! Finds the peer a datagram belongs to: by a path that passed an ICE check, else by our ufrag.

use std::collections::HashMap;

use crate::shard::Path;

/// What a datagram is, by its first byte (RFC 7983 §7, RFC 5761 §4 for RTCP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketKind {
    Stun,
    Dtls,
    Rtp,
    Rtcp,
}

/// Tells what a datagram is; `None` when no protocol of ours begins like this.
pub(crate) fn classify(bytes: &[u8]) -> Option<PacketKind> {
    match *bytes.first()? {
        0..=3 => Some(PacketKind::Stun),
        20..=63 => Some(PacketKind::Dtls),
        128..=191 => match *bytes.get(1)? {
            192..=223 => Some(PacketKind::Rtcp),
            _ => Some(PacketKind::Rtp),
        },
        _ => None,
    }
}

/// The two ways to a peer: the paths it proved, and the ufrags we gave it.
///
/// Holds: entries of a peer are removed with it; a path belongs to one peer at most.
#[derive(Debug, Default)]
pub(crate) struct Demux {
    paths: HashMap<Path, usize>,
    ufrags: HashMap<String, usize>,
}

impl Demux {
    /// Makes `path` lead to `peer`; an older owner of the path loses it (its client is gone: two
    /// live clients cannot share an address and port).
    pub(crate) fn add_path(&mut self, path: Path, peer: usize) {
        self.paths.insert(path, peer);
    }

    /// Forgets a path, if it still leads to `peer`.
    pub(crate) fn remove_path(&mut self, path: &Path, peer: usize) {
        if self.paths.get(path) == Some(&peer) {
            self.paths.remove(path);
        }
    }

    /// Makes our ufrag lead to `peer`; false when it is taken (then the caller draws another).
    pub(crate) fn add_ufrag(&mut self, ufrag: &str, peer: usize) -> bool {
        if self.ufrags.contains_key(ufrag) {
            return false;
        }
        self.ufrags.insert(ufrag.to_owned(), peer);
        true
    }

    /// Forgets a ufrag.
    pub(crate) fn remove_ufrag(&mut self, ufrag: &str) {
        self.ufrags.remove(ufrag);
    }

    /// Forgets everything that leads to `peer`.
    pub(crate) fn remove_peer(&mut self, peer: usize) {
        self.paths.retain(|_, owner| *owner != peer);
        self.ufrags.retain(|_, owner| *owner != peer);
    }

    /// The peer that proved this path.
    pub(crate) fn peer_on(&self, path: &Path) -> Option<usize> {
        self.paths.get(path).copied()
    }

    /// The peer we gave this ufrag.
    pub(crate) fn peer_named(&self, ufrag: &str) -> Option<usize> {
        self.ufrags.get(ufrag).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Protocol;

    #[test]
    fn every_first_byte_has_one_meaning() {
        for first in 0..=255 {
            let kind = classify(&[first, 200]);
            let expected = match first {
                0..=3 => Some(PacketKind::Stun),
                20..=63 => Some(PacketKind::Dtls),
                128..=191 => Some(PacketKind::Rtcp),
                _ => None,
            };
            assert_eq!(kind, expected, "first byte {first}");
        }
        assert_eq!(classify(&[128, 96]), Some(PacketKind::Rtp));
        assert_eq!(classify(&[128]), None);
        assert_eq!(classify(&[]), None);
    }

    #[test]
    fn a_removed_peer_is_found_no_more() {
        let path = Path {
            local: "127.0.0.1:1".parse().unwrap(),
            remote: "127.0.0.1:2".parse().unwrap(),
            protocol: Protocol::Udp,
        };
        let mut demux = Demux::default();
        assert!(demux.add_ufrag("00abc", 1));
        assert!(!demux.add_ufrag("00abc", 2));
        demux.add_path(path, 1);
        demux.remove_path(&path, 2);
        assert_eq!(demux.peer_on(&path), Some(1));
        demux.remove_peer(1);
        assert_eq!(demux.peer_on(&path), None);
        assert_eq!(demux.peer_named("00abc"), None);
    }
}
