//! The names that RabbitMQ gives to those who want a direct reply (<https://www.rabbitmq.com/docs/direct-reply-to>).
//!
//! Behind the prefix stand two texts in base64: the process that is to be told, an Erlang term, and a key. What anyone may write
//! as a `reply_to` is given back to the broker, and one in which it finds no process costs the connection on which it comes. So it is read here
//! first (Erlang External Term Format, §1, "PID_EXT" and "NEW_PID_EXT").

use base64::prelude::{BASE64_STANDARD, Engine as _};

/// With what they begin. Alone it is what someone asks for who wants such a reply.
const PREFIX: &str = "amq.rabbitmq.reply-to";

/// With what each term begins.
const TERM: u8 = 131;
/// A process: the name of its node, and so many bytes behind that, in either form.
const PROCESS: (u8, usize) = (103, 9);
const NEW_PROCESS: (u8, usize) = (88, 12);
/// The name of a node: its length in two bytes, or in one.
const NAMES: [u8; 2] = [100, 118];
const SHORT_NAMES: [u8; 2] = [115, 119];

/// The longest key that is read, in bytes of base64. RabbitMQ's have 24.
const MAX_KEY: usize = 64;

/// Whether it begins like such a name.
pub(super) fn is_name(queue: &str) -> bool {
    queue.starts_with(PREFIX)
}

/// Whether it begins like such a name; if so, whether RabbitMQ can read it.
pub(super) fn readable(queue: &str) -> Option<bool> {
    let rest = queue.strip_prefix(PREFIX)?;
    let parts = rest.strip_prefix('.').and_then(|rest| rest.split_once('.'));
    Some(parts.is_some_and(|(process, key)| {
        let process = BASE64_STANDARD.decode(process);
        is_key(key) && process.is_ok_and(|term| is_process(&term))
    }))
}

fn is_key(key: &str) -> bool {
    (1..=MAX_KEY).contains(&key.len()) && BASE64_STANDARD.decode(key).is_ok()
}

fn is_process(term: &[u8]) -> bool {
    let [TERM, kind, rest @ ..] = term else { return false };
    let named = match rest {
        [kind, high, low, rest @ ..] if NAMES.contains(kind) => Some((u16::from_be_bytes([*high, *low]), rest)),
        [kind, length, rest @ ..] if SHORT_NAMES.contains(kind) => Some((u16::from(*length), rest)),
        _ => None,
    };
    let Some((length, rest)) = named else { return false };
    let Some((name, rest)) = rest.split_at_checked(usize::from(length)) else {
        return false;
    };
    let is_name = |name: &[u8]| name.is_ascii() && name.contains(&b'@');
    is_name(name) && [PROCESS, NEW_PROCESS].contains(&(*kind, rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(term: &[u8], key: &str) -> String {
        format!("{PREFIX}.{}.{key}", BASE64_STANDARD.encode(term))
    }

    fn process(kind: u8, name: (&[u8], &[u8]), behind: usize) -> Vec<u8> {
        [&[TERM, kind], name.0, name.1, &vec![0; behind]].concat()
    }

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";
    const NODE: &[u8] = b"reply@60518043";

    #[test]
    fn what_rabbitmq_gives_out_is_read_in_every_form_that_it_has_had() {
        for name in [
            process(88, (&[118, 0, 14], NODE), 12),
            process(88, (&[119, 14], NODE), 12),
            process(88, (&[100, 0, 14], NODE), 12),
            process(103, (&[115, 14], NODE), 9),
            process(103, (&[100, 0, 13], b"rabbit@host-1"), 9),
        ] {
            assert_eq!(readable(&named(&name, KEY)), Some(true), "{name:?}");
        }
        let one = "amq.rabbitmq.reply-to.g1h2AA5yZXBseUA2MDUxODA0MwAADGoAAAAAZaWkMQ==.3H0xhtuWmxl7TSZ9wz0ZvA==";
        assert_eq!(readable(one), Some(true));
        assert_eq!(readable("amq.gen-abc"), None);
    }

    #[test]
    fn whatever_else_is_a_term_or_nearly_a_process_is_not() {
        let good = process(88, (&[119, 14], NODE), 12);
        let short = &good[..good.len() - 1];
        let long = [&good[..], &[0]].concat();
        for term in [
            &[][..],
            short,
            &long,
            &[TERM, 104, 2, 97, 1, 97, 1],
            &[TERM, 106],
            &[TERM, 108, 255, 255, 255, 255, 97, 1],
            &[TERM, 80, 127, 255, 255, 255, 120, 156, 3, 0],
            &process(88, (&[118, 0, 15], NODE), 12),
            &process(88, (&[118, 255, 255], NODE), 12),
            &process(88, (&[119, 0], b""), 12),
            &process(88, (&[119, 14], b"reply-60518043"), 12),
            &process(103, (&[119, 14], NODE), 12),
            &process(90, (&[119, 14], NODE), 12),
        ] {
            assert_eq!(readable(&named(term, KEY)), Some(false), "{term:?}");
        }
        for key in ["", "A", "A.A", "====", "AAA\u{fc}", &"A".repeat(MAX_KEY + 4)] {
            assert_eq!(readable(&named(&good, key)), Some(false), "{key}");
        }
        for name in [
            "amq.rabbitmq.reply-to",
            "amq.rabbitmq.reply-to.",
            "amq.rabbitmq.reply-to.AAAA.BBBB",
        ] {
            assert_eq!(readable(name), Some(false), "{name}");
        }
    }
}
