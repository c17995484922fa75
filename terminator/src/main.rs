//! The program `terminator`.

fn main() -> std::process::ExitCode {
    terminator::program::run(std::env::args_os().skip(1))
}
