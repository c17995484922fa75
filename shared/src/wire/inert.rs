//! Foreign text that does nothing but be read: pure.
//!
//! A terminal obeys control characters (C0 and C1, ECMA-48), and whatever shows
//! text may be told by its format characters to show it in another order, or not at all (UAX #9, UTR #36). What
//! clients, producers and issuers wrote is therefore escaped where it is shown, as JSON escapes it (RFC 8259 §7): what
//! was JSON stays the same JSON.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character does something to the text around it, or is not seen.
pub fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{13430}'..='\u{1345f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// A text of several lines, escaped but for its line ends and tabs.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_active(c) && c != '\n' && c != '\t')
}

/// A text that is to stay within its line.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_active)
}

fn escaped(text: &str, wanted: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&wanted) {
        return Cow::Borrowed(text);
    }
    let mut inert = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if wanted(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // A string takes all that is written to it.
                let _ = write!(inert, "\\u{unit:04x}");
            }
        } else {
            inert.push(c);
        }
    }
    Cow::Owned(inert)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        for (text, shown) in [
            ("a\u{1b}[2Jb", "a\\u001b[2Jb"),
            ("a\u{9b}2J", "a\\u009b2J"),
            ("a\rb\u{7f}", "a\\u000db\\u007f"),
            ("\u{202e}txt.exe", "\\u202etxt.exe"),
            ("\u{2066}a\u{2069}", "\\u2066a\\u2069"),
            ("a\u{200b}b\u{feff}", "a\\u200bb\\ufeff"),
            ("\u{e0041}", "\\udb40\\udc41"),
            ("two\nlines\tand é 漢 😀", "two\nlines\tand é 漢 😀"),
        ] {
            assert_eq!(lines(text), shown, "{text:?}");
        }
        assert_eq!(line("two\nlines\t"), "two\\u000alines\\u0009");
    }

    proptest! {
        #[test]
        fn nothing_active_is_left_and_json_stays_what_it_was(text: String) {
            prop_assert!(!line(&text).contains(is_active));
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(&lines(&json)).unwrap(), text);
        }
    }
}
