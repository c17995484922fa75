//! A worker whose handler does what the message's `type` says, harm included: see `src/handler.rs`.

use std::process::ExitCode;

use tests::handler::Poisoned;

fn main() -> ExitCode {
    worker::program::run_with(std::env::args_os().skip(1), Poisoned)
}
