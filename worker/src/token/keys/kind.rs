//! The sorts of keys, and what each can verify.

use crate::token::Algorithm;

/// The sorts of keys that are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A shared secret.
    Hmac,
    /// RSA, 2048 to 8192 bits.
    Rsa,
    /// ECDSA on NIST P-256.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// EdDSA on Curve25519.
    Ed25519,
}

impl Kind {
    /// The algorithms that fit, RFC 7518 §3.1 and RFC 8037 §3.1.
    pub(in crate::token) const fn algorithms(self) -> &'static [Algorithm] {
        use Algorithm as A;
        match self {
            Self::Hmac => &[A::HS256, A::HS384, A::HS512],
            Self::Rsa => &[A::RS256, A::RS384, A::RS512, A::PS256, A::PS384, A::PS512],
            Self::P256 => &[A::ES256],
            Self::P384 => &[A::ES384],
            Self::Ed25519 => &[A::EdDSA],
        }
    }
}
