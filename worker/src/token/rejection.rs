//! Why a token proves nothing.
//!
//! Expiry stands apart because its holder can fix it by fetching a new token, and
//! keys that are out of reach because no one is to blame for the token, and a token whose time is about to begin because the
//! same text is good a moment later; everything else is one answer to a client, `token_invalid`, with a text that
//! tells a developer what to look at. The texts name members and claims, never
//! their values: they go to clients and into logs.

use std::time::Duration;

use shared::service::refusals::grouped;

use super::Other;

/// Why a token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Rejection {
    /// It was good until its `exp`: the signature holds and nothing else is wrong with it.
    #[error("the token has expired")]
    Expired,
    /// It is not, or not yet, a token of ours.
    #[error("the token is invalid: {0}")]
    Invalid(Reason),
    /// It will be good in a moment, for its issuer's clock is a little ahead of ours.
    #[error("the token is not valid yet: {reason}")]
    NotYet {
        /// What lies in the future.
        reason: Reason,
        /// How far.
        wait: Duration,
    },
    /// The key that it may have been signed with is still to come, or being asked for: the same token may be good later.
    #[error("the key of the token cannot be fetched at the moment")]
    Unavailable {
        /// How long no one asks for it; zero if it is being asked for.
        wait: Duration,
    },
}

impl From<Reason> for Rejection {
    fn from(reason: Reason) -> Self {
        Self::Invalid(reason)
    }
}

/// What is wrong with an invalid token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    /// `jwt-max-size` is exceeded.
    #[error("token larger than jwt-max-size: {} of {} bytes", grouped(*.bytes), grouped(*.limit))]
    TooLarge {
        /// Of its text.
        bytes: usize,
        /// Of `jwt-max-size`.
        limit: usize,
    },
    /// A JWE, RFC 7516 §3.1.
    #[error("it is encrypted (five parts), only signed tokens are accepted")]
    Encrypted,
    /// The value of an `Authorization` header (RFC 6750 §2.1), copied whole.
    #[error("it begins with `Bearer `: send the token alone")]
    Bearer,
    /// Not the compact serialization of RFC 7515 §3.1.
    #[error("it is not three non-empty parts joined by dots")]
    Parts,
    /// RFC 7515 §2; a second spelling of the same bytes would be a second token.
    #[error("a part is not canonical base64url without padding")]
    Encoding,
    /// RFC 7515 §4.
    #[error("the header is not a json object with unique members")]
    Header,
    /// A member that is mandatory or has a type, and does not meet it.
    #[error("the header member `{0}` is missing or malformed")]
    HeaderMember(&'static str),
    /// A member that changes what the token means.
    #[error("the header member `{0}` is not accepted")]
    ForbiddenMember(&'static str),
    /// Neither absent, nor `JWT`, nor `at+jwt` (RFC 8725 §3.11, RFC 9068 §4).
    #[error("the header member `typ` is neither jwt nor at+jwt")]
    Type,
    /// None that is asked for.
    #[error("the header member `typ` is none that `jwt-type` names")]
    OtherType,
    /// Unknown, `none`, or not one that the key may be used with (RFC 8725 §3.1).
    #[error("the header member `alg` is not accepted for any key that fits")]
    Algorithm,
    /// RFC 7515 §4.1.4.
    #[error("no key has the `kid` of the header, and none without a name signed it")]
    UnknownKey,
    /// RFC 7515 §5.2.
    #[error("the signature does not hold")]
    Signature,
    /// RFC 7519 §4: claim names must be unique.
    #[error("the claims are not a json object with unique members")]
    Claims,
    /// A claim that every token must have.
    #[error("the claim `{0}` is missing")]
    MissingClaim(&'static str),
    /// A number that would reach no one as the issuer wrote it.
    #[error("a claim has a number of more digits than can be kept")]
    Number,
    /// A claim of the wrong type, size, range or characters.
    #[error("the claim `{0}` is malformed")]
    MalformedClaim(&'static str),
    /// A key speaks for its own issuer alone (RFC 8725 §3.8).
    #[error("the claim `iss` is not the issuer that the key belongs to")]
    Issuer,
    /// RFC 8725 §3.11 and §3.12.
    #[error("it is no access token for its bearer ({}); `jwt-allow` can name its kind", .0.as_str())]
    NoAccessToken(Other),
    /// `jwt-required-claims`.
    #[error("a claim that `jwt-required-claims` names is missing, or has another value")]
    RequiredClaim,
    /// RFC 8725 §3.9.
    #[error("the claim `aud` names none of the accepted audiences")]
    Audience,
    /// The same, where other claims may name the audience.
    #[error("no claim of `jwt-audience-claims` names one of the accepted audiences")]
    AudienceClaims,
    /// The claim that names the subject here.
    #[error("the claim that `jwt-subject-claim` names is missing or malformed")]
    SubjectClaim,
    /// RFC 7519 §4.1.5.
    #[error("the claim `nbf` lies in the future")]
    NotYetValid,
    /// RFC 7519 §4.1.6.
    #[error("the claim `iat` lies in the future")]
    IssuedInTheFuture,
    /// `jwt-max-lifetime` is exceeded, or `exp` is written in milliseconds.
    #[error("the claim `exp` lies further away than the longest lifetime")]
    TooLongLived,
}
