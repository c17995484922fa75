//! Whatever someone puts into one of our queues.

#![no_main]
#![allow(dead_code, reason = "the others have programs of their own")]

use libfuzzer_sys::fuzz_target;

#[path = "../readers.rs"]
mod readers;

fuzz_target!(|bytes: &[u8]| readers::batch(bytes));
