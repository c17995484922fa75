//! The table, row by row, and what holds for every case there is.

use shared::service::clock::Timestamp;

use super::*;
use crate::auth::identity::{Identity, Issuer, Subject};
use crate::token::Digest;

pub(super) fn verified(subject: &str, token: &str) -> Arc<Verified> {
    Arc::new(Verified {
        identity: Identity::new(Issuer::new("i"), Subject::new(subject)),
        expires_at: Timestamp::from_secs(1),
        not_before: None,
        issued_at: None,
        token_id: None,
        claims: serde_json::Map::new(),
        digest: Digest::of(token),
        key: shared::wire::tag::KeyTag::of(&[1; 32]),
    })
}

fn tag(subject: &str) -> IdentityTag {
    verified(subject, "").identity.tag()
}

fn authenticated(subject: &str, token: &str, live: bool) -> CurrentGrant {
    CurrentGrant {
        identity: tag(subject),
        token: TokenTag::of(Digest::of(token).as_bytes()),
        live,
        was_live: live,
        judgement: Judgement::Good,
        newer: false,
        exceeded: false,
    }
}

pub(super) fn live() -> Option<CurrentGrant> {
    Some(authenticated("alice", "one", true))
}

pub(super) fn ended() -> Option<CurrentGrant> {
    Some(authenticated("alice", "one", false))
}

pub(super) const NOBODY: Stand = Stand {
    authenticated: None,
    unsettled: false,
    held: false,
    again: false,
};

pub(super) fn on(authenticated: Option<CurrentGrant>) -> Stand {
    Stand {
        authenticated,
        ..NOBODY
    }
}

pub(super) fn good(subject: &str, token: &str) -> Proof {
    Proof::Good(verified(subject, token))
}

/// An ordinary message, where both strategies are in force.
fn message(proof: Proof, stand: Stand, policy: Policy) -> Case {
    Case {
        purpose: Purpose::Application,
        proof,
        sender: Sender::Connection(stand),
        strategy: Strategy::Both,
        elevation: Elevation::Connection,
        policy,
        public: false,
    }
}

fn explicit(case: Case) -> Case {
    Case {
        strategy: Strategy::Explicit,
        ..case
    }
}

fn per_message(case: Case) -> Case {
    Case {
        strategy: Strategy::PerMessage,
        ..case
    }
}

fn authenticate(proof: Proof, stand: Stand, policy: Policy) -> Case {
    Case {
        purpose: Purpose::Authenticate,
        ..message(proof, stand, policy)
    }
}

fn forget(proof: Proof, stand: Stand) -> Case {
    Case {
        purpose: Purpose::Forget,
        ..message(proof, stand, Policy::Close)
    }
}

/// A decision in few words.
fn told(case: &Case) -> String {
    match decide(case) {
        Decision::InOwnName { verified, renews } => {
            format!(
                "as {}{}",
                verified.identity.subject,
                if renews { ", renewed" } else { "" }
            )
        }
        Decision::InConnectionsName => "as the connection".to_owned(),
        Decision::Anonymously => "as nobody".to_owned(),
        Decision::Authenticate { verified, renews: true } => format!("granted to {}", verified.identity.subject),
        Decision::Authenticate { renews: false, .. } => "left as it is".to_owned(),
        Decision::Forget => "forgotten".to_owned(),
        Decision::Again => "again".to_owned(),
        Decision::Hold { own: None, reason } => format!("held, {}", reason.as_str()),
        Decision::Hold { own: Some(own), reason } => format!("held for {}, {}", own.identity.subject, reason.as_str()),
        Decision::Refuse { error, close: None } => error.code.as_str().to_owned(),
        Decision::Refuse {
            error,
            close: Some(close),
        } => format!("{}, {}", error.code.as_str(), close.code()),
    }
}

/// The same, for a page.
pub(super) fn told_in_words(case: &Case) -> String {
    match decide(case) {
        Decision::InOwnName { renews: true, .. } => "by its own token, which becomes the grant".to_owned(),
        Decision::InOwnName { renews: false, .. } => "by its own token".to_owned(),
        Decision::InConnectionsName => "by the grant".to_owned(),
        Decision::Hold { own: None, .. } => "held".to_owned(),
        Decision::Hold { own: Some(_), .. } => "held, with its claims".to_owned(),
        Decision::Refuse { error, close } => {
            let close = close.map_or_else(String::new, |close| format!(", {}", close.code()));
            format!("`{}`{close}", error.code.as_str())
        }
        Decision::Authenticate { .. } | Decision::Forget | Decision::Again | Decision::Anonymously => told(case),
    }
}

fn every_row(rows: impl IntoIterator<Item = (Case, &'static str)>) {
    for (case, expected) in rows {
        assert_eq!(told(&case), expected, "{case:?}");
    }
}

use Policy::{Close, Ignore, Reauthenticate};

#[test]
fn a_message_with_a_good_token_is_its_own() {
    let again = |held| Stand { held, ..on(live()) };
    every_row([
        (message(good("alice", "one"), NOBODY, Close), "as alice, renewed"),
        (message(good("alice", "one"), on(live()), Close), "as alice"),
        (message(good("alice", "two"), on(live()), Close), "as alice, renewed"),
        (message(good("alice", "one"), again(true), Close), "as alice, renewed"),
        (message(good("alice", "two"), on(ended()), Close), "as alice, renewed"),
        (
            message(good("bob", "two"), on(live()), Ignore),
            "identity_mismatch, 4509",
        ),
        (
            message(good("bob", "two"), on(ended()), Ignore),
            "identity_mismatch, 4509",
        ),
        (
            per_message(message(good("alice", "two"), on(live()), Close)),
            "as alice, renewed",
        ),
        (
            explicit(message(good("alice", "one"), on(live()), Ignore)),
            "bad_request",
        ),
    ]);
}

#[test]
fn a_token_that_proves_nothing_is_refused_and_never_held() {
    let invalid = || Proof::Invalid(token::Reason::Signature);
    every_row([
        (message(invalid(), on(live()), Ignore), "token_invalid"),
        (message(invalid(), on(live()), Reauthenticate), "token_invalid"),
        (message(invalid(), on(live()), Close), "token_invalid, 4501"),
        (message(Proof::Revoked, NOBODY, Ignore), "token_revoked, 4503"),
        (message(Proof::Unknown, on(live()), Close), "auth_unavailable"),
        (explicit(message(invalid(), NOBODY, Close)), "bad_request"),
    ]);
}

#[test]
fn an_expired_token_is_good_for_what_the_policy_lets_it_do_and_says_for_whom() {
    let of = |subject| Proof::Expired(verified(subject, "past"));
    every_row([
        (message(of("alice"), NOBODY, Reauthenticate), "held for alice, expired"),
        (
            message(of("alice"), on(live()), Reauthenticate),
            "held for alice, expired",
        ),
        (
            message(of("alice"), on(ended()), Reauthenticate),
            "held for alice, expired",
        ),
        (message(of("bob"), on(live()), Reauthenticate), "token_expired"),
        (message(of("bob"), on(ended()), Ignore), "token_expired"),
        (message(of("alice"), NOBODY, Ignore), "token_expired"),
        (message(of("alice"), on(ended()), Ignore), "as alice"),
        (message(of("alice"), on(live()), Ignore), "as alice"),
        (message(of("alice"), NOBODY, Close), "token_expired, 4401"),
        (message(of("alice"), on(live()), Close), "token_expired, 4401"),
        (explicit(message(of("alice"), NOBODY, Close)), "bad_request"),
    ]);
}

#[test]
fn a_message_without_a_token_lives_by_its_connections_grant() {
    let none = |authenticated, policy| message(Proof::None, on(authenticated), policy);
    every_row([
        (none(live(), Close), "as the connection"),
        (explicit(none(live(), Close)), "as the connection"),
        (none(None, Ignore), "auth_required"),
        (none(None, Close), "auth_required, 4401"),
        (none(None, Reauthenticate), "held, missing"),
        (none(ended(), Ignore), "as the connection"),
        (none(ended(), Close), "auth_required, 4401"),
        (none(ended(), Reauthenticate), "held, expired"),
        (explicit(none(None, Reauthenticate)), "held, missing"),
    ]);
}

#[test]
fn where_each_message_needs_its_own_token_the_connections_counts_for_nothing() {
    for authenticated in [None, live(), ended()] {
        for unsettled in [false, true] {
            let none = |policy| {
                let stand = Stand {
                    unsettled,
                    ..on(authenticated)
                };
                per_message(message(Proof::None, stand, policy))
            };
            every_row([
                (none(Reauthenticate), "auth_required"),
                (none(Close), "auth_required, 4401"),
                (none(Ignore), "auth_required"),
            ]);
        }
    }
}

#[test]
fn a_token_that_was_issued_earlier_than_the_one_in_force_acts_for_its_message_alone() {
    let newer = |authenticated: Option<CurrentGrant>| {
        on(authenticated.map(|authenticated| CurrentGrant {
            newer: true,
            ..authenticated
        }))
    };
    every_row([
        (message(good("alice", "two"), newer(live()), Close), "as alice"),
        (
            message(good("alice", "two"), newer(ended()), Close),
            "as alice, renewed",
        ),
        (
            message(good("bob", "two"), newer(live()), Close),
            "identity_mismatch, 4509",
        ),
        (
            authenticate(good("alice", "two"), newer(live()), Close),
            "left as it is",
        ),
        (
            authenticate(good("alice", "two"), newer(ended()), Close),
            "granted to alice",
        ),
    ]);
}

#[test]
fn a_token_that_allows_more_lasts_as_long_as_the_setting_says() {
    let exceeded = |authenticated: Option<CurrentGrant>| {
        on(authenticated.map(|authenticated| CurrentGrant {
            exceeded: true,
            ..authenticated
        }))
    };
    let unsettled = |stand| Stand {
        unsettled: true,
        ..stand
    };
    let briefly = |case| Case {
        elevation: Elevation::Message,
        ..case
    };
    let shown = |stand| message(good("alice", "two"), stand, Close);
    every_row([
        (shown(exceeded(live())), "as alice, renewed"),
        (briefly(shown(exceeded(live()))), "as alice"),
        (briefly(shown(on(live()))), "as alice, renewed"),
        (briefly(shown(exceeded(ended()))), "as alice, renewed"),
        (briefly(shown(NOBODY)), "as alice, renewed"),
        (briefly(shown(unsettled(NOBODY))), "as alice"),
        (shown(unsettled(NOBODY)), "as alice, renewed"),
        (
            briefly(authenticate(good("alice", "two"), exceeded(live()), Close)),
            "granted to alice",
        ),
    ]);
}

#[test]
fn what_cannot_be_decided_before_its_predecessors_is_sent_back_once() {
    let unsettled = |authenticated| Stand {
        unsettled: true,
        ..on(authenticated)
    };
    let expired_on_the_way = || {
        on(ended().map(|authenticated| CurrentGrant {
            was_live: true,
            ..authenticated
        }))
    };
    let again = |stand| Stand { again: true, ..stand };
    let none = |stand| message(Proof::None, stand, Reauthenticate);
    let expired = || Proof::Expired(verified("alice", "past"));
    every_row([
        (none(unsettled(None)), "again"),
        (none(unsettled(ended())), "again"),
        (none(unsettled(live())), "again"),
        (none(again(unsettled(live()))), "as the connection"),
        (none(again(unsettled(None))), "held, missing"),
        (none(expired_on_the_way()), "again"),
        (none(again(expired_on_the_way())), "held, expired"),
        (message(Proof::None, unsettled(ended()), Ignore), "again"),
        (message(expired(), unsettled(None), Ignore), "again"),
        (message(expired(), again(unsettled(None)), Ignore), "token_expired"),
        (
            message(expired(), unsettled(None), Reauthenticate),
            "held for alice, expired",
        ),
        (forget(Proof::None, unsettled(live())), "again"),
        (forget(Proof::None, again(unsettled(live()))), "forgotten"),
    ]);
}

#[test]
fn what_is_revoked_serves_nobody_and_what_is_unknown_is_neither_let_in_nor_logged_out() {
    let judged = |authenticated: Option<CurrentGrant>, judgement| {
        on(authenticated.map(|authenticated| CurrentGrant {
            judgement,
            ..authenticated
        }))
    };
    let revoked = |authenticated| judged(authenticated, Judgement::Revoked);
    let unknown = |authenticated| judged(authenticated, Judgement::Unknown);
    every_row([
        (message(Proof::None, revoked(live()), Ignore), "token_revoked, 4503"),
        (message(Proof::None, revoked(ended()), Ignore), "token_revoked, 4503"),
        (
            message(Proof::None, revoked(live()), Reauthenticate),
            "token_revoked, 4503",
        ),
        (
            message(
                Proof::None,
                Stand {
                    unsettled: true,
                    ..revoked(live())
                },
                Ignore,
            ),
            "again",
        ),
        (message(Proof::None, unknown(live()), Close), "auth_unavailable"),
        (message(Proof::None, unknown(ended()), Ignore), "auth_unavailable"),
        (message(Proof::None, unknown(ended()), Reauthenticate), "held, expired"),
        (forget(Proof::None, revoked(live())), "forgotten"),
    ]);
}

#[test]
fn authentication_is_never_held_and_never_sent_back() {
    let unsettled = Stand {
        unsettled: true,
        ..NOBODY
    };
    every_row([
        (authenticate(good("alice", "one"), unsettled, Close), "granted to alice"),
        (
            per_message(authenticate(good("alice", "one"), NOBODY, Close)),
            "granted to alice",
        ),
        (
            explicit(authenticate(good("alice", "one"), on(live()), Close)),
            "granted to alice",
        ),
        (
            authenticate(good("bob", "two"), on(ended()), Close),
            "identity_mismatch, 4509",
        ),
        (authenticate(Proof::None, on(live()), Close), "bad_request"),
        (
            authenticate(Proof::Expired(verified("alice", "past")), on(live()), Reauthenticate),
            "token_expired",
        ),
        (
            authenticate(Proof::Expired(verified("alice", "past")), on(live()), Close),
            "token_expired, 4401",
        ),
        (
            authenticate(Proof::Invalid(token::Reason::Claims), unsettled, Close),
            "token_invalid, 4501",
        ),
        (
            authenticate(Proof::Invalid(token::Reason::Claims), unsettled, Ignore),
            "token_invalid",
        ),
        (authenticate(Proof::Revoked, unsettled, Ignore), "token_revoked, 4503"),
        (authenticate(Proof::Unknown, unsettled, Close), "auth_unavailable"),
        (authenticate(not_yet(), unsettled, Close), "auth_unavailable"),
        (forget(good("alice", "one"), on(live())), "bad_request"),
        (forget(Proof::None, NOBODY), "forgotten"),
    ]);
}

#[test]
fn an_injected_message_has_only_its_own_token() {
    let injected = |purpose, proof| Case {
        purpose,
        sender: Sender::Injector,
        ..explicit(message(proof, NOBODY, Close))
    };
    every_row([
        (injected(Purpose::Application, good("alice", "one")), "as alice"),
        (injected(Purpose::Application, Proof::None), "auth_required"),
        (
            injected(Purpose::Application, Proof::Expired(verified("alice", "past"))),
            "token_expired",
        ),
        (
            injected(Purpose::Application, Proof::Invalid(token::Reason::Claims)),
            "token_invalid",
        ),
        (injected(Purpose::Application, Proof::Revoked), "token_revoked"),
        (injected(Purpose::Application, Proof::Unknown), "auth_unavailable"),
        (injected(Purpose::Application, not_yet()), "auth_unavailable"),
        (injected(Purpose::Authenticate, good("alice", "one")), "bad_request"),
        (injected(Purpose::Forget, Proof::None), "bad_request"),
    ]);
}

fn not_yet() -> Proof {
    Proof::NotYet {
        reason: token::Reason::NotYetValid,
        wait: std::time::Duration::from_millis(1_500),
    }
}

#[test]
fn who_shows_a_token_a_moment_too_early_is_told_when_it_is_good() {
    for stand in [NOBODY, on(live()), on(ended())] {
        for policy in [Ignore, Close, Reauthenticate] {
            for case in [
                message(not_yet(), stand, policy),
                authenticate(not_yet(), stand, policy),
            ] {
                let Decision::Refuse { error, close } = decide(&case) else {
                    panic!("{case:?}")
                };
                assert_eq!(
                    (error.temporary, error.retry_after_ms, close),
                    (true, Some(1_500), None)
                );
                assert!(error.message.contains("`nbf`"), "{}", error.message);
            }
        }
    }
}

/// Every case that there is: some hundred thousand.
fn all_cases() -> Vec<Case> {
    let flags = [false, true];
    let mut bounds = vec![None];
    for (live, was_live) in [(true, true), (false, true), (false, false)] {
        for judgement in [Judgement::Good, Judgement::Revoked, Judgement::Unknown] {
            for (newer, exceeded) in [(false, false), (true, false), (false, true)] {
                bounds.push(Some(CurrentGrant {
                    was_live,
                    judgement,
                    newer,
                    exceeded,
                    ..authenticated("alice", "one", live)
                }));
            }
        }
    }
    let mut senders = vec![Sender::Injector];
    for authenticated in bounds {
        for (unsettled, held, again) in flags.map(|a| flags.map(|b| flags.map(|c| (a, b, c)))).concat().concat() {
            senders.push(Sender::Connection(Stand {
                authenticated,
                unsettled,
                held,
                again,
            }));
        }
    }
    let proofs = [
        Proof::None,
        good("alice", "one"),
        good("alice", "two"),
        good("bob", "two"),
        Proof::Revoked,
        Proof::Expired(verified("alice", "past")),
        Proof::Expired(verified("bob", "past")),
        Proof::Invalid(token::Reason::Claims),
        not_yet(),
        Proof::Unknown,
    ];
    let mut all = Vec::new();
    for sender in senders {
        for proof in &proofs {
            for purpose in [Purpose::Application, Purpose::Authenticate, Purpose::Forget] {
                for strategy in [Strategy::PerMessage, Strategy::Explicit, Strategy::Both] {
                    for policy in [Ignore, Close, Reauthenticate] {
                        for elevation in [Elevation::Connection, Elevation::Message] {
                            all.push(Case {
                                public: false,
                                purpose,
                                proof: proof.clone(),
                                sender,
                                strategy,
                                elevation,
                                policy,
                            });
                        }
                    }
                }
            }
        }
    }
    all
}

fn bound_of(case: &Case) -> Option<CurrentGrant> {
    match case.sender {
        Sender::Connection(stand) => stand.authenticated,
        Sender::Injector => None,
    }
}

/// Anyone who of the two is let in is proved, now or (under `ignore`) once, and not revoked; and by the connection's grant
/// only what has no token of its own and needs none, when nothing that could change the grant is under way.
fn is_let_in_rightly(case: &Case, decision: &Decision) -> bool {
    let authenticated = bound_of(case);
    match decision {
        Decision::Authenticate { .. } => matches!(case.proof, Proof::Good(_)),
        Decision::InOwnName { renews, .. } => match &case.proof {
            Proof::Good(_) => true,
            Proof::Expired(_) => case.policy == Ignore && !renews && authenticated.is_some(),
            _ => false,
        },
        Decision::InConnectionsName => authenticated.is_some_and(|authenticated| {
            let Sender::Connection(stand) = case.sender else {
                return false;
            };
            authenticated.judgement == Judgement::Good
                && (authenticated.live || case.policy == Ignore)
                && case.strategy != Strategy::PerMessage
                && matches!(case.proof, Proof::None)
                && (!stand.unsettled || stand.again)
        }),
        _ => true,
    }
}

#[test]
fn in_no_case_is_anybody_let_in_who_is_not_proved() {
    for case in all_cases() {
        assert!(is_let_in_rightly(&case, &decide(&case)), "{case:?}: {}", told(&case));
    }
}

#[test]
fn in_no_case_is_one_identity_taken_for_another() {
    for case in all_cases() {
        let authenticated = bound_of(&case).map(|authenticated| authenticated.identity);
        match decide(&case) {
            Decision::InOwnName { verified, .. } | Decision::Authenticate { verified, .. } => {
                assert!(
                    authenticated.is_none_or(|authenticated| authenticated == verified.identity.tag()),
                    "{case:?}"
                );
            }
            Decision::Hold { own: Some(own), .. } => {
                assert!(
                    authenticated.is_none_or(|authenticated| authenticated == own.identity.tag()),
                    "{case:?}"
                );
            }
            _ => {}
        }
    }
}

#[test]
fn in_no_case_is_a_message_sent_back_twice_or_with_a_good_token() {
    for case in all_cases() {
        if decide(&case) == Decision::Again {
            let Sender::Connection(stand) = case.sender else {
                panic!("there is nobody to send it back to")
            };
            let harmless = matches!(case.proof, Proof::None | Proof::Expired(_));
            assert!(!stand.again && harmless, "{case:?}");
            assert_ne!(case.purpose, Purpose::Authenticate);
        }
    }
}

#[test]
fn only_under_reauthenticate_is_anything_held_and_never_what_is_the_protocols_own() {
    for case in all_cases() {
        if let Decision::Hold { .. } = decide(&case) {
            assert_eq!((case.policy, case.purpose), (Reauthenticate, Purpose::Application));
            assert!(matches!(case.proof, Proof::None | Proof::Expired(_)), "{case:?}");
            let waits_for_nothing = matches!(case.proof, Proof::None) && case.strategy == Strategy::PerMessage;
            assert!(!waits_for_nothing, "{case:?}");
        }
    }
}

#[test]
fn a_connection_is_closed_by_policy_or_for_what_no_policy_excuses() {
    for case in all_cases() {
        let Decision::Refuse {
            error,
            close: Some(close),
        } = decide(&case)
        else {
            continue;
        };
        assert!(matches!(case.sender, Sender::Connection(_)), "{case:?}");
        let expected = match error.code {
            ErrorCode::TokenRevoked => CloseCode::Revoked,
            ErrorCode::IdentityMismatch => CloseCode::IdentityMismatch,
            ErrorCode::TokenInvalid if case.policy == Close => CloseCode::TokenInvalid,
            ErrorCode::AuthRequired | ErrorCode::TokenExpired if case.policy == Close => CloseCode::AuthRequired,
            other => panic!("{other:?} closes: {case:?}"),
        };
        assert_eq!(close, expected, "{case:?}");
    }
}

#[test]
fn what_cannot_be_found_out_is_temporary_and_says_when_to_come_again() {
    for case in all_cases() {
        if let Decision::Refuse { error, close } = decide(&case)
            && error.code == ErrorCode::AuthUnavailable
        {
            let own = matches!(case.proof, Proof::NotYet { .. }).then_some(1_500);
            assert_eq!(
                (error.temporary, error.retry_after_ms, close),
                (true, own.or(Some(RETRY_MS)), None),
                "{case:?}"
            );
        }
    }
}

#[test]
fn what_anybody_may_send_is_nobodys_unless_a_good_token_came_with_it() {
    let revoked = on(live().map(|authenticated| CurrentGrant {
        judgement: Judgement::Revoked,
        ..authenticated
    }));
    let unsettled = Stand {
        unsettled: true,
        ..on(live())
    };
    for stand in [NOBODY, on(live()), on(ended()), revoked, unsettled] {
        for policy in [Policy::Ignore, Policy::Close, Policy::Reauthenticate] {
            let public = |proof| Case {
                public: true,
                ..message(proof, stand, policy)
            };
            let no_good = [
                Proof::None,
                Proof::Expired(verified("alice", "past")),
                Proof::Expired(verified("bob", "past")),
                Proof::Invalid(token::Reason::Signature),
                Proof::Revoked,
                not_yet(),
                Proof::Unknown,
            ];
            for proof in no_good {
                for case in [public(proof.clone()), per_message(public(proof.clone()))] {
                    assert_eq!(told(&case), "as nobody", "{case:?}");
                }
                let expected = if matches!(proof, Proof::None) {
                    "as nobody"
                } else {
                    "bad_request"
                };
                assert_eq!(told(&explicit(public(proof))), expected);
            }
            let (with, without) = (
                public(good("alice", "two")),
                message(good("alice", "two"), stand, policy),
            );
            assert_eq!(told(&with), told(&without), "a good token counts as always");
            // Who logs in or out is never no one.
            let log_in = authenticate(Proof::None, stand, policy);
            assert_eq!(
                told(&Case {
                    public: true,
                    ..log_in.clone()
                }),
                told(&log_in)
            );
        }
    }
}
