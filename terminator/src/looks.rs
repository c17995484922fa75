//! What a client's text may do to its connection's authentication, by its bytes alone: pure.
//!
//! A terminator does not parse. It looks for two words, wherever they stand, and
//! takes them for what they may be; workers refuse a message that would have the same
//! meaning without their bytes. That a payload may have them too costs its connection some time, and nothing else.

use memchr::memmem::Finder;
use shared::protocol::{RESERVED_PREFIX, TOKEN_MEMBER};

/// What a text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Looks {
    /// It may be one of the protocol's own: nothing is forwarded behind it until it is settled.
    pub(crate) barrier: bool,
    /// It may have a token: what comes behind it may have to be decided by that.
    pub(crate) proves: bool,
}

/// Tells the looks of texts.
pub(crate) struct Glance {
    reserved: Finder<'static>,
    token: Finder<'static>,
}

impl Glance {
    pub(crate) fn new() -> Self {
        Self {
            reserved: Finder::new(RESERVED_PREFIX),
            token: Finder::new(TOKEN_MEMBER),
        }
    }

    /// The looks of that text.
    pub(crate) fn at(&self, text: &[u8]) -> Looks {
        Looks {
            barrier: self.reserved.find(text).is_some(),
            proves: self.token.find(text).is_some(),
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
            (r#"{"type":"auth.forget"}"#, true, false),
            (r#"{"type":"auth.authenticate","token":"x"}"#, true, true),
        ] {
            assert_eq!(Glance::new().at(text.as_bytes()), Looks { barrier, proves }, "{text}");
        }
    }
}
