use bytes::{BufMut, BytesMut};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use proptest::prelude::*;

use super::*;
use crate::bus::{UNREADABLE, Value, rabbitmq::convert::from_amqp};

const WIDE: Mesh = Mesh {
    properties: usize::MAX,
    body: u64::MAX,
};

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    put_frame(kind, channel, payload, &mut frame);
    frame.to_vec()
}

/// A content header with those flags, and what stands behind them.
fn header(body: u64, flags: u16, properties: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0];
    payload.put_u64(body);
    payload.put_u16(flags);
    payload.extend_from_slice(properties);
    frame(HEADER, 1, &payload)
}

fn short(text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(text.len()).unwrap()];
    bytes.extend_from_slice(text);
    bytes
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let mut long = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    long.extend_from_slice(bytes);
    long
}

fn sifted(mesh: Mesh, input: &[u8], pieces: usize) -> Vec<u8> {
    let mut out = BytesMut::new();
    let mut sieve = Sieve::default();
    for piece in input.chunks(pieces) {
        sieve.push(piece, mesh, &mut out);
    }
    out.to_vec()
}

/// What lapin reads of a content header.
fn read(frame: &[u8]) -> BasicProperties {
    let payload = &frame[FRAME_HEAD..frame.len() - 1];
    let (rest, properties) = lapin::protocol::basic::parse_properties(&payload[12..]).expect("lapin reads it");
    assert!(rest.is_empty());
    properties
}

const HEADERS: u16 = 0x2000;
const CORRELATION_ID: u16 = 0x0400;
const REPLY_TO: u16 = 0x0200;
const MESSAGE_ID: u16 = 0x0080;

#[test]
fn a_text_that_is_not_utf_8_is_left_out_and_told_and_all_else_is_there() {
    let properties = [short(b"c"), short(b"q"), short(b"\xff")].concat();
    let header = header(3, CORRELATION_ID | REPLY_TO | MESSAGE_ID, &properties);
    let properties = from_amqp(&read(&sifted(WIDE, &header, 1)));
    assert_eq!(properties.correlation_id.as_deref(), Some("c"));
    assert_eq!(properties.reply_to.as_deref(), Some("q"));
    assert_eq!(properties.message_id, None);
    assert_eq!(properties.header(UNREADABLE), Some(&Value::Flag(true)));
}

#[test]
fn headers_that_lapin_does_not_know_or_that_are_nested_without_end_are_left_out_and_others_kept() {
    let mut deep = Vec::new();
    for _ in 0..20_000 {
        deep = [b"A".to_vec(), long(&deep)].concat();
        if deep.len() > 100_000 {
            break;
        }
    }
    let good = [short(b"good"), b"t\x01".to_vec()].concat();
    for (name, bad, behind) in [
        ("nested", [short(b"n"), deep].concat(), true),
        (
            "a name that is not UTF-8",
            [short(b"\xc3"), b"V".to_vec()].concat(),
            true,
        ),
        ("an unknown type", [short(b"n"), b"Zxxxx".to_vec()].concat(), false),
        ("no end", [short(b"n"), b"S\xff\xff\xff\xff".to_vec()].concat(), false),
        (
            "an unknown type within",
            [short(b"n"), b"F".to_vec(), long(b"\x01aZ")].concat(),
            true,
        ),
    ] {
        let table = [good.clone(), bad, [short(b"behind"), b"t\x01".to_vec()].concat()].concat();
        let header = header(0, HEADERS | MESSAGE_ID, &[long(&table), short(b"m")].concat());
        let properties = from_amqp(&read(&sifted(WIDE, &header, 7)));
        assert_eq!(properties.message_id.as_deref(), Some("m"), "{name}");
        assert_eq!(properties.header("good"), Some(&Value::Flag(true)), "{name}");
        assert_eq!(properties.header("behind").is_some(), behind, "{name}");
        assert_eq!(properties.header("n"), None, "{name}");
        assert_eq!(properties.header(UNREADABLE), None, "{name}: nobody reads it");
    }
}

#[test]
fn what_is_more_than_a_frame_holds_is_left_out_but_what_means_something() {
    let mut headers = FieldTable::default();
    headers.insert("a".into(), AMQPValue::LongString("a".repeat(130_000).into()));
    headers.insert("subject".into(), AMQPValue::LongString("alice".into()));
    headers.insert("x-delivery-count".into(), AMQPValue::LongInt(3));
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_reply_to("q".into());
    let mut bytes = vec![0; 140_000];
    let length = bytes.len();
    let mut payload = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let written = lapin::protocol::basic::gen_properties(&properties)((&mut bytes[..]).into()).expect("there is room");
    let left = written.into_inner().0.len();
    payload.extend_from_slice(&bytes[..length - left]);
    let mesh = Mesh {
        properties: 4_096,
        body: 10,
    };
    let out = sifted(mesh, &frame(HEADER, 1, &payload), 4_000);
    assert!(out.len() <= 4_096, "{}", out.len());
    let kept = from_amqp(&read(&out));
    assert_eq!(kept.reply_to.as_deref(), Some("q"));
    assert_eq!(kept.header("subject"), Some(&Value::Text("alice".into())));
    assert_eq!(kept.header("x-delivery-count"), Some(&Value::Integer(3)));
    assert_eq!(kept.header("a"), None);
    assert_eq!(kept.header(UNREADABLE), None);
}

#[test]
fn a_body_is_cut_where_the_mesh_ends_and_what_follows_is_not() {
    let mesh = Mesh { body: 5, ..WIDE };
    for pieces in [1, 3, 1_000] {
        let input = [
            header(9, 0, b""),
            frame(BODY, 1, b"abcd"),
            frame(BODY, 1, b"efgh"),
            frame(HEARTBEAT, 0, b""),
            frame(BODY, 1, b"i"),
            header(2, 0, b""),
            frame(BODY, 1, b"jk"),
        ];
        let output = [
            header(5, 0, b""),
            frame(BODY, 1, b"abcd"),
            frame(BODY, 1, b"e"),
            frame(HEARTBEAT, 0, b""),
            header(2, 0, b""),
            frame(BODY, 1, b"jk"),
        ];
        assert_eq!(sifted(mesh, &input.concat(), pieces), output.concat());
    }
}

#[test]
fn a_key_that_is_not_utf_8_is_mended() {
    let deliver = |exchange: &[u8], key: &[u8]| {
        let parts = [
            &[0, 60, 0, 60][..],
            &short(b"tag"),
            &[0; 9],
            &short(exchange),
            &short(key),
        ];
        frame(METHOD, 1, &parts.concat())
    };
    assert_eq!(sifted(WIDE, &deliver(b"x", b"\xffk"), 2), deliver(b"x", b"?k"));
    let good = deliver("é".as_bytes(), b"k");
    assert_eq!(sifted(WIDE, &good, 2), good);
}

#[test]
fn what_is_not_amqp_goes_through_as_it_is() {
    let input = b"AMQP\x00\x00\x09\x01 or HTTP/1.1 400 Bad Request";
    assert_eq!(sifted(WIDE, input, 5), input);
}

proptest! {
    /// Whatever flags and bytes stand there, lapin reads what is left, and it is no more than there is room for.
    #[test]
    fn lapin_reads_whatever_is_left(
        flags: u16,
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0_u8), Just(b'F'), Just(b'S')], 0..600),
        room in 3_800..8_000_usize,
        pieces in 1..50_usize,
    ) {
        let mesh = Mesh { properties: room, body: u64::MAX };
        let out = sifted(mesh, &header(0, flags, &bytes), pieces);
        prop_assert!(out.len() <= room);
        read(&out);
    }

    /// What lapin has written is read as it was.
    #[test]
    fn what_is_readable_is_as_it_was(texts in prop::collection::vec("\\PC{0,60}", 3), number: i64) {
        let mut headers = FieldTable::default();
        headers.insert("number".into(), AMQPValue::LongLongInt(number));
        headers.insert("text".into(), AMQPValue::LongString(texts[0].as_str().into()));
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_message_id(texts[1].as_str().into())
            .with_type(texts[2].as_str().into())
            .with_timestamp(7);
        let mut bytes = vec![0; 10_000];
        let length = bytes.len();
        let written = lapin::protocol::basic::gen_properties(&properties)((&mut bytes[..]).into()).unwrap();
        let left = written.into_inner().0.len();
        bytes.truncate(length - left);
        let payload = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &bytes[..]].concat();
        let frame = frame(HEADER, 1, &payload);
        prop_assert_eq!(sifted(WIDE, &frame, 11), frame);
    }
}
