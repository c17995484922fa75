//! What is held to be written.

use super::*;

pub(super) async fn every_claim(tested: &dyn Implementation) {
    writes_are_held_once_and_read_in_the_order_of_their_coming(tested).await;
    writes_are_held_within_limits_whoever_holds_them(tested).await;
    users_never_use_up_the_share_of_backends(tested).await;
    no_mailbox_uses_up_another_s_room(tested).await;
    an_answer_is_held_for_whoever_asked(tested).await;
    writes_outlast_their_time_by_a_while(tested).await;
    what_is_missed_is_counted_by_mailbox_and_told_once(tested).await;
    a_producer_is_told_once_for_each_key(tested).await;
}

async fn users_never_use_up_the_share_of_backends(tested: &dyn Implementation) {
    let limits = HoldLimits {
        messages: 8,
        bytes: 100,
        of_sender: 3,
        ..LIMITS
    };
    let hold = async |identity: IdentityTag, write: &HeldWrite| {
        let held = tested.store().hold_write(identity.into(), write, &limits).await;
        held.expect("the store answers") != Holding::Overflow
    };
    let of = |sender: u8, id: u8, body: &str| {
        let sender = IdentityTag::of(&[sender; 32]);
        write(tested, &worker::store::hold::key_of_user(sender, &id.to_string()), body)
    };
    let alice = an_identity();
    for (id, held) in [(1, true), (2, true), (2, true), (3, true), (4, false)] {
        assert_eq!(hold(alice, &of(1, id, "x")).await, held, "one sender's {id}");
    }
    assert!(hold(alice, &of(2, 1, "x")).await, "another sender");
    assert!(!hold(alice, &of(3, 1, "x")).await, "all users have half");
    for number in 0..4 {
        assert!(
            hold(alice, &write(tested, &format!("p:{number}"), "x")).await,
            "a backend's"
        );
    }
    assert!(!hold(alice, &write(tested, "p:4", "x")).await, "it is full");
    let dropped = of(1, 1, "x").key;
    tested
        .store()
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
    assert!(hold(bob, &write(tested, "p:1", &"y".repeat(60))).await);
    let dropped = of(1, 1, "").key;
    tested
        .store()
        .drop_writes(bob.into(), &[dropped])
        .await
        .expect("the store answers");
    assert!(hold(bob, &of(2, 1, &"y".repeat(20))).await, "and may use it again");
}

async fn no_mailbox_uses_up_another_s_room(tested: &dyn Implementation) {
    let alice = an_identity();
    let mailboxes: [Mailbox; 3] = [alice.into(), a_connection().into(), a_connection().into()];
    let fits = async |mailbox: Mailbox, key: &str, body: &str| {
        hold_write(tested, mailbox, &write(tested, key, body)).await != Holding::Overflow
    };
    for mailbox in mailboxes {
        for number in 0..LIMITS.messages {
            assert!(fits(mailbox, &number.to_string(), "x").await, "{mailbox}");
        }
        assert!(!fits(mailbox, "more", "x").await, "{mailbox}: all that may wait do");
        let dropping = tested.store().drop_writes(mailbox, &["0".to_owned()]).await;
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

async fn an_answer_is_held_for_whoever_asked(tested: &dyn Implementation) {
    let (one, other, alice) = (a_connection(), a_connection(), an_identity());
    let answer = HeldWrite {
        asker: Some(alice),
        ..write(tested, "k", "x")
    };
    hold_write(tested, one, &answer).await;
    assert_eq!(writes(tested, one, 10).await, [answer], "and it is known in whose name");
    assert_eq!(writes(tested, other, 10).await, []);
    assert_eq!(writes(tested, alice, 10).await, []);
}

async fn writes_outlast_their_time_by_a_while(tested: &dyn Implementation) {
    let alice = an_identity();
    let first = write(tested, "k", "x");
    hold_write(tested, alice, &first).await;
    pass(tested, LIMITS.ttl + HOLD_GRACE / 2).await;
    assert_eq!(writes(tested, alice, 10).await, std::slice::from_ref(&first));
    // It was elsewhere until its time was over, and anyone who waits for it is still told.
    let back = HeldWrite {
        key: "back".to_owned(),
        ..first.clone()
    };
    hold_write(tested, alice, &back).await;
    pass(tested, HOLD_GRACE - BRINK).await;
    assert_eq!(writes(tested, alice, 10).await, [first, back]);
    pass(tested, BRINK).await;
    assert_eq!(writes(tested, alice, 10).await, []);
}

async fn writes_are_held_once_and_read_in_the_order_of_their_coming(tested: &dyn Implementation) {
    let alice = an_identity();
    for key in ["b", "a", "b", "bytes", "next"].iter().take(4) {
        hold_write(tested, alice, &write(tested, key, "x")).await;
    }
    let (b, a, bytes) = (
        write(tested, "b", "x"),
        write(tested, "a", "x"),
        write(tested, "bytes", "x"),
    );
    assert_eq!(writes(tested, alice, 10).await, [b.clone(), a, bytes.clone()]);
    assert_eq!(writes(tested, alice, 1).await, [b]);
    let left = tested
        .store()
        .drop_writes(alice.into(), &["b".to_owned(), "a".to_owned()])
        .await;
    assert_eq!(left.expect("the store answers"), 1);
    hold_write(tested, alice, &write(tested, "b", "x")).await;
    assert_eq!(writes(tested, alice, 10).await, [bytes, write(tested, "b", "x")]);
    let all = ["b".to_owned(), "bytes".to_owned(), "none".to_owned()];
    let left = tested.store().drop_writes(alice.into(), &all).await;
    assert_eq!(left.expect("the store answers"), 0);
    assert_eq!(writes(tested, alice, 10).await, []);
}

async fn writes_are_held_within_limits_whoever_holds_them(tested: &dyn Implementation) {
    let alice = an_identity();
    let many: Vec<_> = (0..10).map(|n| write(tested, &format!("k{n}"), "x")).collect();
    let outcomes = join_all(many.iter().map(|one| hold_write(tested, alice, one))).await;
    let held = outcomes.iter().filter(|outcome| **outcome != Holding::Overflow).count();
    assert_eq!(held as u64, LIMITS.messages);
    assert_eq!(writes(tested, alice, 10).await.len(), held);

    let bob = an_identity();
    let large = "y".repeat(60);
    hold_write(tested, bob, &write(tested, "1", "y")).await;
    assert_eq!(hold_write(tested, bob, &write(tested, "2", &large)).await, counted(2));
    let next = write(tested, "3", &large);
    assert_eq!(hold_write(tested, bob, &next).await, Holding::Overflow);
    let left = tested.store().drop_writes(bob.into(), &["2".to_owned()]).await;
    assert_eq!(left.expect("the store answers"), 1);
    assert_eq!(hold_write(tested, bob, &next).await, counted(2));
}

async fn writes(tested: &dyn Implementation, mailbox: impl Into<Mailbox>, most: u64) -> Vec<HeldWrite> {
    tested
        .store()
        .held_writes(mailbox.into(), most)
        .await
        .expect("the store answers")
}

async fn what_is_missed_is_counted_by_mailbox_and_told_once(tested: &dyn Implementation) {
    let (alice, connection) = (an_identity(), a_connection());
    let take = async |mailbox: Mailbox| tested.store().take_missed(mailbox).await.expect("the store answers");
    let miss = async |mailbox: Mailbox, count| tested.store().miss(mailbox, count).await.expect("the store answers");
    miss(alice.into(), 2).await;
    miss(Mailbox::Missed(connection), 3).await;
    miss(alice.into(), 5).await;
    assert_eq!(take(connection.into()).await, 0);
    assert_eq!((take(alice.into()).await, take(alice.into()).await), (7, 0));
    assert_eq!(take(Mailbox::Missed(connection)).await, 3);
    miss(alice.into(), 1).await;
    pass(tested, MISSED_KEPT).await;
    assert_eq!(take(alice.into()).await, 0, "a day later");
}

async fn a_producer_is_told_once_for_each_key(tested: &dyn Implementation) {
    let (alice, bob) = (an_identity(), an_identity());
    let conclude = async |identity, key, held| {
        let is_new = tested.store().conclude(identity, key, held).await;
        is_new.expect("the store answers")
    };
    let key = u64::MAX >> 1;
    assert!(conclude(alice, key, true).await && !conclude(alice, key, true).await);
    assert!(conclude(alice, key, false).await && conclude(alice, key - 1, false).await);
    assert!(!conclude(alice, key, false).await && !conclude(alice, key, true).await);
    assert!(!conclude(alice, key - 1, true).await, "it is over");
    assert!(conclude(bob, key, false).await);
    pass(tested, CONCLUDED_KEPT).await;
    assert!(conclude(alice, key, false).await, "it is forgotten");
}
