//! What a message came to, as it is kept: pure.
//!
//! The application's part alone. What is said around it (the `id`, and what has become
//! of the connection's authentication, with the secret that goes with it) is
//! said anew each time, of whichever connection is answered.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::wire::protocol::ErrorBody;

use super::cause::Cause;
use crate::handler::{Along, Answers, Said};

/// The longest that is kept: 64 KiB. Of what comes to more, only that it was handled is known.
pub(super) const LONGEST: usize = 64 * 1_024;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kept {
    /// Each with its payload, or with none.
    Replies(Vec<Vec<Box<RawValue>>>),
    /// The same with pushes among them.
    Said(Vec<Kind>),
    Error(ErrorBody),
}

/// One thing that was said.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Reply(Vec<Box<RawValue>>),
    Push(Along),
}

/// What is kept: what it came to, and by what.
#[derive(Serialize, Deserialize)]
struct Record {
    by: Cause,
    came_to: Box<RawValue>,
}

/// As it is kept; none if it is too long.
pub(super) fn to_text(cause: &Cause, came_to: &Result<Answers, ErrorBody>) -> Option<String> {
    let record = Record {
        by: cause.clone(),
        came_to: RawValue::from_string(kept(came_to)?).ok()?,
    };
    serde_json::to_string(&record).ok()
}

/// What it was, and by what; none if another version wrote it, in words that this one does not know.
pub(super) fn from_text(text: &str) -> Option<(Cause, Result<Answers, ErrorBody>)> {
    let record: Record = serde_json::from_str(text).ok()?;
    Some((record.by, known(record.came_to.get())?))
}

impl Kind {
    fn of(said: &Said) -> Self {
        match said {
            Said::Reply(payload) => Self::Reply(payload.iter().cloned().collect()),
            Said::Push(push) => Self::Push(push.clone()),
        }
    }

    fn said(self) -> Answers {
        match self {
            Self::Reply(payload) => Answers::raw(payload.into_iter().next()),
            Self::Push(push) => Answers::along(push),
        }
    }
}

fn payload(said: &Said) -> Option<Vec<Box<RawValue>>> {
    match said {
        Said::Reply(payload) => Some(payload.iter().cloned().collect()),
        Said::Push(_) => None,
    }
}

fn kept(came_to: &Result<Answers, ErrorBody>) -> Option<String> {
    let kept = match came_to {
        Ok(answers) if answers.pushes().next().is_some() => Kept::Said(answers.said().iter().map(Kind::of).collect()),
        Ok(answers) => Kept::Replies(answers.said().iter().filter_map(payload).collect()),
        Err(error) => Kept::Error(error.clone()),
    };
    let text = serde_json::to_string(&kept).ok()?;
    (text.len() <= LONGEST).then_some(text)
}

fn known(text: &str) -> Option<Result<Answers, ErrorBody>> {
    Some(match serde_json::from_str(text).ok()? {
        Kept::Replies(payloads) => {
            let each = payloads
                .into_iter()
                .map(|payload| Answers::raw(payload.into_iter().next()));
            Ok(each.fold(Answers::none(), Answers::and))
        }
        Kept::Said(said) => Ok(said.into_iter().map(Kind::said).fold(Answers::none(), Answers::and)),
        Kept::Error(error) => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use shared::wire::protocol::ErrorCode;

    use shared::wire::request_id::RequestId;

    use super::*;
    use crate::process::answer;

    fn raw(text: &str) -> Answers {
        Answers::raw(Some(RawValue::from_string(text.to_owned()).unwrap()))
    }

    #[test]
    fn what_was_said_is_said_again_to_the_byte() {
        let each: [fn() -> Answers; 7] = [
            || Answers::push_to_identity(&1).unwrap().and(Answers::raw(None)),
            Answers::none,
            || Answers::raw(None),
            || raw("null"),
            || raw(r#"{"b": 1.0, "a":"é\u00e9\n"}"#),
            || raw("[1, 2]").and(Answers::raw(None)).and(raw("1e400")),
            || raw(&format!("{}{}", "[".repeat(126), "]".repeat(126))),
        ];
        for answers in each {
            let again = known(&kept(&Ok(answers())).unwrap()).unwrap().unwrap();
            let said = |answers: &Answers| answer::replies(Some(&RequestId::text("i")), answers, None);
            assert_eq!(said(&again), said(&answers()));
        }
    }

    #[test]
    fn every_error_is_read_as_it_was_written() {
        for code in ErrorCode::ALL {
            let error = ErrorBody::new(code, "a \"why\"");
            let text = kept(&Err(error.clone())).unwrap();
            assert_eq!(known(&text).unwrap().unwrap_err(), error);
        }
    }

    #[test]
    fn what_is_too_long_is_not_kept_and_what_is_not_understood_is_not_guessed() {
        let of_length = |length: usize| raw(&format!("\"{}\"", "x".repeat(length - r#"{"replies":[[""]]}"#.len())));
        assert_eq!(kept(&Ok(of_length(LONGEST))).unwrap().len(), LONGEST);
        assert_eq!(kept(&Ok(of_length(LONGEST + 1))), None);
        for text in [
            "",
            "{}",
            r#"{"error":{"code":"newer","message":"","temporary":false}}"#,
            r#"{"newer":1}"#,
        ] {
            assert!(known(text).is_none() && from_text(text).is_none(), "{text}");
        }
    }
}
