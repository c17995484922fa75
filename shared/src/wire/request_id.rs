//! The client's own name for a message: a string or an integer, which comes back as it came.
//!
//! Anyone who generates ids with a counter writes `7`, and looks for `7` in what comes back. For the application both are a
//! text, and `7` and `"7"` the same name.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// An `id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId<'a> {
    text: Cow<'a, str>,
    is_integer: bool,
}

/// An `id` that is neither a string nor an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither a string nor an integer")]
pub struct NotAnId;

impl<'a> RequestId<'a> {
    /// A name that is a string.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self {
            text: text.into(),
            is_integer: false,
        }
    }

    /// A name that is an integer, as it was written.
    ///
    /// # Errors
    /// If it is not one in JSON, without fraction and exponent (RFC 8259 §6).
    pub fn integer(text: impl Into<Cow<'a, str>>) -> Result<Self, NotAnId> {
        let text = text.into();
        let digits = text.strip_prefix('-').unwrap_or(&text).as_bytes();
        let is_integer = matches!(digits, [b'0'] | [b'1'..=b'9', ..]) && digits.iter().all(u8::is_ascii_digit);
        if is_integer {
            Ok(Self { text, is_integer })
        } else {
            Err(NotAnId)
        }
    }

    /// Without the quotes of a string.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it was an integer.
    pub const fn is_integer(&self) -> bool {
        self.is_integer
    }

    /// The same, borrowed.
    pub fn borrowed(&self) -> RequestId<'_> {
        RequestId {
            text: Cow::Borrowed(&self.text),
            is_integer: self.is_integer,
        }
    }

    /// The same, for as long as one likes.
    pub fn into_owned(self) -> RequestId<'static> {
        RequestId {
            text: Cow::Owned(self.text.into_owned()),
            is_integer: self.is_integer,
        }
    }
}

impl fmt::Display for RequestId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for RequestId<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_integer {
            // As it came: it may have more digits than any number of ours.
            RawValue::from_string(self.text.clone().into_owned())
                .map_err(serde::ser::Error::custom)?
                .serialize(serializer)
        } else {
            serializer.serialize_str(&self.text)
        }
    }
}

/// Out of a JSON text alone.
impl<'de> Deserialize<'de> for RequestId<'static> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if raw.get().starts_with('"') {
            let text: String = serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?;
            return Ok(Self::text(text));
        }
        Self::integer(raw.get().to_owned()).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<RequestId<'static>> {
        serde_json::from_str(json).ok()
    }

    #[test]
    fn an_id_comes_back_as_it_came() {
        for json in [
            "7",
            "0",
            "-1",
            "-0",
            "123456789012345678901234567890",
            r#""7""#,
            r#""a\"b""#,
            r#""""#,
        ] {
            let id = read(json).expect(json);
            assert_eq!(serde_json::to_string(&id).unwrap(), json);
            assert_eq!(serde_json::to_string(&id.borrowed().into_owned()).unwrap(), json);
        }
        assert_eq!(
            read("7").map(|id| id.as_str().to_owned()),
            read(r#""7""#).map(|id| id.as_str().to_owned())
        );
        assert_ne!(read("7"), read(r#""7""#));
    }

    #[test]
    fn nothing_else_is_one() {
        for json in [
            "1.5",
            "1e3",
            "1e400",
            "01",
            "-",
            "+1",
            "true",
            "{}",
            "[1]",
            "null",
            "",
            "\"\\ud800\"",
        ] {
            assert_eq!(read(json), None, "{json}");
        }
        for text in ["", "-", "1 ", "٣", "1.0"] {
            assert_eq!(RequestId::integer(text), Err(NotAnId), "{text}");
        }
    }
}
