//! Messages to and from lapin's types.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::bus::{DEATH_EXCHANGE, DEATH_QUEUE, DEATH_REASON, Properties, PublishError, Value, set_expiration};

/// `delivery-mode` 2 (AMQP 0-9-1 §1.8.3.1): the broker writes it to disk before it confirms.
const PERSISTENT: u8 = 2;

/// A text of at most 255 bytes; lapin's own conversion panics on a longer one.
pub(super) fn short(text: &str) -> Result<ShortString, PublishError> {
    ShortString::try_new(text).map_err(|_| PublishError::Malformed)
}

/// The header by which a publication is told from every other, also from those that have the same `message_id`.
pub(super) const PUBLICATION: &str = "publication";

/// Properties to publish, under that name of their own, in at most `room` bytes.
pub(super) fn to_amqp(
    properties: &Properties,
    publication: &str,
    room: usize,
) -> Result<BasicProperties, PublishError> {
    if size(properties, publication) > room {
        return Err(PublishError::Malformed);
    }
    let mut amqp = BasicProperties::default().with_delivery_mode(PERSISTENT);
    if let Some(text) = &properties.message_id {
        amqp = amqp.with_message_id(short(text)?);
    }
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
    let mut headers = FieldTable::default();
    headers.insert(short(PUBLICATION)?, AMQPValue::LongString(publication.into()));
    for (name, value) in &properties.headers {
        let value = match value {
            Value::Text(text) => AMQPValue::LongString(text.as_str().into()),
            Value::Integer(number) => AMQPValue::LongLongInt(*number),
            Value::Flag(flag) => AMQPValue::Boolean(*flag),
            Value::Other => continue,
        };
        headers.insert(short(name)?, value);
    }
    Ok(amqp.with_headers(headers))
}

/// About how many bytes they take on the wire, and not less (AMQP 0-9-1 §4.2.5 and §4.2.6.1).
fn size(properties: &Properties, publication: &str) -> usize {
    /// The frame's own bytes, the content header's, and the numbers among the properties.
    const FIXED: usize = 64;
    /// The length and the type of a header's name and value.
    const HEADER: usize = 6;
    let texts = [
        &properties.content_type,
        &properties.kind,
        &properties.message_id,
        &properties.correlation_id,
        &properties.reply_to,
    ];
    let texts: usize = texts.into_iter().flatten().map(|text| text.len() + 1).sum();
    let headers = properties.headers.iter().map(|(name, value)| {
        let value = match value {
            Value::Text(text) => text.len(),
            Value::Integer(_) | Value::Flag(_) => 8,
            Value::Other => 0,
        };
        name.len() + value + HEADER
    });
    FIXED + texts + PUBLICATION.len() + publication.len() + HEADER + headers.sum::<usize>()
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
        headers: headers_of(amqp),
    }
}

/// Its headers, and what it says elsewhere of how long it may wait.
fn headers_of(amqp: &BasicProperties) -> Vec<(String, Value)> {
    let mut headers = amqp.headers().as_ref().map(headers_from).unwrap_or_default();
    // The broker has seen that it is a number (AMQP 0-9-1 calls it a text).
    let expiration = amqp.expiration().as_ref().and_then(|text| text.as_str().parse().ok());
    if let Some(expiration) = expiration {
        set_expiration(&mut headers, expiration);
    }
    headers
}

/// Where and why the broker gave a message up last: what it says first in `x-death`, whatever anyone wrote there before, or
/// in the headers about its first death (<https://www.rabbitmq.com/docs/dlx#effects>).
fn death(deaths: &AMQPValue) -> Vec<(String, Value)> {
    let AMQPValue::FieldArray(deaths) = deaths else {
        return Vec::new();
    };
    let Some(AMQPValue::FieldTable(death)) = deaths.as_slice().first() else {
        return Vec::new();
    };
    let told = [
        (DEATH_QUEUE, "queue"),
        (DEATH_REASON, "reason"),
        (DEATH_EXCHANGE, "exchange"),
    ];
    let told = told
        .into_iter()
        .filter_map(|(name, key)| match death.inner().get(key)? {
            AMQPValue::LongString(text) => Some((name, str::from_utf8(text.as_bytes()).ok()?)),
            _ => None,
        });
    told.map(|(name, text)| (name.to_owned(), Value::Text(text.to_owned())))
        .collect()
}

/// The name that a publication was given.
pub(super) fn publication_of(amqp: &BasicProperties) -> Option<String> {
    match amqp.headers().as_ref()?.inner().get(PUBLICATION)? {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        _ => None,
    }
}

fn headers_from(table: &FieldTable) -> Vec<(String, Value)> {
    let died = table.inner().get("x-death").map(death).unwrap_or_default();
    table
        .inner()
        .iter()
        .filter(|(name, _)| ![PUBLICATION, DEATH_QUEUE, DEATH_REASON, DEATH_EXCHANGE].contains(&name.as_str()))
        .map(|(name, value)| (name.as_str().to_owned(), value_from(value)))
        .chain(died)
        .collect()
}

fn value_from(value: &AMQPValue) -> Value {
    match value {
        // What is no text says nothing to us, and would come out longer than it went in.
        AMQPValue::LongString(text) => {
            str::from_utf8(text.as_bytes()).map_or(Value::Other, |text| Value::Text(text.to_owned()))
        }
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
    use crate::bus::EXPIRATION;

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
        let amqp = to_amqp(&properties, "p.1", usize::MAX).unwrap();
        assert_eq!(from_amqp(&amqp), properties);
        assert_eq!(publication_of(&amqp).as_deref(), Some("p.1"));
    }

    #[test]
    fn how_long_it_may_wait_is_told_to_the_broker_alone() {
        let properties = Properties {
            expiration: Some(std::time::Duration::from_millis(1_500)),
            ..Properties::default()
        };
        let amqp = to_amqp(&properties, "m", usize::MAX).unwrap();
        assert_eq!(amqp.expiration().as_ref().map(ShortString::as_str), Some("1500"));
        let back = from_amqp(&amqp);
        assert_eq!(
            (back.expiration, back.header(EXPIRATION)),
            (None, Some(&Value::Integer(1_500)))
        );
    }

    #[test]
    fn a_text_that_is_too_long_is_an_error_and_no_panic() {
        let properties = Properties {
            correlation_id: Some("c".repeat(256)),
            ..Properties::default()
        };
        assert_eq!(to_amqp(&properties, "m", usize::MAX), Err(PublishError::Malformed));
    }

    #[test]
    fn what_does_not_fit_into_a_frame_is_an_error_and_what_does_is_none() {
        for (headers, room) in [(0, 200), (100, 300), (4_000, 8_000)] {
            let properties = Properties {
                message_id: Some("m".repeat(50)),
                headers: (0..headers / 20)
                    .map(|n| (format!("h{n}"), Value::Text("x".repeat(10))))
                    .collect(),
                ..Properties::default()
            };
            assert!(to_amqp(&properties, "p.1", room).is_ok(), "{headers}");
            assert_eq!(to_amqp(&properties, "p.1", headers / 2), Err(PublishError::Malformed));
            // It is never less than what crosses the wire.
            let amqp = to_amqp(&properties, "p.1", usize::MAX).unwrap();
            let table = amqp.headers().as_ref().unwrap().inner();
            let value = |value: &AMQPValue| match value {
                AMQPValue::LongString(text) => text.as_bytes().len() + 5,
                _ => 9,
            };
            let written: usize = table
                .iter()
                .map(|(name, one)| 1 + name.as_str().len() + value(one))
                .sum();
            assert!(size(&properties, "p.1") >= written + 51 + 4 + 14 + 8, "{headers}");
        }
    }
}
