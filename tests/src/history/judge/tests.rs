//! What the judge sees in histories that are made up.

use super::*;
use serde_json::json;

fn at(at_ms: u64, event: Value) -> Line {
    let mut line = event;
    line["at_ms"] = at_ms.into();
    serde_json::from_value(line).unwrap()
}

fn opened() -> Line {
    at(0, json!({"event": "opened", "connection": "a1", "subject": "a"}))
}

fn sent(at_ms: u64, id: &str) -> Line {
    at(
        at_ms,
        json!({"event": "sent", "connection": "a1", "id": id, "until_ms": 300_000}),
    )
}

fn heard(at_ms: u64, message: Value) -> Line {
    at(at_ms, json!({"event": "heard", "connection": "a1", "message": message}))
}

fn promises(lines: &[Line]) -> Vec<&'static str> {
    let end = lines.last().map_or(0, |line| line.at_ms) + 60_000;
    let over = at(end, json!({"event": "healed", "name": "nothing"}));
    let lines: Vec<_> = lines.iter().cloned().chain([over]).collect();
    judge(&lines).broken.into_iter().map(|broken| broken.promise).collect()
}

#[test]
fn a_history_in_which_all_is_answered_breaks_nothing() {
    let reply = json!({"type": "reply", "id": "1", "payload": {"of": "a1"}});
    let lines = [opened(), sent(1, "1"), heard(2, reply), sent(3, "2")];
    let busy = heard(
        5,
        json!({"type": "error", "id": "2", "error": {"code": "busy", "temporary": true}}),
    );
    let lines = [&lines[..], &[busy]].concat();
    assert_eq!(promises(&lines), [""; 0]);
    let judgement = judge(&lines);
    assert_eq!((judgement.sent, judgement.replied), (2, 1));
    assert_eq!(judgement.refused, BTreeMap::from([("busy".to_owned(), 1)]));
}

#[test]
fn each_promise_is_seen_to_be_broken() {
    let reply = |payload: Value| heard(2, json!({"type": "reply", "id": "1", "payload": payload}));
    let push = |whose: &str| heard(9, json!({"type": "push", "id": "p", "payload": {"for": whose}}));
    let pushed = |subject: &str| at(8_000, json!({"event": "pushed", "id": "p", "subject": subject}));
    let refused = json!({"type": "error", "id": "1", "error": {"code": "hold_overflow", "temporary": false}});
    let closed = |code: u16| at(3, json!({"event": "closed", "connection": "a1", "code": code}));
    let revoked = at(3, json!({"event": "revoked", "subject": "a"}));
    let late = |id: &str| heard(400_000, json!({"type": "reply", "id": id}));
    let other = |subject: &str| at(4, json!({"event": "opened", "connection": "x1", "subject": subject}));
    let at_other = |id: &str| {
        let message = json!({"type": "reply", "id": id, "payload": {"of": "a1"}});
        at(5, json!({"event": "heard", "connection": "x1", "message": message}))
    };
    let resumed = || at(4, json!({"event": "resumed", "connection": "x1", "of": "a1"}));
    let handled = |id: &str| at(4, json!({"event": "handled", "connection": "a1", "id": id}));
    let answered = |id: &str| heard(5, json!({"type": "reply", "id": id}));
    let two = || [opened(), sent(1, "1"), sent(1, "2")];
    let after = |id: &str| heard(9_000, json!({"type": "reply", "id": id}));
    for (promise, lines) in [
        ("P1", vec![opened(), sent(1, "1")]),
        ("P1", vec![opened(), sent(1, "1"), heard(2, refused)]),
        ("P2", vec![opened(), sent(1, "1"), reply(json!({"subject": "b"}))]),
        ("P4", vec![opened(), sent(1, "1"), late("1")]),
        ("P4", vec![opened(), sent(1, "1"), revoked, after("1")]),
        ("P5", vec![opened(), sent(1, "1"), reply(json!(1)), reply(json!(1))]),
        ("P5", vec![opened(), reply(json!(1))]),
        (
            "P5",
            [
                opened(),
                sent(1, "1"),
                closed(0),
                other("a"),
                resumed(),
                at_other("1"),
                at_other("1"),
            ]
            .into(),
        ),
        // Another of the same identity, without the key; with the asker gone and with it open.
        ("P5", vec![opened(), sent(1, "1"), closed(0), other("a"), at_other("1")]),
        (
            "P5",
            vec![opened(), sent(1, "1"), answered("1"), other("a"), at_other("1")],
        ),
        // A key opens nothing of another identity.
        (
            "P5",
            vec![opened(), sent(1, "1"), closed(0), other("b"), resumed(), at_other("1")],
        ),
        ("P5", vec![opened(), sent(1, "1"), closed(0), other("b"), at_other("1")]),
        ("P5", vec![opened(), sent(1, "1"), reply(json!({"of": "b1"}))]),
        (
            "P5",
            vec![opened(), sent(1, "1"), reply(json!({"of": "a1", "id": "2"}))],
        ),
        ("P6", vec![opened(), push("b")]),
        ("P7", vec![opened(), push("a"), push("a")]),
        ("P7", vec![opened(), pushed("a")]),
        ("P8", vec![opened(), sent(1, "1"), reply(json!("eyJhbGciOi"))]),
        ("P10", vec![opened(), sent(1, "1"), reply(json!(1)), closed(4401)]),
        ("P11", [&two()[..], &[answered("2"), answered("1")]].concat()),
        (
            "P11",
            [&two()[..], &[handled("2"), handled("1"), answered("1"), answered("2")]].concat(),
        ),
        // To the one that has the key, too.
        (
            "P11",
            [
                &two()[..],
                &[closed(0), other("a"), resumed(), at_other("2"), at_other("1")],
            ]
            .concat(),
        ),
    ] {
        assert_eq!(promises(&lines), [promise], "{lines:?}");
    }
}

#[test]
fn a_push_that_its_producer_was_told_of_is_not_lost() {
    for (told, lost) in [("refused", 0), ("no_recipient", 0), ("delivered", 1)] {
        let lines = [
            opened(),
            at(8_000, json!({"event": "pushed", "id": "p", "subject": "a"})),
            at(8_001, json!({"event": "told", "id": "p", "outcome": {"outcome": told}})),
            at(90_000, json!({"event": "healed", "name": "nothing"})),
        ];
        assert_eq!(judge(&lines).pushes_lost, lost, "{told}");
    }
}

#[test]
fn the_longest_gap_is_between_two_replies_and_counted_from_the_harm_too() {
    let reply = |at_ms, id: &str| heard(at_ms, json!({"type": "reply", "id": id}));
    let fault = at(1_500, json!({"event": "fault", "name": "killed"}));
    let lines = [
        opened(),
        sent(1, "1"),
        reply(1_000, "1"),
        fault,
        sent(2_000, "2"),
        reply(9_000, "2"),
    ];
    let judgement = judge(&lines);
    assert_eq!((judgement.gap_ms, judgement.back_after_ms), (8_000, Some(7_500)));
}

#[test]
fn who_shows_the_key_hears_what_is_owed_though_both_have_asked_by_one_id() {
    let of = |name: &str, event: Value| {
        let mut event = event;
        event["connection"] = name.into();
        at(2, event)
    };
    let open = |name: &str| of(name, json!({"event": "opened", "subject": "a"}));
    let ask = |name: &str, id: &str| of(name, json!({"event": "sent", "id": id, "until_ms": 300_000}));
    let resumed = |name: &str, before: &str| of(name, json!({"event": "resumed", "of": before}));
    let closed = |name: &str| of(name, json!({"event": "closed", "code": 0}));
    let reply = |name: &str, id: &str, asker: &str| {
        let message = json!({"type": "reply", "id": id, "payload": {"of": asker}});
        of(name, json!({"event": "heard", "message": message}))
    };
    let before = [open("a1"), ask("a1", "1"), ask("a1", "2"), closed("a1")];
    // The second is lost in its turn, and the third has the key of the second alone.
    let chain = [
        open("a2"),
        resumed("a2", "a1"),
        closed("a2"),
        open("a3"),
        resumed("a3", "a2"),
    ];
    let after = [
        ask("a3", "1"),
        reply("a3", "1", "a1"),
        reply("a3", "1", "a3"),
        reply("a3", "2", "a1"),
    ];
    let lines = [&before[..], &chain[..], &after[..]].concat();
    assert_eq!(promises(&lines), [""; 0]);
    let judgement = judge(&lines);
    assert_eq!((judgement.answered_elsewhere, judgement.replied), (2, 3));
    // Without the keys, each of the two is a breach.
    let without = [&before[..], &[open("a2"), closed("a2"), open("a3")], &after[..]].concat();
    assert!(promises(&without).contains(&"P5"));
}

#[test]
fn what_has_no_order_or_comes_again_breaks_none() {
    let opened_without = at(
        0,
        json!({"event": "opened", "connection": "a1", "subject": "a", "ordered": false}),
    );
    let answer = |id: &str| heard(5, json!({"type": "reply", "id": id}));
    let refused = |id: &str| heard(4, json!({"type": "error", "id": id, "error": {"temporary": true}}));
    let handled = |id: &str| at(3, json!({"event": "handled", "connection": "a1", "id": id}));
    for lines in [
        vec![opened_without, sent(1, "1"), sent(1, "2"), answer("2"), answer("1")],
        // A refusal is told at once, whatever comes before it, and what was refused may be handled all the same.
        vec![
            opened(),
            sent(1, "1"),
            sent(1, "2"),
            refused("1"),
            handled("2"),
            handled("1"),
            answer("2"),
        ],
        vec![
            opened(),
            sent(1, "1"),
            sent(1, "2"),
            refused("2"),
            handled("1"),
            answer("1"),
        ],
        // A run that comes again begins with its first once more.
        vec![
            opened(),
            sent(1, "1"),
            sent(1, "2"),
            handled("1"),
            handled("2"),
            handled("1"),
            handled("2"),
            answer("1"),
            answer("2"),
        ],
    ] {
        assert_eq!(promises(&lines), [""; 0], "{lines:?}");
    }
}

#[test]
fn pushes_of_one_channel_arrive_in_their_order_and_those_of_two_in_any() {
    let pushed = |id: &str| at(8_000, json!({"event": "pushed", "id": id, "subject": "a"}));
    let push = |id: &str| heard(8_001, json!({"type": "push", "id": id, "payload": {"for": "a"}}));
    let deaf = at(8_000, json!({"event": "deaf", "ids": []}));
    // Each of them is heard before its confirm is noted.
    let in_order = [opened(), push("p1"), pushed("p1"), push("p2"), pushed("p2")];
    assert_eq!(promises(&in_order), [""; 0]);
    let out_of_order = [opened(), pushed("p1"), push("p2"), pushed("p2"), push("p1")];
    assert_eq!(promises(&out_of_order), ["P11"]);
    let of_two = [opened(), pushed("p1"), deaf, push("p2"), pushed("p2"), push("p1")];
    assert_eq!(promises(&of_two), [""; 0]);
}
