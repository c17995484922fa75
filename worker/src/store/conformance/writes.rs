//! What is held for an identity.

use super::*;

pub(super) async fn every_claim(home: &dyn Home) {
    writes_are_held_once_and_read_in_the_order_of_their_coming(home).await;
    writes_are_held_within_limits_whoever_holds_them(home).await;
    users_never_use_up_the_share_of_backends(home).await;
    answers_and_pushes_never_use_up_each_other_s_room(home).await;
    writes_outlast_their_time_by_a_while(home).await;
}

async fn users_never_use_up_the_share_of_backends(home: &dyn Home) {
    let limits = HoldLimits {
        messages: 8,
        bytes: 100,
        of_sender: 3,
        ..LIMITS
    };
    let hold = async |identity, write: &HeldWrite| {
        let held = home.store().hold_write(identity, write, &limits).await;
        held.expect("the store answers") != Holding::Overflow
    };
    let of = |sender: u8, id: u8, body: &str| {
        let sender = IdentityTag::of(&[sender; 32]);
        write(home, &crate::store::hold::key_of_user(sender, &id.to_string()), body)
    };
    let alice = an_identity();
    for (id, held) in [(1, true), (2, true), (2, true), (3, true), (4, false)] {
        assert_eq!(hold(alice, &of(1, id, "x")).await, held, "one sender's {id}");
    }
    assert!(hold(alice, &of(2, 1, "x")).await, "another sender");
    assert!(!hold(alice, &of(3, 1, "x")).await, "all users have half");
    for number in 0..4 {
        assert!(
            hold(alice, &write(home, &format!("p:{number}"), "x")).await,
            "a backend's"
        );
    }
    assert!(!hold(alice, &write(home, "p:4", "x")).await, "it is full");
    let dropped = of(1, 1, "x").key;
    home.store()
        .drop_writes(alice, &[dropped])
        .await
        .expect("the store answers");
    assert!(hold(alice, &of(1, 5, "x")).await, "there is room again");

    let bob = an_identity();
    assert!(hold(bob, &of(1, 1, &"y".repeat(40))).await);
    assert!(
        !hold(bob, &of(2, 1, &"y".repeat(20))).await,
        "users have half of the bytes"
    );
    assert!(hold(bob, &write(home, "p:1", &"y".repeat(60))).await);
    let dropped = of(1, 1, "").key;
    home.store()
        .drop_writes(bob, &[dropped])
        .await
        .expect("the store answers");
    assert!(hold(bob, &of(2, 1, &"y".repeat(20))).await, "and may use it again");
}

async fn answers_and_pushes_never_use_up_each_other_s_room(home: &dyn Home) {
    let fits = async |identity, key: String, body: &str| {
        let held = hold_write(home, identity, &write(home, &key, body)).await;
        held != Holding::Overflow
    };
    let alice = an_identity();
    for number in 0..LIMITS.messages {
        assert!(fits(alice, format!("answer-{number}"), "x").await);
    }
    assert!(
        !fits(alice, "answer-more".into(), "x").await,
        "all answers that may wait do"
    );
    for number in 0..LIMITS.messages {
        assert!(
            fits(alice, format!("p:{number}"), "x").await,
            "pushes have room of their own"
        );
    }
    assert!(!fits(alice, "p:more".into(), "x").await, "all pushes that may wait do");
    let dropped = ["answer-0".to_owned(), "p:0".to_owned()];
    let dropping = home.store().drop_writes(alice, &dropped).await;
    assert_eq!(dropping.expect("the store answers"), 2 * LIMITS.messages - 2);
    for key in ["answer-more", "p:more"] {
        assert!(fits(alice, key.into(), "x").await, "{key}: there is room again");
        assert!(!fits(alice, format!("{key}-still"), "x").await, "{key}: for one");
    }

    let bob = an_identity();
    let most = "y".repeat(usize::try_from(LIMITS.bytes).expect("few"));
    for (key, held) in [("answer-1", true), ("answer-2", false), ("p:1", true), ("p:2", false)] {
        assert_eq!(fits(bob, key.into(), &most).await, held, "{key}");
    }
}

async fn writes_outlast_their_time_by_a_while(home: &dyn Home) {
    let alice = an_identity();
    let first = write(home, "k", "x");
    hold_write(home, alice, &first).await;
    pass(home, LIMITS.ttl + HOLD_GRACE / 2).await;
    assert_eq!(writes(home, alice, 10).await, std::slice::from_ref(&first));
    // It was elsewhere until its time was over, and whoever waits for it is still told.
    let back = HeldWrite {
        key: "back".to_owned(),
        ..first.clone()
    };
    hold_write(home, alice, &back).await;
    pass(home, HOLD_GRACE - Duration::from_secs(1)).await;
    assert_eq!(writes(home, alice, 10).await, [first, back]);
    pass(home, Duration::from_secs(1)).await;
    assert_eq!(writes(home, alice, 10).await, []);
}

async fn writes_are_held_once_and_read_in_the_order_of_their_coming(home: &dyn Home) {
    let alice = an_identity();
    for key in ["b", "a", "b", "bytes", "next"].iter().take(4) {
        hold_write(home, alice, &write(home, key, "x")).await;
    }
    let (b, a, bytes) = (write(home, "b", "x"), write(home, "a", "x"), write(home, "bytes", "x"));
    assert_eq!(writes(home, alice, 10).await, [b.clone(), a, bytes.clone()]);
    assert_eq!(writes(home, alice, 1).await, [b]);
    let left = home.store().drop_writes(alice, &["b".to_owned(), "a".to_owned()]).await;
    assert_eq!(left.expect("the store answers"), 1);
    hold_write(home, alice, &write(home, "b", "x")).await;
    assert_eq!(writes(home, alice, 10).await, [bytes, write(home, "b", "x")]);
    let all = ["b".to_owned(), "bytes".to_owned(), "none".to_owned()];
    let left = home.store().drop_writes(alice, &all).await;
    assert_eq!(left.expect("the store answers"), 0);
    assert_eq!(writes(home, alice, 10).await, []);
}

async fn writes_are_held_within_limits_whoever_holds_them(home: &dyn Home) {
    let alice = an_identity();
    let many: Vec<_> = (0..10).map(|n| write(home, &format!("k{n}"), "x")).collect();
    let outcomes = join_all(many.iter().map(|one| hold_write(home, alice, one))).await;
    let held = outcomes.iter().filter(|outcome| **outcome != Holding::Overflow).count();
    assert_eq!(held as u64, LIMITS.messages);
    assert_eq!(writes(home, alice, 10).await.len(), held);

    let bob = an_identity();
    let large = "y".repeat(60);
    hold_write(home, bob, &write(home, "1", "y")).await;
    assert_eq!(hold_write(home, bob, &write(home, "2", &large)).await, counted(2));
    let next = write(home, "3", &large);
    assert_eq!(hold_write(home, bob, &next).await, Holding::Overflow);
    let left = home.store().drop_writes(bob, &["2".to_owned()]).await;
    assert_eq!(left.expect("the store answers"), 1);
    assert_eq!(hold_write(home, bob, &next).await, counted(2));
}

async fn writes(home: &dyn Home, identity: IdentityTag, most: u64) -> Vec<HeldWrite> {
    home.store()
        .held_writes(identity, most)
        .await
        .expect("the store answers")
}
