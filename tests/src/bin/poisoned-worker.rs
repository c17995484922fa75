//! A worker whose handler does what the message's `type` says, harm included: see `handler/mod.rs`.

use std::process::ExitCode;

use tests::handler::Poisoned;

fn main() -> ExitCode {
    worker::app::program::run_with(std::env::args_os().skip(1), Poisoned)
}
