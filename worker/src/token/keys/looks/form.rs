//! What a file holds, as its bytes tell.
//!
//! JWKS, PEM and DER are told apart by parsing. What is none of them is called by
//! what it looks like (`looks`), so that an error helps.

pub(in crate::token) use super::{BEGIN, trim_start};
use super::{Looks, looks};
use crate::token::keys::der::is_der;

/// What a file with keys is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::token) enum Form {
    /// RFC 7517 §5.
    Jwks,
    /// RFC 7468.
    Pem,
    /// X.690.
    Der,
    /// None of these.
    Other(Looks),
}

impl Form {
    /// The form of a file's content.
    pub(in crate::token) fn of(content: &[u8]) -> Self {
        let text = trim_start(content);
        if text.starts_with(b"{") {
            Self::Jwks
        } else if text.starts_with(BEGIN.trim_end().as_bytes()) {
            Self::Pem
        } else if is_der(content) {
            Self::Der
        } else {
            Self::Other(looks(content))
        }
    }
}
