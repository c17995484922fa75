//! Frames that break RFC 6455, or our limits, end their connection with the code that says why.

use std::fs;

use serde_json::{Value, json};
use tests::peers::raw::{RawClient, RawFrame, opcode};
use tests::{Client, Program, Span, Stack, token_for};

/// The first bit behind `fin`: no extension is ever agreed on, so it must be 0 (RFC 6455, section 5.2).
const RSV1: u8 = 0x40;

/// What a server said before it closed, and its close code.
async fn ending(client: &mut RawClient) -> (Vec<Value>, Option<u16>) {
    let mut said = Vec::new();
    while let Some(frame) = client.read_frame(10.s()).await {
        match frame.opcode {
            opcode::TEXT => said.push(serde_json::from_slice(&frame.payload).unwrap()),
            opcode::CLOSE => return (said, frame.close_code()),
            _ => {}
        }
    }
    (said, None)
}

async fn ending_after(address: std::net::SocketAddr, bytes: &[u8]) -> (Vec<Value>, Option<u16>) {
    let mut client = RawClient::upgraded(address).await;
    client.write(bytes).await;
    let ending = ending(&mut client).await;
    client.expect_no_reset(10.s()).await;
    ending
}

fn frame(opcode: u8, payload: impl Into<Vec<u8>>) -> RawFrame {
    RawFrame::new(opcode, payload)
}

fn with_first_byte(frame: &RawFrame, change: impl Fn(u8) -> u8) -> Vec<u8> {
    let mut bytes = frame.bytes();
    bytes[0] = change(bytes[0]);
    bytes
}

/// The head of a masked text frame, without anything behind it.
fn announcement(length: u64) -> Vec<u8> {
    [&[0x81, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat()
}

/// Resident memory in bytes (proc(5), `VmRSS`).
fn resident(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_frames_close_with_the_code_that_says_why() {
    let stack = Stack::builder().workers(0).start().await;
    let address = stack.terminators()[0].address();
    let text = frame(opcode::TEXT, "{}");
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        (
            "a byte that no UTF-8 has",
            frame(opcode::TEXT, *b"{\"\xff\"}").bytes(),
            1007,
        ),
        ("an overlong slash", frame(opcode::TEXT, *b"\xc0\xaf").bytes(), 1007),
        ("a surrogate", frame(opcode::TEXT, *b"\xed\xa0\x80").bytes(), 1007),
        ("half a character", frame(opcode::TEXT, *b"\xe2\x82").bytes(), 1007),
        (
            "half a character in the last fragment",
            [
                frame(opcode::TEXT, *b"\xe2").unfinished().bytes(),
                frame(opcode::CONTINUATION, *b"\x82").bytes(),
            ]
            .concat(),
            1007,
        ),
        ("an unmasked frame", text.clone().unmasked().bytes(), 1002),
        ("a reserved bit", with_first_byte(&text, |byte| byte | RSV1), 1002),
        ("a reserved opcode", frame(3, "{}").bytes(), 1002),
        ("a reserved control opcode", frame(11, "").bytes(), 1002),
        ("a fragmented ping", frame(opcode::PING, "x").unfinished().bytes(), 1002),
        ("a ping over 125 bytes", frame(opcode::PING, [0; 126]).bytes(), 1002),
        (
            "a continuation of nothing",
            frame(opcode::CONTINUATION, "x").bytes(),
            1002,
        ),
        (
            "a text within a fragmented text",
            [text.clone().unfinished().bytes(), text.bytes()].concat(),
            1002,
        ),
        ("a close of one byte", frame(opcode::CLOSE, [3]).bytes(), 1002),
        ("a binary frame", frame(opcode::BINARY, "{}").bytes(), 1003),
        ("an empty binary frame", frame(opcode::BINARY, "").bytes(), 1003),
    ];
    for (what, bytes, code) in cases {
        assert_eq!(ending_after(address, &bytes).await.1, Some(code), "{what}");
    }
    let (said, code) = ending_after(address, &frame(opcode::CLOSE, 1000_u16.to_be_bytes()).bytes()).await;
    assert_eq!((said, code), (vec![], Some(1000)), "a good-bye is returned");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_big_is_refused_in_words_before_the_close() {
    let stack = Stack::builder()
        .workers(0)
        .setting("max-message-size", "4KiB")
        .start()
        .await;
    let address = stack.terminators()[0].address();
    let part = |opcode| frame(opcode, "p".repeat(1_500)).unfinished().bytes();
    let fragmented = [
        part(opcode::TEXT),
        part(opcode::CONTINUATION),
        part(opcode::CONTINUATION),
        part(opcode::CONTINUATION),
    ];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("one byte too many", frame(opcode::TEXT, "p".repeat(4_097)).bytes()),
        // More than the server ever reads: what it leaves unread must not turn its words into a reset.
        ("a megabyte", frame(opcode::TEXT, "p".repeat(1_048_576)).bytes()),
        ("fragments that add up", fragmented.concat()),
        ("a length of 2^62", announcement(1 << 62)),
        ("a length of 2^64 - 1", announcement(u64::MAX)),
    ];
    for (what, bytes) in cases {
        for _ in 0..5 {
            let (said, code) = ending_after(address, &bytes).await;
            assert_eq!(code, Some(1009), "{what}");
            assert_eq!(said.last().unwrap()["error"]["code"], "too_large", "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_just_the_size_is_answered_however_it_is_cut() {
    let stack = Stack::builder().setting("max-message-size", "4KiB").start().await;
    let mut client = RawClient::upgraded(stack.terminators()[0].address()).await;
    let whole = |padding: usize| {
        let token = token_for("alice").mint();
        json!({"id": "m", "type": "echo", "token": token, "payload": "p".repeat(padding)}).to_string()
    };
    let message = whole(4_096 - whole(0).len());
    let bytes = message.as_bytes();
    assert_eq!(bytes.len(), 4_096);
    let mut cut: Vec<_> = bytes.chunks(100).collect();
    let last = cut.pop().unwrap();
    client.send(&frame(opcode::TEXT, "").unfinished()).await;
    for part in cut {
        client.send(&frame(opcode::CONTINUATION, part).unfinished()).await;
        client.send(&frame(opcode::PING, "between fragments")).await;
    }
    client.send(&frame(opcode::CONTINUATION, last)).await;
    loop {
        let frame = client.read_frame(10.s()).await.unwrap();
        if frame.opcode == opcode::TEXT {
            let answer: Value = serde_json::from_slice(&frame.payload).unwrap();
            assert_eq!(
                (&answer["type"], &answer["id"]),
                (&json!("reply"), &json!("m")),
                "{answer}"
            );
            return;
        }
        assert_eq!(
            (frame.opcode, &*frame.payload),
            (opcode::PONG, &b"between fragments"[..])
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_is_only_announced_takes_no_memory() {
    let stack = Stack::builder().workers(0).start().await;
    let terminator = &stack.terminators()[0];
    let announced = announcement(1 << 62);
    // The largest that is let in, begun and never finished.
    let begun = &frame(opcode::TEXT, vec![b'p'; 65_536]).bytes()[..20];
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(RawClient::upgraded(terminator.address()).await);
    }
    let before = resident(terminator);
    for (number, client) in held.iter_mut().enumerate() {
        client.write(if number % 2 == 0 { &announced } else { begun }).await;
    }
    for client in held.iter_mut().step_by(2) {
        assert_eq!(ending(client).await.1, Some(1009));
    }
    let grown = resident(terminator).saturating_sub(before);
    // Twenty connections of some 100 KiB at most.
    assert!(grown < 2 * 1_024 * 1_024, "{grown} bytes");
    Client::connect(terminator).await.ping(10.s()).await;
}
