use super::*;
use proptest::prelude::*;

fn fault(body: &str) -> (Option<String>, Fault) {
    match ClientMessage::parse(body.as_bytes(), MAX_BODY_BYTES) {
        Ok(_) => panic!("it was taken for a message: {body}"),
        Err(malformed) => (malformed.id.map(|id| id.to_string()), malformed.fault),
    }
}

#[test]
fn a_message_is_read_with_all_its_members() {
    let body = br#" {"id":"a\u0031","type":"echo","token":"t.o.k","payload": {"n":[1, 2]} ,"later":{"x":1}} "#;
    let message = ClientMessage::parse(body, MAX_BODY_BYTES).unwrap_or_else(|malformed| panic!("{malformed:?}"));
    assert_eq!(message.id, Some(RequestId::text("a1")));
    assert_eq!(message.kind, "echo");
    assert_eq!(message.token.as_deref(), Some("t.o.k"));
    assert_eq!(message.payload.unwrap().get(), r#"{"n":[1, 2]}"#);
}

#[test]
fn only_the_type_is_needed_and_what_is_null_is_absent() {
    for body in [r#"{"type":"x"}"#, r#"{"id":null,"type":"x","token": null }"#] {
        let message =
            ClientMessage::parse(body.as_bytes(), MAX_BODY_BYTES).unwrap_or_else(|malformed| panic!("{malformed:?}"));
        assert!(message.id.is_none() && message.token.is_none() && message.payload.is_none());
    }
    let message = ClientMessage::parse(br#"{"type":"x","payload":null}"#, MAX_BODY_BYTES)
        .unwrap_or_else(|malformed| panic!("{malformed:?}"));
    assert_eq!(message.payload.unwrap().get(), "null", "it is the application's");
}

#[test]
fn a_timeout_is_a_whole_number_of_milliseconds_up_to_a_day() {
    let read = |timeout: &str| {
        let body = format!(r#"{{"id":"i","type":"x","timeout_ms":{timeout}}}"#);
        let parsed = ClientMessage::parse(body.as_bytes(), MAX_BODY_BYTES);
        parsed
            .map(|message| message.timeout.map(|timeout| timeout.as_millis()))
            .map_err(|malformed| malformed.fault)
    };
    for (timeout, ms) in [
        ("null", None),
        ("1", Some(1)),
        (" 5000 ", Some(5_000)),
        ("86400000", Some(86_400_000)),
    ] {
        assert_eq!(read(timeout), Ok(ms));
    }
    for wrong in [
        "0",
        "-1",
        "1.5",
        "1e3",
        "86400001",
        "1e400",
        &"9".repeat(99),
        "\"5\"",
        "true",
        "[1]",
        "{}",
    ] {
        assert_eq!(read(wrong), Err(Fault::Timeout), "{wrong}");
    }
    assert!(Fault::Timeout.to_string().contains("`timeout_ms`"));
}

#[test]
fn a_message_without_a_type_may_give_another_up() {
    let given_up = |body: &str| match ClientMessage::parse(body.as_bytes(), MAX_BODY_BYTES) {
        Ok(message) => Ok(format!("a message of the type {}", message.kind)),
        Err(malformed) => match ClientMessage::given_up(body.as_bytes(), malformed) {
            Ok(id) => Ok(id.as_str().to_owned()),
            Err(malformed) => Err(malformed.fault),
        },
    };
    assert_eq!(given_up(r#"{"cancel":"a\u0031"}"#).unwrap(), "a1");
    assert_eq!(given_up(r#"{"cancel":7,"id":"i"}"#).unwrap(), "7");
    assert_eq!(
        given_up(r#"{"type":"x","cancel":"a"}"#).unwrap(),
        "a message of the type x"
    );
    for (body, expected) in [
        (r#"{"cancel":null}"#, Fault::NoType),
        (r#"{"cancel":""}"#, Fault::Cancel),
        (r#"{"cancel":{}}"#, Fault::Cancel),
        (r#"{"cancel":1.5}"#, Fault::Cancel),
        (&format!(r#"{{"cancel":"{}"}}"#, "x".repeat(129)), Fault::Cancel),
        (r#"{"cancel":"a","cancel":"b"}"#, Fault::Repeated("`cancel`")),
        (r#"{"cancel":"\ud800"}"#, Fault::LoneSurrogate),
    ] {
        assert_eq!(given_up(body), Err(expected), "{body}");
    }
}

#[test]
fn an_integer_is_an_id() {
    let message = ClientMessage::parse(br#"{"id":-7,"type":"x"}"#, MAX_BODY_BYTES)
        .unwrap_or_else(|malformed| panic!("{malformed:?}"));
    assert_eq!(message.id, RequestId::integer("-7").ok());
}

#[test]
fn each_fault_has_its_name_and_keeps_the_id_where_there_is_one() {
    let i = Some("i".to_owned());
    let long = "x".repeat(129);
    for (body, expected) in [
        (
            "",
            (
                None,
                Fault::NotJson("EOF while parsing a value at line 1 column 0".into()),
            ),
        ),
        ("[1]", (None, Fault::NotAnObject)),
        ("\"eyJhbGciOi\"", (None, Fault::NotAnObject)),
        (r#"{"id":"i"}"#, (i.clone(), Fault::NoType)),
        (r#"{"id":"i","type":7}"#, (i.clone(), Fault::NotAString("type"))),
        (r#"{"id":"i","type":""}"#, (i.clone(), Fault::Empty("type"))),
        (
            r#"{"id":"i","type":"x","token":true}"#,
            (i.clone(), Fault::NotAString("token")),
        ),
        (
            r#"{"id":"i","type":"x","token":"a","token":"b"}"#,
            (i.clone(), Fault::Repeated("`token`")),
        ),
        (
            r#"{"id":"i","type":"x","t\u006fken":"a","token":"b"}"#,
            (i.clone(), Fault::Repeated("`token`")),
        ),
        (
            r#"{"id":"i","type":"x","new":1,"new":2}"#,
            (i.clone(), Fault::Repeated("one that has no meaning here")),
        ),
        (r#"{"id":"i","id":"j","type":"x"}"#, (None, Fault::Repeated("`id`"))),
        (r#"{"id":"i","type":"auth.new"}"#, (i.clone(), Fault::Reserved)),
        (
            r#"{"id":"i","type":"\u0061uth\u002enew"}"#,
            (i.clone(), Fault::Reserved),
        ),
        (
            r#"{"id":"i","type":"\u0061uth.authenticate"}"#,
            (i.clone(), Fault::Escaped),
        ),
        (r#"{"id":"i","type":"auth\u002eforget"}"#, (i.clone(), Fault::Escaped)),
        (
            r#"{"id":"i","type":"x","payload":"\ud800"}"#,
            (i.clone(), Fault::LoneSurrogate),
        ),
        (
            r#"{"id":"i","type":"x","new":["\udc00\ud800"]}"#,
            (i.clone(), Fault::LoneSurrogate),
        ),
        (r#"{"id":"\ud800","type":"x"}"#, (None, Fault::LoneSurrogate)),
        (r#"{"id":"i","type":"\ud800"}"#, (i.clone(), Fault::LoneSurrogate)),
        (r#"{"id":"","type":"x"}"#, (None, Fault::Empty("id"))),
        (r#"{"id":7.5,"type":"x"}"#, (None, Fault::NotAnId)),
        (r#"{"id":1e400,"type":"x"}"#, (None, Fault::NotAnId)),
        (r#"{"id":{},"type":"x"}"#, (None, Fault::NotAnId)),
        (r#"{"id":[7],"type":"x"}"#, (None, Fault::NotAnId)),
        (r#"{"id":true,"type":"x"}"#, (None, Fault::NotAnId)),
        (r#"{"id":7}"#, (Some("7".to_owned()), Fault::NoType)),
        (
            r#"{"id":"i","type":"x","timeout_ms":1,"timeout_ms":1}"#,
            (i.clone(), Fault::Repeated("`timeout_ms`")),
        ),
        (r#"{"id":"i","type":null}"#, (i.clone(), Fault::NoType)),
        (r#"{"id":null,"id":"i","type":"x"}"#, (None, Fault::Repeated("`id`"))),
        (
            &format!(r#"{{"id":{},"type":"x"}}"#, "7".repeat(129)),
            (None, Fault::TooLong("id", 128)),
        ),
        (
            &format!(r#"{{"id":"{long}","type":"x"}}"#),
            (None, Fault::TooLong("id", 128)),
        ),
        (
            &format!(r#"{{"id":"i","type":"{long}"}}"#),
            (i.clone(), Fault::TooLong("type", 128)),
        ),
    ] {
        assert_eq!(fault(body), expected, "{body}");
    }
    let (id, fault) = fault(r#"{"id":"i","type":"x""#);
    assert!(id == i && matches!(fault, Fault::NotJson(_)), "{fault:?}");
    let not_utf8 = ClientMessage::parse(b"{\"type\":\"\xff\"}", MAX_BODY_BYTES)
        .err()
        .map(|malformed| malformed.fault);
    assert_eq!(not_utf8, Some(Fault::NotUtf8));
}

#[test]
fn the_protocols_own_types_are_told_from_the_applications() {
    for (body, purpose) in [
        (r#"{"type":"auth.authenticate"}"#, Purpose::Authenticate),
        (r#"{"type":"auth.logout"}"#, Purpose::Forget),
        (r#"{"type":"auth.forget"}"#, Purpose::Forget),
        // The bytes are there, so that a terminator has waited, wherever they are.
        (r#"{"type":"\u0061uth.forget","payload":"auth."}"#, Purpose::Forget),
        (r#"{"type":"auth"}"#, Purpose::Application),
        (r#"{"type":"Auth.forget"}"#, Purpose::Application),
    ] {
        let message =
            ClientMessage::parse(body.as_bytes(), MAX_BODY_BYTES).unwrap_or_else(|malformed| panic!("{malformed:?}"));
        assert_eq!(message.purpose, purpose, "{body}");
    }
}

#[test]
fn a_resume_key_is_read_as_it_was_told_or_refused() {
    let key = ResumeKey {
        connection: "0123456789abcdef.2a".parse().unwrap(),
        secret: ResumeSecret::random(),
    };
    let resume = |payload: &str| {
        let body = format!(r#"{{"type":"auth.authenticate","payload":{payload}}}"#);
        let message =
            ClientMessage::parse(body.as_bytes(), MAX_BODY_BYTES).unwrap_or_else(|malformed| panic!("{malformed:?}"));
        message.resume()
    };
    assert_eq!(resume(&format!(r#"{{"resume":"{key}","new":1}}"#)), Ok(Some(key)));
    for none in ["null", "{}", r#"{"resume":null}"#] {
        assert_eq!(resume(none), Ok(None), "{none}");
    }
    for wrong in [
        "1",
        "[1]",
        r#"{"resume":1}"#,
        &format!(r#"["{key}"]"#),
        r#"{"resume":""}"#,
        r#"{"resume":"a.b"}"#,
        &format!(r#"{{"resume":"{key}","resume":"{key}"}}"#),
        &format!(r#"{{"resume":"{key}0"}}"#),
    ] {
        assert_eq!(resume(wrong), Err(Fault::Resume), "{wrong}");
    }
}

#[test]
fn a_nesting_bomb_is_refused_and_a_deep_message_is_not() {
    let nested = |depth: usize| format!(r#"{{"type":"x","payload":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(ClientMessage::parse(nested(126).as_bytes(), MAX_BODY_BYTES).is_ok());
    assert_eq!(fault(&nested(127)).1, Fault::TooDeep);
    assert_eq!(fault(&nested(500_000)).1, Fault::TooDeep);
    assert_eq!(
        fault(&nested(126).replace("payload", "new").replace("[]", "[[]]")).1,
        Fault::TooDeep
    );
    serde_json::from_str::<serde_json::Value>(&nested(126)).expect("as deep as serde_json reads");
}

#[test]
fn brackets_and_surrogate_pairs_within_strings_are_only_text() {
    let brackets = "[".repeat(1_000);
    let body = format!(r#"{{"type":"x","payload":"{brackets}\"\\\ud83d\ude00"}}"#);
    assert!(ClientMessage::parse(body.as_bytes(), MAX_BODY_BYTES).is_ok());
}

#[test]
fn a_body_over_the_limit_is_too_large() {
    let malformed = ClientMessage::parse(&[b' '; MAX_BODY_BYTES + 1], MAX_BODY_BYTES)
        .err()
        .expect("refused");
    assert_eq!(malformed.error().code, ErrorCode::TooLarge);
}

#[test]
fn a_fault_never_repeats_what_the_client_wrote() {
    for body in [
        "\"secret\"",
        r#"{"type":secret}"#,
        r#"{"secret":1,"secret":2}"#,
        r#"{"type":"x","token":["secret"]}"#,
    ] {
        assert!(!fault(body).1.to_string().contains("secret"), "{body}");
    }
}

proptest! {
    #[test]
    fn no_body_makes_the_parser_panic(body: Vec<u8>) {
        let _ = ClientMessage::parse(&body, MAX_BODY_BYTES);
    }

    #[test]
    fn what_is_taken_for_a_message_is_json_to_everybody(body in r#"\{("type":"x",?|"payload":[\[\]{}":,\\ud8de0-9a]{0,12},?){1,3}\}"#) {
        if ClientMessage::parse(body.as_bytes(), MAX_BODY_BYTES).is_ok() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
        }
    }
}
