//! What a client's text may do to its connection's authentication, by its bytes alone: pure.
//!
//! A terminator does not parse. It looks for two words, wherever they stand, and
//! takes them for what they may be; workers refuse a message that would have the same
//! meaning without their bytes. That a payload may have them too costs its connection some time, and nothing else.

use std::num::NonZeroU64;

use memchr::memchr;
use memchr::memmem::Finder;
use shared::wire::protocol::push_ack::PUSH_ACK_TEXT;
use shared::wire::protocol::{CANCEL_MEMBER, LOGOUT_TEXTS, MAX_ID_BYTES, RESERVED_PREFIX, TOKEN_MEMBER};

/// The longest text that may give up a message: its `id`, each byte of which may be written as an escape of six, and what is around it.
const MOST_CANCEL_BYTES: usize = 6 * MAX_ID_BYTES + 64;

/// What a text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Looks {
    /// It may be one of the protocol's own: nothing is forwarded behind it until it is settled.
    pub(crate) barrier: bool,
    /// It may log the connection out: nothing is pushed to it from here on.
    pub(crate) logs_out: bool,
    /// It may have a token: what comes behind it may have to be decided by that.
    pub(crate) proves: bool,
    /// What tells that token from most others, if it may have one.
    pub(crate) mark: Option<Mark>,
    /// It may give up a message before it, and then waits for none.
    pub(crate) cancels: bool,
    /// It may acknowledge pushes, which is no one's business but ours.
    pub(crate) acknowledges: bool,
}

/// What tells one token from most others: how long it is, and how it ends. A JWT ends with its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(NonZeroU64);

impl Mark {
    /// Of the string that follows a member's name.
    fn of(rest: &[u8]) -> Self {
        let begin = memchr(b'"', rest).map_or(rest.len(), |quote| quote + 1);
        let rest = rest.get(begin..).unwrap_or_default();
        let token = rest.get(..memchr(b'"', rest).unwrap_or(rest.len())).unwrap_or_default();
        let end = u64::from_le_bytes(token.last_chunk().copied().unwrap_or_default());
        let mark = end.rotate_left(7) ^ token.len() as u64;
        Self(NonZeroU64::new(mark).unwrap_or(NonZeroU64::MIN))
    }
}

/// Tells the looks of texts.
pub(crate) struct Glance {
    reserved: Finder<'static>,
    log_outs: [Finder<'static>; 2],
    token: Finder<'static>,
    cancel: Finder<'static>,
    acknowledgement: Option<Finder<'static>>,
}

impl Glance {
    /// With `push_ack` it looks for acknowledgements of pushes, too.
    pub(crate) fn new(push_ack: bool) -> Self {
        Self {
            acknowledgement: push_ack.then(|| Finder::new(PUSH_ACK_TEXT)),
            reserved: Finder::new(RESERVED_PREFIX),
            log_outs: LOGOUT_TEXTS.map(Finder::new),
            token: Finder::new(TOKEN_MEMBER),
            cancel: Finder::new(CANCEL_MEMBER),
        }
    }

    /// The looks of that text.
    pub(crate) fn at(&self, text: &[u8]) -> Looks {
        let token = self.token.find(text).map(|place| place + TOKEN_MEMBER.len());
        let barrier = self.reserved.find(text).is_some();
        Looks {
            barrier,
            logs_out: barrier && self.log_outs.iter().any(|word| word.find(text).is_some()),
            proves: token.is_some(),
            mark: token.and_then(|place| text.get(place..)).map(Mark::of),
            acknowledges: self
                .acknowledgement
                .as_ref()
                .is_some_and(|word| word.find(text).is_some()),
            // Anyone who gives something up says its `id`, and no more.
            cancels: text.len() <= MOST_CANCEL_BYTES && self.cancel.find(text).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_what_it_may_be() {
        for (text, barrier, proves) in [
            (r#"{"type":"echo"}"#, false, false),
            (r#"{"type":"echo","payload":"a token"}"#, false, false),
            (r#"{"type":"echo","token" : "x"}"#, false, true),
            (r#"{"type":"echo","payload":{"token":1}}"#, false, true),
            (r#"{"type":"auth.logout"}"#, true, false),
            (r#"{"type":"auth.authenticate","token":"x"}"#, true, true),
        ] {
            let looks = Glance::new(false).at(text.as_bytes());
            assert_eq!((looks.barrier, looks.proves), (barrier, proves), "{text}");
            assert_eq!(looks.mark.is_some(), proves, "{text}");
        }
    }

    #[test]
    fn a_log_out_is_told_from_other_messages_of_the_protocol() {
        let logs_out = |text: &str| Glance::new(false).at(text.as_bytes()).logs_out;
        assert!(logs_out(r#"{"id":"1","type":"auth.logout"}"#) && logs_out(r#"{"type" : "auth.forget"}"#));
        assert!(!logs_out(r#"{"type":"auth.authenticate","token":"x"}"#));
    }

    #[test]
    fn a_message_is_given_up_by_a_short_text_alone() {
        let cancels = |text: &str| Glance::new(false).at(text.as_bytes()).cancels;
        assert!(cancels(r#"{"cancel":"1"}"#));
        assert!(!cancels(r#"{"type":"echo","payload":1}"#));
        assert!(!cancels(&format!(
            r#"{{"cancel":"1","payload":"{}"}}"#,
            "x".repeat(2_000)
        )));
    }

    #[test]
    fn pushes_are_acknowledged_only_where_that_is_asked_for() {
        let text = br#"{"type":"push.ack","ids":["a"]}"#;
        assert!(Glance::new(true).at(text).acknowledges && !Glance::new(false).at(text).acknowledges);
        assert!(!Glance::new(true).at(br#"{"type":"echo"}"#).acknowledges);
    }

    #[test]
    fn a_token_has_its_mark_wherever_it_stands() {
        let mark = |text: &str| Glance::new(false).at(text.as_bytes()).mark;
        let one = mark(r#"{"type":"echo","token":"head.claims.signature-one"}"#);
        assert_eq!(one, mark(r#"{"token" : "head.claims.signature-one", "type":"chat"}"#));
        assert_ne!(one, mark(r#"{"type":"echo","token":"head.claims.signature-two"}"#));
        assert_ne!(
            one,
            mark(r#"{"type":"echo","token":"head.other.claims.signature-one"}"#)
        );
        for broken in [
            r#"{"token""#,
            r#"{"token":"#,
            r#"{"token":""#,
            r#"{"token":"x"#,
            r#"{"token":null}"#,
        ] {
            assert!(mark(broken).is_some(), "{broken}");
        }
    }
}
