//! The names of what a broadcast serves, below its own identifier.

use std::fmt;

use super::publication::{RUNGS_MAX, RenditionId};

/// One thing that can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// `v0.m3u8`, `a.m3u8`
    Playlist(RenditionId),
    /// `v0-i1.mp4`
    Map { rendition: RenditionId, number: u32 },
    /// `v0-s12.m4s`
    Segment { rendition: RenditionId, msn: u64 },
    /// `v0-s12-p3.m4s`
    Part {
        rendition: RenditionId,
        msn: u64,
        index: usize,
    },
    /// `k3.key`
    Key(u64),
}

/// No name is longer: two numbers of 20 digits.
const NAME_BYTES_MAX: usize = 64;

impl Resource {
    /// What a name stands for. Every resource has exactly one name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        let (stem, kind) = name.split_once('.')?;
        let mut words = stem.split('-');
        let first = words.next()?;
        let resource = match (kind, words.next(), words.next()) {
            ("m3u8", None, None) => Self::Playlist(rendition(first)?),
            ("key", None, None) => Self::Key(number(first, 'k')?),
            ("mp4", Some(map), None) => Self::Map {
                rendition: rendition(first)?,
                number: number(map, 'i')?,
            },
            ("m4s", Some(segment), None) => Self::Segment {
                rendition: rendition(first)?,
                msn: number(segment, 's')?,
            },
            ("m4s", Some(segment), Some(part)) => Self::Part {
                rendition: rendition(first)?,
                msn: number(segment, 's')?,
                index: number(part, 'p')?,
            },
            _ => return None,
        };
        // `+1`, `01` and whatever follows are other names, which nobody was told.
        (words.next().is_none() && resource.to_string() == name).then_some(resource)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Playlist(rendition) => write!(to, "{rendition}.m3u8"),
            Self::Map { rendition, number } => write!(to, "{rendition}-i{number}.mp4"),
            Self::Segment { rendition, msn } => write!(to, "{rendition}-s{msn}.m4s"),
            Self::Part {
                rendition,
                msn,
                index,
            } => write!(to, "{rendition}-s{msn}-p{index}.m4s"),
            Self::Key(number) => write!(to, "k{number}.key"),
        }
    }
}

impl fmt::Display for RenditionId {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Video(rung) => write!(to, "v{rung}"),
            Self::Audio => write!(to, "a"),
        }
    }
}

fn rendition(word: &str) -> Option<RenditionId> {
    if word == "a" {
        return Some(RenditionId::Audio);
    }
    let rung = number(word, 'v')?;
    (rung < RUNGS_MAX).then_some(RenditionId::Video(rung))
}

fn number<N: std::str::FromStr>(word: &str, letter: char) -> Option<N> {
    word.strip_prefix(letter)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        let names = [
            "v0.m3u8",
            "a.m3u8",
            "v3-i1.mp4",
            "a-s0.m4s",
            "v1-s12-p3.m4s",
            "k7.key",
        ];
        for name in names {
            assert_eq!(Resource::parse(name).unwrap().to_string(), name);
        }
    }

    #[test]
    fn other_spellings_are_no_names() {
        let names = [
            "",
            ".",
            "..",
            "v4.m3u8",
            "v00.m3u8",
            "v0",
            "v0.M3U8",
            "v0-s01.m4s",
            "v0-s+1.m4s",
            "a-s1-p1-p1.m4s",
            "v0-s1.m4s.",
            "v0-s1.mp4",
            "k1.m4s",
            "v0-s99999999999999999999999.m4s",
            "v0.m3u8\0",
        ];
        for name in names {
            assert_eq!(Resource::parse(name), None, "{name}");
        }
        assert_eq!(Resource::parse(&"9".repeat(1 << 20)), None);
    }
}
