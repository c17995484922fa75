//! The names of what is said of spans: OpenTelemetry's semantic conventions for messaging, where they have one.

use opentelemetry::KeyValue;

/// Which message of which connection: `<terminator>.<connection>.<sequence>`.
pub const CONVERSATION_ID: &str = "messaging.message.conversation_id";
/// Of the body.
pub const BODY_SIZE: &str = "messaging.message.body.size";
/// The tag of an identity: by it people are told apart, and not named.
pub const IDENTITY: &str = "enduser.pseudo.id";
/// In which way something failed: a word of a closed list.
pub const ERROR_TYPE: &str = "error.type";
/// What is done to the store.
pub const STORE_OPERATION: &str = "db.operation.name";
/// The message's `type`.
pub const TYPE: &str = "countersign.type";
/// What its token proved.
pub const VERDICT: &str = "countersign.verdict";
/// Whether that was known already.
pub const CACHED: &str = "countersign.cached";
/// What became of it.
pub const OUTCOME: &str = "countersign.outcome";
/// How often it was delivered before.
pub const DELIVERY_COUNT: &str = "countersign.delivery_count";

/// What every span says that is about the broker: what is done, of which type that is, and through what.
pub fn messaging(operation: &'static str, kind: &'static str, destination: &str) -> [KeyValue; 4] {
    [
        KeyValue::new("messaging.system", "rabbitmq"),
        KeyValue::new("messaging.operation.name", operation),
        KeyValue::new("messaging.operation.type", kind),
        KeyValue::new("messaging.destination.name", destination.to_owned()),
    ]
}
