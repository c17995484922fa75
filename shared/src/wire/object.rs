//! An object, and nothing else, read as a struct.
//!
//! What is derived for a struct reads an array, too, member by member in the order in which they happen to be declared. No
//! document of ours says so, so what others write is read as this.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Something that is written as an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Two<'a> {
        one: Option<u8>,
        #[serde(borrow)]
        two: &'a RawValue,
    }

    #[test]
    fn an_object_is_read_as_its_struct_and_an_array_is_not() {
        let read = |text| serde_json::from_str::<Object<Two<'_>>>(text).map(|two| (two.0.one, two.0.two.get()));
        assert_eq!(read(r#"{"two": [1, 2]}"#).unwrap(), (None, "[1, 2]"));
        assert_eq!(
            read(r#"{"two": {"x": 1.0}, "one": 1}"#).unwrap(),
            (Some(1), r#"{"x": 1.0}"#)
        );
        assert!(serde_json::from_str::<Two<'_>>("[1, 2]").is_ok(), "what this is for");
        for (text, why) in [
            ("[1, 2]", "expected an object"),
            ("7", "expected an object"),
            (r#"{"two": 1, "two": 2}"#, "duplicate field `two`"),
            (r#"{"two": 1, "three": 2}"#, "unknown field `three`"),
            (r#"{"one": 1}"#, "missing field `two`"),
        ] {
            let told = read(text).unwrap_err().to_string();
            assert!(told.contains(why) && told.contains("line 1 column"), "{text}: {told}");
        }
    }
}
