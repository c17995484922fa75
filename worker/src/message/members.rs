//! The members of a JSON object, each as it was written.
//!
//! They are gathered before any of them is judged, so that a message that is
//! broken behind its `id` can still be answered by it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

/// The members that mean something, and the first that was there twice.
#[derive(Default)]
pub(super) struct Members<'a> {
    pub(super) id: Option<&'a RawValue>,
    pub(super) kind: Option<&'a RawValue>,
    pub(super) token: Option<&'a RawValue>,
    pub(super) payload: Option<&'a RawValue>,
    pub(super) timeout_ms: Option<&'a RawValue>,
    pub(super) cancel: Option<&'a RawValue>,
    pub(super) repeated: Option<&'static str>,
}

/// Why a text has no members.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// It is not JSON; the reason repeats nothing of it.
    NotJson(String),
    /// It is JSON, but of another kind.
    NotAnObject,
}

impl<'a> Members<'a> {
    /// What could be read, and whether that was all of it.
    pub(super) fn read(text: &'a str) -> (Self, Result<(), Shape>) {
        let mut members = Self::default();
        let mut json = serde_json::Deserializer::from_str(text);
        let read = Gather(&mut members).deserialize(&mut json).and_then(|()| json.end());
        let shape = read.map_err(|error| match error.classify() {
            // Nothing else in here can be of the wrong type; the text of such an error would repeat the value.
            Category::Data => Shape::NotAnObject,
            _ => Shape::NotJson(error.to_string()),
        });
        (members, shape)
    }

    fn put(&mut self, key: Cow<'a, str>, value: &'a RawValue, others: &mut HashSet<Cow<'a, str>>) {
        let (place, member) = match &*key {
            "id" => (&mut self.id, "`id`"),
            "type" => (&mut self.kind, "`type`"),
            "token" => (&mut self.token, "`token`"),
            "payload" => (&mut self.payload, "`payload`"),
            "cancel" => (&mut self.cancel, "`cancel`"),
            "timeout_ms" => (&mut self.timeout_ms, "`timeout_ms`"),
            _ => {
                if !others.insert(key) {
                    self.repeated.get_or_insert("one that has no meaning here");
                }
                return;
            }
        };
        if place.replace(value).is_some() {
            self.repeated.get_or_insert(member);
        }
    }
}

/// The text of a JSON string; none if its escapes are not Unicode.
pub(super) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0)
}

struct Gather<'m, 'a>(&'m mut Members<'a>);

impl<'a> DeserializeSeed<'a> for Gather<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Gather<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let mut others = HashSet::new();
        while let Some(Text(key)) = map.next_key()? {
            self.0.put(key, map.next_value()?, &mut others);
        }
        Ok(())
    }
}

/// A string, borrowed unless it has escapes.
struct Text<'a>(Cow<'a, str>);

impl<'a> Deserialize<'a> for Text<'a> {
    fn deserialize<D: Deserializer<'a>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'a> Visitor<'a> for TextVisitor {
    type Value = Text<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}
