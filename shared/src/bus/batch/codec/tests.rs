use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = Option<String>> {
    // Few, so that neighbours share them.
    proptest::option::of(prop_oneof![Just("a".to_owned()), Just("é".repeat(127)), "[a-z]{0,9}"])
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        "\\PC{0,20}".prop_map(Value::Text),
        any::<i64>().prop_map(Value::Integer),
        any::<bool>().prop_map(Value::Flag),
    ]
}

fn entry() -> impl Strategy<Value = BatchEntry> {
    let headers = prop_oneof![
        Just(Vec::new()),
        Just(vec![("h".to_owned(), Value::Integer(1))]),
        proptest::collection::vec(("[a-z]{1,5}", value()), 0..4),
    ];
    let around = (text(), text(), text(), text(), text(), any::<Option<u64>>(), headers);
    (around, proptest::collection::vec(any::<u8>(), 0..300), 0_u32..3).prop_map(|(around, body, deliveries)| {
        let (content_type, kind, message_id, correlation_id, reply_to, timestamp_s, headers) = around;
        let properties = Properties {
            content_type,
            kind,
            message_id,
            correlation_id,
            reply_to,
            timestamp_s,
            expiration: None,
            headers,
        };
        BatchEntry {
            message: Message {
                body: body.into(),
                properties,
            },
            deliveries,
        }
    })
}

fn encoded(entries: &[BatchEntry]) -> Bytes {
    let bytes = entries.iter().map(|entry| size(&entry.message).unwrap()).sum();
    let batch = encode(entries.iter().map(|entry| (&entry.message, entry.deliveries)), bytes);
    assert!(batch.len() <= bytes + HEAD, "a size is never less than what is written");
    batch
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(entries in proptest::collection::vec(entry(), 1..=MOST_ENTRIES)) {
        prop_assert_eq!(decode(&encoded(&entries)).unwrap(), entries);
    }

    /// Cut anywhere and changed anywhere, it is read or refused; it never panics, and what is read is within the bounds.
    #[test]
    fn whatever_comes_is_read_or_refused(
        entries in proptest::collection::vec(entry(), 1..5),
        cut in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = encoded(&entries).to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(read) = decode(&bytes.into()) {
            let total: usize = read.iter().map(|entry| size(&entry.message).unwrap()).sum();
            prop_assert!(!read.is_empty() && read.len() <= MOST_ENTRIES && total <= MOST_READ);
        }
    }
}

fn plain(body: &[u8]) -> BatchEntry {
    BatchEntry {
        message: Message {
            body: Bytes::copy_from_slice(body),
            properties: Properties::default(),
        },
        deliveries: 0,
    }
}

#[test]
fn what_lies_about_itself_is_refused_with_the_reason() {
    let good = encoded(&[plain(b"one"), plain(b"two")]);
    let changed = |place: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[place] = byte;
        Bytes::from(bytes)
    };
    let nested = {
        let mut bytes = BytesMut::new();
        bytes.put_slice(&[VERSION, 1]);
        bytes.put_u16(GIVEN);
        put_short(&mut bytes, CONTENT_TYPE);
        bytes.put_u32(0);
        bytes.freeze()
    };
    let many = |count: usize| {
        let mut bytes = vec![VERSION, u8::try_from(count).unwrap()];
        bytes.extend(std::iter::repeat_n([0_u8; 6], count).flatten());
        Bytes::from(bytes)
    };
    for (batch, broken) in [
        (Bytes::new(), Broken::Cut),
        (Bytes::from_static(&[VERSION]), Broken::Cut),
        (changed(1, 0), Broken::Empty),
        (changed(1, 1), Broken::TooMany),
        (changed(1, 3), Broken::Cut),
        (changed(0, 2), Broken::Version),
        (good.slice(..good.len() - 1), Broken::Cut),
        (changed(4, 0xFF), Broken::Cut),
        // The first entry has none before it.
        (changed(3, u8::try_from(SAME).unwrap()), Broken::Flags),
        (changed(3, 3), Broken::Flags),
        (changed(2, 0x80), Broken::Flags),
        (nested, Broken::Nested),
        (many(MOST_ENTRIES + 1), Broken::TooMany),
        (Bytes::from(vec![VERSION; MOST_READ + 1]), Broken::TooLarge),
    ] {
        assert_eq!(decode(&batch), Err(broken), "{:?}", &batch[..batch.len().min(16)]);
    }
    assert_eq!(decode(&many(MOST_ENTRIES)).unwrap().len(), MOST_ENTRIES);
}

#[test]
fn what_is_shared_by_all_is_no_way_to_fill_a_memory() {
    let headers = vec![("h".to_owned(), Value::Text("x".repeat(MOST_BYTES / 2)))];
    let mut entry = plain(b"");
    entry.message.properties.headers = headers;
    let entries = vec![entry; 5];
    let batch = encode(entries.iter().map(|entry| (&entry.message, 0)), 0);
    assert!(batch.len() < MOST_BYTES);
    assert_eq!(decode(&batch), Err(Broken::TooLarge));
}

#[test]
fn what_cannot_be_in_a_batch_has_no_size() {
    let with = |change: fn(&mut Message)| {
        let mut message = Message::default();
        change(&mut message);
        size(&message)
    };
    assert_eq!(with(|message| message.properties.kind = Some("x".repeat(256))), None);
    assert_eq!(
        with(|message| message.properties.expiration = Some(Duration::ZERO)),
        None
    );
    assert_eq!(with(|message| message.body = vec![0; MOST_BYTES].into()), None);
    assert_eq!(
        with(|message| message.properties.content_type = Some(CONTENT_TYPE.to_owned())),
        None
    );
    assert_eq!(
        with(|message| message.properties.kind = Some("x".repeat(255))),
        Some(FIXED + 256)
    );
}
