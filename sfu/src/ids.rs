//! The names of things in a shard and on the wire, as newtypes.

use std::fmt;

macro_rules! numbered_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u64);

        impl $name {
            /// Makes the `number`th id of shard `shard`; the upper 16 bits name the shard.
            pub const fn new(shard: u16, number: u64) -> Self {
                Self((shard as u64) << 48 | (number & 0xffff_ffff_ffff))
            }

            /// The shard this thing lives on.
            pub const fn shard(self) -> usize {
                (self.0 >> 48) as usize
            }

            /// The id as a number, for those who need no more.
            pub const fn number(self) -> u64 {
                self.0
            }

            /// The opposite of `number`.
            pub const fn from_number(number: u64) -> Self {
                Self(number)
            }

            /// Reads the text form; `None` when it is not one of ours.
            pub fn parse(text: &str) -> Option<Self> {
                let digits = text.strip_prefix($prefix)?;
                if digits.is_empty() || digits.len() > 16 || digits.starts_with('+') {
                    return None;
                }
                u64::from_str_radix(digits, 16).ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

numbered_id!(
    /// A room, for as long as it lives. Text form `r_<hex>`.
    RoomId, "r_"
);
numbered_id!(
    /// A participant's stay in a room. Text form `p_<hex>`.
    ParticipantId, "p_"
);
numbered_id!(
    /// A published track. Text form `t_<hex>`.
    TrackId, "t_"
);

/// A stack-allocated short ASCII token: the longest mid or rid we take is 16 bytes, which keeps
/// both one-byte header extensions (RFC 8285 §4.2) and the packet path free of allocations.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Token {
    length: u8,
    bytes: [u8; 16],
}

impl Token {
    fn parse(text: &[u8]) -> Option<Self> {
        let valid = |byte: &u8| byte.is_ascii_graphic();
        if text.is_empty() || text.len() > 16 || !text.iter().all(valid) {
            return None;
        }
        let mut bytes = [0; 16];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self {
            length: u8::try_from(text.len()).ok()?,
            bytes,
        })
    }

    fn as_str(&self) -> &str {
        let bytes = self
            .bytes
            .get(..usize::from(self.length))
            .unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

macro_rules! token_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Token);

        impl $name {
            /// Takes 1 to 16 visible ASCII bytes; `None` for anything else.
            pub fn parse(text: impl AsRef<[u8]>) -> Option<Self> {
                Token::parse(text.as_ref()).map(Self)
            }

            /// The text as it stands in SDP.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

token_id!(
    /// An m-line's identification tag (RFC 9143).
    Mid
);
token_id!(
    /// An RTP stream id: the name of one simulcast encoding (RFC 8851, RFC 8852).
    Rid
);

/// An RTP synchronization source (RFC 3550 §3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ssrc(pub u32);

/// An RTP payload type, 0 to 127 (RFC 3550 §5.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PayloadType(pub u8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_their_shard_and_survive_their_text_form() {
        let track = TrackId::new(3, 77);
        assert_eq!(track.shard(), 3);
        assert_eq!(TrackId::parse(&track.to_string()), Some(track));
        assert_eq!(TrackId::parse("p_1"), None);
        assert_eq!(TrackId::parse("t_"), None);
        assert_eq!(TrackId::parse("t_+1"), None);
        assert_eq!(TrackId::parse("t_11111111111111111"), None);
    }

    #[test]
    fn mids_are_short_visible_ascii() {
        assert_eq!(
            Mid::parse("0").map(|mid| mid.to_string()),
            Some("0".to_owned())
        );
        assert_eq!(Mid::parse(""), None);
        assert_eq!(Mid::parse("a b"), None);
        assert_eq!(Mid::parse("12345678901234567"), None);
    }
}
