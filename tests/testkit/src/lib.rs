//! What tests of the programs stand on, and no program does.
//!
//! - [`rng`]: chance that can be had again by its seed.
//! - [`chaos`]: a bus on which everything takes its time, connections are lost and processes die.
//! - [`store`]: what every store promises, as one suite for all implementations.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic, wherever it is called from"
)]

pub mod chaos;
pub mod rng;
pub mod store;
