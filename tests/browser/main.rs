//! Claims about what a person sees, in a real Chromium: the playground of `countersign dev`, and the console, there and on
//! the admin ports of the real programs.
//!
//! They await conditions in the page. With `COUNTERSIGN_TEST_SCREENSHOTS` set to a folder, pictures are left there.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the functions that claims share are test code, and fail as claims do"
)]

mod chromium;
mod dev;
mod page;

mod console;
mod dress;
mod lifecycle;
