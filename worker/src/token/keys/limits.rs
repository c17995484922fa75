//! What keys must and may be, and how many there may be.

/// A file or answer with keys, in bytes.
pub use shared::credentials::MOST_BYTES as MAX_FILE_BYTES;

/// RFC 7518 §3.3.
pub(in crate::token) const MIN_RSA_BITS: u32 = 2_048;
/// The largest that the provider verifies: each doubling makes a signature four times as dear.
pub(in crate::token) const MAX_RSA_BITS: u32 = 8_192;

/// 256 bits, the output of the smallest hash: RFC 7518 §3.2.
pub(in crate::token) const MIN_HMAC_BYTES: usize = 32;

/// Keys of all sources together.
pub(in crate::token) const MAX_KEYS: usize = 1_000;
/// Keys tried for one token. 8 * 60 us (ES256) is about 0.5 ms a forged token.
pub(in crate::token) const MAX_TRIED: usize = 8;
/// Issuers may use one `kid` for one algorithm by chance, or share a key; all of them can be tried.
pub(in crate::token) const MAX_SAME_KID: usize = MAX_TRIED;
