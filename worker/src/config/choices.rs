//! The settings that are one of a few words.

shared::choice! {
    /// Whether what terminators forward must be sealed.
    pub enum Seal {
        /// It may be.
        Accepted = "accepted",
        /// It must be.
        Required = "required",
    }
}

shared::choice! {
    /// By what a client proves who it is.
    pub enum Strategy {
        /// By each message's own token alone.
        PerMessage = "per-message",
        /// By `auth.authenticate` alone.
        Explicit = "explicit",
        /// By a message's own token, or else by the connection's.
        Both = "both",
    }
}

shared::choice! {
    /// For how long a message's own token acts, if it allows more than its connection's.
    pub enum Elevation {
        /// Until the connection has another.
        Connection = "connection",
        /// For that message.
        Message = "message",
    }
}

shared::choice! {
    /// Which of too many that are held give way.
    pub enum HoldOverflow {
        /// Those that come last.
        Newest = "newest",
        /// Those that came first.
        Oldest = "oldest",
    }
}

shared::choice! {
    /// An algorithm of signatures: RFC 7518 §3.1, and RFC 8037 §3.1 for `EdDSA`.
    pub enum JwtAlgorithm {
        /// HMAC with SHA-256.
        Hs256 = "HS256",
        /// HMAC with SHA-384.
        Hs384 = "HS384",
        /// HMAC with SHA-512.
        Hs512 = "HS512",
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        Rs256 = "RS256",
        /// RSASSA-PKCS1-v1_5 with SHA-384.
        Rs384 = "RS384",
        /// RSASSA-PKCS1-v1_5 with SHA-512.
        Rs512 = "RS512",
        /// RSASSA-PSS with SHA-256.
        Ps256 = "PS256",
        /// RSASSA-PSS with SHA-384.
        Ps384 = "PS384",
        /// RSASSA-PSS with SHA-512.
        Ps512 = "PS512",
        /// ECDSA on P-256 with SHA-256.
        Es256 = "ES256",
        /// ECDSA on P-384 with SHA-384.
        Es384 = "ES384",
        /// EdDSA on Curve25519.
        EdDsa = "EdDSA",
    }
}
