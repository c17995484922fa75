//! The program `worker`.

fn main() -> std::process::ExitCode {
    worker::app::program::run(std::env::args_os().skip(1))
}
