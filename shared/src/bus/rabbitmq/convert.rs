//! Messages to and from lapin's types.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::bus::{Properties, PublishError, Value};

/// `delivery-mode` 2 (AMQP 0-9-1 §1.8.3.1): the broker writes it to disk before it confirms.
const PERSISTENT: u8 = 2;

/// A text of at most 255 bytes; lapin's own conversion panics on a longer one.
pub(super) fn short(text: &str) -> Result<ShortString, PublishError> {
    ShortString::try_new(text).map_err(|_| PublishError::Malformed)
}

/// Properties to publish, `message_id` standing in for one that is missing.
pub(super) fn to_amqp(properties: &Properties, message_id: &str) -> Result<BasicProperties, PublishError> {
    let message_id = properties.message_id.as_deref().unwrap_or(message_id);
    let mut amqp = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(short(message_id)?);
    if let Some(text) = &properties.content_type {
        amqp = amqp.with_content_type(short(text)?);
    }
    if let Some(text) = &properties.kind {
        amqp = amqp.with_type(short(text)?);
    }
    if let Some(text) = &properties.correlation_id {
        amqp = amqp.with_correlation_id(short(text)?);
    }
    if let Some(text) = &properties.reply_to {
        amqp = amqp.with_reply_to(short(text)?);
    }
    if let Some(seconds) = properties.timestamp_s {
        amqp = amqp.with_timestamp(seconds);
    }
    if let Some(expiration) = properties.expiration {
        // Milliseconds, as a text (https://www.rabbitmq.com/docs/ttl#per-message-ttl-in-publishers).
        amqp = amqp.with_expiration(short(&expiration.as_millis().to_string())?);
    }
    if !properties.headers.is_empty() {
        let mut headers = FieldTable::default();
        for (name, value) in &properties.headers {
            let value = match value {
                Value::Text(text) => AMQPValue::LongString(text.as_str().into()),
                Value::Integer(number) => AMQPValue::LongLongInt(*number),
                Value::Flag(flag) => AMQPValue::Boolean(*flag),
                Value::Other => continue,
            };
            headers.insert(short(name)?, value);
        }
        amqp = amqp.with_headers(headers);
    }
    Ok(amqp)
}

/// Properties as they came.
pub(super) fn from_amqp(amqp: &BasicProperties) -> Properties {
    let text = |text: &Option<ShortString>| text.as_ref().map(|text| text.as_str().to_owned());
    Properties {
        content_type: text(amqp.content_type()),
        kind: text(amqp.kind()),
        message_id: text(amqp.message_id()),
        correlation_id: text(amqp.correlation_id()),
        reply_to: text(amqp.reply_to()),
        timestamp_s: *amqp.timestamp(),
        expiration: None,
        headers: amqp.headers().as_ref().map(headers_from).unwrap_or_default(),
    }
}

fn headers_from(table: &FieldTable) -> Vec<(String, Value)> {
    table
        .inner()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value_from(value)))
        .collect()
}

fn value_from(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::LongString(text) => Value::Text(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Value::Text(text.as_str().to_owned()),
        AMQPValue::Boolean(flag) => Value::Flag(*flag),
        AMQPValue::ShortShortInt(number) => Value::Integer(i64::from(*number)),
        AMQPValue::ShortShortUInt(number) => Value::Integer(i64::from(*number)),
        AMQPValue::ShortInt(number) => Value::Integer(i64::from(*number)),
        AMQPValue::ShortUInt(number) => Value::Integer(i64::from(*number)),
        AMQPValue::LongInt(number) => Value::Integer(i64::from(*number)),
        AMQPValue::LongUInt(number) => Value::Integer(i64::from(*number)),
        AMQPValue::LongLongInt(number) => Value::Integer(*number),
        _ => Value::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_come_back_as_they_went() {
        let properties = Properties {
            content_type: Some("application/json".into()),
            kind: Some("message".into()),
            message_id: Some("m".into()),
            correlation_id: Some("c".into()),
            reply_to: Some("q".into()),
            timestamp_s: Some(1),
            expiration: None,
            headers: vec![("index".into(), Value::Integer(-3)), ("more".into(), Value::Flag(true))],
        };
        assert_eq!(from_amqp(&to_amqp(&properties, "other").unwrap()), properties);
    }

    #[test]
    fn how_long_it_may_wait_is_told_to_the_broker_alone() {
        let properties = Properties {
            expiration: Some(std::time::Duration::from_millis(1_500)),
            ..Properties::default()
        };
        let amqp = to_amqp(&properties, "m").unwrap();
        assert_eq!(amqp.expiration().as_ref().map(ShortString::as_str), Some("1500"));
        assert_eq!(from_amqp(&amqp).expiration, None);
    }

    #[test]
    fn a_text_that_is_too_long_is_an_error_and_no_panic() {
        let properties = Properties {
            correlation_id: Some("c".repeat(256)),
            ..Properties::default()
        };
        assert_eq!(to_amqp(&properties, "m"), Err(PublishError::Malformed));
    }
}
