//! The query of a request: the directives of RFC 8216bis §6.2.5, sessions and signatures, the token.

use crate::hls::window::Ask;

/// A query's fields as they stand, the last of each name but for directives.
#[derive(Debug)]
pub(super) struct Query<'q> {
    fields: Vec<(&'q str, &'q str)>,
}

/// More fields than any player sends.
const FIELDS_MAX: usize = 16;

impl<'q> Query<'q> {
    /// `None`: too many fields, or a directive twice.
    pub(super) fn parse(query: &'q str) -> Option<Self> {
        let fields = query.split('&').filter(|field| !field.is_empty());
        let fields: Vec<_> = fields
            .take(FIELDS_MAX + 1)
            .map(|field| field.split_once('=').unwrap_or((field, "")))
            .collect();
        let mut directives: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        directives.retain(|name| name.starts_with("_HLS_"));
        let count = directives.len();
        directives.sort_unstable();
        directives.dedup();
        (fields.len() <= FIELDS_MAX && directives.len() == count).then_some(Self { fields })
    }

    /// What a playlist is asked for. `None`: nonsense.
    pub(super) fn ask(&self) -> Option<Ask> {
        let number = |name| match self.get(name) {
            None => Some(None),
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(Some(text.parse::<u64>().ok()?))
            }
            Some(_) => None,
        };
        let ask = Ask {
            msn: number("_HLS_msn")?,
            part: number("_HLS_part")?,
            is_delta: match self.get("_HLS_skip") {
                None => false,
                // `v2` skips date ranges, too: there are none.
                Some("YES" | "v2") => true,
                Some(_) => return None,
            },
        };
        (ask.part.is_none() || ask.msn.is_some()).then_some(ask)
    }

    pub(super) fn session(&self) -> Option<&'q str> {
        self.get("s").filter(|session| session.len() <= 64)
    }

    pub(super) fn expires_s(&self) -> Option<u64> {
        self.get("e")?.parse().ok()
    }

    pub(super) fn signature(&self) -> Option<&'q str> {
        self.get("h")
    }

    pub(super) fn token(&self) -> Option<String> {
        decode(self.get("token")?)
    }

    fn get(&self, name: &str) -> Option<&'q str> {
        let found = self.fields.iter().rev().find(|(field, _)| *field == name);
        found.map(|(_, value)| *value)
    }
}

/// Undoes percent-encoding, once. `None`: it is malformed, or no text, or has control characters.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(query: &str) -> Option<Ask> {
        Query::parse(query)?.ask()
    }

    #[test]
    fn directives_are_numbers_that_make_sense() {
        let both = ask("_HLS_msn=7&_HLS_part=2&_HLS_skip=YES").unwrap();
        assert_eq!(
            (both.msn, both.part, both.is_delta),
            (Some(7), Some(2), true)
        );
        assert_eq!(ask("s=x"), Some(Ask::default()));
        for nonsense in [
            "_HLS_part=1",
            "_HLS_msn=-1",
            "_HLS_msn=+1",
            "_HLS_msn=",
            "_HLS_msn=1&_HLS_msn=2",
            "_HLS_msn=99999999999999999999",
            "_HLS_skip=no",
        ] {
            assert_eq!(ask(nonsense), None, "{nonsense}");
        }
        assert!(Query::parse(&"a=1&".repeat(17)).is_none());
    }

    #[test]
    fn decoding_is_done_once() {
        assert_eq!(decode("a%2Fb").as_deref(), Some("a/b"));
        assert_eq!(decode("%252e").as_deref(), Some("%2e"));
        assert_eq!(decode("%C3%A9").as_deref(), Some("é"));
        for bad in ["", "%", "%2", "%zz", "%00", "%ff", "a%0ab"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
