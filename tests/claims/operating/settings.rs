//! The settings, their manual, and the list of their names say the same.

use std::collections::BTreeSet;
use std::path::Path;

use shared::service::config::{EVERY_SETTING, Program, Setting, reference, section};
use terminator::TerminatorConfig;
use worker::config::WorkerConfig;

const INTRODUCTION: &str = "# Configuration

Every setting exists under one name in a TOML file (`--config PATH` or `COUNTERSIGN_CONFIG`), in the environment, and as a
flag; later wins. One file and one environment may serve terminator and worker. An unknown name, a value that is not right,
or a contradiction stops the start, all of them told at once. `--print-config` shows what is in force, secrets redacted.

Durations are written `250ms`, `5s`, `5m`; sizes in bytes or `64KiB`; lists are comma separated; `off` turns off what can be.

This page is made from the programs' own texts; a test keeps it fresh.

";

fn programs() -> [(Program, Vec<Setting>); 2] {
    [section::<TerminatorConfig>(), section::<WorkerConfig>()]
}

/// Run it with `UPDATE=1` to write the file anew.
#[test]
fn the_manual_says_what_the_programs_do() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../CONFIG.md");
    let made = format!("{INTRODUCTION}{}", reference(&programs()));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == made,
        "CONFIG.md is stale: run `UPDATE=1 tests/run the_manual` and commit it"
    );
}

#[test]
fn the_list_of_every_setting_is_complete() {
    let listed: BTreeSet<String> = EVERY_SETTING.iter().map(ToString::to_string).collect();
    let used = programs()
        .into_iter()
        .flat_map(|(_, settings)| settings)
        .map(|setting| setting.name)
        .collect();
    assert_eq!(listed, used);
}
