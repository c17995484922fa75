//! Readers of foreign bytes, fed with what is nearly right: each reads or refuses it, and keeps to what is true of it.
//!
//! The seeds are those of the fuzzer that is guided by what it reaches (`tests/fuzz/run`, which takes a minute for each reader and
//! more to build). Here it is done blindly, by chance that comes out the same each time: `COUNTERSIGN_TEST_FUZZ_CASES` says
//! how often for each, and `COUNTERSIGN_TEST_FUZZ_SEED` chooses what.

use std::{env, fs, panic, path::Path};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

#[path = "../../fuzz/readers.rs"]
mod readers;

const CASES: &str = "COUNTERSIGN_TEST_FUZZ_CASES";
const SEED: &str = "COUNTERSIGN_TEST_FUZZ_SEED";

/// The longest text that is made of a seed.
const LONGEST: usize = 4_096;

/// What means something to one of them.
const WORDS: [&[u8]; 22] = [
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud83d",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"\"type\":",
    b"\"token\":",
    b"\"id\":",
    b"\"keys\":",
    b"\"kid\":",
    b"1e999",
    b"-",
    b"\r\n",
    b"\r\n\r\n",
    b"Upgrade: websocket\r\n",
    b"-----BEGIN ",
    b"eyJ",
    b".",
];

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} is a number"))
    })
}

/// A seed with a few changes.
fn mutated(seeds: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = seeds[random.random_range(0..seeds.len())].clone();
    for _ in 0..random.random_range(1..=4) {
        let place = random.random_range(0..=bytes.len());
        let end = random.random_range(place..=bytes.len().min(place + 32));
        match random.random_range(0..7) {
            0 => bytes.truncate(place),
            1 => drop(bytes.drain(place..end)),
            2 => bytes.insert(place, random.random()),
            3 => {
                let word = WORDS[random.random_range(0..WORDS.len())];
                drop(bytes.splice(place..place, word.iter().copied()));
            }
            4 => {
                let again = bytes[place..end].to_vec();
                drop(bytes.splice(place..place, again));
            }
            5 => {
                let other = &seeds[random.random_range(0..seeds.len())];
                let from = random.random_range(0..=other.len());
                bytes.truncate(place);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << random.random_range(0..8);
                }
            }
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

/// Feeds its seeds to a reader, and what comes of them. Fails with the bytes that it cannot take.
fn feed(name: &str, read: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let files = fs::read_dir(&folder).expect("its seeds");
    let mut files: Vec<_> = files.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let seeds: Vec<_> = files.iter().map(|file| fs::read(file).expect("a file")).collect();
    let take = |bytes: &[u8]| {
        let taken = panic::catch_unwind(|| read(bytes));
        assert!(taken.is_ok(), "{name} cannot take {}", bytes.escape_ascii());
    };
    seeds.iter().for_each(|seed| take(seed));
    let mut random = StdRng::seed_from_u64(number(SEED, 1));
    for _ in 0..number(CASES, 5_000) {
        take(&mutated(&seeds, &mut random));
    }
}

#[test]
fn a_batch_of_whatever_bytes_is_read_or_refused() {
    feed("batch", readers::batch);
}

#[test]
fn a_clients_message_is_one_json_object_or_refused() {
    feed("message", readers::message);
}

#[test]
fn a_handshake_ends_at_one_place_however_it_comes() {
    feed("handshake", readers::handshake);
}

#[test]
fn a_file_of_keys_holds_one_or_says_why_not() {
    feed("keys", readers::keys);
}

#[test]
fn nothing_of_a_token_is_left_wherever_it_stood() {
    feed("redaction", readers::redaction);
}
