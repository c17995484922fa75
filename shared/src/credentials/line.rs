//! A user's name or a password in a file of its own: one line, whatever letters it is of.

/// More than any server takes.
const MOST_BYTES: usize = 4_096;

/// The line in a file: all of it but one newline at its end, which editors and `echo` leave there.
///
/// # Errors
/// Why it is no name and no password.
pub fn line_in(content: &[u8]) -> Result<String, String> {
    let line = content
        .strip_suffix(b"\r\n")
        .or_else(|| content.strip_suffix(b"\n"))
        .unwrap_or(content);
    if line.is_empty() {
        return Err("is empty".to_owned());
    }
    if line.len() > MOST_BYTES {
        return Err(format!("is longer than {MOST_BYTES} bytes: want one line"));
    }
    if line.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
        return Err("has more than one line".to_owned());
    }
    String::from_utf8(line.to_vec()).map_err(|_| "is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line_of_any_letters() {
        for (content, line) in [
            ("p/a@s:s#w%rd", "p/a@s:s#w%rd"),
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            (" with spaces \n", " with spaces "),
            ("ünïcode", "ünïcode"),
        ] {
            assert_eq!(line_in(content.as_bytes()).as_deref(), Ok(line));
        }
        let long = "x".repeat(MOST_BYTES + 1);
        for wrong in ["", "\n", "two\nlines", "two\nlines\n", "nul\0", long.as_str()] {
            assert!(line_in(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        assert!(line_in(&[0xff, 0xfe]).is_err());
    }
}
