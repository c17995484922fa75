//! The kinds of tokens that are no access tokens.

shared::choice! {
    /// A kind of token that is no access token for its bearer.
    pub enum Other {
        /// Bound to a key, whose proof cannot be checked here: the claim `cnf` of RFC 7800 §3.1, as in RFC 8705 and RFC 9449.
        Bound = "bound",
        /// An ID token: the claims `nonce`, `at_hash` or `c_hash` of OpenID Connect Core §2 and §3.3.2.11, or a claim that says so.
        Id = "id",
        /// A refresh token in the form of a JWT.
        Refresh = "refresh",
        /// A logout token, or another that tells of events: the claim `events` of RFC 8417 §2.2.
        Logout = "logout",
    }
}
