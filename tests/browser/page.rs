//! A page, in the words of anyone who looks at it.

use std::{env, path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tests::Span;
use thirtyfour::{By, WebDriver};

use crate::chromium::SCRIPT_LIMIT;

/// What every script may say.
const WORDS: &str = r##"
const one = (css) => document.querySelector(css);
const all = (css) => [...document.querySelectorAll(css)];
const text = (css) => one(css)?.textContent.trim() ?? "";
const number = (css) => Number(text(css).replaceAll(",", ""));
const rows = () => all("#console-connections tbody tr").map((row) => ({
  state: row.dataset.state,
  who: row.querySelector(".whose").textContent,
  heldIn: Number(row.querySelector(".held-in .number").textContent),
  heldOut: Number(row.querySelector(".held-out .number").textContent),
}));
const row = (who) => rows().find((row) => row.who === who) ?? {};
const counter = (name) => number(`#counter-${name} .total`);
const events = () => all("#console-events .events li").map((item) => item.querySelector(".tag").textContent);
const chosen = () => text("#list [aria-current=true] .what");
const times = () => all("#track .time").map((item) => item.textContent).filter((text) => text !== "–").map((text) => parseFloat(text) * (text.endsWith(" s") ? 1000 : 1));
const isForwards = () => times().every((time, index, all) => index === 0 || time >= all[index - 1]);
const messages = () => all("#list li").map((item) => ({ what: item.querySelector(".what").textContent, outcome: item.querySelector(".tag").textContent }));
"##;

/// Looked at often enough for an eye; a page that is not in front has no frames to count.
const LOOK_MS: u64 = 25;

/// A page in a browser's window.
pub(crate) struct Page<'a> {
    pub(crate) driver: &'a WebDriver,
}

impl Page<'_> {
    /// What an expression comes to.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        let script = format!("{WORDS} return ({expression});");
        let answer = self.driver.execute(script, Vec::new()).await;
        answer
            .unwrap_or_else(|error| panic!("{expression}: {error}"))
            .json()
            .clone()
    }

    /// What the body of an asynchronous function returns.
    pub(crate) async fn awaited(&self, body: &str) -> Value {
        let script = format!(
            "const done = arguments[0]; (async () => {{ {body} }})().then(done, (error) => done(String(error)));"
        );
        let answer = self.driver.execute_async(script, Vec::new()).await;
        answer.unwrap_or_else(|error| panic!("{error}")).json().clone()
    }

    /// Waits until a condition holds in the page.
    pub(crate) async fn shows(&self, condition: &str) {
        self.shows_within(SCRIPT_LIMIT, condition).await;
    }

    pub(crate) async fn shows_within(&self, limit: Duration, condition: &str) {
        let script = format!(
            "{WORDS}
            const [limit, done] = arguments;
            const until = performance.now() + limit;
            const look = () => {{
                let seen = false;
                try {{ seen = ({condition}); }} catch (error) {{ seen = false; }}
                if (seen) done(true);
                else if (performance.now() > until) done(false);
                else setTimeout(look, {LOOK_MS});
            }};
            look();"
        );
        let limit = json!(limit.min(SCRIPT_LIMIT).as_millis());
        let answer = self.driver.execute_async(script, vec![limit]).await;
        let shown = answer
            .unwrap_or_else(|error| panic!("{condition}: {error}"))
            .json()
            .clone();
        if shown != json!(true) {
            let body = self.value("document.body.innerText").await;
            panic!(
                "the page never showed {condition}; it shows:\n{}",
                body.as_str().unwrap_or_default()
            );
        }
    }

    /// Clicks what a person would click.
    pub(crate) async fn click(&self, css: &str) {
        let element = self.driver.find(By::Css(css.to_owned())).await;
        let element = element.unwrap_or_else(|error| panic!("{css}: {error}"));
        element.scroll_into_view().await.expect("it can be scrolled to");
        element.click().await.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// Chooses an option, or writes into a field, as a person would.
    pub(crate) async fn set(&self, css: &str, value: &str) {
        let script = format!(
            "{WORDS} const [css, value] = arguments; const field = one(css); field.value = value;
             field.dispatchEvent(new Event('input', {{ bubbles: true }}));
             field.dispatchEvent(new Event('change', {{ bubbles: true }}));
             return field.value;"
        );
        let answer = self.driver.execute(script, vec![json!(css), json!(value)]).await;
        assert_eq!(answer.unwrap().json(), &json!(value), "{css}");
    }

    /// Waits until the playground's socket is open.
    pub(crate) async fn connected(&self) {
        self.shows("text('#connection') === 'connected'").await;
    }

    /// Looks at the console of a page that has one beside the playground.
    pub(crate) async fn to_console(&self) {
        self.click("#to-console").await;
        self.watching().await;
    }

    /// Waits until the console is told something.
    pub(crate) async fn watching(&self) {
        self.shows("text('#console-state') === 'live'").await;
    }

    /// Goes back to the playground.
    pub(crate) async fn to_playground(&self) {
        self.click("#to-playground").await;
    }

    /// Sees it through a window of that size, light or dark.
    pub(crate) async fn seen_through(&self, width: u32, height: u32, colours: &str) {
        let cdp = self.driver.cdp();
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        cdp.send_raw("Emulation.setDeviceMetricsOverride", size)
            .await
            .expect("a size");
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": colours}]});
        cdp.send_raw("Emulation.setEmulatedMedia", features)
            .await
            .expect("colours");
    }

    /// Sees it as someone who wants no motion.
    pub(crate) async fn without_motion(&self) {
        let features = json!({"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]});
        let cdp = self.driver.cdp();
        cdp.send_raw("Emulation.setEmulatedMedia", features)
            .await
            .expect("no motion");
    }

    /// Presses Enter on whatever has the focus.
    pub(crate) async fn press_enter(&self) {
        let focused = self.driver.active_element().await.expect("something has the focus");
        focused.send_keys("\u{e007}").await.expect("it takes a key");
    }

    /// Leaves a picture of the whole page, if that is wanted.
    pub(crate) async fn picture(&self, name: &str) {
        let Some(folder) = env::var_os("COUNTERSIGN_TEST_SCREENSHOTS") else {
            return;
        };
        self.shows("all('.events .fresh').every((item) => !item.checkVisibility())")
            .await;
        let path = PathBuf::from(folder).join(format!("{name}.png"));
        let wanted = json!({"captureBeyondViewport": true, "format": "png"});
        let picture = self
            .driver
            .cdp()
            .send_raw("Page.captureScreenshot", wanted)
            .await
            .expect("a picture");
        let bytes = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        std::fs::write(path, bytes).expect("the folder for pictures is there");
    }

    /// Claims that it asked nothing of anyone else, that it did nothing which its policy forbids, and that nothing in it
    /// failed. What `excused` names may have.
    pub(crate) async fn expect_quiet(&self, excused: &[&str]) {
        let foreign = self
            .value("performance.getEntriesByType('resource').map(({ name }) => name).filter((name) => !name.startsWith(location.origin + '/'))")
            .await;
        assert_eq!(foreign, json!([]), "it asked somebody else");
        let log = self.driver.browser_log().await.expect("a log");
        let faults: Vec<_> = log
            .iter()
            .map(|entry| format!("{} {}", entry.level, entry.message))
            .filter(|line| !excused.iter().any(|excuse| line.contains(excuse)))
            .collect();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

/// Long enough for a token that lives for seconds to expire, on a busy machine.
pub(crate) fn an_expiry() -> Duration {
    30.s()
}
