//! AMF0, in which RTMP's commands and metadata are written (Action Message Format AMF 0, 2007).
#![warn(clippy::indexing_slicing)]

use thiserror::Error;

/// A value of AMF0. Objects keep the order of their properties.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    Boolean(bool),
    String(String),
    Object(Vec<(String, Self)>),
    /// An associative array: on the wire an object with a count before it that means nothing.
    EcmaArray(Vec<(String, Self)>),
    Array(Vec<Self>),
    /// Null, undefined, and what nobody needs: dates, XML documents, references.
    Null,
}

/// Why bytes are no AMF0 we take.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AmfError {
    /// It ends within a value.
    #[error("an AMF value is cut short")]
    Short,
    /// Values within values within values.
    #[error("AMF values are nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// So many values would take far more memory than they have bytes.
    #[error("there are more than {VALUES_MAX} AMF values in one message")]
    TooMany,
    /// A marker that AMF0 does not have, or one for AMF3.
    #[error("AMF marker {0:#04x} is not supported")]
    Marker(u8),
}

impl Value {
    /// Its property of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let (Self::Object(properties) | Self::EcmaArray(properties)) = self else {
            return None;
        };
        let found = properties.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value)
    }

    /// It, if it is a string.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(string) => Some(string),
            _ => None,
        }
    }

    /// It, if it is a number.
    pub(crate) fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Appends it as AMF0. Strings over 65,535 bytes, which nobody makes, are written as null.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(number) => {
                out.push(NUMBER);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Boolean(boolean) => out.extend_from_slice(&[BOOLEAN, u8::from(*boolean)]),
            Self::String(string) => {
                let Ok(length) = u16::try_from(string.len()) else {
                    return out.push(NULL);
                };
                out.push(STRING);
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(string.as_bytes());
            }
            Self::Object(properties) => {
                out.push(OBJECT);
                write_properties(properties, out);
            }
            Self::EcmaArray(properties) => {
                out.push(ECMA_ARRAY);
                let count = u32::try_from(properties.len()).unwrap_or(0);
                out.extend_from_slice(&count.to_be_bytes());
                write_properties(properties, out);
            }
            Self::Array(values) => {
                out.push(STRICT_ARRAY);
                let count = u32::try_from(values.len()).unwrap_or(0);
                out.extend_from_slice(&count.to_be_bytes());
                values.iter().for_each(|value| value.write(out));
            }
            Self::Null => out.push(NULL),
        }
    }
}

impl From<&str> for Value {
    fn from(string: &str) -> Self {
        Self::String(string.to_owned())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

/// An object of these properties.
pub(crate) fn object<const N: usize>(properties: [(&str, Value); N]) -> Value {
    Value::Object(
        properties
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
    )
}

/// Reads all values of a message.
///
/// # Errors
/// One of them is malformed, too deep, or there are too many. A last object without its end is taken as
/// it is: encoders are known to leave it out.
pub(crate) fn read_all(bytes: &[u8]) -> Result<Vec<Value>, AmfError> {
    let mut reader = Reader {
        rest: bytes,
        count: 0,
    };
    let mut values = Vec::new();
    while !reader.rest.is_empty() {
        values.push(reader.value(0)?);
    }
    Ok(values)
}

struct Reader<'a> {
    rest: &'a [u8],
    count: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, AmfError> {
        if depth > DEPTH_MAX {
            return Err(AmfError::TooDeep);
        }
        self.count += 1;
        if self.count > VALUES_MAX {
            return Err(AmfError::TooMany);
        }
        Ok(match self.byte()? {
            NUMBER => Value::Number(f64::from_be_bytes(self.take()?)),
            BOOLEAN => Value::Boolean(self.byte()? != 0),
            STRING => Value::String(self.short_string()?),
            OBJECT => Value::Object(self.properties(depth)?),
            NULL | UNDEFINED | UNSUPPORTED => Value::Null,
            // A reference could make a small message a huge value; no encoder sends one.
            REFERENCE => self.take::<2>().map(|_| Value::Null)?,
            ECMA_ARRAY => {
                self.take::<4>()?;
                Value::EcmaArray(self.properties(depth)?)
            }
            STRICT_ARRAY => {
                let count = u32::from_be_bytes(self.take()?);
                // Grows as the values come: the count is only a claim.
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(depth + 1)?);
                }
                Value::Array(values)
            }
            DATE => self.take::<10>().map(|_| Value::Null)?,
            LONG_STRING => Value::String(self.long_string()?),
            XML => self.long_string().map(|_| Value::Null)?,
            TYPED_OBJECT => {
                self.short_string()?;
                Value::Object(self.properties(depth)?)
            }
            marker => return Err(AmfError::Marker(marker)),
        })
    }

    fn properties(&mut self, depth: usize) -> Result<Vec<(String, Value)>, AmfError> {
        let mut properties = Vec::new();
        while !self.rest.is_empty() {
            let name = self.short_string()?;
            if name.is_empty() && matches!(self.rest.first(), Some(&OBJECT_END) | None) {
                self.rest = self.rest.get(1..).unwrap_or_default();
                break;
            }
            properties.push((name, self.value(depth + 1)?));
        }
        Ok(properties)
    }

    fn short_string(&mut self) -> Result<String, AmfError> {
        let length = u16::from_be_bytes(self.take()?);
        self.string(usize::from(length))
    }

    fn long_string(&mut self) -> Result<String, AmfError> {
        let length = u32::from_be_bytes(self.take()?);
        self.string(usize::try_from(length).map_err(|_| AmfError::Short)?)
    }

    fn string(&mut self, length: usize) -> Result<String, AmfError> {
        let (string, rest) = self.rest.split_at_checked(length).ok_or(AmfError::Short)?;
        self.rest = rest;
        // Names of encoders come in all encodings; no key is found by a replaced character.
        Ok(String::from_utf8_lossy(string).into_owned())
    }

    fn byte(&mut self) -> Result<u8, AmfError> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(AmfError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }
}

fn write_properties(properties: &[(String, Value)], out: &mut Vec<u8>) {
    for (name, value) in properties {
        if let Ok(length) = u16::try_from(name.len()) {
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(name.as_bytes());
            value.write(out);
        }
    }
    out.extend_from_slice(&[0, 0, OBJECT_END]);
}

const DEPTH_MAX: usize = 16;
// The longest metadata seen have about thirty.
const VALUES_MAX: usize = 1024;

const NUMBER: u8 = 0x00;
const BOOLEAN: u8 = 0x01;
const STRING: u8 = 0x02;
const OBJECT: u8 = 0x03;
const NULL: u8 = 0x05;
const UNDEFINED: u8 = 0x06;
const REFERENCE: u8 = 0x07;
const ECMA_ARRAY: u8 = 0x08;
const OBJECT_END: u8 = 0x09;
const STRICT_ARRAY: u8 = 0x0a;
const DATE: u8 = 0x0b;
const LONG_STRING: u8 = 0x0c;
const UNSUPPORTED: u8 = 0x0d;
const XML: u8 = 0x0f;
const TYPED_OBJECT: u8 = 0x10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(values: &[Value]) -> Vec<u8> {
        let mut out = Vec::new();
        values.iter().for_each(|value| value.write(&mut out));
        out
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            (-1e9..1e9).prop_map(Value::Number),
            any::<bool>().prop_map(Value::Boolean),
            ".{0,12}".prop_map(Value::String),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let properties = prop::collection::vec((".{1,5}", inner.clone()), 0..4);
            prop_oneof![
                properties.clone().prop_map(Value::Object),
                properties.prop_map(Value::EcmaArray),
                prop::collection::vec(inner, 0..4).prop_map(Value::Array),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(values in prop::collection::vec(any_value(), 0..4)) {
            prop_assert_eq!(read_all(&written(&values)), Ok(values));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = read_all(&bytes);
        }
    }

    #[test]
    fn depth_has_an_end() {
        let nested = |depth: usize| {
            let array = [STRICT_ARRAY, 0, 0, 0, 1].repeat(depth);
            [array, vec![NULL]].concat()
        };
        assert!(read_all(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(read_all(&nested(DEPTH_MAX + 1)), Err(AmfError::TooDeep));
        assert_eq!(read_all(&nested(100_000)), Err(AmfError::TooDeep));
        let objects = [OBJECT, 0, 1, b'a'].repeat(100_000);
        assert_eq!(read_all(&objects), Err(AmfError::TooDeep));
    }

    #[test]
    fn number_of_values_has_an_end() {
        let nulls = vec![NULL; VALUES_MAX + 1];
        assert_eq!(read_all(&nulls), Err(AmfError::TooMany));
        assert_eq!(
            read_all(&[STRICT_ARRAY, 0xff, 0xff, 0xff, 0xff]),
            Err(AmfError::Short)
        );
    }

    #[test]
    fn object_without_its_end_is_taken() {
        let mut bytes = written(&[object([("app", "live".into())])]);
        bytes.truncate(bytes.len() - 3);
        let values = read_all(&bytes).unwrap();
        assert_eq!(values[0].get("app").and_then(Value::as_str), Some("live"));
    }
}
