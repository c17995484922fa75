//! `docs/asyncapi.yaml`, as far as claims must understand it: references, operations, messages, schemas.

use std::{collections::BTreeMap, path::Path};

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// The whole document.
pub(super) struct Document {
    root: Value,
    /// Its schemas, of which none lets a member pass that does not stand in it.
    strict: Value,
}

/// One message of the document, with its name.
#[derive(Clone)]
pub(super) struct Message<'d> {
    pub(super) name: &'d str,
    pub(super) value: &'d Value,
}

/// One operation of the document.
pub(super) struct Operation<'d> {
    pub(super) name: &'d str,
    pub(super) value: &'d Value,
    pub(super) messages: Vec<Message<'d>>,
    pub(super) replies: Vec<Message<'d>>,
}

impl Document {
    pub(super) fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/asyncapi.yaml");
        let text = std::fs::read_to_string(path).expect("the document");
        let root: Value = serde_saphyr::from_str(&text).expect("YAML");
        let mut strict = root["components"]["schemas"].clone();
        close(&mut strict);
        Self { root, strict }
    }

    /// What stands there, references followed.
    pub(super) fn at(&self, pointer: &str) -> &Value {
        let found = self.root.pointer(pointer);
        self.follow(found.unwrap_or_else(|| panic!("nothing stands at {pointer}")))
    }

    pub(super) fn follow<'d>(&'d self, value: &'d Value) -> &'d Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(pointer) => self.at(pointer.trim_start_matches('#')),
            None => value,
        }
    }

    /// Every message, by its name.
    pub(super) fn messages(&self) -> Vec<Message<'_>> {
        members(self.at("/components/messages"))
            .map(|(name, value)| Message { name, value })
            .collect()
    }

    /// The operations on what goes by this server: `terminator` or `broker`.
    pub(super) fn operations_of(&self, server: &str) -> Vec<Operation<'_>> {
        let goes_by = |operation: &&Operation<'_>| {
            let channel = self.follow(&operation.value["channel"]);
            channel["servers"][0]["$ref"] == format!("#/servers/{server}")
        };
        let all: Vec<_> = members(self.at("/operations"))
            .map(|(name, value)| Operation {
                name,
                value,
                messages: self.named(&value["messages"]),
                replies: self.named(&value["reply"]["messages"]),
            })
            .collect();
        all.into_iter().filter(|operation| goes_by(&operation)).collect()
    }

    /// The messages that a list refers to, by way of a channel.
    fn named<'d>(&'d self, list: &'d Value) -> Vec<Message<'d>> {
        let references = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let name = |reference: &'d Value| reference["$ref"].as_str()?.rsplit('/').next();
        references
            .iter()
            .map(|reference| Message {
                name: name(reference).expect("a reference to a message"),
                value: self.follow(self.follow(reference)),
            })
            .collect()
    }

    /// What is wrong with `payload` or `headers` (`part`) of a message; none if nothing is said of that part.
    ///
    /// Strictly, a member that does not stand in the schema is wrong, too.
    pub(super) fn faults(&self, message: &Message<'_>, part: &str, instance: &Value, strict: bool) -> Vec<String> {
        let Some(schema) = message.value.get(part) else {
            return Vec::new();
        };
        let errors = self.validator(schema, strict);
        errors
            .iter_errors(instance)
            .map(|error| format!("{}: {part}{}: {error}", message.name, error.instance_path()))
            .collect()
    }

    /// The one of `messages` that this is.
    pub(super) fn the_one<'d>(&self, messages: &[Message<'d>], part: &str, instance: &Value) -> &'d str {
        let faults: BTreeMap<_, _> = messages
            .iter()
            .map(|message| (message.name, self.faults(message, part, instance, true)))
            .collect();
        let fits: Vec<_> = faults.iter().filter(|(_, faults)| faults.is_empty()).collect();
        match fits[..] {
            [(name, _)] => name,
            _ => panic!("{instance} is {} of the documented messages: {faults:#?}", fits.len()),
        }
    }

    fn validator(&self, schema: &Value, strict: bool) -> Validator {
        let schemas = if strict {
            &self.strict
        } else {
            self.at("/components/schemas")
        };
        let whole = json!({"allOf": [schema], "components": {"schemas": schemas}});
        jsonschema::draft7::new(&whole).unwrap_or_else(|error| panic!("no schema ({error}): {schema}"))
    }
}

impl<'d> Message<'d> {
    pub(super) fn examples(&self) -> &'d [Value] {
        self.value["examples"].as_array().map(Vec::as_slice).unwrap_or_default()
    }
}

impl Operation<'_> {
    /// Whether it is others who send.
    pub(super) fn is_receive(&self) -> bool {
        self.value["action"] == "receive"
    }
}

/// The members of an object.
pub(super) fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let members = value.as_object().map(Map::iter);
    members
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value))
}

/// Lets no schema pass a member that does not stand in it.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(close);
            if members.get("properties").is_some_and(Value::is_object) {
                members.entry("additionalProperties").or_insert(json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
