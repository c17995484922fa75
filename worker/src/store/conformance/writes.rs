//! What is held to be written.

use super::*;

pub(super) async fn every_claim(home: &dyn Home) {
    writes_are_held_once_and_read_in_the_order_of_their_coming(home).await;
    writes_are_held_within_limits_whoever_holds_them(home).await;
    users_never_use_up_the_share_of_backends(home).await;
    no_mailbox_uses_up_another_s_room(home).await;
    an_answer_is_held_for_whoever_asked(home).await;
    writes_outlast_their_time_by_a_while(home).await;
    what_is_missed_is_counted_by_mailbox_and_told_once(home).await;
    a_producer_is_told_once_for_each_key(home).await;
}

async fn users_never_use_up_the_share_of_backends(home: &dyn Home) {
    let limits = HoldLimits {
        messages: 8,
        bytes: 100,
        of_sender: 3,
        ..LIMITS
    };
    let hold = async |identity: IdentityTag, write: &HeldWrite| {
        let held = home.store().hold_write(identity.into(), write, &limits).await;
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
        .drop_writes(alice.into(), &[dropped])
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
        .drop_writes(bob.into(), &[dropped])
        .await
        .expect("the store answers");
    assert!(hold(bob, &of(2, 1, &"y".repeat(20))).await, "and may use it again");
}

async fn no_mailbox_uses_up_another_s_room(home: &dyn Home) {
    let alice = an_identity();
    let mailboxes: [Mailbox; 3] = [alice.into(), a_connection().into(), a_connection().into()];
    let fits = async |mailbox: Mailbox, key: &str, body: &str| {
        hold_write(home, mailbox, &write(home, key, body)).await != Holding::Overflow
    };
    for mailbox in mailboxes {
        for number in 0..LIMITS.messages {
            assert!(fits(mailbox, &number.to_string(), "x").await, "{mailbox}");
        }
        assert!(!fits(mailbox, "more", "x").await, "{mailbox}: all that may wait do");
        let dropping = home.store().drop_writes(mailbox, &["0".to_owned()]).await;
        assert_eq!(dropping.expect("the store answers"), LIMITS.messages - 1);
        assert!(fits(mailbox, "more", "x").await, "{mailbox}: there is room again");
        assert!(!fits(mailbox, "still more", "x").await, "{mailbox}: for one");
    }
    let most = "y".repeat(usize::try_from(LIMITS.bytes).expect("few"));
    for mailbox in [Mailbox::from(an_identity()), a_connection().into()] {
        assert!(fits(mailbox, "1", &most).await);
        assert!(!fits(mailbox, "2", "y").await, "{mailbox}: all bytes are used");
    }
}

async fn an_answer_is_held_for_whoever_asked(home: &dyn Home) {
    let (one, other, alice) = (a_connection(), a_connection(), an_identity());
    let answer = HeldWrite {
        asker: Some(alice),
        ..write(home, "k", "x")
    };
    hold_write(home, one, &answer).await;
    assert_eq!(writes(home, one, 10).await, [answer], "and it is known in whose name");
    assert_eq!(writes(home, other, 10).await, []);
    assert_eq!(writes(home, alice, 10).await, []);
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
    let left = home
        .store()
        .drop_writes(alice.into(), &["b".to_owned(), "a".to_owned()])
        .await;
    assert_eq!(left.expect("the store answers"), 1);
    hold_write(home, alice, &write(home, "b", "x")).await;
    assert_eq!(writes(home, alice, 10).await, [bytes, write(home, "b", "x")]);
    let all = ["b".to_owned(), "bytes".to_owned(), "none".to_owned()];
    let left = home.store().drop_writes(alice.into(), &all).await;
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
    let left = home.store().drop_writes(bob.into(), &["2".to_owned()]).await;
    assert_eq!(left.expect("the store answers"), 1);
    assert_eq!(hold_write(home, bob, &next).await, counted(2));
}

async fn writes(home: &dyn Home, mailbox: impl Into<Mailbox>, most: u64) -> Vec<HeldWrite> {
    home.store()
        .held_writes(mailbox.into(), most)
        .await
        .expect("the store answers")
}

async fn what_is_missed_is_counted_by_mailbox_and_told_once(home: &dyn Home) {
    let (alice, connection) = (an_identity(), a_connection());
    let take = async |mailbox: Mailbox| home.store().take_missed(mailbox).await.expect("the store answers");
    let miss = async |mailbox: Mailbox, count| home.store().miss(mailbox, count).await.expect("the store answers");
    miss(alice.into(), 2).await;
    miss(Mailbox::Missed(connection), 3).await;
    miss(alice.into(), 5).await;
    assert_eq!(take(connection.into()).await, 0);
    assert_eq!((take(alice.into()).await, take(alice.into()).await), (7, 0));
    assert_eq!(take(Mailbox::Missed(connection)).await, 3);
    miss(alice.into(), 1).await;
    pass(home, MISSED_KEPT).await;
    assert_eq!(take(alice.into()).await, 0, "a day later");
}

async fn a_producer_is_told_once_for_each_key(home: &dyn Home) {
    let (alice, bob) = (an_identity(), an_identity());
    let conclude = async |identity, key, held| {
        let is_new = home.store().conclude(identity, key, held).await;
        is_new.expect("the store answers")
    };
    let key = u64::MAX >> 1;
    assert!(conclude(alice, key, true).await && !conclude(alice, key, true).await);
    assert!(conclude(alice, key, false).await && conclude(alice, key - 1, false).await);
    assert!(!conclude(alice, key, false).await && !conclude(alice, key, true).await);
    assert!(!conclude(alice, key - 1, true).await, "it is over");
    assert!(conclude(bob, key, false).await);
    pass(home, CONCLUDED_KEPT).await;
    assert!(conclude(alice, key, false).await, "it is forgotten");
}
