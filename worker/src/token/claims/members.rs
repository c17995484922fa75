//! A JSON object in which no member stands twice.
//!
//! Parsers disagree about which of two equal members counts, and anyone who finds
//! two parsers that disagree has two tokens in one. RFC 7515 §4 and RFC 7519 §4
//! allow us to refuse, so we do. Depth is bounded by serde_json (128 levels).

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The members of an object, in which and within whose values none stands twice.
#[derive(Debug)]
pub(in crate::token) struct Members(pub(in crate::token) Map<String, Value>);

impl Members {
    /// Reads one object and nothing after it.
    pub(in crate::token) fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The member of that name.
    pub(in crate::token) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueMembers)
    }
}

struct UniqueMembers;

impl<'de> Visitor<'de> for UniqueMembers {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with unique members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Members, A::Error> {
        unique(&mut access).map(Members)
    }
}

fn unique<'de, A: MapAccess<'de>>(access: &mut A) -> Result<Map<String, Value>, A::Error> {
    let mut members = Map::new();
    while let Some((name, Unique(value))) = access.next_entry::<String, Unique>()? {
        if members.insert(name, value).is_some() {
            return Err(A::Error::custom("a member stands twice"));
        }
    }
    Ok(members)
}

/// A value in which no member of any object stands twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueValue).map(Self)
    }
}

struct UniqueValue;

impl<'de> Visitor<'de> for UniqueValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value with unique members")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Unique(item)) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        unique(&mut access).map(Value::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_with_all_its_members() {
        let members = Members::parse(br#" {"a": 1, "b": {"c": null}} "#).unwrap();
        assert_eq!(members.get("a"), Some(&Value::from(1)));
        assert_eq!(members.0.len(), 2);
    }

    #[test]
    fn a_member_that_stands_twice_is_refused_however_it_is_spelled() {
        assert!(Members::parse(br#"{"a": 1, "a": 1}"#).is_none());
        assert!(Members::parse(br#"{"a": 1, "\u0061": 1}"#).is_none());
        assert!(Members::parse(br#"{"a": {"b": 1, "b": 1}}"#).is_none());
        assert!(Members::parse(br#"{"a": [{}, {"b": {"c": 1, "c": 2}}]}"#).is_none());
        assert!(Members::parse(br#"{"a": {"b": 1}, "c": {"b": 1}}"#).is_some());
    }

    #[test]
    fn what_is_no_object_or_not_only_an_object_is_refused() {
        for json in [
            "",
            "[]",
            "1",
            "null",
            "\"a\"",
            "{} {}",
            "{}x",
            "{\"a\":1,}",
            "{\"a\":\"\\ud800\"}",
        ] {
            assert!(Members::parse(json.as_bytes()).is_none(), "{json}");
        }
        assert!(Members::parse(b"{\"a\":\"\xff\"}").is_none());
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let deep = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(Members::parse(deep(100).as_bytes()).is_some());
        assert!(Members::parse(deep(4_000).as_bytes()).is_none());
    }
}
