//! What a close code means, for people.

/// A sentence for a close code of RFC 6455 §7.4.1 or of Countersign's own.
pub(super) fn of(code: u16) -> &'static str {
    match code {
        1000 => "normal end",
        1001 => "the server drains, or the client was silent for too long: reconnect with jitter",
        1002 => "protocol error: fix the client",
        1003 => "binary frame: send JSON text frames",
        1005 => "no code was given",
        1007 => "bad UTF-8: fix the client",
        1009 => "the message is too big: fix the client",
        1011 => "internal error: back off, then reconnect",
        1012 => "the server restarts: reconnect with jitter",
        1013 => "the server is overloaded: back off, then reconnect",
        4401 => "authentication missing or expired, and the policy is to close: get a token, reconnect",
        4408 => "no token came in time: get one, reconnect, and send it first",
        4410 => "the client reads too slowly: reconnect",
        4429 => "over the rate: back off, then reconnect",
        4501 => "the token is invalid, and another try with it is in vain: stop",
        4503 => "the token was revoked: stop, until its owner has logged in again",
        4505 => "connection limit: stop",
        4509 => "a token of another identity on a live connection: stop; one connection, one identity",
        4510 => "another connection has resumed this one: stop",
        4000..=4499 => "the server's own code: reconnect",
        4500..=4999 => "the server's own code: stop",
        _ => "unknown code",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::wire::protocol::CloseCode;

    #[test]
    fn every_code_that_the_terminator_sends_has_a_meaning_of_its_own() {
        for code in CloseCode::ALL {
            assert!(!of(code.code()).contains("code"), "{code:?}");
        }
    }
}
