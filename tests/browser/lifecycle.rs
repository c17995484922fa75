//! The whole life of an authentication, on the page of `countersign dev`: connect, expire, hold, renew, come through; close,
//! and resume. The console tells the same as it happens.

use crate::{chromium::Browser, dev::Dev, page::an_expiry};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_after_an_expiry_is_held_and_comes_through_with_a_fresh_token() {
    let (dev, browser) = tokio::join!(Dev::start(), Browser::start());
    let page = browser.open(&dev.url()).await;
    page.connected().await;
    page.to_console().await;
    page.shows("rows().length === 1 && row('–').state === 'anonymous'")
        .await;
    page.picture("console-anonymous").await;

    page.to_playground().await;
    page.set("#lifetime", "5").await;
    page.click("#authenticate").await;
    page.shows("one('#who').dataset.state === 'live'").await;
    page.to_console().await;
    page.shows("row('alice').state === 'live' && counter('granted') === 1")
        .await;
    page.shows_within(an_expiry(), "row('alice').state === 'expiring'")
        .await;
    page.shows_within(
        an_expiry(),
        "row('alice').state === 'expired' && counter('auth-expired') === 1",
    )
    .await;

    page.to_playground().await;
    page.click("[data-send=none]").await;
    page.shows("messages().some(({ what, outcome }) => what === 'greeting' && outcome === 'held')")
        .await;
    page.shows("text('#held-in') === '1' && !one('#wanted').hidden && chosen() === 'greeting'")
        .await;
    page.picture("playground-held").await;
    page.to_console().await;
    page.shows("row('alice').heldIn === 1 && counter('held') === 1 && events().includes('held')")
        .await;
    page.picture("console-held").await;

    page.to_playground().await;
    page.set("#lifetime", "300").await;
    page.click("#wanted-answer").await;
    page.shows("messages().some(({ what, outcome }) => what === 'greeting' && outcome === 'reply')")
        .await;
    page.shows("text('#held-in') === '0' && one('#wanted').hidden").await;
    // What came through at last is looked at again, without a hand.
    page.shows("chosen() === 'greeting' && times().length > 3 && isForwards()")
        .await;
    page.to_console().await;
    page.shows("row('alice').state === 'live' && row('alice').heldIn === 0")
        .await;
    page.shows("counter('released') === 1 && events().includes('released')")
        .await;
    page.expect_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_closed_for_its_expiry_is_resumed_and_gets_what_it_left_held() {
    let (dev, browser) = tokio::join!(Dev::start(), Browser::start());
    let page = browser.open(&dev.url()).await;
    page.connected().await;
    page.set("#on-expired-push", "close").await;
    page.shows("text('#settings-state').startsWith('in force')").await;
    page.connected().await;
    page.set("#lifetime", "5").await;
    page.click("#authenticate").await;
    page.shows("one('#who').dataset.state === 'live'").await;
    page.shows_within(an_expiry(), "one('#who').dataset.state === 'expired'")
        .await;
    page.click("[data-send=none]").await;
    page.shows("text('#held-in') === '1'").await;

    page.click("#push-form button[type=submit]").await;
    page.shows("text('#connection').startsWith('closed with 4401')").await;
    page.to_console().await;
    page.shows("counter('closed') >= 1 && events().includes('closed') && row('alice').state === undefined")
        .await;

    page.to_playground().await;
    page.set("#lifetime", "300").await;
    page.click("#connect").await;
    page.connected().await;
    page.shows("!one('#resume-row').hidden && one('#resume').checked").await;
    page.click("#authenticate").await;
    page.shows("messages().some(({ what, outcome }) => what === 'greeting' && outcome === 'reply')")
        .await;
    page.shows("messages().some(({ what, outcome }) => what === 'push' && outcome === 'arrived')")
        .await;
    page.to_console().await;
    page.shows("row('alice').state === 'live' && row('alice').heldOut === 0 && counter('released') === 2")
        .await;
    page.expect_quiet(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_reaches_the_page_and_what_was_revoked_is_closed() {
    let (dev, browser) = tokio::join!(Dev::start(), Browser::start());
    let page = browser.open(&dev.url()).await;
    page.connected().await;
    page.click("#authenticate").await;
    page.shows("one('#who').dataset.state === 'live'").await;
    page.click("#push-form button[type=submit]").await;
    page.shows("messages().some(({ what, outcome }) => what === 'push' && outcome === 'arrived')")
        .await;
    page.shows("chosen() === 'push' && times().length === 4 && isForwards()")
        .await;
    page.to_console().await;
    page.shows("counter('pushed') === 1").await;

    page.to_playground().await;
    page.click("[data-inject]").await;
    page.shows("chosen() === 'greeting' && times().length === 7 && isForwards()")
        .await;
    page.shows("text('#token-state').startsWith('alice, for another')")
        .await;
    page.click("[data-revoke=subject]").await;
    page.shows("text('#connection').startsWith('closed with 4503')").await;
    page.shows("text('#token-state') === 'alice, revoked; mint another one'")
        .await;
    page.to_console().await;
    page.shows("events().includes('closed') && rows().length === 0").await;
    page.shows("text('#console-connections').includes('No clients are connected.')")
        .await;
    page.expect_quiet(&[]).await;
}
