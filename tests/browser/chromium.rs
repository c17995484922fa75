//! Debian's Chromium, driven by its own driver, with a profile of its own. Both end with the value, by their ids.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use tests::nodes::process::{Process, Signal, signal};
use tests::nodes::watchdog::{self, Folder};
use tests::{Span, eventually};
use thirtyfour::{Capabilities, ChromiumLikeCapabilities, DesiredCapabilities, LoggingPrefsLogLevel, WebDriver};

use crate::page::Page;

/// From start to the first page, on a machine that builds or runs other claims.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The longest that a condition in a page may be awaited.
pub(crate) const SCRIPT_LIMIT: Duration = Duration::from_secs(60);

/// Nothing is asked of anyone but this machine, and nothing of it needs a display or a profile.
const ARGUMENTS: [&str; 14] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--window-size=1280,900",
];

/// One browser with one window.
pub(crate) struct Browser {
    driver: Option<WebDriver>,
    chromium: u32,
    folder: Folder,
    // Ended after the browser, which it started.
    _driver_process: Process,
}

impl Browser {
    /// Starts one.
    pub(crate) async fn start() -> Self {
        // Chromium's driver is on this machine, but the client wants to know how it would speak TLS.
        shared::service::lifecycle::install_crypto_provider().expect("one crypto provider");
        let folder = Folder::new("chromium");
        let mut command = Command::new(program("chromedriver"));
        command
            .args(["--port=0", "--allowed-ips=127.0.0.1"])
            .env("HOME", folder.path())
            .stdout(File::create(folder.join("stdout")).expect("a file for stdout"))
            .stderr(File::create(folder.join("stderr")).expect("a file for stderr"));
        let driver_process = Process::spawn(&mut command);
        let port = eventually(START_LIMIT, "the driver tells its port", async || {
            port(&fs::read_to_string(folder.join("stdout")).unwrap_or_default())
        })
        .await;
        let driver = WebDriver::builder(format!("http://127.0.0.1:{port}"), capabilities(&folder))
            .request_timeout(START_LIMIT + SCRIPT_LIMIT)
            .connect()
            .await
            .unwrap_or_else(|error| panic!("Chromium does not start: {error}"));
        let chromium = driver
            .capabilities()
            .get("goog:processID")
            .and_then(serde_json::Value::as_u64);
        let chromium = u32::try_from(chromium.expect("the driver tells the id of its browser")).expect("a process id");
        // If it leads a group, the group dies with this process; if not, it is of its driver's group.
        watchdog::watch(chromium);
        driver
            .set_script_timeout(SCRIPT_LIMIT + 5.s())
            .await
            .expect("a limit for scripts");
        Self {
            driver: Some(driver),
            chromium,
            folder,
            _driver_process: driver_process,
        }
    }

    /// Opens a page in its window.
    pub(crate) async fn open(&self, url: &str) -> Page<'_> {
        let driver = self.driver.as_ref().expect("it runs");
        driver.goto(url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
        Page { driver }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It would be asked to end in good order, by a thread of its own; here it is ended.
        if let Some(driver) = self.driver.take() {
            let _ = driver.leak();
        }
        signal(self.chromium, Signal::Kill);
        watchdog::forget(self.chromium);
        if std::thread::panicking() {
            let told = fs::read_to_string(self.folder.join("stderr")).unwrap_or_default();
            eprintln!("---- chromedriver:\n{told}");
        }
    }
}

fn capabilities(folder: &Folder) -> Capabilities {
    let mut chrome = DesiredCapabilities::chrome();
    chrome
        .set_binary(program("chromium").to_str().expect("a path in UTF-8"))
        .expect("a browser");
    let profile = format!("--user-data-dir={}", folder.join("profile").display());
    for argument in ARGUMENTS.into_iter().chain([profile.as_str()]) {
        chrome.add_arg(argument).expect("an argument");
    }
    chrome.set_browser_log_level(LoggingPrefsLogLevel::All).expect("a log");
    chrome.into()
}

/// A program of Debian's packages `chromium` and `chromium-driver`. These claims cannot do without.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/bin".into()]);
    let found = folders
        .map(|folder| folder.join(name))
        .find(|program| program.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "there is no {name}, and what a person sees can be claimed of a real browser only; install Debian's packages: \
             apt-get install chromium chromium-driver"
        )
    })
}

/// Understands `ChromeDriver was started successfully on port 12345.`
fn port(told: &str) -> Option<u16> {
    told.split("on port ").skip(1).find_map(|rest| {
        rest.split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
            .filter(|port| *port != 0)
    })
}

#[test]
fn the_drivers_port_is_read_from_what_it_prints() {
    let told = "Starting ChromeDriver 1.2 on port 0\nOnly local connections\nChromeDriver was started successfully on port 4711.\n";
    assert_eq!(port(told), Some(4711));
    assert_eq!(port("Starting ChromeDriver 1.2 on port 0\n"), None);
}
