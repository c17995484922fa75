//! The ways in which a provider says that someone is logged out.

use crate::token::TokenType;

/// One of them, each with a path of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    /// OpenID Connect Back-Channel Logout 1.0.
    Logout,
    /// A Security Event Token by push: RFC 8417 and RFC 8935, with the events of CAEP 1.0 and RISC 1.0.
    SecurityEvent,
    /// Global Token Revocation (draft-parecki-oauth-global-token-revocation), as Okta's Universal Logout calls it.
    GlobalRevocation,
}

impl EventKind {
    const EVERY: [Self; 3] = [Self::Logout, Self::SecurityEvent, Self::GlobalRevocation];

    /// The one of that path.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|kind| kind.path() == path)
    }

    /// Where it is taken.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Logout => "/backchannel-logout",
            Self::SecurityEvent => "/security-events",
            Self::GlobalRevocation => "/global-token-revocation",
        }
    }

    /// How its request is written.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Logout => "application/x-www-form-urlencoded",
            Self::SecurityEvent => "application/secevent+jwt",
            Self::GlobalRevocation => "application/json",
        }
    }

    /// A word for it, for metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::SecurityEvent => "security_event",
            Self::GlobalRevocation => "global_revocation",
        }
    }

    /// Whether what it is signed with may say that it is of that type (RFC 8725 §3.11). Providers of before the final
    /// version of Back-Channel Logout do not say; such a token is known by its `events`.
    pub(super) fn may_be(self, typ: Option<&str>) -> bool {
        let is = |name: &str| typ.and_then(TokenType::new) == TokenType::new(name);
        match self {
            Self::Logout => typ.is_none() || is("logout+jwt") || is("jwt"),
            Self::SecurityEvent => is("secevent+jwt"),
            Self::GlobalRevocation => is("global-token-revocation+jwt"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_type_that_no_other_takes() {
        for (typ, of) in [
            ("logout+jwt", Some(EventKind::Logout)),
            ("application/Logout+JWT", Some(EventKind::Logout)),
            ("JWT", Some(EventKind::Logout)),
            ("secevent+jwt", Some(EventKind::SecurityEvent)),
            ("global-token-revocation+jwt", Some(EventKind::GlobalRevocation)),
            ("at+jwt", None),
            ("", None),
        ] {
            for kind in EventKind::EVERY {
                assert_eq!(kind.may_be(Some(typ)), of == Some(kind), "{typ} {kind:?}");
            }
        }
        assert_eq!(EventKind::EVERY.map(|kind| kind.may_be(None)), [true, false, false]);
    }

    #[test]
    fn a_kind_is_known_by_its_path() {
        for kind in EventKind::EVERY {
            assert_eq!(EventKind::of_path(kind.path()), Some(kind));
        }
        assert_eq!(EventKind::of_path("/"), None);
    }
}
