//! How the pages look: on a phone and on a desk, light and dark, idle and busy, to the eye and without it.

use std::time::SystemTime;

use serde_json::{Value, json};
use tests::{Client, Span, wait::until};
use tokio::task::JoinSet;

use crate::{
    chromium::Browser,
    dev::Dev,
    page::{Page, an_expiry},
};

/// The narrowest phone that is still sold, a common one, and a desk.
const WINDOWS: [(u32, u32); 3] = [(360, 740), (390, 844), (1_280, 900)];

/// A crowd: someone in every state, who is there but silent, and two who talk all the time.
async fn crowd(dev: &Dev) -> JoinSet<()> {
    let mut crowd = JoinSet::new();
    for (subject, life_s, sends) in [("bob", 3, 4), ("carol", 50, 0), ("erin", 3, 1), ("frank", 600, 0)] {
        let mut client = dev.client().await;
        client.authenticate(&dev.token(subject, life_s).await).await;
        if sends > 0 {
            until(SystemTime::now() + 3.s()).await;
        }
        for id in 0..sends {
            client
                .send_json(&json!({"id": format!("{subject}-{id}"), "type": "order"}))
                .await;
        }
        crowd.spawn(stay(client));
    }
    crowd.spawn(stay(dev.client().await));
    for subject in [
        "alice",
        "a-subject-with-a-name-that-is-longer-than-any-column@department.example.com",
    ] {
        let mut client = dev.client().await;
        let token = dev.token(subject, 300).await;
        client.authenticate(&token).await;
        let broken = format!("{}x", &token[..token.len() - 1]);
        crowd.spawn(async move {
            for id in 0_u64.. {
                let token = if id % 40 == 39 { &broken } else { &token };
                let message = json!({"id": id.to_string(), "type": "greeting", "token": token, "payload": id});
                client.send_json(&message).await;
                client.next_json(10.s()).await;
                // As fast as the eye can tell from standing still is fast enough.
                tokio::time::sleep(5.ms()).await;
            }
        });
    }
    crowd
}

/// Is there, and says nothing but that.
async fn stay(mut client: Client) {
    while client.next(3_600.s()).await.is_some() {}
}

/// Claims that nothing has to be scrolled sideways, and that every text can be read (WCAG 2.2 §1.4.3).
async fn expect_fitting(page: &Page<'_>, about: &str) {
    let overflow = page.value("document.documentElement.scrollWidth - innerWidth").await;
    assert!(overflow.as_i64().unwrap() <= 0, "{about}: {overflow} pixels too wide");
    let clipped = page
        .value("all('td.whose, .list .how').filter((item) => item.scrollWidth > item.clientWidth + 1).map((item) => item.textContent)")
        .await;
    assert_eq!(clipped, json!([]), "{about}: clipped");
    let faint = page.value(FAINT).await;
    assert_eq!(faint, json!([]), "{about}: too little contrast");
}

/// Every text that is shown with less contrast than 4.5, or than 3 where it is large. What is disabled need not have any.
const FAINT: &str = r#"(() => {
  const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest(":disabled, option, .unseen, thead, noscript, script")) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(parse(style.color)), light(behind(node))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const wanted = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    if ((a + 0.05) / (b + 0.05) < wanted) faint.push(`${walker.currentNode.data.trim()}: ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
  }
  return [...new Set(faint)];
})()"#;

#[tokio::test(flavor = "multi_thread")]
async fn both_views_fit_a_phone_and_a_desk_and_can_be_read_light_and_dark_idle_and_busy() {
    let (dev, browser) = tokio::join!(Dev::start(), Browser::start());
    let page = browser.open(&dev.url()).await;
    page.connected().await;
    expect_dressed(&page, "idle").await;
    let crowd = crowd(&dev).await;
    page.to_playground().await;
    page.click("#authenticate").await;
    page.click("[data-send=good]").await;
    page.to_console().await;
    page.shows("row('bob').state === 'expired' && row('bob').heldIn === 4 && row('erin').heldIn === 1")
        .await;
    page.shows("number('#tile-messages .value') > 20 && counter('handled') > 500")
        .await;
    expect_dressed(&page, "busy").await;
    assert_eq!(crowd.len(), 7, "all are still there");
    page.shows("rows().length === 8").await;
    page.expect_quiet(&[]).await;
}

async fn expect_dressed(page: &Page<'_>, how: &str) {
    for (width, height) in WINDOWS {
        for colours in ["light", "dark"] {
            page.seen_through(width, height, colours).await;
            for view in ["playground", "console"] {
                page.click(&format!("#to-{view}")).await;
                if view == "console" {
                    page.watching().await;
                }
                let name = format!("{view}-{how}-{width}-{colours}");
                expect_fitting(page, &name).await;
                page.picture(&name).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_chooses_the_colours_and_they_stay_chosen() {
    let (dev, browser) = tokio::join!(Dev::start(), Browser::start());
    let url = dev.url();
    let page = browser.open(&url).await;
    page.seen_through(1_280, 900, "light").await;
    let ground = async |page: &Page<'_>| page.value("getComputedStyle(document.body).backgroundColor").await;
    let light = ground(&page).await;
    page.seen_through(1_280, 900, "dark").await;
    let dark = ground(&page).await;
    assert_ne!(light, dark, "as the system has it");
    page.click("[data-theme-toggle]").await;
    assert_eq!(ground(&page).await, light, "as the person has it");
    let page = browser.open(&url).await;
    assert_eq!(ground(&page).await, light, "and stays");
    page.click("[data-theme-toggle]").await;
    page.click("[data-theme-toggle]").await;
    assert_eq!(
        page.value("document.documentElement.dataset.theme ?? null").await,
        Value::Null
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_connections_the_most_remarkable_are_shown_and_the_rest_is_counted() {
    let (dev, browser) = tokio::join!(Dev::start(), Browser::start());
    let page = browser.open(&format!("{}#console", dev.url())).await;
    page.watching().await;
    let mut clients = Vec::new();
    for _ in 0..150 {
        clients.push(dev.client().await);
    }
    clients[0].authenticate(&dev.token("alice", 2).await).await;
    page.shows_within(
        an_expiry(),
        "rows()[0].who === 'alice' && rows()[0].state === 'expired'",
    )
    .await;
    page.shows("text('#console-connections .more') === 'The 60 most remarkable of 151.' && rows().length === 60")
        .await;
    page.shows("text('.legend [data-state=anonymous] strong') === '150'")
        .await;
    clients.truncate(10);
    page.shows("rows().length === 11 && one('#console-connections .more').hidden")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_it_to_read_sees_nothing_move_and_who_has_no_mouse_can_do_so_too() {
    let (dev, browser) = tokio::join!(Dev::start(), Browser::start());
    let page = browser.open(&format!("{}#console", dev.url())).await;
    page.watching().await;
    page.shows("rows().length === 1").await;
    page.value("one('#console-pause').focus()").await;
    page.press_enter().await;
    page.shows(
        "one('#console-pause').getAttribute('aria-pressed') === 'true' && text('#console-state').startsWith('paused')",
    )
    .await;
    let looks = page.value("one('#view-console').dataset.looks").await;
    let _client = dev.client().await;
    // The one who had not stopped would have been told this several times.
    let mut feed = dev.feed().await;
    feed.until(|told| told.matches("\"states\":[[\"anonymous\",2]]").count() >= 4)
        .await;
    assert_eq!(page.value("one('#view-console').dataset.looks").await, looks);
    assert_eq!(page.value("rows().length").await, json!(1));
    page.press_enter().await;
    page.shows("rows().length === 2 && text('#console-state') === 'live'")
        .await;
    page.shows("text('#console-summary').startsWith('Connections: 2')")
        .await;
    assert_eq!(
        page.value("all('button, a, input, select, textarea').filter((node) => node.checkVisibility() && !(node.textContent.trim() || node.ariaLabel || node.labels?.length)).length").await,
        json!(0),
        "everything that can be used has a name"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_want_motion_sees_none() {
    let (dev, browser) = tokio::join!(Dev::start(), Browser::start());
    let page = browser.open(&format!("{}#console", dev.url())).await;
    page.without_motion().await;
    page.watching().await;
    page.shows("rows().length === 1").await;
    let moving = "all('*').filter((node) => { const style = getComputedStyle(node); return style.animationName !== 'none' || style.transitionDuration !== '0s'; }).length";
    assert_eq!(page.value(moving).await, json!(0));
}
